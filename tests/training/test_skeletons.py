"""Skeletons of the targets: what is made, how it is packed, and how it travels with the batch."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import (
    DownsampleSegForDSTransform,
)

from nnunet_topo.topology import thin
from nnunet_topo.training.augmentation import INTACT, SKELETONS, NotedTransforms, note_apart
from nnunet_topo.training.channels import topology_channels
from nnunet_topo.training.skeletons import PACKED, TargetSkeletons

from ..losses import references
from ..trainers import batches
from .test_loss_seam import IGNORE, LABELS, REGIONS, REGIONS_IGNORE

NAME, ADDED = "nnUNetTrainerSkeletonRecall_2epochs_3iters", "_exactcldice1"
STOCK = "nnUNetTrainerStock_2epochs_3iters"


def target_of(manager, seed=0, shape=(2, 1, 14, 16)):
    """Returns a target of blocks as nnU-Net has it after its transforms."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, shape), np.ones((1, 1, 3, 3))).astype(np.int16)
    labels = torch.from_numpy(labels if manager.has_ignore_label else np.minimum(labels, 2))
    if not manager.has_regions:
        return labels
    regions = [(labels == 1) | (labels == 2), labels == 2]
    return torch.cat([*regions, labels == 3] if manager.has_ignore_label else regions, dim=1)


def made(manager, **kinds):
    return TargetSkeletons.of_manager(
        manager, **{"tubes": True, "lines": True, **kinds}, connectivity="full"
    )


@pytest.mark.parametrize("manager", [LABELS, IGNORE, REGIONS, REGIONS_IGNORE])
@pytest.mark.parametrize("kinds", [(True, True), (True, False), (False, True)])
def test_skeletons_are_those_of_the_labels_without_ignored_voxels(manager, kinds):
    target = target_of(manager)
    skeletons = made(manager, tubes=kinds[0], lines=kinds[1])
    packed = torch.stack([skeletons.pack(sample) for sample in target])
    assert packed.dtype == PACKED
    assert packed.shape == (2, 1, *target.shape[2:])  # a byte for each voxel
    logits = torch.zeros(2, 2 if manager.has_regions else 3, *target.shape[2:])
    _, one_hot, mask = topology_channels(logits, target, manager)
    known = one_hot if mask is None else one_hot & mask
    found = skeletons.unpack(packed, one_hot)
    for sample, channel in np.ndindex(2, 2):
        own = known[sample, channel].numpy()
        union = known[sample].any(0).numpy()
        if kinds[0]:
            # Classes share the skeleton of their union, as published.
            whole = own if manager.has_regions else union
            assert np.array_equal(found.tube[sample, channel].numpy(), references.tube(whole) & own)
        if kinds[1]:
            assert np.array_equal(found.lines[sample, channel].numpy(), thin(own))
    assert (found.tube is None, found.lines is None) == (not kinds[0], not kinds[1])


def test_more_regions_than_bits_of_a_byte_are_kept_apart():
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.uniform(size=(11, 20, 20)) < 0.7)
    skeletons = TargetSkeletons(11, (), tubes=True, lines=True)
    packed = skeletons.pack(target)
    assert packed.shape == (3, 20, 20)
    found = skeletons.unpack(packed[None], target[None])
    for region in range(11):
        own = target[region].numpy()
        assert np.array_equal(found.tube[0, region].numpy(), references.tube(own))
        assert np.array_equal(found.lines[0, region].numpy(), thin(own))


def test_a_coarse_scale_takes_the_voxels_that_nnunets_label_maps_take():
    target = target_of(LABELS, shape=(1, 1, 14, 15))
    skeletons = made(LABELS, lines=False)
    packed = skeletons.pack(target[0])[None]
    scales = ((1, 1), (0.5, 0.5), (0.25, 0.5))
    labels = DownsampleSegForDSTransform(scales)._apply_to_segmentation(target[0])
    tube = skeletons.unpack(packed, target > 0).tube
    tubes = DownsampleSegForDSTransform(scales)._apply_to_segmentation(tube[0].to(torch.int16))
    for of_scale, expected in zip(labels, tubes, strict=True):
        one_hot = of_scale[None] > 0
        assert torch.equal(skeletons.unpack(packed, one_hot).tube[0], expected.bool())


def test_without_foreground_there_is_no_skeleton():
    for manager in (LABELS, REGIONS_IGNORE):
        target = torch.zeros_like(target_of(manager))
        assert not made(manager).pack(target[0]).any()


# -- beside nnU-Net's augmentation -------------------------------------------------------------


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
@pytest.mark.parametrize("more", ["", "_nods"])
def test_the_batches_are_those_of_stock_and_carry_their_skeletons(started, configuration, more):
    names = f"{NAME}{more}{ADDED}", f"{STOCK}{more}"
    trainer, stock = (started(f"{name}_seed7", configuration) for name in names)
    skeletons = trainer.loss.skeletons
    for ours, theirs in zip(batches(trainer, 4), batches(stock, 4), strict=True):
        assert ours.keys() - theirs.keys() == {INTACT, SKELETONS}
        assert torch.equal(ours["data"], theirs["data"])
        targets = ours["target"], theirs["target"]
        assert isinstance(targets[0], list) == isinstance(targets[1], list) == (not more)
        pairs = [targets] if more else zip(*targets, strict=True)
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)
        finest = targets[0] if more else targets[0][0]
        packed = torch.stack([skeletons.pack(sample) for sample in finest])
        assert torch.equal(ours[SKELETONS], packed)
        assert packed.any()


def test_skeletons_come_through_the_workers_with_their_samples(started, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    trainer = started(NAME + ADDED)
    loader, validation = trainer.get_dataloaders()
    try:
        drawn = [note_apart(next(loader)) for _ in range(4)]
        assert SKELETONS not in note_apart(next(validation))
    finally:
        loader._finish()
        validation._finish()
    for batch in drawn:
        skeletons = trainer.loss.skeletons
        packed = torch.stack([skeletons.pack(sample) for sample in batch["target"][0]])
        assert torch.equal(batch[SKELETONS], packed)


def test_skeletons_are_made_after_all_transforms():
    skeletons = made(LABELS)
    noted = NotedTransforms(DownsampleSegForDSTransform((1, 0.5)), skeletons)
    labels = target_of(LABELS)[0]
    *scales, packed, note = noted(image=labels.float(), segmentation=labels)["segmentation"]
    assert [tuple(s.shape) for s in scales] == [(1, 42, 48), (1, 21, 24)]
    assert torch.equal(packed, skeletons.pack(labels))
    assert note.tolist() == [True]


@pytest.mark.parametrize(
    ("name", "carried"),
    [
        ("SkeletonRecall", True),
        ("Topology", True),
        ("Wasserstein_skelrecall0.5", True),
        ("Stock_exactcldice1", True),
        ("ClDice", False),  # its target skeleton is soft
        ("Stock_scnp", False),
        ("Topology_skelrecall0", False),
        ("Stock_cldice1", False),
    ],
)
def test_only_losses_that_take_skeletons_have_them_made(started, name, carried):
    trainer = started(f"nnUNetTrainer{name}")
    assert (SKELETONS in batches(trainer, 1)[0]) == carried
