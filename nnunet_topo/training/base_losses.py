"""Base losses that replace nnU-Net's Dice + cross-entropy, each for one scale."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn

from nnunet_topo.losses import FocalLoss, least_confident_neighbours
from nnunet_topo.training.channels import one_hot_of, split_ignored
from nnunet_topo.training.scales import as_tensor
from nnunet_topo.training.settings import Settings


class FocalBaseLoss(nn.Module):
    """Returns the focal loss of one scale of nnU-Net's output, without ignored voxels."""

    def __init__(self, label_manager: LabelManager) -> None:
        super().__init__()
        self.focal = FocalLoss()
        self.label_manager = label_manager

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss. The target is a label map, or regions [+ ignore]."""
        target, mask = split_ignored(target, self.label_manager)
        return self.focal(logits, target, mask)


class NeighbourBaseLoss(nn.Module):
    """Returns a base loss of logits that are replaced by their least confident neighbours (SCNP).

    Without gradients, as in validation, it is the base loss of the logits themselves.

    Args:
        base: loss of one scale of nnU-Net's output.
        label_manager: nnU-Net's.
    """

    def __init__(self, base: nn.Module, label_manager: LabelManager) -> None:
        super().__init__()
        self.base, self.label_manager = base, label_manager

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss; the target is a label map, or regions [+ ignore]."""
        if torch.is_grad_enabled():
            classes, mask = split_ignored(target, self.label_manager)
            if not self.label_manager.has_regions:
                classes = one_hot_of(classes, range(logits.shape[1]))
            logits = least_confident_neighbours(logits, classes, mask)
        return self.base(logits, target)


class _PartOfStockLoss(nn.Module):
    """Returns nnU-Net's loss of one scale, without one of its two parts."""

    left_out: ClassVar[str]  # attribute of nnU-Net's loss with the weight of that part

    def __init__(self, stock: Any) -> None:
        super().__init__()
        setattr(stock, self.left_out, 0)
        self.stock = stock

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss, 0 if all voxels are ignored."""
        return as_tensor(self.stock(logits, target), logits)


class DiceBaseLoss(_PartOfStockLoss):
    """Returns the soft Dice of nnU-Net's loss, without its cross-entropy."""

    left_out = "weight_ce"


class CrossEntropyBaseLoss(_PartOfStockLoss):
    """Returns the cross-entropy (regions: binary) of nnU-Net's loss, without its Dice."""

    left_out = "weight_dice"


@dataclass(frozen=True, slots=True)
class ReplacedBaseLoss:
    """A base loss that replaces nnU-Net's because of a setting.

    Attributes:
        loss: class of the loss; takes nnU-Net's loss of one scale.
        words: its name for users.
        control: trainer that uses only this loss.
    """

    loss: type[_PartOfStockLoss]
    words: str
    control: str


def replaced_base_loss(settings: Settings) -> ReplacedBaseLoss | None:
    """Returns the base loss that the settings name, None if they name none."""
    if settings.ce:
        return ReplacedBaseLoss(CrossEntropyBaseLoss, "cross-entropy", "nnUNetTrainerCrossEntropy")
    if settings.dice:
        return ReplacedBaseLoss(DiceBaseLoss, "Dice", "nnUNetTrainerDice")
    return None
