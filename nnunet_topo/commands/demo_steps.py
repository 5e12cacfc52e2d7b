"""The steps of the demo: nnU-Net's commands on a small data set that is made here, then ours."""

import json
import os
import platform
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_topo.commands.demo_data import DATASET, make_dataset
from nnunet_topo.commands.nnunet_commands import call, continued, last_lines
from nnunet_topo.files import read_json, write_whole
from nnunet_topo.locks import hold, release

PLANS = "nnUNetPlansDemo"
FEATURES = [8, 16, 32, 64]


@dataclass(frozen=True, slots=True)
class Size:
    """The amount of data and training.

    Attributes:
        training: number of training cases, a fifth of them for validation.
        test: number of test cases.
        epochs: of the training from scratch.
        finetune_epochs: of the training from the finished model.
        iterations: of each epoch.
    """

    training: int
    test: int
    epochs: int
    finetune_epochs: int
    iterations: int


FULL = Size(training=20, test=24, epochs=12, finetune_epochs=4, iterations=50)
QUICK = Size(training=10, test=3, epochs=2, finetune_epochs=1, iterations=10)


@dataclass(frozen=True, slots=True)
class Step:
    """A command that a user would type.

    Attributes:
        name: printed for the user.
        command: with its arguments.
        fold: folder of a training's checkpoints, None for other commands.
    """

    name: str
    command: tuple[str, ...]
    fold: Path | None = None


def shrink_plans(preprocessed: Path) -> None:
    """Writes a copy of nnU-Net's plans with a network that a CPU trains in a minute."""
    folder = preprocessed / DATASET
    plans = read_json(folder / "nnUNetPlans.json")
    plans["plans_name"] = PLANS
    configuration = plans["configurations"]["3d_fullres"]
    configuration["batch_size"] = 2
    settings = configuration["architecture"]["arch_kwargs"]
    before, after = settings["n_stages"], min(len(FEATURES), settings["n_stages"])
    for key, value in settings.items():
        if isinstance(value, list):  # for each stage, or for each of the decoder
            settings[key] = value[: len(value) - before + after]
    settings |= {"n_stages": after, "features_per_stage": FEATURES[:after]}
    write_whole(folder / f"{PLANS}.json", json.dumps(plans, indent=2))


def steps(folder: Path, size: Size, device: str) -> list[Step]:
    """Returns nnU-Net's commands and ours, in their order."""
    raw, results = folder / "nnUNet_raw" / DATASET, folder / "nnUNet_results" / DATASET
    iterations = f"{size.iterations}iters"
    long, short = (f"{n}epochs_{iterations}" for n in (size.epochs, size.finetune_epochs))
    # Without rotation and scaling the term takes every sample, which so short a fine-tuning needs.
    # In so few iterations nnU-Net's SGD may miss thin classes.
    trainers = {
        "stock": f"nnUNetTrainerStock_{long}_lr0.003_adam_nospatial",
        "stock_finetuned": f"nnUNetTrainerStock_{short}_finetune_nospatial",
        "Wasserstein_finetuned": f"nnUNetTrainerWasserstein_{short}_weight0.1_finetune_nospatial",
        "TAFL_finetuned": f"nnUNetTrainerTAFL_{short}_finetune_nospatial",
    }
    plan = ("nnUNetv2_plan_and_preprocess", "-d", "900", "-c", "3d_fullres", "-np", "2")
    todo = [Step("plan and preprocess", (*plan, "--verify_dataset_integrity"))]
    predicted = {name: str(folder / "predicted" / trainer) for name, trainer in trainers.items()}
    for name, trainer in trainers.items():
        of_trainer = ("-tr", trainer, "-p", PLANS, "-device", device)
        fold = results / f"{trainer}__{PLANS}__3d_fullres/fold_0"
        train = ("nnUNetv2_train", "900", "3d_fullres", "0", *of_trainer)
        todo.append(Step(f"train {name}", train, fold))
        predict = (
            *("nnUNetv2_predict", "-i", str(raw / "imagesTs"), "-o", predicted[name]),
            *("-d", "900", "-c", "3d_fullres", "-f", "0", *of_trainer, "--continue_prediction"),
        )
        todo.append(Step(f"predict with {name}", predict))
    plans = folder / "nnUNet_preprocessed" / DATASET / f"{PLANS}.json"
    # The first is the control: a training of the same length without a term.
    names = ["stock_finetuned", *(name for name in predicted if name != "stock_finetuned")]
    compare = (
        *("nnunet-topo", "compare", "--gt", str(raw / "labelsTs"), "--pred"),
        *(f"{name}={predicted[name]}" for name in names),
        *("-djfile", str(raw / "dataset.json"), "-pfile", str(plans)),
        *("--images", str(raw / "imagesTs"), "-o", str(folder / "report")),
    )
    return [*todo, Step("evaluate and compare", compare)]


