"""Folders that one process writes at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_topo.locks import NAME, hold, release

from .correction.folders import Folders, with_island

pytestmark = pytest.mark.skipif(os.name == "nt", reason="nothing is locked on Windows")

HOLDER = """
import os, sys, time
from pathlib import Path
from nnunet_topo.locks import hold
hold(Path(sys.argv[1]), "tests the lock")
if os.fork() == 0:
    print("held by", os.getppid(), flush=True)  # a worker, which inherits the open file
time.sleep(600)
"""


@pytest.fixture
def start():
    """Returns a function that starts a process that holds a folder, with a worker."""
    processes = []

    def start(folder):
        command = [sys.executable, "-c", HOLDER, str(folder)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == f"held by {process.pid}\n"
        return process

    yield start
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_folder_is_taken_by_one_process_and_free_when_that_is_killed(start, tmp_path):
    holder = start(tmp_path)
    with pytest.raises(ValueError, match=rf"in use: process {holder.pid} on .+, tests the lock"):
        hold(tmp_path, "comes second")
    os.kill(holder.pid, signal.SIGKILL)  # and not its worker
    holder.wait()
    hold(tmp_path, "comes third")
    hold(tmp_path, "is the same process")
    assert "comes third" in (tmp_path / NAME).read_text()
    release(tmp_path)
    assert not list(tmp_path.iterdir())
    release(tmp_path)


def test_a_released_folder_can_be_taken_by_others(start, tmp_path):
    hold(tmp_path, "comes first")
    release(tmp_path)
    start(tmp_path)


def test_a_second_run_into_the_same_folder_is_refused(start, tmp_path, capsys):
    folders = Folders(tmp_path)
    folders.put("island", with_island())
    start(folders.out)
    assert folders.correct() == 2
    assert f"{folders.out} is in use: process" in capsys.readouterr().err
    assert [file.name for file in folders.out.iterdir()] == [NAME]


def test_a_second_training_of_a_fold_is_refused(start, make_trainer):
    trainer = make_trainer("nnUNetTrainerWasserstein_1epochs_1iters")
    start(Path(trainer.output_folder))
    with pytest.raises(ValueError, match=r"is in use: process .+, tests the lock"):
        trainer.on_train_start()
