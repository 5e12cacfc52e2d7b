"""Clough's experiment 1: corrupted digits are restored, then each one refined by its topology.

Clough, Byrne, Oksuz, Zimmer, Schnabel, King: A Topological Loss Function for Deep-Learning based
Image Segmentation using Persistent Homology. IEEE Transactions on Pattern Analysis and Machine
Intelligence 2020, section 4.1.

Usage: python experiments/clough_mnist.py [--data FOLDER] [-o FOLDER] [--digits N]

Needs MNIST's 10,000 test digits in the folder mnist of --data, and statsmodels, which
`pip install ".[test]"` brings. What is finished is kept in the output folder, in results.json and
beside it: the same command goes on where it was interrupted.
"""

import argparse
import gzip
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import wilcoxon
from statsmodels.stats.contingency_tables import mcnemar
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.losses.betti_prior import Form
from nnunet_topo.topology import betti_numbers, persistence_pairs

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# The paper's.
LINES = (2, 4, 6, 8, 10, 12)
WEIGHT = 0.02  # lambda of eq. 5
STEPS = 100
PRIORS = {digit: (1, {0: 1, 6: 1, 9: 1, 8: 2}.get(digit, 0)) for digit in range(10)}
# Table 1: m -> accuracy before and after, mean squared error before and after.
PAPER = {
    2: (0.957, 0.962, 0.008, 0.008),
    4: (0.929, 0.937, 0.014, 0.013),
    6: (0.876, 0.908, 0.023, 0.023),
    8: (0.804, 0.860, 0.037, 0.028),
    10: (0.704, 0.750, 0.032, 0.033),
    12: (0.569, 0.630, 0.043, 0.042),
}

# Ours: the paper prints none of these.
SEED = 0
FEATURES = (8, 16, 32)
EPOCHS = 30
LEARNING_RATES = (1e-5, 1e-4, 1e-3)
CHOSEN_AT = 8  # lines removed where the learning rate is chosen
THRESHOLD = 0.5  # of a restored digit, to count its Betti numbers
AT_ONCE = 10  # digits refined side by side
MSE_UNIT = 1e-6  # results.json holds whole numbers of it
NEVER = -1

FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True, slots=True)
class DigitSets:
    """Indices of digits; no digit is in two sets.

    Attributes:
        network: train the restoring network.
        development: choose the learning rate of the refinement, and the digit of the figure.
        test: are refined and scored.
        classifier: train the classifier.
    """

    network: NDArray[np.int64]
    development: NDArray[np.int64]
    test: NDArray[np.int64]
    classifier: NDArray[np.int64]


def digit_sets(count: int = 10000) -> DigitSets:
    """Returns 100 / 30 / 1000 digits and the rest, drawn: the file has its easy digits first."""
    network, development, test, classifier = np.split(
        np.random.default_rng(SEED).permutation(count), [100, 130, 1130]
    )
    return DigitSets(network, development, test, classifier)


