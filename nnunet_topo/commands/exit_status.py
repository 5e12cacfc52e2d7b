"""The exit status of a command, and how its problems are printed."""

import sys
from collections.abc import Callable, Sequence

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
    """Returns the exit status of a command; expected errors are printed in one line.

    Args:
        name: of the command.
        call: runs it and returns its status.
        interrupted: what to tell the user after Ctrl-C.
    """
    try:
        return call()
    except (OSError, ValueError, NotImplementedError) as error:
        from nnunet_topo.report.words import printable

        print(f"nnunet-topo {name}: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; {interrupted}", file=sys.stderr)
        return 130
