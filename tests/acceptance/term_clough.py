"""Clough's experiments: the figures from their records, and a short part that is run again.

Usage, in the checkout: python -m tests.acceptance.term_clough [--contours CONTOURS] FOLDER

Prints the tables of docs/evidence.md. Then it trains the networks of experiment 1 anew, restores
and refines the first ten digits for each number of lines (about a minute on an idle core), and with
CONTOURS runs one setting of the ring: all that is run again must equal its record, the machine's
floating-point library being the same. FOLDER keeps what was run; the data is that of the
experiments.
"""

import argparse
import json
import time
from pathlib import Path
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
MNIST = ROOT / "experiments/clough_mnist/results.json"


def first(columns: Any, count: int) -> Any:
    """Returns the columns of a record with so many entries; they may be nested."""
    if isinstance(columns, dict):
        return {key: first(column, count) for key, column in columns.items()}
    return columns[:count]


def digits_again(data: Path, folder: Path, recorded: dict[str, Any]) -> None:
    """Refines the first digits again, and compares."""
    began = time.monotonic()
    experiment = Experiment(data, folder)
    experiment.run(AGAIN)
    again = experiment.results
    for key in ("settings", "clean", "learning_rate_trials"):
        assert again[key] == recorded[key], key
    compared = 0
    for lines, columns in recorded["lines"].items():
        for key in columns.keys() - {"seconds"}:
            was, now = (first(record[key], AGAIN) for record in (columns, again["lines"][lines]))
            assert was == now, f"m = {lines}, {key}: {was} in the record, {now} now"
            compared += 1
    print(
        f"experiment 1: the first {AGAIN} digits for each of {len(recorded['lines'])} m, "
        f"{compared} columns, equal the record ({time.monotonic() - began:.0f} s)"
    )


def ring_again(data: Path, contours: Path, recorded: dict[str, Any]) -> None:
    """Runs the first setting of the ring again, and compares."""
    torch.set_num_threads(1)
    labelled, removed = RING.pairs[0]
    key = f"seed 0, labelled {labelled}, removed {removed}"
    again = run_setting(reader(data, contours)(0, labelled, removed), RING.betti, 0)
    arms = recorded[key]["arms"].keys() - (set() if crf.is_installed() else {"crf"})
    for arm in sorted(arms):
        assert again["arms"][arm] == recorded[key]["arms"][arm], arm
    print(f"experiment 2, ring, {key}: {len(arms)} arms equal the record")


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
