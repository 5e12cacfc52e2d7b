"""TAFL, Demir et al. 2023."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.base_losses import FocalBaseLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerTAFL(TopologyTrainerMixin, nnUNetTrainer):
    """Focal loss + weight * Wasserstein distance of the diagrams, matched in space."""

    base_loss = "focal"
    term = "Wasserstein distance, matched in space"
    papers = ("demir2023",)
    control = "nnUNetTrainerFocal"
    topology_weight = 0.001
    term_settings = ("clamp<x>", "optimal", "face")

    def build_base_loss(self, stock):
        """Returns the focal loss, on label maps or regions."""
        return FocalBaseLoss(self.label_manager)

    def build_topology_term(self):
        """Returns the Wasserstein distance in all dimensions."""
        return WassersteinLoss(
            matching=self.settings.matching,
            connectivity=self.settings.connectivity,
            clamp=self.clamp,
        )
