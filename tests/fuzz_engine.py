"""Compares the engine with gudhi on random images until the time is over.

Usage: python tests/fuzz_engine.py MINUTES [SEED]

Prints what was compared. An image on which they differ is written to fuzz_SEED_TRIAL.npy in the
current folder, and the exit status is 1.
"""

import sys
import time
from collections import Counter

import numpy as np
from scipy.ndimage import gaussian_filter

from nnunet_topo.topology import persistence_pairs


def draw(rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Returns a kind of image and one of them, 2D or 3D, with sides from 1."""
    sides = rng.integers(1, rng.choice([5, 13, 24]), 3) if rng.random() < 0.7 else None
    shape = tuple(sides) if sides is not None else tuple(rng.integers(1, 40, 2))
    noise = rng.random(shape)
    smooth = gaussian_filter(rng.standard_normal(shape), rng.uniform(0.5, 2))
    smooth = (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-9)
    kinds = {
        "white noise": lambda: noise,
        "distinct ranks": lambda: rng.permutation(noise.size).reshape(shape) + 1.0,
        "few levels": lambda: rng.integers(0, rng.integers(2, 9), shape) / 8,
        "flat background": lambda: np.maximum(noise - rng.random(), 0),
        "saturated": lambda: np.clip(rng.uniform(1, 5) * (noise - 0.5) + 0.5, 0, 1),
        "smooth": lambda: smooth,
        "smooth, saturated": lambda: np.clip(4 * smooth - 1.5, 0, 1),
        "smooth, few levels": lambda: np.round(smooth * 6) / 6,
        "mask": lambda: noise < rng.random(),
        "smooth mask": lambda: smooth > 0.5,
    }
    kind = list(kinds)[rng.integers(len(kinds))]
    dtype = [np.float32, np.float64, np.float16][rng.integers(3)]
    return kind, kinds[kind]().astype(np.float64 if kind == "distinct ranks" else dtype)


def bars(image: np.ndarray, engine: str, **options) -> tuple[set, list[np.ndarray]]:
    """Returns the bars as voxels, and the sorted diagrams."""
    pairs = persistence_pairs(image, engine=engine, **options)
    raised = np.maximum(image, image.dtype.type(options["clamp"]))
    diagrams = [pairs.diagram(raised, k) for k in range(image.ndim)]
    voxels = set(zip(pairs.dimension.tolist(), pairs.birth, pairs.death, strict=True))
    return voxels, [diagram[np.lexsort(diagram.T)] for diagram in diagrams]


def agree(kind: str, image: np.ndarray, **options) -> bool:
    """Whether both engines give the same; the same voxels where values are distinct."""
    voxels, diagrams = bars(image, "numba", **options)
    expected_voxels, expected = bars(image, "gudhi", **options)
    same = all(np.array_equal(a, b) for a, b in zip(diagrams, expected, strict=True))
    if kind == "distinct ranks":
        same = same and voxels == expected_voxels
    chosen = int(options["clamp"] * 100) % image.ndim
    one = persistence_pairs(image, dimensions=[chosen], **options)
    one = set(zip(one.dimension.tolist(), one.birth, one.death, strict=True))
    return same and one == {bar for bar in voxels if bar[0] == chosen}


def main(minutes: float, seed: int) -> int:
    """Runs for some minutes."""
    rng = np.random.default_rng(seed)
    counts, total, wrong = Counter(), 0, 0
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        kind, image = draw(rng)
        clamp = float(rng.choice([0, 0, 0.01, rng.random()]))
        for connectivity in ("full", "face"):
            total += 1
            counts[f"{kind}, {image.ndim}D"] += 1
            if not agree(kind, image, connectivity=connectivity, clamp=clamp):
                wrong += 1
                np.save(f"fuzz_{seed}_{total}.npy", image)
                print(f"DIFFERENT: {kind}, {image.shape}, {connectivity}, clamp {clamp}")
    for name, count in sorted(counts.items()):
        print(f"{count:8d}  {name}")
    print(f"{total} diagrams compared with gudhi in {minutes:g} minutes, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
