"""Repairs the topology of one case.

Clough, Byrne, Oksuz, Zimmer, Schnabel, King: A Topological Loss Function for Deep-Learning based
Image Segmentation using Persistent Homology. IEEE Transactions on Pattern Analysis and Machine
Intelligence 2020: the post-processing framework.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnunet_topo.refinement.descent import WeightsDescent
from nnunet_topo.refinement.part import Assessment, Part, WantedTopology, parts_to_refine
from nnunet_topo.refinement.result import CaseResult, LabelTopology
from nnunet_topo.refinement.trained_model import Prediction, TrainedModel
from nnunet_topo.topology.betti_range import BettiPrior

_ASSESSED = 5  # every fifth step, if logits must be resampled first
_LEAST_OVERLAP = 0.5  # Dice with the prediction, of a label that must be there


def repair(
    model: TrainedModel, descent: WeightsDescent, prediction: Prediction, topology: WantedTopology
) -> tuple[CaseResult, Tensor]:
    """Returns the result of a case, and the logits to be written.

    A 2D model repairs slices one by one, each from the trained weights.

    Args:
        model: the model that has predicted the case.
        descent: of its weights.
        prediction: of the case.
        topology: the wanted Betti numbers.

    Raises:
        ValueError: a prior names a slice that the case does not have.
    """
    logits, segmentation = prediction.logits, prediction.segmentation
    outcomes: list[_Outcome] = []
    for part in parts_to_refine(model, prediction, topology):
        outcome = _repair_part(part, descent, logits, segmentation)
        outcomes.append(outcome)
        if outcome.better is not None:
            logits, segmentation = outcome.better.logits, outcome.better.segmentation
    rows = [row for outcome in outcomes for row in outcome.rows]
    steps = sum(outcome.steps for outcome in outcomes)
    changed = int(np.count_nonzero(segmentation != prediction.segmentation))
    is_refined = any(outcome.better is not None for outcome in outcomes)
    result = CaseResult("kept", "", steps, changed, topology=rows)
    if result.errors is None:
        result = replace(result, reason="no predicted label has a prior")
    elif is_refined:
        is_right = result.errors[1] == 0
        reason = "the topology is right now" if is_right else "closer to what is wanted, not right"
        result = replace(result, status="refined", reason=reason)
    elif result.errors[0] == 0:
        result = replace(result, reason="the topology is right")
    elif steps:
        result = replace(result, reason="no step improved the topology")
    else:
        result = replace(result, status="refused", reason="the priors contradict the image")
    return result, logits


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of a case or a slice; `better` is None where it stays as predicted."""

    rows: list[LabelTopology]
    steps: int = 0
    better: Assessment | None = None


def _repair_part(
    part: Part, descent: WeightsDescent, logits: Tensor, segmentation: NDArray[Any]
) -> _Outcome:
    """Returns the result of a case or slice.

    Args:
        part: the case or slice.
        descent: of the model's weights.
        logits: of the case, with the slices that were repaired before.
        segmentation: of these logits.
    """
    first = part.assess(segmentation, logits)
    sought = [i for i in range(len(part.unions)) if not part.is_absent(i, first)]
    wrong = [i for i in sought if first.errors[i]]
    if not wrong:
        return _Outcome(part.rows(first, first))
    place = part.place
    if place is None:
        notes = dict.fromkeys(wrong, "the image is empty there")
        return _Outcome(part.rows(first, first, notes))
    goal = _find_goal(part, descent, logits[:, place].to(torch.float32, copy=True), first, sought)
    wrong = [i for i in wrong if i not in goal.notes]
    if not wrong:
        return _Outcome(part.rows(first, first, goal.notes))
    return _descend(part, descent, goal, first, sought, wrong)


@dataclass(frozen=True, slots=True)
class _Goal:
    """What the descent works on.

    Attributes:
        logits: of the part, in single precision.
        priors: by channel, those of unions last.
        unions: channels of each union with a prior.
        notes: why a label is not repaired, by its index.
    """

    logits: Tensor
    priors: dict[int, BettiPrior]
    unions: tuple[tuple[int, ...], ...]
    notes: dict[int, str]


