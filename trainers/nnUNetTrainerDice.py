"""Only Dice, Fu's baseline."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.training.base_losses import DiceBaseLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerDice(TopologyTrainerMixin, nnUNetTrainer):
    """Soft Dice, no topology term."""

    base_loss = "Dice"

    def build_base_loss(self, stock):
        """Returns nnU-Net's loss without its cross-entropy."""
        return DiceBaseLoss(stock)
