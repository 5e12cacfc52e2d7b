"""Reduction over F2 of the boundaries of squares that destroy loops. See `_cubical3d`."""

import numpy as np

from nnunet_topo.topology._cubical import AGE_SHIFT, LOWEST_BIT, UNKNOWN, VOXEL_BITS
from nnunet_topo.topology._kernel import inlined, kernel
from nnunet_topo.topology._links3d import AXES, GRAPH, SQUARE_AXES, SQUARES

CHAIN_SHIFT = np.uint64(26)
CHAIN_BITS = np.uint64(AXES) << CHAIN_SHIFT
ON_PLATEAU, NO_ROOM = -2, -3
ROOM = 16  # what one voxel may add to a heap: at most 5 squares with 2 edges each, and its rest


@kernel
def mark_first_edges(edge_voxel, labels):
    """Writes for each voxel of a critical edge the position of its first one."""
    for edge in range(edge_voxel.size - 1, -1, -1):
        labels[edge_voxel[edge]] = edge


# A chain is a sum of edges over F2, each kept at its younger voxel as a bit of its axis. The voxels
# of a chain form a binary heap of numbers (age, voxel), the youngest on top.


@kernel
def reduce_boundaries(
    voxels,
    squares,
    enters,
    words,
    flow,
    offsets,
    first_edge,
    edge_axis,
    creates,
    plateau,
    moved,
    kept_created,
    kept_edge,
    kept_bounds,
    kept_pool,
):
    """Reduces the boundaries of all squares over F2, and returns the voxel that created each loop.

    Squares come in the order of memory, one beside the next, so that words are found in the cache.
    The pairs are those of a reduction in the order in which squares enter: a chain is only ever
    added to the chain of a later square. If an edge is already taken, the earlier of both squares
    gets it, and the later continues with the sum of both chains. The voxel of a square is the
    youngest of its corners, but the square may enter at another time.

    Args:
        voxels: of each square; the first ones are `Columns` that are reduced already.
        squares: bit of each.
        enters: numbers in the order in which they enter.
        words: of the grid.
        flow: see `flow_tables`.
        offsets: to the neighbour of each bit of a lower link.
        first_edge: see `mark_first_edges`.
        edge_axis: of each critical edge.
        creates: whether it may create a loop.
        plateau: least number of a voxel after the plateau of the oldest ones.
        moved: whether another order moves each voxel; empty if nobody asks.
        kept_created: voxel of the edge that each reduced column owns.
        kept_edge: that edge.
        kept_bounds: its chain in the pool.
        kept_pool: chains of these columns.

    Returns:
        The voxels, UNKNOWN for a boundary that others sum up to; the square that each critical edge
        is paired with, or UNKNOWN; how many loops are due to edges of the plateau, which are not
        told apart; chains of the squares in a pool, and the pool; and whether each square has come
        to voxels that are moved.
    """
    count, kept = voxels.size, kept_edge.size
    created = np.empty(count, np.int32)
    owner = np.full(edge_axis.size, UNKNOWN, np.int32)
    # Chains below the edge that each square owns: entries of a voxel and, in 8 bits, its axes.
    bounds = np.empty((count, 2), np.int64)
    bounds[:kept] = kept_bounds
    used = kept_pool.size
    pool = np.empty(used + 8 * (count - kept) + 64, np.uint64)
    pool[:used] = kept_pool
    for i in range(kept):
        owner[kept_edge[i]] = i
        created[i] = kept_created[i]
    touched = np.zeros(count, np.bool_)
    sunk = 0
    heap = np.empty(4 * ROOM, np.uint64)
    for first in range(kept, count):
        i = first
        voxel = np.int64(voxels[i])
        a, b = SQUARE_AXES[squares[i]]
        size = _add_edges(voxel, 1 << a | 1 << b, words, heap, 0, moved, touched, i)
        size = _add_far_edges(voxel, squares[i], words, offsets, heap, size, moved, touched, i)
        before, edge_before = np.uint64(2**64 - 1), edge_axis.size
        while True:
            edge, voxel, size = _sink(
                heap,
                size,
                words,
                flow,
                offsets,
                first_edge,
                edge_axis,
                creates,
                plateau,
                moved,
                touched,
                i,
            )
            if edge == NO_ROOM:
                heap = _enlarged(heap, 2 * heap.size)
                continue
            created[i] = voxel
            if edge == UNKNOWN:
                break
            if edge == ON_PLATEAU:
                sunk += 1
                break
            now = words[voxel] >> AGE_SHIFT << AGE_SHIFT | np.uint64(voxel)
            if now > before or (now == before and edge >= edge_before):  # it would never end
                raise RuntimeError("the youngest edge of a chain must be older after each sum")
            before, edge_before = now, edge
            other = owner[edge]
            if other == UNKNOWN or enters[i] < enters[other]:
                owner[edge] = i
                if used + size > pool.size:
                    pool = _enlarged(pool, 2 * (used + size))
                bounds[i, 0] = used
                used = _store(heap, size, words, pool, used)
                bounds[i, 1] = used
                if other == UNKNOWN:
                    break
                i, other = other, i
                touched[i] |= touched[other]
                size = _add_chain(pool, bounds[other], words, heap, 0, moved, touched, i)
                added = i
            else:
                touched[i] |= touched[other]
                added = other
            needed = size + bounds[added, 1] - bounds[added, 0]
            if needed > heap.size:
                heap = _enlarged(heap, 2 * needed)
            size = _add_chain(pool, bounds[added], words, heap, size, moved, touched, i)
    return created, owner, sunk, bounds, pool[:used], touched


