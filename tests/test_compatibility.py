"""All trainers with what nnU-Net supports: kinds of labels, cascade, DDP, AMP, its own trainers."""

import json
import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from nnunetv2.evaluation.evaluate_predictions import load_summary_json
from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
    residual_encoder_unet_planners as residual_encoders,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.run.run_training import (
    get_trainer_from_args,
    maybe_load_checkpoint,
    run_training,
)
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_topo import cli
from nnunet_topo.evaluation import evaluate as evaluation
from nnunet_topo.topology import betti_numbers

from .conftest import Recorder, run, tiny_case
from .small_plans import shrink
from .test_registration import TRAINERS
from .training.test_trainers import WITHOUT_TERM

CPU = torch.device("cpu")
# Kind of labels -> data set, and labels as dataset.json has them. Regions overlap.
KINDS = {
    "labels": ("Dataset911_Labels", {"ring": 1, "blob": 2}),
    "regions": ("Dataset912_Regions", {"both": [1, 2], "blob": [2]}),
    "ignore": ("Dataset913_Ignore", {"ring": 1, "blob": 2, "ignore": 3}),
    "regions + ignore": (
        "Dataset914_RegionsIgnore",
        {"both": [1, 2], "blob": [2], "ignore": 3},
    ),
}
CASES = 5  # as many as folds
LABELS, REGIONS_IGNORE = KINDS["labels"][0], KINDS["regions + ignore"][0]


def preprocess(kind: str, folder: Path, images: Path, like: Path) -> None:
    """Makes a data set and preprocesses it by nnU-Net, with the plans of another one."""
    name, labels_of_kind = KINDS[kind]
    description = json.loads((like / "dataset.json").read_text())
    description["labels"] = {"background": 0} | labels_of_kind
    if "regions" in kind:
        description["regions_class_order"] = [1, 2]
    plans = json.loads((like / "nnUNetPlansTiny.json").read_text()) | {"dataset_name": name}
    references = folder / "gt_segmentations"
    references.mkdir(parents=True)
    images.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "nnUNetPlansTiny.json").write_text(json.dumps(plans))
    shutil.copy(like / "dataset_fingerprint.json", folder)
    for case in range(CASES):
        image, labels = tiny_case(case)
        if "ignore" in kind:
            labels[:, :8] = 3  # the ring is known in part
        files = images / f"tiny_{case}_0000.nii.gz", references / f"tiny_{case}.nii.gz"
        for file, array in zip(files, (image, labels), strict=True):
            sitk.WriteImage(sitk.GetImageFromArray(array), file)
        manager = PlansManager(plans)
        for configuration in ("2d", "3d_fullres"):
            planned = manager.get_configuration(configuration)
            output = folder / planned.data_identifier
            output.mkdir(exist_ok=True)
            DefaultPreprocessor(verbose=False).run_case_save(
                str(output / f"tiny_{case}"), [str(files[0])], str(files[1]),
                manager, planned, description,
            )  # fmt: skip


@pytest.fixture(scope="session")
def of_every_kind(tiny_dataset, nnunet_folders, tmp_path_factory) -> Path:
    """Returns the folder in which a data set of each kind of labels is preprocessed."""
    preprocessed = Path(nnunet_folders["nnUNet_preprocessed"])
    raw = Path(nnunet_folders["nnUNet_raw"])
    for kind, (name, _) in KINDS.items():
        if (preprocessed / name).exists():
            continue
        made = tmp_path_factory.mktemp("made", numbered=True) / name
        preprocess(kind, made, raw / name / "imagesTr", preprocessed / "Dataset901_TinyRings")
        part = shutil.move(made, preprocessed / f"part_{os.getpid()}_{name}")
        try:
            part.rename(preprocessed / name)
        except OSError:  # another process was faster
            shutil.rmtree(part)
    return preprocessed


def make(name, dataset, configuration="3d_fullres", *, fold=0, plans="nnUNetPlansTiny"):
    """Returns a trainer that nnU-Net has looked up."""
    return get_trainer_from_args(dataset, configuration, fold, name, plans, False, device=CPU)


def term_logged(trainer):
    return trainer.logger.get_checkpoint().get("topology_term", [])


# -- the matrix --------------------------------------------------------------------------------

SEMI_SUPERVISED = "nnUNetTrainerBettiPriorSemiSupervised"
CONFIGURATIONS = ["3d_fullres", "2d"]


def cells():
    """Yields trainer, configuration, kind of labels, deep supervision; a diagonal is not slow."""
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
    batch = next(trainer.dataloader_train)
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
    """What `> 0` tells: the term is zero where nothing is wrong, whatever stands under `ignore`."""
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


def test_a_validation_of_which_no_case_can_be_measured_ends_all_the_same(
    of_every_kind, monkeypatch
):
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


