"""How long nnU-Net looks for a trainer of this package, beside an empty one of its own kind.

Usage: python -m tests.acceptance.release_lookup [RUNS]

Each look is the first of a process that has imported nnU-Net's training; the process prints its
processor time. Compiled modules are used, as pip installs them. Fails above the limit.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

LIMIT_S = 0.1
TRAINERS = ("nnUNetTrainerTAFL", "nnUNetTrainerTopology", "nnUNetTrainerTopology_50epochs_seed1")
LOOK = """
import contextlib, io, sys, time
import nnunetv2.run.run_training
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
find("nnUNetTrainer_5epochs")
began = time.process_time()
with contextlib.redirect_stdout(io.StringIO()):
    find(sys.argv[1])
print(time.process_time() - began)
"""
EMPTY = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class nnUNetTrainerEmpty(nnUNetTrainer):
    pass
"""


def main(runs: int) -> int:
    """Prints the median of each; returns 1 if one of ours takes too much more than nnU-Net's."""
    with TemporaryDirectory() as folder:
        Path(folder, "nnUNetTrainerEmpty.py").write_text(EMPTY)
        own = {"nnUNet_extTrainer": folder, "NNUNET_TOPO_NO_AUTOREGISTER": "1"}
        seconds: dict[str, list[float]] = {}
        for _ in range(runs + 1):  # the first one compiles modules
            seconds.setdefault("empty", []).append(look("nnUNetTrainerEmpty", own))
            for name in TRAINERS:
                seconds.setdefault(name, []).append(look(name, {}))
    of = {name: median(times[1:]) for name, times in seconds.items()}
    print(f"an empty trainer beside nnU-Net's own: {of['empty']:.3f} s")
    worst = 0.0
    for name in TRAINERS:
        worst = max(worst, of[name] - of["empty"])
        print(f"{name}: {of[name]:.3f} s, {of[name] - of['empty']:.3f} s more")
    good = worst <= LIMIT_S
    print(f"{'good   ' if good else 'failed '} at most {LIMIT_S} s more (worst {worst:.3f} s)")
    return 0 if good else 1


def look(name: str, variables: dict[str, str]) -> float:
    """Returns the processor time of a look in a fresh process."""
    without = ("PYTHONDONTWRITEBYTECODE", "nnUNet_extTrainer")
    environment = {key: value for key, value in os.environ.items() if key not in without}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, name],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7))
