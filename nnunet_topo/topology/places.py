"""The structures of a binary target, and which of them each bar of a prediction lies at."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology.betti import euler_characteristic
from nnunet_topo.topology.masks import dual, foreground_box, label_components
from nnunet_topo.topology.persistence import (
    Connectivity,
    PersistencePairs,
    persistence_pairs,
)

APART, ANCHORED, INSIDE = 0, 1, 2
"""How well a bar fits the target, see `Places.fit_of`."""


@dataclass(frozen=True, slots=True)
class Places:
    """The structures of a mask: its components, its holes or cavities, and its loops in 3D.

    Attributes:
        betti: Betti numbers.
        capacity: for each dimension, how many bars each structure has. Structures count from 1;
            number 0 stands for no structure.
        components: number of the component of each voxel, 0 for background; None without
            foreground.
        holes: number of the hole (2D) or cavity (3D) of each voxel, 0 elsewhere; likewise.
    """

    betti: tuple[int, ...]
    capacity: Sequence[NDArray[np.int64]]
    components: NDArray[np.int32] | None = None
    holes: NDArray[np.int32] | None = None

    @classmethod
    def empty(cls, ndim: int) -> "Places":
        """Returns the places of a mask without foreground."""
        return cls((0,) * ndim, [np.zeros(1, np.int64)] * ndim)

    def locate(
        self, pairs: PersistencePairs, dies_somewhere: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the structure at which each bar lies, 0 for none, and how well it fits there.

        A component is found by the birth voxel, a hole or cavity by the death voxel. A loop in 3D
        is found by the component that its birth voxel belongs to or touches.

        A bar is INSIDE if it is born in the foreground and dies in the background. It is ANCHORED
        if only its birth is misplaced: a hole or cavity that dies in one of the target, or, if the
        target has loops, a loop in 3D that is born beside exactly one component and dies in the
        background. A thin ring that is displaced by half its width has such a bar. All other bars
        are APART.

        Args:
            pairs: bars, with voxels of the mask.
            dies_somewhere: whether the death voxel says where the bar dies. If it does not, the
                death counts as background.
        """
        if self.components is None or self.holes is None:
            nothing = np.zeros(len(pairs.birth), np.int64)
            return nothing, nothing.copy()
        components, top = self.components.ravel(), self.components.ndim - 1
        place = components[pairs.birth].astype(np.int64)
        in_foreground = place > 0
        in_background = ~(dies_somewhere & (components[pairs.death] > 0))
        anchored = np.zeros(len(place), bool)
        encloses = pairs.dimension == top
        # Such a bar always dies; only the essential class of dimension 0 has no death voxel.
        place[encloses] = self.holes.ravel()[pairs.death][encloses]
        anchored[encloses] = place[encloses] > 0
        if self.components.ndim == 3 and self.betti[1]:
            beside = (pairs.dimension == 1) & ~in_foreground & in_background
            place[beside] = self._component_beside(pairs.birth[beside])
            anchored[beside] = place[beside] > 0
        inside = in_foreground & in_background
        return place, np.where(inside, INSIDE, np.where(anchored, ANCHORED, APART))

    def _component_beside(self, voxel: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the only component that touches each voxel, 0 if there is none or more."""
        assert self.components is not None
        shape = self.components.shape
        index = np.unravel_index(voxel, shape)
        most = np.zeros(len(voxel), np.int64)
        least = np.full(len(voxel), np.iinfo(np.int64).max)
        for step in product((-1, 0, 1), repeat=len(shape)):
            moved = tuple(
                np.clip(i + s, 0, side - 1) for i, s, side in zip(index, step, shape, strict=True)
            )
            found = self.components[moved].astype(np.int64)
            np.maximum(most, found, out=most)
            np.minimum(least, found, out=least, where=found > 0)
        return np.where(most == least, most, 0)


def find_places(mask: NDArray[np.bool_], connectivity: Connectivity) -> Places:
    """Returns the structures of a mask.

    Args:
        mask: 2D or 3D.
        connectivity: of the foreground, as for `betti_numbers`.
    """
    box = foreground_box(mask)
    inner = np.pad(mask[box], 1)  # a hole does not reach out of the box
    own, number = label_components(inner, connectivity)
    background, regions = label_components(~inner, dual(connectivity))
    if not number:
        return Places.empty(mask.ndim)
    outside = background[(0,) * mask.ndim]
    renumbered = np.arange(regions + 1, dtype=np.int32)
    renumbered[outside:] -= 1
    renumbered[outside] = 0
    within = (slice(1, -1),) * mask.ndim
    components, holes = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.int32)
    components[box], holes[box] = own[within], renumbered[background[within]]
    enclosed = regions - 1
    zeroth, top = _one_each(number), _one_each(enclosed)
    if mask.ndim == 2:
        return Places((number, enclosed), (zeroth, top), components, holes)
    if number == 1:
        loops = number + enclosed - euler_characteristic(inner, connectivity=connectivity)
        first = np.array([0, loops])
    else:
        pairs = persistence_pairs(mask, connectivity=connectivity, dimensions=(1,))
        first = np.bincount(components.ravel()[pairs.birth], minlength=number + 1)
        loops = len(pairs.birth)
    return Places((number, loops, enclosed), (zeroth, first, top), components, holes)


def _one_each(number: int) -> NDArray[np.int64]:
    capacity = np.ones(number + 1, np.int64)
    capacity[0] = 0
    return capacity
