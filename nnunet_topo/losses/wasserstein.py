"""Wasserstein distance between the diagrams of a prediction and its target, as a loss.

Demir, Massaad, Kiziltan: Topology-Aware Focal Loss for 3D Image Segmentation. CVPR Workshops 2023,
section 4 (L_topo).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from nnunet_topo.losses.diagrams import Bars, begin_bars
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.matching import (
    UNMATCHED_TARGET_BAR,
    distance_to_binary,
    match_optimally,
    match_spatially,
    sinkhorn_plan,
)
from nnunet_topo.topology.persistence import check_connectivity, check_dimensions

Matching = Literal["spatial", "optimal", "sinkhorn"]


@dataclass(frozen=True, slots=True)
class WassersteinMeasure:
    """A loss and what it is compared by.

    Attributes:
        loss: the loss with its gradient, under the chosen matching.
        distance: the exact distance under the optimal matching, sum of squares over bars and
            dimensions, mean over samples and channels.
    """

    loss: Float[Tensor, ""]
    distance: float


class WassersteinLoss(nn.Module):
    """Returns the squared 2-Wasserstein distance between persistence diagrams.

    The target is binary, so its diagram holds as many bars (1, 0) in dimension k as its Betti
    number says. A bar (b, d) costs (1 - b)^2 + d^2 when matched to one of them and (b - d)^2 / 2
    when sent to the diagonal; a target bar without a match costs 1/2 and has no gradient.

    Args:
        matching: "spatial" matches the longest bars whose birth voxel is target foreground and
            whose death voxel is target background, and sends the others to the diagonal: the
            optimum would erase a ring that is nearly closed. "optimal" is the distance itself.
            "sinkhorn" is Demir's Algorithm 1 to the letter: entropic plan, no diagonal, an empty
            side gives 0, the plan carries no gradient.
        dimensions: homology dimensions, default all.
        connectivity: of the foreground, in prediction and target; see `persistence_pairs`.
        clamp: p is raised to at least this before the filtration: no bar moves by more, and what
            is below gets no gradient.

    Raises:
        ValueError: unknown names, clamp outside [0, 1); shapes of a call that do not fit, NaN.
    """

    def __init__(
        self,
        *,
        matching: Matching = "spatial",
        dimensions: Sequence[int] | None = None,
        connectivity: Connectivity = "full",
        clamp: float = 0.0,
    ) -> None:
        super().__init__()
        if matching not in get_args(Matching):
            raise ValueError(f"matching must be one of {get_args(Matching)}, got {matching!r}")
        check_connectivity(connectivity)
        if not 0 <= clamp < 1:
            raise ValueError(f"clamp must lie in [0, 1), got {clamp}")
        self.matching = matching
        self.dimensions = None if dimensions is None else check_dimensions(dimensions, 3)
        self.connectivity: Connectivity = connectivity
        self.clamp = clamp

    def extra_repr(self) -> str:
        """Returns the settings, for printing a trainer's loss."""
        return (
            f"matching={self.matching!r}, dimensions={self.dimensions}, "
            f"connectivity={self.connectivity!r}, clamp={self.clamp}"
        )

    def forward(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Bool[Tensor, "batch 1 *space"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the sum over bars and dimensions, mean over samples and channels.

        Gradients pass to the critical voxels of the probability.

        Args:
            probability: foreground probabilities in [0, 1], 2D or 3D space.
            target: one-hot, 0 / 1 or boolean.
            mask: False where voxels are ignored: background in both, without gradient.
        """
        return self.measure(probability, target, mask).loss

    def measure(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Bool[Tensor, "batch 1 *space"] | None = None,
    ) -> WassersteinMeasure:
        """Returns the loss of `forward` beside the exact distance, from the same diagrams."""
        return self.begin(probability, target, mask)()

    def begin(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Bool[Tensor, "batch 1 *space"] | None = None,
    ) -> Callable[[], WassersteinMeasure]:
        """Starts on what `measure` returns, in other threads, and returns what waits for it."""
        if probability.shape != target.shape or probability.ndim not in (4, 5):
            raise ValueError(
                "probability and target must have the same shape, [batch, channel] and 2 or 3 axes"
                f" of space, got {tuple(probability.shape)} and {tuple(target.shape)}"
            )
        if probability.dtype != torch.float64:
            probability = probability.float()
        foreground = target if target.dtype == torch.bool else target > 0.5
        if mask is not None:
            probability = torch.where(mask, probability, 0)
            foreground = foreground & mask
        dimensions = check_dimensions(self.dimensions, probability.ndim - 2)
        bars = begin_bars(
            probability,
            foreground,
            connectivity=self.connectivity,
            dimensions=dimensions,
            clamp=self.clamp,
        )
        return lambda: self._measure(bars(), dimensions)

    def _measure(self, bars: Bars, dimensions: tuple[int, ...]) -> WassersteinMeasure:
        """Returns loss and exact distance, the mean over samples and channels of their sums."""
        to_target = np.zeros(len(bars.dimension))  # mass of each bar that goes to a target bar
        to_diagonal = np.zeros(len(bars.dimension))
        missing, distance = 0, 0.0
        ends = np.searchsorted(bars.channel, np.arange(len(bars.target_betti) + 1))
        for betti, start, end in zip(bars.target_betti, ends[:-1], ends[1:], strict=True):
            for k in dimensions:
                target_bars = int(betti[k])
                chosen = start + np.flatnonzero(bars.dimension[start:end] == k)
                birth, death = bars.birth_value[chosen], bars.death_value[chosen]
                distance += distance_to_binary(birth, death, target_bars)
                if self.matching == "sinkhorn":
                    to_target[chosen] = _sinkhorn_mass(birth, death, target_bars)
                    continue
                if self.matching == "spatial":
                    matched = match_spatially(birth, death, target_bars, bars.in_place[chosen])
                else:
                    matched = match_optimally(birth, death, target_bars)
                to_target[chosen], to_diagonal[chosen] = matched, ~matched
                missing += target_bars - int(matched.sum())
        b, d = bars.birth, bars.death
        target_mass = torch.from_numpy(to_target).to(b)
        diagonal_mass = torch.from_numpy(to_diagonal).to(b)
        cost = target_mass * ((1 - b) ** 2 + d**2) + diagonal_mass * ((b - d) ** 2 / 2)
        channels = max(len(bars.target_betti), 1)
        loss = (cost.sum() + UNMATCHED_TARGET_BAR * missing) / channels
        return WassersteinMeasure(loss, distance / channels)


def _sinkhorn_mass(
    birth: Float[np.ndarray, " bars"], death: Float[np.ndarray, " bars"], target_bars: int
) -> Float[np.ndarray, " bars"]:
    """Returns sum_j P_ij of Algorithm 1 against bars (1, 0), which are all alike."""
    if target_bars == 0:
        return np.zeros(len(birth))
    cost = ((1 - birth) ** 2 + death**2)[:, None]
    return target_bars * sinkhorn_plan(cost, copies=target_bars)[:, 0]
