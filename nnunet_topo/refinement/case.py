"""Repairs the topology of one case, or changes it by the simple controls.

Clough, Byrne, Oksuz, Zimmer, Schnabel, King: A Topological Loss Function for Deep-Learning based
Image Segmentation using Persistent Homology. IEEE Transactions on Pattern Analysis and Machine
Intelligence 2020: the post-processing framework.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any, Literal

import numpy as np
import torch
from nnunetv2.postprocessing.remove_connected_components import (
    remove_all_but_largest_component_from_segmentation,
)
from numpy.typing import NDArray
from skimage.morphology import isotropic_closing
from torch import Tensor

from nnunet_topo.dataset import Union
from nnunet_topo.priors.case_priors import CasePrior, wanted
from nnunet_topo.refinement.descent import WeightsDescent
from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.training.trained_model import Prediction, TrainedModel

_JUDGED = 5  # of so many steps one, where the result must be resampled first
_LEAST_OVERLAP = 0.5  # Dice with the prediction, of a label that shall be there
_ABSENT = "not in the prediction"
Status = Literal["kept", "refined", "postprocessed", "refused", "failed"]
LabelPriors = Mapping[Union, BettiPrior]


@dataclass(frozen=True, slots=True)
class LabelTopology:
    """The topology of a label in a case or a slice.

    Attributes:
        label: name; of a union, names joined by +.
        slice: that a 2D model has seen, None for whole images and volumes.
        wanted: Betti numbers, as they stand in a CSV file; "" where free.
        before: of the segmentation as predicted.
        after: of the segmentation as written.
        error_before: by how much the numbers are wrong in sum; None where nothing is wanted.
        error_after: likewise.
        note: why nothing was done about a label, else "".
    """

    label: str
    slice: int | None
    wanted: list[str]
    before: list[int]
    after: list[int]
    error_before: int | None
    error_after: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of a case.

    Attributes:
        status: kept as predicted, refined, postprocessed by a control, refused or failed.
        reason: why.
        steps: of Adam, of all slices together.
        voxels_changed: in the segmentation.
        seconds: in all.
        topology: of each label with a prior, in each slice of a 2D model.
    """

    status: Status
    reason: str
    steps: int = 0
    voxels_changed: int = 0
    seconds: float = 0.0
    topology: list[LabelTopology] = field(default_factory=list)

    @property
    def errors(self) -> tuple[int, int] | None:
        """Returns the topological errors before and after, None where nothing is wanted."""
        pairs = [(row.error_before, row.error_after) for row in self.topology]
        known = [(b, a) for b, a in pairs if b is not None and a is not None]
        if not known:
            return None
        return sum(before for before, _ in known), sum(after for _, after in known)


def repair(
    model: TrainedModel,
    descent: WeightsDescent,
    prediction: Prediction,
    of_labels: LabelPriors,
    of_case: Sequence[CasePrior],
) -> tuple[CaseResult, Tensor]:
    """Returns what became of a case, and the logits to be written.

    A 2D model repairs slices one by one, each from the trained weights.

    Args:
        model: that has predicted the case.
        descent: of its weights.
        prediction: of the case.
        of_labels: priors of all cases.
        of_case: those of this case.

    Raises:
        ValueError: a slice that the case has not.
    """
    logits, segmentation = prediction.logits, prediction.segmentation
    done: list[_Outcome] = []
    for item in _items(model, prediction, of_labels, of_case):
        outcome = _repair_item(item, descent, logits, segmentation)
        done.append(outcome)
        if outcome.better is not None:
            logits, segmentation = outcome.better.logits, outcome.better.segmentation
    rows = [row for outcome in done for row in outcome.rows]
    steps = sum(outcome.steps for outcome in done)
    changed = int(np.count_nonzero(segmentation != prediction.segmentation))
    refined = any(outcome.better is not None for outcome in done)
    result = CaseResult("kept", "", steps, changed, topology=rows)
    if result.errors is None:
        result = replace(result, reason="nothing is wanted of what is predicted")
    elif refined:
        is_right = result.errors[1] == 0
        told = "the topology is right now" if is_right else "nearer to what is wanted, not right"
        result = replace(result, status="refined", reason=told)
    elif result.errors[0] == 0:
        result = replace(result, reason="the topology is right")
    elif steps:
        result = replace(result, reason="no step improved the topology")
    else:
        result = replace(result, status="refused", reason="the priors contradict the image")
    return result, logits