def read_digits(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns all digits, `[digit, y, x]` in [0, 1], and their labels.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is no idx file of bytes.
    """
    return (
        _read_idx(folder / "mnist" / "t10k-images-idx3-ubyte.gz", 3).astype(np.float32) / 255,
        _read_idx(folder / "mnist" / "t10k-labels-idx1-ubyte.gz", 1).astype(np.int64),
    )


def _read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: --data, or NNUNET_TOPO_DATA, must name the folder that holds mnist"
        )
    content = gzip.decompress(path.read_bytes())
    start = 4 * (1 + axes)
    if len(content) < start or content[:4] != bytes([0, 0, 8, axes]):
        raise ValueError(f"{path} must be an idx file of bytes with {axes} axes")
    sides = np.frombuffer(content[4:start], ">i4")
    return np.frombuffer(content[start:], np.uint8).reshape(sides)


def remove_lines(
    image: NDArray[np.float32], lines: int, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Returns the Fourier transform without so many rows and so many columns, drawn at random."""
    spectrum = np.fft.fft2(image)
    spectrum[rng.choice(image.shape[0], lines, replace=False)] = 0
    spectrum[:, rng.choice(image.shape[1], lines, replace=False)] = 0
    return spectrum


def corrupt(
    digits: NDArray[np.float32], chosen: NDArray[np.int64], lines: int
) -> NDArray[np.float32]:
    """Returns the chosen digits after `remove_lines`: magnitudes, each image up to 1.

    What is drawn depends on the digit and on the number of lines alone.
    """
    corrupted = np.empty((len(chosen), *digits.shape[1:]), np.float32)
    for image, digit in zip(corrupted, chosen, strict=True):
        rng = np.random.default_rng([SEED, lines, digit])
        magnitude = np.abs(np.fft.ifft2(remove_lines(digits[digit], lines, rng)))
        image[:] = magnitude / max(magnitude.max(), np.finfo(np.float32).tiny)
    return corrupted


class UNet(nn.Module):
    """A small U-Net, or several side by side that share no weight.

    Takes and returns `[image, copy, y, x]`, sides divisible by 4; values of the output in [0, 1].
    Copies are groups of the convolutions.
    """

    def __init__(self, copies: int = 1, features: tuple[int, int, int] = FEATURES) -> None:
        super().__init__()
        self.copies, self.features = copies, features
        fine, middle, coarse = features
        self.down_fine = self._block(1, fine)
        self.down_middle = self._block(fine, middle)
        self.bottom = self._block(middle, coarse)
        self.up_middle = self._block(coarse + middle, middle)
        self.up_fine = self._block(middle + fine, fine)
        self.head = nn.Conv2d(fine * copies, copies, 1, groups=copies)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def _block(self, inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(
                inputs * self.copies, outputs * self.copies, 3, padding=1, groups=self.copies
            ),
            nn.ReLU(),
            nn.Conv2d(
                outputs * self.copies, outputs * self.copies, 3, padding=1, groups=self.copies
            ),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns the restored images."""
        fine = self.down_fine(images)
        middle = self.down_middle(functional.max_pool2d(fine, 2))
        coarse = self.bottom(functional.max_pool2d(middle, 2))
        middle = self.up_middle(self._joined(coarse, middle))
        fine = self.up_fine(self._joined(middle, fine))
        return torch.sigmoid(self.head(fine))

    def _joined(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Returns the channels of both, copy by copy, the coarse ones on the finer grid."""
        parts = (functional.interpolate(coarse, scale_factor=2), fine)
        return torch.cat([part.unflatten(1, (self.copies, -1)) for part in parts], 2).flatten(1, 2)

    def side_by_side(self, copies: int) -> "UNet":
        """Returns so many copies of this one."""
        many = UNet(copies, self.features)
        many.load_state_dict(
            {
                name: weights.repeat(copies, *[1] * (weights.ndim - 1))
                for name, weights in self.state_dict().items()
            }
        )
        return many


def train_network(corrupted: NDArray[np.float32], clean: NDArray[np.float32]) -> UNet:
    """Returns a network that restores digits, trained by binary cross-entropy.

    The paper says mean squared error, its released code has binary cross-entropy. By mean squared
    error this network learns to return black: the sigmoid saturates and its gradient vanishes.
    """
    torch.manual_seed(SEED)
    network = UNet()
    inputs, targets = torch.from_numpy(corrupted)[:, None], torch.from_numpy(clean)[:, None]

    def loss(batch: Tensor) -> Tensor:
        return functional.binary_cross_entropy(network(inputs[batch]), targets[batch])

    _descend(network, loss, len(inputs), epochs=EPOCHS, batch_size=10)
    return network


def train_classifier(digits: NDArray[np.float32], labels: NDArray[np.int64]) -> nn.Module:
    """Returns a network that tells digits, as logits, from `[image, 1, y, x]`."""
    torch.manual_seed(SEED)
    classifier = _new_classifier()
    inputs, targets = torch.from_numpy(digits)[:, None], torch.from_numpy(labels)

    def loss(batch: Tensor) -> Tensor:
        return functional.cross_entropy(classifier(inputs[batch]), targets[batch])

    _descend(classifier, loss, len(inputs), epochs=8, batch_size=64)
    return classifier.eval()


def _new_classifier() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 7 * 7, 128), nn.ReLU()),
        *(nn.Dropout(0.3), nn.Linear(128, 10)),
    )


