"""Matching in space: what descent from cut components and displaced rings gives.

Usage: python -m tests.acceptance.term_matching [TRIALS]    default 200, about 10 minutes
"""

import sys

import numpy as np
import torch
from scipy.ndimage import label

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.topology import betti_numbers
from tests.descent import TWO_BARS, cut, descend, logit
from tests.shapes import distance_to_circle, distance_to_sphere

SHAPES = {"ring": (26, 28), "sphere": (19, 19, 21), "torus": (9, 21, 23)}
RADII = {"ring": 8.5, "sphere": 6.5, "torus": 7.0}
WIDTHS, PEAKS, TIMES = (1.2, 2.0, 3.0), (0.4, 0.9), 10


def main(trials: int) -> None:
    """Prints both tables."""
    torch.set_num_threads(1)
    loss = WassersteinLoss(clamp=0.01)
    for shape in TWO_BARS:
        results = [_after_cut(shape, seed, loss) for seed in range(trials)]
        erased = sum(whole < 2 for whole, _ in results)
        matching_error = sum(error for _, error in results) / trials
        print(
            f"cut components, {len(shape)}D, {trials} trials: a correct component erased in "
            f"{erased}, components wrong by {matching_error:.2f} in the mean",
            flush=True,
        )
    for name, shape in SHAPES.items():
        for peak in PEAKS:
            counts = [
                sum(_ring_repaired(name, shape, width, peak, seed, loss) for seed in range(TIMES))
                for width in WIDTHS
            ]
            cells = ", ".join(
                f"{n} of {TIMES} ({width:g})" for n, width in zip(counts, WIDTHS, strict=True)
            )
            print(f"displaced {name} of p = {peak:g}: repaired {cells} (width)", flush=True)


def _after_cut(shape, seed, loss) -> tuple[int, int]:
    """Returns how many target components are left, and by how many components the result errs."""
    target, logits, components = cut(shape, np.random.default_rng(seed))
    result = descend(loss, torch.from_numpy(logits), torch.from_numpy(target)).numpy() > 0
    left = sum((result & component).any() for component in components)
    pieces = label(result, np.ones((3,) * len(shape)))[1]
    return left, abs(pieces - 2) + 2 * (2 - left) * (pieces == 2)


def _ring_repaired(name, shape, width, peak, seed, loss) -> bool:
    """Returns whether a blurred structure beside the true one gets the target's Betti numbers."""
    rng = np.random.default_rng(seed)
    shift = rng.standard_normal(len(shape))
    shift *= width / 2 / np.linalg.norm(shift)
    target = _distance(name, shape, np.zeros(len(shape))) <= max(width / 2, 0.6)
    p = peak * np.exp(-((_distance(name, shape, shift) / (width / 2)) ** 2) / 1.5)
    logits = logit(p.clip(min=1e-4)) + 0.3 * rng.standard_normal(shape)
    result = descend(loss, torch.from_numpy(logits), torch.from_numpy(target)).numpy() > 0
    return betti_numbers(result) == betti_numbers(target)


def _distance(name, shape, shift):
    """Returns the distance of each voxel to a circle, a sphere, or the circle within a torus."""
    distance = distance_to_sphere if name == "sphere" else distance_to_circle
    return distance(shape, RADII[name], shift)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
