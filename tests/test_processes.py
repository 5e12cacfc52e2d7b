"""Work in several processes: what a killed one costs, and that none outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nnunet_topo import processes

from .conftest import wait_until_gone

SCRIPT = """
import os, signal, sys, time
from pathlib import Path

from nnunet_topo.commands.exit_status import exit_status
from nnunet_topo.processes import in_processes

FOLDER = Path(sys.argv[-1])
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it


def work(case):
    (FOLDER / f"{os.getpid()}").touch()
    with (FOLDER / "began").open("a") as file:
        file.write(f"{case} ")
    if case == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if case == 99:
        time.sleep(600)
    time.sleep(0.05)
    return case


if __name__ == "__main__":
    cases = range(int(sys.argv[1])) if sys.argv[1].isdigit() else [99, 99]

    def run():
        print(sorted(in_processes(work, cases, 2, killed=lambda case: -case)))
        return 0

    sys.exit(exit_status("work", run) if sys.argv[1] == "command" else run())
"""


@pytest.fixture
def start(tmp_path):
    """Returns a function that starts the work on a number of cases."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "work").mkdir()

    def start(cases):
        command = [sys.executable, tmp_path / "script.py", cases, tmp_path / "work"]
        return subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)

    return start


def wait_for_workers(process, folder):
    """Returns the workers of a process as soon as there are two."""
    workers = []
    while len(workers) < 2:
        assert process.poll() is None
        workers = [int(file.name) for file in folder.iterdir() if file.name.isdigit()]
        time.sleep(0.1)
    return workers


def test_a_killed_process_costs_its_case_and_the_others_keep_their_processes(start, tmp_path):
    printed, _ = start(12).communicate(timeout=300)
    assert printed == f"{[-3, *[case for case in range(12) if case != 3]]}\n"
    began = (tmp_path / "work" / "began").read_text().split()
    # Only what was computed when the process was killed is computed again.
    assert sorted(set(began), key=int) == [str(case) for case in range(12)]
    assert 13 <= len(began) <= 14
    workers = [file for file in (tmp_path / "work").iterdir() if file.name.isdigit()]
    assert len(workers) <= 2 + 2 + 2  # not one for each case


def test_no_more_processes_are_started_than_the_system_can_wait_for(monkeypatch):
    monkeypatch.setattr(processes, "_MOST", 1)
    found = processes.in_processes(eval, ["__import__('os').getpid()"] * 3, 100, killed=str)
    assert list(found) == [os.getpid()] * 3


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_workers_end_with_their_parent(start, tmp_path, name):
    process = start("wait")
    workers = wait_for_workers(process, tmp_path / "work")
    process.send_signal(getattr(signal, name))
    process.communicate(timeout=60)  # the pipe ends, because no worker holds it
    wait_until_gone(*workers)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_command_does_not_wait_for_cases_that_are_computed(start, tmp_path, name):
    process = start("command")
    workers = wait_for_workers(process, tmp_path / "work")
    process.send_signal(getattr(signal, name))
    process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    wait_until_gone(*workers)
