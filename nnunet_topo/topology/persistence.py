"""Persistence pairs of the superlevel sets of an image, as voxels."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike, NDArray

Connectivity = Literal["full", "face"]
Engine = Literal["numba", "gudhi", "cripser"]
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
    engine: Engine = "numba",
) -> PersistencePairs:
    """Returns the bars of the superlevel sets of an image, over F2, with their critical voxels.

    Bars of length 0 are left out. Where values are equal, which voxel of a plateau is named is
    not defined, but it is the same in each run; its value is defined. A loop that is born at the
    maximum of a volume, or dies at its minimum, may name any voxel of that value. Index selection
    carries no gradient: gather the values yourself.

    "numba" takes 16 bytes per voxel of padded image, kept by each thread for its next call, and
    about 30 per critical cell; the GIL is free meanwhile, and calls in several threads are safe.

    Args:
        image: finite values, 2D or 3D, `[y, x]` or `[z, y, x]`, any real type and any strides.
            Nothing is rounded: values of more than 32 bits are replaced by their ranks first,
            which takes as long as a sort.
        connectivity: "full", foreground 8- / 26-connected (T-construction), or "face",
            foreground 4- / 6-connected (V-construction).
        dimensions: the homology dimensions wanted, default all.
        clamp: values below it are raised to it first, which moves no bar by more than `clamp`
            and drops the noise of the background. Where nothing exceeds it the maximum of the
            image still names the essential class.
        engine: what computes; all engines give the same diagrams. "cripser" only if it is
            installed.

    Returns:
        The pairs. Exactly one has no death voxel, unless the image is empty: the essential class
        of dimension 0, born at the maximum.

    Raises:
        ValueError: wrong number of dimensions, complex or non-finite values, unknown names.
        ImportError: cripser is not installed.
    """
    values = np.asarray(image)
    if values.ndim not in (2, 3):
        raise ValueError(f"image must be 2D or 3D, got shape {values.shape}")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"image must hold real numbers, got {values.dtype}")
    check_connectivity(connectivity)
    wanted = check_dimensions(dimensions, values.ndim)
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be one of {get_args(Engine)}, got {engine!r}")
    if values.size == 0:
        return _pairs([])
    peak = int(values.argmax())
    minimum, maximum = values.min(), values.ravel()[peak]
    if not np.isfinite(minimum) or not np.isfinite(maximum):
        raise ValueError("image must be finite, got NaN or infinite values")
    if values.dtype.kind == "f":  # in the image's own precision, as the caller clamps it
        clamp = float(values.dtype.type(clamp))
    if maximum <= clamp or maximum == minimum:
        return _pairs([(0, [(peak, NO_VOXEL)])] if 0 in wanted else [])
    floor = max(clamp, float(minimum))
    bars = _ENGINES[engine](values, floor, connectivity, wanted)
    if 0 in wanted:
        bars.append((0, [(peak, NO_VOXEL)]))
    return _pairs(bars)


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


# Dimensions, and the (birth, death) voxels of their bars.
_Bars = list[tuple[int, Any]]


def _numba_pairs(
    values: NDArray[Any], floor: float, connectivity: Connectivity, wanted: tuple[int, ...]
) -> _Bars:
    """Computes with the package's own engine, see `_cubical`."""
    _compile_once(values.ndim, connectivity)
    return _cubical_pairs(values, floor, connectivity, wanted)


def _cubical_pairs(
    values: NDArray[Any], floor: float, connectivity: Connectivity, wanted: tuple[int, ...]
) -> _Bars:
    from nnunet_topo.topology import _cubical  # numba: heavy, imported when a term is computed
    from nnunet_topo.topology._cubical2d import cubical_pairs_2d
    from nnunet_topo.topology._cubical3d import cubical_pairs_3d

    planar, dual, top = values.ndim == 2, connectivity == "full", values.ndim - 1
    keys, least = _ordered_integers(values[None] if planar else values, floor)
    # Each superlevel set above the floor lies in this box, and at the floor both are contractible.
    box = _cubical.box_above(keys, least)
    grid = _cubical.make_grid(keys, box, floor=least, planar=planar, dual=dual)
    engine = cubical_pairs_2d if planar else cubical_pairs_3d
    bars: _Bars = []
    for pairs in engine(grid, {top - k if dual else k for k in wanted}):
        created = _cubical.to_image(pairs.created, grid, keys.shape)
        destroyed = _cubical.to_image(pairs.destroyed, grid, keys.shape)
        if dual:
            in_image = created != NO_VOXEL  # else it is the shell's own class, the essential one
            bars.append(
                (top - pairs.dimension, np.stack([destroyed[in_image], created[in_image]], axis=1))
            )
        else:
            bars.append((pairs.dimension, np.stack([created, destroyed], axis=1)))
    return bars


