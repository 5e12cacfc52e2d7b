"""Compares models on the same cases: evaluates, pairs, tests, draws and writes."""

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path

import nnunet_topo
from nnunet_topo.commands.comparison_errors import write_maps_of_models
from nnunet_topo.commands.comparison_output import (
    AUTHOR,
    check_output,
    own_folder,
    write_comparison,
)
from nnunet_topo.commands.comparison_steps import Processed, process_models
from nnunet_topo.commands.notes import notes_on_data, notes_on_patients, notes_on_trainings, origins
from nnunet_topo.evaluation.case import Settings
from nnunet_topo.evaluation.models import ModelEvaluation, evaluate_model
from nnunet_topo.evaluation.patients import Patients, patients_of_study
from nnunet_topo.evaluation.record import CaseMetrics
from nnunet_topo.evaluation.study import Model, Study, label_names, unit_of_distances
from nnunet_topo.evaluation.training_record import TrainingRecord, read_training
from nnunet_topo.evaluation.volumes import Volumes, read_volumes
from nnunet_topo.locks import hold, release
from nnunet_topo.messages import reason
from nnunet_topo.postprocessing.nested import keep_largest_components
from nnunet_topo.report import MEASURES, PRIMARY_METRIC, make_table
from nnunet_topo.report.cases import Cases
from nnunet_topo.report.grid import Grid
from nnunet_topo.report.measures import PRESENCE_METRICS, Unit
from nnunet_topo.report.outcomes import Row, add_presence, check_metric
from nnunet_topo.report.pictures import Change, choose_changes, draw_case
from nnunet_topo.report.plots import diagram_plot
from nnunet_topo.report.records import Comparison, Picture
from nnunet_topo.report.words import count, length, number
from nnunet_topo.topology import persistence_pairs

_SHORTEST_BAR = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """How models are compared.

    Attributes:
        metrics: those that are tested.
        primary: metric of the primary outcome, the mean over labels; None for none.
        missing: distance that counts where a model misses a structure; None to leave it undefined.
        control: whether the first model is also compared with its largest components.
        postprocess: whether the models are compared after their own post-processing.
        processes: maximum number.
        settings: how metrics are computed.
        command: as typed, for the report.
        error_maps: whether the places of topological errors are written beside each summary.
        patients: gives the patient of a case, whose cases count as one; None if each case does.
    """

    metrics: Sequence[str]
    primary: str | None = PRIMARY_METRIC
    missing: float | None = None
    control: bool = False
    postprocess: bool = False
    processes: int = 1
    settings: Settings = field(default_factory=Settings)
    command: str = ""
    error_maps: bool = False
    patients: Patients | None = None


