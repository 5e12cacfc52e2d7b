"""nnU-Net's augmentation, with a note for each sample whether its label map was interpolated.

Rotation, scaling and elastic deformation interpolate a label map, which tears thin labels. A term
that compares topology leaves such samples out. Cropping, mirroring and rotation by 90 degrees keep
each voxel's label. The augmentation itself and its random numbers stay as they are in nnU-Net.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, ImageOnlyTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import OneOfTransform, RandomTransform

from nnunet_topo.training.skeletons import PACKED, TargetSkeletons

INTACT = "label_is_intact"  # key of a batch: a boolean for each sample
SKELETONS = "skeletons"  # likewise: what `TargetSkeletons` has packed, [batch, bytes, *space]

# Transforms of batchgeneratorsv2 that change label maps without interpolating at full resolution.
_EXACT = frozenset(
    {
        *("Convert2DTo3DTransform", "Convert3DTo2DTransform"),
        *("ConvertSegmentationToRegionsTransform", "DownsampleSegForDSTransform"),
        *("MaskImageTransform", "MirrorTransform", "MoveSegAsOneHotToDataTransform"),
        *("RemoveLabelTransform", "Rot90Transform", "TransposeAxesTransform"),
    }
)
# Parameters of a SpatialTransform that are None if it only crops. Some versions lack one of them.
_GRIDS = ("grid", "affine", "elastic_offsets")


class NotedTransforms(ComposeTransforms):
    """nnU-Net's augmentation, which notes for each sample whether its label map is intact.

    nnU-Net's loader stacks the images and label maps of a batch and drops everything else. So the
    note travels as an additional label map: a boolean with one axis if there are several maps (deep
    supervision), and without an axis otherwise. `note_apart` takes it out of the batch again.

    Skeletons of the label map on full resolution travel before the note.

    Args:
        transforms: nnU-Net's. They are applied one by one and draw the same random numbers as
            usual.
        skeletons: made after all transforms; None for none.
    """

    def __init__(
        self, transforms: BasicTransform, skeletons: TargetSkeletons | None = None
    ) -> None:
        composed = isinstance(transforms, ComposeTransforms)
        super().__init__(transforms.transforms if composed else [transforms])
        self.skeletons = skeletons

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Returns the augmented sample, with the note added to its label maps."""
        data_dict, intact = _apply_all(self.transforms, data_dict)
        labels = data_dict["segmentation"]
        several = isinstance(labels, list)
        note = torch.tensor([intact] if several else intact)
        maps = list(labels) if several else [labels]
        made = [] if self.skeletons is None else [self.skeletons.pack(maps[0])]
        data_dict["segmentation"] = [*maps, *made, note]
        return data_dict

    def unknown(self) -> list[str]:
        """Returns the names of transforms that may interpolate label maps unnoticed."""
        return [name for transform in self.transforms for name in _unknown(transform)]


def _apply_all(
    transforms: Sequence[BasicTransform], sample: dict[str, Any]
) -> tuple[dict[str, Any], bool]:
    """Returns a sample after all transforms, and whether its label map was never interpolated."""
    intact = True
    for transform in transforms:
        sample, exact = _apply(transform, sample)
        intact = intact and exact
    return sample, intact


def _apply(transform: BasicTransform, sample: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Returns a sample after a transform, and whether its label map was not interpolated."""
    if isinstance(transform, SpatialTransform):
        parameters = transform.get_parameters(**sample)
        grids = [parameters[name] for name in _GRIDS if name in parameters]
        exact = bool(grids) and all(grid is None for grid in grids)
        return transform.apply(sample, **parameters), exact
    # The following draw the same random numbers as when they are called.
    if isinstance(transform, ComposeTransforms):
        return _apply_all(transform.transforms, sample)
    if isinstance(transform, RandomTransform):
        applied = transform.get_parameters(**sample)["apply_transform"]
        return _apply_all([transform.transform] if applied else [], sample)
    if isinstance(transform, OneOfTransform):
        chosen = np.random.choice(transform.list_of_transforms)  # noqa: NPY002 # pyright: ignore[reportCallIssue, reportArgumentType]
        return _apply(chosen, sample)
    return transform(**sample), True


def _unknown(transform: BasicTransform) -> list[str]:
    """Returns the names of transforms that may interpolate label maps unnoticed."""
    if isinstance(transform, (SpatialTransform, ImageOnlyTransform)):
        return []
    inner = []
    if isinstance(transform, ComposeTransforms):
        inner = transform.transforms
    elif isinstance(transform, RandomTransform):
        inner = [transform.transform]
    elif isinstance(transform, OneOfTransform):
        inner = transform.list_of_transforms
    elif type(transform).__name__ not in _EXACT:
        return [type(transform).__name__]
    return [name for part in inner for name in _unknown(part)]


def note_apart(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a batch with the note of `NotedTransforms` under a key of its own.

    The keys are `label_is_intact`, a boolean for each sample, `[batch]`, and `skeletons`, if there
    are any. A batch without a note among its label maps is returned as it is.
    """
    target = batch["target"]
    if not isinstance(target, list) or target[-1].ndim > 2:  # the last one is a label map
        return dict(batch)
    *labels, note = target
    skeletons = {SKELETONS: labels.pop()} if labels[-1].dtype == PACKED else {}
    return {
        **batch,
        "target": labels if note.ndim == 2 else labels[0],
        INTACT: note.flatten(),
        **skeletons,
    }


def restrict_transforms(transforms: BasicTransform, *, spatial: bool, seeded: bool) -> None:
    """Switches off those parts of nnU-Net's augmentation that settings and seed forbid.

    Args:
        transforms: nnU-Net's, which are changed.
        spatial: whether patches are rotated and scaled.
        seeded: whether the training has a seed.
    """
    for transform in transforms.transforms if isinstance(transforms, ComposeTransforms) else ():
        if isinstance(transform, SpatialTransform) and not spatial:
            transform.p_rotation = transform.p_scaling = 0
        blur = getattr(transform, "transform", transform)
        if isinstance(blur, GaussianBlurTransform) and seeded:
            blur.benchmark = False  # otherwise its algorithm depends on timings
