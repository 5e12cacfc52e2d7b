"""Persistence pairs of the superlevel sets of an image, as voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike, NDArray

Connectivity = Literal["full", "face"]
NO_VOXEL = -1


@dataclass(frozen=True, slots=True)
class PersistencePairs:
    """The bars of an image as critical voxels.

    Attributes:
        dimension: homology dimension of each bar.
        birth: flat C-order index of the voxel at whose value the bar begins.
        death: flat C-order index of the voxel at whose value it ends, -1 for the essential class.
    """

    dimension: Int64[np.ndarray, " bars"]
    birth: Int64[np.ndarray, " bars"]
    death: Int64[np.ndarray, " bars"]

    def diagram(self, image: ArrayLike, dimension: int) -> Float[np.ndarray, "bars 2"]:
        """Returns births and deaths in one dimension; the essential class dies at 0.

        Args:
            image: the image that the pairs are of, raised to the clamp if there was one.
            dimension: homology dimension.
        """
        values = np.asarray(image, dtype=np.float64).ravel()
        chosen = self.dimension == dimension
        birth, death = self.birth[chosen], self.death[chosen]
        return np.stack([values[birth], np.where(death == NO_VOXEL, 0.0, values[death])], axis=1)


def persistence_pairs(
    image: ArrayLike,
    *,
    connectivity: Connectivity = "full",
    dimensions: Sequence[int] | None = None,
    clamp: float = 0.0,
    engine: Literal["gudhi"] = "gudhi",
) -> PersistencePairs:
    """Returns the bars of the superlevel sets of an image, over F2, with their critical voxels.

    Bars of length 0 are left out. Where values are equal, which voxel of a plateau is named is
    not defined; its value is. Index selection carries no gradient: gather the values yourself.

    Args:
        image: finite values, 2D or 3D, `[y, x]` or `[z, y, x]`, any real type and any strides;
            computed in float64, so nothing is rounded.
        connectivity: "full", foreground 8- / 26-connected (T-construction), or "face",
            foreground 4- / 6-connected (V-construction).
        dimensions: the homology dimensions wanted, default all.
        clamp: values below it are raised to it first, which moves no bar by more than `clamp`
            and drops the noise of the background. Where nothing exceeds it the maximum of the
            image still names the essential class.
        engine: what computes; all engines give the same diagrams.

    Returns:
        The pairs. Exactly one has no death voxel, unless the image is empty: the essential class
        of dimension 0, born at the maximum.

    Raises:
        ValueError: wrong number of dimensions, complex or non-finite values, unknown names.
    """
    values = np.asarray(image)
    if values.ndim not in (2, 3):
        raise ValueError(f"image must be 2D or 3D, got shape {values.shape}")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"image must hold real numbers, got {values.dtype}")
    if not np.isfinite(values).all():
        raise ValueError("image must be finite, got NaN or infinite values")
    check_connectivity(connectivity)
    wanted = check_dimensions(dimensions, values.ndim)
    if engine != "gudhi":
        raise ValueError(f"engine must be 'gudhi', got {engine!r}")
    if values.size == 0:
        return _pairs([])
    if values.dtype.kind == "f":  # in the image's own precision, as the caller clamps it
        clamp = float(values.dtype.type(clamp))
    values = values.astype(np.float64)
    peak = np.unravel_index(values.argmax(), values.shape)
    values = np.maximum(values, clamp)
    box = _box_above_minimum(values, peak)
    return _to_whole_image(_gudhi_pairs(values[box], connectivity, wanted), box, values.shape)


def check_connectivity(connectivity: str) -> None:
    """Raises ValueError unless the name is one of the two connectivities."""
    if connectivity not in get_args(Connectivity):
        raise ValueError(f"connectivity must be 'full' or 'face', got {connectivity!r}")


def check_dimensions(dimensions: Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Returns the homology dimensions in order, all of them for None; ValueError on others."""
    if dimensions is None:
        return tuple(range(ndim))
    if not set(dimensions) <= set(range(ndim)):
        raise ValueError(
            f"dimensions must lie in 0..{ndim - 1} for a {ndim}D image, got {tuple(dimensions)}"
        )
    return tuple(sorted(set(dimensions)))


def _box_above_minimum(values: NDArray[np.float64], peak: tuple[np.intp, ...]) -> tuple[slice, ...]:
    """Returns the bounding box of all that lies above the minimum, of the peak if nothing does.

    Every superlevel set above the minimum lies in the box, and at the minimum box and image are
    both contractible: the box has the same diagrams.
    """
    above = values > values.min()
    if not above.any():
        return tuple(slice(int(index), int(index) + 1) for index in peak)
    box = []
    for axis in range(values.ndim):
        others = tuple(other for other in range(values.ndim) if other != axis)
        occupied = np.flatnonzero(above.any(axis=others))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)


def _gudhi_pairs(
    values: NDArray[np.float64], connectivity: Connectivity, dimensions: tuple[int, ...]
) -> PersistencePairs:
    """Computes the sublevel sets of the negated image with gudhi's cubical complex.

    gudhi numbers voxels in Fortran order; handed the transposed array, in C order.
    """
    from gudhi import CubicalComplex  # heavy: imported when a term is first computed

    negated = -values.T
    if connectivity == "full":
        complex_ = CubicalComplex(top_dimensional_cells=negated)
        voxels = complex_.cofaces_of_persistence_pairs
    else:
        complex_ = CubicalComplex(vertices=negated)
        voxels = complex_.vertices_of_persistence_pairs
    complex_.compute_persistence(homology_coeff_field=2, min_persistence=0)
    finite, essential = voxels()
    bars: list[tuple[int, Any]] = [
        (k, pairs) for k, pairs in enumerate(finite) if k in dimensions and len(pairs)
    ]
    if 0 in dimensions:
        bars.append((0, [(int(essential[0][0]), NO_VOXEL)]))
    return _pairs(bars)


def _pairs(bars: list[tuple[int, Any]]) -> PersistencePairs:
    """Joins (dimension, voxel pairs) of several dimensions."""
    voxels = np.array([pair for _, pairs in bars for pair in pairs], dtype=np.int64).reshape(-1, 2)
    dimension = np.repeat([k for k, _ in bars], [len(pairs) for _, pairs in bars]).astype(np.int64)
    return PersistencePairs(dimension, voxels[:, 0].copy(), voxels[:, 1].copy())


def _to_whole_image(
    pairs: PersistencePairs, box: tuple[slice, ...], shape: tuple[int, ...]
) -> PersistencePairs:
    """Translates voxel indices of the box into those of the image."""
    box_shape = tuple(side.stop - side.start for side in box)

    def translate(voxel: NDArray[np.int64]) -> NDArray[np.int64]:
        inside = np.unravel_index(np.maximum(voxel, 0), box_shape)
        whole = tuple(index + side.start for index, side in zip(inside, box, strict=True))
        return np.where(voxel == NO_VOXEL, NO_VOXEL, np.ravel_multi_index(whole, shape))

    return PersistencePairs(pairs.dimension, translate(pairs.birth), translate(pairs.death))
