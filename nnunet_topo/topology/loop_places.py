"""Where a volume has loops that another volume lacks: their births, deaths and short cycles.

Of the loops of a mask A, those without a partner in a mask B, with the union U of both, are

- tunnels: loops of A that are filled in U. They die in the filtration A, then U, whose voxels enter
by their distance from A, those far from its mouths first: a tunnel is closed in its middle.
- handles: loops of A that live in U and are no loops of B there. They are born in the filtration
A & B, then A, whose voxels enter by their distance from B: a handle is closed in its middle.

The number of tunnels is exact, and the number of handles is what `match_betti_numbers` leaves.
Where masks touch without overlapping, the filtration may have more bars than that. Then those count
whose cycles add to the loops of B and of the handles before.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_topo.topology.betti import betti_numbers
from nnunet_topo.topology.betti_matching import match_betti_numbers, surviving_loops
from nnunet_topo.topology.bridges import find_bridges
from nnunet_topo.topology.masks import label_components
from nnunet_topo.topology.persistence import Connectivity, persistence_pairs

MOST_CYCLES = 100  # of tunnels of a mask, and of handles; further loops have a place and no cycle
_FEWEST_VOXELS = 4  # of a loop
_FIRST_REACH = 8  # voxels around a place, doubled until a cycle is found
_MOST_TRIED = 8  # cycles around a tunnel in each of these boxes
_MOST_TESTED = 50  # handles that are tested against each other
_EXACT_IN_FLOAT32 = 2**24

Voxel = tuple[int, ...]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop of a mask without a partner.

    Attributes:
        is_tunnel: the other mask fills it; otherwise it is a handle, or a ring.
        birth: the voxel that closes the cycle, None for a tunnel without a cycle.
        death: the voxel that would fill the loop last.
        cycle: `[voxel, 3]`, in order; none where no cycle was found.
    """

    is_tunnel: bool
    birth: Voxel | None
    death: Voxel
    cycle: Int64[np.ndarray, "voxels 3"]


def find_loops(
    own: Mask, other: Mask, union: NDArray[np.int32], connectivity: Connectivity, *, first: Mask
) -> Iterator[Loop]:
    """Yields the loops of one mask, own, without a partner in the other.

    Args:
        own: volume with a margin of background.
        other: likewise.
        union: number of each voxel's component in the union of both.
        connectivity: of the foreground.
        first: voxels of own that enter first; the loops are closed elsewhere.
    """
    left = {True: MOST_CYCLES, False: MOST_CYCLES}
    for label, box in enumerate(ndimage.find_objects(union), start=1):
        inside = union[box] == label
        of_own, of_other, early = (np.pad(m[box] & inside, 1) for m in (own, other, first))
        if np.count_nonzero(of_own) < _FEWEST_VOXELS:
            continue
        begin = np.array([side.start - 1 for side in box])
        for loop in _loops(of_own, of_other, early, connectivity, left[True], left[False]):
            left[loop.is_tunnel] -= bool(len(loop.cycle))
            yield Loop(
                loop.is_tunnel,
                None if loop.birth is None else _at(loop.birth + begin),
                _at(loop.death + begin),
                loop.cycle + begin if len(loop.cycle) else loop.cycle,
            )


def _loops(
    own: Mask,
    other: Mask,
    first: Mask,
    connectivity: Connectivity,
    most_tunnels: int,
    most_handles: int,
) -> Iterator[Loop]:
    """Yields the loops of one component of the union; those after the most without cycles."""
    number = betti_numbers(own, connectivity=connectivity)[1]
    if not number:
        return
    matched = match_betti_numbers(own, other, connectivity=connectivity).matched[1]
    none = np.empty((0, 3), np.int64)
    deaths = _tunnels(own, other, connectivity)
    for death in deaths:
        loop = Loop(True, None, death, none)
        if most_tunnels > 0:
            loop = _tunnel_with_cycle(death, own, own | other, connectivity) or loop
        most_tunnels -= bool(len(loop.cycle))
        yield loop
    handles = number - matched - len(deaths)
    if handles:
        order = _order_of_handles(own, other, first)
        bars = _alive(order, own & ~other, connectivity)
        yield from _handles(bars, handles, order, own, other, connectivity, most_handles)


