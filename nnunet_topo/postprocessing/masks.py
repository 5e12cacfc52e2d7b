"""What the steps do to one mask, in physical units.

All functions take the same connectivity of the foreground; that of the background is its dual.
What lies beyond the array is background, and joins whatever background touches the border.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.masks import Box, dual, foreground_box, label_components

Mask = NDArray[np.bool_]

ROUNDING = 1e-6
"""Share by which a size or a distance may be off, as 0.1 * 3 is off 0.3."""


def close_gaps(
    mask: Mask,
    may_take: Mask,
    radius: float,
    spacing: NDArray[np.float64],
    connectivity: Connectivity,
) -> Mask:
    """Returns a mask with those parts of its closing that join different components.

    Args:
        mask: 2D or 3D.
        may_take: voxels that may be added; a part of the closing ends at others.
        radius: of the ball of the closing, in the unit of the spacing.
        spacing: size of a voxel along each axis.
        connectivity: of the mask, and of the parts that are added.
    """
    box = foreground_box(mask)
    inner = mask[box]
    components, number = label_components(inner, connectivity)
    if number < 2:
        return mask
    reach = radius * (1 + ROUNDING)
    width = [(int(reach / side) + 2,) * 2 for side in spacing]
    sampling = spacing.tolist()
    grown = ndimage.distance_transform_edt(~np.pad(inner, width), sampling=sampling) <= reach
    closed = ndimage.distance_transform_edt(grown, sampling=sampling) > reach
    inside = tuple(slice(before, -after) for before, after in width)
    parts, added = label_components(closed[inside] & ~inner & may_take[box], connectivity)
    joined = mask.copy()
    joined[box] |= _joins(parts, added, components, connectivity)[parts]
    return joined


def _joins(
    parts: NDArray[np.int32],
    number: int,
    components: NDArray[np.int32],
    connectivity: Connectivity,
) -> Mask:
    """Returns for each part, from 0 for none, whether it touches two components or more."""
    around = [np.pad(labels, 1).ravel() for labels in (parts, components)]
    strides = np.array(np.pad(parts, 1).strides) // parts.itemsize
    voxels = np.flatnonzero(around[0])
    part = around[0][voxels].astype(np.int64)
    base = int(components.max(initial=0)) + 1
    touching = [np.zeros(0, np.int64)]
    for step in product((-1, 0, 1), repeat=parts.ndim):
        if connectivity == "face" and sum(map(abs, step)) != 1:
            continue
        component = around[1][voxels + int(strides @ step)]
        touching.append(part[component > 0] * base + component[component > 0])
    pairs = np.unique(np.concatenate(touching))
    return np.bincount(pairs // base, minlength=number + 1) >= 2


def fill_holes(
    mask: Mask, may_take: Mask, largest: float, voxel: float, connectivity: Connectivity
) -> Mask:
    """Returns a mask with its small holes filled, in 3D its small cavities.

    Args:
        mask: 2D or 3D.
        may_take: voxels that may be added; others in a hole stay as they are, and count as part of
            its size.
        largest: size of the largest hole that is filled, in the unit of the voxel.
        voxel: size of a voxel.
        connectivity: of the mask.
    """
    box = foreground_box(mask)
    regions, number = label_components(~np.pad(mask[box], 1), dual(connectivity))
    if number < 2:
        return mask
    sizes = np.bincount(regions.ravel(), minlength=number + 1) * voxel
    is_small = sizes <= largest * (1 + ROUNDING)
    is_small[[0, regions.flat[0]]] = False  # the mask, and what is around it
    filled = mask.copy()
    filled[box] |= is_small[regions][(slice(1, -1),) * mask.ndim] & may_take[box]
    return filled


def box_around(*masks: Mask) -> Box:
    """Returns the smallest box around the foreground of all masks, one voxel if there is none."""
    box = foreground_box(*masks)
    return box if all(side.stop > side.start for side in box) else (slice(0, 1),) * len(box)


def is_kept(
    sizes: NDArray[np.float64], remove_below: float | None, keep_largest: int | None
) -> Mask:
    """Returns which components stay, of equally large ones the first.

    Args:
        sizes: of each component.
        remove_below: the smallest size that stays, None for any.
        keep_largest: how many stay, None for all.
    """
    kept = np.ones(len(sizes), bool)
    if remove_below is not None:
        kept &= sizes >= remove_below * (1 - ROUNDING)
    if keep_largest is not None:
        kept[np.argsort(-sizes, kind="stable")[keep_largest:]] = False
    return kept


def measure_components(
    mask: Mask, voxel: float, connectivity: Connectivity
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Returns the components of a mask as labels from 1, and their sizes.

    Args:
        mask: 2D or 3D.
        voxel: size of a voxel.
        connectivity: of the mask.
    """
    labels, number = label_components(mask, connectivity)
    voxels = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    return labels, voxels.astype(np.float64) * voxel
