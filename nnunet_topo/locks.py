"""A lock on a folder, so that two runs do not write into it at once."""

import atexit
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = ".nnunet-topo.lock"
_held: dict[tuple[int, Path], IO[str]] = {}  # by process: a forked one holds nothing


def hold(folder: Path, doing: str, name: str = NAME) -> None:
    """Takes a folder for this process until `release`, or until the process ends, however it ends.

    The lock is one of the operating system's, which workers do not inherit: it never outlives its
    process. On Windows, and in file systems without locks, nothing is locked.

    Args:
        folder: made if there is none.
        doing: what this process does with it, for the message in others.
        name: of the lock, where a folder has several.

    Raises:
        ValueError: another process holds it; the message says which.
        OSError: the folder cannot be written.
    """
    lock = folder.resolve() / name
    place = os.getpid(), lock
    if fcntl is None or place in _held:
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    if lock.is_symlink():  # its target would be written to
        lock.unlink()
    file = lock.open("a+", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        owner = file.read(500).strip()
        file.close()
        raise ValueError(
            f"{folder} is in use: {owner or 'another process'}. Wait until it ends, or stop it"
        ) from None
    except OSError:  # a file system without locks
        file.close()
        return
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
            _held[place] = file
    if place not in _held:  # its last owner has removed the file in the meantime
        file.close()
        hold(folder, doing, name)
        return
    with suppress(OSError):  # a full disk
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, {doing}")
        file.flush()


@atexit.register
def _release_all() -> None:
    for _, lock in list(_held):
        release(lock.parent, lock.name)


def release(folder: Path, name: str = NAME) -> None:
    """Lets others take a folder that this process holds."""
    file = _held.pop((os.getpid(), folder.resolve() / name), None)
    if file is not None:
        Path(file.name).unlink(missing_ok=True)  # first: whoever opens it later makes a new one
        file.close()
