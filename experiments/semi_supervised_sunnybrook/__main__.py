"""Runs the settings that are not recorded yet, and prints the tables."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from experiments.semi_supervised_sunnybrook import crf, ring
from experiments.semi_supervised_sunnybrook.measures import measure, repaired_arms
from experiments.semi_supervised_sunnybrook.slices import Slices, read_crops, split
from experiments.semi_supervised_sunnybrook.tables import table, tests
from experiments.semi_supervised_sunnybrook.training import (
    UNet,
    predict,
    probabilities,
    train_arm,
)
from experiments.shared import add_data_option
from nnunet_topo.files import write_whole

HERE = Path(__file__).parent
DATASET = "Dataset102_SunnybrookLV"
SUPERVISED, AFTER = 250, 150  # iterations of both phases


@dataclass(frozen=True, slots=True)
class Structure:
    """What is segmented.

    Attributes:
        betti: its Betti numbers, which are the prior.
        pairs: numbers of labelled slices and of removed lines, the most telling first.
        group: what results are kept by.
        record: file that keeps them.
    """

    betti: tuple[int, int]
    pairs: tuple[tuple[int, int], ...]
    group: str
    record: Path


CAVITY = Structure(
    (1, 0),
    ((20, 20), (20, 60), (10, 20), (10, 60), (40, 20), (40, 60)),
    "patient",
    HERE / "results.json",
)
RING = Structure(
    ring.BETTI, ((10, 20), (10, 60), (16, 20), (16, 60)), "slice", HERE / "results_ring.json"
)


def run_setting(data: dict[str, Slices], betti: tuple[int, int], seed: int) -> dict:
    """Returns what all arms reach in a setting."""
    began = time.perf_counter()
    test = data["test"]
    torch.manual_seed(seed)
    begun = train_arm("supervised", UNet(), data, betti, seed, SUPERVISED)
    predicted = {"begun": predict(begun, test)}
    seconds, potentials = {}, None
    for arm in ("supervised", "self", "prior"):
        arm_began = time.perf_counter()
        network = train_arm(arm, begun, data, betti, seed + 1, AFTER)
        predicted[arm] = predict(network, test)
        seconds[arm] = round(time.perf_counter() - arm_began, 1)
        if arm == "supervised" and crf.is_installed():
            validation = data["validate"]
            potentials = crf.best_potentials(probabilities(network, validation), validation)
            predicted["crf"] = crf.all_smoothed(probabilities(network, test), test, potentials)
    predicted |= repaired_arms(predicted["supervised"], predicted["prior"])
    arms = {arm: measure(masks, test, betti) for arm, masks in predicted.items()}
    sizes = {name: len(part.groups) for name, part in data.items()}
    seconds["all"] = round(time.perf_counter() - began, 1)
    result = {"arms": arms, "slices": sizes, "seconds": seconds}
    return result if potentials is None else result | {"crf": crf.recorded(potentials)}


def reader(data: Path, contours: Path | None) -> Callable[[int, int, int], dict[str, Slices]]:
    """Returns a function that splits the data for a seed, labelled slices and removed lines."""
    if contours is None:
        crops = read_crops(data / DATASET)
        return lambda seed, labelled, removed: split(crops, seed, labelled, removed)
    rings = ring.read_rings(data / DATASET, contours)
    return lambda seed, labelled, removed: ring.split_rings(rings, seed, labelled, removed)


def main() -> None:
    """Runs the settings that are not recorded yet, then prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    parser.add_argument("--seeds", type=int, help="default 3; of the ring 4, one for each fold")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin nothing after so many")
    parser.add_argument("--record", type=Path, help="file that keeps the results")
    parser.add_argument("--table", action="store_true", help="print what is recorded, run nothing")
    parser.add_argument("--ring", action="store_true", help="the myocardium instead of the cavity")
    parser.add_argument("--contours", type=Path, help="Sunnybrook's outer contours, for --ring")
    chosen = parser.parse_args()
    if chosen.ring and not chosen.table and chosen.contours is None:
        parser.error("--ring needs --contours, the folder of the outer contours")
    structure = RING if chosen.ring else CAVITY
    file = chosen.record or structure.record
    record = json.loads(file.read_text()) if file.is_file() else {}
    seeds = chosen.seeds or (ring.FOLDS if chosen.ring else 3)
    began = time.monotonic()
    settings = [(s, n, m) for n, m in structure.pairs for s in range(seeds)]
    split_of = None
    for seed, labelled, removed in [] if chosen.table else settings:
        key = f"seed {seed}, labelled {labelled}, removed {removed}"
        if key in record or time.monotonic() - began > 60 * chosen.minutes:
            continue
        if split_of is None:
            torch.set_num_threads(1)
            split_of = reader(chosen.data, chosen.contours if chosen.ring else None)
        record[key] = run_setting(split_of(seed, labelled, removed), structure.betti, seed)
        text = json.dumps(record, separators=(",", ":"))
        write_whole(file, text)
        print(f"{key}: {record[key]['seconds']['all']} s", flush=True)
    print(table(record))
    print(tests(record, structure.group))


if __name__ == "__main__":
    main()
