"""Gradient descent on logits repairs known errors of each dimension, under noise."""

import pytest

from nnunet_topo.losses import BettiMatchingLoss, BettiPriorLoss, WassersteinLoss
from nnunet_topo.topology import betti_numbers

from ..descent import (
    PLANE,
    SPACE,
    TWO_BARS,
    broken_ring,
    cut_bar,
    displaced,
    erased,
    hollow,
    island,
    joined,
    repaired,
    tunnel,
)


@pytest.mark.parametrize("shape", [PLANE, SPACE])
@pytest.mark.parametrize("error", [broken_ring, displaced, island, hollow, joined])
@pytest.mark.parametrize("trials", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_descent_repairs_the_error_in_every_trial(error, shape, trials):
    loss = WassersteinLoss(clamp=0.01)
    count = sum(repaired(error, shape, seed, loss) for seed in range(trials))
    print(f"{error.__name__} in {len(shape)}D: {count} of {trials} repaired")
    assert count == trials


@pytest.mark.parametrize("shape", [PLANE, SPACE])
@pytest.mark.parametrize("error", [broken_ring, cut_bar, displaced])
@pytest.mark.parametrize("trials", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_descent_by_betti_matching_repairs_the_error_in_every_trial(error, shape, trials):
    loss = BettiMatchingLoss(clamp=0.01)
    assert sum(repaired(error, shape, seed, loss) for seed in range(trials)) == trials


def test_a_handle_is_filled_by_distance_and_by_prior():
    prior = BettiPriorLoss({0: betti_numbers(tunnel(SPACE)[0])}, clamp=0.01)
    for loss in (WassersteinLoss(clamp=0.01), prior):
        assert all(repaired(tunnel, SPACE, seed, loss) for seed in range(2))


def test_on_tiles_bridges_are_cut_and_gaps_are_closed():
    loss = WassersteinLoss(clamp=0.01, tile_size=18)  # holds the whole bridge now and then
    for error in (joined, broken_ring):
        assert all(repaired(error, PLANE, seed, loss) for seed in range(2))


@pytest.mark.parametrize("shape", TWO_BARS)
@pytest.mark.parametrize("trials", [10, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("loss", [WassersteinLoss(clamp=0.01), BettiMatchingLoss(clamp=0.01)])
def test_a_component_cut_in_two_does_not_erase_another(shape, trials, loss):
    assert sum(erased(shape, seed, loss) for seed in range(trials)) == 0
