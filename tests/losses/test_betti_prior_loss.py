import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.losses.measure import BarCounts
from nnunet_topo.topology import betti_numbers, persistence_pairs

from ..shapes import ball, batch, noisy, ring, shell, two_blobs

seeds = st.integers(0, 2**32 - 1)
LINE = np.array([[0.9, 0.1, 0.7]])  # bars (.9, 0) and (.7, .1)


@pytest.mark.parametrize(
    ("prior", "form", "expected"),
    [
        ((1, 0), "quadratic", 0.1**2 + 0.6**2),
        ((2, 0), "quadratic", 0.1**2 + 0.4**2),
        ((3, 0), "quadratic", 0.1**2 + 0.4**2 + 1),  # one is missing
        ((0, 0), "quadratic", 0.9**2 + 0.6**2),
        ((1, 0), "published", 1 - 0.9**2 + 0.6**2),
        ((2, 0), "published", 1 - 0.9**2 + 1 - 0.6**2),
        ((3, 0), "published", 1 - 0.9**2 + 1 - 0.6**2 + 1),
        (((1, 2), 0), "quadratic", 0.1**2),
        (((0, 1), 0), "quadratic", 0.6**2),
        (((1, math.inf), 0), "quadratic", 0.1**2),
        (((2, 4), 0), "quadratic", 0.1**2 + 0.4**2),
        ((None, 0), "quadratic", 0),
        ((1, 2), "quadratic", 0.1**2 + 0.6**2 + 2),  # two loops are missing
    ],
)
def test_the_worked_example(prior, form, expected):
    loss = BettiPriorLoss({0: prior}, form=form)(batch(LINE))
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prior", "counts"),
    [
        ((1, 0), BarCounts(matched=1, removed=1, missing=0)),
        ((2, 0), BarCounts(matched=2, removed=0, missing=0)),
        ((3, 2), BarCounts(matched=2, removed=0, missing=3)),
        ((0, 0), BarCounts(matched=0, removed=2, missing=0)),
        ((None, 0), BarCounts(matched=0, removed=0, missing=0)),
    ],
)
def test_bars_are_counted_over_samples_and_dimensions(prior, counts):
    measured = BettiPriorLoss({0: prior}).begin(torch.cat([batch(LINE)] * 2))()
    assert measured.bars == counts + counts
    assert measured.used == 1


def test_the_share_of_used_priors_counts_samples_and_priors():
    mask = ring((17, 19), 4.0)
    cut = mask.copy()
    cut[:, :9] = 0  # what is left touches no border, but has another topology
    p = torch.cat([batch(noisy(mask, 1)), batch(noisy(cut, 2))])
    target = torch.cat([batch(mask), batch(cut)])
    loss = BettiPriorLoss({0: (1, 1)}, in_patches=True)
    assert loss.begin(p, target)().used == 0.5
    empty = torch.zeros_like(target)
    assert loss.begin(p, empty)().used == 0


def test_a_sample_after_an_ignored_one_counts():
    loss, mask = BettiPriorLoss({0: (1, 0)}), torch.ones(2, 1, 1, 3, dtype=torch.bool)
    mask[0] = False
    both = loss(torch.cat([batch(LINE)] * 2), None, mask)
    assert both.item() == pytest.approx(loss(batch(LINE)).item() / 2)


def test_a_sample_after_one_whose_object_is_cut_counts():
    loss, whole = BettiPriorLoss({0: (1, 1)}, in_patches=True), batch(noisy(ring((17, 19), 4.0), 1))
    cut = whole.clone()
    cut[:, :, 0, 5] = 1  # at the border of one axis
    assert loss(cut).item() == 0
    assert loss(torch.cat([cut, whole])).item() == pytest.approx(loss(whole).item() / 2) != 0


@pytest.mark.parametrize(("clamp", "expected"), [(None, 0.37), (0.0, 0.37), (0.2, 0.26)])
def test_the_second_bar_ends_at_the_clamp(clamp, expected):
    loss = BettiPriorLoss({0: (1, 0)}, clamp=clamp)(batch(LINE))
    assert loss.item() == pytest.approx(expected)  # .1^2 + (.7 - .1)^2, or + (.7 - .2)^2


