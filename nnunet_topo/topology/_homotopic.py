"""Kernels that change a mask voxel by voxel: simple points in order, cheapest paths, basins.

Images are flat and have a margin of background, as in `_thinning`, from which the test of simple
points comes. The queue of simple points holds ranks: a bit for each rank, and two levels of bits
that say which words below are not empty, so that the least rank is found in a few steps.
"""

from heapq import heappop, heappush

import numpy as np

from nnunet_topo.topology._kernel import inlined, kernel
from nnunet_topo.topology._thinning import (
    AFTER,
    ALL,
    BEFORE,
    ITSELF,
    _is_foreground,
    _is_simple,
    _neighbours,
    _remove,
)

NO_RANK = -1
BLOCKED, FREE = -1, 0
UNDECIDED, LINE = -1, 3
_SPREAD = np.uint64(0x022FDD63CC95386D)  # each power of two times this begins with other bits
_PLACE = np.zeros(64, np.int64)
for _bit in range(64):
    _PLACE[(0x022FDD63CC95386D << _bit & 0xFFFFFFFFFFFFFFFF) >> 58] = _bit
_ONE, _SIX, _TOP, _LOW = np.uint64(1), np.uint64(6), np.uint64(58), np.uint64(63)


@inlined
def _first(word):
    """Returns the place of the lowest bit that is set."""
    return _PLACE[((word & (~word + _ONE)) * _SPREAD) >> _TOP]


@inlined
def _add(image, voxel):
    image[voxel - 1] |= AFTER
    image[voxel] |= ITSELF
    image[voxel + 1] |= BEFORE


@inlined
def _put(ranks, groups, blocks, rank):
    word = rank >> 6
    ranks[word] |= _ONE << np.uint64(rank & 63)
    groups[word >> 6] |= _ONE << np.uint64(word & 63)
    blocks[word >> 12] |= _ONE << np.uint64((word >> 6) & 63)


@kernel
def flip_simple(image, voxels, row, plane, face):
    """Flips voxels in order wherever they are simple; returns how many.

    A voxel that is not simple waits until one of its neighbours is flipped. The first of those that
    can be flipped always goes next, and each goes once.

    Args:
        image: changed in place.
        voxels: flat indices, the most urgent one first.
        row: step to the next row.
        plane: step to the next plane.
        face: the foreground is 6-connected.
    """
    number = len(voxels)
    rank_of = np.full(len(image), NO_RANK, np.int32)
    ranks = np.zeros((number >> 6) + 1, np.uint64)
    groups = np.zeros((len(ranks) >> 6) + 1, np.uint64)
    blocks = np.zeros((len(groups) >> 6) + 1, np.uint64)
    for rank in range(number):
        voxel = voxels[rank]
        rank_of[voxel] = rank
        bits = _neighbours(image, voxel, row, plane)
        if bits != 0 and bits != ALL:
            _put(ranks, groups, blocks, rank)
    flipped = 0
    block = 0
    while block < len(blocks):
        if blocks[block] == 0:
            block += 1
            continue
        group = (block << 6) + _first(blocks[block])
        word = (group << 6) + _first(groups[group])
        rank = (word << 6) + _first(ranks[word])
        ranks[word] &= ~(_ONE << np.uint64(rank & 63))
        if ranks[word] == 0:
            groups[group] &= ~(_ONE << np.uint64(word & 63))
            if groups[group] == 0:
                blocks[block] &= ~(_ONE << np.uint64(group & 63))
        voxel = voxels[rank]
        if not _is_simple(_neighbours(image, voxel, row, plane), face):
            continue
        if _is_foreground(image, voxel):
            _remove(image, voxel)
        else:
            _add(image, voxel)
        rank_of[voxel] = NO_RANK
        flipped += 1
        for z in range(-1, 2):
            for y in range(-1, 2):
                for x in range(-1, 2):
                    waiting = rank_of[voxel + z * plane + y * row + x]
                    if waiting != NO_RANK:
                        _put(ranks, groups, blocks, np.int64(waiting))
                        block = min(block, np.int64(waiting) >> 18)
    return flipped


@kernel
def cheapest_path(groups, cost, distance, came_from, sources, own, limit, offsets):
    """Returns the group that is reached at least cost, the cost, and the voxels of the path.

    Dijkstra's algorithm from all voxels of a group over free voxels. Group 0 means that none is
    reached below the limit.

    Args:
        groups: number of the group of each voxel, FREE or BLOCKED.
        cost: of each voxel, above 0.
        distance: infinite everywhere, as it is left behind.
        came_from: any content.
        sources: voxels of the group.
        own: its number.
        limit: largest cost.
        offsets: to the neighbours of a voxel.
    """
    heap = [(0.0, np.int64(0))]
    heap.pop()
    touched = [np.int64(0)]
    touched.pop()
    for source in sources:
        for offset in offsets:
            voxel = source + offset
            if groups[voxel] == FREE and cost[voxel] < distance[voxel] and cost[voxel] < limit:
                distance[voxel] = cost[voxel]
                came_from[voxel] = -1
                touched.append(voxel)
                heappush(heap, (distance[voxel], voxel))
    path = [np.int64(0)]
    path.pop()
    reached, total = 0, np.inf
    while len(heap) and reached == 0:
        so_far, voxel = heappop(heap)
        if so_far > distance[voxel]:
            continue
        for offset in offsets:
            group = groups[voxel + offset]
            if group > 0 and group != own:
                reached = group
        if reached:
            total = so_far
            while voxel != -1:
                path.append(voxel)
                voxel = came_from[voxel]
            break
        for offset in offsets:
            other = voxel + offset
            if groups[other] != FREE:
                continue
            further = so_far + cost[other]
            if further < distance[other] and further < limit:
                if distance[other] == np.inf:
                    touched.append(other)
                distance[other] = further
                came_from[other] = voxel
                heappush(heap, (further, other))
    for voxel in touched:
        distance[voxel] = np.inf
    return reached, total, np.array(path, dtype=np.int64)


@kernel
def part_basins(sides, height, offsets):
    """Gives each undecided voxel the side from which it is flooded first, or LINE between the two.

    Args:
        sides: 1 and 2 where the flood begins, UNDECIDED where it may go, 0 elsewhere; changed in
            place. What it does not reach stays undecided.
        height: the highest voxels are flooded first.
        offsets: to the neighbours of a voxel.
    """
    heap = [(0.0, np.int64(0))]
    heap.pop()
    for voxel in range(len(sides)):
        if sides[voxel] == 1 or sides[voxel] == 2:
            for offset in offsets:
                if sides[voxel + offset] == UNDECIDED:
                    heappush(heap, (-height[voxel + offset], voxel + offset))
    while len(heap):
        voxel = heappop(heap)[1]
        if sides[voxel] != UNDECIDED:
            continue
        first = second = False
        for offset in offsets:
            first |= sides[voxel + offset] == 1
            second |= sides[voxel + offset] == 2
        if first and second:
            sides[voxel] = LINE
            continue
        sides[voxel] = 1 if first else 2
        for offset in offsets:
            if sides[voxel + offset] == UNDECIDED:
                heappush(heap, (-height[voxel + offset], voxel + offset))
