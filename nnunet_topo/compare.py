"""Compares models on the same cases: evaluates, pairs, tests, draws and writes."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from math import isnan, nan
from pathlib import Path

import nnunet_topo
from nnunet_topo.nnunet.evaluation import Settings
from nnunet_topo.nnunet.results import (
    Model,
    Study,
    Training,
    Volumes,
    evaluate_model,
    keep_largest_components,
    label_names,
    read_training,
    read_volumes,
)
from nnunet_topo.report import MEASURES, make_table
from nnunet_topo.report.page import render
from nnunet_topo.report.pictures import Change, choose_changes, draw_case
from nnunet_topo.report.plots import diagram_plot
from nnunet_topo.report.records import Comparison, Picture
from nnunet_topo.report.statistics import Cases
from nnunet_topo.report.tables import as_csv, as_latex, as_record, number
from nnunet_topo.topology import persistence_pairs
from nnunet_topo.topology.betti_range import BettiPrior

WRITTEN = ("compare.csv", "compare.json", "compare.tex", "report.html")
AUTHOR = "nnunet-topo compare"
_MARK = ".written-by-nnunet-topo-compare"
_SHORTEST_BAR = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for.

    Attributes:
        metrics: that are tested.
        control: whether largest-component postprocessing of the first is compared, too.
        processes: at most so many.
        settings: how metrics are computed.
        command: as typed, for the report.
    """

    metrics: Sequence[str]
    control: bool = False
    processes: int = 1
    settings: Settings = field(default_factory=Settings)
    command: str = ""


def compare(study: Study, output: Path, options: Options) -> Comparison:
    """Compares the models of a study, and writes table and report into a folder.

    Nothing is written elsewhere, and no file that an earlier comparison has not written there is
    replaced.

    Raises:
        ValueError: nothing to compare, unknown metrics, files in the way.
        OSError: what cannot be read or written.
    """
    for metric in options.metrics:
        if metric not in MEASURES:
            raise ValueError(f"{metric!r} cannot be compared; choose from {', '.join(MEASURES)}")
    names = [model.name for model in study.models]
    if len(set(names)) < len(names):
        raise ValueError(f"each model needs a name of its own, got {', '.join(names)}")
    if len(names) + options.control < 2:
        raise ValueError("it takes two models to compare, or one and --control")
    before = check_output(output)
    models = list(study.models)
    if options.control:
        folder = _own_folder(output / "control")
        models.insert(1, keep_largest_components(study, models[0], folder))
    evaluation = _own_folder(output / "evaluation")
    values: dict[str, Cases] = {}
    troubles: list[str] = []
    for index, model in enumerate(models):
        folder = evaluation / f"{index}_{_plain(model.name)}"
        values[model.name], of_model = evaluate_model(
            study, model, folder, processes=options.processes, settings=options.settings
        )
        troubles += of_model
    values, notes = _pair(values)
    labels = label_names(study)
    rows = make_table(values, list(labels), options.metrics)
    changes = choose_changes(values, list(labels), options.metrics)
    pictures = []
    for change in changes:
        try:
            volumes = read_volumes(study, models, change.case, change.label)
            picture = _picture(change, volumes, labels, options.settings, len(pictures))
            pictures.append(picture)
        except Exception as error:  # whatever the readers raise; the rest of the page matters
            reason = " ".join(str(error).split())[:300]
            troubles.append(f"{change.case}: no picture, {type(error).__name__}: {reason}")
    trainings = {
        model.name: {
            fold: training
            for fold, folder in model.trainings.items()
            if (training := read_training(folder)) is not None
        }
        for model in models
    }
    for name, of_folds in trainings.items():
        notes += _contradictions(name, of_folds, values[name], labels)
    for name, of_model in values.items():
        notes += _empty(name, of_model, labels)
    notes += _augmentations(trainings)
    if any("all" in model.trainings for model in models):
        notes.append(
            "fold all is validated on the cases it was trained on: this says nothing of new ones"
        )
    comparison = Comparison(
        title=study.dataset,
        values=values,
        labels=labels,
        metrics=options.metrics,
        connectivity=options.settings.connectivity,
        rows=rows,
        notes=notes,
        troubles=troubles,
        made=_made(study, models, options) | _origins(trainings),
        curves={
            name: {fold: training.curves for fold, training in of_folds.items()}
            for name, of_folds in trainings.items()
        },
        pictures=pictures,
    )
    _write(output, comparison, before)
    return comparison


