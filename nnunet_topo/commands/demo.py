"""The whole job on a small data set that is made here: nnU-Net's commands, then ours.

Volumes of 32 x 40 x 48 voxels hold a thin ring, a hollow shell and a thin tube, each faint along a
small part, with bright specks and noise around: networks of little training leave gaps, pierce the
shell and see islands.
"""

import json
import os
import platform
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nnunet_topo.commands.nnunet_commands import call, continued, last_lines
from nnunet_topo.topology import betti_numbers

DATASET = "Dataset900_TopologyDemo"
PLANS = "nnUNetPlansDemo"
SHAPE = (32, 40, 48)
LABELS = {"background": 0, "ring": 1, "shell": 2, "tube": 3}
BETTI = {1: (1, 1, 0), 2: (1, 0, 1), 3: (1, 0, 0)}
FEATURES = [8, 16, 32, 64]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is made and trained.

    Attributes:
        training: number of training cases, a fifth of them for validation.
        test: number of test cases.
        epochs: of the training from nothing.
        finetune_epochs: of the training from the finished model.
        iterations: of each epoch.
    """

    training: int
    test: int
    epochs: int
    finetune_epochs: int
    iterations: int


FULL = Size(training=20, test=24, epochs=8, finetune_epochs=4, iterations=50)
QUICK = Size(training=10, test=3, epochs=2, finetune_epochs=1, iterations=10)


@dataclass(frozen=True, slots=True)
class Step:
    """A command of the user's.

    Attributes:
        name: for the reader.
        command: with its arguments.
        fold: where a training leaves its checkpoints, None for others.
    """

    name: str
    command: tuple[str, ...]
    fold: Path | None = None


def make_case(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Returns an image and its labels, `[z, y, x]`; each label has its Betti numbers for certain.

    Args:
        seed: of the random numbers; the same seed gives the same case.
    """
    rng = np.random.default_rng(seed)
    while True:
        image, labels = _draw(rng)
        if all(betti_numbers(labels == label) == betti for label, betti in BETTI.items()):
            return image, labels


def _draw(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    grid = np.moveaxis(np.indices(SHAPE), 0, -1).astype(float)
    labels = np.zeros(SHAPE, np.uint8)
    contrast = np.zeros(SHAPE)
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)

    normal = rng.normal(size=3) * (1, 0.4, 0.4)
    across = np.linalg.svd(normal[None] / np.linalg.norm(normal))[2][1:]
    radius = rng.uniform(7.5, 9)
    turns = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ring = rng.uniform((12, 12, 12), (19, 15, 15)) + radius * turns @ across
    _add(labels, contrast, grid, 1, ring, 1.4, _faint(rng, len(ring), 0.07))

    centre = rng.uniform((9, 27, 30), (22, 30, 38))
    outer = rng.uniform(6, 7)
    distance = np.linalg.norm(grid - centre, axis=-1)
    in_wall = (distance <= outer) & (distance > outer - 2.2) & (labels == 0)
    weak = rng.normal(size=3)
    towards = (grid - centre) @ (weak / np.linalg.norm(weak)) / np.maximum(distance, 1e-9)
    labels[in_wall] = 2
    contrast[in_wall] = np.where(towards > 0.93, 0.35, 1.0)[in_wall]

    along = np.linspace(0, 1, 200)[:, None]
    begin, end = rng.uniform((5, 4, 28), (12, 8, 32)), rng.uniform((20, 14, 40), (27, 18, 44))
    bend = 4 * np.sin(np.pi * along) * rng.normal(size=3) * (1, 0.5, 0.5)
    tube = begin + along * (end - begin) + bend
    _add(labels, contrast, grid, 3, tube, 1.5, 2 * _faint(rng, len(tube), 0.12))  # unlike the ring

    image = contrast + rng.normal(0, 0.22, SHAPE)
    for speck in rng.uniform((2, 2, 2), np.array(SHAPE) - 2, (6, 3)):
        image += 0.8 * np.exp(-((grid - speck) ** 2).sum(-1) / 2)
    return gaussian_filter(image, 0.5).astype(np.float32), labels


def _faint(rng: np.random.Generator, points: int, part: float) -> NDArray[np.float64]:
    """Returns the contrast along a curve: low along one part of it."""
    contrast = np.ones(points)
    length = int(part * points)
    start = rng.integers(points // 5, 4 * points // 5 - length)
    contrast[start : start + length] = 0.3
    return contrast


def _add(labels, contrast, grid, label, curve, radius, along) -> None:
    """Draws a tube around a curve, where nothing else is."""
    squares = ((grid[..., None, :] - curve) ** 2).sum(-1)
    nearest = squares.argmin(-1)
    inside = (squares.min(-1) <= radius**2) & (labels == 0)
    labels[inside] = label
    contrast[inside] = along[nearest[inside]]


def make_dataset(raw: Path, size: Size) -> None:
    """Writes a data set in nnU-Net's raw layout, test cases with their labels beside it."""
    import SimpleITK as sitk

    folder = raw / DATASET
    for part, number, first in (("Tr", size.training, 0), ("Ts", size.test, 1000)):
        for kind in ("images", "labels"):
            (folder / f"{kind}{part}").mkdir(parents=True, exist_ok=True)
        for case in range(number):
            image, labels = make_case(first + case)
            name = f"demo_{first + case:04d}"
            image_file = folder / f"images{part}" / f"{name}_0000.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(image), image_file)
            label_file = folder / f"labels{part}" / f"{name}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(labels), label_file)
    description = {
        "channel_names": {"0": "synthetic"},
        "labels": LABELS,
        "numTraining": size.training,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2))


