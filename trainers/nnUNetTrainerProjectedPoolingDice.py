"""Projected pooling as in the paper, Fu et al. 2023."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import ProjectedPoolingLoss
from nnunet_topo.losses.projected_pooling import KERNEL_SIZES
from nnunet_topo.training.base_losses import DiceBaseLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerProjectedPoolingDice(TopologyTrainerMixin, nnUNetTrainer):
    """Soft Dice + projected pooling, which starts at half of the epochs."""

    base_loss = "Dice"
    term = "pooled projections"
    papers = ("fu2023",)
    control = "nnUNetTrainerDice"
    topology_weight = 1.0
    wanted_ratio = None  # the weight is used as printed
    term_settings = ("kernels<n-n>", "planes<n-n>", "published")

    def build_base_loss(self, stock):
        """Returns nnU-Net's loss without its cross-entropy."""
        return DiceBaseLoss(stock)

    def build_topology_term(self):
        """Returns the difference of pooled projections."""
        return ProjectedPoolingLoss(
            self.settings.kernels or KERNEL_SIZES,
            planes=self.settings.planes,
            reduce_before_difference=self.settings.published,
        )
