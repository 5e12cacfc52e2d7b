"""nnU-Net's logits and targets -> base loss + weight * topology term."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from time import perf_counter
from typing import Protocol, cast

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn

from nnunet_topo.losses import FocalLoss
from nnunet_topo.losses.wasserstein import WassersteinMeasure


class TopologyTerm(Protocol):
    """A loss on probabilities and one-hot targets that also reports a distance."""

    def begin(
        self, probability: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> Callable[[], WassersteinMeasure]:
        """Starts to compute, and returns what waits for the loss and the exact distance."""
        ...


@dataclass(slots=True)
class StepRecord:
    """What one iteration computed; NaN is what it did not.

    Attributes:
        base: base loss.
        term: topology term, without its weight.
        distance: exact Wasserstein distance.
        milliseconds: forward pass of the term, less what runs beside the base loss.
    """

    base: float = nan
    term: float = nan
    distance: float = nan
    milliseconds: float = nan


class TopologyAwareLoss(nn.Module):
    """Returns base loss + weight * topology term, for the outputs and targets of nnU-Net.

    The base loss sees what nnU-Net gives it, deep supervision included; the term sees the finest
    scale alone, in float32. Without gradient, as in validation, the base loss is all. Logits that
    are not finite leave out the term: the loss of such a step is the base loss's, NaN if it is.

    Attributes:
        weight: in force in the next call; None leaves out the term.
        record: what the last call with gradient computed.
    """

    def __init__(self, base: nn.Module, term: TopologyTerm, label_manager: LabelManager) -> None:
        super().__init__()
        self.base = base
        self.term = term
        self.label_manager = label_manager
        self.weight: float | None = None
        self.record = StepRecord()

    def forward(self, output: Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        """Returns the loss; output and target are lists, finest first, under deep supervision."""
        if not torch.is_grad_enabled():
            return as_tensor(self.base(output, target), output)
        self.record = StepRecord()
        # The term's threads work, and its copies run, while the base loss is computed.
        weight, measure = self.weight, None
        if weight is not None:
            measure = self.begin_term(finest(output), finest(target))
        base = as_tensor(self.base(output, target), output)
        self.record.base = float(base.detach())
        if weight is None or measure is None:
            return base
        return base + weight * measure().loss

    def measure_term(self, logits: Tensor, target: Tensor) -> WassersteinMeasure | None:
        """Returns the term of one batch and records it, None where logits are not finite."""
        measured = self.begin_term(logits, target)
        return None if measured is None else measured()

    def begin_term(self, logits: Tensor, target: Tensor) -> Callable[[], WassersteinMeasure] | None:
        """Starts on the term of one batch, and returns what waits for it and records it."""
        if not torch.isfinite(logits).all():
            return None
        began = perf_counter()
        finish = self.term.begin(*topology_channels(logits, target, self.label_manager))
        spent = perf_counter() - began

        def measure() -> WassersteinMeasure:
            began = perf_counter()
            measure = finish()
            self.record.term = float(measure.loss.detach())
            self.record.distance = measure.distance
            self.record.milliseconds = 1000 * (spent + perf_counter() - began)
            return measure

        return measure


def topology_channels(
    logits: Tensor, target: Tensor, label_manager: LabelManager
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns probability, one-hot target and mask of what takes part in topology terms.

    Softmax: a channel for each foreground label, none for the background. Regions: a channel each.
    Tensors are `[batch, channel, *space]`, probabilities float32 even of half-precision logits;
    the mask is False where the ignore label stands, None without such a label.
    """
    target, mask = split_ignored(target, label_manager)
    if label_manager.has_regions:
        return torch.sigmoid(logits.float()), target, mask
    labels = torch.tensor(label_manager.foreground_labels, device=target.device)
    one_hot = target == labels.view(1, -1, *(1,) * (target.ndim - 2))
    return torch.softmax(logits.float(), dim=1)[:, 1:], one_hot, mask


def split_ignored(target: Tensor, label_manager: LabelManager) -> tuple[Tensor, Tensor | None]:
    """Returns the target without nnU-Net's ignore channel, and a mask that is False where ignored.

    The channel exists for regions alone; in a label map the label stays. Without an ignore label
    the mask is None.
    """
    if not label_manager.has_ignore_label:
        return target, None
    if label_manager.has_regions:
        return target[:, :-1], ~target[:, -1:].bool()
    return target, target != label_manager.ignore_label


class FocalBaseLoss(nn.Module):
    """Returns the focal loss of one scale of nnU-Net's output, ignore label left out."""

    def __init__(self, label_manager: LabelManager) -> None:
        super().__init__()
        self.focal = FocalLoss()
        self.label_manager = label_manager

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss of logits against a label map, or against regions [+ ignore]."""
        target, mask = split_ignored(target, self.label_manager)
        return self.focal(logits, target, mask)


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
    """Returns the full-resolution one of nnU-Net's scales, or what is no list."""
    return scales if isinstance(scales, Tensor) else scales[0]
