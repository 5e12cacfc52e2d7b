"""The simple controls that a refinement is compared with: largest component and closing."""

from typing import Any

import numpy as np
from nnunetv2.postprocessing.remove_connected_components import (
    remove_all_but_largest_component_from_segmentation,
)
from numpy.typing import NDArray
from skimage.morphology import isotropic_closing

from nnunet_topo.refinement.part import WantedTopology, parts_to_refine
from nnunet_topo.refinement.result import CaseResult
from nnunet_topo.refinement.trained_model import Prediction, TrainedModel


def postprocess(
    model: TrainedModel, prediction: Prediction, topology: WantedTopology, *, closing: int | None
) -> tuple[CaseResult, NDArray[Any]]:
    """Returns the result of a simple control, and the segmentation to be written.

    The control keeps the largest component of each label or region, or closes each of them in turn
    where there is background. For a 2D model it does so in each slice.

    Args:
        model: the model that has predicted the case.
        prediction: of the case.
        topology: the wanted Betti numbers, for the record.
        closing: radius of the ball in voxels; None keeps the largest component.

    Raises:
        ValueError: a prior names a slice that the case does not have.
    """
    parts = parts_to_refine(model, prediction, topology)
    segmentation = prediction.segmentation.copy()
    for values in segmentation if model.space == 2 else [segmentation]:
        for channel, labels in enumerate(model.channels.members):
            if closing is None:
                label = labels[0] if len(labels) == 1 else labels
                values[:] = remove_all_but_largest_component_from_segmentation(values, label)
                continue
            padded = np.pad(np.isin(values, labels), closing + 1)
            inside = (slice(closing + 1, -closing - 1),) * values.ndim
            closed = isotropic_closing(padded, closing)[inside]
            manager = model.label_manager
            order = manager.regions_class_order if manager.has_regions else None
            values[closed & (values == 0)] = labels[0] if order is None else order[channel]
    rows = []
    for part in parts:
        before = part.assess(prediction.segmentation)
        rows += part.rows(before, part.assess(segmentation))
    changed = int(np.count_nonzero(segmentation != prediction.segmentation))
    reason = "largest component" if closing is None else f"closing, {closing} voxels"
    return CaseResult("postprocessed", reason, 0, changed, topology=rows), segmentation
