import json
import subprocess
import sys
from dataclasses import astuple, replace
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.evaluation.evaluate_predictions import load_summary_json

import nnunet_topo
from nnunet_topo.evaluation import evaluate
from nnunet_topo.evaluation.case import Settings
from nnunet_topo.evaluation.record import file_name, nanmean
from nnunet_topo.evaluation.summary import Summary, read_summary
from nnunet_topo.metrics import Windows, compute

from .study import CASES, LABELS, SPACING, assert_contains, pair


def test_nnunets_summary_keeps_all_its_values_and_gains_ours(study):
    before = study.evaluate_as_nnunet()
    done = study.evaluate()
    assert (len(done.evaluated), done.computed, done.problems) == (CASES, CASES, ())
    after = study.read()
    assert_contains(after, before)
    reference, prediction = pair(0)
    expected = compute(prediction == 1, reference == 1, spacing_mm=SPACING)
    found = after["metric_per_case"][0]["metrics"]["1"]
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, nan_ok=True, rel=1e-5), key  # spacing is float32
    assert found["topo_betti_error_1"] == 1
    assert after["metric_per_case"][1]["metrics"]["1"]["topo_betti_error_0"] == 1


def test_an_evaluation_is_what_its_summary_holds(study):
    study.evaluate_as_nnunet()
    theirs = read_summary(study.summary)
    assert (theirs.evaluated, theirs.unit, theirs.whole) == ((), None, False)
    done = study.evaluate()
    np.testing.assert_equal(
        astuple(replace(done, computed=0)), astuple(read_summary(study.summary))
    )
    content = study.read()
    assert [case.name for case in done.cases] == [f"case_{case}.nii.gz" for case in range(CASES)]
    assert done.cases[0].labels == content["metric_per_case"][0]["metrics"]
    assert (done.unit, done.label_names) == ("mm", {"1": "ring", "2": "blob"})
    assert done.undefined == content["nnunet_topo"]["undefined"]


def test_every_label_of_every_case_and_mean_carries_every_key(study):
    study.evaluate_as_nnunet()
    study.evaluate()
    content = study.read()
    per_case = [
        labels for entry in content["metric_per_case"] for labels in entry["metrics"].values()
    ]
    keys = per_case[0].keys()
    assert all(labels.keys() == keys for labels in per_case)
    means = [*content["mean"].values(), content["foreground_mean"]]
    assert all(mean.keys() == keys | {"topo_volume_pearson"} for mean in means)


def test_means_leave_out_what_is_undefined_and_count_it(study):
    study.evaluate()
    content = study.read()
    values = [entry["metrics"]["2"]["topo_hd95_mm"] for entry in content["metric_per_case"]]
    assert [isnan(value) for value in values] == [False, False, True, False]
    assert content["mean"]["2"]["topo_hd95_mm"] == pytest.approx(np.nanmean(values))
    assert content["nnunet_topo"]["undefined"]["2"]["topo_hd95_mm"] == 1
    assert "topo_hd95_mm" not in content["nnunet_topo"]["undefined"]["1"]
    both = [content["mean"][label]["topo_hd95_mm"] for label in "12"]
    assert content["foreground_mean"]["topo_hd95_mm"] == pytest.approx(np.mean(both))


def test_volumes_are_correlated_in_mm_and_not_in_voxels(study):
    rng = np.random.default_rng(0)
    volumes = []
    for case in range(CASES):
        masks = (rng.random((2, 6, 7, 8)) < rng.uniform(0.2, 0.8, (2, 1, 1, 1))).astype(np.uint8)
        spacing = (case + 1.0, 1.0, 1.0)
        study.put(f"case_{case}", *masks, spacing=spacing)
        volumes.append([mask.sum() * spacing[0] for mask in masks])
    study.evaluate()
    content = study.read()
    expected = np.corrcoef(np.transpose(volumes))[0, 1]
    assert content["mean"]["1"]["topo_volume_pearson"] == pytest.approx(expected)
    assert isnan(content["mean"]["2"]["topo_volume_pearson"])  # no voxel has label 2


def test_a_folder_without_summary_gets_nnunets_own_metrics_too(study):
    study.evaluate()
    ours = study.read()
    study.summary.unlink()
    theirs = study.evaluate_as_nnunet()
    for entry in theirs["metric_per_case"]:
        entry["metrics"] = dict(entry["metrics"])
    assert_contains(ours, theirs)
    loaded = load_summary_json(str(study.summary))
    assert set(loaded["mean"]) == {1, 2}