def test_a_batch_of_ignored_voxels_alone_is_trained_on(of_every_kind):
    for stem, dataset in product(("CrossEntropy", "TAFL"), (KINDS["ignore"][0], REGIONS_IGNORE)):
        trainer = make(f"nnUNetTrainer{stem}_1epochs_3iters", dataset)
        trainer.initialize()
        trainer.set_deep_supervision_enabled(True)
        batch = next(trainer.get_dataloaders()[0])
        for target in batch["target"]:
            target[:] = 0 if trainer.label_manager.has_regions else 3
            if trainer.label_manager.has_regions:
                target[:, -1] = 1
        assert trainer.train_step(batch)["loss"] == 0


# -- settings, folds, weights ------------------------------------------------------------------


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
    with pytest.raises(RuntimeError, match=r"-pretrained_weights names another one: leave out one"):
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
    monkeypatch.setattr("nnunet_topo.training.gradient_norms.dummy_context", bfloat16)
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


# -- several processes -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["TAFL", "Wasserstein", "BettiPrior", "TopoLoss", "ProjectedPooling"]
)
@pytest.mark.parametrize("empty", [False, True])
def test_two_processes_with_equal_shares_do_what_one_does(of_every_kind, tmp_path, name, empty):
    """Also where the second has no foreground: it takes part all the same."""
    name = f"nnUNetTrainer{name}_1epochs_3iters_weight1_from0_seed1"
    trainer = make(name, LABELS)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    batch = next(trainer.get_dataloaders()[0])
    if empty:
        for scale in batch["target"]:
            scale[1:] = 0
    file = tmp_path / "batch.pth"
    torch.save({key: batch[key] for key in ("data", "target")}, file)
    result = trainer.train_step(batch)
    script = str(Path(__file__).parent / "two_processes.py")
    run("python", script, LABELS, "3d_fullres", "0", "nnUNetPlansTiny", name, str(file))
    done = torch.load(f"{file}.done")
    assert done["loss"] == pytest.approx(float(result["loss"]), rel=1e-4)
    if "TopoLoss" not in name:  # its tiles lie elsewhere for each process
        assert done["term"] == pytest.approx(result["topology_term"], rel=1e-4)
        # The coarsest head has no gradient in one process, and a millionth of one in DDP.
        one = {key: p.grad for key, p in trainer.network.named_parameters() if p.grad is not None}
        ours = torch.cat([done["gradients"][key].flatten() for key in one])
        one = torch.cat([gradient.flatten() for gradient in one.values()])
        assert (ours - one).norm() < 1e-3 * one.norm()


# -- plans -------------------------------------------------------------------------------------


def test_residual_encoder_plans(of_every_kind, tiny_dataset, monkeypatch):
    with monkeypatch.context() as planning:
        planning.setenv("nnUNet_n_proc_DA", "1")  # planning takes no 0
        residual_encoders.nnUNetPlannerResEncM(int(tiny_dataset)).plan_experiment()
    file = of_every_kind / "Dataset901_TinyRings/nnUNetResEncUNetMPlans.json"
    plans = json.loads(file.read_text())
    for configuration in CONFIGURATIONS:
        shrink(plans["configurations"][configuration], [8, 16, 32])
        plans["configurations"][configuration]["batch_size"] = 2
    file.write_text(json.dumps(plans))
    for configuration, stem in zip(CONFIGURATIONS, ("TAFL", "BettiPrior"), strict=True):
        name = f"nnUNetTrainer{stem}_1epochs_3iters_from0"
        trainer = make(name, tiny_dataset, configuration, plans="nnUNetResEncUNetMPlans")
        trainer.run_training()
        assert type(trainer.network).__name__ == "ResidualEncoderUNet"
        assert term_logged(trainer)[0] > 0
        assert trainer._schedule.topology_norm > 0
        assert trainer._schedule.measured == 3


