import numpy as np
import pytest
import torch

from nnunet_topo.losses import BettiMatchingLoss

from ..shapes import batch, ring, shell, two_blobs


def test_the_worked_example_of_matched_and_unmatched_bars():
    # Bars 0.9 (essential, matched), 0.6 to 0.3 (matched), 0.8 to 0.1 (not matched).
    probability = batch(np.array([[0.9, 0.3, 0.6, 0.1, 0.8]]))
    target = batch(np.array([[1, 0, 1, 0, 0]]))
    loss = BettiMatchingLoss(dimensions=[0])(probability, target)
    expected = 2 * 0.1**2 + 2 * (0.4**2 + 0.3**2) + 0.7**2
    assert loss.item() == pytest.approx(expected)


def test_a_missing_structure_costs_one_and_can_be_pushed_into_being():
    mask = two_blobs((9, 14))
    found = mask & (np.indices(mask.shape)[1] < 7)
    for push, expected in ((False, 1), (True, 2)):
        p = batch(found.astype(np.float64)).requires_grad_()
        loss = BettiMatchingLoss(push_unmatched_to_1_0=push)(p, batch(mask))
        loss.backward()
        assert loss.item() == expected
        assert p.grad is not None
        assert bool(p.grad.any()) is push


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize("options", [{}, {"filtration": "both"}, {"push_unmatched_to_1_0": True}])
def test_the_gradient_is_that_of_the_loss(shape, connectivity, options):
    rng = np.random.default_rng(3)
    probability = batch(rng.permutation(np.linspace(0.05, 0.95, np.prod(shape))).reshape(shape))
    target = batch(rng.random(shape) < 0.6)
    loss = BettiMatchingLoss(connectivity=connectivity, **options)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), probability.requires_grad_())


@pytest.mark.parametrize("filtration", ["superlevel", "both"])
@pytest.mark.parametrize("mask", [ring(), shell(), two_blobs(), np.zeros((4, 5), bool)])
def test_a_perfect_prediction_costs_nothing(filtration, mask):
    p = batch(mask.astype(np.float64))
    assert BettiMatchingLoss(filtration=filtration)(p, batch(mask)).item() == 0


def test_bars_are_counted_and_ignored_voxels_are_background():
    mask = ring()
    p = batch(0.9 * mask)
    measure = BettiMatchingLoss().measure(p, batch(mask))
    assert measure.bars is not None
    assert (measure.bars.matched, measure.bars.removed, measure.bars.missing) == (2, 0, 0)
    nothing = torch.zeros_like(p, dtype=torch.bool)
    assert BettiMatchingLoss()(p, batch(mask), nothing).item() == 0


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="clamp"):
        BettiMatchingLoss(clamp=1.0)
