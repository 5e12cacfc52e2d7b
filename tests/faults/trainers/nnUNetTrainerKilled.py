"""A trainer that writes a checkpoint in every epoch, so that each can be resumed."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.settings import Settings
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerKilled(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's loss + weight * Wasserstein distance in tiles, in short epochs."""

    term = "Wasserstein distance"
    topology_weight = 0.001
    settings = Settings(epochs=8, iters=4, start=2, seed=3)

    def build_topology_term(self):
        return WassersteinLoss(clamp=self.clamp, tile_size=16)

    def initialize(self):
        super().initialize()
        self.save_every = 1
