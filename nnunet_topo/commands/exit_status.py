"""The exit status of a command, and how its problems are printed."""

import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import nnunet_topo

RESUMES = "run the same command again to resume"


def report_problems(problems: Sequence[str], *, nothing_done: bool) -> int:
    """Prints what went wrong; returns 0 without problems, 2 if nothing was done, otherwise 1."""
    if not problems:
        return 0
    from nnunet_topo.report.words import count, printable

    lines = [printable(problem) for problem in problems]
    print(f"{count(len(lines), 'problem')}:", *lines, sep="\n  ", file=sys.stderr)
    return 2 if nothing_done else 1


def exit_status(name: str, call: Callable[[], int], *, interrupted: str = RESUMES) -> int:
    """Returns the exit status of a command; errors are printed in one line.

    SIGTERM, which a scheduler sends before it kills, ends a command as Ctrl-C does. The traceback
    of an error that nobody expected goes to a file.

    Args:
        name: of the command.
        call: runs it and returns its status.
        interrupted: what to tell the user after Ctrl-C.
    """
    try:
        with _interrupted_by_sigterm():
            return call()
    except (OSError, ValueError, NotImplementedError) as error:
        _print_error(name, str(error))
        return 2
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, _Terminated)
        how = "terminated" if terminated else "interrupted"
        print(f"\n{how}; {interrupted}", file=sys.stderr)
        return 128 + (signal.SIGTERM if terminated else signal.SIGINT)
    except Exception as error:
        kind = type(error).__name__
        _print_error(name, f"unexpected {kind}: {error}. {_keep_traceback(name)}")
        return 2


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Raises where SIGTERM interrupts the main thread, if nobody else handles it."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    def interrupt(*_: object) -> None:
        raise _Terminated

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _print_error(name: str, told: str) -> None:
    from nnunet_topo.report.words import printable

    print(f"nnunet-topo {name}: {printable(' '.join(told.split()))}", file=sys.stderr)


def _keep_traceback(name: str) -> str:
    """Writes the traceback of the current error into a new file, and returns where it is."""
    text = traceback.format_exc()
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix=f"nnunet-topo-{name}-",
            suffix=".txt",
            delete=False,
            encoding="utf-8",
            errors="backslashreplace",
        ) as file:
            file.write(f"nnunet-topo {nnunet_topo.__version__}: {sys.argv}\n\n{text}")
    except OSError:
        print(text, file=sys.stderr)
        return "The traceback is above"
    return f"This is an error of nnunet-topo; its traceback is in {file.name}"
