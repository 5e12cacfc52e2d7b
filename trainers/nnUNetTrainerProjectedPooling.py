"""Projected pooling, Fu et al. 2023, on top of nnU-Net's own loss."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import ProjectedPoolingLoss
from nnunet_topo.losses.projected_pooling import KERNEL_SIZES
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerProjectedPooling(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + projected pooling."""

    term = "pooled projections"
    papers = ("fu2023",)
    control = "nnUNetTrainerStock"
    topology_weight = 1.0
    term_settings = ("ce", "kernels<n-n>", "planes<n-n>", "published")

    def build_topology_term(self):
        """Returns the difference of pooled projections."""
        return ProjectedPoolingLoss(
            self.settings.kernels or KERNEL_SIZES,
            planes=self.settings.planes,
            reduce_before_difference=self.settings.published,
        )
