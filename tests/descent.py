"""Gradient descent on each single loss, from known errors with noise.

Usage: python -m tests.descent [TRIALS [ROW ...]]    prints a table of how many of 20 are repaired

A row is the name of a loss in the table; without one, all are printed.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_topo.losses import (
    BettiMatchingLoss,
    BettiPriorLoss,
    ClDiceLoss,
    ProjectedPoolingLoss,
    SkeletonRecallLoss,
    WassersteinLoss,
    least_confident_neighbours,
)
from nnunet_topo.topology import betti_numbers
from nnunet_topo.training.loss import SummedTerms

from .shapes import ball, distance_to_circle, ring

PLANE, SPACE = (22, 26), (11, 15, 17)
TWO_BARS = ((16, 26), (14, 6, 20))


def logit(probability):
    return np.log(probability / (1 - probability))


def broken_ring(shape):
    """A ring of one voxel's thickness, at p = 0.2 in one voxel."""
    target = ring(shape, 8.0 if len(shape) == 2 else 6.0, 0.5)
    gap = np.argwhere(target)[np.argwhere(target)[:, -1].argmax()]
    start = target.copy()
    start[tuple(gap)] = False
    return target, start, {tuple(gap): logit(0.2)}


def island(shape):
    """A voxel of p = 0.995 far from the one true structure."""
    far = (2,) * (len(shape) - 1) + (shape[-1] - 3,)
    target = ball(shape, [side // 2 for side in shape[:-1]] + [shape[-1] // 2 - 2], 3)
    return target, target, {far: logit(0.995)}


def hollow(shape):
    """A disc or ball whose centre is missing: a hole in 2D, a cavity in 3D."""
    target = ball(shape, [side // 2 for side in shape], 5)
    start = target.copy()
    start[tuple(side // 2 for side in shape)] = False
    return target, start, {}


def joined(shape):
    """Two blobs with a bridge of one voxel's thickness between them."""
    middle = [side // 2 for side in shape[:-1]]
    ends = (3, shape[-1] - 4)
    target = ball(shape, [*middle, ends[0]], 3) | ball(shape, [*middle, ends[1]], 3)
    start = target.copy()
    start[(*middle, slice(*ends))] = True
    # Without noise on the bridge, which might break it beforehand.
    bridge = {tuple(voxel): 2.0 for voxel in np.argwhere(start & ~target)}
    return target, start, bridge


def tunnel(shape):
    """A ball with a tunnel of one voxel's thickness through its centre: a handle."""
    target, _, _ = hollow(shape)
    start = target.copy()
    start[(slice(None), *(side // 2 for side in shape[1:]))] = False
    return target, start, {}


def displaced(shape):
    """A blurred thin ring, or torus, beside the true one, by half its width along the diagonal."""
    width = 2.0
    radius = 8.5 if len(shape) == 2 else 5.0
    target = distance_to_circle(shape, radius, (0.0,) * len(shape)) <= width / 2
    shift = (0.0,) * (len(shape) - 2) + (-width / 2 / np.sqrt(2),) * 2
    distance = distance_to_circle(shape, radius, shift)
    p = 0.6 * np.exp(-2 * (distance / width) ** 2)
    return target, logit(p.clip(min=1e-4)), {}


def cut_bar(shape):
    """A bar, two voxels thick, with a clean gap of two voxels of p = 0.1."""
    target = np.zeros(shape, dtype=bool)
    middle = tuple(slice(side // 2 - 1, side // 2 + 1) for side in shape[:-1])
    target[(*middle, slice(3, shape[-1] - 3))] = True
    start = target.copy()
    start[..., shape[-1] // 3 : shape[-1] // 3 + 2] = False
    return target, start, dict.fromkeys(map(tuple, np.argwhere(target & ~start)), logit(0.1))


def absent(shape):
    """Nothing in the target, and p = 0.2 with its noise everywhere."""
    nothing = np.zeros(shape, dtype=bool)
    start = nothing.copy()
    start[tuple(side // 2 for side in shape)] = True
    return nothing, start, {}


ERRORS = {
    "bridge": (joined, (2, 3)),
    "gap": (broken_ring, (2, 3)),
    "island": (island, (2, 3)),
    "hole": (hollow, (2,)),
    "handle": (tunnel, (3,)),
    "cavity": (hollow, (3,)),
    "absent organ": (absent, (2, 3)),
    "displaced ring": (displaced, (2, 3)),
}
STEPS = 100


class CrossEntropy(nn.Module):
    """Cross-entropy, of each voxel or of its least confident neighbour (SCNP)."""

    def __init__(self, *, of_neighbours: bool = False):
        super().__init__()
        self.of_neighbours = of_neighbours

    def forward(self, probability: Tensor, target: Tensor) -> Tensor:
        """Returns the loss."""
        if self.of_neighbours:
            probability = least_confident_neighbours(probability, target)
        return functional.binary_cross_entropy(probability, target.to(probability))


def losses(target: np.ndarray) -> dict[str, nn.Module]:
    """Returns the losses of all trainers, and the forms of them that the papers print."""
    prior = betti_numbers(target)
    tile = {2: 13, 3: 9}[target.ndim]  # half of the image, so that there is something to cut
    return {
        "Wasserstein, TAFL": WassersteinLoss(clamp=0.01),
        "the same, plain optimum": WassersteinLoss(matching="optimal", clamp=0.01),
        "TAFLSinkhorn": WassersteinLoss(matching="sinkhorn", clamp=0.01),
        "TopoLoss": WassersteinLoss(clamp=0.01, tile_size=tile),
        "TopoLoss, plain optimum": WassersteinLoss(matching="optimal", clamp=0.01, tile_size=tile),
        "BettiMatching": BettiMatchingLoss(clamp=0.01),
        "the same, missing bars pushed": BettiMatchingLoss(push_unmatched_to_1_0=True, clamp=0.01),
        "ProjectedPooling": ProjectedPoolingLoss(),
        "the same, position-blind": ProjectedPoolingLoss(reduce_before_difference=True),
        "BettiPrior": BettiPriorLoss({0: prior}, clamp=0.01),
        "the same, published form": BettiPriorLoss({0: prior}, form="published", clamp=0.01),
        "SkeletonRecall": SkeletonRecallLoss(),
        "ClDice": ClDiceLoss(),
        "the same, exact skeleton": ClDiceLoss(exact=True),
        "cross-entropy": CrossEntropy(),
        "SCNP, of cross-entropy": CrossEntropy(of_neighbours=True),
        "SkeletonRecall + 0.1 * Wasserstein": SummedTerms(
            [(1, SkeletonRecallLoss()), (0.1, WassersteinLoss(clamp=0.01))]
        ),
    }


def repaired(error: Callable, shape: tuple[int, ...], seed: int, loss: nn.Module) -> bool:
    """Returns whether Adam gives the prediction the target's Betti numbers."""
    target, start, special = error(shape)
    if start.dtype == bool:
        start = np.where(start, 3.0, -3.0)
    rng = np.random.default_rng(seed)
    logits = np.where(target, 3.0, -3.0)
    while betti_numbers(logits > 0) == betti_numbers(target):  # noise may undo the error
        logits = start + rng.standard_normal(shape)
        for voxel, value in special.items():
            logits[voxel] = value
    torch.manual_seed(seed)  # tiles lie at random
    result = descend(loss, torch.from_numpy(logits), torch.from_numpy(target))
    return betti_numbers((result > 0).numpy()) == betti_numbers(target)


def cut(
    shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Returns a target of two bars, logits, and each of the bars.

    The first bar is cut by a gap whose probability lies at or below the clamp of 0.01. The second
    is whole, but fainter.
    """
    thickness, length = rng.integers(2, 4), shape[-1]
    across = tuple(slice(side // 2 - 1, side // 2 + 1) for side in shape[1:-1])
    first, second = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    first[(slice(2, 2 + thickness), *across, slice(2, length - 2))] = True
    ends = slice(rng.integers(2, 6), length - rng.integers(2, 6))
    second[(slice(shape[0] - 5, shape[0] - 5 + thickness), *across, ends)] = True
    logits = np.where(first, 3.0, np.where(second, rng.uniform(0.3, 1.5), -6.0))
    logits += rng.choice([0.0, 0.3, 1.0]) * rng.standard_normal(shape)
    start = rng.integers(6, length - 7)
    gap = np.zeros(shape, dtype=bool)
    gap[..., start : start + rng.integers(1, 3)] = True
    logits[gap & first] = logit(rng.uniform(1e-4, 0.01))
    return first | second, logits, (first, second)


def erased(shape: tuple[int, ...], seed: int, loss: nn.Module) -> bool:
    """Returns whether descent from `cut` leaves nothing of a component of the target."""
    target, logits, components = cut(shape, np.random.default_rng(seed))
    result = descend(loss, torch.from_numpy(logits), torch.from_numpy(target)).numpy()
    return not all((result[component] > 0).any() for component in components)


def descend(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """Returns the logits after the steps."""
    logits = logits[None, None].clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(torch.sigmoid(logits), target[None, None]).backward()
        optimizer.step()
    return logits[0, 0].detach()


def main(trials: int, rows: list[str]) -> None:
    """Prints the table, row by row."""
    columns = [(name, ndim) for name, (_, spaces) in ERRORS.items() for ndim in spaces]
    headings = [f"{name} {ndim}D" for name, ndim in columns] + [
        "cut, erased: 2D",
        "cut, erased: 3D",
    ]
    print("| loss | " + " | ".join(headings) + " |")
    print("|---" * (len(headings) + 1) + "|")
    for name in rows or losses(np.zeros(PLANE, dtype=bool)):
        counts = []
        for error, ndim in columns:
            shape, function = {2: PLANE, 3: SPACE}[ndim], ERRORS[error][0]
            loss = losses(function(shape)[0])[name]
            counts.append(sum(repaired(function, shape, seed, loss) for seed in range(trials)))
        for shape in TWO_BARS:
            loss = losses(cut(shape, np.random.default_rng(0))[0])[name]
            counts.append(sum(erased(shape, seed, loss) for seed in range(trials)))
        print(f"| {name} | " + " | ".join(map(str, counts)) + " |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, sys.argv[2:])
