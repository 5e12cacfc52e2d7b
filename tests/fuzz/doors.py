"""All doors, and how a door is tried for some time."""

import contextlib
import io
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings

from . import images, label_files, texts
from .door import Door

DOORS = [*texts.DOORS, *label_files.DOORS, *images.DOORS]
HANGS_AFTER = 120  # seconds
EXAMPLES = 200  # of one seed
RELAXED = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@dataclass(slots=True)
class Trial:
    """What came of trying a door: inputs, seconds, and a text for each failure."""

    door: Door
    cases: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)  # place of the error -> what happened


@contextlib.contextmanager
def ended_if_it_hangs() -> Iterator[None]:
    """Raises TimeoutError in what takes too long (not on Windows)."""

    def hangs(*_):
        raise TimeoutError(f"still at work after {HANGS_AFTER} seconds")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(HANGS_AFTER)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def enter(door: Door, value: object) -> None:
    """Passes an input through a door, with an empty folder, quietly."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    silent = contextlib.redirect_stdout(io.StringIO())
    try:
        with ended_if_it_hangs(), silent, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            door.enter(value, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def try_for(door: Door, seconds: float, first_seed: int) -> Trial:
    """Tries a door with new inputs until the time is over; a failure does not end it."""
    trial, began = Trial(door), time.monotonic()
    number = first_seed
    while time.monotonic() < began + seconds:

        @seed(number)
        @settings(RELAXED, max_examples=EXAMPLES)
        @given(door.inputs)
        def attempt(value):
            if time.monotonic() < began + seconds:
                trial.cases += 1
                enter(door, value)

        try:
            attempt()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            for one in getattr(error, "exceptions", [error]):
                where = traceback.extract_tb(one.__traceback__)[-1]
                place = f"{type(one).__name__} in {Path(where.filename).name}:{where.lineno}"
                notes = "\n".join(getattr(one, "__notes__", []))[:2000]
                trial.failures.setdefault(place, f"{str(one)[:300]}\n{notes}")
        number += 1
    trial.seconds = time.monotonic() - began
    return trial
