"""Jobs of a cluster: what is asked of Slurm, and trainings as jobs of submitit.

A real Slurm is started by tests/acceptance/trust.sh.
"""

import json
import os
import subprocess
import sys
import time

import pytest
from submitit.slurm.slurm import _make_sbatch_string

from nnunet_topo.commands import executors, slurm
from nnunet_topo.commands.training_board import Board
from nnunet_topo.commands.trainings import Training, choose_trainings

from ..local_cluster import LocalCluster
from .test_run import put_validation, rows


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Looks at jobs more often than a real cluster would like."""
    monkeypatch.setattr(executors, "ASK_S", 0.2)
    monkeypatch.setattr(executors, "SEEN_S", 1.0)


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        ("90", 90),
        ("90:01", 91),
        ("1:00:00", 60),
        ("1-0", 1440),
        ("2-12:30", 3630),
        ("0-00:00:30", 1),
    ],
)
def test_time_limits_are_those_of_sbatch(time, minutes):
    assert slurm.minutes_of(time) == minutes


@pytest.mark.parametrize("time", ["", "0", "1h", "1:2:3:4", "-5", "1-", "0:00"])
def test_what_is_no_time_limit_is_refused(time):
    with pytest.raises(ValueError, match="--time: wanted m"):
        slurm.minutes_of(time)


@pytest.mark.parametrize("pair", ["mem=", "=32G", "Mem=1", "a b=1", "mem=1\n#SBATCH x", "array=1"])
def test_what_is_no_option_of_sbatch_is_refused(pair):
    with pytest.raises(ValueError, match="--slurm"):
        slurm.options_of([pair])


def test_what_the_user_asks_for_reaches_sbatch():
    options = slurm.options_of(["--mem=32G", "cpus-per-task=12", "exclusive", "comment=$(rm x)"])
    wanted = slurm.Resources("gpu", 90, 2, 4, options).parameters("topo")
    script = _make_sbatch_string("python", "/jobs", map_count=9, **wanted)
    for line in (
        "partition=gpu",
        "time=90",
        "gpus-per-node=2",
        "array=0-8%4",
        "mem=32G",
        "cpus-per-task=12",
        "exclusive",
        "requeue",
        "comment='$(rm x)'",
        "job-name=topo",
        "signal=USR2@90",
    ):
        assert f"#SBATCH --{line}\n" in script
    assert "--cpus-per-task=12 python" in script  # srun does not inherit it
    assert "wckey" not in script


@pytest.mark.parametrize("asked", ["gpus-per-node=a100:1", "gres=gpu:a100:2", "gpus=1"])
def test_gpus_and_requeue_as_the_user_asks_for_them_are_those_of_sbatch(asked):
    options = slurm.options_of([asked, "no-requeue"])
    wanted = slurm.Resources("gpu", 90, 4, None, options).parameters("topo")
    script = _make_sbatch_string("python", "/jobs", **wanted)
    lines = [line for line in script.splitlines() if "gpu:" in line or "--gpus" in line]
    assert lines == [f"#SBATCH --{asked}"]
    assert "#SBATCH --no-requeue\n" in script
    assert "#SBATCH --requeue\n" not in script


def test_without_slurm_the_command_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="sbatch, srun, squeue, scancel not found"):
        slurm.Slurm(tmp_path, slurm.Resources())


@pytest.fixture
def fake_squeue(tmp_path, monkeypatch):
    """Returns a function that sets what squeue prints, and how it ends."""
    for name in ("sbatch", "srun", "squeue", "scancel"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return lambda text, status=0: (tmp_path / "squeue").write_text(
        f"#!/bin/sh\necho '{text}'\nexit {status}\n"
    )


def test_states_are_those_of_squeue(fake_squeue, tmp_path, capsys):
    asked = slurm.Slurm(tmp_path / "jobs", slurm.Resources())
    fake_squeue("12_0 RUNNING\n12_1 PENDING\n7 COMPLETED\n\n")
    assert asked.states() == {"12_0": "RUNNING", "12_1": "PENDING", "7": "COMPLETED"}
    fake_squeue("", status=1)
    assert asked.states() is None
    assert "Slurm does not answer" in capsys.readouterr().err


def test_jobs_that_cannot_be_ended_are_told(fake_squeue, tmp_path, monkeypatch, capsys):
    def slow(command, **_):
        raise subprocess.TimeoutExpired(command, 60)

    asked = slurm.Slurm(tmp_path / "jobs", slurm.Resources())
    monkeypatch.setattr(subprocess, "run", slow)
    asked.cancel(["12", "13"])
    assert capsys.readouterr().err.endswith("; not ended: 12 13\n")


def test_a_refusal_of_slurm_is_told_in_one_line(fake_squeue, tmp_path):
    refusing = slurm.Slurm(tmp_path / "jobs", slurm.Resources())
    with pytest.raises(ValueError, match="Slurm refuses the jobs"):
        refusing.submit([slurm.TrainingJob(("false",), tmp_path, tmp_path / "log")])


# Trainings


@pytest.fixture
def one_training(tiny_dataset, tmp_path, monkeypatch, nnunet_folders):
    trainers = ["nnUNetTrainerStock_2epochs_2iters_lr0.003", "nnUNetTrainerStock"]
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    chosen = choose_trainings(
        tiny_dataset, "2d", "nnUNetPlansTiny", trainers, ["3"], ("-device", "cpu")
    )
    return chosen[0]


def test_a_killed_job_is_told_and_the_same_call_trains_again(one_training, tmp_path, monkeypatch):
    cluster, told = LocalCluster(tmp_path / "jobs"), []

    def carry_out():
        board = Board([one_training], tmp_path / "logs", told.append)
        executors.train_on_cluster(board.unfinished(), board, cluster, tmp_path / "jobs")
        return board

    def kill(*arguments):
        job = next(iter(cluster.jobs.values()))
        if job.state == "RUNNING" and one_training.folder.is_dir():
            cluster.kill(job.job_id)
            monkeypatch.setattr(executors.time, "sleep", sleep)
        sleep(0.2)

    sleep = time.sleep
    monkeypatch.setattr(executors.time, "sleep", kill)
    assert carry_out().failed == [one_training]
    assert any("failed, job" in line and "logs" in line for line in told)
    assert carry_out().failed == []
    assert len(cluster.submitted) == 2
    assert one_training.dice() is not None
    (row,) = rows(tmp_path / "logs/status.csv").values()
    assert row["state"] == "done"
    assert row["job"] in cluster.jobs
    assert any("is running" in line for line in told)


def fine_tunings(folder):
    """Returns two folds of a training, and of one that starts from it."""
    made = []
    for fold in "01":
        source = Training("b", fold, folder / "b" / fold, ("nnUNetv2_train", "b", fold))
        checkpoint = source.folder / "checkpoint_final.pth"
        command = ("nnUNetv2_train", "a", fold)
        made += [Training("a", fold, folder / "a" / fold, command, checkpoint), source]
    return made


@pytest.mark.parametrize("at_once", [None, 2])
def test_a_job_waits_for_the_training_that_it_starts_from(tmp_path, at_once):
    first, source, second, other = fine_tunings(tmp_path)
    board = Board([first, source, second, other], tmp_path / "logs", lambda _: None)

    class Finishing(Scripted):
        def states(self):
            if self.asked == 1:
                put_validation(source.folder)
            elif self.asked == 2:
                put_validation(other.folder)
            elif self.asked == 6:
                put_validation(first.folder)
                put_validation(second.folder)
            return super().states()

    running = {"5_0": "COMPLETED", "5_1": "RUNNING"}
    cluster = Finishing({}, running, {"5_1": "COMPLETED"}, {"6_0": "RUNNING", "7_0": "RUNNING"}, {})
    cluster.at_once = at_once
    executors.train_on_cluster(board.unfinished(), board, cluster, tmp_path / "jobs")
    assert [job.command[1:] for job in cluster.submitted[:2]] == [("b", "0"), ("b", "1")]
    assert {job.command[1:] for job in cluster.submitted[2:]} == {("a", "0"), ("a", "1")}
    assert cluster.asked_at_submission[:2] == [1, 2 if at_once is None else 3]
    assert board.failed == []


def test_a_fine_tuning_whose_source_fails_is_no_job(tmp_path, capsys):
    finetuned, source = fine_tunings(tmp_path)[:2]
    board = Board([finetuned, source], tmp_path / "logs", print)
    cluster = Scripted({}, {"5_0": "FAILED"})
    executors.train_on_cluster(board.unfinished(), board, cluster, tmp_path / "jobs")
    assert [job.command[1] for job in cluster.submitted] == ["b"]
    assert board.failed == [source, finetuned]
    assert "the training that it starts from is not finished: no" in capsys.readouterr().out


def test_jobs_of_another_configuration_are_not_taken_for_these(tmp_path):
    (tmp_path / "jobs").mkdir()
    recorded = {str(tmp_path / "a__plans__3d_fullres/0"): "4_0"}
    (tmp_path / "jobs/jobs.json").write_text(json.dumps(recorded))
    cluster = Scripted({"4_0": "RUNNING"}, {"4_0": "RUNNING", "5_0": "FAILED"})
    attach(tmp_path, cluster)
    assert len(cluster.submitted) == 1
    written = json.loads((tmp_path / "jobs/jobs.json").read_text())
    assert written == recorded | {str(tmp_path / "a/0"): "5_0"}


def test_a_job_does_not_train_a_fold_that_another_process_trains(tmp_path):
    log = tmp_path / "log"
    script = tmp_path / "nnUNetv2_train"
    script.write_text("#!/bin/sh\necho trained\n")
    script.chmod(0o755)
    job = slurm.TrainingJob((str(script),), tmp_path / "fold_0", log)
    elsewhere = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "fold_0")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert elsewhere.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=r"fold_0 is in use: process \d+ on .*topo run"):
            job()
    finally:
        elsewhere.kill()
        elsewhere.wait()
    assert not log.exists()
    job()
    assert log.read_text() == "trained\n"


HOLDER = """
import sys, time
from pathlib import Path
from nnunet_topo.commands.nnunet_commands import hold_fold
hold_fold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


