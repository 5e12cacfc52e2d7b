"""Starts two folds of a training at the same moment on a slow disk, again and again.

Usage: python -m tests.faults.two_starts ROUNDS PLANS

In each round the data set has neither topology.json nor splits_final.json, and in every tenth round
there is no machine code. Prints a line of JSON for each round: what each fold has read and trained.
"""

import json
import os
import shutil
import sys
from hashlib import md5
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args

from .slow_disk import slow_down

TRAINER = "nnUNetTrainerBettiPrior_1epochs_1iters_from0_seed1"
DATASET = "Dataset901_TinyRings"
MADE = ("topology.json", "splits_final.json")
COMPILED_EVERY = 10  # rounds


def train(fold: int, plans: str) -> dict:
    """Trains a fold for one step, and returns what it was made of."""
    trainer = get_trainer_from_args("901", "2d", fold, TRAINER, plans, device=torch.device("cpu"))
    trainer.run_training()
    files = {name: (folder() / name).read_bytes() for name in MADE}
    network = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
    return {
        **{name: md5(content).hexdigest() for name, content in files.items()},
        "prior": network["nnunet_topo"]["prior"],
        "loss": float(network["logging"]["train_losses"][0]),
        "cases": [sorted(part) for part in trainer.do_split()],
    }


def folder() -> Path:
    return Path(os.environ["nnUNet_preprocessed"]) / DATASET  # noqa: SIM112 # nnU-Net's spelling


def start_both(plans: str) -> list:
    """Returns what two processes have done that began at the same moment; a text is an error."""
    waits, begins = os.pipe()
    results = []
    for fold in (0, 1):
        reads, writes = os.pipe()
        if os.fork() == 0:
            os.close(begins)
            log = os.open(os.devnull, os.O_WRONLY)
            os.dup2(log, 1)
            slow_down()
            os.read(waits, 1)  # until the parent closes it
            try:
                done = train(fold, plans)
            except BaseException as error:
                done = f"{type(error).__name__}: {error}"
            os.write(writes, json.dumps(done).encode())
            os._exit(0)
        os.close(writes)
        results.append(reads)
    os.close(waits)
    os.close(begins)
    read = []
    for result in results:
        with os.fdopen(result) as file:
            read.append(file.read())
        os.wait()
    return [json.loads(text) if text else "it has died" for text in read]


def main(rounds: int, plans: str) -> None:
    torch.set_num_threads(1)
    code = Path(os.environ["NUMBA_CACHE_DIR"])
    for number in range(rounds):
        for name in MADE:
            (folder() / name).unlink(missing_ok=True)
        shutil.rmtree(os.environ["nnUNet_results"], ignore_errors=True)  # noqa: SIM112
        if number % COMPILED_EVERY == 0:
            shutil.rmtree(code, ignore_errors=True)
        done = start_both(plans)
        left = [file.name for file in folder().iterdir() if file.name.startswith(".")]
        print(json.dumps({"folds": done, "left": left}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
