"""Persistence pairs of the superlevel sets of an image, as voxels."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import floor, isfinite
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike, NDArray

Connectivity = Literal["full", "face"]
Engine = Literal["numba", "gudhi", "cripser"]
NO_VOXEL = -1
_FLOAT32_WHOLE, _FLOAT64_WHOLE = 2**24, 2**53  # whole numbers up to these are exact


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
        """Returns births and deaths in one dimension, as float64.

        The essential class dies at 0, or at the minimum of an image that has values below 0.

        Args:
            image: the image of the pairs, raised to the clamp if there was one.
            dimension: homology dimension.

        Raises:
            ValueError: whole numbers beyond 2**53 that float64 does not hold. Take them from the
                image yourself: `image.ravel()[pairs.birth]`.
        """
        values = np.asarray(image).ravel()
        chosen = self.dimension == dimension
        birth, death = self.birth[chosen], self.death[chosen]
        births = _as_float64(values[birth])
        deaths = np.zeros(len(death))
        dies = death != NO_VOXEL
        deaths[dies] = _as_float64(values[death[dies]])
        if not dies.all():
            deaths[~dies] = min(0.0, float(_as_float64(values.min(keepdims=True))[0]))
        return np.stack([births, deaths], axis=1)


def persistence_pairs(
    image: ArrayLike,
    *,
    connectivity: Connectivity = "full",
    dimensions: Sequence[int] | None = None,
    clamp: float | None = None,
    engine: Engine = "numba",
) -> PersistencePairs:
    """Returns the bars of the superlevel sets of an image, over F2, with their critical voxels.

    Bars of length 0 are left out. If several voxels of a plateau have the same value, it is not
    defined which of them is returned, but every run returns the same one, and its value is defined.
    Components that reach the same maximum return a voxel each. A loop that is born at the maximum
    of a volume, or dies at its minimum, may have any voxel of that value. Index selection carries
    no gradient: gather the values yourself.

    "numba" takes 16 bytes per voxel of the padded image, which each thread keeps for its next call,
    and about 30 bytes per critical cell. It releases the GIL, and threads may call it in parallel.

    Args:
        image: finite values, 2D or 3D, `[y, x]` or `[z, y, x]`, of any sign, real type, byte order
            and strides. Nothing is rounded: values that float32 does not hold, such as whole
            numbers beyond 2**24, are replaced by their ranks first, which takes as long as a sort.
        connectivity: "full", foreground 8- / 26-connected (T-construction), or "face",
            foreground 4- / 6-connected (V-construction).
        dimensions: the wanted homology dimensions, default all.
        clamp: None changes nothing. Otherwise values below this number are raised to it first. No
            bar of a probability moves by more than `clamp`, and the noise of the background
            disappears. If no value exceeds the clamp, the essential class still names the maximum
            of the image.
        engine: the implementation; all give the same diagrams. "cripser" must be installed
            separately.

    Returns:
        The pairs. Exactly one has no death voxel, unless the image is empty: the essential class
        of dimension 0, born at the maximum.

    Raises:
        ValueError: wrong number of dimensions, complex or non-finite values, a clamp that is not
            finite, unknown names.
        ImportError: cripser is not installed.
    """
    values = check_image(image)
    check_connectivity(connectivity)
    wanted = check_dimensions(dimensions, values.ndim)
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be one of {get_args(Engine)}, got {engine!r}")
    lowest = lowest_value(values, clamp)
    if values.size == 0:
        return _pairs([])
    peak = int(values.argmax())
    if values.flat[peak].item() <= lowest:
        return _pairs([(0, [(peak, NO_VOXEL)])] if 0 in wanted else [])
    bars = _ENGINES[engine](values, values.dtype.type(lowest), connectivity, wanted)
    pairs = _pairs(bars)
    if 0 in wanted and not (pairs.death == NO_VOXEL).any():
        pairs = _pairs([*bars, (0, [(peak, NO_VOXEL)])])
    return pairs


def check_image(image: ArrayLike) -> NDArray[Any]:
    """Returns a 2D or 3D image of finite real numbers, booleans as bytes; ValueError for others."""
    values = np.asarray(image)
    if values.ndim not in (2, 3):
        raise ValueError(f"image must be 2D or 3D, got shape {values.shape}")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"image must have real numbers, got {values.dtype}")
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    # NaN and infinities show in the least and the greatest value.
    if (
        values.dtype.kind == "f"
        and values.size
        and not (np.isfinite(values.min()) and np.isfinite(values.max()))
    ):
        raise ValueError("image must be finite, got NaN or infinite values")
    return values


def lowest_value(values: NDArray[Any], clamp: float | None) -> float:
    """Returns the least value that an image has, once it is raised to a clamp; 0 if it is empty.

    Raises:
        ValueError: a clamp that is no finite number.
    """
    if clamp is not None and not _is_finite_number(clamp):
        raise ValueError(f"clamp must be a finite number, or None for none, got {clamp!r}")
    if values.size == 0:
        return 0
    minimum = values.min().item()
    return minimum if clamp is None else max(minimum, _in_type(clamp, values.dtype))


def check_connectivity(connectivity: str) -> None:
    """Raises ValueError unless the name is one of the two connectivities."""
    if connectivity not in get_args(Connectivity):
        raise ValueError(f"connectivity must be 'full' or 'face', got {connectivity!r}")


def check_dimensions(dimensions: Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Returns the homology dimensions in order, all of them for None; ValueError on others."""
    if dimensions is None:
        return tuple(range(ndim))
    dimensions = tuple(dimensions)  # a generator can be read only once
    if not set(dimensions) <= set(range(ndim)):
        raise ValueError(
            f"dimensions must lie in 0..{ndim - 1} for a {ndim}D image, got {dimensions}"
        )
    return tuple(sorted(set(dimensions)))


