"""Clough's experiments: the figures from their records, and a short part that is run again.

Usage, in the checkout: python -m tests.acceptance.term_clough [--contours CONTOURS] FOLDER

Prints the tables of docs/evidence.md. Then it trains the networks of experiment 1 again, restores
and refines the first ten digits for each number of lines (about a minute on an idle core), and with
CONTOURS runs one setting of the ring. What is run again must agree with its record: trainings
differ from processor to processor, so of ten digits at most one may be taken for another or have
other Betti numbers, at most four may need another number of steps, and medians may differ by a
fifth.
FOLDER keeps what was run; the data is that of the experiments.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from experiments.clough_mnist.experiment import Experiment
from experiments.clough_mnist.tables import tables
from experiments.semi_supervised_sunnybrook import crf
from experiments.semi_supervised_sunnybrook.__main__ import CAVITY, RING, reader, run_setting
from experiments.semi_supervised_sunnybrook.tables import table, tests
from experiments.shared import add_data_option

ROOT = Path(__file__).parents[2]
AGAIN = 10  # digits
CLOSE = 0.2  # of a float, or of the median of errors
OTHER, OTHER_STEPS = 1, 4  # entries of a column
MNIST = ROOT / "experiments/clough_mnist/results.json"


def first(columns: Any, count: int) -> Any:
    """Returns the columns of a record with so many entries; they may be nested."""
    if isinstance(columns, dict):
        return {key: first(column, count) for key, column in columns.items()}
    return columns[:count]


def deviation(was: Any, now: Any, what: str) -> float:
    """Returns the largest relative deviation of a float, or of the median of mean squared errors.

    Raises:
        AssertionError: it is above `CLOSE`, more than `OTHER` entries of another column differ, or
            what is neither a float nor a column differs.
    """
    if isinstance(was, dict):
        assert was.keys() == now.keys(), f"{what}: {list(was)} in the record, {list(now)} now"
        return max((deviation(was[key], now[key], f"{what}, {key}") for key in was), default=0.0)
    if isinstance(was, list | str):  # of a string, each character is an entry
        assert len(was) == len(now), f"{what}: {len(was)} in the record, {len(now)} now"
        if what.endswith("mse"):  # whole numbers of a small unit
            return deviation(float(median(was)), float(median(now)), f"{what}, median")
        differ = sum(a != b for a, b in zip(was, now, strict=True))
        allowed = OTHER_STEPS if what.endswith("steps") else OTHER
        assert differ <= allowed, f"{what}: {differ} of {len(was)} are not those of the record"
        return 0.0
    apart = abs(was - now) / max(abs(was), 1e-9) if isinstance(was, float) else float(was != now)
    assert apart <= CLOSE, f"{what}: {was} in the record, {now} now"
    return apart


def digits_again(data: Path, folder: Path, recorded: dict[str, Any]) -> None:
    """Refines the first digits again, and compares."""
    began = time.monotonic()
    experiment = Experiment(data, folder)
    experiment.run(AGAIN)
    again, worst = experiment.results, 0.0
    for key in ("settings", "clean", "learning_rate_trials"):
        worst = max(worst, deviation(recorded[key], again[key], key))
    compared = 0
    for lines, columns in recorded["lines"].items():
        for key in columns.keys() - {"seconds"}:
            was, now = (first(record[key], AGAIN) for record in (columns, again["lines"][lines]))
            worst = max(worst, deviation(was, now, f"m = {lines}, {key}"))
            compared += 1
    print(
        f"experiment 1: the first {AGAIN} digits for each of {len(recorded['lines'])} m, "
        f"{compared} columns, agree to {worst:.1%} ({time.monotonic() - began:.0f} s)"
    )


def ring_again(data: Path, contours: Path, recorded: dict[str, Any]) -> None:
    """Runs the first setting of the ring again, and compares."""
    torch.set_num_threads(1)
    labelled, removed = RING.pairs[0]
    key = f"seed 0, labelled {labelled}, removed {removed}"
    again = run_setting(reader(data, contours)(0, labelled, removed), RING.betti, 0)
    arms = recorded[key]["arms"].keys() - (set() if crf.is_installed() else {"crf"})
    worst = 0.0
    for arm in sorted(arms):
        worst = max(worst, deviation(recorded[key]["arms"][arm], again["arms"][arm], arm))
    print(f"experiment 2, ring, {key}: {len(arms)} arms agree with the record to {worst:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    parser.add_argument("--contours", type=Path, help="Sunnybrook's outer contours")
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    mnist = json.loads(MNIST.read_text())
    print(f"Experiment 1, {MNIST.relative_to(ROOT)}\n\n{tables(mnist)}")
    rings = {}
    for structure in (CAVITY, RING):
        record = json.loads(structure.record.read_text())
        print(f"\nExperiment 2, {structure.record.relative_to(ROOT)}: {len(record)} settings\n")
        print(f"{table(record)}\n{tests(record, structure.group)}")
        rings = record
    print("\nWhat is run again")
    digits_again(chosen.data, chosen.folder, mnist)
    if chosen.contours is None:
        print("experiment 2, ring: not run again, --contours names no folder")
    else:
        ring_again(chosen.data, chosen.contours, rings)


if __name__ == "__main__":
    main()
