"""Optimizer and learning rate schedule that the settings of a trainer name."""

from collections.abc import Iterable
from typing import Any

from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from nnunet_topo.training.settings import Settings


def check_stages(settings: Settings, stage: tuple[Any, ...], *, trainer: str, base: str) -> None:
    """Checks that the settings name no optimizer for a trainer that changes its own in stages.

    Args:
        settings: of the trainer's name.
        stage: that nnU-Net's trainer asks for; empty if it has none.
        trainer: name of the trainer.
        base: nnU-Net's trainer that it derives from.

    Raises:
        NotImplementedError: they name one.
    """
    if stage and (settings.adam or settings.cosine or settings.step):
        raise NotImplementedError(
            f"{trainer}: adam, cosine and step are one schedule for the whole training, but {base} "
            f"changes its own in stages, now {stage[0]!r}; leave them out"
        )


def chosen_optimizer(
    settings: Settings,
    optimizer: Optimizer,
    lr_scheduler: Any,
    *,
    weights: Iterable[nn.Parameter],
    lr: float,
    weight_decay: float,
    epochs: int,
) -> tuple[Optimizer, Any]:
    """Returns the optimizer and the schedule that the settings name, else nnU-Net's.

    Args:
        settings: of the trainer's name.
        optimizer: nnU-Net's.
        lr_scheduler: nnU-Net's.
        weights: of the network.
        lr: initial learning rate.
        weight_decay: of Adam.
        epochs: of the training.
    """
    if settings.adam:
        optimizer = Adam(weights, lr, weight_decay=weight_decay)
        lr_scheduler = PolyLRScheduler(optimizer, lr, epochs)
    if settings.cosine:
        lr_scheduler = CosineAnnealingLR(optimizer, T_max=epochs)
    if settings.step:  # Fu et al. 2023, section 3.1: 1e-3, then 1e-4 for as many epochs
        lr_scheduler = MultiStepLR(optimizer, milestones=[epochs // 2], gamma=0.1)
    return optimizer, lr_scheduler
