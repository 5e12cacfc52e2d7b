"""Labels, regions and unions that are corrected, and what a voxel may become for one of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology.betti_range import BettiPrior

BACKGROUND = 0


@dataclass(frozen=True, slots=True)
class Structure:
    """A label, a region or a union of labels.

    Attributes:
        name: what it is called.
        labels: its values in a label map.
        prior: wanted Betti numbers; None if only its present ones must be kept.
    """

    name: str
    labels: tuple[int, ...]
    prior: BettiPrior | None = None

    def mask(self, label_map: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Returns where it is."""
        if len(self.labels) == 1:
            return label_map == self.labels[0]
        return np.isin(label_map, self.labels)

    def worse(self, before: Sequence[int], after: Sequence[int]) -> bool:
        """Returns whether it must not change from some Betti numbers to others."""
        if self.prior is None:
            return tuple(before) != tuple(after)
        return self.prior.error(after) > self.prior.error(before)


def strongest_first(structures: Sequence[Structure], *, nested: bool) -> list[Structure]:
    """Returns the structures with a prior in the order in which they are corrected.

    Those with most numbers that are fixed come first, then those with most that are bounded. Of
    equal ones, nested regions go from the outside inwards, labels before unions of them.

    Args:
        structures: with or without a prior.
        nested: whether larger structures come first.
    """

    def strength(structure: Structure) -> tuple[float, ...]:
        assert structure.prior is not None
        fixed = sum(number.low == number.high for number in structure.prior)
        bounded = sum(not number.is_free for number in structure.prior)
        size = len(structure.labels)
        return (-size if nested else size > 1, -fixed, -bounded)

    with_prior = [s for s in structures if s.prior is not None and not s.prior.is_free]
    return sorted(with_prior, key=strength)


@dataclass(frozen=True, slots=True)
class Moves:
    """What each label may become if its voxel enters or leaves a structure.

    Attributes:
        choices: for each label, those it may become, with the fewest other structures that gain or
            lose the voxel first.
        disturbed: for each label, how many other structures the first choice changes.
    """

    choices: dict[int, tuple[int, ...]]
    disturbed: dict[int, int]

    @classmethod
    def of(
        cls, structure: Structure, others: Sequence[Structure], labels: Collection[int]
    ) -> "Moves":
        """Returns the moves of a structure.

        Args:
            structure: that is corrected.
            others: all others.
            labels: all values that a label map may have, without that of ignored voxels.
        """
        choices, disturbed = {}, {}
        for label in labels:
            enters = label not in structure.labels
            possible = [other for other in sorted(labels) if (other in structure.labels) == enters]
            changes = {
                other: sum((label in o.labels) != (other in o.labels) for o in others)
                for other in possible
            }
            choices[label] = tuple(sorted(possible, key=lambda o: changes[o]))
            disturbed[label] = min(changes.values(), default=0)
        return cls(choices, disturbed)

    @property
    def locked(self) -> list[int]:
        """Returns the labels of voxels that cannot move without changing another structure."""
        return [label for label, number in self.disturbed.items() if number]