def test_a_dimension_may_have_no_weight():
    loss = BettiPriorLoss({0: (1, 2)}, dimension_weights=(1.0, 0.0))(batch(LINE))
    assert loss.item() == pytest.approx(0.37)


def test_a_channel_past_the_last_is_named():
    with pytest.raises(ValueError, match="priors name channel 1, but there are 1 channels"):
        BettiPriorLoss({1: (1, 0)})(batch(LINE))


def test_an_object_beside_ignored_voxels_is_skipped_in_volumes():
    p = batch(0.1 + 0.8 * ball((9, 10, 11), (4, 5, 5), 2.0))
    loss, mask = BettiPriorLoss({0: (2, 0, 0)}, in_patches=True), torch.ones(1, 1, 9, 10, 11)
    seen = loss(p, None, mask).item()
    mask[0, 0, 0, 0, 0] = 0  # far away
    assert loss(p, None, mask).item() == pytest.approx(seen) != 0
    mask[0, 0, 4, 5] = 0
    assert loss(p, None, mask).item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_has_the_type_of_the_probability(dtype):
    assert BettiPriorLoss({0: (1, 0)})(batch(LINE).to(dtype)).dtype == dtype


def test_a_missing_bar_has_no_gradient():
    p = batch(np.array([[0.0, 1.0, 0.0]])).requires_grad_()
    loss = BettiPriorLoss({0: (2, 1)})(p)
    loss.backward()
    assert loss.item() == 2
    assert p.grad is not None
    assert not p.grad.any()


def test_dimensions_have_weights():
    mask = ring((11, 13), 4.0)
    p = batch(noisy(mask, 1))
    parts = [BettiPriorLoss({0: (1, None)})(p).item(), BettiPriorLoss({0: (None, 1)})(p).item()]
    assert min(parts) > 0.01
    loss = BettiPriorLoss({0: (1, 1)}, dimension_weights=(2.0, 0.25))(p).item()
    assert loss == pytest.approx(2 * parts[0] + 0.25 * parts[1])


@given(seeds)
def test_the_loss_is_eq_3_summed_over_dimensions(seed):
    rng = np.random.default_rng(seed)
    probability, prior = rng.random((4, 5, 6)), tuple(rng.integers(0, 9, 3).tolist())
    pairs, expected = persistence_pairs(probability), 0.0
    for k, betti in enumerate(prior):
        lengths = sorted((b - d for b, d in pairs.diagram(probability, k)), reverse=True)
        lengths += [0.0] * (betti - len(lengths))
        expected += sum((1 - x) ** 2 for x in lengths[:betti]) + sum(x**2 for x in lengths[betti:])
    assert BettiPriorLoss({0: prior})(batch(probability)).item() == pytest.approx(expected)


@pytest.mark.parametrize("form", ["quadratic", "published"])
@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
@pytest.mark.parametrize("connectivity", ["full", "face"])
def test_the_gradient_is_that_of_the_loss(form, shape, connectivity):
    rng = np.random.default_rng(3)
    p = batch(rng.uniform(0.05, 0.95, shape))  # no two bars of one length
    prior = ((1, 3), 1, 0)[: len(shape)]
    loss = BettiPriorLoss({0: prior}, form=form, connectivity=connectivity, clamp=0.1)
    assert torch.autograd.gradcheck(loss, p.requires_grad_())


@pytest.mark.parametrize("form", ["quadratic", "published"])
@pytest.mark.parametrize("mask", [ring(), shell(), two_blobs(), np.zeros((4, 5), bool)])
def test_a_perfect_prediction_costs_nothing_and_has_no_gradient_on_any_way(mask, form):
    for prior in (betti_numbers(mask), "target"):
        p = batch(mask.astype(np.float64)).requires_grad_()
        loss = BettiPriorLoss({0: prior}, form=form, in_patches=True)(p, batch(mask))
        loss.backward()
        assert loss.item() == 0
        assert p.grad is not None
        if form == "quadratic":
            assert not p.grad.any()