def compare(study: Study, output: Path, options: Options) -> Comparison:
    """Compares the models of a study, and writes table and report into a folder.

    Nothing is written elsewhere. Only files that an earlier comparison wrote there are replaced.

    Raises:
        ValueError: nothing to compare, unknown metrics, other files in the way, or another
            comparison writes into the folder.
        OSError: a file cannot be read or written.
    """
    _check_options(study, options)
    notes: list[str] = []
    if options.patients is not None:
        notes += notes_on_patients(*patients_of_study(study, options.patients))
    before = check_output(output)
    hold(output, AUTHOR)
    models, problems = list(study.models), []
    if options.control:
        control, unwritten = keep_largest_components(
            replace(study, models=(models[0],)),
            f"{models[0].name}, largest components",
            own_folder(output / "control"),
            settings=options.settings,
            processes=options.processes,
        )
        models.insert(1, control)
        problems += [f"{control.name}: {problem}" for problem in unwritten]
    processed: list[Processed] = []
    if options.postprocess:
        own = own_folder(output / "postprocessing")
        processed, not_processed, unwritten = process_models(
            study,
            lambda model: own / f"{study.models.index(model)}_{_plain(model.name)}",
            metric=options.primary,
            settings=options.settings,
            processes=options.processes,
            patient=options.patients,
        )
        notes += not_processed
        problems += unwritten
    folder = own_folder(output / "evaluation")
    evaluated = {
        model.name: evaluate_model(
            study,
            model,
            folder / f"{index}_{_plain(model.name)}",
            processes=options.processes,
            settings=options.settings,
        )
        for index, model in enumerate([*models, *(of.model for of in processed)])
    }
    problems += [problem for of_model in evaluated.values() for problem in of_model.problems]
    unit = unit_of_distances(study, [fold for of in evaluated.values() for fold in of.folds])
    paired, left_out = _pair(evaluated, problems)
    values = {name: add_presence(cases) for name, cases in paired.items()}
    predicted = {model.name: values[model.name] for model in models}
    names = label_names(study)  # in the order of the network's channels
    if options.error_maps:
        of_maps = study, models, evaluated, options.settings, options.processes
        problems += write_maps_of_models(*of_maps)
    patients = {}
    if options.patients is not None:
        patients = {case: options.patients(case) for case in values[models[0].name].names}
    labels = dict(sorted(names.items(), key=lambda item: _numbers(item[0])))
    trainings, unreadable = _read_trainings(models)
    notes += unreadable + left_out + notes_on_data(predicted, labels, options.missing, unit)
    named = {model.name: bool(model.trainings) for model in models}
    notes += notes_on_trainings(trainings, predicted, names, named)
    instead = {of.before: of.model for of in processed}
    shown = [instead.get(model.name, model) for model in models]
    compared = {model.name: values[model.name] for model in shown}
    changes = choose_changes(compared, list(labels), options.metrics)
    of_shown = [(model, evaluated[model.name].cases) for model in shown]
    pictures, unread = _pictures(study, of_shown, changes, labels, options.settings, unit)
    as_predicted = Comparison(
        title=study.dataset,
        values=predicted,
        labels=labels,
        metrics=options.metrics,
        connectivity=options.settings.connectivity,
        rows=_table(predicted, labels, options, patients),
        notes=notes,
        problems=problems + unread,
        made=_made(study, models, options, unit) | origins(trainings),
        curves={
            name: {fold: training.curves for fold, training in folds.items()}
            for name, folds in trainings.items()
        },
        pictures=pictures,
        primary=options.primary,
        unit=unit,
        tolerance=options.settings.nsd_tolerance_mm,
        missing=options.missing,
        patients=patients,
    )
    comparison = as_predicted
    if processed:
        comparison = replace(
            as_predicted,
            values=compared,
            rows=_table(compared, labels, options, patients),
            as_predicted=as_predicted,
            steps={of.model.name: of.steps for of in processed},
        )
    write_comparison(output, comparison, before)
    release(output)
    return comparison


def _table(
    values: Mapping[str, Cases],
    labels: Mapping[str, str],
    options: Options,
    patients: Mapping[str, str],
) -> list[Row]:
    return make_table(
        values,
        list(labels),
        [*options.metrics, *PRESENCE_METRICS],
        primary=options.primary,
        missing=options.missing,
        patients=list(patients.values()) or None,
    )


def _check_options(study: Study, options: Options) -> None:
    """Raises ValueError where options are wrong, or there are not two models."""
    for metric in (*options.metrics, *([options.primary] if options.primary else [])):
        check_metric(metric)
    if options.missing is not None and not (isfinite(options.missing) and options.missing > 0):
        raise ValueError(f"--missing-mm takes a distance above 0, got {options.missing:g}")
    names = [model.name for model in study.models]
    if len(set(names)) < len(names):
        raise ValueError(f"each model needs a different name, got {', '.join(names)}")
    if len(names) + options.control < 2:
        raise ValueError("wanted two models to compare, or one and --control")


