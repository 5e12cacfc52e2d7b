import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_topo.losses import ProjectedPoolingLoss

from ..shapes import batch, noisy, ring, shell, two_blobs

seeds = st.integers(0, 2**32 - 1)


def by_hand(probability, target, kernels):
    """Returns the loss from loops over planes, kernels and cells."""
    means = []
    for axis in range(3):
        planes = probability.max(axis), target.max(axis)
        for size in kernels:
            rows, columns = (range(0, side, min(size, side)) for side in planes[0].shape)
            cells = [
                abs(np.subtract(*(plane[r : r + size, c : c + size].max() for plane in planes)))
                for r in rows
                for c in columns
            ]
            means.append(np.mean(cells))
    return np.mean(means)


@given(seeds)
def test_the_loss_is_that_of_loops_over_planes_kernels_and_cells(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.permutation([3, 9, 23]))
    probability, target = rng.random(shape), rng.random(shape) < 0.02
    loss = ProjectedPoolingLoss()(batch(probability), batch(target)).item()
    assert loss == pytest.approx(by_hand(probability, target, (4, 5, 8, 10, 20)))


def test_chosen_planes_are_those_across_the_axes():
    rng = np.random.default_rng(5)
    probability, target = rng.random((2, 7, 9, 11))
    target = target < 0.02
    for axis in range(3):
        of_plane = [batch(volume.max(axis)) for volume in (probability, target)]
        expected = ProjectedPoolingLoss()(*of_plane)
        found = ProjectedPoolingLoss(planes=[axis])(batch(probability), batch(target))
        assert found.item() == pytest.approx(expected.item())
    means = [
        ProjectedPoolingLoss(planes=planes)(batch(probability), batch(target)).item()
        for planes in ([0], [2], [0, 2])
    ]
    assert means[2] == pytest.approx((means[0] + means[1]) / 2)
    for planes in ([], [3], [-1, 0]):
        with pytest.raises(ValueError, match="planes must be one or more of 0, 1 and 2, got"):
            ProjectedPoolingLoss(planes=planes)
    with pytest.raises(ValueError, match="planes need a volume, got an image"):
        ProjectedPoolingLoss(planes=[0])(batch(probability[0]), batch(target[0]))


def test_an_image_is_pooled_itself():
    # Kernel 2 on 3 x 4: cells of 2 x 2, and of 1 x 2 in the last row.
    probability = batch(np.array([[0.1, 0.9, 0, 0], [0.2, 0, 0, 0.3], [0, 0, 0.6, 0]]))
    target = batch(np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    loss = ProjectedPoolingLoss(kernel_sizes=[2])(probability, target)
    assert loss.item() == pytest.approx((0.1 + 0.3 + 0.0 + 0.6) / 4)
    # Kernel 1: every pixel by itself.
    loss = ProjectedPoolingLoss(kernel_sizes=[1])(probability, target)
    assert loss.item() == pytest.approx((0.1 + 0.1 + 0.2 + 0.3 + 0.6) / 12)


def test_only_the_form_of_the_published_code_is_blind_to_position():
    mask, moved = np.zeros((2, 24, 28, 40))
    mask[4:8, 4:8, 4:8] = moved[12:16, 16:20, 24:28] = 1
    kernels = {"kernel_sizes": (4, 8)}  # both lie on the grid of the cells
    loss = ProjectedPoolingLoss(**kernels)(batch(mask), batch(moved))
    blind = ProjectedPoolingLoss(**kernels, reduce_before_difference=True)
    assert loss.item() > 0.05
    assert blind(batch(mask), batch(moved)).item() == pytest.approx(0, abs=1e-12)
    assert blind(batch(0 * mask), batch(moved)).item() > 0.01


def test_what_all_projections_hide_is_not_seen():
    hollow, full = shell(), shell() | (np.indices(shell().shape).sum(0) < 0)
    full[3:8, 4:9, 5:10] = True  # fills the cavity
    assert full.sum() > hollow.sum()
    assert ProjectedPoolingLoss()(batch(full.astype(float)), batch(hollow)).item() == 0


@pytest.mark.parametrize("shape", [(1, 30, 41), (2, 3, 5), (7, 1), (16, 33, 18)])
def test_planes_smaller_than_a_kernel_are_pooled_to_what_they_are(shape):
    target = np.zeros(shape, bool)
    target[(-1,) * len(shape)] = True  # in the tail that floor pooling would lose
    loss = ProjectedPoolingLoss()
    p = batch(np.zeros(shape)).requires_grad_()
    value = loss(p, batch(target))
    value.backward()
    assert 0 < value.item() <= 1
    assert p.grad is not None
    assert torch.isfinite(p.grad).all()
    assert loss(batch(target.astype(float)), batch(target)).item() == 0


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("shape", [(9, 13), (5, 6, 7)])
def test_the_gradient_is_that_of_the_loss(shape, reduced):
    rng = np.random.default_rng(0)
    p = batch(rng.permutation(np.linspace(0.05, 0.95, np.prod(shape))).reshape(shape))
    target = batch(rng.random(shape) < 0.05)
    loss = ProjectedPoolingLoss(reduce_before_difference=reduced)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), p.requires_grad_())


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("mask", [ring(), shell(), two_blobs(), np.zeros((4, 5), bool)])
def test_a_perfect_prediction_costs_nothing_and_has_no_gradient(mask, reduced):
    p = batch(mask.astype(np.float64)).requires_grad_()
    loss = ProjectedPoolingLoss(reduce_before_difference=reduced)(p, batch(mask))
    loss.backward()
    assert loss.item() == 0
    assert p.grad is not None
    assert not p.grad.any()


