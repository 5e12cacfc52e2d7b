"""Boxes that contain all foreground and little else."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology.masks import Box, foreground_box

_WORTH_A_SPLIT = 50_000  # voxels whose metrics take as long as one more box


def split_into_boxes(mask: NDArray[np.bool_]) -> list[Box]:
    """Returns boxes that hold the foreground of a mask, with background between any two.

    An empty plane separates any two boxes, so no component, hole or cavity lies in more than one,
    and Betti numbers of the boxes add up. A mask is only split if that saves work.
    """
    box = foreground_box(mask)
    cropped = mask[box]
    if cropped.size == 0:
        return []
    parts = max(_splits(cropped), key=lambda parts: _saved(cropped.size, parts), default=[])
    if not parts or _saved(cropped.size, parts) <= 0:
        return [box]
    return [
        shift(shift(inner, part), box)
        for part in parts
        for inner in split_into_boxes(cropped[part])
    ]


def _splits(mask: NDArray[np.bool_]) -> Iterator[list[Box]]:
    """Yields for each axis the parts between the empty planes across it."""
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        gaps = np.flatnonzero(np.diff(occupied) > 1)
        if not len(gaps):
            continue
        begins = occupied[np.append(0, gaps + 1)]
        ends = occupied[np.append(gaps, -1)] + 1
        parts = []
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            part = [slice(0, side) for side in mask.shape]
            part[axis] = slice(begin, end)
            parts.append(shift(foreground_box(mask[tuple(part)]), tuple(part)))
        yield parts


def _saved(voxels: int, parts: list[Box]) -> int:
    return voxels - sum(map(_voxels, parts)) - _WORTH_A_SPLIT * (len(parts) - 1)


def _voxels(box: Box) -> int:
    return int(np.prod([side.stop - side.start for side in box]))


def shift(box: Box, by: Box) -> Box:
    """Returns where in an image a box of a part of it is, given where that part is."""
    return tuple(
        slice(side.start + outer.start, side.stop + outer.start)
        for side, outer in zip(box, by, strict=True)
    )
