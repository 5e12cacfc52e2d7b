"""Clough's second experiment on public data: unlabelled images under a topological prior.

Usage: python experiments/semi_supervised_sunnybrook.py [--data FOLDER] [--seeds N] [--table]

Clough et al. 2020, section 4.2, segment the myocardium in 80 x 80 crops around the left ventricle,
degraded by removing m of 80 lines of the Fourier transform, with 10 to 100 labelled images and 400
unlabelled ones of UK Biobank. Here: the cavity of the left ventricle, prior (1, 0), in the slices
of 30 patients of the Sunnybrook Cardiac Data (Dataset102_SunnybrookLV under $NNUNET_TOPO_DATA,
default ../shared/data), 10, 20 or 40 of them labelled, m = 20 and 60.

For each seed patients are split anew: 18 to train, 4 to validate, 8 to test. All arms go on from
the same supervised network, as long as one another, and keep the weights of the best validation
Dice. What is done is kept in experiments/results after each of the 6 settings of a seed; the same
command goes on where it was, and prints the tables.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats
from skimage import io
from skimage.morphology import closing, disk
from torch import Tensor, nn

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.topology import betti_numbers

RECORD = Path(__file__).parent / "results/semi_supervised_sunnybrook.json"
LABELLED, REMOVED = (10, 20, 40), (20, 60)
SIDE, KEPT = 80, 8  # of a crop; lines of lowest frequency
PATIENTS = (18, 4, 8)  # to train, to validate, to test
SUPERVISED, AFTER = 250, 150  # iterations of both phases
CHECKED, BATCH = 50, 4
ROUNDS = 3  # of self-training
WEIGHT, LEARNING_RATE = 0.01, 1e-3
PRIOR = BettiPriorLoss({0: (1, 0)}, clamp=0.01)
ARMS = {
    "supervised": "Supervised",
    "component": "Supervised + largest component",
    "closing": "Supervised + closing",
    "self": "Self-training",
    "prior": "Topological prior",
}
# Dice and share of correct topology, in %, by m and labelled images: Table 2 of the paper.
PAPER = {
    "supervised": {20: ("67.9 / 42.1", "76.3 / 59.8", "82.1 / 74.0"),
                   60: ("62.0 / 25.8", "70.8 / 58.3", "76.9 / 67.6")},
    "closing": {20: ("68.2 / 53.8", "76.2 / 71.3", "81.7 / 81.4"),
                60: ("62.9 / 44.4", "70.8 / 66.9", "76.9 / 76.9")},
    "self": {20: ("74.7 / 57.4", "78.6 / 68.1", "83.6 / 80.8"),
             60: ("67.3 / 48.4", "73.3 / 60.9", "78.2 / 71.3")},
    "prior": {20: ("74.3 / 67.1", "79.1 / 80.5", "83.5 / 88.1"),
              60: ("68.6 / 62.0", "74.3 / 75.6", "78.6 / 85.7")},
}  # fmt: skip


@dataclass(frozen=True)
class Slices:
    """Degraded images and masks, `[slice, 1, y, x]`, and the patient of each slice."""

    images: Tensor
    masks: Tensor
    patients: NDArray[np.str_]

    def of(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Slices":
        """Returns some of the slices."""
        index = torch.from_numpy(np.arange(len(self.patients))[chosen])
        return Slices(self.images[index], self.masks[index], self.patients[chosen])


class UNet(nn.Module):
    """A U-Net with four scales, 8 to 64 features; gives logits."""

    def __init__(self, features: tuple[int, ...] = (8, 16, 32, 64)) -> None:
        super().__init__()
        pairs = list(zip((1, *features), features, strict=False))
        self.down = nn.ModuleList(_block(*pair) for pair in pairs)
        self.up = nn.ModuleList(_block(low + high, low) for low, high in pairs[:0:-1])
        self.last = nn.Conv2d(features[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits of `[batch, 1, y, x]`."""
        skips = []
        for scale, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if scale else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([skip, nn.functional.interpolate(x, scale_factor=2.0)], 1))
        return self.last(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    def layer(inputs: int) -> tuple[nn.Module, ...]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU(inplace=True)

    return nn.Sequential(*layer(inputs), *layer(outputs))


# -- data --------------------------------------------------------------------------------------


def read_crops(folder: Path) -> tuple[NDArray, NDArray, NDArray]:
    """Returns crops around the cavity, `[slice, y, x]`, their masks and their patients."""
    images, masks, patients = [], [], []
    for file in sorted((folder / "labelsTr").glob("*.png")):
        mask = io.imread(file) > 0
        if not mask.any():
            continue
        image = io.imread(folder / "imagesTr" / f"{file.stem}_0000.png").astype(np.float64)
        places = np.argwhere(mask)
        corner = (places.min(0) + places.max(0) + 1) // 2  # after the padding, that of the crop
        box = tuple(slice(start, start + SIDE) for start in corner)
        images.append(np.pad(image, SIDE // 2)[box])
        masks.append(np.pad(mask, SIDE // 2)[box])
        patients.append(file.stem.partition("-IM")[0])
    return np.stack(images), np.stack(masks), np.array(patients)


def degrade(image: NDArray, removed: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Returns an image without so many lines of its Fourier transform, in [0, 1]."""
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    middle = np.arange(SIDE // 2 - KEPT // 2, SIDE // 2 + KEPT // 2)
    lines = np.setdiff1d(np.arange(SIDE), middle)
    spectrum[rng.choice(lines, removed, replace=False)] = 0
    degraded = np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)))
    low, high = degraded.min(), degraded.max()
    return ((degraded - low) / (high - low)).astype(np.float32)


def split(
    crops: tuple[NDArray, NDArray, NDArray], seed: int, labelled: int, removed: int
) -> dict[str, Slices]:
    """Returns the slices to train with and without labels, to validate and to test."""
    images, masks, patients = crops
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(patients))
    train, validate, test = np.split(order, np.cumsum(PATIENTS)[:-1])
    to_train = rng.permutation(np.flatnonzero(np.isin(patients, train)))
    noise = np.random.default_rng((seed, removed))
    degraded = np.stack([degrade(image, removed, noise) for image in images])
    slices = Slices(
        torch.from_numpy(degraded)[:, None], torch.from_numpy(masks)[:, None].float(), patients
    )
    return {
        "labelled": slices.of(to_train[:labelled]),
        "unlabelled": slices.of(to_train[labelled:]),
        "validate": slices.of(np.isin(patients, validate)),
        "test": slices.of(np.isin(patients, test)),
    }


# -- training ----------------------------------------------------------------------------------


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Returns 1 - soft Dice, mean over samples."""
    p = torch.sigmoid(logits)
    axes = (1, 2, 3)
    return (1 - (2 * (p * target).sum(axes) + 1) / (p.sum(axes) + target.sum(axes) + 1)).mean()


def batches(slices: Slices, rng: np.random.Generator) -> Iterator[Slices]:
    """Yields random batches of different slices, without end."""
    size = min(BATCH, len(slices.patients))
    while True:
        order = rng.permutation(len(slices.patients))
        for start in range(0, len(order) - size + 1, size):
            yield slices.of(order[start : start + size])


def train(
    network: nn.Module, validation: Slices, iterations: int, step: Callable[[int], None]
) -> nn.Module:
    """Returns the network with the best validation Dice among the checked iterations.

    Args:
        network: what is trained, in place.
        validation: labelled slices.
        iterations: how many.
        step: takes an iteration, counted from 0.
    """
    best, best_dice = network, -1.0
    for iteration in range(iterations):
        step(iteration)
        if (iteration + 1) % CHECKED == 0:
            dice = float(np.mean(dice_of(predict(network, validation), validation)))
            if dice > best_dice:
                best, best_dice = deepcopy(network), dice
    return best


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Takes a step down a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train_arm(
    arm: str, begun: nn.Module, data: dict[str, Slices], seed: int, iterations: int
) -> nn.Module:
    """Returns what an arm makes of a network, which is not changed."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = deepcopy(begun)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    labelled, unlabelled = batches(data["labelled"], rng), batches(data["unlabelled"], rng)
    pseudo = unlabelled

    def supervised(batch: Slices) -> Tensor:
        return dice_loss(network(batch.images), batch.masks)

    def prior(batch: Slices) -> Tensor:
        return WEIGHT * PRIOR(torch.sigmoid(network(batch.images)))

    def step(iteration: int) -> None:
        nonlocal pseudo
        descend(optimizer, supervised(next(labelled)))
        if arm == "prior":  # alternating steps, as in the paper
            descend(optimizer, prior(next(unlabelled)))
        elif arm == "self":
            if iteration % (iterations // ROUNDS) == 0:
                masks = torch.from_numpy(predict(network, data["unlabelled"]))[:, None].float()
                guessed = Slices(data["unlabelled"].images, masks, data["unlabelled"].patients)
                pseudo = batches(guessed, rng)
            descend(optimizer, supervised(next(pseudo)))

    return train(network, data["validate"], iterations, step)


def predict(network: nn.Module, slices: Slices) -> NDArray[np.bool_]:
    """Returns masks at p > 0.5, `[slice, y, x]`."""
    with torch.no_grad():
        logits = [network(part) for part in slices.images.split(32)]
    return (torch.cat(logits)[:, 0] > 0).numpy()


# -- measures ----------------------------------------------------------------------------------


def dice_of(predicted: NDArray[np.bool_], slices: Slices) -> NDArray[np.float64]:
    """Returns the Dice of each slice."""
    masks = slices.masks[:, 0].numpy() > 0
    axes = (1, 2)
    return 2 * (predicted & masks).sum(axes) / (predicted.sum(axes) + masks.sum(axes))


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the largest 8-connected component."""
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    return parts == np.bincount(parts.flat)[1:].argmax() + 1 if mask.any() else mask


def closed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the closing by a disk of radius 7, the paper's."""
    return closing(np.pad(mask, 7), disk(7))[7:-7, 7:-7]


def measure(predicted: NDArray[np.bool_], slices: Slices) -> dict[str, dict[str, float]]:
    """Returns Dice and share of correct topology, over the slices of each patient and over all."""
    dice = dice_of(predicted, slices)
    correct = np.array([betti_numbers(mask) == (1, 0) for mask in predicted], float)
    groups = {"all": np.ones(len(dice), bool)}
    groups |= {str(name): slices.patients == name for name in np.unique(slices.patients)}
    return {
        "dice": {name: round(float(dice[chosen].mean()), 4) for name, chosen in groups.items()},
        "correct": {
            name: round(float(correct[chosen].mean()), 4) for name, chosen in groups.items()
        },
    }


def run_setting(
    crops: tuple[NDArray, NDArray, NDArray], seed: int, labelled: int, removed: int
) -> dict:
    """Returns what all arms reach in a setting."""
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


# -- tables ------------------------------------------------------------------------------------


def table(record: dict[str, dict]) -> str:
    """Returns Markdown tables of what has been recorded, beside the paper's."""
    lines = []
    for removed in REMOVED:
        settings = {n: _seeds(record, n, removed) for n in LABELLED}
        heads = [f"{n} labelled ({len(seeds)} seeds)" for n, seeds in settings.items()]
        lines += [
            f"m = {removed}, Dice / correct topology in %, mean ± standard error over seeds",
            "",
        ]
        lines += ["| arm | " + " | ".join(heads) + " | paper: 10, 20, 40 labelled |"]
        lines += ["|---" * (len(heads) + 2) + "|"]
        for arm, name in ARMS.items():
            cells = [_cell(seeds, arm) for seeds in settings.values()]
            theirs = ", ".join(PAPER[arm][removed]) if arm in PAPER else "none"
            lines.append(f"| {name} | " + " | ".join(cells) + f" | {theirs} |")
        lines.append("")
    return "\n".join(lines)


def wilcoxon(record: dict[str, dict], ours: str = "prior") -> str:
    """Returns Wilcoxon's tests of the prior against the other arms, patients paired."""
    lines = [
        f"{ARMS[ours]} against the others: mean difference in points (two-sided Wilcoxon p; a pair "
        "is a test patient of a seed)",
        "",
        "| m, labelled | against | pairs | Dice | correct topology |",
        "|---|---|---|---|---|",
    ]
    for removed in REMOVED:
        for labelled in LABELLED:
            seeds = _seeds(record, labelled, removed)
            for arm, name in ARMS.items():
                if arm == ours or not seeds:
                    continue
                cells, pairs = [], 0
                for key in ("dice", "correct"):
                    values = [
                        [v for s in seeds for p, v in s["arms"][a][key].items() if p != "all"]
                        for a in (ours, arm)
                    ]
                    difference = np.subtract(*values)
                    pairs = len(difference)
                    p = stats.wilcoxon(difference).pvalue if difference.any() else 1.0
                    cells.append(f"{100 * difference.mean():+.1f} (p {p:.2g})")
                lines.append(f"| {removed}, {labelled} | {name} | {pairs} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _seeds(record: dict[str, dict], labelled: int, removed: int) -> list[dict]:
    ending = f"labelled {labelled}, removed {removed}"
    return [setting for key, setting in record.items() if key.endswith(ending)]


def _cell(seeds: list[dict], arm: str) -> str:
    if not seeds:
        return "not run"
    figures = []
    for key in ("dice", "correct"):
        values = [100 * seed["arms"][arm][key]["all"] for seed in seeds]
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        figures.append(f"{np.mean(values):.1f} ± {error:.1f}")
    return " / ".join(figures)


def main() -> None:
    """Runs what is not yet recorded, then prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    shared = Path(__file__).parents[2] / "shared/data"
    parser.add_argument("--data", type=Path, default=os.environ.get("NNUNET_TOPO_DATA", shared))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin nothing after so many")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--table", action="store_true", help="print what is recorded, run nothing")
    chosen = parser.parse_args()
    record = json.loads(chosen.record.read_text()) if chosen.record.is_file() else {}
    began = time.monotonic()
    pairs = [(20, 20), (20, 60), (10, 20), (10, 60), (40, 20), (40, 60)]  # the most telling first
    settings = [(s, n, m) for n, m in pairs for s in range(chosen.seeds)]
    crops = None
    for seed, labelled, removed in [] if chosen.table else settings:
        key = f"seed {seed}, labelled {labelled}, removed {removed}"
        if key in record or time.monotonic() - began > 60 * chosen.minutes:
            continue
        if crops is None:
            torch.set_num_threads(1)
            crops = read_crops(Path(chosen.data) / "Dataset102_SunnybrookLV")
        record[key] = run_setting(crops, seed, labelled, removed)
        part = chosen.record.with_name(f"{chosen.record.name}.part")
        part.write_text(json.dumps(record, separators=(",", ":")))
        part.replace(chosen.record)
        print(f"{key}: {record[key]['seconds']['all']} s", flush=True)
    print(table(record))
    print(wilcoxon(record))


if __name__ == "__main__":
    main()