_compiling = threading.Lock()


def _compile_once(ndim: int, connectivity: Connectivity) -> None:
    """Calls the engine on a small image first, so that to compile it is announced and done once."""
    with _compiling:
        _compile(ndim, connectivity)


@cache
def _compile(ndim: int, connectivity: Connectivity) -> None:
    from nnunet_topo.topology._kernel import despite_a_full_disk, first_use_announced

    image = np.arange(3**ndim, dtype=np.float32).reshape((3,) * ndim) % 5
    dimensions = tuple(range(ndim))
    with first_use_announced(f"the persistence engine for {ndim}D", f"_cubical{ndim}d"):
        despite_a_full_disk(lambda: _cubical_pairs(image, 0.0, connectivity, dimensions))


def _ordered_integers(values: NDArray[Any], floor: float) -> tuple[NDArray[np.int32], int]:
    """Returns integers in the order of the values, and the one of the floor.

    The bits of a float32 are in its order, reversed for negative ones; what float32 cannot hold is
    replaced by ranks. -0.0 may come out below the floor.
    """
    narrow = np.require(values, np.float32, ["C", "W"])
    if narrow.dtype != values.dtype and not np.array_equal(narrow, values):
        _, ranks = np.unique(np.maximum(values, floor), return_inverse=True)
        return ranks.reshape(values.shape).astype(np.int32), 0
    bits = narrow.view(np.int32)
    lowest = np.float32(floor) + np.float32(0)  # never -0.0
    if lowest >= 0:
        return bits, int(lowest.view(np.int32))
    magnitudes = np.where(bits < 0, np.int32(-(2**31)) - bits, bits)
    return magnitudes, int(np.int32(-(2**31)) - lowest.view(np.int32))


def _gudhi_pairs(
    values: NDArray[Any], floor: float, connectivity: Connectivity, wanted: tuple[int, ...]
) -> _Bars:
    """Computes the sublevel sets of the negated image with gudhi's cubical complex.

    gudhi numbers voxels in Fortran order; handed the transposed array, in C order.
    """
    from gudhi import CubicalComplex

    negated = -np.maximum(values.astype(np.float64), floor).T
    if connectivity == "full":
        complex_ = CubicalComplex(top_dimensional_cells=negated)
        voxels = complex_.cofaces_of_persistence_pairs
    else:
        complex_ = CubicalComplex(vertices=negated)
        voxels = complex_.vertices_of_persistence_pairs
    complex_.compute_persistence(homology_coeff_field=2, min_persistence=0)
    finite, _ = voxels()
    return [(k, pairs) for k, pairs in enumerate(finite) if k in wanted]


def _cripser_pairs(
    values: NDArray[Any], floor: float, connectivity: Connectivity, wanted: tuple[int, ...]
) -> _Bars:
    """Computes with cripser, whose licence allows no more than a comparison."""
    import cripser  # pyright: ignore[reportMissingImports]

    negated = -np.maximum(values.astype(np.float64), floor)
    construction = "T" if connectivity == "full" else "V"
    found = cripser.compute_ph(negated, maxdim=values.ndim - 1, filtration=construction)
    found = found[np.isfinite(found[:, 2]) & (found[:, 1] < found[:, 2])]
    axes = slice(3, 3 + values.ndim), slice(6, 6 + values.ndim)
    birth, death = (
        np.ravel_multi_index(tuple(found[:, place].astype(int).T), values.shape) for place in axes
    )
    pairs = np.stack([birth, death], axis=1)
    return [(k, pairs[found[:, 0] == k]) for k in wanted]


_ENGINES = {"numba": _numba_pairs, "gudhi": _gudhi_pairs, "cripser": _cripser_pairs}


def _pairs(bars: _Bars) -> PersistencePairs:
    """Joins (dimension, voxel pairs) of several dimensions."""
    voxels = [np.asarray(pairs, dtype=np.int64).reshape(-1, 2) for _, pairs in bars]
    dimension = np.repeat([k for k, _ in bars], [len(pairs) for pairs in voxels]).astype(np.int64)
    birth, death = np.concatenate([np.empty((0, 2), np.int64), *voxels]).T.copy()
    return PersistencePairs(dimension, birth, death)
