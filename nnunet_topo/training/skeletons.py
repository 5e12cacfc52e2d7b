"""Skeletons of the targets, made beside nnU-Net's augmentation and packed into bits.

A skeleton takes as long as the rest of a small training step, so the workers make it, after all
transforms. It travels as one more label map, whose bits are the masks of the skeletons.
"""

from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nnunet_topo.topology import Connectivity, thin
from nnunet_topo.topology.tubes import tube_around_lines

PACKED = torch.uint8  # nnU-Net's targets are int16 or bool: no label map is mistaken for skeletons
_BITS = 8


@dataclass(frozen=True, slots=True)
class Skeletons:
    """The skeletons of a batch, on one scale.

    Attributes:
        tube: tubed skeletons, `[batch, channel, *space]`, None if they were not made.
        lines: centre lines, likewise.
    """

    tube: Tensor | None
    lines: Tensor | None


@dataclass(frozen=True, slots=True)
class TargetSkeletons:
    """Which skeletons are made of nnU-Net's targets.

    Classes that exclude one another share the tubed skeleton of their union, as Skeleton Recall was
    published, and each has its own centre line. One bit a voxel holds either of them. Regions have
    a bit each. Ignored voxels are background.

    Attributes:
        regions: their number, 0 for classes that exclude one another.
        labels: foreground labels of such classes.
        tubes: whether tubed skeletons are made.
        lines: whether centre lines are made.
        connectivity: of the foreground.
    """

    regions: int
    labels: tuple[int, ...]
    tubes: bool
    lines: bool
    connectivity: Connectivity = "full"

    @classmethod
    def of_manager(
        cls, manager: LabelManager, *, tubes: bool, lines: bool, connectivity: Connectivity
    ) -> "TargetSkeletons":
        """Returns the skeletons of the labels or regions that nnU-Net manages."""
        regions = len(manager.foreground_regions) if manager.has_regions else 0
        return cls(regions, tuple(manager.foreground_labels), tubes, lines, connectivity)

    def or_none(self) -> "TargetSkeletons | None":
        """Returns None if there is nothing to make."""
        return self if self.tubes or self.lines else None

    def pack(self, target: Tensor) -> Tensor:
        """Returns the skeletons of a sample, `[bytes, *space]`.

        Args:
            target: nnU-Net's on full resolution, `[channel, *space]`: a label map, or regions
                [+ ignore], which contain no ignored voxel.
        """
        maps = target.numpy()
        if self.regions:
            masks = list(maps[: self.regions] > 0)
            bits = [self._tube(mask) for mask in masks] if self.tubes else []
            bits += [self._lines(mask) for mask in masks] if self.lines else []
        else:
            present = [label for label in np.unique(maps[0]).tolist() if label in self.labels]
            bits = [self._tube(np.isin(maps[0], present))] if self.tubes else []
            if self.lines:
                parts = [self._lines(maps[0] == label) for label in present]
                bits.append(np.any(parts, axis=0) if parts else np.zeros(maps[0].shape, bool))
        return torch.from_numpy(np.packbits(np.stack(bits), axis=0, bitorder="little"))

    def unpack(self, packed: Tensor, one_hot: Tensor) -> Skeletons:
        """Returns the skeletons of a batch on one of nnU-Net's scales.

        A coarse scale takes the nearest voxel of full resolution, as nnU-Net's label maps do.

        Args:
            packed: `[batch, bytes, *space]`, of full resolution.
            one_hot: targets of the scale, `[batch, channel, *space]`, without background.
        """
        if packed.shape[2:] != one_hot.shape[2:]:
            space = one_hot.shape[2:]
            packed = functional.interpolate(packed.float(), space, mode="nearest-exact").to(PACKED)
        of_kind = self.regions or 1  # bits

        def masks(first: int) -> Tensor:
            bits = [
                (packed[:, bit // _BITS] >> bit % _BITS) & 1
                for bit in range(first, first + of_kind)
            ]
            return torch.stack(bits, dim=1).bool() & one_hot

        return Skeletons(
            masks(0) if self.tubes else None,
            masks(of_kind if self.tubes else 0) if self.lines else None,
        )

    def _tube(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return tube_around_lines(mask, connectivity=self.connectivity)

    def _lines(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return thin(mask, connectivity=self.connectivity)