def _find_goal(
    part: Part, descent: WeightsDescent, logits: Tensor, first: Assessment, sought: Sequence[int]
) -> _Goal:
    """Returns the priors to descend to, without structures that are not predicted."""
    unions = tuple(part.unions[i] for i in sought if len(part.unions[i]) > 1)
    classes = len(part.model.channels)
    priors, notes = {}, {}
    for i in sought:
        union = part.unions[i]
        channel = union[0] if len(union) == 1 else classes + unions.index(union)
        fewest = [number.low for number in part.betti[i]]
        if first.errors[i] and not descent.has_trace(logits, channel, unions, fewest):
            notes[i] = "the prediction shows no trace of what is wanted"
        else:
            priors[channel] = part.betti[i]
    return _Goal(logits, priors, unions, notes)


def _descend(
    part: Part,
    descent: WeightsDescent,
    goal: _Goal,
    first: Assessment,
    sought: Sequence[int],
    wrong: Sequence[int],
) -> _Outcome:
    """Returns the best of all steps.

    Args:
        part: the case or slice.
        descent: of the model's weights.
        goal: priors to descend to.
        first: the segmentation as predicted.
        sought: indices of the labels that are or must be there.
        wrong: indices of the labels to repair.
    """
    model, place, notes = part.model, part.place, dict(goal.notes)
    image = part.prediction.image[:, place]
    best, steps, is_too_much = first, 0, False
    predicted = np.union1d(0, part.shown(first.segmentation))
    changes = descent.changed_logits(image, goal.logits, goal.priors, goal.unions)
    for number, changed in _some(changes, _ASSESSED if part.prediction.is_resampled else 1):
        steps = number
        whole = first.logits.to(torch.float32, copy=True)
        whole[:, place] = changed
        written = model.segment(whole, part.prediction.properties)
        differs = written != first.segmentation
        voxels = int(np.count_nonzero(differs))
        if not np.isin(np.unique(written[differs]), predicted).all():  # also without a prior
            continue
        candidate = replace(part.assess(written, whole), voxels_changed=voxels)
        if not _is_better(part, candidate, best, first):
            continue
        if not _is_alike(part, candidate, first, sought):
            is_too_much = True
            continue
        best = candidate
        if not best.errors[wrong].any():
            break
    if best is not first:
        return _Outcome(part.rows(first, best, notes), steps, best)
    if is_too_much:
        notes |= dict.fromkeys(wrong, "a repair would have to change more than half of a label")
    return _Outcome(part.rows(first, first, notes), steps)


def _some(changes: Iterable[Tensor], every: int) -> Iterator[tuple[int, Tensor]]:
    """Yields number and logits of every nth step, and of the last."""
    last = None
    for number, changed in enumerate(changes, start=1):
        last = number, changed
        if number % every == 0:
            yield last
            last = None
    if last is not None:
        yield last


def _is_better(part: Part, candidate: Assessment, best: Assessment, first: Assessment) -> bool:
    """Returns whether the topology is closer to the wanted one, or as close with fewer changes.

    No label may get worse, and no label may appear.
    """
    for i in range(len(part.unions)):
        worse = candidate.errors[i] > first.errors[i]
        appeared = part.is_absent(i, first) and candidate.masks[i].any()
        if appeared or (worse and not part.is_absent(i, first)):
            return False
    error, least_error = candidate.errors.sum(), best.errors.sum()
    if error == least_error and best is not first:
        return candidate.voxels_changed < best.voxels_changed
    return bool(error < least_error)


def _is_alike(part: Part, candidate: Assessment, first: Assessment, sought: Sequence[int]) -> bool:
    """Returns whether every label that must be there still overlaps enough with what it was."""
    for i in sought:
        before, after = first.masks[i], candidate.masks[i]
        if part.betti[i][0].low > 0 and before.any():
            overlap = 2 * np.count_nonzero(before & after)
            if overlap < _LEAST_OVERLAP * (np.count_nonzero(before) + np.count_nonzero(after)):
                return False
    return True
