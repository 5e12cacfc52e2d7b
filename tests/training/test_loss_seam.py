"""How labels, regions and the ignore label reach the losses."""

import pytest
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import nn

from nnunet_topo.losses import (
    BettiMatchingLoss,
    BettiPriorLoss,
    ProjectedPoolingLoss,
    WassersteinLoss,
)
from nnunet_topo.training.base_losses import FocalBaseLoss
from nnunet_topo.training.channels import topology_channels
from nnunet_topo.training.loss import TopologyAwareLoss
from nnunet_topo.training.scales import as_tensor

LABELS = LabelManager({"background": 0, "a": 1, "b": 2}, None)
IGNORE = LabelManager({"background": 0, "a": 1, "b": 2, "ignore": 3}, None)
REGIONS = LabelManager({"background": 0, "ab": [1, 2], "b": 2}, [1, 2])
REGIONS_IGNORE = LabelManager({"background": 0, "ab": [1, 2], "b": 2, "ignore": 3}, [1, 2])


def logits(channels, *, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(2, channels, 5, 6, 7, generator=generator).to(dtype)


def label_map(highest):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, highest + 1, (2, 1, 5, 6, 7), generator=generator).to(torch.int16)


def region_target(*, ignore=False):
    labels = label_map(3 if ignore else 2)
    regions = [(labels == 1) | (labels == 2), labels == 2]
    return torch.cat([*regions, labels == 3] if ignore else regions, dim=1)


def test_softmax_gives_a_channel_per_foreground_label_and_none_for_the_background():
    target = label_map(2)
    probability, one_hot, mask = topology_channels(logits(3), target, LABELS)
    assert probability.shape == one_hot.shape == (2, 2, 5, 6, 7)
    assert torch.equal(probability, torch.softmax(logits(3), 1)[:, 1:])
    assert torch.equal(one_hot[:, 0], target[:, 0] == 1)
    assert torch.equal(one_hot[:, 1], target[:, 0] == 2)
    assert mask is None


def test_regions_give_a_channel_each():
    probability, one_hot, mask = topology_channels(logits(2), region_target(), REGIONS)
    assert torch.equal(probability, torch.sigmoid(logits(2)))
    assert torch.equal(one_hot, region_target())
    assert mask is None


def test_the_ignore_label_masks_and_is_no_class():
    target = label_map(3)
    _, one_hot, mask = topology_channels(logits(3), target, IGNORE)
    assert one_hot.shape[1] == 2
    assert mask is not None
    assert torch.equal(mask, target != 3)
    _, one_hot, mask = topology_channels(logits(2), region_target(ignore=True), REGIONS_IGNORE)
    assert one_hot.shape[1] == 2
    assert mask is not None
    assert torch.equal(mask, label_map(3) != 3)


def test_half_precision_logits_are_raised_before_softmax_and_sigmoid():
    for manager, channels, target in ((LABELS, 3, label_map(2)), (REGIONS, 2, region_target())):
        half = logits(channels, dtype=torch.float16)
        probability = topology_channels(half, target, manager)[0]
        assert probability.dtype == torch.float32
        assert torch.equal(probability, topology_channels(half.float(), target, manager)[0])


@pytest.mark.parametrize(
    ("manager", "channels", "target"),
    [(IGNORE, 3, label_map(3)), (REGIONS_IGNORE, 2, region_target(ignore=True))],
)
def test_ignored_voxels_get_no_gradient_of_focal_loss_or_term(manager, channels, target):
    x = logits(channels).requires_grad_()
    loss = TopologyAwareLoss(FocalBaseLoss(manager), WassersteinLoss(), manager)
    loss.weight = 1.0
    loss(x, target).backward()
    ignored = (label_map(3) == 3).expand_as(x)
    assert x.grad is not None
    assert not x.grad[ignored].any()
    assert x.grad[~ignored].all()


def aware(weight, base=None):
    loss = TopologyAwareLoss(base or FocalBaseLoss(LABELS), WassersteinLoss(clamp=0.01), LABELS)
    loss.weight = weight
    return loss


