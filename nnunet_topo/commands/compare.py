"""Compares models on the same cases: evaluates, pairs, tests, draws and writes."""

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from math import isfinite, isnan
from pathlib import Path

import nnunet_topo
from nnunet_topo.commands.notes import notes_on_data, notes_on_trainings, origins
from nnunet_topo.evaluation.evaluate import Settings
from nnunet_topo.evaluation.results import (
    Model,
    Study,
    Volumes,
    evaluate_model,
    keep_largest_components,
    label_names,
    read_training,
    read_volumes,
    unit_of_distances,
)
from nnunet_topo.report import MEASURES, PRIMARY_METRIC, make_table
from nnunet_topo.report.grid import Grid
from nnunet_topo.report.measures import PRESENCE_METRICS, Unit
from nnunet_topo.report.outcomes import add_presence, check_metric
from nnunet_topo.report.page import render
from nnunet_topo.report.pictures import Change, choose_changes, draw_case
from nnunet_topo.report.plots import diagram_plot
from nnunet_topo.report.records import Comparison, Picture
from nnunet_topo.report.statistics import Cases
from nnunet_topo.report.tables import as_csv, as_latex, as_record
from nnunet_topo.report.words import count, length, number
from nnunet_topo.topology import persistence_pairs

WRITTEN = ("compare.csv", "compare.json", "compare.tex", "report.html")
AUTHOR = "nnunet-topo compare"
_MARK = ".written-by-nnunet-topo-compare"
_SHORTEST_BAR = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for.

    Attributes:
        metrics: that are tested.
        primary: metric of the primary outcome, the mean over labels; None for none.
        missing: distance that counts where a model misses a structure; None to leave it undefined.
        control: whether largest-component postprocessing of the first is compared, too.
        processes: at most so many.
        settings: how metrics are computed.
        command: as typed, for the report.
    """

    metrics: Sequence[str]
    primary: str | None = PRIMARY_METRIC
    missing: float | None = None
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
    for metric in (*options.metrics, *([options.primary] if options.primary else [])):
        check_metric(metric)
    if options.missing is not None and not (isfinite(options.missing) and options.missing > 0):
        raise ValueError(f"--missing-mm takes a distance above 0, got {options.missing:g}")
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
    summaries: list[Path] = []
    for index, model in enumerate(models):
        folder = evaluation / f"{index}_{_plain(model.name)}"
        values[model.name], of_model = evaluate_model(
            study, model, folder, processes=options.processes, settings=options.settings
        )
        troubles += of_model
        summaries += sorted(folder.glob("*.json"))
    unit = unit_of_distances(study, summaries)
    paired, notes = _pair(values, troubles)
    values = {name: add_presence(cases) for name, cases in paired.items()}
    in_file = label_names(study)  # in the order of the network's channels
    labels = dict(sorted(in_file.items(), key=lambda item: _numbers(item[0])))
    rows = make_table(
        values,
        list(labels),
        [*options.metrics, *PRESENCE_METRICS],
        primary=options.primary,
        missing=options.missing,
    )
    changes = choose_changes(values, list(labels), options.metrics)
    pictures = []
    for change in changes:
        try:
            volumes = read_volumes(study, models, change.case, change.label)
            picture = _picture(change, volumes, labels, options.settings, unit, len(pictures))
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
    notes += notes_on_data(values, labels, options.missing, unit)
    named = {model.name: bool(model.trainings) for model in models}
    notes += notes_on_trainings(trainings, values, in_file, named)
    comparison = Comparison(
        title=study.dataset,
        values=values,
        labels=labels,
        metrics=options.metrics,
        connectivity=options.settings.connectivity,
        rows=rows,
        notes=notes,
        troubles=troubles,
        made=_made(study, models, options, unit) | origins(trainings),
        curves={
            name: {fold: training.curves for fold, training in of_folds.items()}
            for name, of_folds in trainings.items()
        },
        pictures=pictures,
        primary=options.primary,
        unit=unit,
        tolerance=options.settings.nsd_tolerance_mm,
        missing=options.missing,
    )
    _write(output, comparison, before)
    return comparison


def _plain(name: str) -> str:
    """Returns a name for a folder."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:120]


def _numbers(key: str) -> tuple[int, ...]:
    """Returns the numbers in the key of a label or region, to sort by."""
    return tuple(map(int, re.findall(r"\d+", key)))


def _pair(values: dict[str, Cases], troubles: Sequence[str]) -> tuple[dict[str, Cases], list[str]]:
    """Returns the cases that all models have, and what is said of the others.

    Raises:
        ValueError: there is none; the message says what went wrong.
    """
    common = sorted(set.intersection(*(set(of_model) for of_model in values.values())))
    if not common:
        counts = ", ".join(f"{name}: {len(of_model)}" for name, of_model in values.items())
        reasons = "".join(f"; {trouble}" for trouble in troubles[:3])
        raise ValueError(f"no case has been evaluated for all models ({counts}){reasons}")
    notes = []
    for name, of_model in values.items():
        left_out = sorted(of_model.keys() - set(common))
        if left_out:
            shown = ", ".join(left_out[:10]) + (", ..." if len(left_out) > 10 else "")
            notes.append(
                f"{len(left_out)} of {count(len(of_model), 'case')} of {name} "
                f"{'is' if len(left_out) == 1 else 'are'} left out, because another model does "
                f"not have {'it' if len(left_out) == 1 else 'them'}: {shown}"
            )
    if len(common) == 1:
        notes.append("one case alone: nothing can be tested")
    paired: dict[str, Cases] = {}
    for name, of_model in values.items():
        paired[name] = {case: of_model[case] for case in common}
    return paired, notes


def _picture(
    change: Change,
    volumes: Volumes,
    labels: dict[str, str],
    settings: Settings,
    unit: Unit,
    identity: int,
) -> Picture:
    measure = MEASURES[change.metric]
    became = "better" if change.gain > 0 else "worse"
    title = (
        f"{change.case}, {labels[change.label]}: {change.model} is {became} by "
        f"{number(abs(change.gain), measure.digits)} in {measure.title_in(unit)}"
    )
    slices = draw_case(
        volumes.image,
        volumes.reference,
        volumes.predictions,
        _grid(volumes, unit),
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


def _grid(volumes: Volumes, unit: Unit) -> Grid:
    found = volumes.geometry
    known = {field.name: getattr(found, field.name) for field in fields(found)}
    return Grid(volumes.spacing, unit, **known)


def _made(study: Study, models: Sequence[Model], options: Options, unit: Unit) -> dict[str, str]:
    settings = options.settings
    made = {
        "Command": options.command or "compare() of nnunet_topo.commands.compare",
        "Models": "; ".join(model.name for model in models),
        "Folds": ", ".join(fold for fold in models[0].folders if fold) or "none, bare folders",
        "Connectivity": settings.connectivity,
        "Tolerance of surface distances": length(settings.nsd_tolerance_mm, unit),
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
        "compare.csv": as_csv(comparison),
        "compare.tex": as_latex(comparison),
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
        "primary": comparison.primary,
        "unit": comparison.unit,
        "missing_distance": comparison.missing,
        "presence": {model: asdict(comparison.presence(model)) for model in comparison.models},
        "table": [as_record(comparison, row) for row in comparison.rows],
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
