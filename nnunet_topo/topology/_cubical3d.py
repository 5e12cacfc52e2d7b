"""Persistence of 3D images: components and cavities by union-find, loops by matrix reduction.

The lower link of a voxel is a part of the octahedron that its neighbours span: 6 corners (bits of
axes), 12 edges (squares), 8 triangles (cubes). Where it can be contracted to a point the voxel
changes nothing, and over nine in ten do. The cells of a lower star are paired within it, each with
a face of its own that nothing else needs; cells without a partner are *critical*, and only these
are ever sorted:

- the first corner of a spanning forest of the link pairs with the voxel itself, every other corner
  with the square by which the forest reaches it; a critical edge is the root of a further tree;
- a square that is not in the forest pairs with a cube beside it, from the holes of the link
  inwards; those that are left are critical.

A critical edge joins two components or creates a loop; a critical square destroys a loop or closes
a cavity. Both unions tell which, so dimension 1 is left with as many squares as there are loops.
The boundary of such a square is pushed along the pairs, down to ever older voxels, until its
youngest edge is critical: that edge created the loop, unless an older square has taken it, whose
boundary is added first (reduction over F2). See `_cubical` for order, duality and sources.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology._cubical import (
    AGE_SHIFT,
    LINK_BITS,
    LOWEST_BIT,
    OUTSIDE,
    UNKNOWN,
    VOXEL_BITS,
    Grid,
    Pairs,
    Voxels,
)
from nnunet_topo.topology._kernel import inlined, kernel
from nnunet_topo.topology._merging import lasting, merge_components, merge_outsides, trace_up

# Bits of a lower link: axes -x, +x, -y, +y, -z, +z, then 12 squares, then 8 cubes.
AXES = 2**6 - 1
SQUARES = 2**12 - 1
GRAPH = 2**18 - 1  # axes and squares
WHOLE = 2**26 - 1
FIRST_SQUARE, FIRST_CUBE = 6, 18
SQUARE_AXES = np.array(
    [(a + s, b + t) for a, b in ((0, 2), (0, 4), (2, 4)) for t in (0, 1) for s in (0, 1)]
)
CUBE_AXES = np.array([(c & 1, 2 + (c >> 1 & 1), 4 + (c >> 2)) for c in range(8)])
CUBE_SQUARES = np.array(
    [[s for s in range(12) if set(SQUARE_AXES[s]) <= set(CUBE_AXES[c])] for c in range(8)]
)
SQUARE_CUBES = np.array([[c for c in range(8) if s in CUBE_SQUARES[c]] for s in range(12)])

CHAIN_SHIFT = np.uint64(26)
CHAIN_BITS = np.uint64(AXES) << CHAIN_SHIFT
UNPAIRED = 8  # not a cube
ON_PLATEAU, NO_ROOM = -2, -3
ROOM = 16  # for what one voxel adds to a heap: at most 5 squares with 2 edges each, and its rest


def cubical_pairs_3d(
    grid: Grid, dimensions: set[int], watched: Voxels | None = None
) -> list[Pairs]:
    """Returns the pairs of the dimensions wanted, of 0, 1 and 2."""
    _, ny, nx = grid.shape
    axes = np.array([-1, 1, -nx, nx, -nx * ny, nx * ny])
    offsets = np.concatenate([axes, axes[SQUARE_AXES].sum(axis=1), axes[CUBE_AXES].sum(axis=1)])
    flow, trees = _flow_tables()
    counts = lower_links(grid.ages, grid.shape, trees, grid.words, grid.labels)
    critical = grid.labels[: counts[0]].copy()
    pairs: list[Pairs] = []
    edges = squares = None
    if dimensions & {0, 1}:
        edge_voxel, edge_axis = critical_edges(critical, grid.words, flow, counts[1])
        ends = np.stack([edge_voxel, edge_voxel + axes[edge_axis]], axis=1).astype(np.int32)
        joins, components = merge_components(
            grid, edge_voxel, ends, AXES, offsets, watched if 0 in dimensions else None
        )
        edges = CriticalEdges(edge_voxel, edge_axis, ~joins)
        pairs.append(components)
    if dimensions & {1, 2}:
        voxel, square, sides = critical_squares(critical, grid.words, flow, offsets, counts[2])
        closes, cavities = merge_outsides(
            grid, voxel, sides, WHOLE, offsets, watched if 2 in dimensions else None
        )
        squares = CriticalSquares(voxel[~closes], square[~closes])
        pairs.append(cavities)
    if 1 in dimensions and edges is not None and squares is not None:
        pairs.append(_loops(grid, edges, squares, offsets))
    return [found for found in pairs if found.dimension in dimensions]


@dataclass(frozen=True, slots=True)
class CriticalEdges:
    """Edges by voxel and axis, ascending, and which of them create a loop."""

    voxel: Voxels
    axis: NDArray[np.uint8]
    creates: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CriticalSquares:
    """Squares that destroy a loop, by voxel and bit, ascending."""

    voxel: Voxels
    square: NDArray[np.uint8]


@cache
def _flow_tables() -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    return flow_tables()


@kernel
def flow_tables():
    """Returns what every corner of every link flows into, and the trees of the spanning forest.

    `flow[link, axis]`: the edge towards the axis, pushed along all pairs of its lower star, passes
    over the squares of bits 0-11 and ends at the critical edge of bits 12-17, the root of its tree;
    for the first tree it ends at the voxel's own edge, and nothing is left. Both are sums over F2.

    `trees[link]`: how many trees there are, which is how many components the link has.
    """
    flow = np.zeros((2**18, 6), np.uint32)
    trees = np.zeros(2**18, np.uint8)
    queue = np.zeros(6, np.int64)
    for link in range(2**18):
        possible = True
        for square in range(12):
            a, b = SQUARE_AXES[square]
            if link >> (FIRST_SQUARE + square) & 1 and not (link >> a & 1 and link >> b & 1):
                possible = False
        if not possible:
            continue
        reached = 0
        for root in range(6):
            if not link >> root & 1 or reached >> root & 1:
                continue
            flow[link, root] = np.uint32(1 << (12 + root)) if trees[link] else np.uint32(0)
            trees[link] += 1
            reached |= 1 << root
            queue[0] = root
            head, tail = 0, 1
            while head < tail:
                axis = queue[head]
                head += 1
                for square in range(12):
                    a, b = SQUARE_AXES[square]
                    if not link >> (FIRST_SQUARE + square) & 1 or axis not in (a, b):
                        continue
                    other = a + b - axis
                    if not reached >> other & 1:
                        reached |= 1 << other
                        flow[link, other] = flow[link, axis] ^ np.uint32(1 << square)
                        queue[tail] = other
                        tail += 1
    return flow, trees


@kernel
def lower_links(ages, shape, trees, words, critical):
    """Writes the words and lists the critical voxels, ascending.

    Ties are broken by index: a neighbour before the voxel is older if its age is equal, one after
    it is not. A link is contractible if and only if it has one component and Euler characteristic
    1; otherwise trees - 1 of its edges are critical, and of its squares as many as the link has
    loops (it has a cavity only where it is the whole octahedron).

    Returns:
        The number of critical voxels, edges and squares.
    """
    nz, ny, nx = shape
    n, sy, sz = nx - 2, nx, nx * ny
    link = np.empty(n, np.int32)
    euler = np.empty(n, np.int32)
    voxels = edges = squares = 0
    for z in range(1, nz - 1):
        for y in range(1, ny - 1):
            b = z * sz + y * sy + 1
            centre = ages[b : b + n]
            # Rows of neighbours, named by their signs in z, y and x.
            oom, oop = ages[b - 1 : b - 1 + n], ages[b + 1 : b + 1 + n]
            omo, opo = ages[b - sy : b - sy + n], ages[b + sy : b + sy + n]
            moo, poo = ages[b - sz : b - sz + n], ages[b + sz : b + sz + n]
            omm, omp = ages[b - sy - 1 : b - sy - 1 + n], ages[b - sy + 1 : b - sy + 1 + n]
            opm, opp = ages[b + sy - 1 : b + sy - 1 + n], ages[b + sy + 1 : b + sy + 1 + n]
            mom, mop = ages[b - sz - 1 : b - sz - 1 + n], ages[b - sz + 1 : b - sz + 1 + n]
            pom, pop = ages[b + sz - 1 : b + sz - 1 + n], ages[b + sz + 1 : b + sz + 1 + n]
            m, p = b - sz - sy, b - sz + sy
            mmo, mpo = ages[m : m + n], ages[p : p + n]
            mmm, mmp = ages[m - 1 : m - 1 + n], ages[m + 1 : m + 1 + n]
            mpm, mpp = ages[p - 1 : p - 1 + n], ages[p + 1 : p + 1 + n]
            m, p = b + sz - sy, b + sz + sy
            pmo, ppo = ages[m : m + n], ages[p : p + n]
            pmm, pmp = ages[m - 1 : m - 1 + n], ages[m + 1 : m + 1 + n]
            ppm, ppp = ages[p - 1 : p - 1 + n], ages[p + 1 : p + 1 + n]
            for i in range(n):
                age = centre[i]
                a0, a1 = np.int32(oom[i] <= age), np.int32(oop[i] < age)
                a2, a3 = np.int32(omo[i] <= age), np.int32(opo[i] < age)
                a4, a5 = np.int32(moo[i] <= age), np.int32(poo[i] < age)
                s0, s1 = a0 & a2 & np.int32(omm[i] <= age), a1 & a2 & np.int32(omp[i] <= age)
                s2, s3 = a0 & a3 & np.int32(opm[i] < age), a1 & a3 & np.int32(opp[i] < age)
                s4, s5 = a0 & a4 & np.int32(mom[i] <= age), a1 & a4 & np.int32(mop[i] <= age)
                s6, s7 = a0 & a5 & np.int32(pom[i] < age), a1 & a5 & np.int32(pop[i] < age)
                s8, s9 = a2 & a4 & np.int32(mmo[i] <= age), a3 & a4 & np.int32(mpo[i] <= age)
                s10, s11 = a2 & a5 & np.int32(pmo[i] < age), a3 & a5 & np.int32(ppo[i] < age)
                c0 = s0 & s4 & s8 & np.int32(mmm[i] <= age)
                c1 = s1 & s5 & s8 & np.int32(mmp[i] <= age)
                c2 = s2 & s4 & s9 & np.int32(mpm[i] <= age)
                c3 = s3 & s5 & s9 & np.int32(mpp[i] <= age)
                c4 = s0 & s6 & s10 & np.int32(pmm[i] < age)
                c5 = s1 & s7 & s10 & np.int32(pmp[i] < age)
                c6 = s2 & s6 & s11 & np.int32(ppm[i] < age)
                c7 = s3 & s7 & s11 & np.int32(ppp[i] < age)
                # fmt: off
                link[i] = (
                    a0 | a1 << 1 | a2 << 2 | a3 << 3 | a4 << 4 | a5 << 5
                    | s0 << 6 | s1 << 7 | s2 << 8 | s3 << 9 | s4 << 10 | s5 << 11
                    | s6 << 12 | s7 << 13 | s8 << 14 | s9 << 15 | s10 << 16 | s11 << 17
                    | c0 << 18 | c1 << 19 | c2 << 20 | c3 << 21
                    | c4 << 22 | c5 << 23 | c6 << 24 | c7 << 25
                )
                euler[i] = (
                    (a0 + a1 + a2 + a3 + a4 + a5)
                    - (s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11)
                    + (c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7)
                )
                # fmt: on
            row = words[b : b + n]
            for i in range(n):
                row[i] = np.uint64(np.int64(centre[i]) + 2**31) << AGE_SHIFT | np.uint64(link[i])
            for i in range(n):
                components = np.int64(trees[link[i] & GRAPH])
                if components != 1 or euler[i] != 1:
                    critical[voxels] = b + i
                    voxels += 1
                    edges += max(components - 1, 0)
                    squares += components - euler[i] + (link[i] == WHOLE)
    return voxels, edges, squares


@kernel
def critical_edges(critical, words, flow, count):
    """Returns voxel and axis of the critical edges, both ascending."""
    edge_voxel = np.empty(count, np.int32)
    edge_axis = np.empty(count, np.uint8)
    edge = 0
    for voxel in critical:
        link = words[voxel] & np.uint64(GRAPH)
        for axis in range(6):
            if flow[link, axis] == 1 << (12 + axis):
                edge_voxel[edge] = voxel
                edge_axis[edge] = axis
                edge += 1
    return edge_voxel, edge_axis


@kernel
def critical_squares(critical, words, flow, offsets, count):
    """Returns voxel and square of the critical squares, ascending, and a voxel on either side.

    The sides are those of the dual: a path through cubes and the squares paired with them leaves
    the lower star through a cube that is not in it, beside a younger voxel. If the path ends at a
    cube without a partner, the voxel is a maximum of age and is its own side.
    """
    face_voxel = np.empty(count, np.int32)
    face_square = np.empty(count, np.uint8)
    sides = np.empty((count, 2), np.int32)
    beyond = np.empty(8, np.int64)  # the cube on the other side of a cube's partner
    face = 0
    for i in range(critical.size):
        voxel = np.int64(critical[i])
        link = np.int64(words[voxel] & LINK_BITS)
        forest = np.uint32(0)
        for axis in range(6):
            forest |= flow[link & GRAPH, axis]
        squares = link >> FIRST_SQUARE & SQUARES & ~np.int64(forest)
        if squares == 0:
            continue
        cubes = link >> FIRST_CUBE
        unpaired = cubes
        beyond[:] = UNPAIRED
        while unpaired:
            before = unpaired
            for cube in range(8):
                if not unpaired >> cube & 1:
                    continue
                for square in CUBE_SQUARES[cube]:
                    other = SQUARE_CUBES[square, 0] + SQUARE_CUBES[square, 1] - cube
                    if squares >> square & 1 and not unpaired >> other & 1:
                        beyond[cube] = other
                        unpaired ^= 1 << cube
                        squares ^= 1 << square
                        break
            if unpaired == before:
                unpaired &= unpaired - 1
        while squares:
            square = np.int64(LOWEST_BIT[squares])
            squares &= squares - 1
            face_voxel[face] = voxel
            face_square[face] = square
            for side in range(2):
                cube = SQUARE_CUBES[square, side]
                while cubes >> cube & 1 and beyond[cube] != UNPAIRED:
                    cube = beyond[cube]
                sides[face, side] = voxel
                if not cubes >> cube & 1:
                    sides[face, side] += offsets[_lacking_bit(link, cube)]
            face += 1
    return face_voxel, face_square, sides


@inlined
def _lacking_bit(link, cube):
    """Returns the first bit that the link lacks among those of an octant: a younger neighbour."""
    bit = FIRST_CUBE + cube
    for square in CUBE_SQUARES[cube]:
        if not link >> (FIRST_SQUARE + square) & 1:
            bit = FIRST_SQUARE + square
    for axis in CUBE_AXES[cube]:
        if not link >> axis & 1:
            bit = axis
    return bit


def _loops(
    grid: Grid, edges: CriticalEdges, squares: CriticalSquares, offsets: NDArray[np.int64]
) -> Pairs:
    """Dimension 1: pairs the edges that create loops with the squares that destroy them.

    Two plateaus end the search early, for they are large where p is flat or saturated. The youngest
    voxels fill whatever is still open: squares there need no reduction, and each open edge is
    paired with the maximum of age above it if that lies there, with any voxel of that age if not.
    With full connectivity the oldest voxels, at the minimum of p, are a plateau too: a chain that
    has sunk to it was created there, where its youngest voxel is. As many edges of the plateau are
    not open.

    Args:
        grid: with its words.
        edges: all critical edges.
        squares: those that destroy a loop.
        offsets: to the neighbour of each bit of a lower link.
    """
    flow, _ = _flow_tables()
    before_last = grid.ages[squares.voxel] < grid.youngest
    voxels = squares.voxel[before_last]
    plateau = np.uint64(grid.oldest + 2**31 + 1 if grid.dual else 0) << AGE_SHIFT
    mark_first_edges(edges.voxel, grid.labels)
    created, taken, sunk = reduce_boundaries(
        voxels,
        squares.square[before_last],
        grid.words,
        flow,
        offsets,
        grid.labels,
        edges.axis,
        edges.creates,
        plateau,
    )
    born = edges.voxel[edges.creates & ~taken]
    on_plateau = np.flatnonzero(grid.ages[born] == grid.oldest)
    born = np.delete(born, on_plateau[:sunk])
    above = born.copy()
    filled = trace_up(grid, above, WHOLE, offsets)[above]
    filled[(above == OUTSIDE) | (grid.ages[filled] != grid.youngest)] = grid.youngest_voxel
    created, destroyed = np.concatenate([created, born]), np.concatenate([voxels, filled])
    return lasting(grid, Pairs(1, created, destroyed))


@kernel
def mark_first_edges(edge_voxel, labels):
    """Writes for each voxel of a critical edge the position of its first one."""
    for edge in range(edge_voxel.size - 1, -1, -1):
        labels[edge_voxel[edge]] = edge


# A chain is a sum of edges over F2, each kept at its younger voxel as a bit of its axis. The voxels
# of a chain form a binary heap of numbers (age, voxel), the youngest on top.


@kernel
def reduce_boundaries(
    voxels, squares, words, flow, offsets, first_edge, edge_axis, creates, plateau
):
    """Reduces the boundaries of all squares over F2, and returns the voxel that created each loop.

    Squares come in the order of memory, one beside the next, so that words are found in the cache.
    The pairs are those of a reduction by age, in which a chain is only ever added to a younger
    square's: where an edge is taken already, the older of both squares has it, and the younger
    goes on with the sum of both chains.

    Returns:
        The voxels; whether each critical edge has created one of the loops; and how many loops are
        due to edges of the plateau, which are not told apart.
    """
    count = voxels.size
    created = np.empty(count, np.int32)
    owner = np.full(edge_axis.size, UNKNOWN, np.int32)
    # Chains below the edge that each square owns: entries of a voxel and, in 8 bits, its axes.
    bounds = np.empty((count, 2), np.int64)
    pool = np.empty(8 * count + 64, np.uint64)
    used = sunk = 0
    heap = np.empty(4 * ROOM, np.uint64)
    for first in range(count):
        i = first
        voxel = np.int64(voxels[i])
        a, b = SQUARE_AXES[squares[i]]
        size = _add_edges(voxel, 1 << a | 1 << b, words, heap, 0)
        size = _add_far_edges(voxel, squares[i], words, offsets, heap, size)
        while True:
            edge, voxel, size = _sink(
                heap, size, words, flow, offsets, first_edge, edge_axis, creates, plateau
            )
            if edge == NO_ROOM:
                heap = _enlarged(heap, 2 * heap.size)
                continue
            created[i] = voxel
            if edge == ON_PLATEAU:
                sunk += 1
                break
            other = owner[edge]
            if other == UNKNOWN or _comes_before(i, other, voxels, words):
                owner[edge] = i
                if used + size > pool.size:
                    pool = _enlarged(pool, 2 * (used + size))
                bounds[i, 0] = used
                used = _store(heap, size, words, pool, used)
                bounds[i, 1] = used
                if other == UNKNOWN:
                    break
                i, other = other, i
                size = _add_chain(pool, bounds[other], words, heap, 0)
                added = i
            else:
                added = other
            needed = size + bounds[added, 1] - bounds[added, 0]
            if needed > heap.size:
                heap = _enlarged(heap, 2 * needed)
            size = _add_chain(pool, bounds[added], words, heap, size)
    return created, owner != UNKNOWN, sunk


@inlined
def _comes_before(i, j, voxels, words):
    """Whether square i is older than square j; within an age they ascend."""
    age_i, age_j = words[voxels[i]] >> AGE_SHIFT, words[voxels[j]] >> AGE_SHIFT
    return age_i < age_j or (age_i == age_j and i < j)


@kernel
def _sink(heap, size, words, flow, offsets, first_edge, edge_axis, creates, plateau):
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
            for i in range(size):
                words[heap[i] & VOXEL_BITS] &= ~CHAIN_BITS
            return ON_PLATEAU, voxel, 0
        link = word & np.uint64(GRAPH)
        flows = np.uint32(0)
        while axes:
            flows ^= flow[link, LOWEST_BIT[axes]]
            axes &= axes - 1
        squares = np.int64(flows) & SQUARES
        while squares:
            size = _add_far_edges(voxel, LOWEST_BIT[squares], words, offsets, heap, size)
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
                    size = _add_edges(voxel, critical, words, heap, size)
                return edge, voxel, size
    return UNKNOWN, UNKNOWN, 0


@inlined
def _add_far_edges(voxel, square, words, offsets, heap, size):
    """Adds the two edges of a square of a lower star that the voxel does not lie on."""
    a, b = SQUARE_AXES[square]
    beside_a, beside_b = voxel + offsets[a], voxel + offsets[b]
    opposite = beside_a + offsets[b]
    age = words[opposite] >> AGE_SHIFT
    age_a, age_b = words[beside_a] >> AGE_SHIFT, words[beside_b] >> AGE_SHIFT
    if age_a < age or (age_a == age and beside_a < opposite):
        size = _add_unless_paired(opposite, b ^ 1, words, heap, size)
    else:
        size = _add_unless_paired(beside_a, b, words, heap, size)
    if age_b < age or (age_b == age and beside_b < opposite):
        return _add_unless_paired(opposite, a ^ 1, words, heap, size)
    return _add_unless_paired(beside_b, a, words, heap, size)


@inlined
def _add_unless_paired(voxel, axis, words, heap, size):
    """Adds an edge unless it is paired with its voxel, for such edges lead nowhere.

    That is the edge of the first axis in the lower link.
    """
    if words[voxel] & np.uint64((1 << axis) - 1):
        size = _add_edges(voxel, 1 << axis, words, heap, size)
    return size


@inlined
def _add_edges(voxel, axes, words, heap, size):
    """Adds edges at a voxel, which cancel those of the chain. There must be room in the heap.

    A voxel whose edges have all gone stays in the heap, and may come into it twice.
    """
    word = words[voxel]
    if word & CHAIN_BITS == 0:
        _sift_up(heap, size, word >> AGE_SHIFT << AGE_SHIFT | np.uint64(voxel))
        size += 1
    words[voxel] = word ^ np.uint64(axes) << CHAIN_SHIFT
    return size


@inlined
def _add_chain(pool, bounds, words, heap, size):
    """Adds a chain of the pool. There must be room in the heap."""
    for i in range(bounds[0], bounds[1]):
        voxel, axes = pool[i] >> np.uint64(8), pool[i] & np.uint64(AXES)
        size = _add_edges(np.int64(voxel), np.int64(axes), words, heap, size)
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