def run_demo(folder: Path, size: Size, device: str | None) -> int:
    """Makes the data and runs all steps that are not done yet; returns an exit status.

    Nothing is written outside of the folder. The next run resumes an interrupted step.

    Args:
        folder: new, empty, or that of an earlier run of the same size.
        size: how much to make and train.
        device: cpu, cuda or mps; None for the fastest one available.
    """
    folder = folder.resolve()
    record = folder / "demo.json"
    state = _read_or_begin(record, size)
    hold(folder, "nnunet-topo demo")
    device = device or _best_device()
    todo = steps(folder, size, device)
    print(f"{len(todo) + 1} steps in {folder}, on {device}", flush=True)

    def finish(name: str) -> None:
        state["done"].append(name)
        write_whole(record, json.dumps(state, indent=2))

    began = time.monotonic()
    if "make data" not in state["done"]:
        make_dataset(folder / "nnUNet_raw", size.training, size.test)
        finish("make data")
    print(
        f"[1/{len(todo) + 1}] {size.training} training and {size.test} test cases made", flush=True
    )
    for number, step in enumerate(todo, start=2):
        label = f"[{number}/{len(todo) + 1}] {step.name}"
        if step.name in state["done"]:
            print(f"{label}: done before", flush=True)
            continue
        print(f"{label}: {shlex.join(step.command[:7])} ...", flush=True)
        log = folder / "logs" / f"{number:02d}_{step.name.replace(' ', '_')}.log"
        since = time.monotonic()
        status = _call(step, folder, log)
        if status != 0:
            print(last_lines(log), file=sys.stderr)
            print(f"{step.name} failed with status {status}; full log: {log}", file=sys.stderr)
            return 1
        if number == 2:
            shrink_plans(folder / "nnUNet_preprocessed")
        finish(step.name)
        print(f"    {time.monotonic() - since:.0f} s", flush=True)
    print()
    print(log_of_comparison(folder, len(todo) + 1))
    print(
        f"{size.test} test cases and networks trained for minutes: this shows how the workflow "
        "works, not how much a topology term gains on your data."
    )
    release(folder)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes. Open {folder / 'report/report.html'}")
    return 0


def _read_or_begin(record: Path, size: Size) -> dict[str, Any]:
    """Returns the size of a demo and the steps that are done; makes its folder if it is new.

    Raises:
        ValueError: the folder contains a demo of another size, or something else.
    """
    folder = record.parent
    if record.is_file():
        state = read_json(record)
        if state.get("size") != asdict(size):
            raise ValueError(f"{folder} holds a demo of another size; -o names another folder")
        if not isinstance(state.get("done"), list):
            raise ValueError(f"{record} was not written by nnunet-topo demo: it lists no steps")
        return state
    if folder.exists() and any(not file.name.startswith(".") for file in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and does not hold a demo; -o names another folder")
    (folder / "logs").mkdir(parents=True)
    state = {"size": asdict(size), "done": []}
    write_whole(record, json.dumps(state, indent=2))  # at once: making the data may be interrupted
    return state


def log_of_comparison(folder: Path, number: int) -> str:
    """Returns what the comparison printed."""
    return (folder / "logs" / f"{number:02d}_evaluate_and_compare.log").read_text()


def _call(step: Step, folder: Path, log: Path) -> int:
    """Runs a step with nnU-Net's folders inside the demo's."""
    inside = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "MPLCONFIGDIR")
    few = dict.fromkeys(("nnUNet_def_n_proc", "nnUNet_n_proc_DA", "nnUNet_npp", "nnUNet_nps"), "1")
    environment = os.environ | {name: str(folder / name) for name in inside} | few
    environment["NUMBA_CACHE_DIR"] = str(folder / "machine_code")
    # On a CPU under Linux, a third of the time would go into returning and fetching memory.
    library, version = platform.libc_ver()
    if library == "glibc" and [int(part) for part in version.split(".")[:2]] >= [2, 35]:
        kept = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**33))
        environment = kept | environment  # older ones take no threshold above 32 MB
    command = step.command if step.fold is None else continued(step.command, step.fold)
    return call(command, log, environment)


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
