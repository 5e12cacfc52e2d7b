"""Joins of components and of parts of the outside: the first and the last dimension of an image.

Both are union-find over critical cells, and both start from voxels that a path through the image
leads to. See `_cubical` for order, duality and sources.
"""

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology._cubical import (
    AGE_SHIFT,
    LOW_BITS,
    LOW_COUNT,
    LOWEST_BIT,
    MINUS_X,
    OUTSIDE,
    UNKNOWN,
    VOXEL_BITS,
    X_AXIS,
    Forest,
    Grid,
    Pairs,
    Voxels,
)
from nnunet_topo.topology._kernel import inlined, kernel


def merge_components(
    grid: Grid,
    saddles: Voxels,
    ends: Voxels,
    axes: int,
    offsets: NDArray[np.int64],
    watched: Voxels | None = None,
) -> tuple[NDArray[np.bool_], Pairs]:
    """Dimension 0: joins components at critical edges, the oldest first.

    Older neighbours lead from each end of an edge to a minimum, which names its component. Where
    two components meet, the one with the younger minimum ends (elder rule).

    Args:
        grid: with its words.
        saddles: voxel of each critical edge, ascending.
        ends: `[edge, 2]`, a voxel in each of the components; overwritten.
        axes: the bits of a lower link that are axes.
        offsets: to the neighbour of each bit of a lower link.
        watched: further voxels whose component is wanted, as `Forest`.

    Returns:
        Whether each edge joins two components, and the pairs (minimum, voxel of the edge).
    """
    grid.labels.fill(UNKNOWN)
    starts = ends.ravel() if watched is None else np.concatenate([ends.ravel(), watched])
    minima = np.empty(starts.size + 1, np.int32)
    count = trace_to_minima(starts, grid.words, np.uint64(axes), offsets, grid.labels, minima)
    minima = minima[:count]
    ends = starts[: ends.size].reshape(-1, 2)
    order = order_by_age(saddles, grid.words)
    ended = merge(order, ends, age_and_voxel(grid, minima))
    joins = ended != UNKNOWN
    if watched is None:
        return joins, lasting(grid, Pairs(0, minima[ended[joins]], saddles[joins]))
    forest = _forest(grid, order, saddles, minima, ended, ends, starts)
    created, destroyed = minima[forest.ended[forest.lasts]], forest.saddles[forest.lasts]
    return joins, Pairs(0, created, destroyed, forest)


def merge_outsides(
    grid: Grid,
    saddles: Voxels,
    sides: Voxels,
    whole: int,
    offsets: NDArray[np.int64],
    watched: Voxels | None = None,
) -> tuple[NDArray[np.bool_], Pairs]:
    """Dimension d - 1: joins what is not yet in the complex at critical faces, the youngest first.

    The dual of `merge_components`. Younger neighbours, diagonal ones too, lead from each side of a
    face to a maximum of age, or to the border. Where two parts meet, the one with the older maximum
    ends: going forward, a cavity is created at the face, and it is filled at that maximum.

    Args:
        grid: with its words.
        saddles: voxel of each critical face, ascending.
        sides: `[face, 2]`, a voxel on each side; overwritten.
        whole: the lower link of a voxel whose neighbours are all older.
        offsets: to the neighbour of each bit of a lower link.
        watched: further voxels whose part of the outside is wanted, as `Forest`.

    Returns:
        Whether each face closes a cavity, and the pairs (voxel of the face, maximum).
    """
    starts = sides.ravel() if watched is None else np.concatenate([sides.ravel(), watched])
    maxima = trace_up(grid, starts, whole, offsets)
    sides = starts[: sides.size].reshape(-1, 2)
    rank = ~age_and_voxel(grid, maxima)
    rank[OUTSIDE] = 0
    youngest_first = order_by_age(saddles, grid.words)[::-1].copy()
    ended = merge(youngest_first, sides, rank)
    closes = ended != UNKNOWN
    top = 1 if grid.shape[0] == 1 else 2
    if watched is None:
        return closes, lasting(grid, Pairs(top, saddles[closes], maxima[ended[closes]]))
    forest = _forest(grid, youngest_first, saddles, maxima, ended, sides, starts)
    created, destroyed = forest.saddles[forest.lasts], maxima[forest.ended[forest.lasts]]
    return closes, Pairs(top, created, destroyed, forest)


def _forest(
    grid: Grid,
    order: NDArray[np.int32],
    saddles: Voxels,
    roots: Voxels,
    ended: NDArray[np.int64],
    ends: Voxels,
    starts: Voxels,
) -> Forest:
    """Returns what joins, in order; the voxels watched are the last of the starts."""
    count = int(np.count_nonzero(ended != UNKNOWN))
    at, joined, last, lasts = joins_in_order(order, saddles, roots, ended, ends, grid.ages, count)
    return Forest(roots, at, joined, last, lasts, starts[ends.size :])


@kernel
def joins_in_order(order, saddles, roots, ended, ends, ages, count):
    """Returns what joins, in order: voxels, ends, what ends there, and whether that has lasted."""
    at = np.empty(count, np.int32)
    joined = np.empty((count, 2), np.int32)
    ends_there = np.empty(count, np.int64)
    lasts = np.empty(count, np.bool_)
    place = 0
    for item in order:
        if ended[item] == UNKNOWN:
            continue
        at[place] = saddles[item]
        joined[place, 0], joined[place, 1] = ends[item, 0], ends[item, 1]
        ends_there[place] = ended[item]
        lasts[place] = ages[saddles[item]] != ages[roots[ended[item]]]
        place += 1
    return at, joined, ends_there, lasts


