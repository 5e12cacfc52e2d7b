"""The user's commands on a tiny data set: plan, train, kill, continue, validate, predict."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.evaluation.evaluate_predictions import load_summary_json

from nnunet_topo.topology import betti_numbers

from .conftest import run

NAME = "nnUNetTrainerTAFL_3epochs_6iters_from1"
TRAIN = ("901", "3d_fullres", "0", "-p", "nnUNetPlansTiny", "-device", "cpu", "-tr", NAME)


def fold_folder(results, name=NAME, configuration="3d_fullres"):
    trained = f"{name}__nnUNetPlansTiny__{configuration}"
    return Path(results) / "Dataset901_TinyRings" / trained / "fold_0"


def kill_in_epoch(epoch, folder):
    """Starts the training and kills it once a checkpoint is there and the epoch has begun."""
    command = Path(sys.executable).parent / "nnUNetv2_train"
    process = subprocess.Popen(
        [command, *TRAIN], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(600):
        logs = "".join(log.read_text() for log in folder.glob("training_log*"))
        if f"Epoch {epoch} " in logs and (folder / "checkpoint_best.pth").is_file():
            break
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def trained(tiny_dataset, nnunet_folders):
    """Returns the fold's folder after a training that was killed and continued."""
    folder = fold_folder(nnunet_folders["nnUNet_results"])
    kill_in_epoch(1, folder)
    before = torch.load(folder / "checkpoint_best.pth", weights_only=False)["logging"]
    printed = run("nnUNetv2_train", *TRAIN, "--c")
    return folder, before, printed


def test_a_killed_training_resumes_at_its_epoch_with_its_history(trained):
    folder, before, printed = trained
    assert "Epoch 1" in printed
    assert "Epoch 0" not in printed
    after = torch.load(folder / "checkpoint_final.pth", weights_only=False)["logging"]
    assert len(after["train_losses"]) == 3
    for key in ("train_losses", "val_losses", "lrs", "topology_term"):
        np.testing.assert_equal(after[key][:1], before[key][:1])
    assert np.isfinite(after["topology_term"][1:]).all()


def test_nnunets_validation_and_evaluation_are_its_own(trained):
    folder, _, printed = trained
    assert "Validation complete" in printed
    summary = load_summary_json(str(folder / "validation/summary.json"))
    assert set(summary["mean"]) == {1, 2, 3}
    assert len(summary["metric_per_case"]) == len(list(folder.glob("validation/*.nii.gz")))


def test_topology_metrics_stand_in_nnunets_summary(trained, nnunet_folders):
    folder, _, printed = trained
    content = load_json(str(folder / "validation/summary.json"))
    assert content["nnunet_topo"]["connectivity"] == "full"
    assert content["nnunet_topo"]["troubles"] == []
    assert re.search(r"topology metrics: label 1 \(\w+\): Dice 0\.\d+, Betti error", printed)
    preprocessed = Path(nnunet_folders["nnUNet_preprocessed"]) / "Dataset901_TinyRings"
    for entry in content["metric_per_case"]:
        name = Path(entry["prediction_file"]).name
        segmentations = [
            sitk.GetArrayFromImage(sitk.ReadImage(file))
            for file in (folder / "validation" / name, preprocessed / "gt_segmentations" / name)
        ]
        for label, metrics in entry["metrics"].items():
            betti = [betti_numbers(s == int(label)) for s in segmentations]
            errors = [abs(p - r) for p, r in zip(*betti, strict=True)]
            assert [metrics[f"topo_betti_error_{k}"] for k in range(3)] == errors


def test_nnunet_predicts_with_the_model(trained, nnunet_folders, tmp_path):
    images = Path(nnunet_folders["nnUNet_raw"]) / "Dataset901_TinyRings/imagesTr"
    (tmp_path / "in").mkdir()
    shutil.copy(images / "tiny_0_0000.nii.gz", tmp_path / "in")
    run(
        *("nnUNetv2_predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")),
        *("-d", "901", "-c", "3d_fullres", "-f", "0", "-p", "nnUNetPlansTiny", "-tr", NAME),
        *("-device", "cpu", "--save_probabilities", "-npp", "1", "-nps", "1"),
    )
    probabilities = np.load(tmp_path / "out/tiny_0.npz")["probabilities"]
    assert probabilities.shape == (4, 22, 26, 30)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-2)
    assert load_json(str(tmp_path / "out/predict_from_raw_data_args.json"))


def test_a_typing_error_after_c_does_not_start_a_new_training(trained, nnunet_folders):
    wrong = [a.replace("3epochs", "4epochs") for a in TRAIN]
    printed = run("nnUNetv2_train", *wrong, "--c", fails=True)
    told = printed.replace("\n", " ").partition("trained as ")[2]  # others of this session, too
    assert NAME in told.partition(". ")[0].split(", ")
    name = NAME.replace("3epochs", "4epochs")
    assert not fold_folder(nnunet_folders["nnUNet_results"], name).exists()


