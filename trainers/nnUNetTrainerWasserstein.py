"""The topology term of TAFL on top of nnU-Net's own loss."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerWasserstein(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + weight * Wasserstein distance, matched in space."""

    term = "Wasserstein distance, matched in space"
    papers = ("demir2023",)
    control = "nnUNetTrainerStock"
    topology_weight = 0.001
    term_settings = ("ce", "dice", "clamp<x>", "optimal", "face")

    def build_topology_term(self):
        """Returns the Wasserstein distance in all dimensions."""
        return WassersteinLoss(
            matching=self.settings.matching,
            connectivity=self.settings.connectivity,
            clamp=self.clamp,
        )
