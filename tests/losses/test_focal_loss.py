import numpy as np
import pytest
import torch
from torch.nn import functional

from nnunet_topo.losses import FocalLoss


def logits_and_labels(classes=3, shape=(2, 5, 6, 7)):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(shape[0], classes, *shape[1:], generator=generator)
    labels = torch.randint(0, classes, (shape[0], 1, *shape[1:]), generator=generator)
    return logits, labels.to(torch.int16)


def test_softmax_is_the_formula_of_the_paper():
    logits, labels = logits_and_labels()
    p_t = torch.softmax(logits.double(), 1).gather(1, labels.long())
    expected = (-2.0 * (1 - p_t) ** 2 * p_t.log()).mean()
    assert FocalLoss(alpha=2.0)(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)


def test_one_voxel_by_hand():
    # p_t = .8: .2 ** 2 * -ln(.8)
    logits = torch.tensor([0.0, np.log(4.0)]).reshape(1, 2, 1, 1)
    loss = FocalLoss()(logits, torch.ones(1, 1, 1, 1))
    assert loss.item() == pytest.approx(0.04 * -np.log(0.8))
    for alpha in (0.0, 0.25):
        assert FocalLoss(alpha)(logits, torch.ones(1, 1, 1, 1)).item() == alpha * loss.item()


def test_a_single_voxel_that_counts_is_the_whole_loss():
    logits, labels = logits_and_labels()
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[1, 0, 2, 3, 4] = True
    alone = FocalLoss()(logits[1:, :, 2:3, 3:4, 4:5], labels[1:, :, 2:3, 3:4, 4:5])
    assert FocalLoss()(logits, labels, mask).item() == pytest.approx(alone.item())


def test_gamma_0_is_the_cross_entropy():
    logits, labels = logits_and_labels()
    expected = functional.cross_entropy(logits, labels[:, 0].long())
    assert FocalLoss(gamma=0.0)(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    regions = (labels == torch.arange(3).view(1, 3, 1, 1, 1)).float()
    expected = functional.binary_cross_entropy_with_logits(logits, regions)
    assert FocalLoss(gamma=0.0)(logits, regions).item() == pytest.approx(expected.item(), rel=1e-6)


def test_regions_are_binary_problems_of_their_own():
    logits, labels = logits_and_labels()
    regions = labels == torch.arange(3).view(1, 3, 1, 1, 1)
    p = torch.sigmoid(logits.double())
    p_t = torch.where(regions, p, 1 - p)
    expected = (-((1 - p_t) ** 2) * p_t.log()).mean()
    assert FocalLoss()(logits, regions).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("with_regions", [False, True])
def test_ignored_voxels_have_no_part_and_no_gradient(with_regions):
    logits, labels = logits_and_labels()
    mask = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    target = labels == torch.arange(3).view(1, 3, 1, 1, 1) if with_regions else labels.clone()
    if not with_regions:
        target[~mask] = 99  # an ignore label is no class
    logits.requires_grad_()
    loss = FocalLoss()(logits, target, mask)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[(~mask).expand_as(logits)].any()
    kept = logits.detach().movedim(1, -1)[mask[:, 0]]
    truth = target.movedim(1, -1)[mask[:, 0]]
    alone = FocalLoss()(kept[..., None, None], truth[..., None, None])
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)


def test_an_all_ignored_patch_costs_nothing():
    logits, labels = logits_and_labels()
    loss = FocalLoss()(logits.requires_grad_(), labels, torch.zeros_like(labels, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_certain_voxels_and_half_precision_stay_finite(gamma):
    logits = torch.tensor([60000.0, -60000.0]).half().reshape(1, 2, 1, 1).requires_grad_()
    for label in (0, 1):
        loss = FocalLoss(gamma=gamma)(logits, torch.full((1, 1, 1, 1), label))
        loss.backward()
        assert torch.isfinite(loss)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_gradient_is_that_of_the_loss(gamma):
    logits, labels = logits_and_labels(shape=(1, 2, 3, 4))
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: FocalLoss(gamma=gamma)(x, labels), logits)


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"at least 0, got 1\.0 and -1\.0"):
        FocalLoss(gamma=-1.0)
    with pytest.raises(ValueError, match=r"1 or 3 channels, got shape \(1, 2, 4, 4\)"):
        FocalLoss()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 4))