def test_entries_are_averaged_and_their_order_is_irrelevant():
    masks = [ring((11, 13), 4.0), two_blobs((11, 13)), np.zeros((11, 13), bool)]
    priors = [(1, 1), (2, 0), (0, 0)]
    images = [noisy(m, s) for s, m in enumerate(masks)]
    alone = [
        BettiPriorLoss({0: prior})(batch(p)).item() for p, prior in zip(images, priors, strict=True)
    ]
    assert len(set(alone)) == 3
    together = BettiPriorLoss(dict(enumerate(priors)))
    reverse = BettiPriorLoss({2 - i: prior for i, prior in enumerate(priors)})
    assert together(batch(*images)).item() == pytest.approx(np.mean(alone))
    assert reverse(batch(*images[::-1])).item() == pytest.approx(np.mean(alone))
    one_of_three = BettiPriorLoss({1: (2, 0)})
    assert one_of_three(batch(*images)).item() == pytest.approx(alone[1])
    same = BettiPriorLoss({0: (1, 1)})(batch(*images).transpose(0, 1))
    of_each = [BettiPriorLoss({0: (1, 1)})(batch(p)).item() for p in images]
    assert same.item() == pytest.approx(np.mean(of_each))


def whole_and_cut():
    """Returns two discs, one off the border and one cut by it; with noisy probabilities."""
    shape = (15, 19)
    masks = ball(shape, (7, 9), 4), ball(shape, (7, 0), 4)
    return [(noisy(m, s, 1.5), m) for s, m in enumerate(masks)]


def test_a_range_holds_for_whole_objects_and_the_target_where_they_are_cut():
    loss = BettiPriorLoss({0: ((1, 3), (0, 9))}, in_patches=True)
    (whole, mask), (cut, cut_mask) = whole_and_cut()
    free = BettiPriorLoss({0: ((1, 3), (0, 9))})(batch(whole)).item()
    assert loss(batch(whole), batch(mask)).item() == pytest.approx(free)
    own = BettiPriorLoss({0: (1, 0)})(batch(cut)).item()
    assert own > BettiPriorLoss({0: ((1, 3), (0, 9))})(batch(cut)).item()
    assert loss(batch(cut), batch(cut_mask)).item() == pytest.approx(own)


def test_where_a_label_contradicts_the_prior_the_label_counts():
    mask = two_blobs((9, 14))
    p = batch(noisy(mask, 2))
    own = BettiPriorLoss({0: (2, 0)})(p).item()
    patches = {prior: BettiPriorLoss({0: prior}, in_patches=True) for prior in ((1, 0), "target")}
    for loss in patches.values():
        assert loss(p, batch(mask)).item() == pytest.approx(own)
    assert BettiPriorLoss({0: (1, 0)})(p, batch(mask)).item() != pytest.approx(own)


@pytest.mark.parametrize("absent", [(1, 0), "target"])
def test_an_absent_organ_is_not_hallucinated(absent):
    loss = BettiPriorLoss({0: absent}, clamp=0.01, in_patches=True)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, 1, 15, 19, generator=generator) - 1.5
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss(torch.sigmoid(logits), torch.zeros_like(logits)).backward()
        optimizer.step()
    assert (start > 0).any()
    assert not (logits > 0).any()
    assert torch.sigmoid(logits).max() < 0.3


def test_without_labels_a_prior_holds_for_predictions_off_the_border_alone():
    loss = BettiPriorLoss({0: (2, 0)}, in_patches=True)
    (whole, mask), (cut, _) = whole_and_cut()
    quiet = np.where(mask, whole, whole.clip(max=0.4))  # no island at the border
    assert loss(batch(quiet)).item() == pytest.approx(BettiPriorLoss({0: (2, 0)})(batch(quiet)))
    for skipped in (cut, 0.4 * whole):
        p = batch(skipped).requires_grad_()
        value = loss(p)
        value.backward()
        assert value.item() == 0
        assert p.grad is not None
        assert not p.grad.any()