def test_only_what_has_changed_is_computed_again(study):
    study.evaluate()
    first = study.read()
    assert study.evaluate().computed == 0
    assert study.summary.read_text() == json.dumps(first, indent=4, sort_keys=True)
    study.put("case_3", prediction=pair(3)[0])
    assert study.evaluate().computed == 1
    second = study.read()
    assert second["metric_per_case"][3]["metrics"]["1"]["Dice"] == 1
    assert second["mean"]["1"]["Dice"] > first["mean"]["1"]["Dice"]
    assert study.evaluate(settings=Settings("face")).computed == CASES
    assert study.read()["nnunet_topo"]["connectivity"] == "face"


def test_windows_are_measured_recorded_and_left_out_again(study, capsys):
    study.evaluate()
    before = study.read()
    assert study.command("--windows", "9", "20") == 0
    assert "Betti error in windows" in capsys.readouterr().out
    measured = study.read()
    assert measured["nnunet_topo"]["windows"] == {"side": 9, "number": 20}
    reference, prediction = pair(0)
    expected = compute(prediction == 1, reference == 1, windows=Windows(9, 20))
    found = measured["metric_per_case"][0]["metrics"]["1"]
    for key in ("topo_betti_error_windows", "topo_betti_error_windows_0"):
        assert found[key] == expected[key]
        assert measured["foreground_mean"][key] > 0
    assert study.command() == 0
    again = study.read()
    assert again["mean"] == before["mean"]
    assert again["nnunet_topo"]["windows"] is None


def test_a_case_that_came_or_went_changes_our_summary_and_never_nnunets(study):
    study.evaluate()
    (study.pred / "case_0.nii.gz").unlink()
    study.evaluate(chill=True)
    names = [Path(entry["prediction_file"]).name for entry in study.read()["metric_per_case"]]
    assert names == [f"case_{case}.nii.gz" for case in (1, 2, 3)]
    study.summary.unlink()
    before = study.evaluate_as_nnunet()
    study.put("case_0", *pair(0))
    (study.pred / "case_1.nii.gz").unlink()
    done = study.evaluate(chill=True)
    assert_contains(study.read(), before)
    assert [problem.split(":")[0] for problem in done.problems] == [
        "case_0.nii.gz",
        "case_1.nii.gz",
    ]
    assert "-o names another file" in done.problems[0]
    assert isnan(study.read()["metric_per_case"][0]["metrics"]["1"]["topo_betti_error"])
    elsewhere = study.pred / "all.json"
    assert len(study.evaluate(output=elsewhere, chill=True).evaluated) == CASES - 1


