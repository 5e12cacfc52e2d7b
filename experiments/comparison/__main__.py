"""Carries out the runs of a stage that have no record yet, or prints the tables.

Usage: python -m experiments.comparison STAGE | tables [--smoke] [--again-failed]

Interrupted at any time, the same command resumes.
"""

import argparse
import json
import os
from pathlib import Path

from experiments.comparison.arms import ARMS, STAGES, Run
from experiments.comparison.data_sets import DATA_SETS
from experiments.shared import add_data_option

# Without workers the seed is exact. Two runs of the command can share the data sets on two cores.
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "nnUNet_n_proc_DA": "0",
    **dict.fromkeys(("nnUNet_def_n_proc", "nnUNet_npp", "nnUNet_nps"), "1"),
}
RESULTS = Path(__file__).parent / "results"


def record_file(results: Path, run: Run) -> Path:
    """Returns the file of a run's record."""
    return results / ("_".join((run.data_set, run.arm, str(run.seed))).replace(" ", "-") + ".json")


def main() -> None:
    """Parses the command line, and runs what is missing or prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=[*STAGES, "tables"])
    add_data_option(parser)
    parser.add_argument(
        "--work", type=Path, default=Path("comparison-work"), help="folder for nnU-Net's files"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, help="only these")
    parser.add_argument("--arms", nargs="+", choices=ARMS, metavar="ARM", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, help="only these")
    parser.add_argument("--again-failed", action="store_true", help="carry out failed runs again")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="four iterations on four cases: tries the way, and its figures say nothing",
    )
    asked = parser.parse_args()
    work = (asked.work / "smoke" if asked.smoke else asked.work).resolve()
    results = work / "records" if asked.smoke else asked.results
    results.mkdir(parents=True, exist_ok=True)
    if asked.stage != "tables":
        _carry_out(asked, work, results)
    from experiments.comparison.tables import tables

    print(tables(results))


def _carry_out(asked: argparse.Namespace, work: Path, results: Path) -> None:
    for name in ("raw", "preprocessed", "results"):
        (work / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ |= ONE_CORE
    from experiments.comparison.training import InUseError, carry_out
    from nnunet_topo.files import write_whole

    for run in STAGES[asked.stage]:
        chosen = (
            asked.data_sets is None or run.data_set in asked.data_sets,
            asked.arms is None or run.arm in asked.arms,
            asked.seeds is None or run.seed in asked.seeds,
        )
        if not all(chosen):
            continue
        file = record_file(results, run)
        if file.is_file() and not (asked.again_failed and "failed" in json.loads(file.read_text())):
            continue
        try:
            record = carry_out(run, asked.data.resolve(), work, asked.smoke)
        except InUseError as error:
            told = f"left out, {error}"
        else:
            write_whole(file, json.dumps(record, separators=(",", ":")) + "\n")
            told = record.get("failed") or f"{sum(record['seconds'])} s"
        print(f"{run.data_set}, {run.arm}, seed {run.seed}: {told}", flush=True)


if __name__ == "__main__":
    main()