def test_2d_trains_too(tiny_dataset, nnunet_folders):
    name = "nnUNetTrainerTAFL_1epochs_2iters_from0"
    run(
        *("nnUNetv2_train", "901", "2d", "0", "-p", "nnUNetPlansTiny", *TRAIN[5:7], "-tr", name),
        env={"NNUNET_TOPO_NO_METRICS": "yes"},
    )
    folder = fold_folder(nnunet_folders["nnUNet_results"], name, "2d")
    logging = torch.load(folder / "checkpoint_final.pth", weights_only=False)["logging"]
    assert logging["topology_term"][0] > 0
    summary = load_json(str(folder / "validation/summary.json"))
    assert "nnunet_topo" not in summary
    assert not any(key.startswith("topo_") for key in summary["foreground_mean"])


@pytest.mark.slow
@pytest.mark.parametrize(("stem", "more"), [("TAFL", ""), ("BettiPrior", ""), ("TAFL", "_nods")])
def test_two_processes_train_and_the_first_writes_the_metrics(
    tiny_dataset, nnunet_folders, stem, more
):
    name = f"nnUNetTrainer{stem}_2epochs_4iters_from1{more}"
    topology_json = (
        Path(nnunet_folders["nnUNet_preprocessed"]) / "Dataset901_TinyRings/topology.json"
    )
    topology_json.unlink(missing_ok=True)  # the first process makes it for both
    script = str(Path(__file__).parent / "two_processes.py")
    run("python", script, "901", "3d_fullres", "0", "nnUNetPlansTiny", name)
    folder = fold_folder(nnunet_folders["nnUNet_results"], name)
    content = load_json(str(folder / "validation/summary.json"))
    assert content["nnunet_topo"]["troubles"] == []
    assert len(content["metric_per_case"]) == len(list(folder.glob("validation/*.nii.gz"))) > 0
    assert all(np.isfinite(m["topo_betti_matching_error"]) for m in content["mean"].values())
    logging = torch.load(folder / "checkpoint_final.pth", weights_only=False)["logging"]
    assert logging["topology_term"][1] > 0
    logs = [log.read_text() for log in folder.glob("training_log*")]
    assert sum(log.count("topology metrics: label 1") for log in logs) == 1
    assert topology_json.is_file() == (stem == "BettiPrior")


@pytest.mark.slow
def test_nnunets_commands_read_our_summaries_and_we_theirs(tiny_dataset, nnunet_folders):
    name, folds = "nnUNetTrainerTAFL_1epochs_4iters_from0", ("0", "1")
    model = ("901", "-p", "nnUNetPlansTiny", "-tr", name)
    for configuration in ("2d", "3d_fullres"):
        for fold in folds:
            options = ("-p", "nnUNetPlansTiny", "-device", "cpu", "-tr", name, "--npz")
            run("nnUNetv2_train", "901", configuration, fold, *options)
    results = Path(nnunet_folders["nnUNet_results"]) / "Dataset901_TinyRings"
    labels = Path(nnunet_folders["nnUNet_raw"]) / "Dataset901_TinyRings/labelsTr"
    trained = results / f"{name}__nnUNetPlansTiny__3d_fullres"
    crossval, gathered = trained / "crossval_results_folds_0_1", trained / "gathered"
    dataset_json, plans = str(trained / "dataset.json"), str(trained / "plans.json")
    find = ("nnUNetv2_find_best_configuration", *model, "-c", "2d", "3d_fullres", "-f", *folds)
    accumulate = ("nnUNetv2_accumulate_crossval_results", *model, "-c", "3d_fullres", "-f", *folds)
    postprocess = (
        *("nnUNetv2_determine_postprocessing", "-i", str(crossval), "-ref", str(labels)),
        *("-plans_json", plans, "-dataset_json", dataset_json, "-np", "1"),
    )
    run(*find, "-np", "1")
    run(*postprocess)
    cleaned = trained / "cleaned"
    run(
        *("nnUNetv2_apply_postprocessing", "-i", str(crossval), "-o", str(cleaned), "-np", "1"),
        *("-pp_pkl_file", str(crossval / "postprocessing.pkl"), "-plans_json", plans),
        *("-dataset_json", dataset_json),
    )
    ends = [sorted(f.name for f in folder.glob("*.nii.gz")) for folder in (crossval, cleaned)]
    assert ends[0] == ends[1]
    ensembles = sorted((results / "ensembles").iterdir())
    assert len(ensembles) == 1
    for folder in (crossval, crossval / "postprocessed", *ensembles):
        theirs = load_summary_json(str(folder / "summary.json"))
        run(
            *("nnunet-topo", "evaluate", str(labels), str(folder)),
            *("-djfile", dataset_json, "-pfile", plans, "-np", "1", "--chill"),
        )
        ours = load_summary_json(str(folder / "summary.json"))
        assert ours["nnunet_topo"]["troubles"] == []
        for label, metrics in theirs["mean"].items():
            for key, value in metrics.items():
                np.testing.assert_equal(ours["mean"][label][key], value)
        assert np.isfinite(ours["foreground_mean"]["topo_betti_matching_error"])
    # With our keys in them nnU-Net reads them again: to choose a model and the postprocessing.
    run(*find, "-np", "1", "--no_overwrite")
    run(*postprocess)
    run(*accumulate, "-o", str(gathered))
    again = load_summary_json(str(gathered / "summary.json"))
    assert len(again["metric_per_case"]) == len(ours["metric_per_case"])