def _tunnels(own: Mask, other: Mask, connectivity: Connectivity) -> list[Voxel]:
    """Returns where the other mask fills loops of the first, the last voxel of each filling."""
    filling = other & ~own
    if not filling.any():
        return []
    mouths = ndimage.binary_dilation(filling, np.ones((3, 3, 3))) & ~(own | other)
    depth = ndimage.distance_transform_edt(~mouths) if mouths.any() else np.zeros(own.shape)
    order = _ranked(filling, ndimage.distance_transform_edt(~own), -depth)
    order[own] = len(order.ravel())
    pairs = persistence_pairs(order, connectivity=connectivity, dimensions=(1,))
    filled = own.ravel()[pairs.birth] & filling.ravel()[pairs.death]
    return [_at(np.unravel_index(death, own.shape)) for death in pairs.death[filled]]


def _order_of_handles(own: Mask, other: Mask, first: Mask) -> Float[np.ndarray, "z y x"]:
    """Returns values at which voxels enter: A & B, then A, then the background from A outwards."""
    both = own & other
    distance = ndimage.distance_transform_edt(~both) if both.any() else np.zeros(own.shape)
    distance = np.where(first, 0, distance)
    order = _ranked(own & ~other, distance)
    order[both] = order.size
    outside = ndimage.distance_transform_edt(~own)
    return np.where(own, order, -outside).astype(order.dtype)


def _ranked(
    mask: Mask,
    distance: Float[np.ndarray, "z y x"],
    further: Float[np.ndarray, "z y x"] | None = None,
) -> Float[np.ndarray, "z y x"]:
    """Returns different numbers above 0 for the voxels of a mask, larger ones for near voxels.

    Of voxels that are equally near, those with the smallest further values come first.
    """
    voxels = np.flatnonzero(mask)
    values = np.zeros(mask.size, np.float32 if mask.size < _EXACT_IN_FLOAT32 else np.float64)
    keys = [of.ravel()[voxels] for of in (further, distance) if of is not None]
    near_first = np.lexsort(keys)
    values[voxels[near_first]] = np.arange(len(voxels), 0, -1)
    return values.reshape(mask.shape)


def _alive(
    order: Float[np.ndarray, "z y x"], born_in: Mask, connectivity: Connectivity
) -> list[tuple[Voxel, Voxel]]:
    """Returns births and deaths of the loops born in a mask that die in the background."""
    pairs = persistence_pairs(order, connectivity=connectivity, dimensions=(1,))
    values = order.ravel()
    lives = born_in.ravel()[pairs.birth] & (values[pairs.death] <= 0)
    ends = zip(pairs.birth[lives], pairs.death[lives], strict=True)
    early = sorted(ends, key=lambda bar: -values[bar[0]])
    shape = order.shape
    return [(_at(np.unravel_index(b, shape)), _at(np.unravel_index(d, shape))) for b, d in early]


def _handles(
    bars: Sequence[tuple[Voxel, Voxel]],
    number: int,
    order: Float[np.ndarray, "z y x"],
    own: Mask,
    other: Mask,
    connectivity: Connectivity,
    most: int,
) -> Iterator[Loop]:
    """Yields as many handles as there are, of bars that may be more."""
    chosen: list[tuple[Voxel, Voxel]] = list(bars)
    if len(bars) > number:
        chosen = _independent(bars, number, order, own, other, connectivity)
    for place, (birth, death) in enumerate(chosen):
        cycle = np.empty((0, 3), np.int64)
        if place < most:
            cycle = _cycle_through(birth, order, own, connectivity)
        yield Loop(False, birth, death, cycle)


def _independent(
    bars: Sequence[tuple[Voxel, Voxel]],
    number: int,
    order: Float[np.ndarray, "z y x"],
    own: Mask,
    other: Mask,
    connectivity: Connectivity,
) -> list[tuple[Voxel, Voxel]]:
    """Returns the bars whose cycles add to the loops of the other mask, and the last ones else."""
    union, with_cycles = own | other, other.copy()
    rank = surviving_loops(other, union, connectivity)
    added: list[tuple[Voxel, Voxel]] = []
    others: list[tuple[Voxel, Voxel]] = []
    for place, bar in enumerate(reversed(bars)):  # those farthest from the other mask first
        if len(added) < number and place < _MOST_TESTED:
            cycle = _cycle_through(bar[0], order, own, connectivity)
            wider = with_cycles.copy()
            wider[tuple(cycle.T)] = True
            now = surviving_loops(wider, union, connectivity)
            if now > rank:
                with_cycles, rank = wider, now
                added.append(bar)
                continue
        others.append(bar)
    return (added + others)[:number]