def _plain(name: str) -> str:
    """Returns a name for a folder."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:120]


def _pair(values: dict[str, Cases]) -> tuple[dict[str, Cases], list[str]]:
    """Returns the cases that all models have, and what is said of the others."""
    common = sorted(set.intersection(*(set(of_model) for of_model in values.values())))
    if not common:
        counts = ", ".join(f"{name}: {len(of_model)}" for name, of_model in values.items())
        raise ValueError(f"no case has been evaluated for all models ({counts})")
    notes = []
    for name, of_model in values.items():
        left_out = sorted(of_model.keys() - set(common))
        if left_out:
            shown = ", ".join(left_out[:10]) + (", ..." if len(left_out) > 10 else "")
            notes.append(
                f"{len(left_out)} of {len(of_model)} cases of {name} are left out, because "
                f"another model does not have them: {shown}"
            )
    if len(common) == 1:
        notes.append("one case alone: nothing can be tested")
    paired: dict[str, Cases] = {}
    for name, of_model in values.items():
        paired[name] = {case: of_model[case] for case in common}
    return paired, notes


def _contradictions(
    name: str, trainings: Mapping[str, Training], cases: Cases, labels: Mapping[str, str]
) -> list[str]:
    """Returns where the references contradict the prior that a model was trained with."""
    notes = {}
    for training in trainings.values():
        for channel, numbers_ in training.prior.items():
            prior = BettiPrior.from_json(numbers_, name)
            label = list(labels)[channel]
            numbers = [
                [of_case[label].get(f"topo_betti_ref_{k}", nan) for k in range(len(prior) + 1)]
                for of_case in cases.values()
                if of_case[label].get("topo_betti_ref_0") != 0  # a prior is of what is there
            ]
            # The prior of a 2D network is one of slices, and says nothing of a volume.
            known = [of[:-1] for of in numbers if not any(map(isnan, of[:-1])) and isnan(of[-1])]
            other = sum(not prior.allows(of) for of in known)
            if other:
                notes[label, prior] = (
                    f"{name} was trained with the Betti numbers {prior} of "
                    f"{labels[label]}, which {other} of {len(known)} references do not have"
                )
    return list(notes.values())


def _empty(name: str, cases: Cases, labels: Mapping[str, str]) -> list[str]:
    """Returns which labels a model never segments though references have them."""
    missed = [
        title
        for key, title in labels.items()
        if any(of_case[key].get("n_ref") for of_case in cases.values())
        and all(of_case[key].get("n_pred") == 0 for of_case in cases.values())
    ]
    if not missed:
        return []
    return [
        f"{name} segments nothing as {', '.join(missed)}, in any of the {len(cases)} cases: it may "
        "have been trained too briefly"
    ]


def _augmentations(trainings: Mapping[str, Mapping[str, Training]]) -> list[str]:
    """Returns whether some models saw their patches rotated and scaled, and others not."""
    known = {name: of for name, of in trainings.items() if of}
    without = [n for n, of in known.items() if not all(t.spatial for t in of.values())]
    others = [name for name in known if name not in without]
    if not without or not others:
        return []
    return [
        f"{', '.join(without)} trained without rotation and scaling, {', '.join(others)} with "
        "them: differences may come of that. A fair control has the suffix nospatial"
    ]


def _origins(trainings: Mapping[str, Mapping[str, Training]]) -> dict[str, str]:
    """Returns which checkpoints trainings began from."""
    lines = [
        f"{name}, fold {fold}: from {training.finetuned_from}"
        for name, of_folds in trainings.items()
        for fold, training in of_folds.items()
        if training.finetuned_from
    ]
    return {"Fine-tuned": "; ".join(lines)} if lines else {}


def _picture(
    change: Change, volumes: Volumes, labels: dict[str, str], settings: Settings, identity: int
) -> Picture:
    measure = MEASURES[change.metric]
    became = "better" if change.gain > 0 else "worse"
    title = (
        f"{change.case}, {labels[change.label]}: {change.model} is {became} by "
        f"{number(abs(change.gain), measure.digits)} in {measure.title}"
    )
    slices = draw_case(
        volumes.image,
        volumes.reference,
        volumes.predictions,
        volumes.spacing,
        settings.connectivity,
        f"{change.case}, {labels[change.label]}",
        identity,
    )
    diagrams = {}
    for model, probability in volumes.probabilities.items():
        image = probability[0] if len(probability) == 1 else probability
        pairs = persistence_pairs(image, connectivity=settings.connectivity, clamp=0.01)
        bars = [pairs.diagram(image, k) for k in range(image.ndim)]
        bars = [of_k[of_k[:, 0] - of_k[:, 1] >= _SHORTEST_BAR] for of_k in bars]
        counts = ", ".join(str(len(of_k)) for of_k in bars)
        diagrams[model] = diagram_plot(
            bars,
            f"Persistence diagram of {model} in {change.case}: {counts} bars of at least "
            f"{_SHORTEST_BAR} in dimensions 0 to {image.ndim - 1}",
        )
    return Picture(title, slices, diagrams)


def _made(study: Study, models: Sequence[Model], options: Options) -> dict[str, str]:
    settings = options.settings
    made = {
        "Command": options.command or "compare() of nnunet_topo.compare",
        "Models": "; ".join(model.name for model in models),
        "Folds": ", ".join(fold for fold in models[0].folders if fold) or "none, bare folders",
        "Connectivity": settings.connectivity,
        "Tolerance of surface distances": f"{settings.nsd_tolerance_mm:g} mm",
        "References": str(study.references),
        "Versions": ", ".join(
            f"{package} {_version(package)}"
            for package in ("nnunet-topo", "nnunetv2", "torch", "numpy", "scipy")
        )
        + f", Python {platform.python_version()}",
    }
    if options.control:
        made["Control"] = (
            f"{models[1].name}: of each label of {models[0].name} the largest component alone, by "
            "nnU-Net's own function"
        )
    return made


def _version(package: str) -> str:
    if package == "nnunet-topo":
        return nnunet_topo.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


# -- the files ---------------------------------------------------------------------------------


def check_output(output: Path) -> dict[str, str]:
    """Returns the digests of our files in a folder; refuses one with files in the way.

    Where an earlier run was killed while it replaced them, some are as they were before it.

    Raises:
        ValueError: files or folders that an earlier comparison has not written; names one.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file, -o must be a folder")
    written: dict[str, str] = {}
    before: dict[str, str] = {}
    record = output / "compare.json"
    if record.exists():
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            if content["written_by"] == AUTHOR:
                written, before = dict(content["files"]), content.get("files_before", {})
        except (ValueError, KeyError, TypeError):
            written = {}
        if not written:
            raise ValueError(f"{record} was not written by {AUTHOR} and is left as it is")
    found = {
        name: _digest((output / name).read_bytes())
        for name in WRITTEN
        if (output / name).exists() and name != record.name
    }
    for name, digest in found.items():
        file = output / name
        if digest not in (written.get(name), before.get(name)):
            raise ValueError(
                f"{file} is not as {AUTHOR} has written it and is left as it is; "
                "move it away or choose another -o"
            )
    for name in ("evaluation", "control"):
        _check_own(output / name)
    return found


