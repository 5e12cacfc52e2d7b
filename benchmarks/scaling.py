"""How time and memory grow with patches, classes, bars, volumes, labels and cases.

Each row is measured in a process of its own, in processor time, which other programs lengthen
least. So a time holds for one thread; `threads` says what several make of it.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.evaluation import evaluate, write_study
from benchmarks.memory import peak_kilobytes

Row = dict[str, Any]
GPU_STEP_MS = 130  # of nnU-Net's default 3D plan on a recent card
EPOCH_LIMIT = 1.10  # of stock's time
THREADS = (1, 2, 4, 8, 16)


def tables(*, quick: bool = False) -> Iterator[tuple[str, list[Row]]]:
    """Yields the name of each table and its rows; `quick` only tries them out."""
    sides = (16, 32) if quick else (64, 96, 128, 192, 256)
    yield "patch", [alone(patch, side, kind) for side in sides for kind in "abc"]
    side = 16 if quick else 96
    yield "classes", [alone(classes, side, count) for count in (1, 3, 6, 30, 100)]
    side = 16 if quick else 64
    yield "bars", [alone(bars, side, share) for share in (0.0, 0.01, 0.1, 1.0)]
    side = 32 if quick else 128
    yield (
        "threads",
        [alone(threads, side, kind, count) for kind in "abc" for count in range(1, 6)],
    )
    factors = (1,) if quick else (1, 2, 3, 4)
    yield (
        "evaluation",
        [alone(volume, side, factor, labels) for factor in factors for labels in (1, 10, 100)],
    )
    yield "cases", [alone(cases, count) for count in ((20,) if quick else (250, 1000))]


def alone(measure: Callable[..., Row], *arguments: Any) -> Row:
    """Returns what a function returns in a process of its own, after printing it."""
    with get_context("spawn").Pool(1) as pool:
        row = pool.apply(measure, arguments)
    print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


# -- training ----------------------------------------------------------------------------------


def patch(side: int, kind: str) -> Row:
    """Measures the term of one channel, forward and backward, by the side of the patch."""
    import torch

    from benchmarks.inputs import KINDS, probabilities, structures
    from nnunet_topo.losses import WassersteinLoss

    shape = (side,) * 3
    compiled(shape)
    probability = torch.from_numpy(probabilities(shape, kind))[None, None].requires_grad_()
    mask = structures(np.random.default_rng(0), shape)
    target = torch.from_numpy(mask.astype(np.float32))[None, None]
    row: Row = {"side": side, "network": KINDS[kind]}
    for name, clamp in (("clamp 0.01", 0.01), ("exact", 0.0)):
        loss = WassersteinLoss(clamp=clamp)

        def step(loss=loss) -> None:
            probability.grad = None
            loss(probability, target).backward()

        if clamp:  # what it frees is used again by the next, which would seem to need nothing
            row |= bytes_per_voxel(step, probability.numel())
        row[f"{name}, ms"] = milliseconds(step, 1 if side > 128 else 3)
    return row


def classes(side: int, count: int) -> Row:
    """Measures the term of a softmax, of whose classes at most six are present."""
    import torch

    from benchmarks.inputs import probabilities
    from nnunet_topo.losses import WassersteinLoss

    shape, present = (side,) * 3, min(6, count)
    compiled(shape)
    few = np.stack([probabilities(shape, "b", seed) for seed in range(present)]) / present
    absent = 1e-6 * np.random.default_rng(0).random((count - present, *shape), np.float32)
    probability = torch.from_numpy(np.concatenate([few, absent])[None]).requires_grad_()
    target = (probability > 0.5 / present).detach()
    loss = WassersteinLoss(clamp=0.01)

    def step() -> None:
        probability.grad = None
        loss(probability, target).backward()

    def gradient_alone() -> None:  # what any loss of so many classes does
        probability.grad = None
        (probability[:, :1] * 0).sum().backward()

    memory = bytes_per_voxel(step, probability.numel())
    return {
        "classes": count,
        "present": present,
        "ms": milliseconds(step, 3),
        "a gradient alone, ms": milliseconds(gradient_alone, 3),
        "bytes per voxel and class": memory["bytes per voxel"],
    }


def bars(side: int, noise: float) -> Row:
    """Measures the engine, and the term without it, on mid-training maps with white noise added."""
    import torch

    from benchmarks.inputs import probabilities, structures
    from nnunet_topo.losses import WassersteinLoss
    from nnunet_topo.topology import persistence_pairs

    shape = (side,) * 3
    compiled(shape)
    rng = np.random.default_rng(0)
    image = (1 - noise) * probabilities(shape, "b") + noise * rng.random(shape)
    image = image.astype(np.float32)
    probability = torch.from_numpy(image)[None, None].requires_grad_()
    mask = structures(rng, shape)
    target = torch.from_numpy(mask.astype(np.float32))[None, None]
    loss = WassersteinLoss()

    def step() -> None:
        probability.grad = None
        loss(probability, target).backward()

    engine = milliseconds(lambda: persistence_pairs(image), 3)
    return {
        "noise": noise,
        "bars": len(persistence_pairs(image).birth),
        "engine, ms": engine,
        "matching and gradient, ms": round(milliseconds(step, 3) - engine, 1),
    }


def threads(side: int, kind: str, count: int) -> Row:
    """Measures each channel of a batch of two, and says what threads make of the sum.

    The threads take the channels in their order, so the time of n threads follows from those of
    the channels; all cores are taken to be as fast together as alone.
    """
    import torch

    from benchmarks.inputs import KINDS, probabilities, structures
    from nnunet_topo.losses import WassersteinLoss

    shape = (side,) * 3
    compiled(shape)
    loss = WassersteinLoss(clamp=0.01)
    each = []
    for seed in range(2 * count):
        probability = torch.from_numpy(probabilities(shape, kind, seed))[None, None]
        probability.requires_grad_()
        mask = structures(np.random.default_rng(seed), shape)
        target = torch.from_numpy(mask.astype(np.float32))[None, None]

        def step(p=probability, t=target) -> None:
            p.grad = None
            loss(p, t).backward()

        each.append(milliseconds(step, 3))
    row: Row = {"network": KINDS[kind], "classes": count}
    for number in THREADS:
        row[f"{number} threads, ms"] = round(finished(each, number))
    for number in (1, 4):
        extra = row[f"{number} threads, ms"] / ((EPOCH_LIMIT - 1) * GPU_STEP_MS)
        row[f"every, {number} threads"] = max(1, int(np.ceil(extra)))
    return row


def finished(jobs: list[float], workers: int) -> float:
    """Returns when the last of the jobs is done, which workers take in their order."""
    free = [0.0] * workers
    for job in jobs:
        first = int(np.argmin(free))
        free[first] += job
    return max(free)


# -- evaluation --------------------------------------------------------------------------------


def volume(side: int, factor: int, labels: int) -> Row:
    """Measures `evaluate` of one case by volume and labels; a small case before it compiles."""
    evaluated(parts((16,) * 3, labels), labels)
    reference = np.kron(parts((side,) * 3, labels), np.ones((factor,) * 3, np.uint8))
    seconds: list[float] = []
    memory = bytes_per_voxel(lambda: seconds.append(evaluated(reference, labels)), reference.size)
    return {
        "side": side * factor,
        "labels": labels,
        "s": round(seconds[0], 1),
        "bytes per voxel": memory["bytes per voxel"],
    }


def evaluated(reference: np.ndarray, labels: int) -> float:
    """Evaluates one case, and returns the processor time."""
    with TemporaryDirectory() as folder:
        study = Path(folder)
        write_study(study, labels, {"case": (reference, disturbed(reference))})
        began = time.process_time()
        evaluate(study)
        return time.process_time() - began


def cases(count: int) -> Row:
    """Measures `evaluate` and `compare` of small cases: what a case costs beside its voxels."""
    rng = np.random.default_rng(0)
    row: Row = {"cases": count}
    with TemporaryDirectory() as folder:
        study, labels = Path(folder), parts((24,) * 3, 2)
        content = {}
        for case in range(count):
            reference = np.roll(labels, tuple(rng.integers(0, 24, 3)), axis=(0, 1, 2))
            content[f"case_{case:05d}"] = reference, disturbed(reference)
        write_study(study, 2, content)
        measure = ["evaluate", "reference", "prediction", "-o", "summary.json", "-np", "1"]
        files = ["-djfile", "dataset.json", "-pfile", "plans.json"]
        row |= measured_command(study, "evaluate", [*measure, *files])
        row["summary.json, KB per case"] = round(
            (study / "summary.json").stat().st_size / 1e3 / count, 2
        )
        models = ["--gt", "reference", "--pred", "a=prediction", "b=reference"]
        compare = ["compare", *models, "-djfile", "dataset.json", "-o", "out", "-np", "1"]
        row |= measured_command(study, "compare", compare)
        row["report, MB"] = round((study / "out" / "report.html").stat().st_size / 1e6, 2)
    return row


def measured_command(folder: Path, name: str, arguments: list[str]) -> Row:
    """Runs a command of the package, and returns its processor time and peak memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "nnunet_topo.cli", *arguments]
    here = str(Path(__file__).parents[1])
    subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": here},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {f"{name}, s": round(used, 1), f"{name}, peak MB": round(after.ru_maxrss / 1024)}


