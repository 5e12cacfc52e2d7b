"""Thinning of masks to lines and surfaces that keep the Betti numbers."""

import threading
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nnunet_topo.topology.masks import as_foreground
from nnunet_topo.topology.persistence import Connectivity


def is_simple(mask: ArrayLike, *, connectivity: Connectivity = "full") -> NDArray[np.bool_]:
    """Returns the foreground voxels that can each be removed without changing the topology.

    Args:
        mask: 2D or 3D; what is non-zero is foreground. The outside is background.
        connectivity: of the foreground, as for `betti_numbers`.

    Raises:
        ValueError: wrong number of dimensions, NaN, unknown connectivity.
    """
    foreground = as_foreground(mask, connectivity)
    simple = np.zeros(foreground.size, bool)
    if foreground.any():
        kernels = _kernels()
        image = kernels.padded(foreground)
        voxels = kernels.foreground_of(image)
        row_and_plane = kernels.steps(image.shape)
        found = kernels.simple_voxels(image.ravel(), voxels, *row_and_plane, connectivity == "face")
        simple[np.flatnonzero(foreground)] = found
    return simple.reshape(foreground.shape)


def thin(mask: ArrayLike, *, connectivity: Connectivity = "full") -> NDArray[np.bool_]:
    """Returns the centre lines of a mask: a part of it with the same Betti numbers.

    Simple voxels are removed in order of their distance from the background, and the ends of curves
    stay. Tubes and plates become lines, and balls become a point or a few short spikes. An object
    with a cavity becomes a surface. Each component keeps at least one voxel, and an empty mask
    gives an empty result.

    Args:
        mask: 2D or 3D; what is non-zero is foreground. The outside is background.
        connectivity: of the foreground, as for `betti_numbers`.

    Raises:
        ValueError: wrong number of dimensions, NaN, unknown connectivity.
    """
    foreground = as_foreground(mask, connectivity)
    if not foreground.any():
        return foreground.copy()
    kernels = _kernels()
    image = kernels.padded(foreground)
    # Looking up the nearest background voxel takes a third of the memory of a distance map.
    nearest = ndimage.distance_transform_edt(
        image & kernels.ITSELF, return_distances=False, return_indices=True
    )
    voxels = kernels.foreground_of(image)
    squares = np.zeros(len(voxels), np.int64)
    for axis, places in enumerate(np.unravel_index(voxels, image.shape)):
        squares += (places - nearest[axis].ravel()[voxels]) ** 2
    order = np.argsort(squares, kind="stable")
    begin = np.flatnonzero(np.diff(squares[order], prepend=-1))
    layers = np.append(begin, len(voxels))
    kernels.thin_in_order(
        image.ravel(), voxels[order], layers, *kernels.steps(image.shape), connectivity == "face"
    )
    return _without_margin(image, foreground)


def thin_by_lee(
    mask: NDArray[np.bool_], *, sides: int = 6
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Returns the skeleton of a volume by Lee, Kashyap and Chu, and where it lost topology.

    The skeleton equals `skimage.morphology.skeletonize(mask, method="lee")`, voxel by voxel, and is
    computed in a fraction of the time. The second array lists the places `[voxel, axis]` of voxels
    that were removed though they were not simple (26-connected). If it is empty, the skeleton has
    the Betti numbers of the mask.
    Lee, Kashyap, Chu: Building Skeleton Models via 3-D Medial Surface/Axis Thinning Algorithms.
    CVGIP: Graphical Models and Image Processing 1994.

    Args:
        mask: 3D.
        sides: 6, or 4 as in scikit-image for a volume of one slice of the first axis.
    """
    if not mask.any():
        return mask.copy(), np.empty((0, 3), np.int64)
    kernels = _kernels()
    image = kernels.padded(mask)
    row, plane = kernels.steps(image.shape)
    toward = np.array([-row, row, 1, -1, plane, -plane][:sides])  # the order is scikit-image's
    voxels = kernels.foreground_of(image)
    faults = kernels.thin_by_lee(image.ravel(), voxels, row, plane, toward)
    places = np.stack(np.unravel_index(faults, image.shape), axis=1) - 1
    return _without_margin(image, mask), places


def _without_margin(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    left = image[1:-1, 1:-1, 1:-1] & _kernels().ITSELF
    return left.astype(bool).reshape(mask.shape)


_compiling = threading.Lock()


def _kernels() -> Any:
    """Returns the module of the kernels, compiled once, and announced."""
    from nnunet_topo.topology import _thinning  # numba: heavy, imported when something is thinned

    with _compiling:
        _compile()
    return _thinning


@cache
def _compile() -> None:
    from nnunet_topo.topology import _thinning
    from nnunet_topo.topology._kernel import first_use_announced

    def call() -> None:
        image = _thinning.padded(np.ones((2, 2, 2), bool))
        voxels, layers = _thinning.foreground_of(image), np.array([0, 8])
        row_and_plane = _thinning.steps(image.shape)
        _thinning.simple_voxels(image.ravel(), voxels, *row_and_plane, True)
        _thinning.thin_by_lee(image.ravel(), voxels, *row_and_plane, np.array([1]))
        _thinning.thin_in_order(image.ravel(), voxels, layers, *row_and_plane, True)

    with first_use_announced("thinning", "_thinning"):
        call()