def test_the_loss_is_base_plus_weight_times_term():
    x, target = logits(3), label_map(2)
    loss = aware(0.25)
    total = loss(x.requires_grad_(), target).item()
    term = WassersteinLoss(clamp=0.01)(*topology_channels(x, target, LABELS)).item()
    assert loss.record.base == pytest.approx(FocalBaseLoss(LABELS)(x, target).item())
    assert loss.record.term == pytest.approx(term)
    assert term > 0
    assert total == pytest.approx(loss.record.base + 0.25 * term)
    assert loss.record.milliseconds > 0


def test_without_weight_or_gradient_the_base_loss_is_all():
    x, target = logits(3).requires_grad_(), label_map(2)
    base = FocalBaseLoss(LABELS)(x, target)
    assert torch.equal(aware(None)(x, target), base)
    with torch.no_grad():
        assert torch.equal(aware(1.0)(x, target), base)


def test_the_term_sees_the_finest_scale_alone():
    fine, coarse = logits(3).requires_grad_(), logits(3)[:, :, ::2].requires_grad_()
    targets = [label_map(2), label_map(2)[:, :, ::2]]
    nothing = as_tensor(0, fine)
    base = DeepSupervisionWrapper(_Zero(), (0.75, 0.25))
    (aware(1.0, base)([fine, coarse], targets) + nothing).backward()
    assert fine.grad is not None
    assert fine.grad.any()
    assert coarse.grad is not None
    assert not coarse.grad.any()


class _Zero(nn.Module):
    def forward(self, output, target):
        return 0 * output.sum() + 0 * target.sum()


def test_tiles_lie_at_random_places_that_a_seed_repeats_and_no_other_random_number_changes():
    terms = []
    for _ in range(2):
        torch.manual_seed(5)
        loss = TopologyAwareLoss(_Zero(), WassersteinLoss(tile_size=3), LABELS)
        loss.weight = 1.0
        state = torch.get_rng_state()
        for _ in range(4):
            loss(logits(3).requires_grad_(), label_map(2))
            terms.append(loss.record.term)
        assert torch.equal(torch.get_rng_state(), state)
    assert terms[:4] == terms[4:]
    assert len(set(terms)) > 1


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_leave_out_the_term(value):
    x = logits(3)
    x[0, 0, 0, 0, 0] = value
    loss = aware(1.0)
    loss(x.requires_grad_(), label_map(2))
    assert loss.record.term != loss.record.term  # NaN: not computed


def test_a_patch_without_foreground_is_emptied():
    x = logits(3).requires_grad_()
    loss = aware(1.0, _Zero())
    loss(x, torch.zeros_like(label_map(2))).backward()
    assert loss.record.term > 0
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_a_base_loss_that_is_the_number_0_becomes_a_tensor_with_a_graph():
    scales = [logits(3).requires_grad_(), logits(3).requires_grad_()]
    as_tensor(0, scales).backward()
    assert all(scale.grad is not None and not scale.grad.any() for scale in scales)


def test_a_union_of_classes_is_the_sum_and_of_regions_the_maximum():
    target = label_map(2)
    probability, one_hot, _ = topology_channels(logits(3), target, LABELS, [(0, 1)])
    assert torch.equal(probability[:, :2], torch.softmax(logits(3), 1)[:, 1:])
    assert torch.allclose(probability[:, 2], 1 - torch.softmax(logits(3), 1)[:, 0], atol=1e-6)
    assert probability.max() <= 1
    assert torch.equal(one_hot[:, 2], target[:, 0] > 0)
    probability, one_hot, mask = topology_channels(
        logits(2), region_target(ignore=True), REGIONS_IGNORE, [(1, 0), (1,)]
    )
    assert torch.equal(probability[:, 2], torch.sigmoid(logits(2)).amax(1))
    assert torch.equal(probability[:, 3], torch.sigmoid(logits(2))[:, 1])
    assert torch.equal(one_hot[:, 2], (label_map(3) == 1)[:, 0] | (label_map(3) == 2)[:, 0])
    assert mask is not None
    assert mask.shape == (2, 1, 5, 6, 7)


