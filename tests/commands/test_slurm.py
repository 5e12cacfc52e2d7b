"""Jobs of a cluster: what is asked of Slurm, and trainings and cases as jobs of submitit.

A real Slurm is started by tests/acceptance/trust.sh.
"""

import json
import os
import pickle
import time

import pytest
from submitit.slurm.slurm import _make_sbatch_string

from nnunet_topo.cli import main
from nnunet_topo.commands import arguments, case_jobs, executors, slurm
from nnunet_topo.commands.case_jobs import CaseJobs, CasesJob, read_results
from nnunet_topo.commands.training_board import Board
from nnunet_topo.commands.trainings import Training, choose_trainings
from nnunet_topo.processes import computed, in_processes

from ..evaluation.conftest import study
from ..local_cluster import LocalCluster
from ..model_folder import read, ring
from ..refinement.conftest import folders
from .test_run import put_validation, rows

__all__ = ["folders", "study"]

KILLED = "__import__('os').kill(__import__('os').getpid(), 9)"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Looks at jobs more often than a real cluster would like."""
    for module in (executors, case_jobs):
        monkeypatch.setattr(module, "ASK_S", 0.2)
        monkeypatch.setattr(module, "SEEN_S", 1.0)


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


def test_a_job_waits_for_the_training_that_it_starts_from(tmp_path):
    source = Training("b", "0", tmp_path / "b/0", ("nnUNetv2_train", "b"))
    checkpoint = source.folder / "checkpoint_final.pth"
    finetuned = Training("a", "0", tmp_path / "a/0", ("nnUNetv2_train", "a"), checkpoint)
    board = Board([finetuned, source], tmp_path / "logs", lambda _: None)
    states = {}, {"5_0": "RUNNING"}, {"5_0": "COMPLETED"}, {}, {"5_0": "FAILED"}
    cluster = Scripted(*states)
    left = board.unfinished()
    put_validation(source.folder)
    executors.train_on_cluster(left, board, cluster, tmp_path / "jobs")
    assert [job.command[1] for job in cluster.submitted] == ["b", "a"]
    assert cluster.asked_at_submission == [1, 4]
    assert board.failed == [finetuned]


class Scripted:
    """A cluster whose jobs have states that are given in advance; the last one stays."""

    def __init__(self, *states, then=None):
        self.left, self.then, self.submitted = list(states), then, []
        self.asked, self.asked_at_submission = 0, []

    def submit(self, jobs):
        self.submitted += jobs
        self.asked_at_submission.append(self.asked)
        return [f"5_{number}" for number in range(len(jobs))]

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
    (tmp_path / "jobs/jobs.json").write_text(json.dumps({"a, fold 0": "5_0"}))
    states = [{"5_0": "RUNNING"}, {"5_0": "PENDING"}, None, {"5_0": "RUNNING"}, {}]
    cluster = Scripted(*states, then=lambda: put_validation(tmp_path / "a/0"))
    assert attach(tmp_path, cluster).failed == []
    assert cluster.submitted == []
    assert "job 5_0 is pending" in capsys.readouterr().out


def test_a_job_that_ended_is_submitted_again(tmp_path, monkeypatch):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/jobs.json").write_text(json.dumps({"a, fold 0": "4_0"}))
    cluster = Scripted({"4_0": "FAILED"}, {"5_0": "OUT_OF_MEMORY"})
    board = attach(tmp_path, cluster)
    assert [training.trainer for training in board.failed] == ["a"]
    assert len(cluster.submitted) == 1
    assert json.loads((tmp_path / "jobs/jobs.json").read_text()) == {"a, fold 0": "5_0"}


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


# Cases


def results_of(cases, cluster, folder, jobs=2, processes=1):
    with computed(CaseJobs(cluster, folder, jobs)):
        return sorted(
            in_processes(eval, cases, processes, killed=lambda case: f"killed {case}", heavy=True),
            key=str,
        )


@pytest.mark.parametrize("processes", [1, 2])
def test_cases_are_divided_between_jobs(tmp_path, processes):
    cluster = LocalCluster(tmp_path / "jobs")
    cases = [f"{number} * 10" for number in range(5)]
    found = results_of(cases, cluster, tmp_path / "jobs", processes=processes)
    assert found == [0, 10, 20, 30, 40]
    (jobs,) = cluster.submitted
    assert [len(job.cases) for job in jobs] == [3, 2]
    assert not (tmp_path / "jobs").exists()


def test_a_case_that_ends_its_job_costs_no_other_case(tmp_path):
    cluster = LocalCluster(tmp_path / "jobs")
    cases = ["1", "2", KILLED, "4", "5", "6"]
    found = results_of(cases, cluster, tmp_path / "jobs")
    assert found == [1, 2, 4, 5, 6, f"killed {KILLED}"]
    _, second, third = cluster.submitted
    assert [list(job.cases.values()) for job in third] == [[KILLED]]
    assert [list(job.cases.values()) for job in second] == [["5"]]
    assert (tmp_path / "jobs").is_dir()  # what the job printed


def test_jobs_that_compute_nothing_end_the_command(tmp_path):
    cluster = LocalCluster(tmp_path / "jobs")
    with pytest.raises(ValueError, match="no job has computed a case; what they print is in"):
        results_of([KILLED] * 9, cluster, tmp_path / "jobs")
    assert len(cluster.submitted) == 1


@pytest.mark.parametrize("killed", [1, 2])
def test_cases_that_always_end_their_job_are_reported_though_no_other_is_left(tmp_path, killed):
    cluster = LocalCluster(tmp_path / "jobs")
    found = results_of([KILLED] * killed, cluster, tmp_path / "jobs")
    assert found == [f"killed {KILLED}"] * killed


def test_jobs_that_never_begin_end_the_command_even_with_one_case(tmp_path):
    class Refusing(LocalCluster):
        def submit(self, jobs):
            return super().submit([Lost(job) for job in jobs])

    with pytest.raises(ValueError, match="no job has computed a case; what they print is in"):
        results_of(["1"], Refusing(tmp_path / "jobs"), tmp_path / "jobs")


class Lost:
    """A job on a machine that lacks this package."""

    def __init__(self, job):
        self.file = job.file

    def __call__(self):
        raise ImportError("nnunet_topo")


def test_a_job_of_cases_that_is_preempted_is_waited_for(tmp_path):
    class Preempting(LocalCluster):
        looks = 0

        def _seen(self, state):
            self.looks += 1
            return "PREEMPTED" if self.looks in (2, 3) else state

        def states(self):
            return {job: self._seen(state) for job, state in super().states().items()}

    cluster = Preempting(tmp_path / "jobs")
    cases = ["__import__('time').sleep(2) or 1"]
    assert results_of(cases, cluster, tmp_path / "jobs") == [1]
    assert len(cluster.submitted) == 1
    assert cluster.looks > 3


def test_files_of_others_in_the_place_of_the_jobs_stay(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/my_script.sh").write_text("echo mine\n")
    with pytest.raises(ValueError, match="jobs has files of others"):
        CaseJobs(LocalCluster(tmp_path / "local"), tmp_path / "jobs", 2)
    assert (tmp_path / "jobs/my_script.sh").read_text() == "echo mine\n"


def test_an_interruption_ends_the_jobs_of_cases(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    cluster = LocalCluster(tmp_path / "jobs")
    monkeypatch.setattr(case_jobs.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        results_of(["__import__('time').sleep(60)"] * 2, cluster, tmp_path / "jobs")
    assert cluster.cancelled == list(cluster.jobs)


def test_jobs_of_a_killed_command_are_ended_before_others_begin(tmp_path):
    cluster, folder = LocalCluster(tmp_path / "jobs"), tmp_path / "jobs"
    job = CasesJob(eval, {0: "__import__('time').sleep(60)"}, 1, folder / "x.results")
    (earlier,) = cluster.submit([job])
    (folder / "jobs.json").write_text(json.dumps({"jobs": [earlier]}))
    assert results_of(["1"], cluster, folder) == [1]
    assert cluster.cancelled == [earlier]
    assert cluster.states()[earlier] != "RUNNING"


def test_a_job_that_is_queued_again_goes_on_where_it_stopped(tmp_path):
    file = tmp_path / "x.results"
    whole = pickle.dumps((0, "known"))
    file.write_bytes(whole + pickle.dumps((1, "cut short"))[:-3])
    assert read_results(file, 0) == ([(0, "known")], len(whole))
    CasesJob(eval, {0: "1 / 0", 1: "11", 2: "22"}, 1, file)()
    begun = (-1, None)
    assert read_results(file, 0)[0] == [(0, "known"), begun, (1, 11), (2, 22)]
    assert read_results(file, len(whole))[0] == [begun, (1, 11), (2, 22)]


@pytest.fixture
def as_jobs(monkeypatch):
    """Lets --executor slurm submit to a cluster on this machine, and returns the clusters."""
    made = []

    def cluster(chosen, folder, **_):
        made.append(LocalCluster(folder))
        return made[-1]

    monkeypatch.setattr(arguments, "cluster", cluster)
    return made


def test_an_evaluation_by_jobs_is_that_of_one_process(study, as_jobs, tmp_path):
    files = [tmp_path / "here.json", tmp_path / "jobs.json"]
    command = ["evaluate", study.gt, study.pred, "-djfile", study.djfile, "-np", "1"]
    for file, more in zip(files, ([], ["--executor", "slurm", "--jobs", "2"]), strict=True):
        assert main([str(part) for part in (*command, "-o", file, *more)]) == 0
    here, by_jobs = (json.loads(file.read_text()) for file in files)
    assert by_jobs["metric_per_case"] == here["metric_per_case"]
    assert [len(of) for of in as_jobs[0].submitted] == [2]
    assert not list(tmp_path.glob(".*.jobs"))


def test_a_refinement_by_jobs_is_that_of_one_process(folders, as_jobs, capsys):
    for case in range(3):
        folders.put(f"case_{case}", ring(0.3))
    prior = folders.topology(ring=[1, 1])
    assert folders.refine("--prior", prior) == 0
    here = {name: read(folders.out / name) for name in folders.files() if name.endswith(".gz")}
    folders.out = folders.folder / "by_jobs"
    assert folders.refine("--prior", prior, "--executor", "slurm", "--jobs", "2") == 0
    assert len(here) == 3
    for name, array in here.items():
        assert (read(folders.out / name) == array).all()
    assert [len(of) for of in as_jobs[0].submitted] == [2]
    assert "[3/3]" in capsys.readouterr().out
