"""Runs the settings that are not recorded yet, and prints the tables."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.semi_supervised_sunnybrook.measures import closed, largest_component, measure
from experiments.semi_supervised_sunnybrook.slices import read_crops, split
from experiments.semi_supervised_sunnybrook.tables import table, tests
from experiments.semi_supervised_sunnybrook.training import UNet, predict, train_arm
from experiments.shared import add_data_option
from nnunet_topo.files import write_whole

RECORD = Path(__file__).parent / "results.json"
SUPERVISED, AFTER = 250, 150  # iterations of both phases


def run_setting(
    crops: tuple[NDArray, NDArray, NDArray], seed: int, labelled: int, removed: int
) -> dict:
    """Returns the scores of all arms in a setting."""
    began = time.perf_counter()
    data = split(crops, seed, labelled, removed)
    torch.manual_seed(seed)
    begun = train_arm("supervised", UNet(), data, seed, SUPERVISED)
    arms, seconds = {"begun": measure(predict(begun, data["test"]), data["test"])}, {}
    for arm in ("supervised", "self", "prior"):
        arm_began = time.perf_counter()
        predicted = predict(train_arm(arm, begun, data, seed + 1, AFTER), data["test"])
        seconds[arm] = round(time.perf_counter() - arm_began, 1)
        arms[arm] = measure(predicted, data["test"])
        if arm == "supervised":
            for name, repair in (("component", largest_component), ("closing", closed)):
                arms[name] = measure(np.stack([repair(mask) for mask in predicted]), data["test"])
    sizes = {name: len(part.patients) for name, part in data.items()}
    seconds["all"] = round(time.perf_counter() - began, 1)
    return {"arms": arms, "slices": sizes, "seconds": seconds}


def main() -> None:
    """Runs the settings that are not recorded yet, then prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--minutes", type=float, default=np.inf, help="start no new setting after this time"
    )
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--table", action="store_true", help="only print the recorded results")
    chosen = parser.parse_args()
    record = json.loads(chosen.record.read_text()) if chosen.record.is_file() else {}
    began = time.monotonic()
    pairs = [
        (20, 20),
        (20, 60),
        (10, 20),
        (10, 60),
        (40, 20),
        (40, 60),
    ]  # the most informative first
    settings = [(s, n, m) for n, m in pairs for s in range(chosen.seeds)]
    crops = None
    for seed, labelled, removed in [] if chosen.table else settings:
        key = f"seed {seed}, labelled {labelled}, removed {removed}"
        if key in record or time.monotonic() - began > 60 * chosen.minutes:
            continue
        if crops is None:
            torch.set_num_threads(1)
            crops = read_crops(chosen.data / "Dataset102_SunnybrookLV")
        record[key] = run_setting(crops, seed, labelled, removed)
        text = json.dumps(record, separators=(",", ":"))
        write_whole(chosen.record, text)
        print(f"{key}: {record[key]['seconds']['all']} s", flush=True)
    print(table(record))
    print(tests(record))


if __name__ == "__main__":
    main()