class Scripted:
    """A cluster whose jobs have states that are given in advance; the last one stays."""

    def __init__(self, *states, then=None):
        self.left, self.then, self.submitted = list(states), then, []
        self.asked, self.asked_at_submission, self.at_once = 0, [], None

    def submit(self, jobs):
        self.submitted += jobs
        self.asked_at_submission.append(self.asked)
        array = 4 + len(self.asked_at_submission)
        return [f"{array}_{number}" for number in range(len(jobs))]

    def states(self):
        self.asked += 1
        if len(self.left) > 1:
            return self.left.pop(0)
        if self.then is not None:
            self.then()
        return self.left[0]

    def cancel(self, jobs):
        raise AssertionError("a training is never cancelled")


def attach(tmp_path, cluster):
    training = Training("a", "0", tmp_path / "a/0", ("nnUNetv2_train",))
    board = Board([training], tmp_path / "logs", print)
    executors.train_on_cluster(board.unfinished(), board, cluster, tmp_path / "jobs")
    return board


def test_the_same_command_waits_for_jobs_that_it_submitted_before(tmp_path, capsys):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/jobs.json").write_text(json.dumps({str(tmp_path / "a/0"): "5_0"}))
    states = [{"5_0": "RUNNING"}, {"5_0": "PENDING"}, None, {"5_0": "RUNNING"}, {}]
    cluster = Scripted(*states, then=lambda: put_validation(tmp_path / "a/0"))
    assert attach(tmp_path, cluster).failed == []
    assert cluster.submitted == []
    assert "job 5_0 is pending" in capsys.readouterr().out


