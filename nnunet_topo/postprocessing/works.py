"""The cases of a cross-validation, and what can be done to them."""

from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_topo.dataset import read_dataset_json
from nnunet_topo.evaluation.case import Case, Settings, read_case
from nnunet_topo.evaluation.segmentations import find_segmentations
from nnunet_topo.evaluation.study import Study, describe_study, study_labels
from nnunet_topo.images.readers import known_ending, probabilities_file
from nnunet_topo.labels.declared import labels_of_dataset
from nnunet_topo.labels.labels import Label
from nnunet_topo.messages import one_line
from nnunet_topo.postprocessing.cases import Work
from nnunet_topo.postprocessing.record import Recipe
from nnunet_topo.postprocessing.steps import Grid, Steps, Units
from nnunet_topo.postprocessing.targets import find_targets

_TYPICAL = 10  # cases from whose voxels the grid is made


def find_works(
    study: Study, metric: str, settings: Settings, grid: Grid | None
) -> tuple[list[Work], list[str]]:
    """Returns the cases of a study's first model, and what is wrong with others.

    Args:
        study: predictions of a cross-validation, and references.
        metric: one of `METRICS`.
        settings: of the evaluation; only the connectivity matters.
        grid: candidates, None for those that fit the voxels of the cases.

    Raises:
        ValueError: there are none, or nothing that can be given steps.
    """
    wanted = study_labels(study)
    labels, order = find_channels(study)
    targets = tuple(find_targets(labels, order))
    if not targets:
        raise ValueError(f"no label can be given steps: {', '.join(map(str, labels))} are groups")
    cases: dict[str, tuple[str, Case]] = {}
    problems: list[str] = []
    model = study.models[0]
    for fold, folder in model.folders.items():
        found = find_segmentations(study.references, folder, study.dataset_json, study.plans)
        problems += found.problems
        for pair in found.pairs:
            if pair.prediction is None:
                continue
            if pair.reference is None:
                problems.append(f"{pair.prediction.name}: no reference in {study.references}")
                continue
            name = pair.prediction.name
            if name in cases:
                raise ValueError(f"{model.name}: {name} is in the validation of more than one fold")
            readers = found.reader(pair.reference), found.reader(pair.prediction)
            files = pair.reference, pair.prediction
            evaluated = tuple(target.label for target in targets)
            case = Case(name, *files, evaluated, wanted, readers, settings)
            cases[name] = fold, case
    if not cases:
        folders = ", ".join(map(str, model.folders.values()))
        raise ValueError(f"no prediction with a reference in {folders}")
    of_cases = [case for _, case in cases.values()]
    space, spacings = _typical(of_cases)
    if grid is None:
        # Without a dataset.json nothing says which channel is whose.
        saved = study.dataset_json is not None and all(
            probabilities_file(case.prediction).is_file() for case in of_cases
        )
        grid = Grid.of_spacings(spacings, probabilities=saved)
    channels = len(labels) + (order is None)
    return [
        Work(case, fold, targets, channels, grid, metric, space)
        for fold, case in (cases[name] for name in sorted(cases))
    ], problems


def find_channels(study: Study) -> tuple[tuple[Label, ...], tuple[int, ...] | None]:
    """Returns the labels or regions of the network, and the value of each region, None for labels.

    Raises:
        ValueError: a dataset.json has regions and no order.
    """
    if study.dataset_json is not None:
        description = read_dataset_json(study.dataset_json)
        declared = labels_of_dataset(description, study.dataset_json, study.plans)
        if any(isinstance(label, tuple) for label in declared.evaluated):
            order = description.get("regions_class_order")
            if not isinstance(order, list):
                raise ValueError(
                    f"{study.dataset_json} has regions, so it needs a regions_class_order, which "
                    "says what an added voxel becomes"
                )
            return declared.evaluated, tuple(map(int, order))
        return declared.evaluated, None
    return study_labels(study).evaluated, None


def _typical(cases: Sequence[Case]) -> tuple[int, list[np.ndarray]]:
    """Returns the dimensions of the first case that can be read, and the voxels of some like it.

    Raises:
        ValueError: none can be read.
    """
    read, error = [], ""
    for case in cases:
        try:
            read.append(read_case(case).spacing_mm)
        except Exception as raised:  # of any reader; it is reported when the case is measured
            error = error or f"{case.name}: {one_line(raised)}"
        if len(read) == _TYPICAL:
            break
    if not read:
        raise ValueError(f"no case can be read, {error}")
    space = len(read[0])
    return space, [spacing for spacing in read if len(spacing) == space]


def recipe_of(study: Study, example: Work, steps: Mapping[str, Steps]) -> Recipe:
    """Returns what is needed to apply steps to the predictions of a study's first model.

    Args:
        study: predictions of a cross-validation, and references.
        example: one of its cases.
        steps: by label or region.
    """
    labels, order = find_channels(study)
    folder = next(iter(study.models[0].folders.values()))
    unit = find_segmentations(study.references, folder, study.dataset_json, study.plans).unit()[0]
    ending, file = describe_study(study).ending, example.case.prediction
    return Recipe(
        study.dataset,
        labels,
        order,
        example.case.ignore_label,
        {key: of_label for key, of_label in steps.items() if of_label},
        example.case.settings.connectivity,
        Units(unit, example.space),
        type(example.case.readers[1]).__name__,
        ending if file.name.endswith(ending) else known_ending(file),
    )