def test_an_object_that_touches_ignored_voxels_is_skipped_and_others_are_not():
    (whole, mask), _ = whole_and_cut()
    loss = BettiPriorLoss({0: (1, 0)}, in_patches=True)
    keep = np.ones(mask.shape, bool)
    keep[:, -3:] = False
    expected = BettiPriorLoss({0: (1, 0)})(batch(whole * keep)).item()
    assert loss(batch(whole), batch(mask), batch(keep)).item() == pytest.approx(expected)
    keep[7, 14] = False  # the disc reaches to column 13
    assert loss(batch(whole), batch(mask), batch(keep)).item() == 0
    of_target = BettiPriorLoss({0: "target"}, in_patches=True)
    assert of_target(batch(whole), batch(mask), batch(keep)).item() > 0


def test_ignored_voxels_have_no_gradient_and_an_all_ignored_sample_costs_nothing():
    p = torch.rand(2, 1, 9, 11, generator=torch.Generator().manual_seed(0)).requires_grad_()
    keep = torch.ones(2, 1, 9, 11, dtype=torch.bool)
    keep[0] = False
    keep[1, :, :, 6:] = False
    loss = BettiPriorLoss({0: (1, 0)})
    value = loss(p, None, keep)
    value.backward()
    assert p.grad is not None
    assert not p.grad[~keep].any()
    assert p.grad[keep].any()
    alone = loss(p[1:].detach() * keep[1:]).item()
    assert value.item() == pytest.approx(alone / 2)


def test_targets_are_not_changed_and_half_precision_agrees():
    mask = ring((11, 13), 4.0)
    p, t = batch(noisy(mask, 6)), batch(mask).to(torch.int16)
    before = p.clone(), t.clone()
    exact = BettiPriorLoss({0: "target"})(p, t).item()
    assert torch.equal(p, before[0])
    assert torch.equal(t, before[1])
    # A bar moves by at most the rounding 2^-12 of a value below 1, its cost by 4 times that.
    bars = len(persistence_pairs(p[0, 0].numpy()).birth)
    half = BettiPriorLoss({0: "target"})(p.half(), t).item()
    assert half == pytest.approx(exact, abs=4 * 2**-12 * bars)


@pytest.mark.parametrize(
    ("priors", "options", "message"),
    [
        ({0: (1, 0)}, {"form": "cubic"}, "'quadratic', 'published'.*got 'cubic'"),
        ({0: (1, 0)}, {"clamp": 1.0}, r"clamp must lie in \[0, 1\), got 1.0"),
        ({0: (1, 0)}, {"connectivity": "26"}, "'full' or 'face', got '26'"),
        ({0: (1, 0)}, {"dimension_weights": (1, -1)}, r"at least 0, got \(1, -1\)"),
        ({0: (-1, 0)}, {}, r"a range \(low, high\) or None, got -1 in the prior of channel 0"),
        ({3: ((2, 1), 0)}, {}, r"got \(2, 1\) in the prior of channel 3"),
        ({0: (0.5, 0)}, {}, "got 0.5 in the prior of channel 0"),
        ({0: "label"}, {}, "Betti numbers or 'target', got 'label'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_refused_by_name(priors, options, message):
    with pytest.raises(ValueError, match=message):
        BettiPriorLoss(priors, **options)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (BettiPriorLoss({2: (1, 0)}), "priors name channel 2, but there are 1 channels"),
        (BettiPriorLoss({0: (1, 0, 0)}), r"2 Betti numbers for 2D space, got \(1, 0, 0\)"),
        (BettiPriorLoss({0: "target"}), "the prior of channel 0 needs a target, got None"),
        (BettiPriorLoss({0: (1, 0)}, dimension_weights=(1,)), r"hold 2 numbers, got \(1,\)"),
    ],
)
def test_bad_calls_are_refused_by_name(loss, message):
    with pytest.raises(ValueError, match=message):
        loss(torch.rand(1, 1, 4, 5))


def test_without_priors_the_loss_is_a_differentiable_zero():
    p = torch.rand(1, 1, 4, 5).requires_grad_()
    loss = BettiPriorLoss({})(p)
    loss.backward()
    assert loss.item() == 0
    assert p.grad is not None
    assert not p.grad.any()


def test_a_printed_loss_names_its_priors():
    printed = repr(BettiPriorLoss({0: (1, (0, 2)), 2: "target"}))
    assert "priors={0: '(1, 0 to 2)', 2: 'target'}" in printed
