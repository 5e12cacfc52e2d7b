"""Focal loss.

Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection. ICCV 2017.
Used as in Demir, Massaad, Kiziltan: Topology-Aware Focal Loss for 3D Image Segmentation. CVPR
Workshops 2023, section 4.3.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from nnunet_topo.losses.measure import as_mask


class FocalLoss(nn.Module):
    """Returns the mean of -alpha (1 - p_t)^gamma log(p_t); p_t is the probability of the truth.

    It takes logits, as a base loss does. If the target has one channel and the logits have several,
    the classes exclude one another (softmax). If both have the same number of channels, each
    channel is a binary problem of its own (sigmoid), as for nnU-Net's regions.

    Args:
        alpha: factor of the whole loss, at least 0.
        gamma: at least 0. The larger it is, the less do well classified voxels count; 0 gives the
            cross-entropy.

    Raises:
        ValueError: alpha or gamma is negative, or the shapes of a call do not fit.
    """

    def __init__(self, alpha: float = 1.0, gamma: float = 2.0) -> None:
        super().__init__()
        if not (alpha >= 0 and gamma >= 0):
            raise ValueError(f"alpha and gamma must be at least 0, got {alpha} and {gamma}")
        self.alpha, self.gamma = alpha, gamma

    def forward(
        self,
        logits: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch target_channel *space"],
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the loss; gradients pass to the logits.

        Args:
            logits: any finite values; half precision becomes float32.
            target: class numbers in one channel, or 0 / 1 in as many channels as logits.
            mask: False or 0 at ignored voxels; if all are ignored, the loss is 0.
        """
        logits = logits if logits.dtype == torch.float64 else logits.float()
        mask = as_mask(mask, logits)
        if target.shape[1] == logits.shape[1]:
            # log p_t = log sigmoid(+-logit)
            truth = functional.logsigmoid(torch.where(target > 0.5, logits, -logits))
        elif target.shape[1] == 1:
            classes = target.long() if mask is None else target.long().masked_fill(~mask, 0)
            truth = functional.log_softmax(logits, dim=1).gather(1, classes)
        else:
            raise ValueError(
                f"target must have 1 or {logits.shape[1]} channels, got shape {tuple(target.shape)}"
            )
        # expm1 is exact near p_t = 1. The clamp keeps the derivative finite for gamma < 1.
        miss = (-torch.expm1(truth)).clamp(min=torch.finfo(truth.dtype).tiny)
        loss = -self.alpha * miss**self.gamma * truth
        if mask is None:
            return loss.mean()
        mask = mask.expand_as(loss)
        return torch.where(mask, loss, 0).sum() / mask.sum().clamp(min=1)
