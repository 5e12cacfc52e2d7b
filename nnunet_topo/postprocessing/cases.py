"""One case of the cross-validation: its candidates scored, and steps applied to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.evaluation.case import Case, CaseArrays, case_digest, read_case
from nnunet_topo.files import digest
from nnunet_topo.images.readers import probabilities_file
from nnunet_topo.messages import reason
from nnunet_topo.postprocessing.candidates import score_candidates
from nnunet_topo.postprocessing.masks import Mask
from nnunet_topo.postprocessing.probabilities import read_probabilities
from nnunet_topo.postprocessing.scores import Score, Scorer, scored_box
from nnunet_topo.postprocessing.steps import Grid, Steps
from nnunet_topo.postprocessing.targets import Target, apply_steps, mask_of


@dataclass(frozen=True, slots=True)
class Work:
    """A case and how it is scored.

    Attributes:
        case: its files.
        fold: that has validated it, "" for bare folders.
        targets: labels or regions.
        channels: of the probabilities, with the background if there is one.
        grid: candidates.
        metric: one of `METRICS`.
        space: 2 for images, 3 for volumes.
    """

    case: Case
    fold: str
    targets: tuple[Target, ...]
    channels: int
    grid: Grid
    metric: str
    space: int


@dataclass(frozen=True, slots=True)
class Measured:
    """The scores of a case.

    Attributes:
        name: of the case.
        digest: of its files and how it is scored, "" if it could not be.
        scores: by label or region, error and Dice of each candidate.
        problems: what went wrong, one line each.
    """

    name: str
    digest: str = ""
    scores: dict[str, list[list[float]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StepsOnCase:
    """A case that is given steps.

    Attributes:
        work: the case.
        steps: by label or region.
    """

    work: Work
    steps: Mapping[str, Steps]


@dataclass(frozen=True, slots=True)
class ScoredSteps:
    """A case after steps.

    Attributes:
        name: of the case.
        scores: by label or region; none if it failed.
        problem: why, else "".
    """

    name: str
    scores: Mapping[str, Score]
    problem: str = ""


def measure_case(work: Work) -> Measured:
    """Returns the scores of all candidates in a case; any error becomes a problem of the case."""
    name = work.case.name
    try:
        arrays = _read(work)
        probabilities = _probabilities(work, arrays) if work.grid.thresholds else None
        scores = {
            target.key: _score_candidates(work, target, arrays, probabilities)
            for target in work.targets
        }
        return Measured(name, work_digest(work), scores, arrays.problems)
    except Exception as error:
        return Measured(name, problems=[f"{name}: left out, {reason(error)}"])


def killed_case(work: Work) -> Measured:
    """Returns the result of a case whose process was killed."""
    problem = f"{work.case.name}: its process was killed; too little memory?"
    return Measured(work.case.name, problems=[problem])


def work_digest(work: Work) -> str:
    """Returns a digest of all that the scores depend on, "" if a file cannot be read."""
    of_files = case_digest(work.case)
    # The candidates and their order, not the grid: scores are kept by their place.
    besides = work.targets, work.grid.candidates(), work.metric, work.space, work.channels
    try:
        file = probabilities_file(work.case.prediction)
        probabilities = [file.read_bytes()] if work.grid.thresholds else []
    except OSError:
        return ""
    return digest(repr((of_files, besides)), *probabilities) if of_files else ""


def score_steps(on_case: StepsOnCase) -> ScoredSteps:
    """Returns the scores of a case after the steps of all its labels or regions."""
    work = on_case.work
    try:
        arrays = _read(work)
        changed = changed_label_map(work, on_case.steps, arrays)
        scores = {target.key: _score(work, target, arrays, changed) for target in work.targets}
        return ScoredSteps(work.case.name, scores)
    except Exception as error:
        return ScoredSteps(work.case.name, {}, f"{work.case.name}: left out, {reason(error)}")


def killed_steps(on_case: StepsOnCase) -> ScoredSteps:
    """Returns the result of a case whose process was killed."""
    name = on_case.work.case.name
    return ScoredSteps(name, {}, f"{name}: its process was killed; too little memory?")


def changed_label_map(
    work: Work, steps: Mapping[str, Steps], arrays: CaseArrays
) -> NDArray[np.generic]:
    """Returns the prediction of a case after steps."""
    probabilities = None
    if any(of_target.threshold is not None for of_target in steps.values()):
        probabilities = _probabilities(work, arrays)
    return apply_steps(
        arrays.prediction,
        work.targets,
        steps,
        probability=lambda target: _channel(target, probabilities),
        spacing=arrays.spacing_mm,
        connectivity=work.case.settings.connectivity,
    )


def _read(work: Work) -> CaseArrays:
    """Returns the arrays of a case.

    Raises:
        ValueError: it is an image among volumes, or the reverse.
    """
    arrays = read_case(work.case)
    if arrays.prediction.ndim != work.space:
        kinds = {2: "an image or a single slice", 3: "a volume"}
        raise ValueError(
            f"it is {kinds[arrays.prediction.ndim]}, but the first case is {kinds[work.space]}: "
            "their sizes are in other units"
        )
    return arrays


def _score_candidates(
    work: Work, target: Target, arrays: CaseArrays, probabilities: NDArray[np.floating] | None
) -> list[list[float]]:
    """Returns error and Dice of each candidate of a label or region."""
    scores = score_candidates(
        mask_of(arrays.prediction, target.members),
        mask_of(arrays.reference, target.members),
        mask_of(arrays.prediction, target.takes),
        work.grid,
        counted=_counted(work, arrays),
        probability=_channel(target, probabilities),
        spacing=arrays.spacing_mm,
        connectivity=work.case.settings.connectivity,
        metric=work.metric,
    )
    return [[score.error, score.dice] for score in scores]


def _score(work: Work, target: Target, arrays: CaseArrays, changed: NDArray[np.generic]) -> Score:
    """Returns the score of a label or region of a changed label map."""
    pair = [mask_of(array, target.members) for array in (changed, arrays.reference)]
    box = scored_box(work.metric, *pair)
    counted = _counted(work, arrays)
    scorer = Scorer(
        pair[1][box],
        None if counted is None else counted[box],
        metric=work.metric,
        spacing=arrays.spacing_mm,
        connectivity=work.case.settings.connectivity,
    )
    return scorer.score(pair[0][box])


def _counted(work: Work, arrays: CaseArrays) -> Mask | None:
    """Returns the voxels that are not ignored, None for all."""
    ignore = work.case.ignore_label
    return None if ignore is None else arrays.reference != ignore


def _probabilities(work: Work, arrays: CaseArrays) -> NDArray[np.floating]:
    file = probabilities_file(work.case.prediction)
    return read_probabilities(file, work.channels, arrays.prediction, work.targets)


def _channel(
    target: Target, probabilities: NDArray[np.floating] | None
) -> NDArray[np.floating] | None:
    return None if probabilities is None else probabilities[target.channel]
