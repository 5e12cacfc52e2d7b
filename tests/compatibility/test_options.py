"""nnU-Net's options of a training: settings, folds, weights, precision, several processes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from nnunetv2.run.run_training import maybe_load_checkpoint, run_training
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock

from nnunet_topo.training.augmentation import INTACT, note_apart

from ..conftest import run
from ..trainers import SUPERVISED, WITHOUT_TERM, all_intact
from .kinds import CASES, CPU, LABELS, REGIONS_IGNORE, make, term_logged


def test_settings_of_optimizer_supervision_and_mirroring_act_in_a_training(of_every_kind):
    name = "nnUNetTrainerWasserstein_2epochs_2iters_lr0.004_adam_cosine_wd0.25_nods_nomirror"
    trainer = make(name, LABELS)
    trainer.run_training()
    file = Path(trainer.output_folder) / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    group = checkpoint["optimizer_state"]["param_groups"][0]
    assert "betas" in group
    assert group["weight_decay"] == 0.25
    np.testing.assert_allclose(checkpoint["logging"]["lrs"], [0.004, 0.002])
    assert checkpoint["inference_allowed_mirroring_axes"] is None
    transforms = trainer.dataloader_train.data_loader.transforms.transforms
    assert not any(isinstance(transform, MirrorTransform) for transform in transforms)
    assert not isinstance(trainer.loss.base, DeepSupervisionWrapper)


def test_pretrained_weights_are_taken_but_for_the_heads(of_every_kind):
    source = make("nnUNetTrainerStock_1epochs_2iters_seed9", LABELS)
    source.run_training()
    file = Path(source.output_folder) / "checkpoint_final.pth"
    theirs = source.network.state_dict()
    for stem in ("TAFL", "BettiPrior"):
        trainer = make(f"nnUNetTrainer{stem}_2epochs_2iters_seed1", LABELS)
        maybe_load_checkpoint(trainer, False, False, str(file))
        trainer.on_train_start()
        trainer.on_train_end()
        ours = trainer.network.state_dict()
        for key in ours:
            assert torch.equal(ours[key], theirs[key]) or "seg_layers" in key
        finest = "decoder.seg_layers.1.weight"
        assert not torch.equal(ours[finest], theirs[finest])


def test_finetune_beside_pretrained_weights_is_refused(of_every_kind):
    source = make("nnUNetTrainerStock_1epochs_1iters", LABELS, fold=1)
    source.run_training()
    trainer = make("nnUNetTrainerTAFL_1epochs_1iters_finetune", LABELS, fold=1)
    file = Path(source.output_folder) / "checkpoint_final.pth"
    maybe_load_checkpoint(trainer, False, False, str(file))
    with pytest.raises(
        RuntimeError, match=r"-pretrained_weights names another one: leave out one of the two"
    ):
        trainer.on_train_start()


@pytest.mark.slow
def test_fold_all_npz_continue_val_and_val_best(of_every_kind, nnunet_folders):
    name = "nnUNetTrainerTAFL_2epochs_3iters_from1_nomirror"
    options = {"device": CPU}
    training = (REGIONS_IGNORE, "3d_fullres", "all", name, "nnUNetPlansTiny")
    run_training(*training, export_validation_probabilities=True, **options)
    folder = Path(nnunet_folders["nnUNet_results"]) / REGIONS_IGNORE
    folder = folder / f"{name}__nnUNetPlansTiny__3d_fullres/fold_all"
    probabilities = sorted(folder.glob("validation/*.npz"))
    assert len(probabilities) == CASES
    assert np.load(probabilities[0])["probabilities"].shape == (2, 22, 26, 30)
    final = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert final["logging"]["topology_term"][1] > 0
    summaries = []
    for more in (
        {"only_run_validation": True},
        {"continue_training": True},
        {"val_with_best": True, "only_run_validation": True},
    ):
        (folder / "validation/summary.json").unlink()
        run_training(*training, **more, **options)
        summaries.append(load_json(str(folder / "validation/summary.json")))
        assert summaries[-1]["nnunet_topo"]["troubles"] == []
        assert len(summaries[-1]["metric_per_case"]) == CASES
    after = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert len(after["logging"]["train_losses"]) == 2


def test_several_gpus_on_a_cpu_are_refused_by_nnunet(of_every_kind):
    with pytest.raises(AssertionError, match="only implemented for cuda devices"):
        run_training(
            LABELS, "3d_fullres", 0, "nnUNetTrainerTAFL", "nnUNetPlansTiny", num_gpus=2, device=CPU
        )


@pytest.mark.parametrize("name", ["TAFL", "BettiPrior", "ProjectedPooling", "Stock"])
def test_trainers_take_steps_under_autocast_with_a_gradient_scaler(
    of_every_kind, monkeypatch, name
):
    """On the CPU nnU-Net uses neither; both are switched on here as it does on a GPU."""
    bfloat16 = lambda: torch.autocast("cpu", dtype=torch.bfloat16)  # noqa: E731
    monkeypatch.setattr(stock, "dummy_context", bfloat16)
    trainer = make(f"nnUNetTrainer{name}_1epochs_3iters_seed1", REGIONS_IGNORE)
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=1024)
    seen = []
    trainer.initialize()
    trainer.network.register_forward_hook(lambda *args: seen.append(args[-1][0].dtype))
    before = trainer.network.encoder.stages[0][0].convs[0].conv.weight.clone()
    trainer.run_training()
    assert set(seen) == {torch.bfloat16}
    assert np.isfinite(trainer.logger.get_checkpoint()["train_losses"]).all()
    assert all(term > 0 for term in term_logged(trainer))
    after = trainer.network.encoder.stages[0][0].convs[0].conv.weight
    assert not torch.equal(before, after)
    # A step whose gradient overflows is left out, without an error.
    batch = next(trainer.dataloader_train)
    batch["data"][0, 0, 3, 3, 3] = np.inf
    kept = after.clone()
    trainer.train_step(batch)
    assert torch.equal(after, kept)
    assert trainer.grad_scaler.get_scale() < 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", SUPERVISED)
@pytest.mark.parametrize(
    ("labels", "empty"), [(LABELS, False), (LABELS, True), (REGIONS_IGNORE, False)]
)
def test_two_processes_with_equal_shares_do_what_one_does(
    of_every_kind, tmp_path, name, labels, empty
):
    """Also if the second has no foreground: it still takes part.

    nnU-Net divides by the voxels of a process that are not ignored, so both ignore as many here.
    """
    term = "" if name.removeprefix("nnUNetTrainer") in WITHOUT_TERM else "weight1_from0_"
    name = f"{name}_1epochs_3iters_{term}seed1"
    trainer = make(name, labels)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    batch = all_intact(note_apart(next(trainer.get_dataloaders()[0])))
    if empty:
        for scale in batch["target"]:
            scale[1:] = 0
    if labels == REGIONS_IGNORE:
        half = len(batch["data"]) // 2
        for scale in batch["target"]:
            scale[half:, -1] = scale[:half, -1]
            assert scale[:, -1].any()
            assert not scale[:, -1].all()
    file = tmp_path / "batch.pth"
    torch.save({key: batch[key] for key in ("data", "target")}, file)
    with torch.backends.mkldnn.flags(enabled=False):  # as the two processes
        result = trainer.train_step(batch)
    script = str(Path(__file__).parents[1] / "two_processes.py")
    run("python", script, labels, "3d_fullres", "0", "nnUNetPlansTiny", name, str(file))
    done = torch.load(f"{file}.done")
    assert done["loss"] == pytest.approx(float(result["loss"]), rel=1e-5)
    if "TopoLoss" not in name:  # its tiles lie elsewhere for each process
        assert done["term"] == pytest.approx(result.get("topology_term", 0.0), rel=1e-5)
        # The coarsest head has no gradient in one process, and a millionth of one in DDP.
        one = {key: p.grad for key, p in trainer.network.named_parameters() if p.grad is not None}
        ours = torch.cat([done["gradients"][key].flatten() for key in one])
        one = torch.cat([gradient.flatten() for gradient in one.values()])
        assert (ours - one).norm() < 1e-5 * one.norm()


@pytest.mark.slow
@pytest.mark.parametrize("intact", [[True, False], [False, False]])
def test_a_process_without_an_intact_label_holds_up_no_other(of_every_kind, tmp_path, intact):
    """Also while gradients are measured, which all processes do together."""
    name = "nnUNetTrainerTAFL_1epochs_3iters_from0_seed1"
    trainer = make(name, LABELS)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    batch = note_apart(next(trainer.get_dataloaders()[0]))
    half = len(batch["data"]) // 2
    notes = torch.tensor([whole for whole in intact for _ in range(half)])
    file = tmp_path / "batch.pth"
    torch.save({"data": batch["data"], "target": batch["target"], INTACT: notes}, file)
    with torch.backends.mkldnn.flags(enabled=False):
        result = trainer.train_step(batch | {INTACT: notes})
    script = str(Path(__file__).parents[1] / "two_processes.py")
    run("python", script, LABELS, "3d_fullres", "0", "nnUNetPlansTiny", name, str(file))
    done = torch.load(f"{file}.done")
    assert done["loss"] == pytest.approx(float(result["loss"]), rel=1e-4)
    # Each process divides by its own samples, and the mean over both is that of two processes.
    assert done["term"] == pytest.approx(np.nan_to_num(result["topology_term"]) / 2, rel=1e-4)
    gradients = [gradient for gradient in done["gradients"].values() if gradient is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
