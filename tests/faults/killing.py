"""Runs a command of ours, which may be killed at a moment."""

import signal
import subprocess
import sys


def run(command: list[str], moment: float | None = None, how: int = 0) -> int:
    """Returns the status of a command, which may be killed at a moment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nnunet_topo.cli", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may ignore it
    )
    try:
        return process.wait(moment)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        return process.wait(60)
