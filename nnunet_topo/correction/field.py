"""A mask to be corrected: what each voxel costs, and the same for its complement."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.masks import dual

Mask = NDArray[np.bool_]
HIGHEST = 1e3  # score of the outside in the complement, above that of any voxel


@dataclass(frozen=True, slots=True)
class Field:
    """What a mask is corrected by.

    By Alexander duality, a hole of an image and a cavity of a volume are components of the
    complement, and a loop of a volume is a loop of the complement. So one function joins or removes
    components and opens or fills what is enclosed.

    Attributes:
        score: above 0 in the mask, the higher the more certain; at or below 0 outside.
        cost: of changing a voxel, from 0, infinite where it must stay.
        connectivity: of the mask.
        has_outside: whether the first voxel lies in a component that must stay, the outside.
    """

    score: NDArray[np.float64]
    cost: NDArray[np.float64]
    connectivity: Connectivity
    has_outside: bool = False

    @property
    def mask(self) -> Mask:
        """Returns the mask before any change."""
        return self.score > 0

    def cost_of(self, mask: Mask) -> float:
        """Returns the cost of the voxels in which a mask differs from the one before any change."""
        return float(self.cost[mask != self.mask].sum())

    def cost_from(self, mask: Mask) -> NDArray[np.float64]:
        """Returns what it costs to change each voxel of a mask; changing one back is free."""
        return np.where(mask == self.mask, self.cost, 0)

    def complement(self) -> "Field":
        """Returns the field of the complement, with a margin of the outside around it."""
        score = -np.pad(self.score, 1, constant_values=-HIGHEST)
        # a score of 0 is background, and -0.0 would not be foreground of the complement
        score[score == 0] = np.finfo(np.float64).tiny
        cost = np.pad(self.cost, 1, constant_values=np.inf)
        return Field(score, cost, dual(self.connectivity), has_outside=True)


def complement(mask: Mask) -> Mask:
    """Returns the complement of a mask, with a margin of the outside around it."""
    return ~np.pad(mask, 1)


def without_margin(mask: Mask) -> Mask:
    """Returns the mask whose complement this is."""
    return ~mask[(slice(1, -1),) * mask.ndim]