def postprocess(
    model: TrainedModel,
    prediction: Prediction,
    of_labels: LabelPriors,
    of_case: Sequence[CasePrior],
    *,
    closing: int | None,
) -> tuple[CaseResult, NDArray[Any]]:
    """Returns what became of a case under a simple control, and the segmentation to be written.

    Of each label or region the largest component is kept, or each is closed, one after the other,
    where there is background; both in the slices of a 2D model.

    Args:
        model: that has predicted the case.
        prediction: of the case.
        of_labels: priors of all cases.
        of_case: those of this case.
        closing: radius of the ball in voxels; None keeps the largest component.

    Raises:
        ValueError: a slice that the case has not.
    """
    items = _items(model, prediction, of_labels, of_case)
    segmentation = prediction.segmentation.copy()
    for part in segmentation if model.space == 2 else [segmentation]:
        for channel, values in enumerate(model.labels):
            if closing is None:
                label = values[0] if len(values) == 1 else values
                part[:] = remove_all_but_largest_component_from_segmentation(part, label)
                continue
            padded = np.pad(np.isin(part, values), closing + 1)
            inside = (slice(closing + 1, -closing - 1),) * part.ndim
            closed = isotropic_closing(padded, closing)[inside]
            manager = model.label_manager
            order = manager.regions_class_order if manager.has_regions else None
            part[closed & (part == 0)] = values[0] if order is None else order[channel]
    rows = []
    for item in items:
        before = item.judge(prediction.segmentation)
        rows += item.rows(before, item.judge(segmentation))
    changed = int(np.count_nonzero(segmentation != prediction.segmentation))
    told = "largest component" if closing is None else f"closing, {closing} voxels"
    return CaseResult("postprocessed", told, 0, changed, topology=rows), segmentation


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What a segmentation is worth.

    Attributes:
        masks: of each label with an aim.
        betti: numbers of each.
        errors: by how much they are wrong, of each.
        segmentation: that was judged.
        logits: that it is of, those of the whole case.
        voxels: by how many it differs from the first.
    """

    masks: list[NDArray[np.bool_]]
    betti: list[tuple[int, ...]]
    errors: NDArray[np.int64]
    segmentation: NDArray[Any]
    logits: Tensor
    voxels: int = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a case or a slice; `better` is None where it stays as it was."""

    rows: list[LabelTopology]
    steps: int = 0
    better: _Judgement | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    """A case, or a slice of it for a 2D model, and what is wanted of each label.

    Attributes:
        model: that has predicted it.
        prediction: of the case.
        slice: None for a whole case.
        channels: of each label or union with an aim.
        betti: wanted of each.
        known: whether the aim is of this very case or slice, so that the label is to be there.
    """

    model: TrainedModel
    prediction: Prediction
    slice: int | None
    channels: tuple[Union, ...]
    betti: tuple[BettiPrior, ...]
    known: tuple[bool, ...]

    @property
    def place(self) -> int | EllipsisType | None:
        """Returns where its logits lie in those of the case, None where the image is empty."""
        if self.model.space == 3:
            return Ellipsis
        first, end = self.prediction.properties["bbox_used_for_cropping"][0]
        place = (self.slice or 0) - first
        return place if 0 <= place < end - first else None

    def judge(self, segmentation: NDArray[Any], logits: Tensor | None = None) -> _Judgement:
        """Returns what a segmentation of the case is worth here."""
        part = segmentation
        if self.model.space == 2:
            part = segmentation[self.slice or 0]
        masks = [np.isin(part, self.model.values(channels)) for channels in self.channels]
        betti = [_betti(mask, self.model) for mask in masks]
        errors = [int(aim.error(of)) for of, aim in zip(betti, self.betti, strict=True)]
        return _Judgement(
            masks,
            betti,
            np.array(errors),
            segmentation,
            self.prediction.logits if logits is None else logits,
        )

    def rows(
        self, before: _Judgement, after: _Judgement, notes: Mapping[int, str] | None = None
    ) -> list[LabelTopology]:
        """Returns the record of each label."""
        rows = []
        for i, channels in enumerate(self.channels):
            absent = self.is_absent(i, before)
            errors = (None, None) if absent else (int(before.errors[i]), int(after.errors[i]))
            note = _ABSENT if absent else (notes or {}).get(i, "")
            betti = list(before.betti[i]), list(after.betti[i])
            name, aim = self.model.name(channels), self.betti[i].to_csv()
            rows.append(LabelTopology(name, self.slice, aim, *betti, *errors, note))
        return rows

    def is_absent(self, i: int, before: _Judgement) -> bool:
        """Returns whether a label is not predicted, and not known to be there."""
        return not self.known[i] and not before.masks[i].any()


