"""The Betti matching loss on top of nnU-Net's own loss."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import BettiMatchingLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerBettiMatching(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + 0.0005 * Betti matching loss."""

    term = "Betti matching loss"
    control = "nnUNetTrainerStock"
    topology_weight = 0.0005

    def build_topology_term(self):
        """Returns the Betti matching loss in all dimensions."""
        return BettiMatchingLoss(connectivity=self.settings.connectivity, clamp=self.clamp)
