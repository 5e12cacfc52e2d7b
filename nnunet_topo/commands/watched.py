"""Runs a command that ends when the process that wanted it is gone, even if that was killed.

Usage: python watched.py PARENT COMMAND [ARGUMENT ...], in a process group of its own.

Else a training would keep running after its `nnunet-topo run` was killed, and the next run would
train into the same folder.
"""

import os
import signal
import subprocess
import sys

_LOOK_S = 1.0


def main() -> int:
    """Returns the exit status of the command."""
    parent, *command = sys.argv[1:]
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            if os.getppid() == int(parent):
                continue
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)  # with its workers, and this process
        process.kill()  # Windows


if __name__ == "__main__":
    sys.exit(main())
