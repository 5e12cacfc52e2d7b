"""Checks the figures of benchmarks against the requirements of engine.sh: engine.py CHECK JSON."""

import json
import sys
from pathlib import Path


def speed(comparisons: list[dict]) -> None:
    """At 128^3 exact 40x gudhi and 7x cripser, at 512^2 60x gudhi; clamped 350x (b), 800x (c)."""
    for comparison in comparisons:
        size, kind, _, _, clamp = comparison["task"].split()
        wanted = {}
        if size == "128x128x128" and clamp == "0":
            wanted = {"gudhi": 40, "cripser": 7}
        elif size == "512x512" and clamp == "0":
            wanted = {"gudhi": 60}
        elif (size, kind, clamp) == ("128x128x128", "b", "0.01"):
            wanted = {"gudhi": 350}
        elif (size, kind, clamp) == ("128x128x128", "c", "0.001"):
            wanted = {"gudhi": 800}
        for side, least in wanted.items():
            ratio = comparison["ratios"][side]
            verdict(f"{comparison['task']}: {ratio:.1f}x {side}", ratio >= least, f"{least}x")


def memory(peaks: dict[str, float]) -> None:
    """Under 100 MB."""
    for connectivity, peak in peaks.items():
        verdict(f"{connectivity}: {peak:.0f} MB at the peak", 1 < peak < 100, "under 100 MB")


def threads(comparisons: list[dict]) -> None:
    """Two threads at least 1.7 times as fast."""
    ratio = comparisons[0]["ratios"]["1 threads"]
    verdict(f"two threads {ratio:.2f}x", ratio >= 1.7, "1.7x")


def hard(comparisons: list[dict]) -> None:
    """None slower than three times white noise of its size."""
    slowest = min(comparisons, key=lambda c: c["ratios"]["white noise"])
    ratio = 1 / slowest["ratios"]["white noise"]
    verdict(f"slowest: {slowest['task']}, {ratio:.2f} times white noise", ratio <= 3, "at most 3")


def classes(comparisons: list[dict]) -> None:
    """At most 1.3 times as long as the classes that are present."""
    ratio, memory_alone = (1 / comparisons[0]["ratios"][s] for s in ("6 classes", "memory alone"))
    print(
        f"        reading 100 classes and writing zeros alone: {ratio / memory_alone:.2f} times 6"
    )
    verdict(f"100 classes take {ratio:.2f} times as long as 6", ratio <= 1.3, "at most 1.3")


def train_step(comparisons: list[dict]) -> None:
    """TAFL at most 1.05 times as long as Focal; the other times are only printed."""
    for comparison in comparisons:
        ours, control = comparison["timings"]
        ratio = ours["minimum"] / control["minimum"]
        text = f"{ours['side']} {ratio:.3f} times {control['side']}"
        if ours["side"].startswith("nnUNetTrainerTAFL_"):
            verdict(text, ratio <= 1.05, "at most 1.05")
        else:
            print(f"        {text}")


def verdict(text: str, good: bool, wanted: str) -> None:
    """Prints a figure and whether it meets the requirement."""
    global failed
    failed = failed or not good
    print(f"{'good  ' if good else 'MISSED'}  {text} (wanted: {wanted})")


if __name__ == "__main__":
    failed = False
    name, file = sys.argv[1:]
    (figures,) = json.loads(Path(file).read_text())["benchmarks"].values()
    {f.__name__: f for f in (speed, memory, threads, hard, classes, train_step)}[name](figures)
    sys.exit(1 if failed else 0)
