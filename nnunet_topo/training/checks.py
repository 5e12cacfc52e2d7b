"""What is checked before a training writes anything."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_topo.training.checkpoints import has_checkpoint, sibling_trainings
from nnunet_topo.training.context import TrainingContext
from nnunet_topo.training.starting_weights import find_stock_training


def check_bases(trainer: type, mixin: type) -> None:
    """Checks that no trainer of nnU-Net stands before our mixin and overrides it.

    Args:
        trainer: class that is to be trained.
        mixin: that all our trainers derive from.

    Raises:
        TypeError: one does; the message shows the right order.
    """
    order = trainer.__mro__
    for base in order[: order.index(mixin)]:
        if base.__module__.startswith("nnunetv2."):
            name = trainer.__name__
            ours = next(c.__name__ for c in order if c.__module__.startswith("nnunet_topo."))
            raise TypeError(
                f"{name} derives from {base.__name__} before {ours}, which undoes part of "
                f"what the mixin does: write class {name}({ours}, {base.__name__})"
            )


def fold_folder(trainer: str, plans: dict[str, Any], configuration: str, fold: int | str) -> Path:
    """Returns the folder in which nnU-Net will write a fold of a training.

    Args:
        trainer: name with settings.
        plans: nnU-Net's.
        configuration: such as 3d_fullres.
        fold: number, or "all".

    Raises:
        RuntimeError: nnUNet_results is not set.
    """
    results = os.environ.get("nnUNet_results")  # noqa: SIM112 # nnU-Net spells it so
    if results is None:
        raise RuntimeError(
            "the environment variable nnUNet_results is not set: it must name the folder for "
            "trained models, e.g. export nnUNet_results=/data/nnUNet_results"
        )
    model = f"{trainer}__{plans['plans_name']}__{configuration}"
    return Path(results) / plans["dataset_name"] / model / f"fold_{fold}"


def check_fold_folder(folder: Path, stem: str, *, finetune: bool, resumes: bool) -> None:
    """Checks that a training finds what it is to start from.

    Args:
        folder: of the fold.
        stem: the trainer's name without settings.
        finetune: whether it starts from the finished stock training.
        resumes: whether --c was given.

    Raises:
        RuntimeError: there is no stock training, or no checkpoint to resume from although the same
            fold was trained with other settings.
    """
    if has_checkpoint(folder):
        return
    if finetune:
        find_stock_training(folder)
    siblings = sibling_trainings(folder, stem) if resumes else []
    if siblings:
        raise RuntimeError(
            f"--c: {folder} holds no checkpoint, and nnU-Net would start a new training. The "
            f"same fold was trained as {', '.join(siblings)}: settings are part of the name, so "
            "resume with -tr and that name. For a new training leave out --c"
        )


def check_previous_stage(
    context: TrainingContext, folder: Path, cases: set[str], trainer: str
) -> None:
    """Checks that the previous stage of a cascade has predicted all cases.

    nnU-Net's workers would die of a missing one.

    Args:
        context: of the training of the second stage.
        folder: of the segmentations of the previous stage.
        cases: for training and validation.
        trainer: name with settings.

    Raises:
        RuntimeError: a case is missing.
    """
    predicted = {file.stem for file in folder.iterdir()} if folder.is_dir() else set()
    missing = sorted(cases - predicted)
    if missing:
        raise RuntimeError(
            f"{context.configuration}: {len(missing)} of {len(cases)} cases, such as {missing[0]}, "
            f"have no segmentation in {folder}. The cascade uses those of the same trainer and "
            f"settings: first run nnUNetv2_train with {context.previous_stage} and -tr {trainer} "
            "on all folds, or on fold all"
        )


def check_planes(planes: Sequence[int] | None, context: TrainingContext) -> None:
    """Checks that the setting planes<n-n> is that of a training on volumes.

    Raises:
        ValueError: patches are images, which are their own projection.
    """
    if planes is not None and context.space == 2:
        raise ValueError(
            f"planes<n-n> names projections of volumes, but {context.configuration} trains on "
            "images: leave it out"
        )