def parts(shape: tuple[int, ...], labels: int) -> np.ndarray:
    """Returns structures, each voxel of which has the label of the nearest of random points."""
    from scipy.spatial import cKDTree

    from benchmarks.inputs import structures

    rng = np.random.default_rng(0)
    mask = structures(rng, shape)
    inside = np.argwhere(mask)
    points = inside[rng.choice(len(inside), labels, replace=False)]
    found = np.zeros(shape, np.uint8)
    found[mask] = 1 + cKDTree(points).query(inside)[1]
    return found


def disturbed(labels: np.ndarray) -> np.ndarray:
    """Returns the labels moved by one voxel along each axis, with 60 islands."""
    rng = np.random.default_rng(1)
    prediction = np.roll(labels, 1, axis=tuple(range(labels.ndim)))
    for _ in range(60):
        first = [rng.integers(0, side - 3) for side in labels.shape]
        prediction[tuple(slice(f, f + 2) for f in first)] = rng.integers(1, labels.max() + 1)
    return prediction


def as_markdown(title: str, rows: list[Row]) -> str:
    """Returns a table."""
    lines = [f"\n### {title}\n", f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row.values()))} |" for row in rows), ""])


# -- measuring ---------------------------------------------------------------------------------


def milliseconds(call: Callable[[], object], runs: int) -> float:
    """Returns the median processor time of a call that has run before."""
    times = []
    for _ in range(runs):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return round(1e3 * median(times), 1)


def bytes_per_voxel(call: Callable[[], object], voxels: int) -> Row:
    """Measures what a call adds to the memory of this process at its peak."""
    return {"bytes per voxel": round(1024 * peak_kilobytes(call) / voxels, 1)}


def compiled(shape: tuple[int, ...]) -> None:
    """Compiles what the term needs, and starts its threads."""
    import torch

    from nnunet_topo.losses import WassersteinLoss

    torch.set_num_threads(1)
    small = torch.rand(1, 1, *(min(side, 12) for side in shape), requires_grad=True)
    for clamp in (0.0, 0.01):
        WassersteinLoss(clamp=clamp)(small, (small > 0.5).float()).backward()
