"""nnU-Net's deep supervision: losses and outputs of one scale or of several."""

from typing import cast

from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import Tensor, nn


def replace_single_scale(loss: nn.Module, replacement: nn.Module) -> nn.Module:
    """Returns nnU-Net's loss with the part that sees one scale replaced."""
    if isinstance(loss, DeepSupervisionWrapper):
        loss.loss = replacement
        return loss
    return replacement


def single_scale(loss: nn.Module) -> nn.Module:
    """Returns the part of nnU-Net's loss that sees one scale."""
    return cast(nn.Module, loss.loss) if isinstance(loss, DeepSupervisionWrapper) else loss


def as_tensor(loss: Tensor | float, output: Tensor | list[Tensor]) -> Tensor:
    """Returns the loss as a tensor with a graph; nnU-Net's is the number 0 if all is ignored."""
    if isinstance(loss, Tensor):
        return loss
    scales = [output] if isinstance(output, Tensor) else output
    return loss + sum((0 * scale.sum() for scale in scales), start=scales[0].new_zeros(()))


def finest(scales: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Returns the scale of full resolution; one tensor is returned as it is."""
    return scales if isinstance(scales, Tensor) else scales[0]


def replace_finest(scales: Tensor | list[Tensor], finest: Tensor) -> Tensor | list[Tensor]:
    """Returns the scales with another one of full resolution."""
    return finest if isinstance(scales, Tensor) else [finest, *scales[1:]]
