"""Dice alone, Fu's baseline."""

from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerDice(TopologyTrainerMixin, nnUNetTrainer):
    """Soft Dice, no topology term."""

    base_loss = "Dice"

    def build_base_loss(self, stock: Any) -> nn.Module:
        """Returns nnU-Net's loss without its cross-entropy."""
        stock.weight_ce = 0
        return stock