def _cycle_through(
    birth: Voxel, order: Float[np.ndarray, "z y x"], own: Mask, connectivity: Connectivity
) -> Int64[np.ndarray, "voxels 3"]:
    """Returns a short cycle that a voxel closes, none where there is none.

    The cycle leaves the voxel and comes back through different parts of its older neighbours. If
    there are just two such parts, the loop that is born there is the cycle. If there are more, the
    cycle is the first that bounds nothing in the mask.

    Args:
        birth: the voxel.
        order: values at which voxels enter; older ones have larger values.
        own: mask with all of them.
        connectivity: of the mask.
    """
    reach = _FIRST_REACH
    while True:
        window = _window(birth, reach, own.shape)
        begin = np.array([side.start for side in window])
        centre = _at(np.array(birth) - begin)
        older = order[window] > order[birth]
        parts, number = _parts_around(centre, older, connectivity)
        passable = older & (parts == 0)
        paths = []
        for bridge in find_bridges(parts, passable, connectivity, wide=False):
            a, b = bridge.ends
            paths.append(np.array([centre, a, *map(_at, bridge.path), b], np.int64) + begin)
        for path in sorted(paths, key=len):
            if number == 2 or _rank(path, own, connectivity):
                return path
        if all(s.stop - s.start == side for s, side in zip(window, own.shape, strict=True)):
            return np.empty((0, 3), np.int64)
        reach *= 2


def _parts_around(
    centre: Voxel, older: Mask, connectivity: Connectivity
) -> tuple[NDArray[np.int32], int]:
    """Returns the parts of a voxel's neighbours, numbered, and how many there are.

    With face connectivity two of the six neighbours are in one part if the voxel between them is
    there, too.
    """
    near = _window(centre, 1, older.shape)
    middle = _at(np.array(centre) - [side.start for side in near])
    around = older[near].copy()
    around[middle] = False
    away = np.abs(np.indices(around.shape) - np.reshape(middle, (3, 1, 1, 1))).sum(axis=0)
    if connectivity == "face":
        around &= away < 3
    labels = label_components(around, connectivity)[0]
    touching = np.where(away == 1, labels, 0) if connectivity == "face" else labels
    used = np.unique(touching[touching > 0])
    numbers = np.zeros(int(labels.max()) + 1, np.int32)
    numbers[used] = np.arange(1, len(used) + 1)
    parts = np.zeros(older.shape, np.int32)
    parts[near] = numbers[touching]
    return parts, len(used)


def _tunnel_with_cycle(
    death: Voxel, own: Mask, union: Mask, connectivity: Connectivity
) -> Loop | None:
    """Returns a tunnel with a short cycle around its death, None where no cycle was found.

    The cycle bounds something in the union and nothing in the mask.
    """
    reach = _FIRST_REACH
    while True:
        window = _window(death, reach, own.shape)
        begin = np.array([side.start for side in window])
        mask = own[window]
        away = np.indices(mask.shape) - np.reshape(np.array(death) - begin, (3, 1, 1, 1))
        order = _ranked(mask, np.sqrt((away**2).sum(axis=0)))
        for birth, _ in _alive(order, mask, connectivity)[:_MOST_TRIED]:
            cycle = _cycle_through(birth, order, mask, connectivity)
            if not len(cycle) or _rank(cycle, union[window], connectivity) >= _rank(
                cycle, mask, connectivity
            ):
                continue
            if _rank(cycle + begin, own, connectivity):
                return Loop(True, _at(birth + begin), death, cycle + begin)
        if all(s.stop - s.start == side for s, side in zip(window, own.shape, strict=True)):
            return None
        reach *= 2


def _rank(cycle: Int64[np.ndarray, "voxels 3"], mask: Mask, connectivity: Connectivity) -> int:
    """Returns how many loops of a cycle, mostly one, bound nothing in a mask."""
    drawn = np.zeros(mask.shape, bool)
    drawn[tuple(cycle.T)] = True
    return surviving_loops(drawn, mask, connectivity)


def _window(centre: Voxel, reach: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(max(c - reach, 0), min(c + reach + 1, side))
        for c, side in zip(centre, shape, strict=True)
    )


def _at(voxel: Iterable[Any]) -> Voxel:
    return tuple(int(c) for c in voxel)
