"""The comparison of all methods: trainers that exist, splits without overlap, runs and records."""

import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from skimage import io

from nnunet_topo.training.lookup import find_trainer

from ..conftest import wait_until_gone

ROOT = Path(__file__).parents[2]


def part(name: str) -> ModuleType:
    """Returns a module of the experiment."""
    return importlib.import_module(f"experiments.comparison.{name}")


@pytest.mark.parametrize("pretrained", [True, False])
def test_the_trainer_of_every_arm_exists(pretrained):
    arms = part("arms")
    for arm in arms.ARMS.values():
        find_trainer(arm.trainer(1, pretrained, smoke=False))
    find_trainer(arms.base(1, smoke=False))


def test_arms_have_different_trainers():
    arms = part("arms").ARMS.values()
    assert len({arm.trainer(1, True, smoke=False) for arm in arms}) == len(arms)


def test_only_runs_with_a_known_prior_have_a_prior():
    stages, data_sets = part("arms").STAGES, part("data_sets").DATA_SETS
    arms = part("arms").ARMS
    runs = [run for stage in stages.values() for run in stage]
    assert runs
    assert all(data_sets[r.data_set].prior or not arms[r.arm].needs_prior for r in runs)


def data_of(folder, source, ending, cases):
    """Makes the folders of a data set without images."""
    for labels in ("labelsTr", "labelsNoisyTr"):
        (folder / source / labels).mkdir(parents=True)
        for case in cases:
            (folder / source / labels / f"{case}{ending}").write_text(labels)
    (folder / source / "imagesTr").mkdir()
    for case in cases:
        (folder / source / "imagesTr" / f"{case}_0000{ending}").write_text("image")
    described = json.dumps(
        {
            "file_ending": ending,
            "numTraining": len(cases),
            "channel_names": {"0": "image"},
            "labels": {"background": 0, "inside": 1},
        }
    )
    (folder / source / "dataset.json").write_text(described)


def test_slices_of_a_patient_are_all_trained_or_all_tested(tmp_path):
    sets = part("data_sets")
    cases = [f"SC-{p:02d}-IM-{i:04d}" for p in range(12) for i in range(3)]
    data_of(tmp_path, "Dataset102_SunnybrookLV", ".png", cases)
    folds = sets.split(sets.DATA_SETS["Sunnybrook"], tmp_path, smoke=False)
    for fold, first in zip(folds, (0, 1), strict=True):
        assert sorted(fold["train"] + fold["val"]) == cases
        assert {case[:5] for case in fold["val"]} == {f"SC-{p:02d}" for p in range(first, 12, 2)}
        assert not {case[:5] for case in fold["train"]} & {case[:5] for case in fold["val"]}


def test_what_screens_neither_trains_on_test_images_nor_tests_them(tmp_path):
    sets = part("data_sets")
    cases = [f"mortar_{number:03d}" for number in range(70)]
    data_of(tmp_path, "Dataset103_TopoMortar", ".png", cases)
    (tested,) = sets.split(sets.DATA_SETS["TopoMortar"], tmp_path, smoke=False)
    (screened,) = sets.split(sets.DATA_SETS["TopoMortar, training images"], tmp_path, smoke=False)
    assert screened == {"train": cases[:30], "val": cases[30:50]}
    assert tested == {"train": cases[:50], "val": cases[50:]}


def test_noisy_labels_train_and_clean_ones_test(tmp_path, monkeypatch):
    sets = part("data_sets")
    cases = [f"mortar_{number:03d}" for number in range(30)]
    data_of(tmp_path / "data", "Dataset103_TopoMortar", ".png", cases)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    noisy = sets.DATA_SETS["TopoMortar, noisy labels"]
    folds = sets.split(noisy, tmp_path / "data", smoke=False)
    train, test = folds[0]["train"], folds[0]["val"]
    sets._link(noisy, tmp_path / "data", folds)
    raw = tmp_path / "raw" / noisy.name
    assert (len(train), len(test)) == (10, 20)
    assert (raw / "labelsTr" / f"{train[0]}.png").read_text() == "labelsNoisyTr"
    assert (raw / "labelsTr" / f"{test[0]}.png").read_text() == "labelsTr"
    assert len(list((raw / "imagesTr").iterdir())) == 30


def test_a_result_depends_on_the_code_of_losses_and_not_of_the_report(tmp_path):
    code = part("code")
    for file in ("nnunet_topo/losses/a.py", "nnunet_topo/report/b.py", *code.PARTS[-5:]):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("1")
    for folder in code.PARTS[:-5]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    before = code.code_digest(tmp_path)
    (tmp_path / "nnunet_topo/report/b.py").write_text("2")
    assert code.code_digest(tmp_path) == before
    (tmp_path / "nnunet_topo/losses/a.py").write_text("2")
    assert code.code_digest(tmp_path) != before
    assert all((code.ROOT / part).exists() for part in code.PARTS)


