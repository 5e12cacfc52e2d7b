import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.losses.tiles import cut_into_tiles
from nnunet_topo.topology import betti_numbers, persistence_pairs, wasserstein_distance
from nnunet_topo.topology.matching import persistence_distance

from ..shapes import batch, noisy, ring, shell, two_blobs

MATCHINGS = ["spatial", "optimal", "sinkhorn"]
seeds = st.integers(0, 2**32 - 1)


def diagram(probability, k, clamp=0.0):
    return persistence_pairs(probability, clamp=clamp).diagram(np.maximum(probability, clamp), k)


def random_pair(seed, distance):
    """Returns a probability, a mask, and the distance of their diagrams over all dimensions."""
    rng = np.random.default_rng(seed)
    probability, mask = rng.random((4, 5, 6)), rng.random((4, 5, 6)) < 0.4
    betti = betti_numbers(mask)
    summed = sum(distance(diagram(probability, k), [(1, 0)] * betti[k]) for k in range(3))
    return probability, mask, summed


def test_the_worked_example_of_a_true_and_a_spurious_bar():
    # Components (1, 0) and (.8, .5) against one: .3 ** 2 / 2.
    probability = batch(np.array([[1.0, 0.5, 0.8], [0.0, 0.0, 0.0]]))
    target = batch(np.array([[1, 0, 0], [0, 0, 0]]))
    for matching in ("spatial", "optimal"):
        loss = WassersteinLoss(matching=matching, dimensions=[0], connectivity="face")
        assert loss(probability, target).item() == pytest.approx(0.045)


def test_a_missing_structure_costs_one_half_without_gradient():
    # Two blobs wanted, one there: its bar is perfect, the other has nothing to be matched with.
    mask = two_blobs((9, 14))
    found = mask & (np.indices(mask.shape)[1] < 7)
    p = batch(found.astype(np.float64)).requires_grad_()
    loss = WassersteinLoss()(p, batch(mask))
    loss.backward()
    assert loss.item() == 0.5
    assert p.grad is not None
    assert not p.grad.any()


@given(seeds)
def test_the_optimal_matching_is_the_exact_distance_summed_over_dimensions(seed):
    probability, mask, expected = random_pair(seed, wasserstein_distance)
    measure = WassersteinLoss(matching="optimal").measure(batch(probability), batch(mask))
    assert measure.loss.item() == pytest.approx(expected)
    assert measure.distance == pytest.approx(expected)


@given(seeds)
def test_the_sinkhorn_matching_is_algorithm_1_summed_over_dimensions(seed):
    probability, mask, expected = random_pair(seed, persistence_distance)
    loss = WassersteinLoss(matching="sinkhorn")(batch(probability), batch(mask))
    assert loss.item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(seeds)
def test_no_matching_is_cheaper_than_the_optimal_one(seed):
    rng = np.random.default_rng(seed)
    probability, mask = batch(rng.random((6, 7))), batch(rng.random((6, 7)) < 0.4)
    measure = WassersteinLoss(matching="spatial").measure(probability, mask)
    assert measure.loss.item() >= measure.distance - 1e-12


def test_a_nearly_closed_ring_is_matched_in_space_and_erased_by_the_optimum():
    mask = ring((13, 17))
    probability = np.where(mask, 0.9, 0.05)
    row, column = np.indices(mask.shape)
    gap = mask & (row == 6) & (column < 8)
    probability[gap] = 0.2
    for matching, sign in (("spatial", -1), ("optimal", 1)):
        p = batch(probability).requires_grad_()
        WassersteinLoss(matching=matching, dimensions=[1])(p, batch(mask)).backward()
        assert p.grad is not None
        assert np.sign(p.grad[0, 0].numpy()[gap].sum()) == sign


@pytest.mark.parametrize("matching", ["spatial", "optimal"])
@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
@pytest.mark.parametrize("connectivity", ["full", "face"])
def test_the_gradient_is_that_of_the_loss(matching, shape, connectivity):
    rng = np.random.default_rng(3)
    probability = batch(rng.permutation(np.linspace(0.05, 0.95, np.prod(shape))).reshape(shape))
    target = batch(rng.random(shape) < 0.4)
    loss = WassersteinLoss(matching=matching, connectivity=connectivity, clamp=0.1)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), probability.requires_grad_())