def test_a_job_that_ended_is_submitted_again(tmp_path, monkeypatch):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/jobs.json").write_text(json.dumps({str(tmp_path / "a/0"): "4_0"}))
    cluster = Scripted({"4_0": "FAILED"}, {"5_0": "OUT_OF_MEMORY"})
    board = attach(tmp_path, cluster)
    assert [training.trainer for training in board.failed] == ["a"]
    assert len(cluster.submitted) == 1
    written = json.loads((tmp_path / "jobs/jobs.json").read_text())
    assert written == {str(tmp_path / "a/0"): "5_0"}


def test_a_killed_job_that_is_queued_again_is_waited_for(tmp_path):
    states = [{}, {"5_0": "RUNNING"}, {"5_0": "CANCELLED"}, {"5_0": "FAILED"}, {"5_0": "PENDING"}]
    states += [{"5_0": "RUNNING"}, {"5_0": "COMPLETED"}]
    cluster = Scripted(*states, then=lambda: put_validation(tmp_path / "a/0"))
    assert attach(tmp_path, cluster).failed == []
    assert len(cluster.submitted) == 1


def test_a_validation_that_this_machine_sees_late_is_waited_for(tmp_path):
    states = [{}, {"5_0": "COMPLETED"}, {"5_0": "COMPLETED"}, {}]
    cluster = Scripted(*states, then=lambda: put_validation(tmp_path / "a/0"))
    assert attach(tmp_path, cluster).failed == []


def test_an_interruption_leaves_the_jobs_and_says_how_to_end_them(tmp_path, capsys):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attach(tmp_path, Scripted({}, {"5_0": "RUNNING"}, {}, then=interrupt))
    assert "the jobs go on without this command; scancel 5 ends them" in capsys.readouterr().out
