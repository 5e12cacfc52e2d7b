"""Betti matching as a loss: bars matched where they are the same feature in space.

Stucki, Paetzold, Shit, Menze, Bauer: Topologically Faithful Image Segmentation via Induced Matching
of Persistence Barcodes. ICML 2023, section 3.3. Stucki, Buergin, Paetzold, Bauer: Efficient Betti
Matching Enables Topology-Aware 3D Segmentation via Persistent Homology. 2024.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nnunet_topo.losses.diagrams import begin_matches, gather_ends
from nnunet_topo.losses.measure import BarCounts, Measure, prepare
from nnunet_topo.topology import Connectivity, MatchedPairs
from nnunet_topo.topology.persistence import check_connectivity, check_dimensions

Filtration = Literal["superlevel", "both"]


class BettiMatchingLoss(nn.Module):
    """Returns the Betti matching loss of a prediction and its binary target.

    A bar (b, d) of the prediction costs 2 [(1 - b)^2 + d^2] when matched with a bar (1, 0) of the
    target, and (b - d)^2, which is twice its squared distance to the diagonal, when not. A bar of
    the target without a match costs 1 and has no gradient. The essential classes, the components
    that never end, are matched with each other unless the target is empty.

    Args:
        filtration: "superlevel" compares the foregrounds. "both" is the mean of that and of the
            same for the backgrounds, 1 - p and 1 - target.
        push_unmatched_to_1_0: pushes the prediction to (1, 0) at the critical voxels of each bar of
            the target without a match, which costs 2 [(1 - p_birth)^2 + p_death^2] instead of 1:
            a structure that is missing altogether gets a gradient.
        tau: voxels of which the network is confident have no gradient: p >= tau counts as 1, and
            p <= 1 - tau as 0. Fewer bars are left, which is faster. None for none.
        tube: only voxels at most so far from the foreground of the target count, along each axis;
            all others are background. None for the whole patch.
        dimensions: homology dimensions, default all.
        connectivity: of the foreground, in prediction and target; see `persistence_pairs`.
        clamp: None changes nothing. Otherwise p is raised to at least this before the filtration.
            No bar moves by more, and voxels below it get no gradient.

    Raises:
        ValueError: unknown names, numbers out of range; tensors whose shapes do not fit, NaN,
            probabilities outside [0, 1].
    """

    needs_intact_labels = True  # it takes the topology of the target

    def __init__(
        self,
        *,
        filtration: Filtration = "superlevel",
        push_unmatched_to_1_0: bool = False,
        tau: float | None = None,
        tube: int | None = None,
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
        if tau is not None and not 0.5 < tau <= 1:
            raise ValueError(f"tau must lie in (0.5, 1], got {tau}")
        if tube is not None and tube < 0:
            raise ValueError(f"tube must be at least 0 voxels, got {tube}")
        self.filtration = filtration
        self.push_unmatched_to_1_0 = push_unmatched_to_1_0
        self.tau, self.tube = tau, tube
        self.dimensions = None if dimensions is None else check_dimensions(dimensions, 3)
        self.connectivity: Connectivity = connectivity
        self.clamp = 0.0 if clamp is None else clamp  # probabilities are never below 0

    def extra_repr(self) -> str:
        """Returns the settings, for printing a trainer's loss."""
        return (
            f"filtration={self.filtration!r}, push_unmatched_to_1_0={self.push_unmatched_to_1_0}, "
            f"tau={self.tau}, tube={self.tube}, "
            f"dimensions={self.dimensions}, connectivity={self.connectivity!r}, clamp={self.clamp}"
        )

    def forward(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the sum over bars and dimensions, mean over samples and channels.

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
        """Returns the loss of `forward`, and how many bars are matched, removed and missing."""
        return self.begin(probability, target, mask)()

    def begin(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    ) -> Callable[[], Measure]:
        """Starts `measure` in other threads, and returns a function that waits for its result."""
        probability, foreground = prepare(probability, target, mask)
        assert foreground is not None
        if not probability.numel():
            return lambda: Measure(probability.sum())  # of nothing
        probability = self._sparse(probability, foreground)
        if self.filtration == "both":
            probability = torch.cat([probability, 1 - probability])
            foreground = torch.cat([foreground, ~foreground])
        matches = begin_matches(
            probability,
            foreground,
            connectivity=self.connectivity,
            dimensions=check_dimensions(self.dimensions, probability.ndim - 2),
            clamp=self.clamp,
        )
        return lambda: self._measure(probability, matches())

    def _sparse(self, probability: Tensor, foreground: Tensor) -> Tensor:
        """Returns the probability without gradient where nothing is to be changed."""
        if self.tube is not None:
            pool = functional.max_pool2d if foreground.ndim == 4 else functional.max_pool3d
            near = pool(foreground.float(), 2 * self.tube + 1, 1, self.tube) > 0
            probability = torch.where(near, probability, 0)
        if self.tau is not None:
            probability = torch.where(probability >= self.tau, 1, probability)
            probability = torch.where(probability <= 1 - self.tau, 0, probability)
        return probability

    def _measure(self, probability: Tensor, found: list[MatchedPairs]) -> Measure:
        partners = [pairs.matched.T for pairs in found]
        prediction = [_ends(pairs.prediction.birth, pairs.prediction.death) for pairs in found]
        target = [_ends(pairs.target.birth, pairs.target.death) for pairs in found]
        matched = [bars[own] for bars, (own, _) in zip(prediction, partners, strict=True)]
        others = [
            np.delete(bars, own, axis=0)
            for bars, (own, _) in zip(prediction, partners, strict=True)
        ]
        missing = [
            np.delete(bars, theirs, axis=0)
            for bars, (_, theirs) in zip(target, partners, strict=True)
        ]
        b, d = self._gather(probability, matched)
        cost = 2 * ((1 - b) ** 2 + d**2).sum()
        b, d = self._gather(probability, others)
        cost = cost + ((b - d) ** 2).sum()
        if self.push_unmatched_to_1_0:
            b, d = self._gather(probability, missing)
            cost = cost + 2 * ((1 - b) ** 2 + d**2).sum()
        else:
            cost = cost + sum(map(len, missing))
        counts = BarCounts(*(sum(map(len, bars)) for bars in (matched, others, missing)))
        return Measure(cost / max(len(found), 1), bars=counts)

    def _gather(
        self, probability: Tensor, voxels: list[NDArray[np.int64]]
    ) -> tuple[Tensor, Tensor]:
        """Returns births and deaths of the bars of all channels, which carry the gradient."""
        channel = np.repeat(np.arange(len(voxels)), [len(bars) for bars in voxels])
        birth, death = np.concatenate([np.empty((0, 2), np.int64), *voxels]).T
        return gather_ends(probability, channel, birth, death, self.clamp)


def _ends(birth: NDArray[np.int64], death: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns `[bar, 2]`, birth and death voxel of each bar."""
    return np.stack([birth, death], axis=1)
