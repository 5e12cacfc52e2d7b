"""Skeleton Recall, clDice and SCNP: values of a slow reference, gradients, edge cases."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from nnunet_topo.losses import ClDiceLoss, SkeletonRecallLoss, least_confident_neighbours
from nnunet_topo.losses.cldice import _joined, _lost, soft_skeleton
from nnunet_topo.losses.skeleton_recall import tubes_of
from nnunet_topo.topology import betti_numbers, thin
from nnunet_topo.topology.tubes import tube_around_lines

from ..shapes import ball, ring
from . import references

SHAPES = [(2, 2, 9, 11), (1, 2, 6, 5, 7)]
LOSSES = [
    SkeletonRecallLoss(),
    SkeletonRecallLoss(over_batch=True),
    ClDiceLoss(iterations=2),
    ClDiceLoss(iterations=2, exact=True, over_batch=True),
]


def case(shape, seed=0, *, ignored=False):
    """Returns probability, blocky target and mask."""
    rng = np.random.default_rng(seed)
    probability = rng.uniform(size=shape)
    target = rng.uniform(size=shape) < 0.25
    for axis in range(2, len(shape)):  # blocks of 2 and 3 voxels
        target |= np.roll(target, 1, axis)
    mask = rng.uniform(size=(shape[0], 1, *shape[2:])) < 0.7 if ignored else None
    return probability, target, mask


def tensors(*arrays):
    return [None if a is None else torch.from_numpy(a) for a in arrays]


def tubes(target, mask):
    inside = target if mask is None else target & mask
    return np.array([[references.tube(channel) for channel in sample] for sample in inside])


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("over_batch", [False, True])
def test_skeleton_recall_is_that_of_loops_over_voxels(shape, ignored, over_batch):
    probability, target, mask = case(shape, ignored=ignored)
    expected = references.skeleton_recall(
        probability, tubes(target, mask), mask, over_batch=over_batch
    )
    loss = SkeletonRecallLoss(over_batch=over_batch)
    assert loss(*tensors(probability, target, mask)).item() == pytest.approx(expected, rel=1e-9)
    assert 0 < expected < 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(("exact", "over_batch"), [(False, False), (True, True)])
def test_cldice_is_that_of_loops_over_voxels(shape, ignored, exact, over_batch):
    probability, target, mask = case(shape, ignored=ignored)
    expected = references.cldice(
        probability, target, mask, iterations=2, exact=exact, over_batch=over_batch
    )
    loss = ClDiceLoss(iterations=2, exact=exact, over_batch=over_batch)
    for with_gradient in (True, False):
        given, *others = tensors(probability, target, mask)
        value = loss(given.requires_grad_(with_gradient), *others).item()
        assert value == pytest.approx(expected, rel=1e-9)
    assert 0 < expected < 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("side", [3, 5])
def test_neighbours_are_those_of_loops_over_voxels(shape, ignored, side):
    logits, target, mask = case(shape, ignored=ignored)
    expected = references.least_confident(logits, target, mask, side=side)
    given = tensors(logits, target, mask)
    assert np.array_equal(least_confident_neighbours(*given, window=side).numpy(), expected)
    assert (expected != logits).mean() > 0.3


def test_a_voxel_alone_is_its_own_neighbourhood():
    logits, target = tensors(*case((1, 2, 5, 6))[:2])
    assert torch.equal(least_confident_neighbours(logits, target, window=1), logits)


def test_tubes_of_face_connected_masks_are_not_those_of_full_ones():
    probability, target, _ = case((1, 1, 12, 14), seed=1)
    tubes = {
        connectivity: torch.from_numpy(tube_around_lines(target[0, 0], connectivity=connectivity))
        for connectivity in ("full", "face")
    }
    assert not torch.equal(*tubes.values())
    for connectivity, tube in tubes.items():
        loss = SkeletonRecallLoss(connectivity=connectivity)
        given = tensors(probability, target)
        assert loss(*given) == loss(*given, tube=tube[None, None])


def test_cldice_by_default_is_soft_and_that_of_each_sample():
    given = tensors(*case((2, 1, 12, 14))[:2])
    expected = ClDiceLoss(exact=False, over_batch=False)(*given)
    assert ClDiceLoss()(*given) == expected
    for other in (ClDiceLoss(exact=True), ClDiceLoss(over_batch=True)):
        assert other(*given) != expected


def test_a_skeleton_after_no_erosion_is_what_an_opening_removes():
    target = torch.zeros(1, 1, 7, 7)
    target[..., 3, 1:6] = 1  # a line, which no opening keeps
    assert ClDiceLoss(iterations=0)(target, target).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_have_the_type_of_the_probability(dtype):
    probability, target = tensors(*case((2, 1, 12, 14))[:2])
    for loss in LOSSES:
        assert loss(probability.to(dtype), target).dtype == dtype


def test_recall_by_hand():
    # A line of five voxels is its own tube; two of them have .5, the others 1: recall .8.
    target = torch.zeros(1, 1, 5, 9)
    target[..., 2, 2:7] = 1
    probability = target.clone()
    probability[..., 2, 3:5] = 0.5
    probability[..., 0, 0] = 0.7  # an island costs nothing
    assert SkeletonRecallLoss()(probability, target).item() == pytest.approx(0.2, abs=1e-5)


def test_cldice_by_hand():
    # One voxel of two is missing: shares (1 + 1) / (1 + 1) and (1 + 1) / (2 + 1), harmonic mean .8.
    target = torch.zeros(1, 1, 5, 9)
    target[..., 2, 3:5] = 1
    probability = target.clone()
    probability[..., 2, 4] = 0
    assert ClDiceLoss()(probability, target).item() == pytest.approx(0.2)


def test_a_tube_has_two_voxels_on_each_side_and_ends_in_the_mask():
    mask = np.zeros((15, 30), bool)
    mask[2:13, 2:28] = True
    tube = tube_around_lines(mask)
    assert not (tube & ~mask).any()
    assert (tube[:, 14].nonzero()[0] == [5, 6, 7, 8, 9]).all()
    assert np.array_equal(tube_around_lines(mask, radius=0), thin(mask))
    assert np.array_equal(tube, references.tube(mask))
    line = np.zeros((15, 30), bool)
    line[7, 3:27] = True
    assert np.array_equal(tube_around_lines(line), line)
    with pytest.raises(ValueError, match="radius must be at least 0, got -1"):
        tube_around_lines(mask, radius=-1)


def test_the_skeleton_of_a_ring_keeps_its_hole():
    for shape in ((22, 26), (11, 15, 17)):
        mask = ring(shape, 8.0 if len(shape) == 2 else 5.0, 1.5)
        assert betti_numbers(tube_around_lines(mask)) == betti_numbers(mask)


def test_channels_are_averaged_whatever_they_hold():
    probability, target, _ = tensors(*case((2, 3, 9, 11)))
    for loss in LOSSES:
        parts = [loss(probability[:, [c]], target[:, [c]]).item() for c in range(3)]
        assert loss(probability, target).item() == pytest.approx(np.mean(parts))


def test_a_prediction_equal_to_the_target_costs_nothing():
    target = torch.from_numpy(ring((22, 26), 8.0, 1.5))[None, None]
    for loss in LOSSES:
        assert loss(target.double(), target).item() == pytest.approx(0, abs=1e-6)


def test_recall_asks_for_gaps_to_be_closed_and_cldice_also_for_islands_to_go():
    target = torch.from_numpy(ring((22, 26), 8.0, 1.5))[None, None]
    perfect = target.double()
    island, gap = perfect.clone(), perfect.clone()
    island[..., 1:3, 1:4] = 1
    gap[..., 8:12, 17:] = 0
    recall, cldice = SkeletonRecallLoss(), ClDiceLoss()
    assert recall(island, target) == recall(perfect, target)
    assert recall(gap, target) > recall(perfect, target) + 0.02
    for wrong in (island, gap):
        assert cldice(wrong, target) > cldice(perfect, target) + 0.005


def test_given_skeletons_are_used_in_the_place_of_the_targets_own():
    probability, target, mask = tensors(*case((2, 2, 9, 11), ignored=True))
    own = tubes_of(target & mask)
    recall = SkeletonRecallLoss()
    assert recall(probability, target, mask, tube=own) == recall(probability, target, mask)
    some = own & (torch.arange(11) < 5)
    expected = references.skeleton_recall(*(t.numpy() for t in (probability, some, mask)))
    assert recall(probability, target, mask, tube=some).item() == pytest.approx(expected)
    exact = ClDiceLoss(iterations=2, exact=True)
    lines = torch.from_numpy(np.array([[thin(c) for c in s] for s in (target & mask).numpy()]))
    assert exact(probability, target, mask, lines=lines) == exact(probability, target, mask)
    assert exact(probability, target, mask, lines=some) != exact(probability, target, mask)


def test_sums_of_other_processes_are_gathered():
    probability, target, _ = tensors(*case((4, 2, 9, 11)))
    for make in (SkeletonRecallLoss, ClDiceLoss):
        told = []

        def tell(sums, told=told):
            told.append(sums)
            return sums[None]

        for half in (slice(2), slice(2, 4)):
            make(over_batch=True, gather=tell)(probability[half], target[half])
        apart = make(over_batch=True, gather=lambda _, told=told: torch.stack(told))
        whole = make(over_batch=True)(probability, target)
        assert apart(probability[:2], target[:2]).item() == pytest.approx(whole.item())


# -- gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_that_of_the_loss(loss, shape):
    probability, target, mask = tensors(*case(shape, ignored=True))
    probability.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, target, mask), probability)
    loss(probability, target, mask).backward()
    assert not probability.grad[~mask.expand_as(probability)].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_neighbours_reaches_those_that_were_taken(shape):
    logits, target, mask = tensors(*case(shape, ignored=True))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: least_confident_neighbours(x, target, mask)[mask.expand_as(x)], logits
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_skeleton_in_pieces_has_the_gradient_of_one_that_is_kept_whole(shape):
    image, weight, _ = tensors(*case(shape))
    gradients = []
    for whole in (False, True):
        leaf = image.clone().requires_grad_()
        skeleton, eroded = soft_skeleton(leaf, 4), leaf
        if whole:
            skeleton = _lost(leaf)
            for _ in range(4):
                eroded, skeleton = _joined(eroded, skeleton)
        (skeleton * (weight + image)).sum().backward()
        gradients.append(leaf.grad)
    assert torch.allclose(*gradients, rtol=1e-12)
    assert gradients[0].any()


def test_few_bytes_are_kept_for_the_backward_pass_of_cldice():
    p = torch.rand(1, 3, 24, 24, 24, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel() * t.element_size()) or t, lambda t: t
    ):
        ClDiceLoss(iterations=10)(p, p > 0.5)
    # Image and skeleton of each iteration; without pieces there would be the maxima of all axes.
    assert sum(kept) / p.numel() < 150


# -- edge cases --------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_but_ignored_voxels_costs_nothing(loss, shape):
    probability, target, _ = tensors(*case(shape))
    probability.requires_grad_()
    value = loss(probability, target, torch.zeros(shape[0], 1, *shape[2:], dtype=torch.bool))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-9)
    assert not probability.grad.any()


def test_an_empty_target_has_no_recall_to_lose_and_cldice_removes_what_is_there():
    probability = torch.rand(1, 1, 9, 11, requires_grad=True)
    nothing = torch.zeros(1, 1, 9, 11)
    assert SkeletonRecallLoss()(probability, nothing).item() == 0
    loss = ClDiceLoss()(probability, nothing)
    loss.backward()
    assert loss.item() > 0.1
    assert probability.grad.max() > 0


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 1, 7), (1, 1, 1, 1, 1), (1, 1, 2, 1, 3)])
def test_the_smallest_patches_are_taken(shape):
    probability, full = torch.full(shape, 0.5), torch.ones(shape)
    assert torch.isfinite(ClDiceLoss()(probability, full))
    assert SkeletonRecallLoss()(probability, full).item() == pytest.approx(0.5, abs=1e-4)
    assert torch.equal(least_confident_neighbours(probability, full), probability)


def test_neighbours_of_one_class_alone_are_pooled_by_the_border():
    logits = torch.arange(5.0).reshape(1, 1, 1, 5)
    full, empty = torch.ones_like(logits), torch.zeros_like(logits)
    assert least_confident_neighbours(logits, full).flatten().tolist() == [0, 0, 1, 2, 3]
    assert least_confident_neighbours(logits, empty).flatten().tolist() == [1, 2, 3, 4, 4]
    big = 1e6 * logits
    assert least_confident_neighbours(big, full).flatten()[-1] == 3e6


def test_second_derivatives_of_cldice_are_refused():
    probability, target, _ = tensors(*case((1, 1, 9, 11)))
    probability.requires_grad_()
    (first,) = torch.autograd.grad(
        ClDiceLoss()(probability, target), probability, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


def test_half_precision_gives_the_loss_of_its_rounding():
    probability, target, _ = tensors(*case((1, 2, 9, 11)))
    for loss in LOSSES:
        assert loss(probability.half(), target) == loss(probability.half().float(), target)
    half = least_confident_neighbours(probability.half(), target)
    assert half.dtype == torch.float16
    assert torch.isfinite(half).all()


def test_a_soft_skeleton_of_a_line_is_the_line_and_of_a_ball_lies_in_it():
    line = torch.zeros(1, 1, 9, 9)
    line[..., 4, 2:7] = 1
    assert torch.equal(soft_skeleton(line, 3), line)
    solid = torch.from_numpy(ball((11, 11), (5, 5), 4)).float()[None, None]
    skeleton = soft_skeleton(solid, 10)
    assert 0 < skeleton.sum() < 0.4 * solid.sum()
    assert not (skeleton > solid).any()


def test_cross_entropy_of_neighbours_is_that_of_the_worst_voxel():
    logits = torch.full((1, 1, 9, 9), 4.0)
    logits[..., 4, 4] = -1.0
    full = torch.ones_like(logits)
    worst = functional.binary_cross_entropy_with_logits(logits, full, reduction="none").max()
    taken = least_confident_neighbours(logits, full)
    loss = functional.binary_cross_entropy_with_logits(taken, full, reduction="none")
    assert (loss == worst).sum() == 9


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"smooth must be above 0, got 0"):
        SkeletonRecallLoss(smooth=0.0)
    for smooth in (0.0, -1.0):
        with pytest.raises(ValueError, match=rf"smooth must be above 0, got {smooth:g}"):
            ClDiceLoss(smooth=smooth)
    with pytest.raises(ValueError, match="iterations must be at least 0, got -1"):
        ClDiceLoss(iterations=-1)
    for make in (SkeletonRecallLoss, ClDiceLoss):
        with pytest.raises(ValueError, match="connectivity"):
            make(connectivity="26")
    for window in (0, 2):
        with pytest.raises(ValueError, match=f"window must be odd and at least 1, got {window}"):
            least_confident_neighbours(
                torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), window=window
            )


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_do_not_fit_are_refused():
    p = torch.zeros(1, 2, 4, 4)
    for call in (*LOSSES, least_confident_neighbours):
        with pytest.raises(ValueError, match=r"same shape.*\(1, 2, 4, 4\) and \(1, 1, 4, 4\)"):
            call(p, p[:, :1])
