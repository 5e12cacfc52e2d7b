import numpy as np
import pytest
import torch

from nnunet_topo.losses import BettiMatchingLoss, diagrams

from ..shapes import batch, ring, shell, two_blobs


def noisy(mask, seed):
    noise = np.random.default_rng(seed).standard_normal(mask.shape)
    return 1 / (1 + np.exp(-(np.where(mask, 2.0, -3.0) + noise)))


def test_the_worked_example_of_matched_and_unmatched_bars():
    # Bars 0.9 (essential, matched), 0.6 to 0.3 (matched), 0.8 to 0.1 (not matched).
    probability = batch(np.array([[0.9, 0.3, 0.6, 0.1, 0.8]]))
    target = batch(np.array([[1, 0, 1, 0, 0]]))
    loss = BettiMatchingLoss(dimensions=[0])(probability, target)
    expected = 2 * 0.1**2 + 2 * (0.4**2 + 0.3**2) + 0.7**2
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(("push", "expected"), [(False, 1), (True, 2)])
def test_a_missing_structure_costs_one_and_can_be_pushed_into_being(push, expected):
    mask = two_blobs((9, 14))
    p = batch((mask & (np.indices(mask.shape)[1] < 7)).astype(np.float64)).requires_grad_()
    loss = BettiMatchingLoss(push_unmatched_to_1_0=push)(p, batch(mask))
    loss.backward()
    assert loss.item() == expected
    assert p.grad is not None
    assert bool(p.grad.any()) is push


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize(
    "options",
    [{}, {"filtration": "both"}, {"push_unmatched_to_1_0": True}, {"tau": 0.8}, {"tube": 1}],
)
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


def test_both_filtrations_are_averaged():
    mask = ring((11, 13), 4.0)
    p, target = batch(noisy(mask, 1)), batch(mask)
    superlevel = BettiMatchingLoss()
    expected = (superlevel(p, target) + superlevel(1 - p, ~target)) / 2
    assert BettiMatchingLoss(filtration="both")(p, target).item() == pytest.approx(expected.item())


def test_samples_and_channels_are_averaged():
    masks = [ring((11, 13), 4.0), two_blobs((11, 13)), np.zeros((11, 13), bool)]
    probabilities = [noisy(m, s) for s, m in enumerate(masks)]
    loss = BettiMatchingLoss(clamp=0.01)
    alone = [loss(batch(p), batch(m)).item() for p, m in zip(probabilities, masks, strict=True)]
    p, t = batch(*probabilities), batch(*masks)
    assert loss(p, t).item() == pytest.approx(np.mean(alone))
    assert loss(p.transpose(0, 1), t.transpose(0, 1)).item() == pytest.approx(np.mean(alone))


def test_ignored_voxels_get_no_gradient():
    mask = two_blobs((9, 14))
    p = batch(noisy(mask, 4)).requires_grad_()
    keep = np.indices(mask.shape)[1] < 7
    for filtration in ("superlevel", "both"):
        loss = BettiMatchingLoss(filtration=filtration)
        value = loss(p, batch(mask), batch(keep))
        (gradient,) = torch.autograd.grad(value, p)
        assert not gradient[0, 0].numpy()[~keep].any()
        assert gradient[0, 0].numpy()[keep].any()
        assert value.item() == pytest.approx(loss(p * batch(keep), batch(mask & keep)).item())


def test_confident_voxels_get_no_gradient():
    p = batch(np.array([[0.9, 0.3, 0.6, 0.1, 0.85]])).requires_grad_()
    target = batch(np.array([[1, 0, 1, 0, 0]]))
    loss = BettiMatchingLoss(dimensions=[0], tau=0.8)(p, target)
    loss.backward()
    # Bars 1 (essential, matched), 0.6 to 0.3 (matched), 1 to 0 (not matched).
    assert loss.item() == pytest.approx(2 * (0.4**2 + 0.3**2) + 1)
    assert p.grad is not None
    assert p.grad.flatten().nonzero().flatten().tolist() == [1, 2]


def test_outside_of_the_tube_all_is_background():
    p = batch(np.array([[0.9, 0.3, 0.6, 0.1, 0.85]])).requires_grad_()
    target = batch(np.array([[1, 0, 0, 0, 0]]))
    for tube, expected in ((1, 2 * 0.1**2), (2, 2 * 0.1**2 + 0.3**2)):
        loss = BettiMatchingLoss(dimensions=[0], tube=tube)(p, target)
        assert loss.item() == pytest.approx(expected)


def test_below_the_clamp_only_the_essential_bar_remains():
    values = np.random.default_rng(0).random((6, 7)) * 0.009
    for mask in (two_blobs((6, 7)), np.zeros((6, 7))):
        p = batch(values).requires_grad_()
        loss = BettiMatchingLoss(clamp=0.01)(p, batch(mask))
        loss.backward()
        assert p.grad is not None
        assert p.grad.flatten().nonzero().flatten().tolist() == [int(p.argmax())]


@pytest.mark.parametrize("clamp", [0.0, 0.01, 0.35])
def test_a_box_sent_from_a_device_gives_what_the_whole_channel_gives(clamp, monkeypatch):
    rng = np.random.default_rng(0)
    masks = [ring((11, 15, 17), 4.0), two_blobs((11, 15, 17)), np.zeros((11, 15, 17))]
    masks = np.stack([*masks, masks[1]])
    near = np.where(masks > 0, 0.8, 0.0) * rng.random(masks.shape)
    near += np.where(rng.random(masks.shape) < 0.02, 0.3 * rng.random(masks.shape), 0.0)
    near[:2, ..., :8] = near[:2, ..., -3:] = 0  # half of the masks is not found
    near[3] = 0.009 * rng.random(masks[3].shape)  # nothing is found
    near[3, 0, 0, 0] = 0.0095  # outside of the mask
    p, target = torch.from_numpy(near.clip(0, 1))[None], torch.from_numpy(masks > 0)[None]
    loss = BettiMatchingLoss(clamp=clamp, push_unmatched_to_1_0=True)
    results, sent = [], []
    for _ in range(2):
        leaf = p.clone().requires_grad_()
        value = loss(leaf, target)
        value.backward()
        results.append((value.item(), leaf.grad))

        def send(*arguments):
            boxes = diagrams._occupied_boxes(*arguments)
            sent.extend(box.values.numel() for box in boxes)
            return boxes

        monkeypatch.setattr(diagrams, "_boxes", send)
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-12)
    torch.testing.assert_close(results[1][1], results[0][1])
    assert min(sent) < p[0, 0].numel()


def test_an_object_of_which_nothing_exceeds_the_clamp_is_pulled_up_where_it_is():
    mask = two_blobs((20, 24))
    p = 0.004 * torch.rand(1, 1, 20, 24, generator=torch.Generator().manual_seed(0))
    p[0, 0, 0, 0] = 0.009
    assert not mask[0, 0]
    p.requires_grad_()
    BettiMatchingLoss(clamp=0.01)(p, torch.from_numpy(mask > 0)[None, None]).backward()
    assert p.grad is not None
    (pulled,) = p.grad[0, 0].nonzero().tolist()
    assert mask[tuple(pulled)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filtration": "sublevel"}, "'superlevel', 'both'.*got 'sublevel'"),
        ({"connectivity": "26"}, "'full' or 'face', got '26'"),
        ({"clamp": 1.0}, r"clamp must lie in \[0, 1\), got 1.0"),
        ({"tau": 0.5}, r"tau must lie in \(0.5, 1\], got 0.5"),
        ({"tube": -1}, "tube must be at least 0 voxels, got -1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        BettiMatchingLoss(**options)
