"""Settings in the names of trainers, as they reach nnU-Net."""

from pathlib import Path

import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

from nnunet_topo._register import trainers_folder
from nnunet_topo.training.named_trainers import trainer_with_settings


def test_settings_reach_nnunet(make_trainer):
    trainer = make_trainer("nnUNetTrainerStock_7epochs_12iters_lr0.02_adam_cosine_wd0.001_nods")
    trainer.initialize()
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (7, 12)
    assert trainer.num_val_iterations_per_epoch == 2
    group = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.001)
    trainer.lr_scheduler.step(7)
    assert group["lr"] == pytest.approx(0, abs=1e-9)
    assert not trainer.enable_deep_supervision
    adam = make_trainer("nnUNetTrainerStock_7epochs_lr0.02_adam")
    adam.initialize()
    adam.lr_scheduler.step(3)
    assert adam.optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * (1 - 3 / 7) ** 0.9)


def test_nomirror_switches_mirroring_off_in_training_and_inference(make_trainer):
    trainer = make_trainer("nnUNetTrainerStock_nomirror")
    *_, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert axes is None
    assert trainer.inference_allowed_mirroring_axes is None


def spatial_transform(trainer):
    trainer.get_dataloaders()
    rotation, in_slices, size, axes = (
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    )
    patch = trainer.configuration_manager.patch_size
    transforms = trainer.get_training_transforms(patch, rotation, None, axes, in_slices)
    (spatial,) = [t for t in transforms.transforms if isinstance(t, SpatialTransform)]
    mirrors = any(isinstance(t, MirrorTransform) for t in transforms.transforms)
    return spatial.p_rotation, spatial.p_scaling, list(size) == list(patch), mirrors


def test_nospatial_leaves_rotation_and_scaling_out_and_mirroring_in(started):
    assert spatial_transform(started("nnUNetTrainerStock_2epochs")) == (0.2, 0.2, False, True)
    changed = started("nnUNetTrainerStock_2epochs_nospatial")
    assert spatial_transform(changed) == (0, 0, True, True)


def test_weight_0_rotates_and_scales(started):
    off = started("nnUNetTrainerTAFL_2epochs_3iters_weight0")
    assert spatial_transform(off) == (0.2, 0.2, False, True)


def test_tiles_are_those_of_the_paper_in_2d_and_smaller_in_3d(make_trainer):
    for configuration, size in (("2d", 65), ("3d_fullres", 33)):
        trainer = make_trainer("nnUNetTrainerTopoLoss", configuration)
        assert trainer.build_topology_term().tile_size == size


@pytest.mark.parametrize(
    ("stem", "weight"),
    [
        ("TopoLoss", 0.01),
        ("ProjectedPooling", 1),
        ("ProjectedPoolingDice", 1),
        ("BettiPrior", 0.01),
        ("BettiMatching", 0.0005),
    ],
)
def test_terms_start_at_half_of_the_epochs_with_their_weight(make_trainer, stem, weight):
    trainer = make_trainer(f"nnUNetTrainer{stem}_300epochs")
    trainer.initialize()
    assert (trainer._schedule.start, trainer._schedule.nominal) == (150, weight)
    assert not trainer._schedule.is_due(149, 0)
    assert trainer._schedule.is_due(150, 0)


@pytest.mark.parametrize("setting", ["clamp0.1", "face"])
def test_settings_of_a_filtration_are_refused_where_there_is_none(setting):
    with pytest.raises(ValueError, match="has no effect on nnUNetTrainerProjectedPooling"):
        trainer_with_settings(f"nnUNetTrainerProjectedPooling_{setting}", Path(trainers_folder()))
    trainer_with_settings(f"nnUNetTrainerBettiPrior_{setting}", Path(trainers_folder()))


def test_without_settings_nothing_of_nnunet_is_changed(make_trainer):
    ours, theirs = make_trainer("nnUNetTrainerTAFL"), make_trainer("nnUNetTrainer")
    for attribute in (
        *("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch"),
        *("initial_lr", "weight_decay", "enable_deep_supervision", "save_every"),
    ):
        assert getattr(ours, attribute) == getattr(theirs, attribute)


@pytest.mark.parametrize(("more", "frozen"), [("_nods", True), ("", False)])
def test_heads_without_a_gradient_are_none_that_ddp_waits_for(make_trainer, more, frozen):
    trainer = make_trainer(f"nnUNetTrainerStock_1epochs_2iters{more}", "2d")
    trainer.initialize()
    trainer.is_ddp = True  # nnU-Net makes the optimizer before DDP wraps the network
    trainer.configure_optimizers()
    *coarse, finest = trainer.network.decoder.seg_layers
    assert coarse
    assert all(p.requires_grad != frozen for head in coarse for p in head.parameters())
    assert all(p.requires_grad for p in finest.parameters())