def _is_finite_number(clamp: Any) -> bool:
    try:
        return isfinite(clamp)
    except (TypeError, ValueError, OverflowError):
        return False


def _in_type(clamp: float, dtype: np.dtype[Any]) -> float:
    """Returns a clamp as the image's type has it: rounded, or the whole number below.

    A clamp between two whole numbers divides an image of whole numbers like the lower of the two.
    """
    if dtype.kind != "f":
        return floor(clamp)
    with np.errstate(over="ignore"):  # above the largest value of the type
        return float(dtype.type(clamp))


def _as_float64(values: NDArray[Any]) -> NDArray[np.float64]:
    """Returns values in float64, the type of a diagram."""
    converted = values.astype(np.float64)
    if values.dtype.kind in "iu" and (np.abs(converted) >= _FLOAT64_WHOLE).any():
        for whole, rounded in zip(values.tolist(), converted.tolist(), strict=True):
            if whole != int(rounded):
                raise ValueError(
                    f"a diagram is in float64, which does not hold {whole}: take births and deaths "
                    "from the image itself, image.ravel()[pairs.birth], or subtract a constant"
                )
    return converted


# Dimensions, and the (birth, death) voxels of their bars.
_Bars = list[tuple[int, Any]]


def _numba_pairs(
    values: NDArray[Any], lowest: Any, connectivity: Connectivity, wanted: tuple[int, ...]
) -> _Bars:
    """Computes with the package's own engine, see `_cubical`."""
    compile_once(values.ndim, connectivity)
    return _cubical_pairs(values, lowest, connectivity, wanted)


def _cubical_pairs(
    values: NDArray[Any], lowest: Any, connectivity: Connectivity, wanted: tuple[int, ...]
) -> _Bars:
    from nnunet_topo.topology import _cubical  # numba: heavy, imported when a term is computed
    from nnunet_topo.topology._cubical2d import cubical_pairs_2d
    from nnunet_topo.topology._cubical3d import cubical_pairs_3d

    planar, dual, top = values.ndim == 2, connectivity == "full", values.ndim - 1
    keys, least = ordered_integers(values[None] if planar else values, lowest)
    # Each superlevel set above the floor lies in this box. At the floor both are contractible.
    box = _cubical.box_above(keys, least)
    grid = _cubical.make_grid(keys, box, floor=least, planar=planar, dual=dual)
    engine = cubical_pairs_2d if planar else cubical_pairs_3d
    bars: _Bars = []
    for pairs in engine(grid, {top - k if dual else k for k in wanted}):
        created = _cubical.to_image(pairs.created, grid, keys.shape)
        destroyed = _cubical.to_image(pairs.destroyed, grid, keys.shape)
        if dual:  # what the shell itself creates is the essential class, which has no death voxel
            bars.append((top - pairs.dimension, np.stack([destroyed, created], axis=1)))
        else:
            bars.append((pairs.dimension, np.stack([created, destroyed], axis=1)))
    return bars


