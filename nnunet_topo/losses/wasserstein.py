"""A loss: the Wasserstein distance between the diagrams of a prediction and its target.

Demir, Massaad, Kiziltan: Topology-Aware Focal Loss for 3D Image Segmentation. CVPR Workshops 2023,
section 4 (L_topo). On tiles: Hu, Li, Samaras, Chen: Topology-Preserving Deep Image Segmentation.
NeurIPS 2019, as in Datta: Preservation of Topology using Deep Image Segmentation. 2024.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from nnunet_topo.losses.diagrams import Bars, begin_bars
from nnunet_topo.losses.measure import BarCounts, Measure, prepare
from nnunet_topo.losses.tiles import cut_into_tiles
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


class WassersteinLoss(nn.Module):
    """Returns the squared 2-Wasserstein distance between persistence diagrams.

    The target is binary, so its diagram has beta_k bars (1, 0) in dimension k. A bar (b, d) costs
    (1 - b)^2 + d^2 if it is matched to one of them, and (b - d)^2 / 2 if it is sent to the
    diagonal. A target bar without a match costs 1/2 and has no gradient.

    Args:
        matching: "spatial" matches each structure of the target with the longest bars that lie at
            it, see `match_spatially`, and sends the others to the diagonal. "optimal" gives the
            distance itself, but erases rings that are nearly closed. "sinkhorn" is Demir's
            Algorithm 1 to the letter: an entropic plan without a diagonal. If one side is empty, it
            gives 0. The plan has no gradient.
        dimensions: homology dimensions, default all.
        connectivity: of the foreground, in prediction and target; see `persistence_pairs`.
        clamp: every p below this is raised to it before the filtration; None changes nothing. The
            ends of a bar move by at most this much, and voxels below it get no gradient.
        tile_size: side of square or cubic tiles, None for no tiles. Bars are compared tile by tile,
            which keeps matches local. Each call draws the position of the grid from PyTorch's
            random numbers. An axis that is no longer than a tile is not cut. A tile is skipped if
            its target is empty and no p exceeds 0.5.

    Raises:
        ValueError: a name is unknown, clamp is outside [0, 1), or tile_size is below 1; in a call,
            the shapes of the tensors do not fit, or there are NaN.
    """

    needs_intact_labels = True  # it compares with the topology of the target

    def __init__(
        self,
        *,
        matching: Matching = "spatial",
        dimensions: Sequence[int] | None = None,
        connectivity: Connectivity = "full",
        clamp: float | None = None,
        tile_size: int | None = None,
    ) -> None:
        super().__init__()
        if matching not in get_args(Matching):
            raise ValueError(f"matching must be one of {get_args(Matching)}, got {matching!r}")
        check_connectivity(connectivity)
        if clamp is not None and not 0 <= clamp < 1:
            raise ValueError(f"clamp must lie in [0, 1), got {clamp}")
        if tile_size is not None and tile_size < 1:
            raise ValueError(f"tile_size must be at least 1, got {tile_size}")
        self.matching = matching
        self.dimensions = None if dimensions is None else check_dimensions(dimensions, 3)
        self.connectivity: Connectivity = connectivity
        self.clamp = 0.0 if clamp is None else clamp  # probabilities are never below 0
        self.tile_size = tile_size

    def extra_repr(self) -> str:
        """Returns the settings, for printing a trainer's loss."""
        return (
            f"matching={self.matching!r}, dimensions={self.dimensions}, "
            f"connectivity={self.connectivity!r}, clamp={self.clamp}, "
            f"tile_size={self.tile_size}"
        )

    def forward(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the sum over bars and dimensions, averaged over tiles, samples and channels.

        Gradients pass to the critical voxels of the probability.

        Args:
            probability: foreground probabilities in [0, 1], 2D or 3D space.
            target: one-hot, 0 / 1 or boolean.
            mask: False or 0 at ignored voxels, which are background in both and get no gradient.
        """
        return self.measure(probability, target, mask).loss

    def measure(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    ) -> Measure:
        """Returns the loss of `forward` and the exact distance, from the same diagrams."""
        return self.begin(probability, target, mask)()

    def begin(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    ) -> Callable[[], Measure]:
        """Starts `measure` in other threads and returns a function that waits for its result."""
        probability, foreground = prepare(probability, target, mask)
        assert foreground is not None
        if not probability.numel():
            return lambda: Measure(probability.sum(), 0.0)  # of nothing
        channels = probability.shape[0] * probability.shape[1]
        share = np.full(channels, 1 / max(channels, 1))
        if self.tile_size is not None:
            probability, foreground, channel = cut_into_tiles(
                probability, foreground, self.tile_size
            )
            if not len(channel):
                nothing = 0 * probability.sum()
                return lambda: Measure(nothing, 0.0)
            share = share[channel] / np.bincount(channel, minlength=channels)[channel]
        dimensions = check_dimensions(self.dimensions, probability.ndim - 2)
        bars = begin_bars(
            probability,
            foreground,
            connectivity=self.connectivity,
            dimensions=dimensions,
            clamp=self.clamp,
        )
        return lambda: self._measure(bars(), dimensions, share)

    def _measure(
        self, bars: Bars, dimensions: tuple[int, ...], share: Float[np.ndarray, " channels"]
    ) -> Measure:
        """Returns loss and exact distance; the sum of each channel is weighted by its share."""
        to_target = np.zeros(len(bars.dimension))  # mass that each bar sends to target bars
        to_diagonal = np.zeros(len(bars.dimension))
        missing, distance = 0.0, 0.0
        counts = BarCounts(0, 0, 0)
        ends = np.searchsorted(bars.channel, np.arange(len(share) + 1))
        for weight, target, start, end in zip(
            share, bars.targets, ends[:-1], ends[1:], strict=True
        ):
            for k in dimensions:
                target_bars = target.betti[k]
                chosen = start + np.flatnonzero(bars.dimension[start:end] == k)
                birth, death = bars.birth_value[chosen], bars.death_value[chosen]
                distance += weight * distance_to_binary(birth, death, target_bars)
                if self.matching == "sinkhorn":
                    to_target[chosen] = weight * _sinkhorn_mass(birth, death, target_bars)
                    continue
                if self.matching == "spatial":
                    matched = match_spatially(
                        birth,
                        death,
                        target_bars,
                        bars.fit[chosen],
                        bars.place[chosen],
                        target.capacity[k],
                    )
                else:
                    matched = match_optimally(birth, death, target_bars)
                to_target[chosen], to_diagonal[chosen] = weight * matched, weight * ~matched
                pairs = int(matched.sum())
                missing += weight * (target_bars - pairs)
                counts += BarCounts(pairs, len(matched) - pairs, target_bars - pairs)
        b, d = bars.birth, bars.death
        target_mass = torch.from_numpy(to_target).to(b)
        diagonal_mass = torch.from_numpy(to_diagonal).to(b)
        # Squared distances to (1, 0) and to the nearest point of the diagonal.
        cost = target_mass * ((1 - b) ** 2 + d**2) + diagonal_mass * ((b - d) ** 2 / 2)
        loss = cost.sum() + UNMATCHED_TARGET_BAR * missing
        return Measure(loss, float(distance), bars=counts if self.matching != "sinkhorn" else None)


def _sinkhorn_mass(
    birth: Float[np.ndarray, " bars"], death: Float[np.ndarray, " bars"], target_bars: int
) -> Float[np.ndarray, " bars"]:
    """Returns sum_j P_ij of Algorithm 1, in which all target bars are (1, 0)."""
    if target_bars == 0:
        return np.zeros(len(birth))
    cost = ((1 - birth) ** 2 + death**2)[:, None]
    return target_bars * sinkhorn_plan(cost, copies=target_bars)[:, 0]
