"""The loss of a training: base loss + weight * topology term."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce
from math import isnan, nan
from operator import add
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn

from nnunet_topo.dataset import Union
from nnunet_topo.losses.measure import BarCounts, Measure
from nnunet_topo.training.channels import topology_channels
from nnunet_topo.training.scales import as_tensor, finest, replace_finest


class TopologyTerm(Protocol):
    """A loss of probabilities, one-hot targets and a mask, like those in `nnunet_topo.losses`.

    It must be a mean over samples. Samples whose label map was interpolated are left out, unless
    the term has the attribute `needs_intact_labels = False`.
    """

    def __call__(self, probability: Tensor, target: Any, mask: Tensor | None, /) -> Tensor:
        """Returns the loss."""
        ...


@runtime_checkable
class ParallelTerm(Protocol):
    """A topology term that runs in other threads while the base loss is computed."""

    def begin(
        self, probability: Tensor, target: Any, mask: Tensor | None = None
    ) -> Callable[[], Measure]:
        """Starts the computation and returns a function that waits for the loss."""
        ...


class SummedTerms(nn.Module):
    """Returns the sum of several topology terms, each multiplied by its factor."""

    def __init__(self, terms: Sequence[tuple[float, TopologyTerm]]) -> None:
        super().__init__()
        self.factors = [factor for factor, _ in terms]
        self.terms = [term for _, term in terms]

    @property
    def needs_intact_labels(self) -> bool:
        """Returns whether one of the terms needs them."""
        return any(map(needs_intact_labels, self.terms))

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
        """Starts all terms and returns a function that waits for their sum."""
        waiting = [begin(term, probability, target, mask) for term in self.terms]

        def wait() -> Measure:
            measures = [finish() for finish in waiting]
            pairs = zip(self.factors, measures, strict=True)
            loss = torch.stack([factor * measure.loss for factor, measure in pairs]).sum()
            known = [m.distance for m in measures if not isnan(m.distance)]
            bars = [measure.bars for measure in measures if measure.bars is not None]
            return Measure(
                loss,
                sum(known) if known else nan,
                bars=reduce(add, bars) if bars else None,
            )

        return wait


def needs_intact_labels(term: TopologyTerm) -> bool:
    """Returns whether samples whose labels were interpolated must be left out of a term."""
    return getattr(term, "needs_intact_labels", True)


def begin(
    term: TopologyTerm, probability: Tensor, target: Tensor | None, mask: Tensor | None
) -> Callable[[], Measure]:
    """Starts a topology term and returns a function that waits for its loss."""
    if isinstance(term, ParallelTerm):
        return term.begin(probability, target, mask)
    loss = term(probability, target, mask)
    return lambda: Measure(loss)


@dataclass(slots=True)
class StepRecord:
    """What one iteration computed; NaN for a figure that it did not compute.

    The two gradient norms are known after the backward pass. They include the factor of a gradient
    scaler.

    Attributes:
        base: base loss.
        term: topology term, without its weight.
        distance: exact Wasserstein distance.
        milliseconds: time that the step waits for the term; threads that run while the base loss is
            computed do not count.
        used: share of the objects that a prior was applied to.
        samples: share of the batch's samples that the term saw, 0 if it saw none.
        bars: how many bars the term keeps, removes and misses; None for a term without bars.
        base_gradient: norm of the base loss's gradient at the finest logits.
        term_gradient: norm of the weighted term's gradient at its logits.
    """

    base: float = nan
    term: float = nan
    distance: float = nan
    milliseconds: float = nan
    used: float = nan
    samples: float = nan
    bars: BarCounts | None = None
    base_gradient: Tensor | float = nan
    term_gradient: Tensor | float = nan

    def watch(self, logits: Tensor, norm: str) -> Tensor:
        """Returns a view of the logits that measures its own gradient in the backward pass.

        Args:
            logits: the view must be passed only to the base loss, or only to the term.
            norm: name of the attribute that takes the norm, which stays on the device.
        """
        setattr(self, norm, 0.0)
        if not logits.requires_grad:
            return logits
        watched = logits.view_as(logits)
        watched.register_hook(lambda gradient: setattr(self, norm, gradient.float().norm()))
        return watched


class TopologyAwareLoss(nn.Module):
    """Returns base loss + weight * topology term for nnU-Net's outputs and targets.

    The base loss gets what nnU-Net gives it, including deep supervision. The term only gets the
    finest scale, in float32. Samples whose labels were interpolated are left out of the term, which
    is then the mean over the others.

    The loss is only the base loss if no sample is left, if logits are not finite, or without
    gradients, as in validation. The term has its own random numbers, for example for the position
    of its tiles. They depend on PyTorch's seed when this object is built, and using them does not
    change any other random numbers.

    Args:
        base: nnU-Net's loss, or one with the same arguments.
        term: one topology term, or several with their factors, which are summed.
        label_manager: nnU-Net's.
        unions: see `topology_channels`.

    Attributes:
        weight: of the term in the next call; None leaves out the term.
        intact: whether the label of each sample of the next call is intact, `[batch]`; None if all
            labels are.
        muted: whether the term's gradient is measured at the logits and stops there.
        record: what the last call with gradients computed.
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
        self.intact: Tensor | None = None
        self.muted = False
        self.record = StepRecord()
        self._seeds = torch.Generator()
        self.seed()

    def seed(self) -> None:
        """Makes the random numbers of the term depend on the last seed of torch alone."""
        self._seeds.manual_seed(torch.initial_seed())

    @property
    def needs_intact_labels(self) -> bool:
        """Returns whether samples whose labels were interpolated are left out of the term."""
        return needs_intact_labels(self.term)

    def forward(self, output: Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        """Returns the loss. With deep supervision, output and target are lists, finest first."""
        if not torch.is_grad_enabled():
            return as_tensor(self.base(output, target), output)
        self.record = StepRecord()
        # The threads and copies of the term run while the base loss is computed.
        weight, measure = self.weight, None
        if weight is not None:
            measure = self.begin_term(finest(output), finest(target), self.intact)
            output = replace_finest(output, self.record.watch(finest(output), "base_gradient"))
        base = as_tensor(self.base(output, target), output)
        self.record.base = float(base.detach())
        if weight is None or measure is None:
            return base
        return base + weight * measure().loss

    def measure_term(
        self, logits: Tensor, target: Tensor | None, intact: Tensor | None = None
    ) -> Measure | None:
        """Computes the term for one batch, records it and returns it; see `begin_term`."""
        measured = self.begin_term(logits, target, intact)
        return None if measured is None else measured()

    def begin_term(
        self, logits: Tensor, target: Tensor | None, intact: Tensor | None = None
    ) -> Callable[[], Measure] | None:
        """Starts the term for one batch and returns a function that waits for it and records it.

        Args:
            logits: nnU-Net's output at full resolution.
            target: nnU-Net's; None for unlabelled images, which are all used.
            intact: whether the label of each sample is intact, `[batch]`; None if all labels are.

        Returns:
            None if logits are not finite, or if the term needs intact labels and no label is.
        """
        if not torch.isfinite(logits).all():
            return None
        began = perf_counter()
        if target is not None and self.needs_intact_labels:
            seen = _samples_seen(intact, len(logits))
            self.record.samples = len(seen) / len(logits)
            if len(seen) == 0:
                return None
            if len(seen) < len(logits):
                logits, target = logits[seen], target[seen]
        logits = logits.float()
        if self.muted:
            logits = logits.detach().requires_grad_()
        logits = self.record.watch(logits, "term_gradient")
        channels = topology_channels(logits, target, self.label_manager, self.unions)
        # The term's random numbers must not change the augmentation, which may run in this process.
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
            self.record.bars = measure.bars
            self.record.milliseconds = 1000 * (spent + perf_counter() - began)
            return measure

        return measure


def _samples_seen(intact: Tensor | None, number: int) -> Tensor:
    """Returns the indices of the samples whose labels are intact.

    Raises:
        ValueError: the number of notes is not the number of samples.
    """
    if intact is None:
        return torch.arange(number)
    if len(intact) != number:
        raise ValueError(f"intact must have {number} booleans, one per sample, got {len(intact)}")
    return intact.cpu().nonzero().flatten()


def full_precision(logits: Tensor) -> AbstractContextManager[object]:
    """Returns a context without autocast, so the term is computed in float32."""
    kind = logits.device.type
    return torch.autocast(kind, enabled=False) if kind in ("cuda", "cpu") else nullcontext()
