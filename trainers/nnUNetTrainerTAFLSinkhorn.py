"""TAFL with the matching as printed, Demir et al. 2023, Algorithm 1."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.base_losses import FocalBaseLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerTAFLSinkhorn(TopologyTrainerMixin, nnUNetTrainer):
    """Focal loss + 0.001 * Demir's Sinkhorn distance, as printed."""

    base_loss = "focal"
    term = "Wasserstein distance, Demir's Algorithm 1"
    papers = ("demir2023",)
    control = "nnUNetTrainerFocal"
    topology_weight = 0.001
    wanted_ratio = None  # the weight is used as printed
    term_settings = ("clamp<x>", "face")

    def build_base_loss(self, stock):
        """Returns the focal loss, on label maps or regions."""
        return FocalBaseLoss(self.label_manager)

    def build_topology_term(self):
        """Returns the Wasserstein distance in all dimensions."""
        return WassersteinLoss(
            matching="sinkhorn", connectivity=self.settings.connectivity, clamp=self.clamp
        )
