import json
from math import nan
from pathlib import Path

import numpy as np
import torch

from nnunet_topo.evaluation import case as evaluation

from ..report.pages import Page
from .compared import CONFIGURATION, files_below


def test_the_folds_of_trainers_are_compared_together(results, capsys):
    before = files_below(results.folder / "results")
    assert results.compare() == 0
    assert "4 cases, full connectivity" in capsys.readouterr().out
    content = json.loads((results.out / "compare.json").read_text())
    assert list(content["cases"]) == ["nnUNetTrainer", "nnUNetTrainerTAFL_5epochs"]
    wins = {(row["label"], row["metric"]): row["wins"] for row in content["table"]}
    assert (wins["1", "Dice"], wins["mean", "topo_betti_matching_error"]) == (4, 3)
    assert files_below(results.folder / "results") == before


def test_a_missing_fold_is_named_with_those_that_exist(results, capsys):
    assert results.compare(folds="012") == 2
    error = capsys.readouterr().err
    assert "nnUNetTrainer has no finished validation of fold 2; it has fold 0, 1, see -f" in error
    assert results.compare(folds="0") == 0


def test_a_missing_trainer_is_named_with_those_that_exist(results, capsys):
    assert results.compare(trainers=("nnUNetTrainer", "nnUNetTrainerWasserstein")) == 2
    error = capsys.readouterr().err
    assert "no results of nnUNetTrainerWasserstein (nnUNetPlans, 3d_fullres)" in error
    assert "there are: nnUNetTrainer, nnUNetTrainerTAFL_5epochs" in error


def test_other_plans_are_named_where_none_fit(results, capsys):
    assert results.compare("-p", "nnUNetResEncUNetMPlans") == 2
    error = capsys.readouterr().err
    assert "there are, with other plans or configurations: nnUNetTrainer" in error
    assert f"nnUNetTrainer__{CONFIGURATION}" in error


def test_an_unknown_data_set_is_an_error(results, capsys):
    assert results.compare("-d", "777") == 2
    assert "Could not find a dataset with the ID 777" in capsys.readouterr().err


def test_options_for_folders_are_refused_for_trainings(results, capsys):
    for_folders = ["-l", "--labels", "nope.csv", "--images", "nope", "--group", "a=1", "-il", "3"]
    assert results.compare(*for_folders) == 2
    told = "wanted --gt and --pred for -l, --labels, --group, -il, --images, got -d, -c and -tr"
    assert told in capsys.readouterr().err


def test_what_has_been_evaluated_is_not_evaluated_again(results, monkeypatch):
    for trainer in ("nnUNetTrainer", "nnUNetTrainerTAFL_5epochs"):
        for fold in (0, 1):
            results.evaluate(trainer, fold)

    def refuse(*_, **__):
        raise AssertionError("evaluated again")

    monkeypatch.setattr(evaluation, "compare_label_maps", refuse)
    assert results.compare() == 0


def test_a_prediction_that_changed_after_nnunets_summary_is_measured_again(results):
    folder = results.evaluate("nnUNetTrainer", 0, after_nnunet=True)
    (folder / "case_0.nii.gz").write_bytes((results.study.gt / "case_0.nii.gz").read_bytes())
    assert results.compare() == 0
    content = json.loads((results.out / "compare.json").read_text())
    of_case = content["cases"]["nnUNetTrainer"]["case_0.nii.gz"]["1"]
    assert (of_case["Dice"], of_case["topo_betti_error"]) == (1, 0)


def test_a_prediction_that_changed_between_two_comparisons_is_measured_again(results):
    folder = results.evaluate("nnUNetTrainer", 0, after_nnunet=True)
    assert results.compare() == 0
    (folder / "case_0.nii.gz").write_bytes((results.study.gt / "case_0.nii.gz").read_bytes())
    assert results.compare() == 0
    content = json.loads((results.out / "compare.json").read_text())
    of_case = content["cases"]["nnUNetTrainer"]["case_0.nii.gz"]["1"]
    assert (of_case["Dice"], of_case["topo_betti_error"]) == (1, 0)


def test_training_curves_come_from_the_checkpoint(results):
    logged = {
        "train_losses": [np.float32(0.5), np.float32(0.25)],
        "topology_term": [nan, 0.75],
        "dice_per_class_or_region": [[0.1, 0.2], [0.3, 0.4]],
    }
    file = results.fold("nnUNetTrainerTAFL_5epochs", 1) / "checkpoint_final.pth"
    torch.save({"logging": logged}, file)
    assert results.compare() == 0
    page = (results.out / "report.html").read_text()
    labels = [attributes.get("aria-label") or "" for _, attributes in Page(page).elements]
    assert "topology term over the epochs of fold 1" in labels
    assert "training loss over the epochs of fold 1" in labels
    assert not any("dice_per_class" in label or "fold 0" in label for label in labels)


class RunsCode:
    """As a pickle it writes a file when it is read."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_checkpoint_runs_no_code_and_a_damaged_one_only_costs_its_curves(
    results, capsys, tmp_path
):
    files = [
        results.fold("nnUNetTrainerTAFL_5epochs", fold) / "checkpoint_final.pth" for fold in (0, 1)
    ]
    torch.save({"logging": {"train_losses": [1.0]}, "more": RunsCode(tmp_path / "ran")}, files[0])
    files[1].write_bytes(files[0].read_bytes()[:200])
    assert results.compare() == 0
    assert not (tmp_path / "ran").exists()
    printed = capsys.readouterr().out
    for fold in (0, 1):
        assert f"nnUNetTrainerTAFL_5epochs, fold {fold}: no training curves" in printed
    torch.load(files[0], weights_only=False)
    assert (tmp_path / "ran").exists()  # the check above can fail


def test_a_trainer_for_face_connectivity_is_measured_so(results, capsys):
    folder = results.fold("nnUNetTrainerTAFL_5epochs", 0).parent
    name = "nnUNetTrainerTAFL_5epochs_face"
    folder.rename(folder.with_name(f"{name}__{CONFIGURATION}"))
    assert results.compare(trainers=("nnUNetTrainer", name)) == 0
    assert "face connectivity" in capsys.readouterr().out
