"""What the preprocessed labels of a training say about topology."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from numpy.typing import NDArray

from nnunet_topo.topology import Connectivity, betti_numbers

TOLERATED_DAMAGE = 0.05  # of the objects that are rotated or scaled
_DRAWS = 100
_LARGEST = {2: 512, 3: 64}  # longest side of an augmented label map, in voxels


@dataclass(frozen=True, slots=True)
class TrainingLabels:
    """The preprocessed label maps of some cases; hashable, so that results are kept.

    Attributes:
        dataset_class: nnU-Net's reader.
        folder: of the preprocessed configuration.
        cases: identifiers.
        classes: labels of each foreground class or region.
        space: axes of a patch; 2 takes volumes slice by slice.
        connectivity: of the foreground.
    """

    dataset_class: type
    folder: str
    cases: tuple[str, ...]
    classes: tuple[tuple[int, ...], ...]
    space: int
    connectivity: Connectivity

    def label_map(self, case: str) -> NDArray[np.int16]:
        """Returns the label map of a case, `[z, y, x]`; an image has one slice."""
        segmentation = self.dataset_class(self.folder, [case]).load_case(case)[1]
        check_one_label_map(segmentation)
        return np.asarray(segmentation[0]).astype(np.int16)

    def betti_numbers(self, label_map: NDArray[np.int16]) -> list[tuple[int, ...] | None]:
        """Returns the Betti numbers of each class in a 2D or 3D label map, None if it is absent."""
        masks = (np.isin(label_map, labels) for labels in self.classes)
        return [
            betti_numbers(mask, connectivity=self.connectivity) if mask.any() else None
            for mask in masks
        ]


def check_one_label_map(segmentation: NDArray) -> None:
    """Raises ValueError where nnU-Net has preprocessed several channels as the labels of a case."""
    if len(segmentation) > 1:
        raise ValueError(
            f"its preprocessed labels have {len(segmentation)} channels: the label file contains "
            "more than one label map, such as a colour image"
        )


@functools.cache
def damage_by_augmentation(
    labels: TrainingLabels, rotation: tuple[float, float], in_slices: bool
) -> tuple[float, ...]:
    """Returns how often nnU-Net's rotation and scaling change the Betti numbers of each class.

    Label maps are cut to at most 512 x 512 or 64 x 64 x 64 voxels around a random voxel of the
    foreground. They are then rotated and scaled as in training, but on a canvas that holds the
    whole result, so what is counted was torn or joined, not cut off. The share refers to label maps
    that were augmented; nnU-Net leaves 64 % of its patches unchanged. NaN for a class that was
    never drawn. Every call returns the same.

    Args:
        labels: of the training cases.
        rotation: range of the angles, as nnU-Net chose it.
        in_slices: whether a volume is augmented slice by slice, nnU-Net's dummy 2D augmentation.
    """
    changed, drawn = np.zeros(len(labels.classes)), np.zeros(len(labels.classes))
    p_rotation, p_scaling = 0.2, 0.2  # nnU-Net's
    augmented = 1 - (1 - p_rotation) * (1 - p_scaling)
    with _own_random_numbers() as rng:
        for case in rng.choice(labels.cases, _DRAWS):
            before = _random_part(labels, case, rng)
            if before is None:
                continue
            rotates = rng.random() < p_rotation / augmented
            scales = not rotates or rng.random() < p_scaling
            after = _augmented(before, rotation, rotates, scales, in_slices)
            pairs = zip(labels.betti_numbers(before), labels.betti_numbers(after), strict=True)
            for i, (of_before, of_after) in enumerate(pairs):
                if of_before is not None:
                    drawn[i] += 1
                    changed[i] += of_before != of_after
    with np.errstate(invalid="ignore"):
        return tuple((changed / drawn).tolist())


def _random_part(
    labels: TrainingLabels, case: str, rng: np.random.Generator
) -> NDArray[np.int16] | None:
    """Returns a part of a case around a random voxel of the foreground, without empty margins."""
    label_map = labels.label_map(case)
    foreground = np.argwhere(np.isin(label_map, np.concatenate(labels.classes)))
    if len(foreground) == 0:
        return None
    centre = foreground[rng.integers(len(foreground))]
    if labels.space == 2:
        label_map, centre = label_map[centre[0]], centre[1:]
    half = _LARGEST[labels.space] // 2
    box = tuple(slice(max(0, c - half), c + half) for c in centre)
    part = label_map[box]
    occupied = np.argwhere(np.isin(part, np.concatenate(labels.classes)))
    return part[tuple(map(slice, occupied.min(0), occupied.max(0) + 1))]


def _augmented(
    label_map: NDArray[np.int16],
    rotation: tuple[float, float],
    rotates: bool,
    scales: bool,
    in_slices: bool,
) -> NDArray[np.int16]:
    """Returns a label map after nnU-Net's rotation and scaling, on a canvas that holds it all."""
    image = torch.from_numpy(label_map)
    channels = image if in_slices else image[None]
    smallest, largest = 0.7, 1.4  # nnU-Net's; a scale below 1 makes larger
    side = int(np.ceil(np.hypot.reduce(channels.shape[1:]) / smallest)) + 2
    transform = SpatialTransform(
        (side,) * (channels.ndim - 1),
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=float(rotates),
        rotation=rotation,
        p_scaling=float(scales),
        scaling=(smallest, largest),
        p_synchronize_scaling_across_axes=1,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    # The image is resampled as well: a single channel is enough.
    result = transform(image=channels[:1].float(), segmentation=channels)
    moved = result["segmentation"].numpy().reshape(-1, *[side] * (channels.ndim - 1))
    return moved if in_slices else moved[0]


@contextmanager
def _own_random_numbers() -> Iterator[np.random.Generator]:
    """Seeds NumPy with a fixed number, and restores the state of the training afterwards."""
    state = np.random.get_state()  # noqa: NPY002 # nnU-Net's augmentation draws from it
    np.random.seed(0)  # noqa: NPY002
    try:
        yield np.random.default_rng(0)
    finally:
        np.random.set_state(state)  # noqa: NPY002
