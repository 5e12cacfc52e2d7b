"""Betti matching as a loss: bars matched where they are the same feature in space.

Stucki, Paetzold, Shit, Menze, Bauer: Topologically Faithful Image Segmentation via Induced Matching
of Persistence Barcodes. ICML 2023, section 3.3. Stucki, Buergin, Paetzold, Bauer: Efficient Betti
Matching Enables Topology-Aware 3D Segmentation via Persistent Homology. 2024.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn

from nnunet_topo.losses.diagrams import channels_in_memory, in_thread
from nnunet_topo.losses.measure import BarCounts, Measure, prepare
from nnunet_topo.topology import Connectivity, match_betti
from nnunet_topo.topology.persistence import NO_VOXEL, check_connectivity, check_dimensions

Filtration = Literal["superlevel", "both"]


class BettiMatchingLoss(nn.Module):
    """Returns the Betti matching loss of a prediction and its binary target.

    A bar (b, d) of the prediction costs 2 [(1 - b)^2 + d^2] when matched with a bar (1, 0) of the
    target, and (b - d)^2, which is twice its squared distance to the diagonal, when not. A bar of
    the target without a match costs 1 and has no gradient. The essential classes, the components
    that never end, are matched with each other unless the target is empty.

    Args:
        filtration: "superlevel" compares the foregrounds. "both" adds the same for the backgrounds,
            1 - p and 1 - target.
        push_unmatched_to_1_0: pushes the prediction to (1, 0) at the critical voxels of each bar of
            the target without a match, which costs 2 [(1 - p_birth)^2 + p_death^2] instead of 1:
            where a structure is missing altogether there is a gradient to create it.
        dimensions: homology dimensions, default all.
        connectivity: of the foreground, in prediction and target; see `persistence_pairs`.
        clamp: None changes nothing. Otherwise p is raised to at least this before the filtration.
            No bar moves by more, and voxels below it get no gradient.

    Raises:
        ValueError: unknown names, clamp outside [0, 1); tensors whose shapes do not fit, NaN,
            probabilities outside [0, 1].
    """

    def __init__(
        self,
        *,
        filtration: Filtration = "superlevel",
        push_unmatched_to_1_0: bool = False,
        dimensions: Sequence[int] | None = None,
        connectivity: Connectivity = "full",
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        if filtration not in get_args(Filtration):
            raise ValueError(
                f"filtration must be one of {get_args(Filtration)}, got {filtration!r}"
            )
        check_connectivity(connectivity)
        if clamp is not None and not 0 <= clamp < 1:
            raise ValueError(f"clamp must lie in [0, 1), got {clamp}")
        self.filtration = filtration
        self.push_unmatched_to_1_0 = push_unmatched_to_1_0
        self.dimensions = None if dimensions is None else check_dimensions(dimensions, 3)
        self.connectivity: Connectivity = connectivity
        self.clamp = 0.0 if clamp is None else clamp  # probabilities are never below 0

    def extra_repr(self) -> str:
        """Returns the settings, for printing a trainer's loss."""
        return (
            f"filtration={self.filtration!r}, push_unmatched_to_1_0={self.push_unmatched_to_1_0}, "
            f"dimensions={self.dimensions}, connectivity={self.connectivity!r}, clamp={self.clamp}"
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
            mask: False at ignored voxels, which count as background in both and get no gradient.
        """
        return self.measure(probability, target, mask).loss

    def measure(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Bool[Tensor, "batch 1 *space"] | None = None,
    ) -> Measure:
        """Returns the loss of `forward`, and how many bars are matched, removed and missing."""
        return self.begin(probability, target, mask)()

    def begin(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Bool[Tensor, "batch 1 *space"] | None = None,
    ) -> Callable[[], Measure]:
        """Starts `measure` in other threads, and returns a function that waits for its result."""
        probability, foreground = prepare(probability, target, mask)
        assert foreground is not None
        channels = probability.shape[0] * probability.shape[1]
        if self.filtration == "both":
            probability = torch.cat([probability, 1 - probability])
            foreground = torch.cat([foreground, ~foreground])
        dimensions = check_dimensions(self.dimensions, probability.ndim - 2)
        jobs = [
            in_thread(_bars, values, goal, self.connectivity, dimensions, self.clamp)
            for values, goal in zip(
                channels_in_memory(probability.detach()),
                channels_in_memory(foreground),
                strict=True,
            )
        ]
        return lambda: self._measure(probability, [job() for job in jobs], channels)

    def _measure(self, probability: Tensor, bars: "list[_Bars]", channels: int) -> Measure:
        matched = self._ends(probability, [found.matched for found in bars])
        others = self._ends(probability, [found.others for found in bars])
        missing = self._ends(probability, [found.missing for found in bars])
        cost = 2 * ((1 - matched[0]) ** 2 + matched[1] ** 2).sum()
        cost = cost + ((others[0] - others[1]) ** 2).sum()
        if self.push_unmatched_to_1_0:
            cost = cost + 2 * ((1 - missing[0]) ** 2 + missing[1] ** 2).sum()
        else:
            cost = cost + len(missing[0])
        counts = BarCounts(len(matched[0]), len(others[0]), len(missing[0]))
        return Measure(cost / max(channels, 1), bars=counts)

    def _ends(self, probability: Tensor, voxels: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """Returns births and deaths of the bars of all channels, which carry the gradient."""
        channel = np.repeat(np.arange(len(voxels)), [len(found) for found in voxels])
        birth, death = np.concatenate([np.empty((0, 2), np.int64), *voxels]).T
        rows = probability.flatten(0, 1).flatten(1)

        def values(voxel: NDArray[np.int64]) -> Tensor:
            where = [torch.from_numpy(index).to(rows.device) for index in (channel, voxel)]
            gathered = rows[tuple(where)]
            return gathered.clamp(min=self.clamp) if self.clamp > 0 else gathered

        dies = torch.from_numpy(death != NO_VOXEL).to(rows.device)
        deaths = torch.where(dies, values(np.where(death == NO_VOXEL, 0, death)), 0)
        return values(birth), deaths


@dataclass(frozen=True, slots=True)
class _Bars:
    """Birth and death voxels, `[bar, 2]`, of one channel.

    Attributes:
        matched: of the prediction's bars with a partner.
        others: of those without.
        missing: of the target's bars without a partner.
    """

    matched: NDArray[np.int64]
    others: NDArray[np.int64]
    missing: NDArray[np.int64]


def _bars(
    values: Callable[[], np.ndarray],
    target: Callable[[], np.ndarray],
    connectivity: Connectivity,
    dimensions: tuple[int, ...],
    clamp: float,
) -> _Bars:
    """Matches the bars of one channel; the arguments wait for its copy."""
    found = match_betti(
        values(), target(), connectivity=connectivity, dimensions=dimensions, clamp=clamp
    )
    prediction, goal = (
        np.stack([pairs.birth, pairs.death], axis=1) for pairs in (found.prediction, found.target)
    )
    partners, partners_of = found.matched.T
    return _Bars(
        prediction[partners],
        np.delete(prediction, partners, axis=0),
        np.delete(goal, partners_of, axis=0),
    )
