"""The experiment, which saves each part as soon as it is finished, and resumes."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from experiments.clough_mnist.digits import (
    PRIORS,
    SEED,
    DigitSets,
    corrupt,
    digit_sets,
    read_digits,
)
from experiments.clough_mnist.networks import (
    FEATURES,
    UNet,
    new_classifier,
    train_classifier,
    train_network,
)
from experiments.clough_mnist.refinement import FORMS, WEIGHT, Form, are_right, refine
from nnunet_topo.files import replacing, write_whole

AT_ONCE = 10  # digits refined at the same time
MSE_UNIT = 1e-6  # results.json holds errors as whole numbers of this unit


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that vary.

    Attributes:
        lines: numbers m of rows and of columns that are removed, the paper's.
        steps: of Adam in a refinement, the paper's.
        epochs: of the restoring network's training.
        learning_rates: of the refinement; one of them is chosen, because the paper prints none.
        chosen_at: m at which it is chosen.
    """

    lines: tuple[int, ...] = (2, 4, 6, 8, 10, 12)
    steps: int = 100
    epochs: int = 30
    learning_rates: tuple[float, ...] = (1e-5, 1e-4, 1e-3)
    chosen_at: int = 8


def score(
    images: NDArray[np.float32],
    clean: NDArray[np.float32],
    labels: NDArray[np.int64],
    classifier: nn.Module,
) -> dict[str, Any]:
    """Returns the entry of results.json for restored digits, one value per digit in each list.

    Keys: digit, the class that the classifier chose; digit_of_topology, its choice among the digits
    of the same topology; right, whether the Betti numbers are right; mse, in `MSE_UNIT`.
    """
    with torch.no_grad():
        logits = classifier(torch.from_numpy(images)[:, None]).numpy()
    priors = np.array(list(PRIORS.values()))
    other = (priors[labels][:, None] != priors[None]).any(axis=2)
    mse = ((images - clean) ** 2).mean(axis=(1, 2))
    return {
        "digit": packed(logits.argmax(axis=1)),
        "digit_of_topology": packed(np.where(other, -np.inf, logits).argmax(axis=1)),
        "right": packed(are_right(images, [PRIORS[label] for label in labels])),
        "mse": np.round(mse / MSE_UNIT).astype(int).tolist(),
    }


def packed(digits: NDArray[Any]) -> str:
    """Returns digits as one string, a tenth of what a list takes in JSON."""
    return "".join(str(int(digit)) for digit in digits)


def unpacked(digits: str) -> NDArray[np.int64]:
    """Returns the digits of a string."""
    return np.array([int(digit) for digit in digits])


