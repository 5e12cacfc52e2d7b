"""TopoLoss, Hu et al. 2019 as in Datta 2024."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerTopoLoss(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + weight * Wasserstein distance on tiles, matched in space."""

    term = "Wasserstein distance on tiles, matched in space"
    control = "nnUNetTrainerStock"
    topology_weight = 0.01  # ours: the paper prints none

    def build_topology_term(self):
        """Returns the Wasserstein distance on tiles of 65 x 65 or 33 x 33 x 33."""
        is_2d = len(self.configuration_manager.patch_size) == 2
        return WassersteinLoss(
            connectivity=self.settings.connectivity,
            clamp=self.clamp,
            tile_size=65 if is_2d else 33,
        )
