"""The shortest bridges between parts of a mask, through voxels that belong to none of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from nnunet_topo.topology.masks import foreground_box
from nnunet_topo.topology.persistence import Connectivity


@dataclass(frozen=True, slots=True)
class Bridge:
    """Where two parts come nearest to each other.

    Attributes:
        voxels: `[voxel, axis]`, of all shortest paths that lie side by side.
        path: of these, one path from part to part, in order, without the parts.
        ends: the voxels of both parts at the ends of the path.
    """

    voxels: Int64[np.ndarray, "voxels axes"]
    path: Int64[np.ndarray, "steps axes"]
    ends: tuple[tuple[int, ...], tuple[int, ...]]


def find_bridges(
    parts: NDArray[np.integer],
    passable: NDArray[np.bool_],
    connectivity: Connectivity,
    avoid: NDArray[np.bool_] | None = None,
    *,
    wide: bool = True,
) -> list[Bridge]:
    """Returns the shortest bridges that join all parts that can be joined, one less than parts.

    A minimum spanning forest of the parts: no bridge joins two that shorter bridges join.

    Args:
        parts: number of each voxel's part, from 1, 0 elsewhere. No two parts touch.
        passable: voxels of bridges; none belongs to a part.
        connectivity: of parts and bridges.
        avoid: voxels that bridges pass only where nothing else joins the parts.
        wide: whether bridges have the voxels of all shortest paths, or just of one.
    """
    box = foreground_box(parts > 0, passable)
    if box[0].start == box[0].stop:
        return []
    inner, free = np.pad(parts[box], 1), np.pad(passable[box], 1)
    joined = np.arange(int(inner.max()) + 1)
    found = []
    for way in (free,) if avoid is None else (free & ~np.pad(avoid[box], 1), free):
        found += _bridges(inner, way, connectivity, joined, wide)
    begin = np.array([side.start - 1 for side in box])
    return [
        Bridge(
            of.voxels + begin, of.path + begin, (_add(of.ends[0], begin), _add(of.ends[1], begin))
        )
        for of in found
    ]


def _add(voxel: tuple[int, ...], begin: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(c + b) for c, b in zip(voxel, begin, strict=True))


def neighbour_steps(shape: tuple[int, ...], connectivity: Connectivity) -> NDArray[np.int64]:
    """Returns the steps from a flat index to the neighbours of a voxel, for arrays of a shape."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    reach = len(shape) if connectivity == "full" else 1
    return np.array(
        [
            sum(s * stride for s, stride in zip(step, strides, strict=True))
            for step in product((-1, 0, 1), repeat=len(shape))
            if 0 < sum(map(abs, step)) <= reach
        ]
    )


def _bridges(
    parts: NDArray[np.integer],
    passable: NDArray[np.bool_],
    connectivity: Connectivity,
    joined: NDArray[np.int64],
    wide: bool,
) -> Iterator[Bridge]:
    """Yields bridges of arrays with a margin, and joins the parts in a union-find of theirs."""
    owner = parts.astype(np.int32).ravel()
    parent, distance = np.full(owner.size, -1, np.int64), np.zeros(owner.size, np.int32)
    steps = neighbour_steps(parts.shape, connectivity)
    _spread()(owner, passable.ravel(), steps, parent, distance)
    reached = np.flatnonzero(passable.ravel() & (owner > 0))
    ends, others = [], []
    for step in steps:
        other = reached + step
        meet = (owner[other] > 0) & (owner[other] != owner[reached])
        ends.append(reached[meet])
        others.append(other[meet])
    end, other = np.concatenate(ends), np.concatenate(others)
    if not len(end):
        return
    length = distance[end] + distance[other]
    pair = np.sort(np.stack([owner[end], owner[other]]).astype(np.int64), axis=0)
    key = pair[0] * (int(owner.max()) + 1) + pair[1]
    order = np.lexsort([end, key, length])
    end, other, length, key = end[order], other[order], length[order], key[order]
    _, firsts = np.unique(key, return_index=True)
    for first in np.sort(firsts).tolist():
        roots = [_root(joined, int(owner[voxels[first]])) for voxels in (end, other)]
        if roots[0] == roots[1]:
            continue
        joined[roots[1]] = roots[0]
        alike = (key == key[first]) & (length == length[first])
        back, there = _way(end[first], parent), _way(other[first], parent)
        path = [*reversed(back[:-1]), *there[:-1]]
        on_the_way = np.array(path)
        if wide:
            contacts = np.unique(np.concatenate([end[alike], other[alike]]))
            on_the_way = _shortest_paths(contacts, owner, distance, steps)
            on_the_way = _connected_to(path[0], on_the_way, steps)
        where = [
            np.stack(np.unravel_index(np.asarray(of, np.int64), parts.shape), axis=1)
            for of in (on_the_way, path, [back[-1], there[-1]])
        ]
        a, b = (tuple(map(int, voxel)) for voxel in where[2])
        yield Bridge(where[0], where[1], (a, b))


@cache
def _spread() -> Any:
    """Returns the kernel."""
    from nnunet_topo.topology._paths import spread  # numba: heavy

    return spread


def _root(joined: NDArray[np.int64], part: int) -> int:
    while joined[part] != part:
        joined[part] = joined[joined[part]]
        part = int(joined[part])
    return part


def _way(voxel: Any, parent: NDArray[np.int64]) -> list[int]:
    """Returns the voxels from one back to its part, the voxel of the part last."""
    way = [int(voxel)]
    while parent[way[-1]] >= 0:
        way.append(int(parent[way[-1]]))
    return way


def _shortest_paths(
    voxels: Int64[np.ndarray, " voxels"],
    owner: NDArray[np.int32],
    distance: NDArray[np.int32],
    steps: Int64[np.ndarray, " neighbours"],
) -> Int64[np.ndarray, " passed"]:
    """Returns the voxels on all shortest paths from some voxels back to their parts."""
    found = []
    while len(voxels):
        found.append(voxels[distance[voxels] > 0])
        further = [np.empty(0, np.int64)]
        for step in steps:
            other = voxels + step
            nearer = (owner[other] == owner[voxels]) & (distance[other] == distance[voxels] - 1)
            further.append(other[nearer & (distance[other] > 0)])
        voxels = np.unique(np.concatenate(further))
    return np.unique(np.concatenate(found))


def _connected_to(
    voxel: int,
    voxels: Int64[np.ndarray, " voxels"],
    steps: Int64[np.ndarray, " neighbours"],
) -> Int64[np.ndarray, " connected"]:
    """Returns the voxels that one of them is connected to."""
    found = reached = np.array([voxel])
    while len(reached):
        around = np.unique(np.add.outer(reached, steps))
        reached = np.setdiff1d(np.intersect1d(around, voxels), found)
        found = np.union1d(found, reached)
    return found