class Experiment:
    """The experiment and its results; each part is saved as soon as it is finished."""

    def __init__(self, data: Path, folder: Path, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.digits, self.labels = read_digits(data)
        self.sets: DigitSets = digit_sets(len(self.digits))
        self.folder = folder
        self.file = folder / "results.json"
        recorded = {
            "seed": SEED,
            "weight": WEIGHT,
            "steps": self.settings.steps,
            "features": FEATURES,
            "epochs": self.settings.epochs,
            "learning_rates": self.settings.learning_rates,
            "digits_in": {
                "network": len(self.sets.network),
                "development": len(self.sets.development),
                "test": len(self.sets.test),
                "classifier": len(self.sets.classifier),
            },
        }
        recorded = json.loads(json.dumps(recorded))
        self.results: dict[str, Any] = {"settings": recorded}
        if self.file.is_file():
            self.results = json.loads(self.file.read_text())
            if self.results.get("settings") != recorded:
                raise ValueError(f"{self.file} has other settings: choose another folder")
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, digits: int) -> None:
        """Runs the missing parts, for up to this many test digits for each number of lines."""
        classifier = self.classifier()
        self.choose_learning_rates(classifier)
        total = len(self.settings.lines) * digits
        done = sum(self.done(lines) for lines in self.settings.lines)
        with tqdm(total=total, initial=min(done, total), unit=" digits", disable=None) as progress:
            for start in range(0, digits, AT_ONCE):
                # All settings advance together, so that an interruption is fair to each.
                for lines in self.settings.lines:
                    until = min(digits, start + AT_ONCE)
                    if self.done(lines) < until:
                        progress.update(self.refine_until(lines, until, classifier))

    def done(self, lines: int) -> int:
        """Returns the number of refined test digits."""
        return len(self.results.get("lines", {}).get(str(lines), {}).get("label", ""))

    def classifier(self) -> nn.Module:
        """Returns the classifier, after training it if necessary."""

        def train() -> nn.Module:
            chosen = self.sets.classifier
            return train_classifier(self.digits[chosen], self.labels[chosen])

        classifier = self._kept("classifier.pt", new_classifier(), train).eval()
        if "clean" not in self.results:
            clean, labels = self.digits[self.sets.test], self.labels[self.sets.test]
            scores = score(clean, clean, labels, classifier)
            self.results["clean"] = {
                "accuracy": float(np.mean(unpacked(scores["digit"]) == labels)),
                "right": float(np.mean(unpacked(scores["right"]))),
            }
            self.save()
        return classifier

    def network(self, lines: int) -> UNet:
        """Returns the network for a number of removed lines, after training it if necessary."""

        def train() -> UNet:
            chosen = self.sets.network
            corrupted = corrupt(self.digits, chosen, lines)
            return train_network(corrupted, self.digits[chosen], epochs=self.settings.epochs)

        return self._kept(f"network_{lines}.pt", UNet(), train)

    def choose_learning_rates(self, classifier: nn.Module) -> None:
        """Tries the rates on the development digits; the lowest eq. 5 wins and needs no truth."""
        trials = self.results.setdefault("learning_rate_trials", {})
        chosen = self.sets.development
        labels = self.labels[chosen]
        for form in FORMS:
            for rate in self.settings.learning_rates:
                of_form = trials.setdefault(form, {})
                if str(rate) in of_form:
                    continue
                network = self.network(self.settings.chosen_at)
                corrupted = corrupt(self.digits, chosen, self.settings.chosen_at)
                refined = [
                    refine(
                        network,
                        corrupted[part],
                        [PRIORS[label] for label in labels[part]],
                        form=form,
                        learning_rate=rate,
                        steps=self.settings.steps,
                    )
                    for part in np.split(
                        np.arange(len(chosen)), range(AT_ONCE, len(chosen), AT_ONCE)
                    )
                ]
                last = np.concatenate([part.last for part in refined])
                scores = score(last, self.digits[chosen], labels, classifier)
                of_form[str(rate)] = {
                    "objective": float(np.mean([part.objective for part in refined])),
                    "accuracy": float(np.mean(unpacked(scores["digit"]) == labels)),
                    "mse": float(np.mean(scores["mse"])) * MSE_UNIT,
                    "right": float(np.mean(unpacked(scores["right"]))),
                }
                self.save()

    def learning_rate(self, form: Form) -> float:
        """Returns the chosen rate."""
        trials = self.results["learning_rate_trials"][form]
        return float(min(trials, key=lambda rate: trials[rate]["objective"]))

    def refine_until(self, lines: int, until: int, classifier: nn.Module) -> int:
        """Refines and scores the test digits up to that index, and returns how many were new."""
        began = perf_counter()
        start = self.done(lines)
        chosen = self.sets.test[start:until]
        labels, clean = self.labels[chosen], self.digits[chosen]
        network = self.network(lines)
        corrupted = corrupt(self.digits, chosen, lines)
        with torch.no_grad():
            before = network(torch.from_numpy(corrupted)[:, None]).numpy()[:, 0]
        columns = {
            "label": packed(labels),
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
                steps=self.settings.steps,
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
        """Writes the results in one step."""
        text = json.dumps(self.results, separators=(",", ":"))
        write_whole(self.file, text + "\n")

    def _kept(self, name: str, untrained: nn.Module, train: Callable[[], nn.Module]) -> Any:
        """Returns a trained network, from its file if it exists."""
        file = self.folder / name
        if file.is_file():
            untrained.load_state_dict(torch.load(file, weights_only=True))
            return untrained
        print(f"training {name}", file=sys.stderr)
        network = train()
        with replacing(file) as new:
            torch.save(network.state_dict(), new)
        return network


def _appended(columns: Any, more: Any) -> Any:
    """Returns the columns with more entries; they may be nested in dictionaries."""
    if columns is None:
        return more
    if isinstance(columns, dict):
        return {key: _appended(columns[key], more[key]) for key in columns}
    return columns + more