def test_a_run_with_a_record_is_not_repeated(tmp_path, monkeypatch, capsys):
    main, arms = part("__main__"), part("arms")
    run = arms.Run("ChaseDB1", "Stock", 1)
    monkeypatch.setitem(arms.STAGES, "screening", [run, arms.Run("ChaseDB1", "SCNP", 1)])
    carried_out = []

    def carry_out(of_run, *_):
        carried_out.append(of_run.arm)
        return {"data_set": of_run.data_set, "arm": of_run.arm, "seed": 1, "failed": "no data"}

    monkeypatch.setattr(part("training"), "carry_out", carry_out)
    finished = {"data_set": "another", "arm": "Stock", "seed": 1, "seconds": [60, 12]}
    main.record_file(tmp_path, run).write_text(json.dumps(finished))
    command = ["", "screening", "--results", str(tmp_path), "--work", str(tmp_path / "work")]
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", *main.ONE_CORE):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("sys.argv", command)
    main.main()
    assert carried_out == ["SCNP"]
    main.main()
    assert carried_out == ["SCNP"]
    monkeypatch.setattr("sys.argv", [*command, "--again-failed"])
    main.main()
    assert carried_out == ["SCNP", "SCNP"]
    assert "SCNP, seed 1: no data" in capsys.readouterr().out


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Makes nnU-Net's folders, and a stand-in for planning, whose calls are returned."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    calls = []

    def call(*command, log, **environment):
        calls.append((command, environment))
        if command[0] == "nnUNetv2_plan_and_preprocess":
            number = command[command.index("-d") + 1]
            (raw,) = (tmp_path / "raw").glob(f"Dataset{int(number):03d}_*")
            (tmp_path / "preprocessed" / raw.name).mkdir(exist_ok=True)
            stages = {"n_stages": 4, "features_per_stage": [32, 64, 128, 256], "norm_op": "none"}
            configuration = {"architecture": {"arch_kwargs": stages}, "batch_size": 2}
            plans = {
                "dataset_name": raw.name,
                "plans_name": "nnUNetPlans",
                "image_reader_writer": "NaturalImage2DIO",
                "transpose_forward": [0, 1, 2],
                "label_manager": "LabelManager",
                "configurations": {"2d": configuration},
            }
            planned = tmp_path / "preprocessed" / raw.name
            (planned / "nnUNetPlans.json").write_text(json.dumps(plans))
            (planned / "dataset.json").write_bytes((raw / "dataset.json").read_bytes())

    monkeypatch.setattr(part("data_sets"), "call", call)
    monkeypatch.setattr(part("training"), "call", call)
    return calls


def test_test_cases_do_not_train_and_are_the_validation_of_their_fold(folders, tmp_path):
    sets = part("data_sets")
    cases = [f"Image_{number:02d}{eye}" for number in range(1, 11) for eye in "LR"]
    data_of(tmp_path / "data", "Dataset101_ChaseDB1", ".png", cases)
    chase = sets.DATA_SETS["ChaseDB1"]
    sets.prepare(chase, tmp_path / "data", smoke=False)
    preprocessed = tmp_path / "preprocessed" / chase.name
    folds = json.loads((preprocessed / "splits_final.json").read_text())
    odd = [case for case in cases if int(case[6:8]) % 2]
    even = [case for case in cases if case not in odd]
    assert folds == [{"train": even, "val": odd}, {"train": odd, "val": even}]
    plans = json.loads((preprocessed / f"{sets.PLANS}.json").read_text())
    net = plans["configurations"]["2d"]
    assert (net["batch_size"], net["patch_size"]) == (6, [128, 128])
    assert net["architecture"]["arch_kwargs"] == {
        "n_stages": 3,
        "features_per_stage": [16, 32, 64],
        "norm_op": "torch.nn.modules.batchnorm.BatchNorm2d",
    }
    assert [command[:3] for command, _ in folders] == [
        ("nnUNetv2_plan_and_preprocess", "-d", "106")
    ]
    sets.prepare(chase, tmp_path / "data", smoke=False)
    assert len(folders) == 1
    with pytest.raises(RuntimeError, match=r"splits_final\.json has other folds than"):
        sets.prepare(chase, tmp_path / "data", smoke=True)


def test_labels_of_test_cases_are_not_in_the_prior(folders, tmp_path):
    sets = part("data_sets")
    data = tmp_path / "data/Dataset102_SunnybrookLV"
    cases = [f"SC-{patient:02d}-IM-0001" for patient in range(10)]
    data_of(tmp_path / "data", data.name, ".png", cases)
    for patient, case in enumerate(cases):
        label = np.zeros((20, 24), np.uint8)
        label[3:8, 4:9] = 1
        label[12:17, 14:19] = patient >= 2  # a second component in each of the 8 test patients
        io.imsave(data / "labelsTr" / f"{case}.png", label, check_contrast=False)
    hearts = replace(sets.DATA_SETS["Sunnybrook"], folds=lambda cases: [cases[2:]])
    sets.prepare(hearts, tmp_path / "data", smoke=False)
    written = json.loads((tmp_path / "preprocessed" / data.name / "topology.json").read_text())
    assert written["priors"]["full"]["slices"] == {"inside": [1, 0]}
    assert written["statistics"]["cases"] == 2
    halves = replace(hearts, name="Dataset107_Halves", folds=lambda cases: [cases[2:], cases[:2]])
    with pytest.raises(RuntimeError, match="training cases of its folds have other priors"):
        sets.prepare(halves, tmp_path / "data", smoke=False)