@kernel
def _sink(
    heap,
    size,
    words,
    flow,
    offsets,
    first_edge,
    edge_axis,
    creates,
    plateau,
    moved,
    touched,
    i,
):
    """Pushes a chain along the pairs until its youngest edge is critical and creates a loop.

    The edges at the youngest voxel flow, all at once, over squares of its lower star, whose far
    edges join the chain. Critical edges that join components are left out: no loop is theirs.

    Returns:
        The edge, which is taken off the chain, its voxel, and the size of the heap. On the plateau:
        ON_PLATEAU, the youngest voxel, and an empty heap. NO_ROOM where the heap has to grow.
    """
    while size > 0:
        if size + ROOM > heap.size:
            return NO_ROOM, 0, size
        top = heap[0]
        voxel = np.int64(top & VOXEL_BITS)
        size -= 1
        _sift_down(heap, size)
        word = words[voxel]
        axes = np.int64((word & CHAIN_BITS) >> CHAIN_SHIFT)
        if axes == 0:
            continue
        words[voxel] = word & ~CHAIN_BITS
        if top < plateau:
            for place in range(size):
                words[heap[place] & VOXEL_BITS] &= ~CHAIN_BITS
            return ON_PLATEAU, voxel, 0
        link = word & np.uint64(GRAPH)
        flows = np.uint32(0)
        while axes:
            flows ^= flow[link, LOWEST_BIT[axes]]
            axes &= axes - 1
        squares = np.int64(flows) & SQUARES
        while squares:
            square = LOWEST_BIT[squares]
            size = _add_far_edges(voxel, square, words, offsets, heap, size, moved, touched, i)
            squares &= squares - 1
        critical = np.int64(flows) >> 12
        for axis in range(5, -1, -1):
            if not critical >> axis & 1:
                continue
            critical ^= 1 << axis
            edge = np.int64(first_edge[voxel])
            while edge_axis[edge] != axis:
                edge += 1
            if creates[edge]:
                if critical:
                    size = _add_edges(voxel, critical, words, heap, size, moved, touched, i)
                return edge, voxel, size
    return UNKNOWN, UNKNOWN, 0


@inlined
def _add_far_edges(voxel, square, words, offsets, heap, size, moved, touched, i):
    """Adds the two edges of a square of a lower star that the voxel does not lie on."""
    a, b = SQUARE_AXES[square]
    beside_a, beside_b = voxel + offsets[a], voxel + offsets[b]
    opposite = beside_a + offsets[b]
    age = words[opposite] >> AGE_SHIFT
    age_a, age_b = words[beside_a] >> AGE_SHIFT, words[beside_b] >> AGE_SHIFT
    if age_a < age or (age_a == age and beside_a < opposite):
        size = _add_unless_paired(opposite, b ^ 1, words, heap, size, moved, touched, i)
    else:
        size = _add_unless_paired(beside_a, b, words, heap, size, moved, touched, i)
    if age_b < age or (age_b == age and beside_b < opposite):
        return _add_unless_paired(opposite, a ^ 1, words, heap, size, moved, touched, i)
    return _add_unless_paired(beside_b, a, words, heap, size, moved, touched, i)


@inlined
def _add_unless_paired(voxel, axis, words, heap, size, moved, touched, i):
    """Adds an edge unless it is paired with its voxel, for such edges lead nowhere.

    That is the edge of the first axis in the lower link.
    """
    if words[voxel] & np.uint64((1 << axis) - 1):
        return _add_edges(voxel, 1 << axis, words, heap, size, moved, touched, i)
    if moved.size and moved[voxel]:
        touched[i] = True
    return size


@inlined
def _add_edges(voxel, axes, words, heap, size, moved, touched, i):
    """Adds edges at a voxel, which cancel those of the chain. There must be room in the heap.

    A voxel whose edges have all gone stays in the heap, and may come into it twice.
    """
    word = words[voxel]
    if word & CHAIN_BITS == 0:
        _sift_up(heap, size, word >> AGE_SHIFT << AGE_SHIFT | np.uint64(voxel))
        size += 1
        if moved.size and moved[voxel]:
            touched[i] = True
    words[voxel] = word ^ np.uint64(axes) << CHAIN_SHIFT
    return size


@inlined
def _add_chain(pool, bounds, words, heap, size, moved, touched, i):
    """Adds a chain of the pool. There must be room in the heap."""
    for entry in range(bounds[0], bounds[1]):
        voxel, axes = pool[entry] >> np.uint64(8), pool[entry] & np.uint64(AXES)
        size = _add_edges(np.int64(voxel), np.int64(axes), words, heap, size, moved, touched, i)
    return size


@inlined
def _store(heap, size, words, pool, used):
    """Moves a chain from its heap to the end of the pool. There must be room in the pool."""
    for i in range(size):
        voxel = heap[i] & VOXEL_BITS
        axes = (words[voxel] & CHAIN_BITS) >> CHAIN_SHIFT
        if axes:
            pool[used] = voxel << np.uint64(8) | axes
            used += 1
            words[voxel] &= ~CHAIN_BITS
    return used


@inlined
def _enlarged(array, size):
    enlarged = np.empty(size, array.dtype)
    enlarged[: array.size] = array
    return enlarged


@inlined
def _sift_up(heap, size, key):
    """Puts a key into a heap of a size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent] >= key:
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = key


@inlined
def _sift_down(heap, size):
    """Takes the top off a heap, of which a size is left."""
    key = heap[size]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key
