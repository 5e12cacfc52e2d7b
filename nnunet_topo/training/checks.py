"""Checks that a training runs before it writes anything."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_topo.training.checkpoints import has_checkpoint, sibling_trainings
from nnunet_topo.training.context import TrainingContext
from nnunet_topo.training.starting_weights import find_stock_training


def check_bases(trainer: type, mixin: type) -> None:
    """Checks that no trainer of nnU-Net comes before our mixin and overrides it.

    Args:
        trainer: class of the training.
        mixin: base class of all our trainers.

    Raises:
        TypeError: a trainer of nnU-Net comes first. The message shows the right order.
    """
    order = trainer.__mro__
    for base in order[: order.index(mixin)]:
        of_nnunet = base.__module__.startswith("nnunetv2.")
        if of_nnunet and not issubclass(base, mixin):  # people put their own trainers there, too
            name = trainer.__name__
            ours = next(c.__name__ for c in order if c.__module__.startswith("nnunet_topo."))
            raise TypeError(
                f"{name} derives from {base.__name__} before {ours}, so {base.__name__} overrides "
                f"part of the mixin: write class {name}({ours}, {base.__name__})"
            )


def check_steps(trainer: type, steps: int) -> None:
    """Checks that the steps of an epoch were ours.

    Raises:
        TypeError: a method overrides them, so that there was no topology term.
    """
    if not steps:
        raise TypeError(
            f"{trainer.__name__} has a train_step of its own that does not call that of the mixin, "
            "so nothing of nnunet-topo was computed: call super().train_step(batch), or put the "
            "method into a trainer behind the mixin"
        )


def fold_folder(trainer: str, plans: dict[str, Any], configuration: str, fold: int | str) -> Path:
    """Returns the folder into which nnU-Net will write a fold of a training.

    Args:
        trainer: name with settings.
        plans: nnU-Net's.
        configuration: such as 3d_fullres.
        fold: number, or "all".

    Raises:
        RuntimeError: nnUNet_results is not set.
    """
    results = os.environ.get("nnUNet_results")  # noqa: SIM112 # nnU-Net's spelling
    if results is None:
        raise RuntimeError(
            "the environment variable nnUNet_results is not set. It must name the folder for "
            "trained models, e.g. export nnUNet_results=/data/nnUNet_results"
        )
    model = f"{trainer}__{plans['plans_name']}__{configuration}"
    return Path(results) / plans["dataset_name"] / model / f"fold_{fold}"


def check_fold_folder(folder: Path, stem: str, *, finetune: bool, resumes: bool) -> None:
    """Checks that the training exists which a new training starts from or resumes.

    Args:
        folder: of the fold.
        stem: the trainer's name without settings.
        finetune: whether the training starts from the finished stock training.
        resumes: whether --c was given.

    Raises:
        RuntimeError: there is no stock training to start from, or there is no checkpoint to resume
            from and the same fold was trained with other settings.
    """
    if has_checkpoint(folder):
        return
    source = find_stock_training(folder).parents[1].name if finetune else ""
    siblings = sibling_trainings(folder, stem) if resumes else []
    siblings = [name for name in siblings if not source.startswith(f"{name}__")]
    if siblings:
        raise RuntimeError(
            f"--c: {folder} contains no checkpoint, and nnU-Net would start a new training. The "
            f"same fold was trained as {', '.join(siblings)}. Settings are part of the name: to "
            "resume, use -tr with that name. To start a new training, leave out --c"
        )


def check_previous_stage(
    folder: Path,
    cases: set[str],
    *,
    trainer: str,
    configuration: str,
    previous: str,
    fold: int | str,
) -> None:
    """Checks that the previous stage of a cascade has predicted all cases.

    If a prediction is missing, nnU-Net's workers crash.

    Args:
        folder: of the segmentations of the previous stage.
        cases: for training and validation.
        trainer: name with settings.
        configuration: of the second stage.
        previous: configuration of the first one.
        fold: number, or "all".

    Raises:
        RuntimeError: the prediction of a case is missing.
    """
    predicted = {file.stem for file in folder.iterdir()} if folder.is_dir() else set()
    missing = sorted(cases - predicted)
    if missing:
        raise RuntimeError(
            f"{configuration}: {len(missing)} of {len(cases)} cases, such as {missing[0]}, have no "
            f"segmentation in {folder}. The cascade uses segmentations of the same trainer with "
            f"the same settings. First run nnUNetv2_train with {previous} and -tr {trainer} on "
            + ("fold all" if fold == "all" else "all folds, not on fold all, which sees all cases")
        )


def check_planes(planes: Sequence[int] | None, context: TrainingContext) -> None:
    """Checks that the setting planes<n-n> is only used in a training on volumes.

    Raises:
        ValueError: patches are images, which are not projected.
    """
    if planes is not None and context.space == 2:
        raise ValueError(
            f"planes<n-n> chooses projections of volumes, but {context.configuration} trains on "
            "images: leave it out"
        )
