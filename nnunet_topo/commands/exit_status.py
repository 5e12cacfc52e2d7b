"""The exit status of a command, and how its problems are printed."""

import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

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

    A cancelled job (SIGTERM) and a closed terminal (SIGHUP) end a command as Ctrl-C does. The
    traceback of an error that nobody expected goes to a file.

    Args:
        name: of the command.
        call: runs it and returns its status.
        interrupted: what to tell the user after Ctrl-C.
    """
    try:
        with interrupted_by_signals():
            return call()
    except (OSError, ValueError, NotImplementedError) as error:
        _print_error(name, str(error))
        return 2
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, Signalled) else signal.SIGINT
        how = "interrupted" if number == signal.SIGINT else "terminated"
        with suppress(OSError):  # the terminal may be closed
            print(f"\n{how}; {interrupted}", file=sys.stderr)
        return 128 + number
    except Exception as error:
        kind = type(error).__name__
        _print_error(name, f"unexpected {kind}: {error}. {_keep_traceback(name)}")
        return 2


class Signalled(KeyboardInterrupt):
    """A signal came that ends the process.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Raises `Signalled` in the main thread at SIGTERM and SIGHUP, unless others handle them."""

    def interrupt(number: int, _: object) -> None:
        raise Signalled(number)

    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]  # no HUP on Windows
    is_main = threading.current_thread() is threading.main_thread()
    handled = [n for n in numbers if n and is_main and signal.getsignal(n) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


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
