"""Focal loss, Demir's baseline."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.training.base_losses import FocalBaseLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerFocal(TopologyTrainerMixin, nnUNetTrainer):
    """Focal loss, no topology term: the control of TAFL."""

    base_loss = "focal"

    def build_base_loss(self, stock):
        """Returns the focal loss, on label maps or regions."""
        return FocalBaseLoss(self.label_manager)
