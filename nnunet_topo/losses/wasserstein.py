"""Wasserstein distance between the diagrams of a prediction and its target, as a loss.

Demir, Massaad, Kiziltan: Topology-Aware Focal Loss for 3D Image Segmentation. CVPR Workshops 2023,
section 4 (L_topo).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from nnunet_topo.losses.diagrams import Bars, persistence_bars
from nnunet_topo.topology import Connectivity, betti_numbers
from nnunet_topo.topology.matching import (
    UNMATCHED_TARGET_BAR,
    distance_to_binary,
    match_optimally,
    match_spatially,
    sinkhorn_plan,
)
from nnunet_topo.topology.persistence import NO_VOXEL, check_connectivity, check_dimensions

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
        if probability.shape != target.shape or probability.ndim not in (4, 5):
            raise ValueError(
                "probability and target must have the same shape, [batch, channel] and 2 or 3 axes"
                f" of space, got {tuple(probability.shape)} and {tuple(target.shape)}"
            )
        if probability.dtype != torch.float64:
            probability = probability.float()
        foreground = target > 0.5
        if mask is not None:
            probability = torch.where(mask, probability, 0)
            foreground = foreground & mask
        dimensions = check_dimensions(self.dimensions, probability.ndim - 2)
        diagrams = persistence_bars(
            probability,
            connectivity=self.connectivity,
            dimensions=dimensions,
            clamp=self.clamp,
        )
        masks = foreground.detach().cpu().numpy()
        channels = [
            self._measure_channel(bars, masks[sample, channel], dimensions)
            for sample, of_sample in enumerate(diagrams)
            for channel, bars in enumerate(of_sample)
        ]
        # The empty sum ties the loss to the graph where no bar does.
        loss = 0 * probability.sum() + sum(loss for loss, _ in channels) / max(len(channels), 1)
        return WassersteinMeasure(loss, float(np.mean([distance for _, distance in channels])))

    def _measure_channel(
        self, bars: Bars, target: Bool[np.ndarray, "*space"], dimensions: tuple[int, ...]
    ) -> tuple[Float[Tensor, ""], float]:
        """Returns loss and exact distance of one channel, summed over the dimensions."""
        betti = betti_numbers(target, connectivity=self.connectivity)
        birth_values = bars.birth.detach().cpu().double().numpy()
        death_values = bars.death.detach().cpu().double().numpy()
        in_place = _born_in_foreground_dies_in_background(bars, target)
        loss, distance = bars.birth.new_zeros(()), 0.0
        for k in dimensions:
            of_dimension = bars.dimension == k
            birth, death = birth_values[of_dimension], death_values[of_dimension]
            index = torch.from_numpy(np.flatnonzero(of_dimension)).to(bars.birth.device)
            b, d = bars.birth[index], bars.death[index]
            distance += distance_to_binary(birth, death, betti[k])
            if self.matching == "sinkhorn":
                loss = loss + _sinkhorn_cost(b, d, betti[k])
                continue
            if self.matching == "spatial":
                matched = match_spatially(birth, death, betti[k], in_place[of_dimension])
            else:
                matched = match_optimally(birth, death, betti[k])
            missing = betti[k] - int(matched.sum())
            to_target = torch.from_numpy(matched).to(b.device)
            cost = torch.where(to_target, (1 - b) ** 2 + d**2, (b - d) ** 2 / 2)
            loss = loss + cost.sum() + UNMATCHED_TARGET_BAR * missing
        return loss, distance


def _born_in_foreground_dies_in_background(
    bars: Bars, target: Bool[np.ndarray, "*space"]
) -> Bool[np.ndarray, " bars"]:
    """Marks the bars that may stand for a structure of the target."""
    foreground = target.ravel()
    dies_nowhere = bars.death_voxel == NO_VOXEL
    return foreground[bars.birth_voxel] & (
        dies_nowhere | ~foreground[np.maximum(bars.death_voxel, 0)]
    )


def _sinkhorn_cost(
    birth: Float[Tensor, " bars"], death: Float[Tensor, " bars"], target_bars: int
) -> Float[Tensor, ""]:
    """Returns sum P_ij C_ij of Algorithm 1 against bars (1, 0), which are all alike."""
    if target_bars == 0:
        return birth.new_zeros(())
    cost = ((1 - birth) ** 2 + death**2).double()[:, None]
    plan = sinkhorn_plan(cost.detach().cpu().numpy(), copies=target_bars)
    return target_bars * (torch.from_numpy(plan).to(cost.device) * cost).sum().to(birth.dtype)
