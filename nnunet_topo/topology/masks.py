"""Masks: as booleans, their components, and the boxes around them."""

from typing import Literal

import cc3d
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nnunet_topo.topology.persistence import Connectivity, check_connectivity

Box = tuple[slice, ...]
"""The part of an array between two corners."""

_NUMBER_OF_NEIGHBOURS: dict[tuple[int, Connectivity], Literal[4, 6, 8, 26]] = {
    (2, "full"): 8,
    (2, "face"): 4,
    (3, "full"): 26,
    (3, "face"): 6,
}


def as_booleans(mask: ArrayLike) -> NDArray[np.bool_]:
    """Returns where a mask is not zero.

    Raises:
        ValueError: it contains NaN, which is neither foreground nor background.
    """
    values = np.asarray(mask)
    if values.dtype.kind in "fc" and np.isnan(values).any():
        raise ValueError("a mask must not contain NaN")
    return values.astype(bool)


def as_foreground(mask: ArrayLike, connectivity: Connectivity) -> NDArray[np.bool_]:
    """Returns a mask as booleans.

    Raises:
        ValueError: wrong number of dimensions, NaN, unknown connectivity.
    """
    foreground = as_booleans(mask)
    if foreground.ndim not in (2, 3):
        raise ValueError(f"mask must be 2D or 3D, got shape {foreground.shape}")
    check_connectivity(connectivity)
    return foreground


def as_masks(
    prediction: ArrayLike, reference: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns two masks that can be compared.

    Raises:
        ValueError: wrong or different shapes, NaN.
    """
    p, g = as_booleans(prediction), as_booleans(reference)
    if p.shape != g.shape or p.ndim not in (2, 3):
        raise ValueError(
            "prediction and reference must be 2D or 3D and of the same shape, got "
            f"{p.shape} and {g.shape}"
        )
    return p, g


def label_components(
    mask: NDArray[np.bool_], connectivity: Connectivity
) -> tuple[NDArray[np.int32], int]:
    """Returns the components of a mask as labels from 1, 0 elsewhere, and their number."""
    if min(mask.shape) < 2:  # connected-components-3d 4.1 fails for these
        reach = mask.ndim if connectivity == "full" else 1
        structure = ndimage.generate_binary_structure(mask.ndim, reach)
        labels = np.zeros(mask.shape, np.int32)
        return labels, int(ndimage.label(mask, structure, output=labels))  # pyright: ignore[reportArgumentType] # the number alone, where labels have a place
    # As bytes in C order: with other layouts or booleans that version mislabels some 2D images.
    labels, number = cc3d.connected_components(
        np.ascontiguousarray(mask).view(np.uint8),
        connectivity=_NUMBER_OF_NEIGHBOURS[mask.ndim, connectivity],
        return_N=True,
        out_dtype=np.uint32,
    )
    return labels.view(np.int32), number


def dual(connectivity: Connectivity) -> Connectivity:
    """Returns the connectivity of the background."""
    return "face" if connectivity == "full" else "full"


def foreground_box(*masks: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Returns the smallest box that holds the foreground of all masks; empty if there is none."""
    box = []
    for axis in range(masks[0].ndim):
        others = tuple(other for other in range(masks[0].ndim) if other != axis)
        occupied = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        ends = (int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else (0, 0)
        box.append(slice(*ends))
    return tuple(box)


def crop_to_foreground(*masks: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], ...]:
    """Returns the masks in the smallest box that holds the foreground of all; empty if none."""
    box = foreground_box(*masks)
    return tuple(mask[box] for mask in masks)


def neighbours(cells: NDArray, axis: int) -> tuple[NDArray, NDArray]:
    """Returns two views; each cell of the second follows that of the first along the axis."""
    lower = [slice(None)] * cells.ndim
    upper = [slice(None)] * cells.ndim
    lower[axis], upper[axis] = slice(None, -1), slice(1, None)
    return cells[tuple(lower)], cells[tuple(upper)]