def shrink_plans(preprocessed: Path) -> None:
    """Writes nnU-Net's own plan once more, with a network that a CPU trains in a minute."""
    folder = preprocessed / DATASET
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["plans_name"] = PLANS
    configuration = plans["configurations"]["3d_fullres"]
    configuration["batch_size"] = 2
    settings = configuration["architecture"]["arch_kwargs"]
    before, after = settings["n_stages"], min(len(FEATURES), settings["n_stages"])
    for key, value in settings.items():
        if isinstance(value, list):  # for each stage, or for each of the decoder
            settings[key] = value[: len(value) - before + after]
    settings |= {"n_stages": after, "features_per_stage": FEATURES[:after]}
    (folder / f"{PLANS}.json").write_text(json.dumps(plans, indent=2))


def steps(folder: Path, size: Size, device: str) -> list[Step]:
    """Returns nnU-Net's commands and ours, in their order."""
    raw, results = folder / "nnUNet_raw" / DATASET, folder / "nnUNet_results" / DATASET
    iterations = f"{size.iterations}iters"
    long, short = (f"{n}epochs_{iterations}" for n in (size.epochs, size.finetune_epochs))
    # Thin rings do not survive rotation, so topology trainers leave it out: here all do. In so few
    # iterations nnU-Net's SGD may miss thin classes, and a term of printed weight is not seen.
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
    # The first is the control: what was trained as long, without a term.
    names = ["stock_finetuned", *(name for name in predicted if name != "stock_finetuned")]
    compare = (
        *("nnunet-topo", "compare", "--gt", str(raw / "labelsTs"), "--pred"),
        *(f"{name}={predicted[name]}" for name in names),
        *("-djfile", str(raw / "dataset.json"), "-pfile", str(plans)),
        *("--images", str(raw / "imagesTs"), "-o", str(folder / "report")),
    )
    return [*todo, Step("evaluate and compare", compare)]


def run(folder: Path, size: Size, device: str | None) -> int:
    """Makes the data and runs all steps that are not done yet; returns an exit status.

    Nothing is written outside of the folder. An interrupted step is gone on with by the next run.

    Args:
        folder: new, empty, or that of an earlier run of the same size.
        size: how much to make and train.
        device: cpu, cuda or mps; None for the best there is.
    """
    folder = folder.resolve()
    record = folder / "demo.json"
    if record.is_file():
        state = json.loads(record.read_text())
        if state["size"] != asdict(size):
            raise ValueError(f"{folder} holds a demo of another size; -o names another folder")
    elif folder.exists() and any(not file.name.startswith(".") for file in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no demo; -o names another folder")
    else:
        (folder / "logs").mkdir(parents=True)
        state = {"size": asdict(size), "done": []}
    device = device or _best_device()
    todo = steps(folder, size, device)
    print(f"{len(todo) + 1} steps in {folder}, on {device}", flush=True)

    def finish(name: str) -> None:
        state["done"].append(name)
        record.write_text(json.dumps(state, indent=2))

    began = time.monotonic()
    if "make data" not in state["done"]:
        make_dataset(folder / "nnUNet_raw", size)
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
            print(f"{step.name} failed with status {status}; all of it: {log}", file=sys.stderr)
            return 1
        if number == 2:
            shrink_plans(folder / "nnUNet_preprocessed")
        finish(step.name)
        print(f"    {time.monotonic() - since:.0f} s", flush=True)
    print()
    print(log_of_comparison(folder, len(todo) + 1))
    print(
        f"{size.test} test cases, networks of minutes: this shows that and how everything works, "
        "not how much a topology term gains on your data."
    )
    print(f"{(time.monotonic() - began) / 60:.1f} minutes. Open {folder / 'report/report.html'}")
    return 0


def log_of_comparison(folder: Path, number: int) -> str:
    """Returns what the comparison printed."""
    return (folder / "logs" / f"{number:02d}_evaluate_and_compare.log").read_text()


def _call(step: Step, folder: Path, log: Path) -> int:
    """Runs a step with nnU-Net's folders inside the demo's."""
    inside = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "MPLCONFIGDIR")
    few = dict.fromkeys(("nnUNet_def_n_proc", "nnUNet_n_proc_DA", "nnUNet_npp", "nnUNet_nps"), "1")
    environment = os.environ | {name: str(folder / name) for name in inside} | few
    environment["NUMBA_CACHE_DIR"] = str(folder / "machine_code")
    # On a CPU under Linux a third of the time would go into memory that is given back and fetched.
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
