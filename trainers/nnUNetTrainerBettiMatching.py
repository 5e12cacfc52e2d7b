"""Betti matching, Stucki et al. 2023 and 2024."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import BettiMatchingLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerBettiMatching(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + weight * Betti matching loss."""

    term = "Betti matching loss"
    papers = ("stucki2023", "stucki2024")
    control = "nnUNetTrainerStock"
    topology_weight = 0.0005  # ours: no paper trains nnU-Net with it
    term_settings = ("ce", "dice", "clamp<x>", "both", "push", "tau<x>", "tube<n>", "face")

    def build_topology_term(self):
        """Returns the Betti matching loss in all dimensions."""
        settings = self.settings
        return BettiMatchingLoss(
            filtration="both" if settings.both else "superlevel",
            push_unmatched_to_1_0=settings.push,
            tau=settings.tau,
            tube=settings.tube,
            connectivity=settings.connectivity,
            clamp=self.clamp,
        )
