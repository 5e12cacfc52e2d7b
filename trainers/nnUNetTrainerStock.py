"""nnU-Net's own trainer under the settings of this package."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerStock(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's own loss, no topology term: the control of all trainers with that base loss."""