def test_the_gradient_of_sinkhorn_is_that_of_the_cost_under_a_fixed_plan():
    mask = ring((9, 11), 3.0)
    p = batch(noisy(mask, 0)).requires_grad_()
    loss = WassersteinLoss(matching="sinkhorn")
    loss(p, batch(mask)).backward()
    # All targets are (1, 0): dL/db = -2 (1 - b) * mass, dL/dd = 2 d * mass, so at each critical
    # voxel the ratio to the cost's derivative is the bar's mass, between 0 and the target's.
    assert p.grad is not None
    assert (p.grad != 0).sum() > 10
    pairs = persistence_pairs(p.detach()[0, 0].numpy())
    births = np.setdiff1d(pairs.birth, pairs.death)
    at_births = p.grad[0, 0].flatten()[torch.as_tensor(births)]
    assert (at_births <= 0).all()


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize("mask", [ring(), shell(), two_blobs(), np.zeros((4, 5), bool)])
def test_a_perfect_prediction_costs_nothing_and_has_no_gradient(matching, mask):
    p = batch(mask.astype(np.float64)).requires_grad_()
    loss = WassersteinLoss(matching=matching)(p, batch(mask))
    loss.backward()
    assert loss.item() == 0
    assert p.grad is not None
    assert not p.grad.any()


@pytest.mark.parametrize("matching", MATCHINGS)
def test_samples_and_channels_are_averaged_and_their_order_is_irrelevant(matching):
    masks = [ring((11, 13), 4.0), two_blobs((11, 13)), np.zeros((11, 13), bool)]
    probabilities = [noisy(m, s) for s, m in enumerate(masks)]
    loss = WassersteinLoss(matching=matching)
    alone = [loss(batch(p), batch(m)).item() for p, m in zip(probabilities, masks, strict=True)]
    together = loss(batch(*probabilities), batch(*masks)).item()
    reverse = loss(batch(*probabilities[::-1]), batch(*masks[::-1])).item()
    stacked = loss(batch(*probabilities).transpose(0, 1), batch(*masks).transpose(0, 1)).item()
    assert together == pytest.approx(np.mean(alone))
    assert reverse == pytest.approx(together)
    assert stacked == pytest.approx(together)


def test_ignored_voxels_are_background_without_gradient():
    mask = two_blobs((9, 14))
    p = batch(noisy(mask, 4)).requires_grad_()
    keep = np.indices(mask.shape)[1] < 7
    loss = WassersteinLoss()
    value = loss(p, batch(mask), batch(keep))
    value.backward()
    assert p.grad is not None
    assert not p.grad[0, 0].numpy()[~keep].any()
    assert p.grad[0, 0].numpy()[keep].any()
    cut = loss(p.detach() * batch(keep), batch(mask & keep))
    assert value.item() == pytest.approx(cut.item())
    assert value.item() != pytest.approx(loss(p, batch(mask)).item())


