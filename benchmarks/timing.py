"""Times several ways to do the same thing, in turn, in one process."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one side of a comparison."""

    side: str
    minimum: float
    median: float
    iqr: float
    runs: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several sides of the same task; the first one is ours."""

    task: str
    timings: list[Timing]

    @property
    def ratios(self) -> dict[str, float]:
        """Returns the minimum time of each other side divided by that of the first."""
        ours, *others = self.timings
        return {other.side: other.minimum / ours.minimum for other in others}

    def row(self) -> str:
        """Returns a line of a Markdown table."""
        cells = [f"{1e3 * t.minimum:.3g} / {1e3 * t.median:.3g}" for t in self.timings]
        ratios = ", ".join(f"{side} {ratio:.3g}x" for side, ratio in self.ratios.items())
        return f"| {self.task} | {' | '.join(cells)} | {ratios} |"

    def record(self) -> dict:
        """Returns the content for a JSON file."""
        return asdict(self) | {"ratios": self.ratios}


def compare(
    task: str,
    sides: Mapping[str, Callable[[], object]],
    runs: Mapping[str, int],
    clock: Callable[[], float] = perf_counter,
) -> Comparison:
    """Runs the sides in turn after an untimed run of each, and returns their timings.

    Args:
        task: what they do.
        sides: name and call; the first is ours.
        runs: how often to time each.
        clock: `process_time` for processor time, which other programs do not lengthen as much.
    """
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for side, call in sides.items():
        if runs[side] > 1:
            call()
    for turn in range(max(runs.values())):
        for side, call in sides.items():
            if turn < runs[side]:
                began = clock()
                call()
                seconds[side].append(clock() - began)
    timings = [
        Timing(
            side,
            float(np.min(times)),
            float(np.median(times)),
            float(np.subtract(*np.quantile(times, [0.75, 0.25]))),
            len(times),
        )
        for side, times in seconds.items()
    ]
    return Comparison(task, timings)


def header(comparison: Comparison) -> str:
    """Returns the head of a Markdown table; each cell holds minimum / median in ms."""
    names = [timing.side for timing in comparison.timings]
    return (
        f"| minimum / median, ms | {' | '.join(names)} | ratios |\n"
        + "|---" * (len(names) + 2)
        + "|"
    )
