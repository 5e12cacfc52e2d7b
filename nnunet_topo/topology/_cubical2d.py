"""Persistence of 2D images: components and holes, both by union-find over critical pixels.

The lower link of a pixel is a part of the circle of its 8 neighbours: 4 axes, and 4 squares whose
other three corners are all older. A pixel whose link is one arc changes nothing. Otherwise each
further component of the link joins components of the complex or closes a loop, and each further
gap joins parts of the outside. See `_cubical` for order, duality and sources.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology._cubical import (
    AGE_SHIFT,
    LINK_BITS,
    Grid,
    Pairs,
    Voxels,
)
from nnunet_topo.topology._kernel import kernel
from nnunet_topo.topology._merging import merge_components, merge_outsides

AXES = 2**4 - 1
WHOLE = 2**8 - 1
# Bits of a lower link: -x, +x, -y, +y, then the diagonals of pairs of these.
SQUARE_AXES = np.array([(x, y) for y in (2, 3) for x in (0, 1)])
_CIRCLE = (0, 4, 2, 5, 1, 7, 3, 6)  # the bits in the order of the neighbours around a pixel


def cubical_pairs_2d(
    grid: Grid, dimensions: set[int], watched: Voxels | None = None
) -> list[Pairs]:
    """Returns the pairs of the wanted dimensions, 0 and 1."""
    _, ny, nx = grid.shape
    axes = np.array([-1, 1, -nx, nx])
    offsets = np.concatenate([axes, axes[SQUARE_AXES].sum(axis=1)])
    parts, gaps = _link_tables()
    critical = lower_links(grid.ages, ny, nx, parts, gaps, grid.words, grid.labels)
    critical = grid.labels[:critical].copy()
    pairs = []
    if 0 in dimensions:
        saddles, ends = neighbours_in_parts(critical, grid.words, parts, offsets)
        pairs.append(merge_components(grid, saddles, ends, AXES, offsets, watched)[1])
    if 1 in dimensions:
        saddles, sides = neighbours_in_parts(critical, grid.words, gaps, offsets)
        pairs.append(merge_outsides(grid, saddles, sides, WHOLE, offsets, watched)[1])
    return pairs


@cache
def _link_tables() -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Returns for each lower link a bit in each of its components, and one in each of its gaps.

    Both `[link, 5]`: their number, then the bits. An axis in a component names it. A gap is named
    by an axis, or by the square that is its only part.
    """
    parts, gaps = np.zeros((2, 2**8, 5), np.int8)
    for link in range(2**8):
        there = [bool(link >> bit & 1) for bit in _CIRCLE]
        for table, wanted in ((parts, True), (gaps, False)):
            runs = _runs([here == wanted for here in there])
            bits = [min(_CIRCLE[place] for place in run) for run in runs]
            table[link, : 1 + len(bits)] = [len(bits), *bits]
    return parts, gaps


def _runs(chosen: list[bool]) -> list[list[int]]:
    """Returns the places of each run of chosen places on a circle."""
    if all(chosen):
        return [list(range(len(chosen)))]
    start = chosen.index(False)
    runs: list[list[int]] = []
    for step in range(len(chosen)):
        place = (start + step) % len(chosen)
        if chosen[place]:
            if not chosen[place - 1]:
                runs.append([])
            runs[-1].append(place)
    return runs


@kernel
def lower_links(ages, ny, nx, parts, gaps, words, critical):
    """Writes the words, lists the critical pixels, ascending, and returns their number.

    Ties are broken by index: a neighbour before the pixel is older if its age is equal, one after
    it is not.
    """
    n = nx - 2
    count = 0
    for y in range(1, ny - 1):
        b = y * nx + 1
        centre, out = ages[b : b + n], words[b : b + n]
        left, right = ages[b - 1 : b - 1 + n], ages[b + 1 : b + 1 + n]
        up, down = ages[b - nx : b - nx + n], ages[b + nx : b + nx + n]
        up_left, up_right = ages[b - nx - 1 : b - nx - 1 + n], ages[b - nx + 1 : b - nx + 1 + n]
        down_left, down_right = ages[b + nx - 1 : b + nx - 1 + n], ages[b + nx + 1 : b + nx + 1 + n]
        for i in range(n):
            age = centre[i]
            a0, a1 = np.int32(left[i] <= age), np.int32(right[i] < age)
            a2, a3 = np.int32(up[i] <= age), np.int32(down[i] < age)
            s0 = a0 & a2 & np.int32(up_left[i] <= age)
            s1 = a1 & a2 & np.int32(up_right[i] <= age)
            s2 = a0 & a3 & np.int32(down_left[i] < age)
            s3 = a1 & a3 & np.int32(down_right[i] < age)
            link = a0 | a1 << 1 | a2 << 2 | a3 << 3 | s0 << 4 | s1 << 5 | s2 << 6 | s3 << 7
            out[i] = np.uint64(np.int64(age) + 2**31) << AGE_SHIFT | np.uint64(link)
        for i in range(n):
            link = out[i] & LINK_BITS
            if parts[link, 0] > 1 or gaps[link, 0] > 1:
                critical[count] = b + i
                count += 1
    return count


@kernel
def neighbours_in_parts(critical, words, parts, offsets):
    """Returns for each further part of a link its pixel, and a neighbour in both parts."""
    count = 0
    for i in range(critical.size):
        count += max(parts[words[critical[i]] & LINK_BITS, 0] - 1, 0)
    saddles = np.empty(count, np.int32)
    neighbours = np.empty((count, 2), np.int32)
    count = 0
    for i in range(critical.size):
        pixel = critical[i]
        link = words[pixel] & LINK_BITS
        for j in range(1, parts[link, 0]):
            saddles[count] = pixel
            neighbours[count, 0] = pixel + offsets[parts[link, 1]]
            neighbours[count, 1] = pixel + offsets[parts[link, 1 + j]]
            count += 1
    return saddles, neighbours
