"""Gradient descent on logits repairs known errors of each dimension, under noise."""

import numpy as np
import pytest
import torch

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.topology import betti_numbers

from .shapes import ball, ring

PLANE, SPACE = (22, 26), (11, 15, 17)


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
    """A ball whose centre is missing: a hole in 2D, a cavity in 3D."""
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


def repaired(error, shape, seed):
    """Returns whether 100 steps of Adam give the prediction the target's Betti numbers."""
    target, start, special = error(shape)
    rng = np.random.default_rng(seed)
    logits = np.where(target, 3.0, -3.0)
    while betti_numbers(logits > 0) == betti_numbers(target):  # noise may undo the error
        logits = np.where(start, 3.0, -3.0) + rng.standard_normal(shape)
        for voxel, value in special.items():
            logits[voxel] = value
    logits = torch.tensor(logits)[None, None].requires_grad_()
    loss = WassersteinLoss(clamp=0.01)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss(torch.sigmoid(logits), torch.from_numpy(target)[None, None]).backward()
        optimizer.step()
    return betti_numbers((logits[0, 0].detach() > 0).numpy()) == betti_numbers(target)


@pytest.mark.parametrize("shape", [PLANE, SPACE])
@pytest.mark.parametrize("error", [broken_ring, island, hollow, joined])
@pytest.mark.parametrize("trials", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_descent_repairs_the_error_in_every_trial(error, shape, trials):
    count = sum(repaired(error, shape, seed) for seed in range(trials))
    print(f"{error.__name__} in {len(shape)}D: {count} of {trials} repaired")
    assert count == trials
