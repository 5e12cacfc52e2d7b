"""All trainers by name, and what the tests of trainings share."""

import random
import re
from pathlib import Path

import numpy as np
import torch

from nnunet_topo.training.augmentation import INTACT, note_apart

FILES = (Path(__file__).parents[1] / "trainers").glob("nnUNetTrainer*.py")
TRAINERS = sorted(file.stem for file in FILES)
SUPERVISED = [name for name in TRAINERS if "SemiSupervised" not in name]
WITHOUT_TERM = (
    *("Stock", "Focal", "CrossEntropy", "Dice"),
    *("SkeletonRecall", "ClDice", "SCNP"),
)


def batches(trainer, number=2):
    """Returns training batches as a step takes them apart, the same ones each time."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 # nnU-Net's loader draws from it
    torch.manual_seed(0)
    loader, _ = trainer.get_dataloaders()
    return [note_apart(next(loader)) for _ in range(number)]


def all_intact(batch):
    """Returns a batch without the note whose labels were interpolated: a term then takes all."""
    return {key: value for key, value in batch.items() if key != INTACT}


def weights(trainer):
    """Returns all weights of the network in one tensor."""
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


def names_of_the_papers():
    """Returns the names in the table of docs/losses.md that has the papers' settings, in order."""
    text = (Path(__file__).parents[1] / "docs/losses.md").read_text()
    section = text.split("## The papers' settings")[1].split("\n## ")[0]
    return list(dict.fromkeys(re.findall(r"`(nnUNetTrainer[\w.-]+)`", section)))


def steps_at_the_start_of_the_term(trainer, number=2):
    """Takes iterations in the term's first epoch, in the first where there is no term."""
    trainer.initialize()
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.current_epoch = 0 if trainer._schedule is None else trainer._schedule.start
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    return [trainer.train_step(batch) for batch in batches(trainer, number)]