def _descend(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    count: int,
    *,
    epochs: int,
    batch_size: int,
) -> None:
    """Minimises the loss of batches of indices by Adam; the rate falls to zero as a cosine does."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(count).split(batch_size):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        schedule.step()


@dataclass(frozen=True, slots=True)
class Refined:
    """Digits after a refinement, `[digit, y, x]`.

    Attributes:
        last: after all steps.
        stopped: after the first step that gave the right Betti numbers, else after all.
        steps: that it took; 0 where they were right before, `NEVER` where they never were.
        objective: eq. 5 after all steps, mean over digits.
    """

    last: NDArray[np.float32]
    stopped: NDArray[np.float32]
    steps: NDArray[np.int64]
    objective: float


def refine(
    network: UNet,
    corrupted: NDArray[np.float32],
    priors: Sequence[tuple[int, int]],
    *,
    form: Form,
    learning_rate: float,
    steps: int,
) -> Refined:
    """Returns the digits as copies of the network restore them, each adapted to one (eq. 5).

    Adam couples no weights, so minimising the sum over digits refines each as if it were alone.
    """
    copies = network.side_by_side(len(corrupted))
    images = torch.from_numpy(corrupted)[None]
    with torch.no_grad():
        before = copies(images)
    topology = BettiPriorLoss(dict(enumerate(priors)), form=form)  # digits are its channels
    optimizer = torch.optim.Adam(copies.parameters(), lr=learning_rate)
    found = np.full(len(priors), NEVER)
    stopped = np.empty_like(corrupted)
    for step in range(steps + 1):
        restored = copies(images)
        last = restored.detach().numpy()[0]
        pending = np.flatnonzero(found == NEVER)
        stopped[pending] = last[pending]
        found[pending[are_right(last[pending], [priors[i] for i in pending])]] = step
        objective = functional.mse_loss(restored, before) + WEIGHT * topology(restored)  # Eq. 5
        if step < steps:
            optimizer.zero_grad()
            (len(priors) * objective).backward()
            optimizer.step()
    return Refined(last, stopped, found, objective.item())


def are_right(images: NDArray[np.float32], priors: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Returns which images have the Betti numbers they should have, cut at 0.5."""
    return np.array(
        [
            betti_numbers(image > THRESHOLD) == prior
            for image, prior in zip(images, priors, strict=True)
        ],
        dtype=bool,
    )


def score(
    images: NDArray[np.float32],
    clean: NDArray[np.float32],
    labels: NDArray[np.int64],
    classifier: nn.Module,
) -> dict[str, Any]:
    """Returns what results.json holds of restored digits, one entry per digit in each list.

    Keys: digit, as which it is classified; digit_of_topology, the same among the digits of its
    topology alone; right, whether its Betti numbers are; mse, in `MSE_UNIT`.
    """
    with torch.no_grad():
        logits = classifier(torch.from_numpy(images)[:, None]).numpy()
    priors = np.array(list(PRIORS.values()))
    other = (priors[labels][:, None] != priors[None]).any(axis=2)
    mse = ((images - clean) ** 2).mean(axis=(1, 2))
    return {
        "digit": _packed(logits.argmax(axis=1)),
        "digit_of_topology": _packed(np.where(other, -np.inf, logits).argmax(axis=1)),
        "right": _packed(are_right(images, [PRIORS[label] for label in labels])),
        "mse": np.round(mse / MSE_UNIT).astype(int).tolist(),
    }


def _packed(digits: NDArray[Any]) -> str:
    """Returns digits as one string, a tenth of what a list takes in JSON."""
    return "".join(str(int(digit)) for digit in digits)


def _unpacked(digits: str) -> NDArray[np.int64]:
    return np.array([int(digit) for digit in digits])


