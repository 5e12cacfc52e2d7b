"""The persistence engine against gudhi, cripser and a plain sort of the voxels, in one thread."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cripser
import numpy as np
from gudhi import CubicalComplex

from benchmarks.inputs import KINDS, probabilities, worst_cases
from benchmarks.memory import peak_kilobytes
from benchmarks.timing import Comparison, compare
from nnunet_topo.topology import persistence_pairs

CLAMPS = {"a": (0.0,), "b": (0.0, 0.001, 0.01), "c": (0.0, 0.001, 0.01)}
RUNS = {"ours": 9, "gudhi": 2, "cripser": 3, "np.argsort": 5}


def synthetic(shapes: list[tuple[int, ...]]) -> Iterator[Comparison]:
    """Yields exact and clamped diagrams with voxels, all dimensions, both connectivities."""
    for shape in shapes:
        size = "x".join(map(str, shape))
        for kind in KINDS:
            image = probabilities(shape, kind)
            for connectivity in ("face", "full"):
                # The others have no clamp, so they are timed once, on the exact image.
                others = other_engines(image, connectivity)
                for clamp in CLAMPS[kind]:
                    sides = {"ours": ours(image, connectivity, clamp)}
                    name = f"{size} {kind} {connectivity} clamp {clamp:g}"
                    yield compare(name, sides | others, RUNS)


def maps(folder: Path) -> Iterator[Comparison]:
    """Yields the foreground channels of nnU-Net's .npz probabilities of a folder."""
    for file in sorted(folder.glob("*.npz")):
        for channel, image in enumerate(np.load(file)["probabilities"][1:], start=1):
            image = np.ascontiguousarray(image, np.float32)
            name = f"{file.stem} label {channel} {'x'.join(map(str, image.shape))}"
            for clamp in (0.0, 0.01):
                sides = {"ours": ours(image, "full", clamp)} | other_engines(image, "full")
                yield compare(f"{name} clamp {clamp:g}", sides, RUNS)


def hard(shape: tuple[int, ...]) -> Iterator[Comparison]:
    """Yields worst cases against white noise of the same shape."""
    cases = worst_cases(shape)
    for connectivity in ("face", "full"):
        noise = ours(cases["white noise"], connectivity, 0.0)
        for name, image in cases.items():
            if name != "white noise":
                sides = {name: ours(image, connectivity, 0.0), "white noise": noise}
                yield compare(f"{name} {connectivity}", sides, dict.fromkeys(sides, 3))


def threads(shape: tuple[int, ...]) -> Comparison:
    """Returns the times for four images in one thread and in two threads."""
    images = [probabilities(shape, "b", seed) for seed in range(4)]
    call = {count: ThreadPoolExecutor(count) for count in (1, 2)}
    sides = {
        f"{count} threads": (lambda pool=pool: list(pool.map(persistence_pairs, images)))
        for count, pool in reversed(call.items())
    }
    return compare("four images", sides, dict.fromkeys(sides, 5))


def peak_memory_mb(shape: tuple[int, ...], connectivity: str) -> float:
    """Returns how much a call adds to the memory of this process at its peak; only on Linux."""
    image = probabilities(shape, "b")
    persistence_pairs(image[:9, :9, :9], connectivity=connectivity)
    return peak_kilobytes(lambda: persistence_pairs(image, connectivity=connectivity)) / 1e3


def ours(image: np.ndarray, connectivity: str, clamp: float) -> Callable[[], object]:
    """Returns a call of the engine."""
    return lambda: persistence_pairs(image, connectivity=connectivity, clamp=clamp)


def other_engines(image: np.ndarray, connectivity: str) -> dict[str, Callable[[], object]]:
    """Returns calls of other engines, bare and with their voxels, and of a sort."""
    negated = -image.astype(np.float64)

    def gudhi() -> object:
        if connectivity == "full":
            complex_ = CubicalComplex(top_dimensional_cells=negated.T)
        else:
            complex_ = CubicalComplex(vertices=negated.T)
        complex_.compute_persistence(homology_coeff_field=2, min_persistence=0)
        if connectivity == "full":
            return complex_.cofaces_of_persistence_pairs()
        return complex_.vertices_of_persistence_pairs()

    construction = "T" if connectivity == "full" else "V"
    return {
        "gudhi": gudhi,
        "cripser": lambda: cripser.compute_ph(
            negated, maxdim=image.ndim - 1, filtration=construction
        ),
        "np.argsort": lambda: np.argsort(image, axis=None),
    }