def cascade_plans(folder: Path) -> None:
    """Writes plans with a 3d_lowres of half the resolution and its cascade, beside the others."""
    plans = json.loads((folder / "nnUNetPlansTiny.json").read_text())
    plans["plans_name"] = "nnUNetPlansCascade"
    full = plans["configurations"]["3d_fullres"]
    plans["configurations"] = {
        "3d_fullres": full,
        "3d_lowres": full
        | {
            "data_identifier": "nnUNetPlansCascade_3d_lowres",
            "spacing": [2 * side for side in full["spacing"]],
            "patch_size": [12, 16, 16],
            "next_stage": "3d_cascade_fullres",
        },
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    (folder / "nnUNetPlansCascade.json").write_text(json.dumps(plans))


def test_a_cascade_without_its_lowres_is_refused(tiny_dataset, nnunet_folders):
    cascade_plans(Path(nnunet_folders["nnUNet_preprocessed"]) / "Dataset901_TinyRings")
    name = "nnUNetTrainerTAFL_1epochs_1iters"
    trainer = make(name, tiny_dataset, "3d_cascade_fullres", plans="nnUNetPlansCascade")
    with pytest.raises(RuntimeError, match=f"6 of 6 cases, .* with 3d_lowres and -tr {name} on"):
        trainer.on_train_start()


@pytest.mark.slow
def test_a_cascade_trains_on_the_segmentations_of_its_own_lowres(tiny_dataset, nnunet_folders):
    folder = Path(nnunet_folders["nnUNet_preprocessed"]) / "Dataset901_TinyRings"
    cascade_plans(folder)
    plans = ("-p", "nnUNetPlansCascade", "-device", "cpu", "-tr")
    name = "nnUNetTrainerTAFL_1epochs_4iters_from0"
    run(
        *("nnUNetv2_preprocess", "-d", "901", "-plans_name", "nnUNetPlansCascade"),
        *("-c", "3d_lowres", "-np", "1"),
        env={"nnUNet_n_proc_DA": "1"},
    )
    printed = run("nnUNetv2_train", "901", "3d_cascade_fullres", "0", *plans, name, fails=True)
    assert "first run nnUNetv2_train with 3d_lowres and -tr " + name in printed.replace("\n", " ")
    run("nnUNetv2_train", "901", "3d_lowres", "all", *plans, name)
    printed = run("nnUNetv2_train", "901", "3d_cascade_fullres", "0", *plans, name)
    assert "Validation complete" in printed
    results = Path(nnunet_folders["nnUNet_results"]) / "Dataset901_TinyRings"
    lowres = results / f"{name}__nnUNetPlansCascade__3d_lowres"
    assert len(list((lowres / "predicted_next_stage/3d_cascade_fullres").iterdir())) == 6
    fold = results / f"{name}__nnUNetPlansCascade__3d_cascade_fullres/fold_0"
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["logging"]["topology_term"][0] > 0
    first = checkpoint["network_weights"]["encoder.stages.0.0.convs.0.conv.weight"]
    assert first.shape[1] == 1 + 3  # the image, and each label of the stage before
    summary = load_summary_json(str(fold / "validation/summary.json"))
    assert summary["nnunet_topo"]["troubles"] == []


# -- nnU-Net's own trainers under the mixin ----------------------------------------------------

VARIANTS = "nnunetv2.training.nnUNetTrainer.variants"
NOT_SLOW = ("NoMirroring", "BN", "DiceCELoss_noSmooth", "_warmup")
BASES = {
    "nnUNetTrainerNoMirroring": f"{VARIANTS}.data_augmentation.nnUNetTrainerNoMirroring",
    "nnUNetTrainerBN": f"{VARIANTS}.network_architecture.nnUNetTrainerBN",
    "nnUNetTrainerDiceCELoss_noSmooth": f"{VARIANTS}.loss.nnUNetTrainerDiceLoss",
    "nnUNetTrainer_warmup": f"{VARIANTS}.lr_schedule.nnUNetTrainer_warmup",
    "nnUNetTrainer_onlyMirror01": f"{VARIANTS}.data_augmentation.nnUNetTrainerNoMirroring",
    "nnUNetTrainerNoDA": f"{VARIANTS}.data_augmentation.nnUNetTrainerNoDA",
    "nnUNetTrainerDA5": f"{VARIANTS}.data_augmentation.nnUNetTrainerDA5",
    "nnUNetTrainer_DASegOrd0": f"{VARIANTS}.data_augmentation.nnUNetTrainerDAOrd0",
    "nnUNetTrainerNoDeepSupervision": (
        f"{VARIANTS}.network_architecture.nnUNetTrainerNoDeepSupervision"
    ),
    "nnUNetTrainerDiceLoss": f"{VARIANTS}.loss.nnUNetTrainerDiceLoss",
    "nnUNetTrainerCELoss": f"{VARIANTS}.loss.nnUNetTrainerCELoss",
    "nnUNetTrainerDiceTopK10Loss": f"{VARIANTS}.loss.nnUNetTrainerTopkLoss",
    "nnUNetTrainerAdam1en3": f"{VARIANTS}.optimizer.nnUNetTrainerAdam",
    "nnUNetTrainerCosAnneal": f"{VARIANTS}.lr_schedule.nnUNetTrainerCosAnneal",
    "nnUNetTrainer_5epochs": f"{VARIANTS}.training_length.nnUNetTrainer_Xepochs",
    "nnUNetTrainer_probabilisticOversampling": (
        f"{VARIANTS}.sampling.nnUNetTrainer_probabilisticOversampling"
    ),
}
MINE = """
from {module} import {base}

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.settings import Settings
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerMine({bases}):
    topology_weight = 0.01
    settings = Settings({settings})
    build_topology_term = lambda self: WassersteinLoss(clamp=0.01)
"""


@pytest.fixture
def mixed(of_every_kind, tmp_path, monkeypatch):
    """Returns a function that makes a trainer of a user's own over one of nnU-Net's."""

    def mix(base, settings="iters=2, start=0, seed=1", order="TopologyTrainerMixin, {base}"):
        code = MINE.format(
            module=BASES[base], base=base, bases=order.format(base=base), settings=settings
        )
        (tmp_path / "nnUNetTrainerMine.py").write_text(code)
        monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
        return make("nnUNetTrainerMine", LABELS)

    return mix


def described(trainer):
    """Returns what a trainer does, in words that can be compared."""
    trainer.initialize()
    loader = trainer.get_dataloaders()[0].data_loader
    transforms = [
        str(vars(t)) if isinstance(t, MirrorTransform) else type(t).__name__
        for t in loader.transforms.transforms
    ]
    loss = getattr(trainer.loss, "base", trainer.loss)
    plain = ("num_epochs", "initial_lr", "weight_decay", "enable_deep_supervision", "batch_size")
    return {
        "network": str(trainer.network),
        "loss": str(loss) + str([str(vars(m.dc)) for m in loss.modules() if hasattr(m, "dc")]),
        "optimizer": str(trainer.optimizer),
        "schedule": type(trainer.lr_scheduler).__name__,
        "transforms": transforms,
        "patch": [int(side) for side in loader.patch_size],
        "mirroring": trainer.inference_allowed_mirroring_axes,
        "sampling": (loader.oversample_foreground_percent, trainer.probabilistic_oversampling),
    } | {key: getattr(trainer, key) for key in plain}


@pytest.mark.parametrize(
    "base",
    [
        pytest.param(
            b, marks=[] if b.removeprefix("nnUNetTrainer") in NOT_SLOW else pytest.mark.slow
        )
        for b in BASES
    ],
)
def test_a_trainer_of_nnunets_keeps_its_ways_under_the_mixin(mixed, base):
    ours, theirs = mixed(base), make(base, LABELS)
    assert described(ours) == described(theirs)
    ours.num_epochs = 1
    ours.run_training()
    assert np.isfinite(ours.logger.get_checkpoint()["train_losses"]).all()
    assert term_logged(ours)[0] > 0
    file = Path(ours.output_folder) / "checkpoint_final.pth"
    assert torch.load(file, weights_only=False)["trainer_name"] == base


def test_batch_normalisation_of_nnunets_own_trainer_predicts_without_us(mixed, monkeypatch):
    trainer = mixed("nnUNetTrainerBN")
    trainer.num_epochs = 1
    trainer.run_training()
    assert any(isinstance(m, torch.nn.BatchNorm3d) for m in trainer.network.modules())
    monkeypatch.delenv("nnUNet_extTrainer")
    predictor = nnUNetPredictor(device=CPU, perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    image = torch.randn(1, 1, *trainer.configuration_manager.patch_size)
    trainer.set_deep_supervision_enabled(False)
    with torch.no_grad():
        assert torch.equal(predictor.network.eval()(image), trainer.network.eval()(image))


def test_the_mixin_behind_a_trainer_of_nnunets_is_refused(mixed):
    with pytest.raises(TypeError, match=r"class nnUNetTrainerMine\(TopologyTrainerMixin, nnUNetTr"):
        mixed("nnUNetTrainerDiceCELoss_noSmooth", order="{base}, TopologyTrainerMixin")


def test_a_warm_up_of_nnunets_goes_through_its_stages(mixed):
    trainer = mixed("nnUNetTrainer_warmup")
    trainer.initialize()
    schedules = []
    for epoch in (0, trainer.warmup_duration_whole_net):
        trainer.current_epoch = epoch
        trainer.logger.log = lambda *_: None
        trainer.on_train_epoch_start()
        schedules.append(type(trainer.lr_scheduler).__name__)
        loader, _ = trainer.get_dataloaders()
        batch = next(loader)
        batch["data"][0] = np.nan
        with pytest.raises(FloatingPointError, match="the image of"):  # in every stage
            trainer.train_step(batch)
    assert schedules == ["Lin_incr_LRScheduler", "PolyLRScheduler_offset"]


def test_optimizers_of_ours_over_a_schedule_in_stages_are_refused(mixed):
    trainer = mixed("nnUNetTrainer_warmup", "epochs=1, iters=1, adam=True")
    with pytest.raises(
        NotImplementedError, match=r"nnUNetTrainer_warmup changes its own in stages"
    ):
        trainer.run_training()