class Experiment:
    """The experiment and what is known of it; each part is kept as soon as it is there."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.digits, self.labels = read_digits(data)
        self.sets = digit_sets(len(self.digits))
        self.folder = folder
        self.file = folder / "results.json"
        settings = {
            "seed": SEED,
            "weight": WEIGHT,
            "steps": STEPS,
            "features": FEATURES,
            "epochs": EPOCHS,
            "learning_rates": LEARNING_RATES,
            "digits_in": {
                "network": len(self.sets.network),
                "development": len(self.sets.development),
                "test": len(self.sets.test),
                "classifier": len(self.sets.classifier),
            },
        }
        settings = json.loads(json.dumps(settings))
        self.results: dict[str, Any] = {"settings": settings}
        if self.file.is_file():
            self.results = json.loads(self.file.read_text())
            if self.results.get("settings") != settings:
                raise ValueError(f"{self.file} has other settings than these: name another folder")
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, digits: int) -> None:
        """Does what is missing, up to so many test digits for each number of lines."""
        classifier = self.classifier()
        self.choose_learning_rates(classifier)
        total = len(LINES) * digits
        done = sum(self.done(lines) for lines in LINES)
        with tqdm(total=total, initial=min(done, total), unit=" digits", disable=None) as progress:
            for start in range(0, digits, AT_ONCE):
                for (
                    lines
                ) in LINES:  # all of them advance together, so that any interruption is fair
                    until = min(digits, start + AT_ONCE)
                    if self.done(lines) < until:
                        progress.update(self.refine_until(lines, until, classifier))

    def done(self, lines: int) -> int:
        """Returns how many test digits are refined."""
        return len(self.results.get("lines", {}).get(str(lines), {}).get("label", ""))

    def classifier(self) -> nn.Module:
        """Returns the classifier, trained if it was not."""

        def train() -> nn.Module:
            chosen = self.sets.classifier
            return train_classifier(self.digits[chosen], self.labels[chosen])

        classifier = self._kept("classifier.pt", _new_classifier(), train).eval()
        if "clean" not in self.results:
            clean, labels = self.digits[self.sets.test], self.labels[self.sets.test]
            scores = score(clean, clean, labels, classifier)
            self.results["clean"] = {
                "accuracy": float(np.mean(_unpacked(scores["digit"]) == labels)),
                "right": float(np.mean(_unpacked(scores["right"]))),
            }
            self.save()
        return classifier

    def network(self, lines: int) -> UNet:
        """Returns the network for so many removed lines, trained if it was not."""

        def train() -> UNet:
            chosen = self.sets.network
            return train_network(corrupt(self.digits, chosen, lines), self.digits[chosen])

        return self._kept(f"network_{lines}.pt", UNet(), train)

    def choose_learning_rates(self, classifier: nn.Module) -> None:
        """Tries the rates on the development digits; lowest eq. 5 wins, which needs no truth."""
        trials = self.results.setdefault("learning_rate_trials", {})
        chosen = self.sets.development
        labels = self.labels[chosen]
        for form in FORMS:
            for rate in LEARNING_RATES:
                of_form = trials.setdefault(form, {})
                if str(rate) in of_form:
                    continue
                network = self.network(CHOSEN_AT)
                corrupted = corrupt(self.digits, chosen, CHOSEN_AT)
                refined = [
                    refine(
                        network,
                        corrupted[part],
                        [PRIORS[label] for label in labels[part]],
                        form=form,
                        learning_rate=rate,
                        steps=STEPS,
                    )
                    for part in np.split(
                        np.arange(len(chosen)), range(AT_ONCE, len(chosen), AT_ONCE)
                    )
                ]
                last = np.concatenate([part.last for part in refined])
                scores = score(last, self.digits[chosen], labels, classifier)
                of_form[str(rate)] = {
                    "objective": float(np.mean([part.objective for part in refined])),
                    "accuracy": float(np.mean(_unpacked(scores["digit"]) == labels)),
                    "mse": float(np.mean(scores["mse"])) * MSE_UNIT,
                    "right": float(np.mean(_unpacked(scores["right"]))),
                }
                self.save()

    def learning_rate(self, form: Form) -> float:
        """Returns the rate that was chosen."""
        trials = self.results["learning_rate_trials"][form]
        return float(min(trials, key=lambda rate: trials[rate]["objective"]))

    def refine_until(self, lines: int, until: int, classifier: nn.Module) -> int:
        """Refines and scores the test digits up to that one, and returns how many they were."""
        began = perf_counter()
        start = self.done(lines)
        chosen = self.sets.test[start:until]
        labels, clean = self.labels[chosen], self.digits[chosen]
        network = self.network(lines)
        corrupted = corrupt(self.digits, chosen, lines)
        with torch.no_grad():
            before = network(torch.from_numpy(corrupted)[:, None]).numpy()[:, 0]
        columns = {
            "label": _packed(labels),
            "corrupted": score(corrupted, clean, labels, classifier),
            "before": score(before, clean, labels, classifier),
        }
        for form in FORMS:
            refined = refine(
                network,
                corrupted,
                [PRIORS[label] for label in labels],
                form=form,
                learning_rate=self.learning_rate(form),
                steps=STEPS,
            )
            columns[form] = score(refined.last, clean, labels, classifier)
            stopped = score(refined.stopped, clean, labels, classifier)
            columns[f"{form}, stopped"] = stopped | {"steps": refined.steps.tolist()}
        columns["seconds"] = [round(perf_counter() - began, 1)]
        of_lines = self.results.setdefault("lines", {})
        of_lines[str(lines)] = _appended(of_lines.get(str(lines)), columns)
        self.save()
        return len(chosen)

    def save(self) -> None:
        """Writes what is known, in one step."""
        text = json.dumps(self.results, separators=(",", ":"))
        _replace(self.file, lambda partial: partial.write_text(text + "\n"))

    def _kept(self, name: str, untrained: nn.Module, train: Callable[[], nn.Module]) -> Any:
        """Returns a trained network, from its file if there is one."""
        file = self.folder / name
        if file.is_file():
            untrained.load_state_dict(torch.load(file, weights_only=True))
            return untrained
        print(f"training {name}", file=sys.stderr)
        network = train()
        _replace(file, lambda partial: torch.save(network.state_dict(), partial))
        return network


def _appended(columns: Any, more: Any) -> Any:
    """Returns the columns with more entries; they may be nested in dictionaries."""
    if columns is None:
        return more
    if isinstance(columns, dict):
        return {key: _appended(columns[key], more[key]) for key in columns}
    return columns + more


def _replace(file: Path, write: Callable[[Path], object]) -> None:
    partial = file.with_name(file.name + ".partial")
    write(partial)
    partial.replace(file)


def tables(results: dict[str, Any]) -> str:
    """Returns the tables in Markdown, ours beside the paper's; * marks p < 0.05, uncorrected."""
    of_lines = [(int(lines), found) for lines, found in results["lines"].items()]
    head = "| m | digits | restored |" + "".join(f" {form} | p |" for form in FORMS)
    rule = "|---" * (3 + 2 * len(FORMS))
    accuracy = [f"{head} paper, restored | paper, refined |", f"{rule}|---|---|"]
    error = [accuracy[0], accuracy[1]]
    names = ["before", *FORMS, *(f"{form}, stopped" for form in FORMS)]
    titles = ["restored", *FORMS, *(f"{form}, stopped" for form in FORMS)]
    right = ["| m | " + " | ".join(titles) + " |", "|---" * (1 + len(titles)) + "|"]
    stopped = list(right)
    told = [right[0].replace("| m |", "| m | corrupted |"), right[1] + "---|"]
    for lines, found in of_lines:
        labels = _unpacked(found["label"])
        correct = {name: _unpacked(found[name]["digit"]) == labels for name in names}
        mse = {name: np.array(found[name]["mse"]) * MSE_UNIT for name in names}
        paper = PAPER[lines]
        accuracy.append(
            f"| {lines} | {len(labels)} | {_percent(correct['before'])} |"
            + "".join(
                f" {_percent(correct[form])}{_p(mcnemar_p(correct['before'], correct[form]))} |"
                for form in FORMS
            )
            + f" {paper[0]:.1%} | {paper[1]:.1%} |"
        )
        error.append(
            f"| {lines} | {len(labels)} | {mse['before'].mean():.4f} |"
            + "".join(
                f" {mse[form].mean():.4f}{_p(wilcoxon_p(mse[form] - mse['before']))} |"
                for form in FORMS
            )
            + f" {paper[2]:.3f} | {paper[3]:.3f} |"
        )
        right.append(_row(lines, [_unpacked(found[name]["right"]) for name in names]))
        stopped.append(_row(lines, [correct[name] for name in names]))
        told.append(
            _row(
                lines,
                [
                    _unpacked(found[name]["digit_of_topology"]) == labels
                    for name in ("corrupted", *names)
                ],
            )
        )
    return "\n".join(
        [
            "Accuracy, McNemar's exact test against restored:\n",
            *accuracy,
            "\nMean squared error, Wilcoxon's signed-rank test against restored:\n",
            *error,
            "\nBetti numbers right at 0.5:\n",
            *right,
            "\nAccuracy, also when stopped as soon as the Betti numbers are right:\n",
            *stopped,
            "\nAccuracy among the digits of the true topology:\n",
            *told,
            "",
            *(_together(results["lines"], form) for form in FORMS),
        ]
    )


