"""Skeleton Recall, Kirchhoff et al. 2024."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerSkeletonRecall(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + Skeleton Recall."""

    control = "nnUNetTrainerStock"
    skelrecall = 1.0
