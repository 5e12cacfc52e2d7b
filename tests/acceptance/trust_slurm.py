"""Trains two trainers on two folds here and as jobs of Slurm, and compares the results.

Usage: python trust_slurm.py FOLDER        in the environment of nnU-Net, with SLURM_CONF set

One job is killed (scancel --signal=KILL) while it trains, and requeued. Prints good or failed.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests import conftest  # noqa: E402 # makes the data set

TRAINERS = (
    "nnUNetTrainerStock_4epochs_4iters_seed1",
    "nnUNetTrainerWasserstein_4epochs_4iters_seed1",
)
RUN = ("run", "-d", "901", "-c", "2d", "-p", "nnUNetPlansTiny", "-tr", *TRAINERS, "-f", "0", "1")
PATIENCE_S = 900


def start(out: Path, results: Path, *more: str) -> subprocess.Popen:
    environment = os.environ | {"nnUNet_results": str(results), "nnUNet_n_proc_DA": "0"}
    command = [sys.executable, "-m", "nnunet_topo.cli", *RUN, "-device", "cpu", "-o", str(out)]
    log = out.with_suffix(".log").open("w")
    return subprocess.Popen([*command, *more], env=environment, stdout=log, stderr=log)


def called(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def kill_one(process: subprocess.Popen, results: Path) -> str:
    """Kills a job that has written a checkpoint, requeues it, and returns its number."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        begun = list(results.rglob("checkpoint_best.pth"))
        jobs = called("squeue", "--noheader", "--states=R", "--format=%i").split()
        if begun and jobs:
            called("scancel", "--signal=KILL", "--full", jobs[0])
            subprocess.run(["scontrol", "requeue", jobs[0]], check=False)  # before it has ended
            return jobs[0]
        time.sleep(0.5)
    return ""


def figures(out: Path) -> dict:
    content = json.loads((out / "compare.json").read_text())
    return {key: content[key] for key in ("cases", "rows", "table") if key in content}


def main(folder: Path) -> int:
    conftest.make_tiny_dataset(
        {key: os.environ[key] for key in ("nnUNet_raw", "nnUNet_preprocessed")}
    )
    here, there = folder / "local", folder / "slurm"
    statuses = {"local": start(here, folder / "results_local").wait()}
    process = start(there, folder / "results_slurm", "--executor", "slurm", "--time", "60")
    killed = kill_one(process, folder / "results_slurm")
    statuses["slurm"] = process.wait()
    if statuses["slurm"] == 1:  # the killed training is told, and the same command resumes it
        again = start(there, folder / "results_slurm", "--executor", "slurm", "--time", "60")
        statuses["slurm, again"] = again.wait()
    print(f"{'good  ' if killed else 'failed'} job {killed or 'none'} was killed while it trained")
    finished = statuses["local"] == 0 and list(statuses.values())[-1] == 0
    print(f"{'good  ' if finished else 'failed'} statuses {statuses}")
    same = finished and figures(here) == figures(there)
    print(f"{'good  ' if same else 'failed'} the comparison equals that of the local run")
    return 0 if killed and same else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
