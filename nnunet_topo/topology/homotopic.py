"""Changes of a mask in the order of costs: along simple points, paths and watersheds.

A mask that is changed at simple points only keeps its Betti numbers, however far it is changed.
Bazin, Pham: Topology-preserving tissue classification of magnetic resonance brain images. IEEE
Transactions on Medical Imaging 2007. Simple points: Bertrand, Malandain: A new characterization of
three-dimensional simple points. Pattern Recognition Letters 1994, see `_thinning`.
"""

import threading
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology.persistence import Connectivity

_LEVELS = 2**16 - 1  # a radix sort is several times faster than a sort of floats
_SMALL = 1e-6  # cost of a voxel on a path that is free otherwise, so that paths stay short


def approach(
    mask: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    urgency: NDArray[Any],
    *,
    connectivity: Connectivity,
) -> NDArray[np.bool_]:
    """Returns a mask changed towards a wanted one as far as its Betti numbers stay as they are.

    From a seed inside the wanted mask this is homotopic growth, from a hull around it homotopic
    shrinking. Where fronts meet, voxels are left that differ from the wanted mask; they are those
    of least urgency on their way.

    Args:
        mask: 2D or 3D. The outside is background.
        wanted: of the same shape.
        urgency: which differing voxel is changed first, the larger first; of the same shape, from
            0. Infinite values count as the largest.
        connectivity: of the foreground.
    """
    kernels, thinning = _kernels()
    differing = np.flatnonzero(mask != wanted)
    if not len(differing):
        return mask.copy()
    image = thinning.padded(mask)
    row, plane = thinning.steps(image.shape)
    voxels = _in_padded(differing, mask.shape, row, plane)
    order = _falling(urgency.ravel()[differing])
    kernels.flip_simple(image.ravel(), voxels[order], row, plane, connectivity == "face")
    inside = image[1:-1, 1:-1, 1:-1] & thinning.ITSELF
    return inside.astype(bool).reshape(mask.shape)


def keeps_topology(mask: NDArray[np.bool_], *, connectivity: Connectivity) -> NDArray[np.bool_]:
    """Returns the voxels, of foreground or background, that can each be flipped: simple points.

    Args:
        mask: 2D or 3D. The outside is background.
        connectivity: of the foreground.
    """
    _, thinning = _kernels()
    image = thinning.padded(mask)
    row, plane = thinning.steps(image.shape)
    voxels = _in_padded(np.arange(mask.size), mask.shape, row, plane)
    found = thinning.simple_voxels(image.ravel(), voxels, row, plane, connectivity == "face")
    return found.reshape(mask.shape)


def _in_padded(
    voxels: NDArray[np.int64], shape: tuple[int, ...], row: int, plane: int
) -> NDArray[np.int64]:
    """Returns flat indices in the padded volume of those in a mask."""
    line, x = np.divmod(voxels, shape[-1])
    z, y = np.divmod(line, shape[-2])
    return (z + 1) * plane + (y + 1) * row + x + 1