def _together(of_lines: dict[str, Any], form: str) -> str:
    """Returns what all numbers of lines say together; the same digits are in each, so by digit."""
    shared = min(len(found["label"]) for found in of_lines.values())
    before, after = (
        np.mean(
            [
                _unpacked(found[name]["digit"][:shared]) == _unpacked(found["label"][:shared])
                for found in of_lines.values()
            ],
            axis=0,
        )
        for name in ("before", form)
    )
    return (
        f"All m, the first {shared} digits, {form}: accuracy {_percent(before)} restored, "
        f"{_percent(after)} refined, p = {wilcoxon_p(after - before):.2g} (Wilcoxon over digits)"
    )


def mcnemar_p(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """Returns the two-sided p-value of McNemar's exact test, 1 where nothing differs."""
    counts = [[np.sum(before & after), np.sum(before & ~after)],
              [np.sum(~before & after), np.sum(~before & ~after)]]  # fmt: skip
    return float(mcnemar(counts, exact=True).pvalue)


def wilcoxon_p(differences: NDArray[np.float64]) -> float:
    """Returns the two-sided p-value of the signed-rank test, 1 where nothing differs."""
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def _percent(shares: NDArray[Any]) -> str:
    return f"{np.mean(shares):.1%}"


def _p(p: float) -> str:
    return f"{'*' if p < 0.05 else ''} | {p:.2g}"


def _row(lines: int, columns: Sequence[NDArray[Any]]) -> str:
    return f"| {lines} | " + " | ".join(_percent(column) for column in columns) + " |"


def draw_three_priors(experiment: Experiment, file: Path) -> None:
    """Draws the paper's figure 6: the same digit, a 3, refined by three priors, with barcodes.

    It is the first 3 of the development digits that reaches all three; the first, if none does.
    """
    network = experiment.network(CHOSEN_AT)
    chosen = experiment.sets.development
    threes = chosen[experiment.labels[chosen] == 3]
    priors = [(1, 0), (1, 1), (1, 2)]
    found = []
    for digit in threes:
        corrupted = corrupt(experiment.digits, np.array([digit]), CHOSEN_AT)
        refined = refine(
            network,
            np.repeat(corrupted, len(priors), axis=0),
            priors,
            form=FORMS[0],
            learning_rate=experiment.learning_rate(FORMS[0]),
            steps=STEPS,
        ).last
        found.append((digit, corrupted[0], refined))
        if are_right(refined, priors).all():
            break
    else:
        found.append(found[0])
    digit, corrupted, refined = found[-1]
    with torch.no_grad():
        restored = network(torch.from_numpy(corrupted)[None, None]).numpy()[0, 0]
    images = {
        "digit": experiment.digits[digit],
        f"{CHOSEN_AT} + {CHOSEN_AT} lines removed": corrupted,
        "restored": restored,
        **{f"prior {prior}": image for prior, image in zip(priors, refined, strict=True)},
    }
    figure, axes = plt.subplots(
        2, len(images), figsize=(11, 3.1), height_ratios=(2, 1), constrained_layout=True
    )
    for (upper, lower), (title, image) in zip(axes.T, images.items(), strict=True):
        upper.imshow(image, cmap="gray", vmin=0, vmax=1)
        upper.set_title(title, fontsize=10)
        upper.set_axis_off()
        if image is experiment.digits[digit] or image is corrupted:
            lower.set_axis_off()
            continue
        pairs = persistence_pairs(image)
        row = 0
        for k, colour in ((0, "#c03a2b"), (1, "#2c8a4b")):
            for birth, death in pairs.diagram(image, k):
                if birth - death > 0.03:
                    lower.plot([birth, death], [row, row], color=colour, linewidth=2)
                    row += 1
        lower.set(xlim=(1, 0), ylim=(-1, max(5, row)), yticks=[], xticks=[1, 0.5, 0])
    _replace(file, lambda partial: figure.savefig(partial, format="png", dpi=80))
    plt.close(figure)


def main() -> None:
    """Parses the command line, does what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("NNUNET_TOPO_DATA", "../shared/data"),
        help="folder that holds mnist (default: NNUNET_TOPO_DATA, else ../shared/data)",
    )
    parser.add_argument("-o", "--output", type=Path, default="clough-mnist", help="folder")
    parser.add_argument(
        "--digits", type=int, default=130, help="test digits for each m, up to 1000 (default 130)"
    )
    arguments = parser.parse_args()
    if not 1 <= arguments.digits <= 1000:
        parser.error(f"--digits must be from 1 to 1000, got {arguments.digits}")
    try:
        experiment = Experiment(arguments.data, arguments.output)
    except (OSError, EOFError, ValueError) as error:
        parser.error(str(error))
    experiment.run(arguments.digits)
    draw_three_priors(experiment, arguments.output / "figure_6.png")
    print(tables(experiment.results))


if __name__ == "__main__":
    main()
