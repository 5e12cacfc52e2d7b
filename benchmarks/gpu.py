"""What training on a GPU costs, and whether it computes what the CPU does.

Usage: benchmarks/gpu.sh [--smoke] [-o FOLDER]     under 8 minutes on a machine with a CUDA card

Losses and gradients beside those of the CPU; half precision beside float32; the term with 1 to all
threads; time and memory of a step of every trainer beside Stock, at nnU-Net's own 3D plan of a made
data set in the shape of BraTS, for a network before and after a short training. Writes
gpu-DATE.json and gpu-DATE.md into FOLDER, benchmarks/results by default. --smoke runs the whole
path on a CPU with small volumes and nets.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import probabilities, structures

SHAPE, SMOKE_SHAPE = (155, 200, 170), (40, 48, 40)  # BraTS after nnU-Net's cropping, about
CHANNELS, CASES = 4, 5
GPU_STEP_LIMIT = 1.10  # of Stock's time per epoch


def main() -> None:
    """Parses the command line, measures, and writes what was measured after each part."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="on a CPU, small")
    parser.add_argument("-o", type=Path, default=Path(__file__).parent / "results", metavar="DIR")
    chosen = parser.parse_args()
    if not chosen.smoke and not torch.cuda.is_available():
        raise SystemExit("no CUDA device was found; --smoke runs the same on a CPU")
    device = torch.device("cpu" if chosen.smoke else "cuda")
    chosen.o.mkdir(parents=True, exist_ok=True)
    name = f"{'smoke' if chosen.smoke else 'gpu'}-{date.today().isoformat()}"
    results: dict[str, Any] = {"machine": machine(device), "seconds": {}}
    for part, measure in (
        ("losses", lambda: losses_beside_the_cpu(device, smoke=chosen.smoke)),
        ("half precision", lambda: half_precision(device, smoke=chosen.smoke)),
        ("threads", lambda: threads(device, smoke=chosen.smoke)),
        ("trainers", lambda: trainers(device, smoke=chosen.smoke)),
    ):
        began = time.monotonic()
        results[part] = list(shown(part, measure()))
        results["seconds"][part] = round(time.monotonic() - began, 1)
        (chosen.o / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (chosen.o / f"{name}.md").write_text(as_markdown(results))
    print(f"written: {chosen.o / name}.json and .md")


def shown(part: str, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Prints rows as they come."""
    print(f"\n## {part}\n", flush=True)
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        yield row


def machine(device: torch.device) -> dict[str, Any]:
    """Returns what the figures were measured on."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {
        "device": name,
        "date": date.today().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "nnunetv2", "numpy", "nnunet-topo")},
        "cuda": torch.version.cuda,
    }


# -- losses ------------------------------------------------------------------------------------