def _falling(values: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the order of values from the largest to the least, equal ones as they come."""
    finite = values[np.isfinite(values)]
    top = float(finite.max(initial=0.0)) or 1.0
    levels = np.minimum(values / top, 1) * (_LEVELS - 1)
    return np.argsort((_LEVELS - levels).astype(np.uint16), kind="stable")


def offsets_of(shape: tuple[int, ...], connectivity: Connectivity) -> NDArray[np.int64]:
    """Returns the steps to the neighbours of a voxel in a flat array of some shape."""
    strides = np.cumprod((1, *shape[:0:-1]))[::-1]
    steps = [
        step
        for step in product((-1, 0, 1), repeat=len(shape))
        if any(step) and (connectivity == "full" or sum(map(abs, step)) == 1)
    ]
    return np.array(steps) @ strides


@dataclass(frozen=True, slots=True)
class Path:
    """The cheapest path between two groups of voxels.

    Attributes:
        group: number of the group that is reached, 0 if there is none.
        cost: sum over the voxels of the path, infinite if there is none.
        voxels: flat indices.
    """

    group: int
    cost: float
    voxels: NDArray[np.int64]


class Paths:
    """Cheapest paths from a group of voxels to the nearest other one.

    Args:
        groups: flat or not, with a margin of blocked voxels: number of the group of each voxel from
            1, 0 where a path may go, -1 where not. Changes are seen by the next call.
        cost: of each voxel on a path, of the same shape, from 0.
        connectivity: of the paths.
    """

    def __init__(
        self, groups: NDArray[np.int32], cost: NDArray[Any], connectivity: Connectivity
    ) -> None:
        self.groups = groups.reshape(-1)
        self.cost = cost.reshape(-1).astype(np.float64) + _SMALL
        self._offsets = offsets_of(groups.shape, connectivity)
        self._distance = np.full(self.groups.size, inf)
        self._came_from = np.empty(self.groups.size, np.int64)

    def make_free(self, voxels: NDArray[np.int64]) -> None:
        """Lets paths go through some voxels at no cost."""
        self.cost[voxels] = _SMALL

    def from_group(self, group: int, voxels: NDArray[np.int64], limit: float = inf) -> Path:
        """Returns the cheapest path from a group, of less than a limit.

        Args:
            group: its number.
            voxels: of the group, at least those at its border.
            limit: of the cost.
        """
        reached, cost, path = _kernels()[0].cheapest_path(
            self.groups,
            self.cost,
            self._distance,
            self._came_from,
            voxels,
            group,
            limit,
            self._offsets,
        )
        return Path(int(reached), float(cost), path)


def watershed_line(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    region: NDArray[np.bool_],
    height: NDArray[Any],
    *,
    connectivity: Connectivity,
) -> NDArray[np.bool_]:
    """Returns the voxels of a region that part two markers: without them, no path joins these.

    Args:
        first: marker inside the region.
        second: another one, which does not touch the first.
        region: 2D or 3D.
        height: what is high joins a marker first, so the line lies low.
        connectivity: of the region.
    """
    kernels, _ = _kernels()
    sides = np.where(region, kernels.UNDECIDED, 0).astype(np.int8)
    sides[first], sides[second] = 1, 2
    padded = np.pad(sides, 1)
    heights = np.pad(height.astype(np.float64), 1)
    offsets = offsets_of(padded.shape, connectivity)
    kernels.part_basins(padded.ravel(), heights.ravel(), offsets)
    parted = padded[(slice(1, -1),) * region.ndim]
    return (parted == kernels.LINE) | (parted == kernels.UNDECIDED)


_compiling = threading.Lock()


def _kernels() -> tuple[Any, Any]:
    """Returns the modules of the kernels, compiled once, and announced."""
    # numba: heavy, imported when a mask is changed
    from nnunet_topo.topology import _homotopic, _thinning

    with _compiling:
        _compile()
    return _homotopic, _thinning


@cache
def _compile() -> None:
    from nnunet_topo.topology import _homotopic, _thinning
    from nnunet_topo.topology._kernel import first_use_announced

    def call() -> None:
        image = _thinning.padded(np.ones((2, 2, 2), bool))
        row, plane = _thinning.steps(image.shape)
        voxels = np.array([plane + row + 1])
        _thinning.simple_voxels(image.ravel(), voxels, row, plane, False)
        _homotopic.flip_simple(image.ravel(), voxels, row, plane, False)
        flat = np.full(9, _homotopic.BLOCKED, np.int32)
        distance, came_from = np.full(9, inf), np.empty(9, np.int64)
        one = np.array([1])
        _homotopic.cheapest_path(flat, np.ones(9), distance, came_from, np.array([4]), 1, inf, one)
        _homotopic.part_basins(np.zeros(9, np.int8), np.zeros(9), one)

    with first_use_announced("homotopic changes", "_homotopic"):
        call()