@pytest.mark.parametrize("union", [(0, 2), (), (-1,)])
def test_a_union_of_channels_that_do_not_exist_is_refused(union):
    with pytest.raises(ValueError, match=r"channels from 0 to 1, got"):
        topology_channels(logits(3), label_map(2), LABELS, [union])


def test_a_joint_prior_of_a_union_reaches_the_logits_of_its_classes():
    x = logits(3).requires_grad_()
    loss = TopologyAwareLoss(_Zero(), BettiPriorLoss({2: (1, 0, 0)}), LABELS, unions=[(0, 1)])
    loss.weight = 1.0
    loss(x, label_map(2)).backward()
    assert x.grad is not None
    assert loss.record.term > 0
    assert all(x.grad[:, channel].any() for channel in range(3))


def test_several_terms_are_summed_with_their_factors_whatever_they_are():
    x, target = logits(3), label_map(2)
    channels = topology_channels(x, target, LABELS)
    bars, pooled = WassersteinLoss(clamp=0.01), ProjectedPoolingLoss()

    def volume(probability, target, mask):
        assert mask is None
        return (probability.mean() - target.float().mean()).abs()

    expected = 0.5 * bars(*channels) + 2 * pooled(*channels) + 3 * volume(*channels)
    loss = TopologyAwareLoss(_Zero(), [(0.5, bars), (2, pooled), (3, volume)], LABELS)
    loss.weight = 0.1
    total = loss(x.requires_grad_(), target)
    total.backward()
    assert total.item() == pytest.approx(0.1 * expected.item())
    assert loss.record.term == pytest.approx(expected.item())
    assert loss.record.distance == pytest.approx(bars.measure(*channels).distance)
    assert x.grad is not None
    assert x.grad.all()
    assert "ProjectedPoolingLoss" in str(loss.term)


def test_a_term_without_an_exact_distance_logs_none():
    loss = TopologyAwareLoss(_Zero(), ProjectedPoolingLoss(), LABELS)
    loss.weight = 1.0
    loss(logits(3).requires_grad_(), label_map(2))
    assert loss.record.term > 0
    assert loss.record.distance != loss.record.distance  # NaN


@pytest.mark.parametrize(
    "term",
    TERMS := [
        WassersteinLoss(tile_size=4, clamp=0.01),
        ProjectedPoolingLoss(),
        BettiPriorLoss({0: "target"}),
        BettiMatchingLoss(clamp=0.01),
        BettiMatchingLoss(filtration="both", push_unmatched_to_1_0=True, tau=0.99),
    ],
)
def test_every_term_takes_one_class_a_missing_class_and_leaves_the_target_alone(term):
    one = LabelManager({"background": 0, "a": 1}, None)
    gap = (2 * (label_map(1) > 0)).to(torch.int16)  # label 1 of 2 never occurs
    for manager, channels, target in ((one, 2, label_map(1)), (LABELS, 3, gap)):
        x, before = logits(channels).requires_grad_(), target.clone()
        loss = TopologyAwareLoss(_Zero(), term, manager)
        loss.weight = 1.0
        loss(x, target).backward()
        assert loss.record.term > 0
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
        assert torch.equal(target, before)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("manager", [IGNORE, REGIONS_IGNORE])
def test_every_term_is_a_differentiable_zero_where_all_is_ignored(term, manager):
    x = logits(2 if manager.has_regions else 3).requires_grad_()
    target = torch.full_like(label_map(3), 3)
    if manager.has_regions:
        target = torch.cat([target == 1, target == 2, target == 3], dim=1)
    loss = TopologyAwareLoss(_Zero(), term, manager)
    loss.weight = 1.0
    total = loss(x, target)
    total.backward()
    assert total.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("term", TERMS)
def test_half_precision_logits_give_the_loss_of_their_rounding(term):
    half = logits(3, dtype=torch.float16)
    values = []
    for x in (half, half.float()):
        torch.manual_seed(0)
        values.append(term(*topology_channels(x, label_map(2), LABELS)).item())
    assert values[0] == values[1]


