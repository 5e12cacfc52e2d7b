"""Several trainers on several folds, one training after the other, by nnU-Net's own command."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_topo.nnunet.commands import call, continued, last_lines
from nnunet_topo.nnunet.results import dataset_name


@dataclass(frozen=True, slots=True)
class Training:
    """One fold of one trainer.

    Attributes:
        trainer: its name.
        fold: a number, or all.
        folder: where nnU-Net leaves checkpoints and validation.
        command: nnUNetv2_train and its arguments.
    """

    trainer: str
    fold: str
    folder: Path
    command: tuple[str, ...]

    @property
    def summary(self) -> Path:
        """Returns the file that a validation ends with."""
        return self.folder / "validation" / "summary.json"

    @property
    def is_finished(self) -> bool:
        """Returns whether it was trained and validated."""
        return (self.folder / "checkpoint_final.pth").is_file() and self.summary.is_file()


def choose_trainings(
    dataset: str,
    configuration: str,
    plans: str,
    trainers: Sequence[str],
    folds: Sequence[str],
    options: Sequence[str] = (),
) -> list[Training]:
    """Returns all trainings, fold by fold, so that trainers can be compared early.

    Args:
        dataset: name or number.
        configuration: such as 3d_fullres.
        plans: such as nnUNetPlans.
        trainers: names, ours or others that nnU-Net finds.
        folds: numbers, or all.
        options: more arguments for nnUNetv2_train.

    Raises:
        ValueError: what nnU-Net would stop at, perhaps after days, such as a misspelt trainer.
    """
    for path in (nnUNet_results, nnUNet_preprocessed):
        if path.get() is None:
            raise ValueError("nnUNet_results and nnUNet_preprocessed must be set, as for nnU-Net")
    name = dataset_name(dataset)
    planned = Path(str(nnUNet_preprocessed)) / name / f"{plans}.json"
    cure = f"nnUNetv2_plan_and_preprocess -d {dataset} -c {configuration}"
    if not planned.is_file():
        raise ValueError(f"{planned} is missing; {cure} makes nnUNetPlans")
    configurations = json.loads(planned.read_text(encoding="utf-8"))["configurations"]
    if configuration not in configurations:
        raise ValueError(f"{planned} has no {configuration}, but {', '.join(configurations)}")
    for fold in folds:
        if not (fold.isdigit() or fold == "all"):
            raise ValueError(f"a fold is a number or all, got {fold!r}")
    for trainer in trainers:
        try:
            recursive_find_trainer_class_by_name(trainer)
        except RuntimeError:
            raise ValueError(
                f"nnU-Net finds no trainer {trainer}; of ours, nnunet-topo trainers --list has all"
            ) from None
    results = Path(str(nnUNet_results)) / name
    of_plans = ("-p", plans, *options)
    return [
        Training(
            trainer,
            fold,
            results / f"{trainer}__{plans}__{configuration}" / f"fold_{fold}",
            ("nnUNetv2_train", name, configuration, fold, "-tr", trainer, *of_plans),
        )
        for fold in dict.fromkeys(folds)
        for trainer in dict.fromkeys(trainers)
    ]


def train(
    trainings: Sequence[Training], logs: Path, tell: Callable[[str], object]
) -> list[Training]:
    """Trains and validates what is not finished, and returns what failed.

    A training that was interrupted goes on from its last checkpoint; one that fails does not keep
    the others from theirs.

    Args:
        trainings: in this order.
        logs: folder for what nnU-Net prints.
        tell: takes each line of progress.
    """
    logs.mkdir(parents=True, exist_ok=True)
    failed = []
    for number, training in enumerate(trainings, start=1):
        head = f"[{number}/{len(trainings)}] fold {training.fold}, {training.trainer}"
        if training.is_finished:
            tell(f"{head}: done before, {_dice(training)}")
            continue
        log = logs / f"{training.trainer}_fold_{training.fold}.log"
        tell(f"{head}: {log} ...")
        began = time.monotonic()
        status = call(continued(training.command, training.folder), log, os.environ)
        if status == 0 and training.is_finished:
            tell(f"    {(time.monotonic() - began) / 60:.1f} minutes, {_dice(training)}")
        else:
            failed.append(training)
            tell(f"{last_lines(log)}\n    failed with status {status}; all of it: {log}")
    return failed


def _dice(training: Training) -> str:
    summary = json.loads(training.summary.read_text(encoding="utf-8"))
    return f"mean validation Dice {summary['foreground_mean']['Dice']:.4f}"
