"""Betti matching against plain persistence of the same image, and against its authors' code."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from time import process_time

import numpy as np

from benchmarks.inputs import probabilities, structures
from benchmarks.memory import peak_kilobytes
from benchmarks.timing import Comparison, compare
from nnunet_topo.topology import Connectivity, betti_numbers, match_betti, persistence_pairs
from tests.matching_cases import authors_module

SEEDS = (0, 5)  # masks without and with loops at 128^3
CLAMPS = (0.0, 0.01)
RUNS = {"ours": 5, "plain persistence": 5, "authors": 1}
SLOW = 128**3  # voxels above which the authors' code is not run, and ours once


def against_plain(shapes: list[tuple[int, ...]]) -> Iterator[Comparison]:
    """Yields exact and clamped matchings of maps in mid-training: processor time, one thread.

    The authors' code has face connectivity and no clamp, so it is run once for each image. It is
    left out where it is not installed, and for more than 128^3 voxels.
    """
    for shape in shapes:
        for seed in SEEDS:
            image = probabilities(shape, "b", seed)
            mask = structures(np.random.default_rng(seed), shape)
            is_slow = image.size > SLOW
            others = {} if is_slow else authors(image, mask)
            theirs = compare("", others, RUNS, process_time).timings
            runs = dict.fromkeys(RUNS, 1) if is_slow else RUNS
            for connectivity in ("face", "full"):
                betti = ", ".join(map(str, betti_numbers(mask, connectivity=connectivity)))
                for clamp in CLAMPS:
                    sides = _ours(image, mask, connectivity, clamp)
                    name = f"{'x'.join(map(str, shape))} ({betti}) {connectivity} clamp {clamp:g}"
                    ours = compare(name, sides, runs, process_time)
                    yield replace(ours, timings=ours.timings + theirs)


def _ours(
    image: np.ndarray, mask: np.ndarray, connectivity: Connectivity, clamp: float
) -> dict[str, Callable[[], object]]:
    return {
        "ours": lambda: match_betti(image, mask, connectivity=connectivity, clamp=clamp),
        "plain persistence": lambda: persistence_pairs(
            image, connectivity=connectivity, clamp=clamp
        ),
    }


def authors(image: np.ndarray, mask: np.ndarray) -> dict[str, Callable[[], object]]:
    """Returns a call of the authors' code, in superlevel sets as their loss makes them."""
    module = authors_module()
    if module is None:
        return {}
    images = [1 - image.astype(np.float64)], [1 - mask.astype(np.float64)]
    return {"authors": lambda: module.compute_matching(*images)}


def peak_memory_mb(shape: tuple[int, ...], connectivity: Connectivity) -> float:
    """Returns how much a call adds to the memory of this process at its peak; only on Linux."""
    image, mask = probabilities(shape, "b", SEEDS[1]), structures(np.random.default_rng(5), shape)
    part = (slice(9),) * len(shape)
    match_betti(image[part], np.ones_like(mask[part]), connectivity=connectivity)
    return peak_kilobytes(lambda: match_betti(image, mask, connectivity=connectivity)) / 1e3