def _check_own(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise ValueError(f"{folder} was not written by {AUTHOR} and is left as it is")


def _own_folder(folder: Path) -> Path:
    """Makes a folder of ours; one that holds what others have put there is refused."""
    _check_own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    return folder


def _write(output: Path, comparison: Comparison, before: Mapping[str, str]) -> None:
    """Writes all files, each in one step, the record of them first."""
    contents = {
        "compare.csv": as_csv(comparison.rows, comparison.labels),
        "compare.tex": as_latex(comparison.rows, comparison.labels),
        "report.html": render(comparison),
    }
    written = {name: _bytes(text) for name, text in contents.items()}
    record = {
        "written_by": AUTHOR,
        "version": nnunet_topo.__version__,
        "files": {name: _digest(content) for name, content in written.items()},
        "files_before": before,
        "made": comparison.made,
        "connectivity": comparison.connectivity,
        "notes": comparison.notes,
        "troubles": comparison.troubles,
        "labels": comparison.labels,
        "table": [as_record(row, comparison.labels) for row in comparison.rows],
        "cases": {
            model: {
                case: {
                    label: {key: None if isnan(value) else value for key, value in of_label.items()}
                    for label, of_label in of_case.items()
                }
                for case, of_case in of_model.items()
            }
            for model, of_model in comparison.values.items()
        },
    }
    written = {"compare.json": _bytes(json.dumps(record, allow_nan=False))} | written
    for name, content in written.items():
        new = output / f"{name}.new"
        new.write_bytes(content)
        new.replace(output / name)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # file names need not be Unicode


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
