"""nnU-Net's logits and targets -> base loss + weight * topology terms."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import isnan, nan
from time import perf_counter
from typing import Any, Protocol, cast, runtime_checkable

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn

from nnunet_topo.dataset import Union
from nnunet_topo.losses import FocalLoss
from nnunet_topo.losses.measure import Measure


class TopologyTerm(Protocol):
    """A loss on probabilities, one-hot targets and a mask, as those of `nnunet_topo.losses`."""

    def __call__(self, probability: Tensor, target: Any, mask: Tensor | None, /) -> Tensor:
        """Returns the loss."""
        ...


@runtime_checkable
class ParallelTerm(Protocol):
    """A topology term that can work in other threads while the base loss is computed."""

    def begin(
        self, probability: Tensor, target: Any, mask: Tensor | None = None
    ) -> Callable[[], Measure]:
        """Starts to compute, and returns what waits for the loss."""
        ...


class SummedTerms(nn.Module):
    """Returns the sum of several topology terms, each times its factor."""

    def __init__(self, terms: Sequence[tuple[float, TopologyTerm]]) -> None:
        super().__init__()
        self.factors = [factor for factor, _ in terms]
        self.terms = [term for _, term in terms]

    def extra_repr(self) -> str:
        """Returns factors and terms, for printing a trainer's loss."""
        pairs = zip(self.factors, self.terms, strict=True)
        return " + ".join(f"{factor} * {term}" for factor, term in pairs)

    def forward(self, probability: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the loss."""
        return self.begin(probability, target, mask)().loss

    def begin(
        self, probability: Tensor, target: Tensor | None, mask: Tensor | None = None
    ) -> Callable[[], Measure]:
        """Starts all terms; the exact distance is the sum of those that are known."""
        waiting = [begin(term, probability, target, mask) for term in self.terms]

        def wait() -> Measure:
            measures = [finish() for finish in waiting]
            pairs = zip(self.factors, measures, strict=True)
            loss = torch.stack([factor * measure.loss for factor, measure in pairs]).sum()
            known = [m.distance for m in measures if not isnan(m.distance)]
            return Measure(loss, sum(known) if known else nan)

        return wait


def begin(
    term: TopologyTerm, probability: Tensor, target: Tensor | None, mask: Tensor | None
) -> Callable[[], Measure]:
    """Starts on a topology term, and returns what waits for it; a plain function is called."""
    if isinstance(term, ParallelTerm):
        return term.begin(probability, target, mask)
    loss = term(probability, target, mask)
    return lambda: Measure(loss)


@dataclass(slots=True)
class StepRecord:
    """What one iteration computed; NaN is what it did not.

    Attributes:
        base: base loss.
        term: topology term, without its weight.
        distance: exact Wasserstein distance.
        milliseconds: forward pass of the term, less what runs beside the base loss.
        used: share of the objects that a prior was applied to.
    """

    base: float = nan
    term: float = nan
    distance: float = nan
    milliseconds: float = nan
    used: float = nan


class TopologyAwareLoss(nn.Module):
    """Returns base loss + weight * topology term, for the outputs and targets of nnU-Net.

    The base loss sees what nnU-Net gives it, deep supervision included; the term sees the finest
    scale alone, in float32. Without gradient, as in validation, the base loss is all. Logits that
    are not finite leave out the term: the loss of such a step is the base loss's, NaN if it is.
    What the term draws at random, such as the place of its tiles, depends on PyTorch's seed at
    the time this is built, and leaves all other random numbers as they are.

    Args:
        base: nnU-Net's loss, or one that takes the same.
        term: one topology term, or several with their factors, which are summed.
        label_manager: nnU-Net's.
        unions: see `topology_channels`.

    Attributes:
        weight: in force in the next call; None leaves out the term.
        record: what the last call with gradient computed.
    """

    def __init__(
        self,
        base: nn.Module,
        term: TopologyTerm | Sequence[tuple[float, TopologyTerm]],
        label_manager: LabelManager,
        unions: Sequence[Union] = (),
    ) -> None:
        super().__init__()
        self.base = base
        self.term = SummedTerms(term) if isinstance(term, Sequence) else term
        self.unions = tuple(unions)
        self.label_manager = label_manager
        self.weight: float | None = None
        self.record = StepRecord()
        self._seeds = torch.Generator().manual_seed(torch.initial_seed())

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

    def measure_term(self, logits: Tensor, target: Tensor | None) -> Measure | None:
        """Returns the term of one batch and records it, None where logits are not finite."""
        measured = self.begin_term(logits, target)
        return None if measured is None else measured()

    def begin_term(self, logits: Tensor, target: Tensor | None) -> Callable[[], Measure] | None:
        """Starts on the term of one batch, and returns what waits for it and records it."""
        if not torch.isfinite(logits).all():
            return None
        began = perf_counter()
        channels = topology_channels(logits, target, self.label_manager, self.unions)
        # Whatever a term draws, augmentation in this process goes on as in the control.
        with torch.random.fork_rng(devices=[]), full_precision(logits):
            seed = int(torch.randint(2**31, (), generator=self._seeds))
            torch.default_generator.manual_seed(seed)
            finish = begin(self.term, *channels)
        spent = perf_counter() - began

        def measure() -> Measure:
            began = perf_counter()
            with full_precision(logits):
                measure = finish()
            self.record.term = float(measure.loss.detach())
            self.record.distance, self.record.used = measure.distance, measure.used
            self.record.milliseconds = 1000 * (spent + perf_counter() - began)
            return measure

        return measure


def full_precision(logits: Tensor) -> AbstractContextManager[object]:
    """Returns what keeps autocast off: a term's own operations stay in float32, too."""
    kind = logits.device.type
    return torch.autocast(kind, enabled=False) if kind in ("cuda", "cpu") else nullcontext()


def topology_channels(
    logits: Tensor,
    target: Tensor | None,
    label_manager: LabelManager,
    unions: Sequence[Union] = (),
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Returns probability, one-hot target and mask of what takes part in topology terms.

    Softmax: a channel for each foreground label, none for the background. Regions: a channel each.
    Then a channel for each union: of classes, which exclude one another, the sum of their
    probabilities; of regions, which may overlap, the maximum. Tensors are `[batch, channel,
    *space]`, probabilities float32 even of half-precision logits; the mask is False where the
    ignore label stands, None without such a label.

    Args:
        logits: nnU-Net's output.
        target: nnU-Net's target, which is not changed; None for unlabelled images, whose one-hot
            target and mask are None, too.
        label_manager: nnU-Net's.
        unions: the channels that make up each union.

    Raises:
        ValueError: a union of channels that do not exist.
    """
    probability = topology_probability(logits, label_manager, unions)
    if target is None:
        return probability, None, None
    target, mask = split_ignored(target, label_manager)
    if label_manager.has_regions:
        one_hot = target.bool()
    else:
        labels = torch.tensor(label_manager.foreground_labels, device=target.device)
        one_hot = target == labels.view(1, -1, *(1,) * (target.ndim - 2))
    if unions:
        joint = [one_hot[:, list(union)].any(dim=1, keepdim=True) for union in unions]
        one_hot = torch.cat([one_hot, *joint], dim=1)
    return probability, one_hot, mask


def topology_probability(
    logits: Tensor, label_manager: LabelManager, unions: Sequence[Union] = ()
) -> Tensor:
    """Returns the probabilities of `topology_channels`, for which no target is needed.

    Raises:
        ValueError: a union of channels that do not exist.
    """
    if label_manager.has_regions:
        probability = torch.sigmoid(logits.float())
    else:
        probability = torch.softmax(logits.float(), dim=1)[:, 1:]
    joint = []
    for union in map(list, unions):
        if not union or min(union) < 0 or max(union) >= probability.shape[1]:
            raise ValueError(
                f"a union must name channels from 0 to {probability.shape[1] - 1}, got "
                f"{tuple(union)}"
            )
        parts = probability[:, union]
        of_union = parts.amax(dim=1) if label_manager.has_regions else parts.sum(dim=1).clamp(max=1)
        joint.append(of_union[:, None])
    return torch.cat([probability, *joint], dim=1) if joint else probability


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


class CrossEntropyBaseLoss(nn.Module):
    """Returns the cross-entropy (regions: binary) of nnU-Net's loss, without its Dice."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        stock.weight_dice = 0
        self.stock = stock

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss, 0 where all is ignored."""
        return as_tensor(self.stock(logits, target), logits)


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
