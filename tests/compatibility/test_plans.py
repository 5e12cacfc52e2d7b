"""Residual encoders and cascades."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from nnunetv2.evaluation.evaluate_predictions import load_summary_json
from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
    residual_encoder_unet_planners as residual_encoders,
)

from nnunet_topo.commands.trainings import choose_trainings

from ..conftest import run
from ..small_plans import shrink
from .kinds import CONFIGURATIONS, make, term_logged


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
        name = f"nnUNetTrainer{stem}_1epochs_3iters_from0_nospatial"
        trainer = make(name, tiny_dataset, configuration, plans="nnUNetResEncUNetMPlans")
        trainer.run_training()
        assert type(trainer.network).__name__ == "ResidualEncoderUNet"
        assert term_logged(trainer)[0] > 0
        assert trainer._schedule.is_known
        assert trainer._schedule.measured.weight > 0


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
    with pytest.raises(RuntimeError, match=f"6 of 6 cases, .* 3d_lowres and -tr {name} on all f"):
        trainer.on_train_start()
    trainer.fold = "all"
    with pytest.raises(RuntimeError, match=f"with 3d_lowres and -tr {name} on fold all$"):
        trainer.on_train_start()


@pytest.fixture
def cascade(tiny_dataset, nnunet_folders, tmp_path, monkeypatch):
    """Returns the folder for results of a copy of the data set with plans of a cascade."""
    name = "Dataset901_TinyRings"
    source = Path(nnunet_folders["nnUNet_preprocessed"]) / name
    shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("*unlabeled"))
    cascade_plans(tmp_path / name)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    return tmp_path / "results" / name


def test_run_names_what_a_later_training_lacks_before_the_first_one_begins(cascade):
    stock, ours = "nnUNetTrainer", "nnUNetTrainerTAFL_1epochs"
    semi = "nnUNetTrainerBettiPriorSemiSupervised_1epochs"

    def choose(*trainers, configuration="3d_cascade_fullres"):
        plans = "nnUNetPlansCascade"
        return choose_trainings("901", configuration, plans, trainers, ["0"])

    def segment(trainer, cases):
        model = cascade / f"{trainer}__nnUNetPlansCascade__3d_lowres"
        folder = model / "predicted_next_stage" / "3d_cascade_fullres"
        folder.mkdir(parents=True, exist_ok=True)
        for case in cases:
            (folder / f"tiny_{case}.npz").touch()

    with pytest.raises(ValueError, match=f"6 of 6 cases, .* -tr {stock} on all folds"):
        choose(stock, ours)
    segment(stock, range(6))
    segment(ours, range(5))
    with pytest.raises(ValueError, match=f"1 of 6 cases, such as tiny_5, .* -tr {ours} on"):
        choose(stock, ours)
    segment(ours, [5])
    assert [training.trainer for training in choose(stock, ours)] == [stock, ours]
    with pytest.raises(ValueError, match="train its first stage instead, 3d_lowres"):
        choose(stock, semi)
    with pytest.raises(ValueError, match=f"{semi}: .* contains no unlabelled images: `nnunet-topo"):
        choose(stock, semi, configuration="3d_fullres")


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["TAFL", "Topology_scnp"])
def test_a_cascade_trains_on_the_segmentations_of_its_own_lowres(
    trainer, tiny_dataset, nnunet_folders
):
    folder = Path(nnunet_folders["nnUNet_preprocessed"]) / "Dataset901_TinyRings"
    cascade_plans(folder)
    plans = ("-p", "nnUNetPlansCascade", "-device", "cpu", "-tr")
    stem, *more = trainer.split("_")
    name = "_".join([f"nnUNetTrainer{stem}_1epochs_4iters_from0", *more])
    run(
        *("nnUNetv2_preprocess", "-d", "901", "-plans_name", "nnUNetPlansCascade"),
        *("-c", "3d_lowres", "-np", "1"),
        env={"nnUNet_n_proc_DA": "1"},
    )
    printed = run("nnUNetv2_train", "901", "3d_cascade_fullres", "0", *plans, name, fails=True)
    told = " ".join(printed.split())
    assert f"First run nnUNetv2_train with 3d_lowres and -tr {name} on all folds, not on" in told
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