def test_a_data_set_that_another_process_prepares_is_waited_for(folders, tmp_path, monkeypatch):
    sets, chase = part("data_sets"), part("data_sets").DATA_SETS["ChaseDB1"]
    data_of(tmp_path / "data", "Dataset101_ChaseDB1", ".png", ["Image_01L", "Image_02L"] * 5)
    waited = []

    def hold(folder, doing, name):
        if not waited:
            raise ValueError(f"{folder} is in use: process 7")

    def sleep(seconds):
        waited.append(seconds)
        (tmp_path / "preprocessed" / chase.name).mkdir()
        prepared = tmp_path / "preprocessed" / chase.name / sets.SPLITS
        prepared.write_text(json.dumps(sets.split(chase, tmp_path / "data", smoke=False)))

    monkeypatch.setattr("nnunet_topo.locks.hold", hold)
    monkeypatch.setattr(sets.time, "sleep", sleep)
    sets.prepare(chase, tmp_path / "data", smoke=False)
    assert waited == [sets.WAIT_S]
    assert not folders


def test_what_is_left_of_a_training_is_done(folders, tmp_path):
    training, chase = part("training"), part("data_sets").DATA_SETS["ChaseDB1"]
    fold = tmp_path / "results" / chase.name / f"nnUNetTrainerX__{training.PLANS}__2d" / "fold_1"

    def train():
        start = {"NNUNET_TOPO_FINETUNE_FROM": "Y"}
        code = training._train(chase, "nnUNetTrainerX", ["1"], tmp_path, **start)
        return code, [(command[3:], environment) for command, environment in folders]

    now = part("code").code_digest()
    asked = ("106", "2d", "1", "-tr", "nnUNetTrainerX", "-p", training.PLANS, "-device", "cpu")
    code, calls = train()
    assert (code, calls) == ([now], [(asked, {"NNUNET_TOPO_FINETUNE_FROM": "Y"})])
    (fold / "checkpoint_final.pth").touch()
    (tmp_path / "logs" / chase.name / "nnUNetTrainerX_1.code").write_text("12345678")
    folders.clear()
    code, calls = train()
    assert code == ["12345678", now]
    assert calls == [((*asked, "--val"), {"NNUNET_TOPO_FINETUNE_FROM": "Y"})]
    (fold / "validation").mkdir()
    (fold / "validation/summary.json").touch()
    folders.clear()
    assert train() == (["12345678", now], [])
    (tmp_path / "logs" / chase.name / "nnUNetTrainerX_1.code").unlink()
    assert train() == (["unknown"], [])


def test_steps_for_an_eye_are_not_chosen_on_the_other(tmp_path, monkeypatch):
    asked = {}

    def process_models(study, folder_of, **how):
        asked.update(how)
        return [], ["no steps"], []

    monkeypatch.setattr("nnunet_topo.evaluation.results.find_trainings", lambda *_: None)
    monkeypatch.setattr("nnunet_topo.commands.comparison_steps.process_models", process_models)
    chase = part("data_sets").DATA_SETS["ChaseDB1"]
    with pytest.raises(ValueError, match="no steps"):
        part("training")._measure(chase, "Trainer", ["0", "1"], tmp_path, {})
    left, right, other = map(asked["patient"], ("Image_07L.png", "Image_07R.png", "Image_08L.png"))
    assert left == right != other


def test_a_run_in_use_elsewhere_is_not_recorded_as_failed(tmp_path, monkeypatch, capsys):
    main, arms, training = part("__main__"), part("arms"), part("training")
    monkeypatch.setitem(arms.STAGES, "screening", [arms.Run("ChaseDB1", "Stock", 1)])
    monkeypatch.setattr(training, "prepare", lambda *_: None)
    monkeypatch.setattr(training, "split", lambda *_: [{}])

    def train(*_, **__):
        raise RuntimeError("python ended with status 1: ValueError: fold_0 is in use: process 7")

    monkeypatch.setattr(training, "_train", train)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", *main.ONE_CORE):
        monkeypatch.setenv(name, "")
    command = ["", "screening", "--results", str(tmp_path / "a"), "--work", str(tmp_path / "b")]
    monkeypatch.setattr("sys.argv", command)
    main.main()
    assert not list((tmp_path / "a").iterdir())
    assert "Stock, seed 1: left out, python ended" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signals")
def test_a_command_ends_with_the_killed_process_that_wanted_it(tmp_path):
    wanted = (
        "from pathlib import Path; from experiments.shared import call; "
        "call('sh', '-c', 'echo $$ > pid; exec sleep 600', log=Path('log'))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", wanted], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    pid = tmp_path / "pid"
    while not (pid.is_file() and pid.read_text().strip()):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    wait_until_gone(int(pid.read_text()))
