"""Losses on PyTorch tensors. They do not depend on nnU-Net, epochs or label maps."""

from nnunet_topo.losses.betti_matching import BettiMatchingLoss
from nnunet_topo.losses.betti_prior import BettiPriorLoss
from nnunet_topo.losses.cldice import ClDiceLoss
from nnunet_topo.losses.focal import FocalLoss
from nnunet_topo.losses.projected_pooling import ProjectedPoolingLoss
from nnunet_topo.losses.scnp import least_confident_neighbours
from nnunet_topo.losses.skeleton_recall import SkeletonRecallLoss
from nnunet_topo.losses.wasserstein import WassersteinLoss

__all__ = [
    "BettiMatchingLoss",
    "BettiPriorLoss",
    "ClDiceLoss",
    "FocalLoss",
    "ProjectedPoolingLoss",
    "SkeletonRecallLoss",
    "WassersteinLoss",
    "least_confident_neighbours",
]
