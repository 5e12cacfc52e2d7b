"""Skeleton Recall, clDice and SCNP in a training: beside the base loss, with absolute weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

from nnunet_topo.losses import ClDiceLoss, SkeletonRecallLoss
from nnunet_topo.training.added_losses import AddedWeights, BaseWithAddedLosses
from nnunet_topo.training.augmentation import SKELETONS, note_apart
from nnunet_topo.training.base_losses import FocalBaseLoss, NeighbourBaseLoss
from nnunet_topo.training.channels import topology_channels
from nnunet_topo.training.skeletons import TargetSkeletons

from ..conftest import run
from ..losses import references
from ..trainers import batches, weights
from .test_loss_seam import (
    IGNORE,
    LABELS,
    REGIONS,
    REGIONS_IGNORE,
    label_map,
    logits,
    region_target,
)

SEAMS = [
    (LABELS, 3, label_map(2)),
    (IGNORE, 3, label_map(3)),
    (REGIONS, 2, region_target()),
    (REGIONS_IGNORE, 2, region_target(ignore=True)),
]
WEIGHTS = AddedWeights(skelrecall=2.0, cldice=0.5)


def with_added(manager, base=None, chosen=WEIGHTS, **more):
    skeletons = TargetSkeletons.of_manager(
        manager, tubes=True, lines=chosen.exact, connectivity="full"
    )
    return BaseWithAddedLosses(base or FocalBaseLoss(manager), manager, chosen, skeletons, **more)


@pytest.mark.parametrize(("manager", "channels", "target"), SEAMS)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("over_batch", [False, True])
def test_losses_are_added_with_their_weights(manager, channels, target, exact, over_batch):
    x = logits(channels).requires_grad_()
    loss = with_added(manager, chosen=replace(WEIGHTS, exact=exact), over_batch=over_batch)
    total = loss(x, target)
    given = _, one_hot, mask = topology_channels(x, target, manager)
    known = one_hot if mask is None else one_hot & mask
    tubes = np.array(
        [
            [references.tube(own if manager.has_regions else sample.any(0)) & own for own in sample]
            for sample in known.numpy()
        ]
    )
    recall = SkeletonRecallLoss(over_batch=over_batch)(*given, tube=torch.from_numpy(tubes))
    cldice = ClDiceLoss(exact=exact, over_batch=over_batch)(*given)
    expected = FocalBaseLoss(manager)(x, target) + 2 * recall + 0.5 * cldice
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss.values == pytest.approx(
        {"added_skelrecall": recall.item(), "added_cldice": cldice.item()}
    )
    assert loss.added == pytest.approx(2 * recall.item() + 0.5 * cldice.item())
    total.backward()
    if mask is not None:
        assert not x.grad[(~mask).expand_as(x)].any()
    assert x.grad.any()


@pytest.mark.parametrize(("manager", "channels", "target"), SEAMS)
def test_recall_is_that_of_all_scales_and_cldice_that_of_the_finest(manager, channels, target):
    scales = [logits(channels).requires_grad_(), logits(channels)[..., :3, :4].contiguous()]
    targets = [target, target[..., ::2, ::2].contiguous()]
    factors = (0.75, 0.25)
    base = DeepSupervisionWrapper(FocalBaseLoss(manager), factors)
    total = with_added(manager, base)(scales, targets)
    expected = base(scales, targets)
    skeletons = with_added(manager).skeletons
    packed = torch.stack([skeletons.pack(sample) for sample in target])
    for scale, factor in enumerate(factors):
        given = topology_channels(scales[scale], targets[scale], manager)
        tube = skeletons.unpack(packed, given[1]).tube
        expected = expected + 2 * factor * SkeletonRecallLoss()(*given, tube=tube)
        if scale == 0:
            expected = expected + 0.5 * ClDiceLoss()(*given)
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_added_losses_are_computed_in_float32_under_autocast():
    values = []
    for enabled in (True, False):
        loss = with_added(LABELS)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss(logits(3).requires_grad_(), label_map(2))
        values.append(loss.values)
    assert values[0] == values[1]


@pytest.mark.parametrize("manager", [IGNORE, REGIONS_IGNORE])
def test_a_batch_of_only_ignored_voxels_adds_nothing(manager):
    x = logits(2 if manager.has_regions else 3).requires_grad_()
    target = torch.full_like(label_map(3), 3)
    if manager.has_regions:
        target = torch.cat([target == 1, target == 2, target == 3], dim=1)
    loss = with_added(manager)
    total = loss(x, target)
    total.backward()
    assert total.item() == pytest.approx(0, abs=1e-6)
    assert loss.added == pytest.approx(0, abs=1e-6)
    assert not x.grad.any()


def test_a_call_without_skeletons_makes_its_own():
    loss, x = with_added(LABELS), logits(3).requires_grad_()
    expected = loss(x, label_map(2)).item()
    loss.packed = torch.zeros(2, 1, 5, 6, 7, dtype=torch.uint8)
    assert loss(x, label_map(2)).item() != pytest.approx(expected, abs=1e-3)
    assert loss(x, label_map(2)).item() == expected


def test_without_gradients_the_loss_is_the_base_loss_alone():
    loss, base = with_added(LABELS), FocalBaseLoss(LABELS)
    with torch.no_grad():
        assert torch.equal(loss(logits(3), label_map(2)), base(logits(3), label_map(2)))


@pytest.mark.parametrize(("manager", "channels", "target"), SEAMS)
def test_the_base_loss_sees_the_least_confident_neighbours(manager, channels, target):
    x = logits(channels).requires_grad_()
    loss = NeighbourBaseLoss(FocalBaseLoss(manager), manager)
    if manager.has_regions:
        classes = target[:, :2].numpy()
        mask = ~target[:, 2:].numpy() if manager.has_ignore_label else None
    else:
        classes = (target == torch.arange(3).view(1, 3, 1, 1, 1)).numpy()
        mask = (target != 3).numpy() if manager.has_ignore_label else None
    worst = references.least_confident(x.detach().numpy(), classes, mask)
    expected = FocalBaseLoss(manager)(torch.from_numpy(worst), target)
    assert loss(x, target).item() == pytest.approx(expected.item(), rel=1e-6)
    assert expected > FocalBaseLoss(manager)(x, target)
    loss(x, target).backward()
    if mask is not None:
        assert not x.grad[torch.from_numpy(~mask).expand_as(x)].any()
    with torch.no_grad():  # as in validation
        assert torch.equal(loss(x, target), FocalBaseLoss(manager)(x, target))


# -- in a training -----------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["", "_nods"])
def test_the_first_step_reports_the_base_loss_and_moves_the_weights_elsewhere(started, more):
    pair = [
        started(f"nnUNetTrainerStock_2epochs_3iters{more}{added}_seed7")
        for added in ("", "_skelrecall1_cldice0.5")
    ]
    results = [t.train_step(batches(t, 1)[0]) for t in pair]
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], abs=1e-6)
    assert 0 < results[1]["added_skelrecall"] < 1
    assert 0 < results[1]["added_cldice"] < 1
    assert not torch.equal(*map(weights, pair))


def test_weight_0_trains_like_stock_to_the_last_bit(started):
    pair = [
        started(f"nnUNetTrainer{name}_seed7")
        for name in ("SkeletonRecall_2epochs_3iters_skelrecall0", "Stock_2epochs_3iters")
    ]
    losses = [[t.train_step(b)["loss"].item() for b in batches(t, 3)] for t in pair]
    assert losses[0] == losses[1]
    assert torch.equal(*map(weights, pair))


@pytest.mark.parametrize(
    ("suffixed", "trainer"),
    [
        ("Stock_2epochs_3iters_skelrecall1", "SkeletonRecall_2epochs_3iters"),
        ("Stock_2epochs_3iters_cldice1", "ClDice_2epochs_3iters"),
        ("Stock_2epochs_3iters_scnp", "SCNP_2epochs_3iters"),
        ("Wasserstein_2epochs_3iters_from0_skelrecall1", "Topology_2epochs_3iters_from0"),
    ],
)
def test_a_suffix_makes_of_a_trainer_what_the_trainer_of_that_name_is(started, suffixed, trainer):
    pair = [started(f"nnUNetTrainer{name}") for name in (suffixed, trainer)]
    assert repr(pair[0].loss) == repr(pair[1].loss)
    assert pair[0].describe_loss() == pair[1].describe_loss()


def test_the_gradient_of_the_term_is_measured_beside_base_and_recall(started):
    trainer = started("nnUNetTrainerTopology_2epochs_30iters_weight0.02_from0_nods_seed3")
    batch = batches(trainer, 1)[0]
    loss, stock = trainer.loss, started("nnUNetTrainerStock_2epochs_3iters_nods").loss
    output = trainer.network(batch["data"])
    loss.base.packed = batch[SKELETONS]
    parts = [stock(output, batch["target"]), loss.base(output, batch["target"])]
    norms = [torch.autograd.grad(p, output, retain_graph=True)[0].norm().item() for p in parts]
    trainer.train_step(batch)
    assert float(loss.record.base_gradient) == pytest.approx(norms[1], rel=1e-4)
    assert norms[0] != pytest.approx(norms[1], rel=1e-2)


def test_a_step_takes_the_skeletons_of_its_own_batch(started):
    trainer = started("nnUNetTrainerSkeletonRecall_2epochs_3iters_lr0_seed7")
    first, second = batches(trainer, 2)
    alone = trainer.train_step(second)["added_skelrecall"]
    trainer.train_step(first)
    assert trainer.train_step(second)["added_skelrecall"] == pytest.approx(alone, rel=1e-4)


def test_batches_of_another_loader_have_their_skeletons_made_in_the_step(started):
    trainer = started("nnUNetTrainerSkeletonRecall_2epochs_3iters_seed7")
    batch = batches(trainer, 1)[0]
    losses = []
    for packed in (batch[SKELETONS], None):
        trainer.loss.packed = packed
        losses.append(trainer.loss(trainer.network(batch["data"]), batch["target"]).item())
    assert losses[0] == losses[1]


@pytest.fixture(scope="module")
def trained():
    return {}


@pytest.fixture
def finished(make_trainer, trained):
    """Returns a short training of the recommended sum."""
    if "trainer" not in trained:
        name = "nnUNetTrainerTopology_2epochs_2iters_from1_cldice0.25_scnp_seed5"
        trained["trainer"] = make_trainer(name)
        trained["trainer"].run_training()
    return trained["trainer"]


def test_log_checkpoint_and_debug_json_say_what_the_training_was_made_of(finished):
    expected = (
        "nnU-Net's Dice + cross-entropy of the least confident neighbours (SCNP) + "
        "1 * Skeleton Recall + 0.25 * clDice + weight * Wasserstein distance, matched in space"
    )
    folder = Path(finished.output_folder)
    log = Path(finished.log_file).read_text()
    assert f"topology: the loss is {expected}" in log
    assert log.count("topology: Skeleton Recall loss 0.") == 2
    assert "(weight 1), clDice loss 0." in log
    assert "(weight 0.25)" in log
    origin = torch.load(folder / "checkpoint_final.pth", weights_only=False)["nnunet_topo"]
    assert origin["loss"] == expected
    assert origin["made_of"] == {
        "skelrecall": 1,
        "cldice": 0.25,
        "exact": 0,
        "scnp": 1,
        "ratio": 10,
    }
    assert expected in json.loads((folder / "debug.json").read_text())["topology_settings"]
    logged = finished.logger.get_checkpoint()
    for key in ("added_skelrecall", "added_cldice"):
        assert len(logged[key]) == 2
        assert all(0 < value < 1 for value in logged[key])


def test_a_training_resumes_only_with_the_losses_that_it_was_made_of(
    make_trainer, finished, tmp_path
):
    file = Path(finished.output_folder) / "checkpoint_final.pth"
    resumed = make_trainer(type(finished).__name__, resume=True)
    resumed.load_checkpoint(str(file))
    assert resumed.logger.get_checkpoint()["added_cldice"]
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["nnunet_topo"]["made_of"]["skelrecall"] = 0.5
    changed = tmp_path / "checkpoint.pth"
    torch.save(checkpoint, changed)
    other = make_trainer(type(finished).__name__, resume=True)
    with pytest.raises(RuntimeError, match=r"'skelrecall': 0.5.*is made of .*'skelrecall': 1"):
        other.load_checkpoint(str(changed))
    other._resumes = False  # a validation
    other.load_checkpoint(str(changed))


@pytest.mark.parametrize(
    ("name", "key"), [("Stock", "skelrecall"), ("Wasserstein", "cldice"), ("Wasserstein", "ratio")]
)
def test_a_training_without_added_losses_does_not_resume_with_some(
    make_trainer, tmp_path, name, key
):
    trainer = make_trainer(f"nnUNetTrainer{name}_1epochs_1iters", "2d")
    trainer.initialize()
    file = tmp_path / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(file))
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["nnunet_topo"]["made_of"][key] += 1
    torch.save(checkpoint, file)
    resumed = make_trainer(type(trainer).__name__, "2d", resume=True)
    with pytest.raises(RuntimeError, match=f"--c: .*'{key}': 1.*is made of"):
        resumed.load_checkpoint(str(file))
    checkpoint["nnunet_topo"]["made_of"] = {}  # an older version did not say
    torch.save(checkpoint, file)
    make_trainer(type(trainer).__name__, "2d", resume=True).load_checkpoint(str(file))


def test_a_training_without_a_term_logs_its_added_losses(make_trainer):
    trainer = make_trainer("nnUNetTrainerSkeletonRecall_2epochs_2iters")
    trainer.run_training()
    logged = trainer.logger.get_checkpoint()
    assert len(logged["added_skelrecall"]) == 2
    assert "topology: Skeleton Recall loss 0." in Path(trainer.log_file).read_text()
    assert not (Path(trainer.output_folder) / "topology.png").exists()


def test_unlabelled_images_train_beside_added_losses(make_trainer, unlabelled):
    name = "nnUNetTrainerBettiPriorSemiSupervised_1epochs_2iters_from0_skelrecall1_scnp"
    trainer = make_trainer(name)
    trainer.run_training()
    logged = trainer.logger.get_checkpoint()
    assert np.isfinite(logged["train_losses"]).all()
    assert 0 < logged["added_skelrecall"][0] < 1


@pytest.mark.slow
def test_two_processes_with_equal_shares_have_the_losses_of_the_whole_batch(started, tmp_path):
    name = "nnUNetTrainerStock_1epochs_3iters_skelrecall1_cldice0.5_seed1"
    trainer = started(name, "2d")  # whose Dice is that of the batch
    assert trainer.loss.recall.over_batch
    batch = batches(trainer, 1)[0]
    file = tmp_path / "batch.pth"
    torch.save({key: batch[key] for key in ("data", "target")}, file)
    trainer.train_step(batch)
    script = str(Path(__file__).parents[1] / "two_processes.py")
    run("python", script, "901", "2d", "0", "nnUNetPlansTiny", name, str(file))
    gradients = torch.load(f"{file}.done")["gradients"]
    one = {key: p.grad for key, p in trainer.network.named_parameters() if p.grad is not None}
    ours = torch.cat([gradients[key].flatten() for key in one])
    alone = torch.cat([gradient.flatten() for gradient in one.values()])
    assert (ours - alone).norm() < 1e-3 * alone.norm()


def test_a_note_without_skeletons_is_taken_apart_as_ever(started):
    trainer = started("nnUNetTrainerWasserstein_2epochs_3iters_from0")
    batch = note_apart(next(trainer.get_dataloaders()[0]))
    assert SKELETONS not in batch
