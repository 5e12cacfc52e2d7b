"""Betti numbers and Euler characteristic of a mask, by counting."""

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnunet_topo.topology.masks import (
    as_foreground,
    crop_to_foreground,
    dual,
    label_components,
    neighbours,
)
from nnunet_topo.topology.persistence import Connectivity


def betti_numbers(mask: ArrayLike, *, connectivity: Connectivity = "full") -> tuple[int, ...]:
    """Returns (beta0, beta1) of a 2D mask, (beta0, beta1, beta2) of a 3D mask.

    Components, loops or handles, and cavities of the foreground. The outside counts as background,
    so a structure that touches the border is counted like any other. An empty mask has all zeros.
    beta0 and the highest number are counted as components of foreground and background (Alexander
    duality), beta1 in 3D follows from the Euler characteristic.

    Args:
        mask: 2D or 3D; non-zero is foreground.
        connectivity: "full", foreground 8- / 26-connected and background 4- / 6-connected, or
            "face", the reverse.

    Raises:
        ValueError: wrong number of dimensions, NaN, unknown connectivity.
    """
    (foreground,) = crop_to_foreground(as_foreground(mask, connectivity))
    if not foreground.size:
        return (0,) * foreground.ndim
    components = label_components(foreground, connectivity)[1]
    background = ~np.pad(foreground, 1)
    enclosed = label_components(background, dual(connectivity))[1] - 1  # minus the outside
    if foreground.ndim == 2:
        return components, enclosed
    euler = euler_characteristic(foreground, connectivity=connectivity)
    return components, components + enclosed - euler, enclosed


def euler_characteristic(mask: ArrayLike, *, connectivity: Connectivity = "full") -> int:
    """Returns the alternating sum of the Betti numbers of a mask, 0 for an empty one.

    Counted as the alternating sum of the cells: of the closed unit cubes of the foreground
    ("full"), or of the complex whose vertices are the foreground voxels ("face").

    Args:
        mask: 2D or 3D; non-zero is foreground.
        connectivity: as for `betti_numbers`.

    Raises:
        ValueError: wrong number of dimensions, NaN, unknown connectivity.
    """
    return euler_of_corners(corner_codes(as_foreground(mask, connectivity)), connectivity)


def corner_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Returns which of the voxels around each corner of the grid are foreground, as bits.

    The array has one more place along each axis than there are voxels. The bit of a voxel is the
    binary number of its place, 0 or 1 along each axis, the last axis least: voxel (1, 0, 1) has bit
    5. The code is 0 without foreground around a corner, and 15 (2D) or 255 (3D) without background.
    """
    codes = np.pad(mask, 1).view(np.uint8)
    for axis in range(mask.ndim):
        lower, upper = neighbours(codes, mask.ndim - 1 - axis)
        codes = lower | upper << np.uint8(1 << axis)
    return codes


def euler_of_corners(codes: NDArray[np.uint8], connectivity: Connectivity) -> int:
    """Returns the Euler characteristic of a mask from its `corner_codes`."""
    inside = 2 ** (2**codes.ndim) - 1  # as many cells of one sign as of the other
    occurrences = np.bincount(codes[(codes > 0) & (codes < inside)], minlength=inside + 1)
    share = _euler_of_corner(codes.ndim, connectivity)
    return int(occurrences @ share) >> codes.ndim


@cache
def _euler_of_corner(ndim: int, connectivity: Connectivity) -> NDArray[np.int64]:
    """Returns for each code the part of the Euler characteristic at a corner, times 2^ndim.

    A cell belongs to as many corners as it has. A cell that spans no axis lies at all corners of a
    voxel; a cell that spans all axes lies in the midst of the voxels around one corner.
    """
    share = np.zeros(2 ** (2**ndim), np.int64)
    bits = np.arange(2**ndim).reshape((2,) * ndim)
    for code in range(len(share)):
        around = (code >> bits & 1).astype(bool)
        for spans in product((False, True), repeat=ndim):
            cells = around
            for axis, spanned in enumerate(spans):
                if spanned:
                    lower, upper = neighbours(cells, axis)
                    cells = lower | upper if connectivity == "full" else lower & upper
            # "full": a cell that spans an axis is a face between cubes, so the cubes span no axis.
            dimension = ndim - sum(spans) if connectivity == "full" else sum(spans)
            number = int(np.count_nonzero(cells)) * 2 ** sum(spans)
            share[code] += (-1) ** dimension * number
    return share
