"""What is refined in one go, a whole case or a slice, and its wanted topology."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nnunet_topo.dataset import Union
from nnunet_topo.priors.case_priors import CasePrior, wanted
from nnunet_topo.refinement.result import LabelTopology
from nnunet_topo.refinement.trained_model import Prediction, TrainedModel
from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.betti_range import BettiPrior

_ABSENT = "not in the prediction"


@dataclass(frozen=True, slots=True)
class WantedTopology:
    """The wanted Betti numbers of one case.

    Attributes:
        all_cases: priors that hold in every case, by label or union.
        this_case: priors of this case, which replace `all_cases`.
    """

    all_cases: Mapping[Union, BettiPrior]
    this_case: Sequence[CasePrior] = ()


@dataclass(frozen=True, slots=True)
class Assessment:
    """The topology of a segmentation, compared with the wanted one.

    Attributes:
        masks: of each label with a prior.
        betti: Betti numbers of each mask.
        errors: distance of each mask from the wanted Betti numbers.
        segmentation: of the whole case.
        logits: of the whole case.
        voxels_changed: number of voxels that differ from the first segmentation.
    """

    masks: list[NDArray[np.bool_]]
    betti: list[tuple[int, ...]]
    errors: NDArray[np.int64]
    segmentation: NDArray[Any]
    logits: Tensor
    voxels_changed: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A case, or a slice of it for a 2D model, and the wanted Betti numbers of each label.

    Attributes:
        model: the model that has predicted it.
        prediction: of the case.
        slice: number of the slice, None for a whole case.
        unions: the channels of each label or union with a prior.
        betti: the prior of each.
        known: whether the prior was given for this case or slice, so that the label must be there.
    """

    model: TrainedModel
    prediction: Prediction
    slice: int | None
    unions: tuple[Union, ...]
    betti: tuple[BettiPrior, ...]
    known: tuple[bool, ...]

    @property
    def place(self) -> int | EllipsisType | None:
        """Returns the index of its logits in those of the case, None where the image is empty."""
        if self.model.space == 3:
            return Ellipsis
        first, end = self.prediction.properties["bbox_used_for_cropping"][0]
        place = (self.slice or 0) - first
        return place if 0 <= place < end - first else None

    def shown(self, segmentation: NDArray[Any]) -> NDArray[Any]:
        """Returns the part of a segmentation of the case."""
        return segmentation[self.slice or 0] if self.model.space == 2 else segmentation

    def assess(self, segmentation: NDArray[Any], logits: Tensor | None = None) -> Assessment:
        """Returns the topology here of a segmentation of the case.

        Args:
            segmentation: of the whole case.
            logits: of the segmentation, None for those of the prediction.
        """
        shown = self.shown(segmentation)
        masks = [np.isin(shown, self.model.channels.labels_of(union)) for union in self.unions]
        betti = [betti_numbers(mask, connectivity=self.model.connectivity) for mask in masks]
        errors = [int(prior.error(of)) for of, prior in zip(betti, self.betti, strict=True)]
        if logits is None:
            logits = self.prediction.logits
        return Assessment(masks, betti, np.array(errors), segmentation, logits)

    def rows(
        self, before: Assessment, after: Assessment, notes: Mapping[int, str] | None = None
    ) -> list[LabelTopology]:
        """Returns the record of each label.

        Args:
            before: the segmentation as predicted.
            after: the segmentation as written.
            notes: why a label was not repaired, by its index.
        """
        rows = []
        for i, union in enumerate(self.unions):
            absent = self.is_absent(i, before)
            errors = (None, None) if absent else (int(before.errors[i]), int(after.errors[i]))
            note = _ABSENT if absent else (notes or {}).get(i, "")
            betti = list(before.betti[i]), list(after.betti[i])
            name, prior = self.model.name(union), self.betti[i].to_csv()
            rows.append(LabelTopology(name, self.slice, prior, *betti, *errors, note))
        return rows

    def is_absent(self, i: int, before: Assessment) -> bool:
        """Returns whether a label is neither predicted nor required."""
        return not self.known[i] and not before.masks[i].any()


def parts_to_refine(
    model: TrainedModel, prediction: Prediction, topology: WantedTopology
) -> list[Part]:
    """Returns the whole case, or each slice for a 2D model; only parts with a prior.

    Raises:
        ValueError: a prior names a slice that the case does not have.
    """
    slices: Sequence[int | None] = [None]
    this_case = topology.this_case
    if model.space == 2:
        number = len(prediction.segmentation)
        beyond = [p.slice for p in this_case if p.slice is not None and p.slice >= number]
        if beyond:
            raise ValueError(
                f"there is a prior for slice {beyond[0]}, but the case has {number} slices, "
                "counted from 0"
            )
        if number == 1:
            this_case = [replace(prior, slice=None) for prior in this_case]
        else:
            slices = range(number)
    parts = []
    for slice_ in slices:
        priors = sorted(wanted(topology.all_cases, this_case, slice_).items())
        if priors:
            unions = tuple(union for union, _ in priors)
            betti = tuple(prior for _, (prior, _) in priors)
            known = tuple(is_known for _, (_, is_known) in priors)
            parts.append(Part(model, prediction, slice_, unions, betti, known))
    return parts
