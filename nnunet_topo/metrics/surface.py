"""Distances between the surfaces of two masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import gamma, pi

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray
from scipy.spatial import KDTree

from nnunet_topo.topology.betti import corner_codes

ROUNDING = 1e-6  # of the tolerance: files hold spacings as float32, 0.2 mm as 0.200000003
_STEPS = 1500  # places around a point to look at, nearest first, before a search tree does


@dataclass(frozen=True, slots=True)
class Surface:
    """The surface of a mask, or of a part of it.

    Attributes:
        voxels: indices of the voxels with a face on the background or on the border of the image.
        corners: indices of the corners of the grid between foreground and background.
        codes: which of the voxels around each of these corners are foreground.
    """

    voxels: Int[np.ndarray, "voxels axis"]
    corners: Int[np.ndarray, "corners axis"]
    codes: UInt8[np.ndarray, " corners"]


def find_surface(mask: Bool[np.ndarray, " *space"], offset: Sequence[int]) -> Surface:
    """Returns the surface of a mask whose first voxel has the index `offset`."""
    padded = np.pad(mask, 1)
    interior = mask.copy()
    for axis in range(mask.ndim):
        beside = [slice(1, -1)] * mask.ndim
        for beside[axis] in (slice(None, -2), slice(2, None)):
            interior &= padded[tuple(beside)]
    codes = corner_codes(mask)
    corners = np.flatnonzero((codes > 0) & (codes < _all_inside(mask.ndim)))
    return Surface(
        _indices(np.flatnonzero(mask & ~interior), mask.shape) + offset,
        _indices(corners, codes.shape) + offset,
        codes.ravel()[corners],
    )


def _indices(places: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Returns the same as `numpy.argwhere`, much faster."""
    return np.stack(np.unravel_index(places, shape), axis=1)


def compare_surfaces(
    p: Sequence[Surface],
    r: Sequence[Surface],
    spacing_mm: Float[np.ndarray, " axis"],
    tolerance_mm: float | int,
) -> dict[str, float]:
    """Returns Hausdorff distance and normalised surface distance, of masks that are not empty.

    - `topo_hd95_mm`: the 95th percentile of the distances from the surface voxels of one mask to
      those of the other, the larger of the two directions; each voxel counts once, and its distance
      is that of the centres.
    - `topo_nsd`: the share of both surfaces that lies within the tolerance of the other, by area;
      in an image by length. The surface consists of an element at each corner of the grid between
      foreground and background, and distances are those of corners.
      Nikolov et al.: Clinically Applicable Segmentation of Head and Neck Anatomy. JMIR 2021.

    Args:
        p: surface of the prediction, in parts.
        r: surface of the reference.
        spacing_mm: size of a voxel along each axis.
        tolerance_mm: what exceeds it by no more than rounding counts as within.
    """
    voxels = [np.concatenate([part.voxels for part in parts]) for parts in (p, r)]
    hd95 = max(
        float(np.percentile(distances(a, b, spacing_mm), 95)) for a, b in (voxels, voxels[::-1])
    )
    corners = [np.concatenate([part.corners for part in parts]) for parts in (p, r)]
    size_of = surfel_sizes(spacing_mm)
    sizes = [size_of[np.concatenate([part.codes for part in parts])] for parts in (p, r)]
    within = tolerance_mm * (1 + ROUNDING)
    near = [
        float(size[distances(a, b, spacing_mm) <= within].sum())
        for size, a, b in zip(sizes, corners, corners[::-1], strict=True)
    ]
    return {"topo_hd95_mm": hd95, "topo_nsd": sum(near) / sum(float(size.sum()) for size in sizes)}


def distances(
    points: Int[np.ndarray, "points axis"],
    others: Int[np.ndarray, "others axis"],
    spacing_mm: Float[np.ndarray, " axis"],
) -> Float[np.ndarray, " points"]:
    """Returns how far each point is from the nearest of the others, in mm; there must be one.

    Most surfaces of a prediction are near those of the reference. Searching the places around a
    point, nearest first, takes a tenth of the time of a search tree, which finds the rest.
    """
    from nnunet_topo.topology._nearest import first_occupied  # numba: heavy

    steps, lengths = _steps_by_length(tuple(spacing_mm.tolist()))
    margin = steps.max(axis=0)
    first = np.minimum(points.min(axis=0), others.min(axis=0)) - margin
    shape = np.maximum(points.max(axis=0), others.max(axis=0)) + margin - first + 1
    grid = np.zeros(shape, np.uint8)
    grid[tuple((others - first).T)] = 1
    strides = np.array(grid.strides)
    found = first_occupied(grid.ravel(), (points - first) @ strides, steps @ strides)
    nearest = lengths[found]
    far = found < 0
    if far.any():
        tree = KDTree(others * spacing_mm, balanced_tree=False, compact_nodes=False)
        nearest[far] = tree.query(points[far] * spacing_mm)[0]
    return nearest


@cache
def _steps_by_length(
    spacing_mm: tuple[float, ...],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns all steps on the grid up to some length, the shortest first, and their lengths."""
    ndim, spacing = len(spacing_mm), np.array(spacing_mm)
    unit_ball = pi ** (ndim / 2) / gamma(ndim / 2 + 1)
    radius = (_STEPS * float(spacing.prod()) / unit_ball) ** (1 / ndim)
    reach = (radius / spacing).astype(int)
    steps = np.indices(2 * reach + 1).reshape(ndim, -1).T - reach
    lengths = np.sqrt(((steps * spacing) ** 2).sum(axis=1))
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius]
    return steps[order], lengths[order]


def surfel_sizes(spacing_mm: Float[np.ndarray, " axis"]) -> Float[np.ndarray, " codes"]:
    """Returns the area (2D: length) of the surface around a corner in mm, by its code."""
    ndim = len(spacing_mm)
    scale = spacing_mm if ndim == 2 else spacing_mm.prod() / spacing_mm
    return np.sqrt(((_surfels(ndim) * scale) ** 2).sum(axis=-1)).sum(axis=-1)


@cache
def _surfels(ndim: int) -> Float[np.ndarray, "codes elements axis"]:
    """Returns the surface around a corner, by its code: normals as long as areas, or segments.

    Segments and triangles join the midpoints between foreground and background: marching cubes as
    Lorensen and Cline published them. If more than half of the voxels are inside, the surface is
    that of the others, as in the `surface-distance` package.
    """
    elements = np.zeros((_all_inside(ndim) + 1, 4, ndim))
    for code in range(1, _all_inside(ndim)):
        fewer = min(code, _all_inside(ndim) - code, key=int.bit_count)
        around = (fewer >> np.arange(2**ndim) & 1).reshape((2,) * ndim)
        found = _segments(around) if ndim == 2 else _normals(around)
        elements[code, : len(found)] = found
    return elements


def _segments(square: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the segments between the inside and the outside of four pixels."""
    if square.sum() == 1:
        return np.array([[0.5, 0.5]])
    if square[0, 0] == square[1, 1]:
        return np.array([[0.5, 0.5], [0.5, 0.5]])
    return np.array([[0.0, 1.0] if square[0, 0] == square[0, 1] else [1.0, 0.0]])


def _normals(cube: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the normals of the triangles between the inside and the outside of eight voxels."""
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(cube.astype(float), 0.5, method="lorensen")
    triangles = vertices[faces].astype(np.float64)
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]) / 2


def _all_inside(ndim: int) -> int:
    """Returns the code of a corner without background."""
    return 2 ** (2**ndim) - 1
