"""The command that trains several trainers on several folds and compares them."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nnunet_topo.cli import main
from nnunet_topo.commands import executors
from nnunet_topo.commands import trainings as run
from nnunet_topo.commands.nnunet_commands import remove_dead_locks
from nnunet_topo.commands.training_board import Board

from ..conftest import run as run_command

PLANS = ("-p", "nnUNetPlansTiny")
STOCK, OURS = (f"nnUNetTrainer{name}_1epochs_2iters_nomirror" for name in ("Stock", "Wasserstein"))
FINETUNED = "nnUNetTrainerWasserstein_1epochs_2iters_finetune"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("-d", "987", "-c", "3d_fullres", "-tr", OURS),
            "Could not find a dataset with the ID 987",
        ),
        (("-c", "3d_lowres", "-tr", OURS), "has no 3d_lowres; it has 2d, 3d_fullres"),
        (("-p", "nnUNetPlansX", "-tr", OURS), "nnUNetv2_plan_and_preprocess -d 901 -c 3d_fullres"),
        (
            ("--partition", "gpu", "-tr", OURS, STOCK),
            "wanted --executor slurm for --partition, got",
        ),
        (("-tr", OURS, OURS), "wanted two trainers to compare, got"),
        (("-tr", STOCK, "nnUNetTrainerWassersteen"), "nnU-Net finds no trainer nnUNetTrainerWass"),
        (("-tr", STOCK, "nnUNetTrainerTAFL_x"), "'x' is not a setting"),
        (("-f", "0", "01", "all", "-tr", STOCK, OURS), "folds are 0, 1, 2, 3, 4"),
        (("-tr", OURS, FINETUNED, "-f", "4"), "finetune: no finished training to start from"),
        (("-tr", STOCK, f"{STOCK}_seed3", FINETUNED, "-f", "4"), "Choose the one to start from"),
    ],
)
def test_trainings_that_cannot_work_are_reported_before_any_training(
    tiny_dataset, nnunet_folders, tmp_path, capsys, monkeypatch, arguments, told
):
    for name, folder in nnunet_folders.items():
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr(executors, "begin", lambda *_: pytest.fail("something was trained"))
    defaults = ("run", "-d", tiny_dataset, "-c", "3d_fullres", *PLANS, "-device", "cpu")
    assert main([*defaults, *arguments, "-o", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changed", ["plans_name", "dataset_name", "data_identifier"])
def test_plans_that_nnunet_would_train_elsewhere_are_refused(
    tiny_dataset, nnunet_folders, tmp_path, capsys, monkeypatch, changed
):
    name, file = "Dataset901_TinyRings", "nnUNetPlansTiny.json"
    folder = tmp_path / name
    folder.mkdir()
    plans = json.loads((Path(nnunet_folders["nnUNet_preprocessed"]) / name / file).read_text())
    of = plans["configurations"]["3d_fullres"] if changed == "data_identifier" else plans
    of[changed] = "other"
    (folder / file).write_text(json.dumps(plans))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    with pytest.raises(ValueError, match=r"calls itself|is missing or empty"):
        run.choose_trainings(name, "3d_fullres", "nnUNetPlansTiny", [STOCK, OURS], ["0"])


@pytest.mark.parametrize("summary", ["{}", '{"foreground_mean": {}}', '{"foreground_mean": []}'])
def test_a_summary_without_dice_is_named_in_one_line(tmp_path, summary):
    (tmp_path / "validation").mkdir()
    (tmp_path / "checkpoint_final.pth").touch()
    training = run.Training("a", "0", tmp_path, ())
    training.summary.write_text(summary[:-1])  # cut short: it is validated again
    assert training.dice() is None
    training.summary.write_text(summary)
    with pytest.raises(ValueError, match=r"summary.json is not an nnU-Net summary: it has no Dice"):
        training.dice()


def test_a_validation_without_the_probabilities_that_are_wanted_is_unfinished(tmp_path):
    plain, wanting = (run.Training("a", "0", tmp_path, more) for more in ((), ("--npz",)))
    put_validation(tmp_path)
    for name in ("case_1.nii.gz", "case_2.v2.nii.gz", "case_1.npz", "case_1.pkl", ".hidden"):
        (tmp_path / "validation" / name).touch()
    assert (plain.dice(), wanting.dice()) == (0.5, None)
    (tmp_path / "validation/case_2.v2.npz").touch()
    assert wanting.dice() == 0.5


@pytest.mark.parametrize("missing", ["configurations", "data_identifier"])
def test_plans_without_a_key_are_named_in_one_line(four_cases, missing):
    file = four_cases / "nnUNetPlansTiny.json"
    plans = json.loads(file.read_text())
    del (plans if missing in plans else plans["configurations"]["3d_fullres"])[missing]
    file.write_text(json.dumps(plans))
    with pytest.raises(ValueError, match=r"nnUNetPlansTiny.json (has no 3d|is not an nnU-Net pl)"):
        choose(["0"])


FOLD = {"train": ["tiny_0", "tiny_1"], "val": ["tiny_2"]}
SPLITS = {
    "too few cases": (None, [], "contains 4 cases, but nnU-Net's 5 folds need at least 5"),
    "a way out": (None, [], r'\[\{"train": \["CASE", "..."\], "val": \["CASE"\]\}\]'),
    "all cases": (None, [], "nnUNetv2_train 901 CONFIGURATION all"),
    "too few folds": ([FOLD], ["0", "1"], r"folds are 0 in .*splits_final.json, got 1"),
    "misspelt": ([FOLD, FOLD], ["01", "all"], r"are 0, 1 in .*splits_final.json, got 01, all"),
    "empty": ([FOLD, FOLD | {"val": []}], ["1"], "fold 1 has no validation case, so it cannot"),
    "nothing to train on": ([FOLD | {"train": []}], ["0"], "fold 0 has no training case"),
    "renamed": (
        [FOLD | {"train": ["tiny_0", "old_1"], "val": ["old_2"]}],
        ["0"],
        r"fold 0 names cases that are not in .*3d_fullres: old_1, old_2",
    ),
    "of nnU-Net 1": ([["tiny_0"], ["tiny_1"]], ["0"], r'fold 0: wanted \{"train"'),
    "no list": ({"train": []}, ["0"], "wanted a list of folds"),
}


@pytest.fixture
def four_cases(tiny_dataset, nnunet_folders, tmp_path, monkeypatch):
    """Returns the preprocessed folder of a data set of four cases, without splits."""
    name = "Dataset901_TinyRings"
    source = Path(nnunet_folders["nnUNet_preprocessed"]) / name
    unwanted = shutil.ignore_patterns("tiny_4*", "tiny_5*", "splits_final.json", "*unlabeled")
    shutil.copytree(source, tmp_path / name, ignore=unwanted)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    return tmp_path / name


def choose(folds):
    return run.choose_trainings("901", "3d_fullres", "nnUNetPlansTiny", [STOCK, OURS], folds)


@pytest.mark.parametrize("what", SPLITS)
def test_folds_that_nnunet_could_not_train_or_validate_are_reported_first(four_cases, what):
    splits, folds, told = SPLITS[what]
    if splits is not None:
        (four_cases / "splits_final.json").write_text(json.dumps(splits))
    with pytest.raises(ValueError, match=told):
        choose(folds or ["0"])


def test_folds_with_a_mark_that_nnunet_does_not_read_are_refused(four_cases, make_trainer):
    (four_cases / "splits_final.json").write_text(json.dumps([FOLD]), encoding="utf-8-sig")
    with pytest.raises(ValueError, match=r"splits_final.json begins with a byte order mark"):
        choose(["0"])
    with pytest.raises(ValueError, match="save it as UTF-8 without BOM"):
        make_trainer(OURS, fold=0).do_split()


def test_folds_of_ones_own_are_trained_and_may_overlap(four_cases, make_trainer):
    overlapping = {"train": ["tiny_0", "tiny_2"], "val": ["tiny_0"]}
    (four_cases / "splits_final.json").write_text(json.dumps([FOLD, overlapping, {}]))
    assert [training.fold for training in choose(["0", "1"])] == ["0", "0", "1", "1"]
    assert make_trainer(OURS, fold=1).do_split() == (["tiny_0", "tiny_2"], ["tiny_0"])


@pytest.mark.parametrize("mine", ["report.html", "evaluation/mine.json"])
def test_files_in_the_way_of_the_comparison_are_reported_before_any_training(
    tiny_dataset, tmp_path, capsys, monkeypatch, mine
):
    monkeypatch.setattr(executors, "begin", lambda *_: pytest.fail("something was trained"))
    (tmp_path / mine).parent.mkdir(exist_ok=True)
    (tmp_path / mine).touch()
    command = ("run", "-d", tiny_dataset, "-c", "3d_fullres", *PLANS, "-device", "cpu")
    assert main([*command, "-tr", STOCK, OURS, "-o", str(tmp_path)]) == 2
    assert "left as it is" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_a_missing_gpu_is_reported_once(tiny_dataset, tmp_path, capsys):
    command = ("run", "-d", tiny_dataset, "-c", "3d_fullres", *PLANS, "-tr", STOCK, OURS)
    assert main([*command, "-o", str(tmp_path / "out")]) == 2
    assert "PyTorch finds no GPU here; -device cpu works everywhere" in capsys.readouterr().err


class Ended:
    """A process that has ended."""

    def __init__(self, status):
        self.status = status

    def poll(self):
        return self.status


def four_trainings(folder):
    return [
        run.Training(trainer, fold, folder / trainer / fold, ("nnUNetv2_train", trainer, fold))
        for fold in "01"
        for trainer in ("a", "b")
    ]


def put_validation(folder, dice=0.5):
    (folder / "validation").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint_final.pth").touch()
    summary = {"foreground_mean": {"Dice": dice}}
    (folder / "validation/summary.json").write_text(json.dumps(summary))


def rows(board_file):
    return {(row["trainer"], row["fold"]): row for row in csv.DictReader(board_file.open())}


def test_a_training_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    trainings = four_trainings(tmp_path)
    called, broken = [], {("b", "0")}

    def begin(command, log, environment):
        called.append(command[1:])
        folder = tmp_path / command[1] / command[2]
        if command[1:3] in broken:
            log.write_text("out of memory")
            (folder / "checkpoint_latest.pth").touch()
            return Ended(1)
        put_validation(folder)
        return Ended(0)

    monkeypatch.setattr(executors, "begin", begin)
    (tmp_path / "b/0").mkdir(parents=True)
    told = []

    def carry_out():
        board = Board(trainings, tmp_path / "logs", told.append)
        executors.train_here(board.unfinished(), board)
        return board.failed

    (failed,) = carry_out()
    assert (failed.trainer, failed.fold) == ("b", "0")
    assert called == [("a", "0"), ("b", "0"), ("a", "1"), ("b", "1")]
    assert any("out of memory" in line and "b_fold_0.log" in line for line in told)
    assert "fold 0, a: 0.0 minutes, mean validation Dice 0.5000" in told[1]
    table = rows(tmp_path / "logs/status.csv")
    assert [row["state"] for row in table.values()] == ["done", "failed", "done", "done"]
    assert table["a", "1"]["dice"] == "0.5000"
    broken.clear()
    called.clear()
    assert carry_out() == []
    assert called == [("b", "0", "--c")]
    (trainings[3].folder / "validation/summary.json").write_text('{"foreground_mean": {"Di')
    assert carry_out() == []
    assert called[1:] == [("b", "1", "--val")]


def test_an_interruption_ends_all_trainings(tmp_path, monkeypatch):
    ended = []

    class Endless:
        def poll(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(executors, "begin", lambda *_: Endless())
    monkeypatch.setattr(executors, "end", ended.append)
    board = Board(four_trainings(tmp_path), tmp_path / "logs", print)
    with pytest.raises(KeyboardInterrupt):
        executors.train_here(board.unfinished(), board, [{}, {}])
    assert len(ended) == 2


def test_a_dry_run_prints_commands_and_writes_nothing(tiny_dataset, tmp_path, capsys):
    command = ("run", "-d", tiny_dataset, "-c", "3d_fullres", *PLANS, "-f", "4", "-device", "cpu")
    trainer = "nnUNetTrainerWasserstein_1epochs_3iters"  # that no test trains
    assert main([*command, "-tr", STOCK, trainer, "-o", str(tmp_path / "out"), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == (
        f"nnUNetv2_train Dataset901_TinyRings 3d_fullres 4 -tr {trainer} {' '.join(PLANS)} "
        "-device cpu -num_gpus 1"
    )
    assert not (tmp_path / "out").exists()


def test_a_dry_run_names_the_training_that_another_one_starts_from(
    tiny_dataset, nnunet_folders, tmp_path, capsys
):
    command = ("run", "-d", tiny_dataset, "-c", "3d_fullres", *PLANS, "-f", "4", "-device", "cpu")
    names = FINETUNED, "nnUNetTrainerStock_1epochs_2iters_seed4"  # that no test trains
    assert main([*command, "-tr", *names, "-o", str(tmp_path / "out"), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    results = Path(nnunet_folders["nnUNet_results"]) / "Dataset901_TinyRings"
    source = results / f"{names[1]}__nnUNetPlansTiny__3d_fullres/fold_4/checkpoint_final.pth"
    assert f"-tr {names[1]} " in lines[-3]
    assert lines[-2] == f"# the next one starts from {source}"
    assert f"-tr {FINETUNED} " in lines[-1]


class Short:
    """A process that ends at the third look."""

    def __init__(self, ending):
        self.looks, self.ending = 0, ending

    def poll(self):
        self.looks += 1
        if self.looks > 2:
            self.ending()
            return 0
        return None


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("is_finished", [True, False])
def test_a_training_waits_for_the_one_that_it_starts_from(
    tmp_path, monkeypatch, slots, is_finished
):
    first, second, third, fourth = four_trainings(tmp_path)
    first = dataclasses.replace(first, starts_from=third.folder / "checkpoint_final.pth")
    every = [first, second, third, fourth]
    begun, ended = [], []

    def begin(command, log, environment):
        (training,) = (t for t in every if t.command == command)
        begun.append((training, third in ended))

        def ending():
            ended.append(training)
            if training is not third or is_finished:
                put_validation(training.folder)

        return Short(ending)

    monkeypatch.setattr(executors, "begin", begin)
    monkeypatch.setattr(executors.time, "sleep", lambda _: None)
    told = []
    board = Board(every, tmp_path / "logs", told.append)
    executors.train_here(every, board, [{}] * slots)
    if is_finished:
        assert dict(begun)[first]
        assert board.failed == []
    else:
        assert first not in dict(begun)
        assert board.failed == [third, first]
        assert any("not trained, because the training that it starts from" in of for of in told)
    assert {second, third, fourth} <= set(dict(begun))


def test_a_fold_that_another_run_trains_is_left_to_it(tmp_path, monkeypatch):
    first, *others = every = four_trainings(tmp_path)

    def hold(folder):
        if folder == first.folder:
            raise ValueError(f"{folder} is in use: process 7")

    monkeypatch.setattr(executors, "hold_fold", hold)
    monkeypatch.setattr(executors.time, "sleep", lambda _: None)
    finish = {training.command: training.folder for training in others}
    monkeypatch.setattr(
        executors, "begin", lambda command, *_: Short(lambda: put_validation(finish[command]))
    )
    told = []
    board = Board(every, tmp_path / "logs", told.append)
    executors.train_here(every, board)
    assert board.failed == [first]
    assert any(f"not trained: {first.folder} is in use: process 7" in line for line in told)


def test_locks_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path):
    lock, others = tmp_path / ".nnunet-topo.lock", tmp_path / ".nnunet-topo.run.lock"
    for file in (lock, others):
        file.write_text("process 7 on this-machine")
    program = (
        "import sys; from pathlib import Path; from nnunet_topo.commands.nnunet_commands import "
        "hold_fold; hold_fold(Path(sys.argv[1])); print(1, flush=True); sys.stdin.read()"
    )
    living = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert living.stdout.readline()
        remove_dead_locks(tmp_path)
        assert not lock.exists()
        assert others.exists()
    finally:
        living.communicate()
    remove_dead_locks(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_table_of_others_is_left_as_it_is(tmp_path):
    (tmp_path / "status.csv").write_text("patient,status\n")
    with pytest.raises(ValueError, match=r"status.csv was not written by nnunet-topo run"):
        Board(four_trainings(tmp_path), tmp_path, print)


def test_two_trainers_are_trained_and_compared_by_one_command(
    tiny_dataset, nnunet_folders, tmp_path
):
    command = ("nnunet-topo", "run", "-d", tiny_dataset, "-c", "3d_fullres", *PLANS, "-f", "0")
    command += ("-tr", STOCK, OURS, "-o", str(tmp_path / "out"), "-device", "cpu")
    printed = run_command(*command)
    assert "[1/2] fold 0, nnUNetTrainerStock" in printed
    assert "Searching in" not in printed
    assert "[2/2] fold 0, nnUNetTrainerWasserstein" in printed
    assert printed.count(", mean validation Dice ") == 2  # nan without a voxel of one label
    rows = list(csv.DictReader((tmp_path / "out/compare.csv").open()))
    processed = {f"{model}, post-processed" for model in (STOCK, OURS)}
    assert {row["model"] for row in rows} == {STOCK, OURS, *processed}
    assert (tmp_path / "out/report.html").is_file()
    assert "Training done." in (tmp_path / f"out/logs/{OURS}_fold_0.log").read_text()
    folds = Path(nnunet_folders["nnUNet_results"]).glob(f"*/{OURS}__*/fold_0")
    lock = next(folds) / ".nnunet-topo.run.lock"
    lock.write_text("process 7 on this-machine")  # as a kill leaves it
    assert run_command(*command).count("done before") == 2
    assert not lock.exists()