def test_an_all_ignored_patch_costs_nothing():
    p = batch(np.random.default_rng(0).random((4, 5, 6))).requires_grad_()
    target = torch.ones_like(p)
    loss = WassersteinLoss()(p, target, torch.zeros_like(p, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert p.grad is not None
    assert not p.grad.any()


def test_below_the_clamp_only_the_essential_bar_remains():
    p = batch(np.random.default_rng(0).random((6, 7)) * 0.009).requires_grad_()
    loss = WassersteinLoss(clamp=0.01)(p, torch.zeros_like(p))
    assert loss.item() == pytest.approx(p.max().item() ** 2 / 2)
    loss.backward()
    assert p.grad is not None
    assert p.grad.flatten().nonzero().flatten().tolist() == [int(p.argmax())]


def test_a_clamp_moves_the_exact_distance_by_a_bound_alone():
    mask = ring((11, 13), 4.0)
    p, t = batch(noisy(mask, 5)), batch(mask)
    exact = WassersteinLoss(dimensions=[1]).measure(p, t).distance
    clamped = WassersteinLoss(dimensions=[1], clamp=0.01).measure(p, t).distance
    bars = len(diagram(p[0, 0].numpy(), 1))
    assert abs(exact - clamped) <= 2 * 0.01 * bars


def test_a_death_on_the_plateau_names_no_place():
    # Two target blobs, one invisible: the bar of the other ends on the plateau of missed
    # foreground and background alike, so it may be matched whichever voxel is named.
    mask = two_blobs((9, 14))
    probability = np.where(mask & (np.indices(mask.shape)[1] < 7), 0.9, 0.0)
    probability[0, 13] = 0.95  # the essential bar: not in the target
    target = mask | (probability == 0)
    target[0, 13] = False
    loss = WassersteinLoss(dimensions=[0], clamp=0.01)
    assert betti_numbers(target)[0] == 1
    # Matched: (1 - .9)^2 + .01^2. Alone: the bar (.95, 0) to the diagonal.
    expected = 0.1**2 + 0.01**2 + 0.95**2 / 2
    assert loss(batch(probability), batch(target)).item() == pytest.approx(expected)


def test_overconfident_voxels_keep_their_gradient():
    mask = np.zeros((7, 9))
    mask[2:5, 1:4] = 1
    probability = mask.copy() * 0.999
    probability[3, 7] = 0.9999
    p = batch(probability).requires_grad_()
    WassersteinLoss(clamp=0.01)(p, batch(mask)).backward()
    assert p.grad is not None
    assert p.grad[0, 0, 3, 7] > 0.5


def test_targets_and_probabilities_are_not_changed():
    p, t = torch.rand(2, 2, 5, 6), (torch.rand(2, 2, 5, 6) < 0.4).to(torch.int16)
    before = p.clone(), t.clone()
    for matching in MATCHINGS:
        WassersteinLoss(matching=matching, clamp=0.2)(p, t)
    assert torch.equal(p, before[0])
    assert torch.equal(t, before[1])


def test_half_precision_agrees_with_single():
    mask = ring((11, 13), 4.0)
    p = batch(noisy(mask, 6)).half()
    exact = WassersteinLoss()(p.double(), batch(mask))
    assert WassersteinLoss()(p, batch(mask)).item() == pytest.approx(exact.item(), rel=1e-5)


def test_thousands_of_bars_give_a_finite_loss():
    p = torch.rand(1, 1, 24, 28, 30, generator=torch.Generator().manual_seed(0))
    target = torch.zeros_like(p)
    assert len(persistence_pairs(p[0, 0].numpy()).birth) > 5000
    for matching in MATCHINGS:
        loss = WassersteinLoss(matching=matching)(p.requires_grad_(), target)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"matching": "nearest"}, "'optimal', 'sinkhorn'.*got 'nearest'"),
        ({"connectivity": "26"}, "'full' or 'face', got '26'"),
        ({"clamp": 1.0}, r"clamp must lie in \[0, 1\), got 1.0"),
        ({"tile_size": 0}, "tile_size must be at least 1, got 0"),
        ({"dimensions": [3]}, "dimensions must lie in 0..2"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        WassersteinLoss(**options)


@pytest.mark.usefixtures("unchecked")
def test_bad_tensors_are_refused_by_name():
    loss = WassersteinLoss()
    with pytest.raises(ValueError, match=r"same shape.*got \(1, 1, 4, 5\) and \(1, 2, 4, 5\)"):
        loss(torch.rand(1, 1, 4, 5), torch.zeros(1, 2, 4, 5))
    with pytest.raises(ValueError, match="2 or 3 axes of space"):
        loss(torch.rand(1, 1, 4), torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="finite, got NaN"):
        loss(torch.full((1, 1, 4, 5), torch.nan), torch.zeros(1, 1, 4, 5))
    with pytest.raises(ValueError, match=r"0..1 for a 2D image, got \(2,\)"):
        WassersteinLoss(dimensions=[2])(torch.rand(1, 1, 4, 5), torch.zeros(1, 1, 4, 5))


def test_the_shape_annotations_are_checked_in_tests():
    with pytest.raises(jaxtyping.TypeCheckError):
        WassersteinLoss()(torch.rand(1, 1, 4, 5), torch.zeros(1, 1, 4, 6))


def test_tiles_hold_every_voxel_once_and_are_cut_at_a_random_place():
    p = torch.rand(2, 3, 11, 13, 17).double().requires_grad_()
    t = torch.rand(2, 3, 11, 13, 17) < 0.3
    firsts = set()
    for seed in range(4):
        torch.manual_seed(seed)
        tiles, masks, channel = cut_into_tiles(p + 1, t, 5)  # + 1: all are occupied
        torch.manual_seed(seed)
        again, *_ = cut_into_tiles(p + 1, t, 5)
        assert torch.equal(tiles, again)
        assert tiles.shape[1:] == (1, 5, 5, 5)
        assert masks.sum() == t.sum()
        assert tiles.sum().item() == pytest.approx((p + 1).sum().item())
        of_channel = [tiles[channel == i].sum().item() for i in range(6)]
        assert of_channel == pytest.approx((p + 1).flatten(2).sum(2).flatten().tolist())
        firsts.add(tiles.shape[0])
        (gradient,) = torch.autograd.grad(tiles.sum(), p)
        assert (gradient == 1).all()
    assert len(firsts) > 1


def test_a_patch_no_larger_than_a_tile_is_one_tile():
    mask = ring((11, 13), 4.0)
    p, t = batch(noisy(mask, 0)), batch(mask)
    whole, tiled = WassersteinLoss().measure(p, t), WassersteinLoss(tile_size=13).measure(p, t)
    assert tiled.loss.item() == pytest.approx(whole.loss.item())
    assert tiled.distance == pytest.approx(whole.distance)


def test_tiles_are_averaged_and_those_without_foreground_skipped():
    # Each call draws another grid: the first cut is between the blobs, through one or beyond both.
    mask = two_blobs((9, 14))
    probability = np.where(mask, 0.9, 0.2)
    alone = [
        WassersteinLoss()(batch(probability[:, part]), batch(mask[:, part])).item()
        for part in (slice(0, 7), slice(7, 14))
    ]
    wide = np.pad(probability, ((0, 0), (0, 70)), constant_values=0.2)
    values = set()
    for seed in range(60):
        torch.manual_seed(seed)
        loss = WassersteinLoss(tile_size=14)(
            batch(wide), batch(np.pad(mask, ((0, 0), (0, 70))))
        ).item()
        values.add(round(loss, 6))
    assert round(float(np.mean(alone)), 6) in values  # cut between the blobs
    assert round(WassersteinLoss()(batch(probability), batch(mask)).item(), 6) in values


def test_without_foreground_in_any_tile_the_loss_is_a_differentiable_zero():
    p = torch.full((1, 2, 9, 11), 0.4).requires_grad_()
    measure = WassersteinLoss(tile_size=5).measure(p, torch.zeros_like(p))
    measure.loss.backward()
    assert (measure.loss.item(), measure.distance) == (0, 0)
    assert p.grad is not None
    assert not p.grad.any()


@pytest.mark.parametrize("shape", [(9, 13), (6, 7, 9)])
def test_the_gradient_on_tiles_is_dattas(shape):
    rng = np.random.default_rng(1)
    p = batch(rng.permutation(np.linspace(0.05, 0.95, np.prod(shape))).reshape(shape))
    target = batch(rng.random(shape) < 0.4)

    def loss(p):
        torch.manual_seed(3)
        return WassersteinLoss(matching="optimal", tile_size=5)(p, target)

    assert torch.autograd.gradcheck(loss, p.requires_grad_())


def test_by_dattas_formula_a_bar_moves_towards_its_match():
    # dL/df(c_b) = 2 (birth - birth of the match), dL/df(c_d) likewise: the bar (.9, .3) of a target
    # component goes to (1, 0), the spurious (.8, .5) to (.65, .65) on the diagonal.
    p = batch(np.array([[1.0, 0.3, 0.9, 0.5, 0.8]])).requires_grad_()
    target = batch(np.array([[1, 0, 1, 0, 0]]))
    WassersteinLoss(matching="optimal", dimensions=[0], tile_size=65)(p, target).backward()
    assert p.grad is not None
    expected = [0, 2 * 0.3, 2 * (0.9 - 1), 2 * (0.5 - 0.65), 2 * (0.8 - 0.65)]
    assert p.grad.flatten().tolist() == pytest.approx(expected)