def all_losses() -> dict[str, Callable[..., torch.Tensor]]:
    """Returns every loss of the package by name, as functions of probability and target."""
    from nnunet_topo import losses

    def scnp(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = torch.logit(probability, 1e-4)
        worst = losses.least_confident_neighbours(logits, target)
        return torch.nn.functional.binary_cross_entropy_with_logits(worst, target)

    return {
        "Wasserstein": losses.WassersteinLoss(clamp=0.01),
        "Wasserstein in tiles": losses.WassersteinLoss(clamp=0.01, tile_size=33),
        "Sinkhorn": losses.WassersteinLoss(clamp=0.01, matching="sinkhorn"),
        "Betti matching": losses.BettiMatchingLoss(clamp=0.01),
        "Betti prior": losses.BettiPriorLoss({0: (1, 0, 0)}, clamp=0.01),
        "projected pooling": losses.ProjectedPoolingLoss(),
        "Skeleton Recall": losses.SkeletonRecallLoss(),
        "clDice": losses.ClDiceLoss(),
        "SCNP": scnp,
    }


def patch(side: int, kind: str, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns probabilities and one-hot targets of a batch of two, [2, channels, *space]."""
    shape = (side,) * 3
    probability = np.stack(
        [[probabilities(shape, kind, 10 * b + c) for c in range(channels)] for b in range(2)]
    )
    target = np.stack(
        [
            [structures(np.random.default_rng(10 * b + c), shape) for c in range(channels)]
            for b in range(2)
        ]
    )
    return torch.from_numpy(probability), torch.from_numpy(target.astype(np.float32))


def losses_beside_the_cpu(device: torch.device, *, smoke: bool) -> Iterator[dict[str, Any]]:
    """Yields the difference of values and gradients between device and CPU."""
    probability, target = patch(32 if smoke else 64, "b")
    for name, loss in all_losses().items():
        found = []
        for place in (torch.device("cpu"), device):
            p = probability.to(place).requires_grad_()
            value = loss(p, target.to(place))
            value.backward()
            assert p.grad is not None
            found.append((value.item(), p.grad.cpu()))
        (value, gradient), (other, of_device) = found
        yield {
            "loss": name,
            "value": round(value, 6),
            "difference": f"{abs(value - other):.1e}",
            "largest gradient": f"{gradient.abs().max().item():.1e}",
            "largest difference of gradients": f"{(gradient - of_device).abs().max().item():.1e}",
        }


def half_precision(device: torch.device, *, smoke: bool) -> Iterator[dict[str, Any]]:
    """Yields each loss of logits in half precision beside the same logits in float32."""
    probability, target = patch(32 if smoke else 64, "b")
    half = torch.logit(probability, 1e-4).half().to(device)
    for name, loss in all_losses().items():
        values = []
        for enabled in (False, True):
            with torch.autocast(device.type, enabled=enabled):
                values.append(loss(half.float().sigmoid(), target.to(device)).item())
        yield {"loss": name, "float32": round(values[0], 6), "autocast": round(values[1], 6)}


def threads(device: torch.device, *, smoke: bool) -> Iterator[dict[str, Any]]:
    """Yields ms of the Wasserstein term, alone, by classes and threads."""
    from nnunet_topo.losses import WassersteinLoss, diagrams

    loss = WassersteinLoss(clamp=0.01)
    counts, allowed = [1, 2, 4, 8, 16], len(os.sched_getaffinity(0))
    original = diagrams.thread_count
    try:
        for kind, when in (("a", "early"), ("b", "middle"), ("c", "late")):
            for channels in (1,) if smoke else (1, 3, 5):
                probability, target = patch(32 if smoke else 128, kind, channels)
                p, t = probability.to(device), target.to(device)
                row = {"network": when, "classes": channels}
                for count in counts:
                    if count <= allowed:
                        diagrams.thread_count = lambda count=count: count
                        row[f"{count} threads, ms"] = term_ms(loss, p, t, 2 if smoke else 4)
                yield row
    finally:
        diagrams.thread_count = original


def term_ms(loss: Callable[..., torch.Tensor], p: torch.Tensor, t: torch.Tensor, runs: int) -> int:
    """Returns the median ms of forward and backward pass."""
    times = []
    for _ in range(runs + 1):
        q = p.clone().requires_grad_()
        synchronize(p.device)
        began = time.perf_counter()
        loss(q, t).backward()
        synchronize(p.device)
        times.append(time.perf_counter() - began)
    return round(1e3 * median(times[1:]))


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# -- trainers ----------------------------------------------------------------------------------


def trainers(device: torch.device, *, smoke: bool) -> Iterator[dict[str, Any]]:
    """Yields ms per iteration, memory and utilisation of each trainer beside Stock."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{part}"] = str(Path(folder) / part)
        for classes in (1, 3):
            dataset = make_data_set(Path(folder), classes, smoke=smoke)
            yield from of_data_set(dataset, classes, device, smoke=smoke)


def make_data_set(folder: Path, classes: int, *, smoke: bool) -> str:
    """Makes, plans and preprocesses a data set of tubes and ellipsoids; returns its number."""
    import SimpleITK as sitk

    number = str(960 + classes)
    raw = folder / "raw" / f"Dataset{number}_Made"
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    shape = SMOKE_SHAPE if smoke else SHAPE
    for case in range(CASES):
        rng = np.random.default_rng(case)
        labels = np.zeros(shape, np.uint8)
        for label in range(1, classes + 1):
            labels[structures(rng, shape)] = label
        sitk.WriteImage(sitk.GetImageFromArray(labels), raw / f"labelsTr/case_{case}.nii.gz")
        for channel in range(CHANNELS):
            image = labels + rng.normal(0, 0.3, shape)
            place = raw / f"imagesTr/case_{case}_{channel:04d}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(image.astype(np.float32)), place)
    names = {"background": 0} | {f"part{label}": label for label in range(1, classes + 1)}
    content = {
        "channel_names": {str(channel): "zscore" for channel in range(CHANNELS)},
        "labels": names,
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(content))
    planned = [sys.executable, "-c", PLAN, number]
    one_worker = os.environ | {"nnUNet_n_proc_DA": "1"}  # planning takes no 0
    subprocess.run(planned, env=one_worker, check=True, stdout=subprocess.DEVNULL)
    return number


PLAN = """
import sys
from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry
sys.argv = ["plan", "-d", sys.argv[1], "-c", "3d_fullres", "-np", "2", "-npfp", "2"]
if __name__ == "__main__":
    plan_and_preprocess_entry()
"""


def of_data_set(
    dataset: str, classes: int, device: torch.device, *, smoke: bool
) -> Iterator[dict[str, Any]]:
    """Yields a row for Stock and for each trainer, before and after a short training."""
    from nnunet_topo.training.trainer_list import described_trainers

    runs = 2 if smoke else 12
    names = [t.name for t in described_trainers() if t.name != "nnUNetTrainerStock"]
    late = None
    stock: dict[str, float] = {}
    for name in ["nnUNetTrainerStock", *names]:
        if "SemiSupervised" in name:  # needs a second data set, and takes twice as many images
            continue
        described = next(t for t in described_trainers() if t.name == name)
        term = "_weight0.001_from0" if described.term else ""
        with quiet():
            trainer = started(f"{name}_2epochs{term}", dataset, device)
        batches = [next(trainer.dataloader_train) for _ in range(2)]
        row: dict[str, Any] = {"classes": classes, "trainer": name.removeprefix("nnUNetTrainer")}
        for when in ("early", "late"):
            if when == "late":
                if late is None:  # Stock comes first
                    train(trainer, batches, 4 if smoke else 100)
                    late = {k: v.clone() for k, v in trainer.network.state_dict().items()}
                trainer.network.load_state_dict(late)
            ms, busy, memory = measured_steps(trainer, batches, runs, device)
            stock.setdefault(when, ms)
            row |= {
                f"{when}, ms": round(ms),
                f"{when}, of stock": round(ms / stock[when], 2),
                f"{when}, GPU %": busy,
                f"{when}, every": every(ms, stock[when]),
                "peak GiB": memory,
            }
        yield row
        del trainer, batches
        if device.type == "cuda":
            torch.cuda.empty_cache()


def every(ms: float, stock: float) -> int:
    """Returns the least `every<k>` for which an epoch takes at most 1.10 times that of Stock."""
    extra, allowed = max(0.0, ms - stock), (GPU_STEP_LIMIT - 1) * stock
    return max(1, int(np.ceil(extra / allowed)))


def started(name: str, dataset: str, device: torch.device) -> Any:
    """Returns a trainer before its first step, without workers."""
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args(
        dataset, "3d_fullres", "all", name, "nnUNetPlans", False, device=device
    )
    trainer.disable_checkpointing = True
    trainer.initialize()
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return trainer


def train(trainer: Any, batches: list[dict], steps: int) -> None:
    """Takes steps on the same batches, until the network knows them."""
    for step in range(steps):
        trainer.train_step(dict(batches[step % len(batches)]))


def measured_steps(
    trainer: Any, batches: list[dict], runs: int, device: torch.device
) -> tuple[float, int | None, float | None]:
    """Returns median ms of a step, the mean utilisation in percent, and the peak memory in GiB.

    The weights of the network change by these steps.
    """
    for _ in range(2):
        trainer.train_step(dict(batches[0]))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    with utilisation(device) as samples:
        for turn in range(runs):
            batch = dict(batches[turn % len(batches)])
            synchronize(device)
            began = time.perf_counter()
            trainer.train_step(batch)
            synchronize(device)
            times.append(time.perf_counter() - began)
    memory = None
    if device.type == "cuda":
        memory = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return 1e3 * median(times), round(float(np.mean(samples))) if samples else None, memory


@contextmanager
def utilisation(device: torch.device) -> Iterator[list[float]]:
    """Collects the utilisation of the GPU in percent, as nvidia-smi prints it."""
    samples: list[float] = []
    if device.type != "cuda":
        yield samples
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    process = subprocess.Popen(
        [*command, "-lms", "50"], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    lines = process.stdout

    def read() -> None:
        for line in lines:
            if line.strip().isdigit():
                samples.append(float(line))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield samples
    finally:
        process.terminate()
        reader.join()


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps nnU-Net from printing."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def as_markdown(results: dict[str, Any]) -> str:
    """Returns the results as tables."""
    facts = ", ".join(f"{key} {value}" for key, value in results["machine"].items() if value)
    seconds = results["seconds"]
    lines = ["# Training on a GPU", "", f"`benchmarks/gpu.sh`: {facts}.", ""]
    lines += [f"It took {sum(seconds.values()):.0f} s."]
    for part in seconds:
        rows = results[part]
        head = "| " + " | ".join(rows[0]) + " |"
        lines += ["", f"## {part}", "", head, "|---" * len(rows[0]) + "|"]
        lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
