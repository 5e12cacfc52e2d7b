"""What this package recommends for thin, branching structures: recall and persistence together."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerTopology(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + Skeleton Recall + weight * Wasserstein distance."""

    term = "Wasserstein distance, matched in space"
    papers = ("demir2023",)
    control = "nnUNetTrainerStock"
    topology_weight = 0.001
    term_settings = ("ce", "dice", "clamp<x>", "optimal", "face")
    skelrecall = 1.0

    def build_topology_term(self):
        """Returns the Wasserstein distance in all dimensions."""
        return WassersteinLoss(
            matching=self.settings.matching,
            connectivity=self.settings.connectivity,
            clamp=self.clamp,
        )
