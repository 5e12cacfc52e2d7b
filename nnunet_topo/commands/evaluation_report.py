"""`nnunet-topo evaluate --report`: the page of one model, with pictures of its errors."""

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from nnunet_topo.commands.comparison import grid_of, versions
from nnunet_topo.evaluation.error_maps import ErrorMaps, find_errors, open_folder
from nnunet_topo.evaluation.error_table import ErrorPlace, where
from nnunet_topo.evaluation.record import Evaluation, file_name
from nnunet_topo.evaluation.study import Model, Study
from nnunet_topo.evaluation.volumes import Volumes, read_volumes
from nnunet_topo.labels.labels import Labels, label_title, sorted_label_keys
from nnunet_topo.messages import reason
from nnunet_topo.report.cases import Cases
from nnunet_topo.report.error_pictures import draw_errors
from nnunet_topo.report.markup import Markup
from nnunet_topo.report.measures import Unit
from nnunet_topo.report.one_model import OneModel, render_one_model, results_csv
from nnunet_topo.report.words import count
from nnunet_topo.topology.error_places import ErrorKind

PAGE, RESULTS = "report.html", "results.csv"
MOST_ROWS = 12  # cases and labels with pictures
MOST_ERRORS = 4  # of each, the largest of each kind before others


def write_report(
    chosen: argparse.Namespace, labels: Labels, evaluation: Evaluation, maps: ErrorMaps
) -> list[str]:
    """Writes page and table into the folder of the maps, and returns what went wrong.

    Raises:
        ValueError: another file is in the way.
        OSError: a file cannot be written.
    """
    out = open_folder(maps.folder)
    out.begin()
    results = _results(chosen, evaluation, maps)
    pictures, problems = _pictures(chosen, labels, results, evaluation, maps)
    results = _results(chosen, evaluation, maps, pictures, problems)
    out.write(RESULTS, results_csv(results))
    out.write(PAGE, render_one_model(results))
    out.close()
    return problems


def _results(
    chosen: argparse.Namespace,
    evaluation: Evaluation,
    maps: ErrorMaps,
    pictures: Sequence[tuple[str, Markup]] = (),
    problems: Sequence[str] = (),
) -> OneModel:
    names = evaluation.label_names
    errors: dict[str, dict[str, Counter[ErrorKind]]] = {}
    places: dict[tuple[str, str], str] = {}
    for case, of_case in maps.errors.items():
        counts: defaultdict[str, Counter[ErrorKind]] = defaultdict(Counter)
        for error in of_case:
            counts[error.label][error.kind] += 1
            largest = f"{error.kind}, {where(error)}"
            places.setdefault((case, error.label), largest)
        errors[case] = dict(counts)
    predictions = chosen.predictions.resolve()
    return OneModel(
        title=f"{predictions.parent.name}/{predictions.name}",
        values=Cases(
            {
                case.name: case.labels
                for case in evaluation.cases
                if case.name in evaluation.evaluated
            }
        ),
        means=evaluation.evaluated_means,
        labels={
            key: names.get(key, label_title(key, {})) for key in sorted_label_keys(evaluation.means)
        },
        errors=errors,
        places=places,
        pictures=pictures,
        connectivity=evaluation.connectivity,
        unit=_unit(evaluation),
        problems=[*evaluation.problems, *maps.problems, *problems],
        made={
            "Command": chosen.command_line,
            "References": str(chosen.references),
            "Predictions": str(chosen.predictions),
            "Connectivity": evaluation.connectivity,
            "Versions": versions(),
        },
    )


def _unit(evaluation: Evaluation) -> Unit:
    return evaluation.unit or "mm"


def _pictures(
    chosen: argparse.Namespace,
    labels: Labels,
    results: OneModel,
    evaluation: Evaluation,
    maps: ErrorMaps,
) -> tuple[list[tuple[str, Markup]], list[str]]:
    """Returns pictures of the worst cases and labels, and a line for each that cannot be read."""

    def folder_of(place: Path) -> Path:
        return place if place.is_dir() else place.parent

    model = Model("prediction", {"": folder_of(chosen.predictions)}, {})
    references = folder_of(chosen.references)
    files = chosen.djfile, chosen.pfile
    study = Study(results.title, references, chosen.images, *files, (model,), labels)
    reference_of = {case.name: file_name(case.reference) for case in evaluation.cases}
    pictures: list[tuple[str, Markup]] = []
    problems: list[str] = []
    on_black: set[str] = set()
    for case, label in results.worst()[:MOST_ROWS]:
        title = f"{case}, {results.labels[label]}"
        places = [error for error in maps.errors[case] if error.label == label]
        try:
            volumes = read_volumes(study, reference_of[case], label, [(model, case)])
            row = _picture(volumes, model, places, evaluation, title)
            on_black |= {case} if chosen.images and volumes.image is None else set()
            shown = ", some of the largest" if len(places) > MOST_ERRORS else ""
            pictures.append((f"{title}: {count(len(places), 'error')}{shown}", row))
        except Exception as error:  # of any reader; the page is written without the picture
            problems.append(f"{case}: no picture, {reason(error)}")
    problems += [
        f"{case}: drawn on black, {chosen.images} holds no image of this case and its shape"
        for case in sorted(on_black)
    ]
    return pictures, problems


def _picture(
    volumes: Volumes,
    model: Model,
    places: Sequence[ErrorPlace],
    evaluation: Evaluation,
    title: str,
) -> Markup:
    prediction, connectivity = volumes.predictions[model.name], evaluation.connectivity
    errors = find_errors(prediction, volumes.reference, connectivity)
    if len(errors) != len(places):
        raise ValueError("the files have changed since the map was written")
    return draw_errors(
        volumes.image,
        volumes.reference,
        prediction,
        [(errors[n], where(places[n])) for n in _to_show([place.kind for place in places])],
        grid_of(volumes, _unit(evaluation)),
        title,
    )


def _to_show(kinds: Sequence[ErrorKind]) -> list[int]:
    """Returns which of the errors are drawn: the largest, and of different kinds if possible."""
    of_kind = [kinds.index(kind) for kind in dict.fromkeys(kinds)]
    others = [n for n in range(len(kinds)) if n not in of_kind]
    return sorted([*of_kind, *others][:MOST_ERRORS])