_compiling = threading.Lock()


def compile_once(ndim: int, connectivity: Connectivity) -> None:
    """Calls the engine on a small image first, so that compilation is announced and done once."""
    with _compiling:
        _compile(ndim, connectivity)


@cache
def _compile(ndim: int, connectivity: Connectivity) -> None:
    from nnunet_topo.topology._kernel import first_use_announced

    image = np.arange(3**ndim, dtype=np.float32).reshape((3,) * ndim) % 5
    dimensions = tuple(range(ndim))
    with first_use_announced(f"the persistence engine for {ndim}D", f"_cubical{ndim}d"):
        _cubical_pairs(image, image.min(), connectivity, dimensions)


def ordered_integers(values: NDArray[Any], lowest: Any) -> tuple[NDArray[np.int32], int]:
    """Returns integers in the order of the values, and the one of the lowest value that counts.

    The bits of a float32 are in its order, reversed for negative ones; what float32 cannot hold is
    replaced by ranks. What lies below the lowest, and -0.0, may come out anywhere below it.
    """
    with np.errstate(over="ignore"):  # a value that became infinite is replaced by its rank
        narrow = np.require(values, np.float32, ["C", "W"])
    if not _is_exact(narrow, values, lowest):
        ranks = _ranks(values, lowest)
        return ranks.astype(np.int32), 0
    bits = narrow.view(np.int32)
    least = np.float32(lowest)
    if least > lowest:
        least = np.nextafter(least, np.float32(-np.inf))
    least = least + np.float32(0)  # never -0.0
    if least >= 0:
        return bits, int(least.view(np.int32))
    magnitudes = np.where(bits < 0, np.int32(-(2**31)) - bits, bits)
    return magnitudes, int(np.int32(-(2**31)) - least.view(np.int32))


def _is_exact(narrow: NDArray[np.float32], values: NDArray[Any], lowest: Any) -> bool:
    """Returns whether float32 holds all values from the lowest on."""
    if values.dtype.kind == "f":
        return values.dtype.itemsize <= 4 or np.array_equal(narrow, values)
    # Comparing would not do: NumPy converts 64-bit whole numbers to float64 first.
    return _hold_whole(values, lowest, _FLOAT32_WHOLE)


def _hold_whole(values: NDArray[Any], lowest: Any, most: int) -> bool:
    return int(lowest) >= -most and int(values.max()) <= most


def _ranks(values: NDArray[Any], lowest: Any) -> NDArray[np.int64]:
    """Returns the rank of each value, 0 for all up to the lowest."""
    _, ranks = np.unique(np.maximum(values, lowest), return_inverse=True)
    return ranks.reshape(values.shape)


def _as_levels(values: NDArray[Any], lowest: Any) -> NDArray[np.float64]:
    """Returns the values, raised to the lowest, for an engine of float64, or their ranks."""
    if values.dtype.kind == "f":
        is_exact = values.dtype.itemsize <= 8
    else:
        is_exact = _hold_whole(values, lowest, _FLOAT64_WHOLE)
    levels = np.maximum(values, lowest) if is_exact else _ranks(values, lowest)
    return levels.astype(np.float64)


def _gudhi_pairs(
    values: NDArray[Any], lowest: Any, connectivity: Connectivity, wanted: tuple[int, ...]
) -> _Bars:
    """Computes the sublevel sets of the negated image with gudhi's cubical complex.

    gudhi numbers voxels in Fortran order; handed the transposed array, in C order.
    """
    from gudhi import CubicalComplex

    negated = -_as_levels(values, lowest).T
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
    values: NDArray[Any], lowest: Any, connectivity: Connectivity, wanted: tuple[int, ...]
) -> _Bars:
    """Computes with cripser, which we only use for comparison because of its licence."""
    import cripser  # pyright: ignore[reportMissingImports]

    negated = -_as_levels(values, lowest)
    construction = "T" if connectivity == "full" else "V"
    found = cripser.compute_ph(negated, filtration=construction)  # leaves out bars of length 0
    found = found[np.isfinite(found[:, 2])]
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
