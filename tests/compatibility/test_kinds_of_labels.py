"""All trainers on labels, regions and ignored voxels, in 2D and 3D."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.evaluation.evaluate_predictions import load_summary_json

from nnunet_topo import cli
from nnunet_topo.evaluation import case as evaluation
from nnunet_topo.topology import betti_numbers
from nnunet_topo.training.augmentation import note_apart

from ..conftest import Recorder
from ..trainers import TRAINERS, WITHOUT_TERM
from .kinds import CONFIGURATIONS, KINDS, REGIONS_IGNORE, make, term_logged

SEMI_SUPERVISED = "nnUNetTrainerBettiPriorSemiSupervised"


def cells():
    """Yields trainer, configuration, kind of labels, deep supervision; a diagonal is fast."""
    for (i, name), (j, configuration), (k, kind), deep in product(
        enumerate(TRAINERS), enumerate(CONFIGURATIONS), enumerate(KINDS), [True, False]
    ):
        quick = i % 2 == j and i % 3 + 1 == k and deep == (i % 4 < 2)
        marks = [] if quick else [pytest.mark.slow]
        identifier = f"{name[13:]}, {configuration}, {kind}, {'deep' if deep else 'nods'}"
        yield pytest.param(name, configuration, kind, deep, marks=marks, id=identifier)


@pytest.mark.parametrize(("name", "configuration", "kind", "deep"), cells())
def test_every_trainer_trains_on_every_kind_of_labels(
    of_every_kind, unlabelled_images, name, configuration, kind, deep
):
    if name == SEMI_SUPERVISED:
        images = ("-i", str(unlabelled_images), "-c", configuration, "-p", "nnUNetPlansTiny")
        assert cli.main(["preprocess-unlabeled", "-d", KINDS[kind][0], *images]) == 0
    has_term = name.removeprefix("nnUNetTrainer") not in WITHOUT_TERM
    settings = "_1epochs_3iters" + "_from0" * has_term + "_nods" * (not deep) + "_seed1"
    trainer = make(name + settings, KINDS[kind][0], configuration)
    trainer.initialize()
    if name == SEMI_SUPERVISED:  # a network that has learnt nothing shows no whole object
        trainer.loss.term.in_patches = False
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    trainer.run_training()
    logged = trainer.logger.get_checkpoint()
    assert np.isfinite(logged["train_losses"] + logged["val_losses"]).all()
    assert [term > 0 for term in term_logged(trainer)] == [True] * has_term
    moved = {
        key for key, value in trainer.network.state_dict().items() if (value != before[key]).any()
    }
    # nnU-Net gives the coarsest scale no weight, and none but the finest without deep supervision.
    heads = {key for key in before if "seg_layers.0" in key}
    assert moved | heads == before.keys()
    batch = note_apart(next(trainer.dataloader_train))
    output = trainer.network(batch["data"])
    assert isinstance(output, list) == isinstance(batch["target"], list) == deep
    if name == SEMI_SUPERVISED:  # whose term never sees a target: see test_semi_supervised.py
        assert trainer.unlabelled_images.shape == batch["data"].shape
        trainer.loss.of_unlabelled = None  # of the last iteration, which has gone backward
    elif has_term:
        assert_perfect_logits_have_no_term(trainer, batch)
    if "ignore" in kind:
        assert_ignored_voxels_have_no_influence(trainer, output, batch["target"])


def ignored(trainer, target):
    """Returns where the ignore label stands, `[batch, 1, *space]`."""
    manager = trainer.label_manager
    if not manager.has_ignore_label:
        return torch.zeros_like(target[:, :1], dtype=torch.bool)
    return target[:, -1:].bool() if manager.has_regions else target == manager.ignore_label


def assert_perfect_logits_have_no_term(trainer, batch):
    """The term is zero if nothing is wrong, whatever the ignored voxels contain."""
    manager, target = trainer.label_manager, batch["target"]
    target = target[0] if isinstance(target, list) else target
    channels = manager.num_segmentation_heads
    if manager.has_regions:
        right = target[:, :channels].float()
    else:
        labels = torch.arange(channels).view(1, -1, *[1] * (target.ndim - 2))
        right = (target == labels).float()
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(0))
    perfect = torch.where(ignored(trainer, target), 3 * noise, 40 * right - 20)
    terms = [trainer.loss.measure_term(logits, target).loss for logits in (perfect, 3 * noise)]
    assert terms[0] < 1e-3 < terms[1]


def assert_ignored_voxels_have_no_influence(trainer, output, target):
    outputs, targets = ([x] if torch.is_tensor(x) else x for x in (output, target))
    masks = [ignored(trainer, scale) for scale in targets]
    assert any(mask.any() for mask in masks)
    assert not all(mask.all() for mask in masks)
    losses = []
    for factor in (0, 7):
        scales = [
            torch.where(mask, factor * torch.randn_like(scale), scale.detach()).requires_grad_()
            for scale, mask in zip(outputs, masks, strict=True)
        ]
        torch.manual_seed(0)
        if term_logged(trainer):
            trainer.loss._seeds.manual_seed(0)  # else tiles lie elsewhere
        loss = trainer.loss(scales if isinstance(output, list) else scales[0], target)
        loss.backward()
        for scale, mask in zip(scales, masks, strict=True):
            if scale.grad is not None:  # the scale without weight
                assert not scale.grad[mask.expand_as(scale)].any()
        assert scales[0].grad.any()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] * (k != "regions + ignore")) for k in KINDS]
)
def test_nnunets_validation_has_topology_metrics_for_every_kind_of_labels(of_every_kind, kind):
    trainer = make("nnUNetTrainerTAFL_1epochs_5iters_from0_nomirror", KINDS[kind][0])
    trainer.run_training()
    recorder = Recorder()
    trainer.logger.loggers.append(recorder)
    trainer.perform_actual_validation()
    assert "final_val/foreground_dice" in recorder.summary  # nnU-Net's own
    assert "final_val/foreground_topo_betti_matching_error" in recorder.summary
    folder = Path(trainer.output_folder) / "validation"
    summary = load_summary_json(str(folder / "summary.json"))
    manager = trainer.label_manager
    expected = [(1, 2), (2,)] if manager.has_regions else [1, 2]
    assert list(summary["mean"]) == expected
    assert summary["nnunet_topo"]["troubles"] == []
    (entry,) = summary["metric_per_case"]
    name = Path(entry["prediction_file"]).name
    prediction, reference = (
        sitk.GetArrayFromImage(sitk.ReadImage(file))
        for file in (folder / name, of_every_kind / KINDS[kind][0] / "gt_segmentations" / name)
    )
    for label, metrics in entry["metrics"].items():
        known = reference != 3
        pair = [betti_numbers(np.isin(part, label) & known) for part in (prediction, reference)]
        for k in range(3):
            assert metrics[f"topo_betti_pred_{k}"] == pair[0][k]
            assert metrics[f"topo_betti_ref_{k}"] == pair[1][k]


def test_a_validation_in_which_no_case_can_be_measured_still_ends(of_every_kind, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    trainer = make("nnUNetTrainerStock_1epochs_1iters_nomirror", KINDS["labels"][0])
    trainer.run_training()
    monkeypatch.setattr(evaluation, "compare_label_maps", fail)
    monkeypatch.setattr("nnunet_topo.training.validation.default_num_processes", 1)
    trainer.perform_actual_validation()
    summary = json.loads((Path(trainer.output_folder) / "validation/summary.json").read_text())
    assert np.isfinite(summary["mean"]["1"]["FN"])
    assert "nnunet_topo" not in summary
    log = Path(trainer.log_file).read_text()
    assert "not evaluated, MemoryError" in log
    assert "topology metrics: of no case" in log


def test_a_batch_of_only_ignored_voxels_is_trained_on(of_every_kind):
    for stem, dataset in product(("CrossEntropy", "TAFL"), (KINDS["ignore"][0], REGIONS_IGNORE)):
        trainer = make(f"nnUNetTrainer{stem}_1epochs_3iters", dataset)
        trainer.initialize()
        trainer.set_deep_supervision_enabled(True)
        batch = note_apart(next(trainer.get_dataloaders()[0]))
        for target in batch["target"]:
            target[:] = 0 if trainer.label_manager.has_regions else 3
            if trainer.label_manager.has_regions:
                target[:, -1] = 1
        assert trainer.train_step(batch)["loss"] == 0
