"""Persistence of 3D images: components and cavities by union-find, loops by matrix reduction.

The lower link of a voxel is a part of the octahedron that its neighbours span: 6 corners (bits of
axes), 12 edges (squares), 8 triangles (cubes). If the link can be contracted to a point, the voxel
changes nothing; this is so for over nine voxels in ten. Within a lower star each cell is paired
with a face that no other cell is paired with. Cells without a partner are *critical*, and only
these are sorted:

- the first corner of a spanning forest of the link pairs with the voxel itself, every other corner
  with the square by which the forest reaches it; a critical edge is the root of a further tree;
- a square that is not in the forest pairs with a cube beside it, from the holes of the link
  inwards; those that are left are critical.

A critical edge joins two components or creates a loop; a critical square destroys a loop or closes
a cavity. The two union-finds settle which, so dimension 1 is left with as many squares as there
are loops. The boundary of such a square is pushed along the pairs, to ever older voxels, until its
youngest edge is critical. That edge created the loop, unless an older square has taken it. Then
the boundary of the older square is added first (reduction over F2). See `_cubical` for order,
duality and sources.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology._cubical import (
    AGE_SHIFT,
    LINK_BITS,
    LOWEST_BIT,
    OUTSIDE,
    UNKNOWN,
    Columns,
    Grid,
    Pairs,
    Voxels,
)
from nnunet_topo.topology._kernel import inlined, kernel
from nnunet_topo.topology._links3d import (
    AXES,
    CUBE_AXES,
    CUBE_SQUARES,
    FIRST_CUBE,
    FIRST_SQUARE,
    GRAPH,
    SQUARE_AXES,
    SQUARE_CUBES,
    SQUARES,
    WHOLE,
    known_flow_tables,
    lower_links,
)
from nnunet_topo.topology._merging import (
    age_and_voxel,
    lasting,
    merge_components,
    merge_outsides,
    trace_up,
)
from nnunet_topo.topology._reduction import mark_first_edges, reduce_boundaries

UNPAIRED = 8  # not a cube


def cubical_pairs_3d(
    grid: Grid, dimensions: set[int], watched: Voxels | None = None
) -> list[Pairs]:
    """Returns the pairs of the wanted dimensions, 0, 1 and 2."""
    return pair_cells(grid, critical_cells(grid, dimensions, watched), dimensions)


def pair_cells(
    grid: Grid,
    cells: "CriticalCells",
    dimensions: set[int],
    moved: NDArray[np.bool_] | None = None,
) -> list[Pairs]:
    """Returns the pairs of the dimensions wanted, of 0, 1 and 2, from the critical cells.

    Args:
        grid: with its words.
        cells: critical cells.
        dimensions: those wanted.
        moved: whether another order moves each voxel; dimension 1 then has the `Columns` that it
            leaves alone.
    """
    pairs = [found for found in (cells.components, cells.cavities) if found is not None]
    if 1 in dimensions and cells.edges is not None and cells.squares is not None:
        pairs.append(_loops(grid, cells.edges, cells.squares, moved))
    return [found for found in pairs if found.dimension in dimensions]


def critical_cells(
    grid: Grid,
    dimensions: set[int],
    watched: Voxels | None = None,
    *,
    joined: bool = True,
) -> "CriticalCells":
    """Returns the critical cells that the dimensions wanted need, and the first and last pairs.

    Writes the grid's words.

    Args:
        grid: without words.
        dimensions: those wanted.
        watched: further voxels whose component is wanted, as `Forest`.
        joined: whether edges that join components are told from those that create loops. No loop is
            ever due to one, but leaving them out of chains makes these shorter.
    """
    offsets = neighbour_offsets(grid)
    axes = offsets[:6]
    flow, trees = known_flow_tables()
    counts = lower_links(grid.ages, grid.shape, trees, grid.words, grid.labels)
    critical = grid.labels[: counts[0]].copy()
    edges = squares = components = cavities = None
    if dimensions & {0, 1}:
        voxel, axis = critical_edges(critical, grid.words, flow, counts[1])
        edges = CriticalEdges(voxel, axis, np.ones(len(voxel), np.bool_))
    if edges is not None and joined:
        ends = np.stack([edges.voxel, edges.voxel + axes[edges.axis]], axis=1).astype(np.int32)
        joins, components = merge_components(
            grid, edges.voxel, ends, AXES, offsets, watched if 0 in dimensions else None
        )
        edges = replace(edges, creates=~joins)
    if dimensions & {1, 2}:
        voxel, square, sides = critical_squares(critical, grid.words, flow, offsets, counts[2])
        closes, cavities = merge_outsides(
            grid, voxel, sides, WHOLE, offsets, watched if 2 in dimensions else None
        )
        squares = CriticalSquares(voxel[~closes], square[~closes])
    return CriticalCells(edges, squares, components, cavities)


def neighbour_offsets(grid: Grid) -> NDArray[np.int64]:
    """Returns the offset to the neighbour of each bit of a lower link."""
    _, ny, nx = grid.shape
    axes = np.array([-1, 1, -nx, nx, -nx * ny, nx * ny])
    return np.concatenate([axes, axes[SQUARE_AXES].sum(axis=1), axes[CUBE_AXES].sum(axis=1)])


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


@dataclass(frozen=True, slots=True)
class CriticalCells:
    """Critical cells, None where no dimension wanted needs them, and the pairs at both ends."""

    edges: CriticalEdges | None
    squares: CriticalSquares | None
    components: Pairs | None
    cavities: Pairs | None


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
    grid: Grid,
    edges: CriticalEdges,
    squares: CriticalSquares,
    moved: NDArray[np.bool_] | None = None,
) -> Pairs:
    """Dimension 1: pairs the edges that create loops with the squares that destroy them.

    Two plateaus end the search early, because they are large where p is flat or saturated. The
    youngest voxels fill every loop that is still open. Squares there need no reduction. Each open
    edge is paired with the maximum of age above it if that maximum is on this plateau, else with
    any voxel of that age. With full connectivity the oldest voxels, at the minimum of p, are a
    plateau too: the loop of a chain that has sunk to it was created there, at the chain's youngest
    voxel. As many edges of the plateau are not open.

    Args:
        grid: with its words.
        edges: all critical edges.
        squares: those that destroy a loop.
        moved: see `pair_cells`.
    """
    before_last = grid.ages[squares.voxel] < grid.youngest
    voxels = squares.voxel[before_last]
    plateau = np.uint64(grid.oldest + 2**31 + 1 if grid.dual else 0) << AGE_SHIFT
    # In another order other edges may join components: then the chains keep all of them.
    creates = edges.creates if moved is None else np.ones_like(edges.creates)
    reduced = reduce_loops(
        grid,
        replace(edges, creates=creates),
        CriticalSquares(voxels, squares.square[before_last]),
        age_and_voxel(grid, voxels),
        plateau,
        moved=moved,
    )
    born = edges.voxel[edges.creates & ~reduced.taken]
    on_plateau = np.flatnonzero(grid.ages[born] == grid.oldest)
    born = np.delete(born, on_plateau[: reduced.sunk])
    above = born.copy()
    filled = trace_up(grid, above, WHOLE, neighbour_offsets(grid))[above]
    filled[(above == OUTSIDE) | (grid.ages[filled] != grid.youngest)] = grid.youngest_voxel
    created = np.concatenate([reduced.created, born])
    pairs = lasting(grid, Pairs(1, created, np.concatenate([voxels, filled])))
    return replace(pairs, columns=reduced.columns)


@dataclass(frozen=True, slots=True)
class Reduced:
    """Loops of a reduction.

    Attributes:
        created: voxel that created the loop of each square, UNKNOWN for none.
        taken: whether each critical edge has created one of the loops.
        sunk: how many loops are due to edges of the plateau, which are not told apart.
        columns: what another order leaves alone; None if nobody asks.
    """

    created: Voxels
    taken: NDArray[np.bool_]
    sunk: int
    columns: Columns | None


def reduce_loops(
    grid: Grid,
    edges: CriticalEdges,
    squares: CriticalSquares,
    enters: NDArray[np.uint64],
    plateau: np.uint64,
    *,
    kept: Columns | None = None,
    moved: NDArray[np.bool_] | None = None,
) -> Reduced:
    """Reduces the boundaries of squares.

    Args:
        grid: with the words of the order in which edges enter.
        edges: all critical edges.
        squares: those to reduce; `kept` are not among them.
        enters: numbers in the order in which the squares enter, first those of `kept`.
        plateau: see `reduce_boundaries`.
        kept: squares that are reduced already.
        moved: see `pair_cells`.
    """
    flow, _ = known_flow_tables()
    mark_first_edges(edges.voxel, grid.labels)
    start = Columns.none() if kept is None else kept
    number = edges.voxel.astype(np.int64) * 6 + edges.axis
    kept_edge = np.searchsorted(number, start.created.astype(np.int64) * 6 + start.axis)
    voxels = np.concatenate([start.voxel, squares.voxel])
    bits = np.concatenate([start.square, squares.square])
    created, owner, sunk, bounds, pool, touched = reduce_boundaries(
        voxels,
        bits,
        enters,
        grid.words,
        flow,
        neighbour_offsets(grid),
        grid.labels,
        edges.axis,
        edges.creates,
        plateau,
        np.empty(0, np.bool_) if moved is None else moved,
        start.created,
        kept_edge,
        start.bounds,
        start.pool,
    )
    columns = None
    if moved is not None:
        owned = np.flatnonzero(owner != UNKNOWN)
        owned = owned[~touched[owner[owned]] & ~moved[edges.voxel[owned]]]
        owned = owned[np.argsort(owner[owned])]
        own = owner[owned]
        columns = Columns(
            voxels[own], bits[own], edges.voxel[owned], edges.axis[owned], bounds[own], pool
        )
    return Reduced(created, owner != UNKNOWN, sunk, columns)