def test_an_interrupted_evaluation_resumes(study, monkeypatch):
    sound, calls = evaluate.evaluate_case, []

    def interrupted(case):
        calls.append(case.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sound(case)

    before = study.evaluate_as_nnunet()
    monkeypatch.setattr(evaluate, "evaluate_case", interrupted)
    assert study.command() == 130
    assert study.read() == before
    journal = study.pred / "summary.json.topo-part"
    recorded = [json.loads(line) for line in journal.read_text().splitlines()]
    keys = {"name", "digest", "metrics", "of_nnunet", "voxel_mm3", "troubles"}
    assert [set(line) for line in recorded] == [keys, keys]  # what users' interrupted runs hold
    with journal.open("a") as file:
        file.write('{"name": "case_2.nii.gz", "dig')  # cut short
    monkeypatch.setattr(evaluate, "evaluate_case", sound)
    done = study.evaluate()
    assert (len(done.evaluated), done.computed) == (CASES, CASES - 2)
    assert not journal.exists()
    resumed = study.read()
    study.summary.unlink()
    study.evaluate_as_nnunet()
    study.evaluate()
    np.testing.assert_equal(resumed, study.read())


def test_the_chosen_connectivity_is_used_and_recorded(study, capsys):
    touching = np.zeros((22, 26, 30), np.uint8)
    touching[3, 4, 5] = touching[4, 5, 6] = 1
    study.put("case_0", prediction=touching)
    for connectivity, components in (("full", 1), ("face", 2)):
        assert study.command("--connectivity", connectivity) == 0
        assert f"{connectivity} connectivity" in capsys.readouterr().out
        content = study.read()
        assert content["nnunet_topo"]["connectivity"] == connectivity
        assert content["metric_per_case"][0]["metrics"]["1"]["topo_betti_pred_0"] == components
    # Of a summary that has metrics already, the trainers' too, it is kept.
    assert study.command() == 0
    assert "face connectivity" in capsys.readouterr().out


def test_a_summary_written_on_windows_is_merged_into(study):
    study.evaluate_as_nnunet()
    content = study.read()
    for entry in content["metric_per_case"]:
        name = Path(entry["prediction_file"]).name
        entry["prediction_file"] = f"D:\\results\\fold_0\\{name}"
    study.summary.write_text(json.dumps(content))
    assert study.evaluate().problems == ()
    assert_contains(study.read(), content)
    # On other systems a backslash may be part of a name.
    assert file_name("/results/a\\b.nii.gz") == "a\\b.nii.gz"
    # A folder given to nnU-Net with slashes, and joined by it with backslashes.
    assert file_name("C:/results\\fold_0\\b.nii.gz") == "b.nii.gz"


def test_a_full_disk_is_told_with_the_name_of_the_file(study):
    study.evaluate()
    before = study.summary.read_bytes()
    study.put("case_1", *pair(0))
    # A limit on the size of files stands for the full disk: the journal's first line is longer.
    limited = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "from nnunet_topo.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", limited, "evaluate", str(study.gt), str(study.pred)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "File too large: '" in done.stderr
    assert "summary.json.topo-part'" in done.stderr
    assert study.summary.read_bytes() == before


def test_several_processes_give_the_same_and_a_killed_one_only_costs_its_case(study, tmp_path):
    study.evaluate()
    alone = study.read()
    study.summary.unlink()
    # A reader that kills its process on one file, in a module that spawned processes find.
    (tmp_path / "killing.py").write_text(
        "import os\n"
        "from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO\n"
        "class Reader(SimpleITKIO):\n"
        "    def read_seg(self, file):\n"
        "        if 'case_2' in file: os.kill(os.getpid(), 9)\n"
        "        return super().read_seg(file)\n"
    )
    (tmp_path / "killed.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from killing import Reader\n"
        "from nnunetv2.utilities.label_handling.label_handling import LabelManager\n"
        "from nnunet_topo.evaluation.evaluate import evaluate\n"
        "if __name__ == '__main__':\n"
        "    gt, pred = map(Path, sys.argv[1:])\n"
        f"    labels = LabelManager({LABELS}, None)\n"
        "    summary = pred / 'summary.json'\n"
        "    done = evaluate(gt, pred, summary, Reader(), '.nii.gz', labels, processes=2)\n"
        "    print(len(done.evaluated), done.problems)\n"
    )
    command = [sys.executable, str(tmp_path / "killed.py"), str(study.gt), str(study.pred)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip().endswith(
        "3 ('case_2.nii.gz: its process was killed; too little memory?',)"
    )
    three = study.read()["metric_per_case"]
    np.testing.assert_equal(three, [alone["metric_per_case"][case] for case in (0, 1, 3)])
    assert nanmean([nan, nan]) is nan


def test_the_order_in_which_cases_are_finished_changes_no_bit():
    rng = np.random.default_rng(4)
    summary = Summary.__new__(Summary)
    volumes = rng.integers(1, 10**5, (12, 2)).tolist()
    summary.entries = {
        str(case): {"metrics": {"1": {"n_pred": predicted, "n_ref": reference}}}
        for case, (predicted, reference) in enumerate(volumes)
    }
    found = set()
    for _ in range(30):
        order = map(str, rng.permutation(12))
        summary.cases = {case: {"digest": "d", "voxel_mm3": 1.82} for case in order}
        found.add(summary._volume_correlation("1"))
    assert len(found) == 1


def test_metrics_of_another_ignore_label_or_version_are_computed_again(study, monkeypatch):
    reference, prediction = pair(3)
    reference[0], prediction[0] = 3, 1
    study.put("case_3", reference, prediction)
    study.command()
    before = study.read()["mean"]["1"]["Dice"]
    study.command("-il", "3")
    assert study.read()["mean"]["1"]["Dice"] > before
    monkeypatch.setattr(nnunet_topo, "__version__", "9.9")
    assert study.evaluate().computed == CASES
