"""Cases divided between jobs of a cluster, here jobs of submitit's local executor."""

import argparse
import json
import pickle

import pytest

from nnunet_topo.cli import main
from nnunet_topo.commands import arguments, case_jobs, slurm
from nnunet_topo.commands.case_jobs import CaseJobs, CasesJob, read_results
from nnunet_topo.processes import computed, in_processes

from ..evaluation.conftest import study
from ..local_cluster import LocalCluster
from ..model_folder import read, ring
from ..refinement.conftest import folders

__all__ = ["folders", "study"]

KILLED = "__import__('os').kill(__import__('os').getpid(), 9)"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Looks at jobs more often than a real cluster would like."""
    monkeypatch.setattr(case_jobs, "ASK_S", 0.2)
    monkeypatch.setattr(case_jobs, "SEEN_S", 1.0)


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


def test_a_cluster_that_does_not_answer_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(case_jobs, "END_S", 1)
    cluster, folder = LocalCluster(tmp_path / "jobs"), tmp_path / "jobs"
    with monkeypatch.context() as silent:
        silent.setattr(cluster, "states", lambda: None)
        CaseJobs(cluster, folder, 1)._end_earlier()  # there are none to be asked about
        (folder / "jobs.json").write_text(json.dumps({"jobs": ["7"]}))
        with pytest.raises(ValueError, match="Slurm does not say whether jobs 7 of an earlier"):
            CaseJobs(cluster, folder, 1)._end_earlier()
    monkeypatch.setattr(cluster, "states", lambda: {"7": "RUNNING"})
    with pytest.raises(ValueError, match="jobs 7 of an earlier call do not end; try again"):
        CaseJobs(cluster, folder, 1)._end_earlier()


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


@pytest.mark.parametrize("options", ["--jobs 0", "--partition gpu", "--time 1:00 --slurm mem=3G"])
def test_what_a_cluster_gives_is_not_asked_for_without_one(study, capsys, options):
    assert study.command(*options.split()) == 2
    named = " and ".join(option for option in options.split() if option.startswith("--"))
    assert f"wanted --executor slurm for {named}, got local" in capsys.readouterr().err
    assert not study.summary.exists()


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


def test_what_a_job_writes_while_it_ends_is_removed_too(tmp_path, monkeypatch):
    folder, removed = tmp_path / ".jobs", []
    remove = case_jobs.shutil.rmtree

    def remove_before_the_last_line_of_a_log(target, **options):
        remove(target, **options)
        removed.append(target)
        if len(removed) == 1:
            target.mkdir()
            (target / "7_0_log.out").write_text("done")

    (folder / "results").mkdir(parents=True)
    monkeypatch.setattr(case_jobs.shutil, "rmtree", remove_before_the_last_line_of_a_log)
    case_jobs._remove(folder)
    assert removed == [folder, folder]
    assert not folder.exists()


def test_what_is_asked_for_reaches_the_cluster(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(slurm, "Slurm", lambda folder, resources: made.append(resources))
    chosen = argparse.Namespace(gpus=4, slurm=["mem=3G"], partition="gpu", time="90")
    arguments.cluster(chosen, tmp_path, gpus=2, cpus=3)
    assert made == [slurm.Resources("gpu", 90, 2, 2, {"cpus-per-task": "3", "mem": "3G"})]
