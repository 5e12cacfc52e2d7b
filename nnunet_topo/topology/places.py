"""Structures of a binary target, and which of them a bar of a prediction lies at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology.betti import euler_characteristic
from nnunet_topo.topology.masks import dual, label_components
from nnunet_topo.topology.persistence import (
    NO_VOXEL,
    Connectivity,
    PersistencePairs,
    persistence_pairs,
)


@dataclass(frozen=True, slots=True)
class Places:
    """The structures of a mask, by dimension of their bars.

    Attributes:
        betti: Betti numbers.
        capacity: for each dimension, how many bars each structure has, by its number; structures
            count from 1.
        components: number of the component of each voxel, 0 for background.
        holes: number of the hole (2D) or cavity (3D) of each voxel, 0 elsewhere.
    """

    betti: tuple[int, ...]
    capacity: Sequence[NDArray[np.int64]]
    components: NDArray[np.integer] | None = None
    holes: NDArray[np.integer] | None = None

    @classmethod
    def of_nothing(cls, ndim: int) -> "Places":
        """Returns the places of a mask without foreground."""
        return cls((0,) * ndim, [np.zeros(1, np.int64)] * ndim)

    def places_of(self, pairs: PersistencePairs) -> NDArray[np.int64]:
        """Returns the structure at each bar, 0 for none.

        A component is that of the birth voxel, and so is the one that a loop in 3D belongs to; a
        hole or cavity is that of the death voxel.
        """
        if self.components is None or self.holes is None:
            return np.zeros(len(pairs.birth), np.int64)
        top = self.components.ndim - 1
        place = self.components.ravel()[pairs.birth].astype(np.int64)
        enclosed = pairs.dimension == top
        death = pairs.death[enclosed]
        place[enclosed] = np.where(death == NO_VOXEL, 0, self.holes.ravel()[death])
        return place


def find_places(mask: NDArray[np.bool_], connectivity: Connectivity) -> Places:
    """Returns the components and the holes or cavities of a mask, and how many bars each has."""
    components, number = label_components(mask, connectivity)
    holes, enclosed = _label_holes(mask, connectivity)
    zeroth, top = _one_each(number), _one_each(enclosed)
    if mask.ndim == 2:
        return Places((number, enclosed), (zeroth, top), components, holes)
    loops = number + enclosed - euler_characteristic(mask, connectivity=connectivity)
    first = np.zeros(number + 1, np.int64)
    if loops and number == 1:
        first[1] = loops
    elif loops:
        pairs = persistence_pairs(mask, connectivity=connectivity, dimensions=(1,))
        first = np.bincount(components.ravel()[pairs.birth], minlength=number + 1)
    return Places((number, loops, enclosed), (zeroth, first, top), components, holes)


def _one_each(number: int) -> NDArray[np.int64]:
    capacity = np.ones(number + 1, np.int64)
    capacity[0] = 0
    return capacity


def _label_holes(
    mask: NDArray[np.bool_], connectivity: Connectivity
) -> tuple[NDArray[np.integer], int]:
    """Returns the enclosed components of the background as labels from 1, and their number."""
    background = np.pad(~mask, 1, constant_values=True)
    labels, number = label_components(background, dual(connectivity))
    outside = labels[(0,) * labels.ndim]
    inner = labels[(slice(1, -1),) * labels.ndim]
    renumbered = np.arange(number + 1, dtype=labels.dtype)
    renumbered[renumbered > outside] -= 1
    renumbered[outside] = 0
    return renumbered[inner], number - 1
