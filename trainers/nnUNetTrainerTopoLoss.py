"""TopoLoss, Hu et al. 2019 as in Datta 2024."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerTopoLoss(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + weight * Wasserstein distance on tiles, matched in space."""

    term = "Wasserstein distance on tiles, matched in space"
    papers = ("hu2019", "datta2024")
    control = "nnUNetTrainerStock"
    topology_weight = 0.01  # ours: the paper prints none
    term_settings = ("ce", "dice", "clamp<x>", "optimal", "tile<n>", "face")

    def build_topology_term(self):
        """Returns the Wasserstein distance on tiles of 65 x 65 or 33 x 33 x 33, or as named."""
        is_2d = len(self.configuration_manager.patch_size) == 2
        return WassersteinLoss(
            matching=self.settings.matching,
            connectivity=self.settings.connectivity,
            clamp=self.clamp,
            tile_size=self.settings.tile or (65 if is_2d else 33),
        )