@pytest.mark.parametrize("reduced", [False, True])
def test_samples_and_channels_are_averaged_and_their_order_is_irrelevant(reduced):
    masks = [ring((11, 13), 4.0), two_blobs((11, 13)), np.zeros((11, 13), bool)]
    probabilities = [noisy(m, s) for s, m in enumerate(masks)]
    loss = ProjectedPoolingLoss(reduce_before_difference=reduced)
    alone = [loss(batch(p), batch(m)).item() for p, m in zip(probabilities, masks, strict=True)]
    for order in ([0, 1, 2], [2, 0, 1]):
        p, t = (batch(*[images[i] for i in order]) for images in (probabilities, masks))
        assert loss(p, t).item() == pytest.approx(np.mean(alone))
        assert loss(p.transpose(0, 1), t.transpose(0, 1)).item() == pytest.approx(np.mean(alone))


def test_ignored_voxels_are_background_without_gradient():
    mask = two_blobs((9, 14))
    p, keep = batch(noisy(mask, 4)).requires_grad_(), batch(np.indices(mask.shape)[1] < 7)
    loss = ProjectedPoolingLoss()
    value = loss(p, batch(mask), keep)
    value.backward()
    assert p.grad is not None
    assert not p.grad[~keep].any()
    assert p.grad[keep].any()
    assert value.item() == pytest.approx(loss(p.detach() * keep, batch(mask) & keep).item())
    assert loss.begin(p, batch(mask), keep)().loss.item() == value.item()


def test_an_all_ignored_patch_is_a_differentiable_zero():
    p = torch.rand(1, 2, 4, 5, 6).requires_grad_()
    loss = ProjectedPoolingLoss()(p, torch.ones_like(p), torch.zeros(1, 1, 4, 5, 6).bool())
    loss.backward()
    assert loss.item() == 0
    assert p.grad is not None
    assert not p.grad.any()


def test_half_precision_agrees_to_its_rounding_and_nothing_is_changed():
    mask = two_blobs((9, 11, 14))
    logits = batch(6 * noisy(mask, 0) - 3)
    loss = ProjectedPoolingLoss()
    exact = loss(torch.sigmoid(logits), batch(mask)).item()
    p, t = torch.sigmoid(logits.half().float()), batch(mask).to(torch.int16)
    before = p.clone(), t.clone()
    assert loss(p, t).item() == pytest.approx(exact, abs=1e-3)
    assert torch.equal(p, before[0])
    assert torch.equal(t, before[1])


def test_pooling_with_ceil_mode_is_what_pytorch_does_after_padding():
    plane = torch.rand(1, 1, 16, 33)
    padded = functional.pad(plane, (0, 7, 0, 4), value=-1)
    expected = functional.max_pool2d(padded, 20).clamp(min=0)
    loss = ProjectedPoolingLoss([20])(plane, torch.zeros_like(plane))
    assert expected.shape == (1, 1, 1, 2)
    assert loss.item() == pytest.approx(expected.mean().item())


@pytest.mark.usefixtures("unchecked")
def test_wrong_values_are_refused_by_name():
    for kernels in ((), (4, 0)):
        with pytest.raises(ValueError, match="kernel_sizes must be one or more, at least 1, got"):
            ProjectedPoolingLoss(kernels)
    with pytest.raises(ValueError, match=r"same shape.*got \(1, 1, 4, 5\) and \(1, 2, 4, 5\)"):
        ProjectedPoolingLoss()(torch.rand(1, 1, 4, 5), torch.zeros(1, 2, 4, 5))


def test_all_planes_may_be_named():
    p = torch.rand(1, 1, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    named = ProjectedPoolingLoss(planes=(0, 1, 2))(p, p > 0.5)
    assert named == ProjectedPoolingLoss()(p, p > 0.5)
