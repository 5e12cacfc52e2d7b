"""Printing that does not end a command where the terminal or a pipe cannot take it."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_CLOSED = (errno.EPIPE, errno.EINVAL)  # Windows tells the second


@contextmanager
def printing_anyway() -> Iterator[None]:
    """Lets a command finish its work whoever reads what it prints.

    A character that the encoding does not have is printed as an escape. Where the reader of a pipe
    is gone, as after `| head -1`, the work goes on and the rest is not printed.
    """
    before: tuple[Any, Any] = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    wrapped: Any = [stream and _Lasting(stream) for stream in before]
    sys.stdout, sys.stderr = wrapped
    try:
        yield
    finally:
        for stream in filter(None, wrapped):
            stream.flush()
        sys.stdout, sys.stderr = before


class _Lasting:
    """A stream that goes nowhere once its reader is gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text, and returns its length."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Writes what is still kept."""
        self._attempt(self._stream.flush)

    def _attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