def _items(
    model: TrainedModel,
    prediction: Prediction,
    of_labels: LabelPriors,
    of_case: Sequence[CasePrior],
) -> list[_Item]:
    """Returns what is repaired at once: the whole case, or each slice; without those without aims.

    Raises:
        ValueError: a slice that the case has not.
    """
    slices: Sequence[int | None] = [None]
    if model.space == 2:
        number = len(prediction.segmentation)
        beyond = [p.slice for p in of_case if p.slice is not None and p.slice >= number]
        if beyond:
            raise ValueError(
                f"a prior is given for slice {beyond[0]}, but there are {number}, counted from 0"
            )
        if number == 1:
            of_case = [replace(prior, slice=None) for prior in of_case]
        else:
            slices = range(number)
    items = []
    for slice_ in slices:
        aims = sorted(wanted(of_labels, of_case, slice_).items())
        if aims:
            channels = tuple(of for of, _ in aims)
            betti = tuple(of for _, (of, _) in aims)
            known = tuple(of for _, (_, of) in aims)
            items.append(_Item(model, prediction, slice_, channels, betti, known))
    return items


def _repair_item(
    item: _Item, descent: WeightsDescent, logits: Tensor, segmentation: NDArray[Any]
) -> _Outcome:
    """Returns what became of a case or slice.

    Args:
        item: the case or slice.
        descent: of the model's weights.
        logits: of the case, slices that were repaired before included.
        segmentation: of these.
    """
    first = item.judge(segmentation, logits)
    sought = [i for i in range(len(item.channels)) if not item.is_absent(i, first)]
    wrong = [i for i in sought if first.errors[i]]
    if not wrong:
        return _Outcome(item.rows(first, first))
    place = item.place
    if place is None:
        notes = dict.fromkeys(wrong, "the image is empty there")
        return _Outcome(item.rows(first, first, notes))
    part = logits[:, place].to(torch.float32, copy=True)
    unions = tuple(item.channels[i] for i in sought if len(item.channels[i]) > 1)
    classes = len(item.model.names)
    priors, notes = {}, {}
    for i in sought:
        of_label = item.channels[i]
        channel = of_label[0] if len(of_label) == 1 else classes + unions.index(of_label)
        fewest = [number.low for number in item.betti[i]]
        if first.errors[i] and not descent.has_trace(part, channel, unions, fewest):
            notes[i] = "the prediction shows no trace of what is wanted"
        else:
            priors[channel] = item.betti[i]
    wrong = [i for i in wrong if i not in notes]
    if not wrong:
        return _Outcome(item.rows(first, first, notes))
    best, steps, is_too_much = first, 0, False
    image = item.prediction.image[:, place]
    for steps, changed in enumerate(descent.changed_logits(image, part, priors, unions), start=1):
        last = steps == descent.options.steps
        if item.prediction.is_resampled and steps % _JUDGED and not last:
            continue
        whole = logits.to(torch.float32, copy=True)
        whole[:, place] = changed
        written = item.model.segment(whole, item.prediction.properties)
        voxels = int(np.count_nonzero(written != segmentation))
        candidate = replace(item.judge(written, whole), voxels=voxels)
        if not _is_better(item, candidate, best, first):
            continue
        if not _is_alike(item, candidate, first, sought):
            is_too_much = True
            continue
        best = candidate
        if not best.errors[wrong].any():
            break
    if best is not first:
        return _Outcome(item.rows(first, best, notes), steps, best)
    if is_too_much:
        notes |= dict.fromkeys(
            wrong, "to repair it, more than half of a label would have to change"
        )
    return _Outcome(item.rows(first, first, notes), steps)


def _is_better(item: _Item, candidate: _Judgement, best: _Judgement, first: _Judgement) -> bool:
    """Returns whether the topology is nearer to what is wanted, else as near by less change.

    No label may be worse than it was, and none may appear.
    """
    for i in range(len(item.channels)):
        worse = candidate.errors[i] > first.errors[i]
        appeared = item.is_absent(i, first) and candidate.masks[i].any()
        if appeared or (worse and not item.is_absent(i, first)):
            return False
    error, least_error = candidate.errors.sum(), best.errors.sum()
    if error == least_error and best is not first:
        return candidate.voxels < best.voxels
    return bool(error < least_error)


def _is_alike(item: _Item, candidate: _Judgement, first: _Judgement, sought: Sequence[int]) -> bool:
    """Returns whether every label that shall be there is still half of what it was."""
    for i in sought:
        before, after = first.masks[i], candidate.masks[i]
        if item.betti[i][0].low > 0 and before.any():
            overlap = 2 * np.count_nonzero(before & after)
            if overlap < _LEAST_OVERLAP * (np.count_nonzero(before) + np.count_nonzero(after)):
                return False
    return True


def _betti(mask: NDArray[np.bool_], model: TrainedModel) -> tuple[int, ...]:
    """Returns Betti numbers, counted in the box of what there is."""
    found = np.nonzero(mask)
    if len(found[0]) == 0:
        return (0,) * mask.ndim
    box = tuple(slice(axis.min(), axis.max() + 1) for axis in found)
    return betti_numbers(mask[box], connectivity=model.connectivity)
