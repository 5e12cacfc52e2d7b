"""Cross-entropy alone, Demir's baseline."""

from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunet_topo.nnunet.trainer import TopologyTrainerMixin


class nnUNetTrainerCrossEntropy(TopologyTrainerMixin, nnUNetTrainer):
    """Cross-entropy (regions: binary), no topology term."""

    def build_base_loss(self, stock: Any) -> nn.Module:
        """Returns nnU-Net's loss without its Dice."""
        stock.weight_dice = 0
        return stock
