"""Computes each loss many times on changing shapes and classes, and shows what grows.

Usage: python trust_long_run.py ITERATIONS [LOSS ...]

Prints, for each loss, memory, threads, open files and compiled signatures of the engine after a
tenth of the iterations and at the end, then whether they are flat.
"""

import gc
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch

from nnunet_topo import losses
from nnunet_topo.topology.betti_range import BettiPrior

GROWN_MB = 60  # that memory may move by chance
SHAPES = [(20, 22, 24), (17, 19, 23), (12, 28, 16), (31, 34), (40, 26), (22, 51)]


def made() -> dict:
    """Returns each loss by its name."""
    prior = {0: BettiPrior.of((1, 1, 0))}
    flat = {0: BettiPrior.of((1, 1))}
    return {
        "WassersteinLoss": lambda space: losses.WassersteinLoss(clamp=0.01),
        "WassersteinLoss, tiles": lambda space: losses.WassersteinLoss(clamp=0.01, tile_size=12),
        "WassersteinLoss, optimal": lambda space: losses.WassersteinLoss(
            matching="optimal", clamp=0.3
        ),
        "WassersteinLoss, Sinkhorn": lambda space: losses.WassersteinLoss(
            matching="sinkhorn", clamp=0.3
        ),
        "BettiMatchingLoss": lambda space: losses.BettiMatchingLoss(clamp=0.01),
        "BettiPriorLoss": lambda space: losses.BettiPriorLoss(prior if space == 3 else flat),
        "ProjectedPoolingLoss": lambda space: losses.ProjectedPoolingLoss(),
        "SkeletonRecallLoss": lambda space: losses.SkeletonRecallLoss(),
        "ClDiceLoss": lambda space: losses.ClDiceLoss(),
        "ClDiceLoss, exact": lambda space: losses.ClDiceLoss(exact=True),
        "FocalLoss": lambda space: losses.FocalLoss(),
        "least_confident_neighbours": lambda space: _focal_of_neighbours,
    }


def _focal_of_neighbours(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return losses.FocalLoss()(losses.least_confident_neighbours(logits, target), target)


def step(make, rng: np.random.Generator) -> None:
    """Computes a loss and its gradient on a new shape with a new number of classes."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    classes = int(rng.integers(1, 5))
    noise = torch.from_numpy(rng.random((2, classes, *shape), np.float32))
    target = torch.nn.functional.avg_pool2d(noise.flatten(0, -3), 5, 1, 2).view(noise.shape) > 0.55
    probability = (0.6 * noise + 0.4 * target).requires_grad_()
    loss = make(len(shape))
    value = loss(probability, target)
    value.backward()


def state() -> dict[str, float]:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {
        "MB": int(fields["VmRSS"].split()[0]) / 1024,
        "threads": int(fields["Threads"]),
        "Python threads": threading.active_count(),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "compiled": compiled(),
    }


def compiled() -> int:
    """Returns how many signatures the engines have compiled or loaded."""
    modules = [module for name, module in sys.modules.items() if "nnunet_topo.topology" in name]
    functions = {id(f): f for module in modules for f in vars(module).values()}
    return sum(len(f.signatures) for f in functions.values() if hasattr(f, "signatures"))


def main(iterations: int, words: list[str]) -> int:
    torch.set_num_threads(1)
    grown = False
    for name, make in made().items():
        if words and not any(word in name for word in words):
            continue
        rng, began = np.random.default_rng(1), time.monotonic()
        states = []
        for number in range(1, iterations + 1):
            step(make, rng)
            if number in (max(1, iterations // 10), iterations):
                states.append(state())
        first, last = states[0], states[-1]
        flat = last["MB"] - first["MB"] < GROWN_MB and all(
            last[key] <= first[key] for key in first if key != "MB"
        )
        grown = grown or not flat
        seconds = time.monotonic() - began
        told = ", ".join(f"{key} {first[key]:.0f} -> {last[key]:.0f}" for key in first)
        word = "good  " if flat else "failed"
        print(f"{word} {name}: {iterations} iterations in {seconds:.0f} s; {told}", flush=True)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
