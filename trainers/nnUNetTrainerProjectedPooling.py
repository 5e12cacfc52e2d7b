"""Projected pooling, Fu et al. 2023, on top of nnU-Net's own loss."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import ProjectedPoolingLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerProjectedPooling(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + projected pooling."""

    term = "pooled projections"
    control = "nnUNetTrainerStock"
    topology_weight = 1.0
    has_filtration = False

    def build_topology_term(self):
        """Returns the difference of pooled projections."""
        return ProjectedPoolingLoss()
