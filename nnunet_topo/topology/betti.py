"""Betti numbers and Euler characteristic of a mask, by counting."""

from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nnunet_topo.topology.persistence import Connectivity, check_connectivity


def betti_numbers(mask: ArrayLike, *, connectivity: Connectivity = "full") -> tuple[int, ...]:
    """Returns (beta0, beta1) of a 2D mask, (beta0, beta1, beta2) of a 3D mask.

    Components, loops or handles, and cavities of the foreground. The outside counts as background,
    so a structure that touches the border is counted like any other. An empty mask has all zeros.
    beta0 and the highest number are counted as components of foreground and background (Alexander
    duality), beta1 in 3D follows from the Euler characteristic.

    Args:
        mask: 2D or 3D; what is non-zero is foreground.
        connectivity: "full", foreground 8- / 26-connected and background 4- / 6-connected, or
            "face", the reverse.

    Raises:
        ValueError: wrong number of dimensions, unknown connectivity.
    """
    foreground = _foreground(mask, connectivity)
    components = label_components(foreground, connectivity)[1]
    background = ~np.pad(foreground, 1)
    enclosed = label_components(background, dual(connectivity))[1] - 1  # less the outside
    if foreground.ndim == 2:
        return components, enclosed
    euler = euler_characteristic(foreground, connectivity=connectivity)
    return components, components + enclosed - euler, enclosed


def euler_characteristic(mask: ArrayLike, *, connectivity: Connectivity = "full") -> int:
    """Returns the alternating sum of the Betti numbers of a mask, 0 for an empty one.

    Counted as the alternating sum of the cells: of the closed unit cubes of the foreground
    ("full"), or of the complex whose vertices are the foreground voxels ("face").

    Args:
        mask: 2D or 3D; what is non-zero is foreground.
        connectivity: as for `betti_numbers`.

    Raises:
        ValueError: wrong number of dimensions, unknown connectivity.
    """
    padded = np.pad(_foreground(mask, connectivity), 1)
    euler = 0
    for spans in product((False, True), repeat=padded.ndim):
        cells = padded
        for axis, spanned in enumerate(spans):
            if spanned:
                lower, upper = neighbours(cells, axis)
                cells = lower | upper if connectivity == "full" else lower & upper
        # "full": a cell that spans an axis is a face between cubes, so the cubes span no axis.
        dimension = padded.ndim - sum(spans) if connectivity == "full" else sum(spans)
        euler += (-1) ** dimension * int(np.count_nonzero(cells))
    return euler


def _foreground(mask: ArrayLike, connectivity: Connectivity) -> NDArray[np.bool_]:
    foreground = np.asarray(mask).astype(bool)
    if foreground.ndim not in (2, 3):
        raise ValueError(f"mask must be 2D or 3D, got shape {foreground.shape}")
    check_connectivity(connectivity)
    return foreground


def label_components(
    mask: NDArray[np.bool_], connectivity: Connectivity
) -> tuple[NDArray[np.int32], int]:
    """Returns the components of a mask as labels from 1, 0 elsewhere, and their number."""
    reach = mask.ndim if connectivity == "full" else 1
    structure = ndimage.generate_binary_structure(mask.ndim, reach)
    labels = np.zeros(mask.shape, np.int32)
    return labels, int(ndimage.label(mask, structure, output=labels))  # pyright: ignore[reportArgumentType] # the number alone, where labels have a place


def dual(connectivity: Connectivity) -> Connectivity:
    """Returns the connectivity of the background."""
    return "face" if connectivity == "full" else "full"


def neighbours(cells: NDArray, axis: int) -> tuple[NDArray, NDArray]:
    """Returns two views of which each cell of one is the next along the axis of the other."""
    lower = [slice(None)] * cells.ndim
    upper = [slice(None)] * cells.ndim
    lower[axis], upper[axis] = slice(None, -1), slice(1, None)
    return cells[tuple(lower)], cells[tuple(upper)]