def _plain(name: str) -> str:
    """Returns a name for a folder."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:120]


def _numbers(key: str) -> tuple[int, ...]:
    """Returns the numbers in the key of a label or region, to sort by."""
    return tuple(map(int, re.findall(r"\d+", key)))


def _pair(
    evaluated: Mapping[str, ModelEvaluation], problems: Sequence[str]
) -> tuple[dict[str, Cases], list[str]]:
    """Returns the cases that all models have, and notes on the others.

    Raises:
        ValueError: there is none; the message says what went wrong.
    """
    common = sorted(set.intersection(*(set(model.cases) for model in evaluated.values())))
    if not common:
        counts = ", ".join(f"{name}: {len(model.cases)}" for name, model in evaluated.items())
        reasons = "".join(f"; {problem}" for problem in problems[:3])
        raise ValueError(f"no case has been evaluated for all models ({counts}){reasons}")
    notes = []
    for name, model in evaluated.items():
        left_out = sorted(model.cases.keys() - set(common))
        if left_out:
            shown = ", ".join(left_out[:10]) + (", ..." if len(left_out) > 10 else "")
            notes.append(
                f"{len(left_out)} of {count(len(model.cases), 'case')} of {name} "
                f"{'is' if len(left_out) == 1 else 'are'} left out, because another model does "
                f"not have {'it' if len(left_out) == 1 else 'them'}: {shown}"
            )
    if len(common) == 1:
        notes.append("there is only one case: nothing can be tested")
    paired = {
        name: Cases({case: model.cases[case].labels for case in common})
        for name, model in evaluated.items()
    }
    return paired, notes


def _pictures(
    study: Study,
    models: Sequence[tuple[Model, Mapping[str, CaseMetrics]]],
    changes: Sequence[Change],
    labels: Mapping[str, str],
    settings: Settings,
    unit: Unit,
) -> tuple[list[Picture], list[str]]:
    """Returns a picture of each case that changed, and a line for each that cannot be read."""
    pictures, problems = [], []
    for change in changes:
        try:
            named = [(model, cases[change.case].name) for model, cases in models]
            volumes = read_volumes(study, change.case, change.label, named)
            pictures.append(_picture(change, volumes, labels, settings, unit, len(pictures)))
        except Exception as error:  # of any reader; the report is written without the picture
            problems.append(f"{change.case}: no picture, {reason(error)}")
    return pictures, problems


def _read_trainings(
    models: Sequence[Model],
) -> tuple[dict[str, dict[str, TrainingRecord]], list[str]]:
    """Returns the records of trainings by model and fold, and a note on each that is unreadable."""
    records: dict[str, dict[str, TrainingRecord]] = {}
    notes = []
    for model in models:
        of_model = records.setdefault(model.name, {})
        for fold, folder in model.trainings.items():
            try:
                record = read_training(folder)
            except ValueError as error:
                notes.append(f"{model.name}, fold {fold}: no training curves, {error}")
                continue
            if record is not None:
                of_model[fold] = record
    return records, notes


def _picture(
    change: Change,
    volumes: Volumes,
    labels: Mapping[str, str],
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
        grid_of(volumes, unit),
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


def grid_of(volumes: Volumes, unit: Unit) -> Grid:
    """Returns where the slices of a case lie, for the report."""
    found = volumes.geometry
    known = {field.name: getattr(found, field.name) for field in fields(found)}
    return Grid(volumes.spacing_mm, unit, **known)


def _made(study: Study, models: Sequence[Model], options: Options, unit: Unit) -> dict[str, str]:
    settings = options.settings
    made = {
        "Command": options.command or "compare() of nnunet_topo.commands.comparison",
        "Models": "; ".join(model.name for model in models),
        "Folds": ", ".join(fold for fold in models[0].folders if fold) or "none, bare folders",
        "Connectivity": settings.connectivity,
        "Tolerance of surface distances": length(settings.nsd_tolerance_mm, unit),
        **({} if (windows := settings.windows) is None else {"Windows": str(windows)}),
        **({} if options.patients is None else {"Patients": options.patients.told}),
        "References": str(study.references),
        "Versions": versions(),
    }
    if options.control:
        made["Control"] = (
            f"{models[1].name}: only the largest component of each label of {models[0].name}"
        )
    return made


def versions() -> str:
    """Returns the versions of what the metrics depend on."""
    packages = ("nnunet-topo", "nnunetv2", "torch", "numpy", "scipy")
    named = ", ".join(f"{package} {_version(package)}" for package in packages)
    return f"{named}, Python {platform.python_version()}"


def _version(package: str) -> str:
    if package == "nnunet-topo":
        return nnunet_topo.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