def test_a_term_computes_in_float32_under_autocast():
    def overlap(probability, target, mask):
        return (probability.flatten(1) @ target.float().flatten(1).T).mean()

    terms = []
    for enabled in (True, False):
        loss = TopologyAwareLoss(_Zero(), [(1, overlap), (1, WassersteinLoss())], LABELS)
        loss.weight = 1.0
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss(logits(3).requires_grad_(), label_map(2))
        terms.append(loss.record.term)
    assert terms[0] == terms[1]


# -- samples whose labels were interpolated ----------------------------------------------------

SEAMS = [
    (LABELS, 3, label_map(2)),
    (IGNORE, 3, label_map(3)),
    (REGIONS, 2, region_target()),
    (REGIONS_IGNORE, 2, region_target(ignore=True)),
]


@pytest.mark.parametrize(("manager", "channels", "target"), SEAMS)
@pytest.mark.parametrize("deep", [False, True])
def test_the_term_is_the_mean_over_the_samples_whose_labels_are_intact(
    manager, channels, target, deep
):
    x = logits(channels).requires_grad_()
    base = DeepSupervisionWrapper(_Zero(), (1,)) if deep else _Zero()
    loss = TopologyAwareLoss(base, WassersteinLoss(), manager)
    loss.weight, loss.intact = 2.0, torch.tensor([False, True])
    total = loss([x], [target]) if deep else loss(x, target)
    alone = WassersteinLoss()(*topology_channels(x[1:], target[1:], manager))
    assert float(total.detach()) == pytest.approx(2 * float(alone.detach()))
    assert (loss.record.term, loss.record.samples) == (pytest.approx(float(alone.detach())), 0.5)
    total.backward()
    assert x.grad is not None
    assert not x.grad[0].any()
    assert x.grad[1].any()


def test_without_an_intact_label_the_base_loss_is_all_and_the_record_says_so():
    x, target = logits(3).requires_grad_(), label_map(2)
    loss = aware(0.25)
    loss.intact = torch.zeros(2, dtype=torch.bool)
    assert torch.equal(loss(x, target), FocalBaseLoss(LABELS)(x, target))
    assert loss.record.samples == 0
    assert loss.record.term != loss.record.term  # NaN: not computed
    loss.intact = None
    loss(x, target)
    assert loss.record.samples == 1
    assert loss.record.term > 0


class _Plain:
    """A term of a user's own."""

    def __call__(self, probability, target, mask):
        return (probability * target).sum()


@pytest.mark.parametrize(
    ("term", "needs"),
    [
        (WassersteinLoss(), True),
        (BettiMatchingLoss(), True),
        (_Plain(), True),
        (ProjectedPoolingLoss(), False),
        (BettiPriorLoss({0: (1, 0, 0), 1: (1, 0, 0)}), False),
        (BettiPriorLoss({0: (1, 0, 0)}, in_patches=True), True),
        (BettiPriorLoss({0: (1, 0, 0), 1: "target"}), True),
        ([(1, ProjectedPoolingLoss()), (1, BettiPriorLoss({0: (1, 0, 0)}))], False),
        ([(1, ProjectedPoolingLoss()), (1, _Plain())], True),
    ],
)
def test_only_terms_that_look_at_the_topology_of_labels_leave_samples_out(term, needs):
    loss = TopologyAwareLoss(_Zero(), term, LABELS)
    x, target = logits(3).requires_grad_(), label_map(2)
    measured = loss.measure_term(x, target, torch.tensor([False, False]))
    assert (measured is None) == loss.needs_intact_labels == needs
    if not needs:
        assert torch.equal(measured.loss, loss.measure_term(x, target).loss)
        assert loss.record.samples != loss.record.samples  # NaN: all, always


def test_images_without_labels_are_all_seen():
    loss = TopologyAwareLoss(_Zero(), BettiPriorLoss({0: (1, 0, 0)}, in_patches=True), LABELS)
    assert loss.measure_term(logits(3).requires_grad_(), None, torch.tensor([False])) is not None


def test_notes_of_another_batch_are_refused():
    with pytest.raises(ValueError, match="intact must have 2 booleans, one per sample, got 3"):
        aware(1.0).measure_term(logits(3), label_map(2), torch.ones(3, dtype=torch.bool))
