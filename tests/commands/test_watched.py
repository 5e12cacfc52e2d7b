"""Commands of nnU-Net that must not outlive the process that wanted them."""

import signal
import subprocess
import sys
import time

import pytest

from ..conftest import wait_until_gone

CALL = """
import os, sys
from pathlib import Path
from nnunet_topo.commands.nnunet_commands import call
print(call(("bash", "-c", sys.argv[2]), Path(sys.argv[1]) / "log", os.environ))
"""


def start(folder, script):
    command = [sys.executable, "-c", CALL, str(folder), script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_command_and_its_workers_end_with_the_process_that_wanted_them(name, tmp_path):
    process = start(tmp_path, "sleep 600 & echo $! > worker; echo $$ > command; sleep 600")
    files = [tmp_path / "worker", tmp_path / "command"]
    assert process.stdout is not None
    deadline = time.monotonic() + 60
    while not all(file.is_file() and file.read_text() for file in files):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(getattr(signal, name))
    process.communicate(timeout=60)
    wait_until_gone(*(int(file.read_text()) for file in files))


def test_status_and_output_are_those_of_the_command(tmp_path):
    printed, _ = start(tmp_path, "echo to the log; exit 3").communicate(timeout=60)
    assert printed == "3\n"
    assert (tmp_path / "log").read_text() == "to the log\n"
