"""nnU-Net's commands in processes of their own, which end with this one."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from nnunet_topo.commands import watched
from nnunet_topo.commands.exit_status import interrupted_by_signals
from nnunet_topo.locks import NAME, hold, release

_LOCK = ".nnunet-topo.run.lock"


def hold_fold(folder: Path) -> None:
    """Takes a fold for the trainings of this process, whatever their trainer.

    The trainers of this package have a lock of their own. nnU-Net's have none.

    Raises:
        ValueError: another `nnunet-topo run` or a job of one trains it.
        OSError: the folder cannot be written.
    """
    hold(folder, "nnunet-topo run", _LOCK)


def release_fold(folder: Path) -> None:
    """Lets others train a fold that this process holds."""
    release(folder, _LOCK)


def remove_dead_locks(folder: Path) -> None:
    """Removes the locks that killed processes have left in a fold; those of others stay."""
    for name in (NAME, _LOCK):
        if (folder / name).exists():
            with contextlib.suppress(ValueError, OSError):
                hold(folder, "nnunet-topo run", name)
                release(folder, name)


def continued(command: tuple[str, ...], fold: Path) -> tuple[str, ...]:
    """Returns the command of a training with the option that lets nnU-Net resume it.

    Args:
        command: nnUNetv2_train and its arguments.
        fold: folder of the training's checkpoints.
    """
    if (fold / "checkpoint_final.pth").is_file():
        return (*command, "--val")
    begun = any((fold / f"checkpoint_{kind}.pth").is_file() for kind in ("latest", "best"))
    return (*command, "--c") if begun else command


def call(command: tuple[str, ...], log: Path, environment: Mapping[str, str]) -> int:
    """Runs a command as `begin` does, and returns its exit status.

    Raises:
        ValueError: there is no such command.
        KeyboardInterrupt: Ctrl-C, a closed terminal or a cancelled job.
    """
    process = begin(command, log, environment)
    try:
        with interrupted_by_signals():
            return process.wait()
    except BaseException:
        end(process)
        raise


def begin(
    command: tuple[str, ...], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Starts a command of this Python's environment.

    The end of this process, even by a kill, also ends the command and its workers.

    Args:
        command: with its arguments.
        log: what it prints is appended to this file.
        environment: all its variables.

    Raises:
        ValueError: there is no such command.
    """
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    executable = shutil.which(command[0], path=places)
    if executable is None:
        raise ValueError(f"{command[0]} is not found beside {sys.executable}: is it installed?")
    with log.open("a") as output:
        return subprocess.Popen(
            [sys.executable, watched.__file__, str(os.getpid()), executable, *command[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a command and its workers."""
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()  # Windows
    process.wait()


def last_lines(log: Path, number: int = 15) -> str:
    """Returns the end of what a command printed."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-number:])
