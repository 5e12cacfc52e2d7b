"""Only cross-entropy, Demir's baseline."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.training.base_losses import CrossEntropyBaseLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerCrossEntropy(TopologyTrainerMixin, nnUNetTrainer):
    """Cross-entropy (regions: binary), no topology term."""

    base_loss = "cross-entropy"

    def build_base_loss(self, stock):
        """Returns nnU-Net's loss without its Dice."""
        return CrossEntropyBaseLoss(stock)