def trace_up(grid: Grid, starts: Voxels, whole: int, offsets: NDArray[np.int64]) -> Voxels:
    """Replaces each voxel by the number of the maximum of age above it, and returns the maxima.

    Number OUTSIDE is the border, which has no voxel of its own.
    """
    labels = grid.labels.reshape(grid.shape)
    labels.fill(UNKNOWN)
    for axis in range(3):
        if grid.margin[axis]:
            np.moveaxis(labels, axis, 0)[[0, -1]] = OUTSIDE
    maxima = np.zeros(starts.size + 1, np.int32)
    count = trace_to_maxima(starts, grid.words, np.uint64(whole), offsets, grid.labels, maxima)
    return maxima[:count]


def lasting(grid: Grid, pairs: Pairs) -> Pairs:
    """Returns the pairs whose two voxels differ in age."""
    lasts = grid.ages[pairs.created] != grid.ages[pairs.destroyed]
    return Pairs(pairs.dimension, pairs.created[lasts], pairs.destroyed[lasts])


def age_and_voxel(grid: Grid, voxels: Voxels) -> NDArray[np.uint64]:
    """Returns numbers in the order of the voxels, from the oldest to the youngest."""
    return (grid.words[voxels] & ~VOXEL_BITS) | voxels.astype(np.uint64)


@kernel
def order_by_age(voxels, words):
    """Returns the positions of voxels, which ascend, from the oldest voxel to the youngest.

    Radix sort by 11 bits at a time, which leaves equal ages in their order.
    """
    digit = np.uint64(2**11 - 1)
    keys = np.empty(voxels.size, np.uint64)
    moved = np.empty(voxels.size, np.uint64)
    starts = np.zeros((3, 2**11), np.int64)
    for i in range(voxels.size):
        age = words[voxels[i]] >> AGE_SHIFT
        keys[i] = age << AGE_SHIFT | np.uint64(i)
        for level in range(3):
            starts[level, age >> np.uint64(11 * level) & digit] += 1
    for level in range(3):
        start = 0
        for value in range(2**11):
            count = starts[level, value]
            starts[level, value] = start
            start += count
        shift = AGE_SHIFT + np.uint64(11 * level)
        for i in range(voxels.size):
            value = keys[i] >> shift & digit
            moved[starts[level, value]] = keys[i]
            starts[level, value] += 1
        keys, moved = moved, keys
    order = np.empty(voxels.size, np.int32)
    for i in range(voxels.size):
        order[i] = keys[i] & VOXEL_BITS
    return order


@kernel
def trace_to_minima(starts, words, axes, offsets, labels, minima):
    """Replaces each voxel by the number of its minimum, and returns how many minima there are.

    Every voxel on the way is labelled, so none is visited twice. Most ways through a clamped image
    lead along the rows of its plateau, towards -x (the first bit), and take a short cut.
    """
    count = 0
    for i in range(starts.size):
        voxel = np.int64(starts[i])
        while labels[voxel] == UNKNOWN:
            if words[voxel] & MINUS_X:
                voxel -= 1
                continue
            older = np.int64(words[voxel] & axes)
            if older == 0:
                labels[voxel] = count
                minima[count] = voxel
                count += 1
                break
            voxel += offsets[LOWEST_BIT[older]]
        found = labels[voxel]
        voxel = np.int64(starts[i])
        starts[i] = found
        while labels[voxel] == UNKNOWN:
            labels[voxel] = found
            if words[voxel] & MINUS_X:
                voxel -= 1
            else:
                voxel += offsets[LOWEST_BIT[np.int64(words[voxel] & axes)]]
    return count


@kernel
def trace_to_maxima(starts, words, whole, offsets, labels, maxima):
    """Replaces each voxel by the number of its maximum, and returns how many numbers there are.

    Number OUTSIDE stands for the border. Plateaus are left along their rows, +x.
    """
    count = OUTSIDE + 1
    for i in range(starts.size):
        voxel = np.int64(starts[i])
        while labels[voxel] == UNKNOWN:
            if words[voxel] & X_AXIS == MINUS_X:
                voxel += 1
                continue
            lacking = np.int64(~words[voxel] & whole)
            if lacking == 0:
                labels[voxel] = count
                maxima[count] = voxel
                count += 1
                break
            voxel += offsets[_lowest_bit(lacking)]
        found = labels[voxel]
        voxel = np.int64(starts[i])
        starts[i] = found
        while labels[voxel] == UNKNOWN:
            labels[voxel] = found
            if words[voxel] & X_AXIS == MINUS_X:
                voxel += 1
            else:
                voxel += offsets[_lowest_bit(np.int64(~words[voxel] & whole))]
    return count


@inlined
def _lowest_bit(bits):
    """Returns the first bit set.

    Among the bits that a lower link lacks, this is a younger neighbour: an axis, or a diagonal
    between axes that are all there.
    """
    bit = np.int64(0)
    while not bits & LOW_BITS:
        bits >>= LOW_COUNT
        bit += LOW_COUNT
    return bit + LOWEST_BIT[bits & LOW_BITS]


@kernel
def merge(order, ends, rank):
    """Union-find: returns for each item the root that it ends, UNKNOWN if already joined.

    Of two roots, the one with the smaller rank stays.
    """
    parent = np.arange(rank.size)
    ended = np.full(order.size, UNKNOWN, np.int64)
    for i in range(order.size):
        item = order[i]
        a, b = np.int64(ends[item, 0]), np.int64(ends[item, 1])
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a == b:
            continue
        if rank[a] < rank[b]:
            a, b = b, a
        parent[a] = b
        ended[item] = a
    return ended
