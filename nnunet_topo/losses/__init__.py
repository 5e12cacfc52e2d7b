"""Losses on PyTorch tensors; none knows nnU-Net, epochs or label maps."""

from nnunet_topo.losses.focal import FocalLoss
from nnunet_topo.losses.wasserstein import WassersteinLoss

__all__ = ["FocalLoss", "WassersteinLoss"]
