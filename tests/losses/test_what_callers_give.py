"""Masks, probabilities and batches as callers give them, for every loss of probabilities."""

from math import inf, nan

import pytest
import torch

from nnunet_topo.losses import (
    BettiMatchingLoss,
    BettiPriorLoss,
    ClDiceLoss,
    FocalLoss,
    ProjectedPoolingLoss,
    SkeletonRecallLoss,
    WassersteinLoss,
    least_confident_neighbours,
)
from nnunet_topo.losses.diagrams import begin_bars

LOSSES = {
    "Wasserstein": WassersteinLoss(),
    "tiles": WassersteinLoss(tile_size=5),
    "Betti prior": BettiPriorLoss({0: "target"}),
    "Betti prior in patches": BettiPriorLoss({0: (1, 1)}, in_patches=True),
    "Betti matching": BettiMatchingLoss(),
    "Betti matching, both": BettiMatchingLoss(filtration="both"),
    "Betti matching, sparse": BettiMatchingLoss(tau=0.9, tube=1),
    "projected pooling": ProjectedPoolingLoss(),
    "Skeleton Recall": SkeletonRecallLoss(),
    "clDice": ClDiceLoss(),
}
SPACE = (9, 11)


def batch():
    """Returns probabilities, their target and a mask that leaves some voxels out."""
    numbers = torch.Generator().manual_seed(3)
    p = torch.rand(2, 1, *SPACE, generator=numbers)
    t = torch.rand(2, 1, *SPACE, generator=numbers) < 0.4
    return p, t, torch.rand(2, 1, *SPACE, generator=numbers) < 0.8


def value(loss, p, t, mask):
    torch.manual_seed(0)  # where tiles are cut
    return loss(p, t, mask).item()


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_a_mask_of_any_type_means_the_same(name, kind):
    p, t, mask = batch()
    expected = value(LOSSES[name], p, t, mask)
    assert expected != pytest.approx(value(LOSSES[name], p, t, None), abs=1e-6)
    assert value(LOSSES[name], p, t, mask.to(kind)) == expected


def test_a_mask_of_numbers_means_the_same_for_logits():
    p, t, mask = batch()
    neighbours = least_confident_neighbours(p, t, mask.byte())
    assert torch.equal(neighbours, least_confident_neighbours(p, t, mask))
    assert FocalLoss()(p, t, mask.byte()) == FocalLoss()(p, t, mask)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", LOSSES)
def test_a_mask_of_another_shape_is_refused(name):
    p, t, mask = batch()
    for wrong in (mask[:, 0], mask[:1], mask.expand(2, 3, *SPACE), mask[..., :-1]):
        with pytest.raises(ValueError, match=r"mask must have the shape \(2, 1, 9, 11\), got"):
            LOSSES[name](p, t, wrong)


@pytest.mark.parametrize("name", LOSSES)
def test_logits_in_place_of_probabilities_are_refused(name):
    p, t, _ = batch()
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\], got values from -"):
        LOSSES[name](6 * torch.logit(p), t)


@pytest.mark.parametrize("name", LOSSES)
def test_probabilities_may_leave_0_to_1_by_rounding(name):
    p, t, mask = batch()
    p = p.clone()
    p[0, :, 4, 5], p[0, :, 6, 7] = 1, 0
    expected = value(LOSSES[name], p, t, mask)
    p[0, :, 4, 5], p[0, :, 6, 7] = 1.0000001, -1e-7
    assert value(LOSSES[name], p, t, mask) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("wrong", [nan, inf, -inf])
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_not_finite_is_refused_unless_it_is_ignored(name, wrong):
    p, t, mask = batch()
    outside = p.clone()
    outside[~mask.expand_as(p)] = wrong
    assert value(LOSSES[name], outside, t, mask) == value(LOSSES[name], p, t, mask)
    inside = p.clone()
    inside[mask] = wrong
    with pytest.raises(ValueError, match="probability must be finite, got NaN or infinite"):
        LOSSES[name](inside, t, mask)


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_batch_costs_nothing(name):
    p, t, mask = batch()
    p.requires_grad_()
    loss = LOSSES[name](p[:0], t[:0], mask[:0])
    loss.backward()
    assert loss.item() == 0
    assert p.grad.shape == p.shape
    assert not p.grad.any()


def test_values_above_1_are_also_found_where_the_bars_are_computed():
    """A GPU does not wait for the check of the whole batch."""
    p, t, _ = batch()
    wait = begin_bars(2 * p, t, connectivity="full", dimensions=(0, 1), clamp=0.0)
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\]"):
        wait()
