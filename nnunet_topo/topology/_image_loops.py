"""Loops that a volume and a mask have in common: dimension 1 of `_image_persistence`.

The image of H_1(F) in H_1(C) takes two orders at once: in the grid its classes are created in one
of them and destroyed in the other (F and C with face connectivity, C and F with full, whose grid
holds the outside). Cells of one voxel in both orders are paired within its lower star, as ever.
What is left: the critical cells, and squares and edges whose youngest voxel differs. Boundaries are
reduced with their edges in the order of creation, and squares in that of destruction.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology._cubical import (
    AGE_SHIFT,
    LINK_BITS,
    UNKNOWN,
    VOXEL_BITS,
    YOUNGEST,
    Columns,
    Grid,
    Pairs,
    Voxels,
)
from nnunet_topo.topology._cubical3d import (
    CriticalCells,
    CriticalEdges,
    CriticalSquares,
    critical_cells,
    critical_edges,
    neighbour_offsets,
    reduce_loops,
)
from nnunet_topo.topology._image_persistence import (
    NOTHING,
    MatchedBars,
    Target,
    Times,
    entry_times,
    lasts_until,
)
from nnunet_topo.topology._kernel import kernel
from nnunet_topo.topology._links3d import (
    AXES,
    FIRST_SQUARE,
    GRAPH,
    SQUARE_AXES,
    SQUARES,
    known_flow_tables,
)
from nnunet_topo.topology._merging import age_and_voxel

FAR = np.int32(2**30)  # no two ages of probabilities differ by as much
# The square between two axes, whichever comes first.
SQUARE_BETWEEN = np.zeros((6, 6), np.int64)
for _square, (_a, _b) in enumerate(SQUARE_AXES):
    SQUARE_BETWEEN[_a, _b] = SQUARE_BETWEEN[_b, _a] = _square


def match_loops(
    grid: Grid, cells: CriticalCells, pairs: Pairs, target: Target, loops: int
) -> MatchedBars:
    """Dimension 1 of a volume.

    Bars that are born at one voxel are told apart by their ends: the last of F is the last of the
    image. Of those that end at one voxel of C the first are matched.

    Args:
        grid: with its words, which are overwritten.
        cells: critical cells of the grid.
        pairs: its dimension 1.
        target: the mask.
        loops: how many the mask has.
    """
    births, deaths = pairs.created, pairs.destroyed
    if grid.dual:
        births, deaths = deaths, births
    if not loops:
        none = np.empty(0, np.int32)
        return MatchedBars(1, births, deaths, none, none, np.empty(0, np.int64))
    foreground = target.parts > 0
    shift = FAR if grid.dual else -FAR
    comparison = replace(
        grid,
        ages=np.where(foreground, grid.ages + shift, grid.ages),
        words=np.empty_like(grid.words),
    )
    of_c = critical_cells(comparison, {1}, joined=False)
    assert of_c.squares is not None
    assert cells.squares is not None
    kept = Columns.none() if pairs.columns is None else pairs.columns
    target_births, target_deaths = _bars_of_target(comparison, of_c, foreground, kept)
    if grid.dual:
        starts, ends = comparison, grid
        squares = cells.squares
    else:
        starts, ends = grid, comparison
        squares = of_c.squares
    created, destroyed = _reduce(starts, ends, squares, kept)
    image_births, image_deaths = (destroyed, created) if grid.dual else (created, destroyed)
    lasts = lasts_until(grid, image_births, image_deaths) & ~foreground[image_deaths]
    image_births, image_deaths = image_births[lasts], image_deaths[lasts]

    # Only what ends where a bar of the target does, and what is born with it, is put in order.
    ends = np.isin(image_deaths, target_deaths)
    of_image = _numbered(image_deaths[ends].astype(np.int64), entry_times(grid, image_births[ends]))
    of_target = _numbered(target_deaths.astype(np.int64), entry_times(grid, target_births))
    image_bar, target_bar = _common(of_image, of_target)
    image = image_births, entry_times(grid, image_deaths)
    place, bar = _bars_of_image(grid, image, np.flatnonzero(ends)[image_bar], (births, deaths))
    partner = np.full(len(of_target), NOTHING)
    partner[target_bar[place]] = bar
    return MatchedBars(1, births, deaths, target_births, target_deaths, partner)


def _bars_of_image(
    grid: Grid,
    image: tuple[Voxels, Times],
    chosen: NDArray[np.int64],
    bars: tuple[Voxels, Voxels],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the bars of an image that some bars of its image in C belong to.

    Args:
        grid: of the image.
        image: where each bar of its image in C is born, and when it ends.
        chosen: some of them.
        bars: births and deaths of the bars of the image itself.

    Returns:
        Places among the chosen, and the bar of each.
    """

    def origin(births: Voxels) -> NDArray[np.int64]:
        # Those of a plateau at the maximum may be any voxel of it, see `_loops`.
        on_plateau = grid.dual & (grid.ages[births] == grid.youngest)
        return np.where(on_plateau, 0, births).astype(np.int64)

    image_births, image_ends = image
    births, deaths = bars
    born = origin(image_births[chosen])
    with_it = np.flatnonzero(np.isin(origin(image_births), born))
    of_it = np.flatnonzero(np.isin(origin(births), born))
    of_image = _numbered(origin(image_births[with_it]), ~image_ends[with_it])
    of_bar = _numbered(origin(births[of_it]), ~entry_times(grid, deaths[of_it]))
    place, bar = _common(of_image[np.searchsorted(with_it, chosen)], of_bar)
    return place, of_it[bar]


def _bars_of_target(
    comparison: Grid, cells: CriticalCells, foreground: NDArray[np.bool_], kept: Columns
) -> tuple[Voxels, Voxels]:
    """Returns births and deaths in C of the loops of the foreground."""
    assert cells.squares is not None
    assert cells.edges is not None
    squares, plateau = cells.squares, np.uint64(0)
    if not comparison.dual:
        # A chain that has sunk to the foreground was created there.
        outside = ~foreground[squares.voxel]
        squares = CriticalSquares(squares.voxel[outside], squares.square[outside])
        plateau = np.uint64(2**31 - int(FAR) + 1) << AGE_SHIFT
    squares = _without(squares, kept)
    voxel = np.concatenate([kept.voxel, squares.voxel])
    enters = age_and_voxel(comparison, voxel)
    created = reduce_loops(comparison, cells.edges, squares, enters, plateau, kept=kept).created
    crosses = foreground[created] != foreground[voxel]
    created, destroyed = created[crosses], voxel[crosses]
    return (destroyed, created) if comparison.dual else (created, destroyed)


def _reduce(
    starts: Grid, ends: Grid, squares: CriticalSquares, kept: Columns
) -> tuple[Voxels, Voxels]:
    """Returns where classes are created in one order and destroyed in the other.

    Args:
        starts: grid of the order in which they are created; its words are overwritten.
        ends: grid of the order in which they are destroyed.
        squares: critical squares that destroy a loop in that one.
        kept: those that are reduced already.
    """
    flow, _ = known_flow_tables()
    critical = np.empty(starts.ages.size, np.int32)
    count, mixed = keep_common_cells(starts.words, ends.words, starts.ages, flow, critical)
    critical = critical[:count]
    edge_voxel, edge_axis = critical_edges(
        critical, starts.words, flow, count_critical_edges(critical, starts.words, flow)
    )
    edges = CriticalEdges(edge_voxel, edge_axis, np.ones(len(edge_voxel), np.bool_))
    further = np.empty((mixed, 2), np.int32)
    further = further[
        : squares_without_partner(ends.words, starts.words, starts.ages, flow, further)
    ]
    squares = _without(squares, kept)
    voxel = np.concatenate([further[:, 0], squares.voxel])
    square = np.concatenate([further[:, 1].astype(np.uint8), squares.square])
    in_memory = np.argsort(voxel, kind="stable")
    voxel, square = voxel[in_memory], square[in_memory]
    every = np.concatenate([kept.voxel, voxel])
    enters = age_and_voxel(ends, every)
    look_from_youngest(voxel, square, starts.words, neighbour_offsets(starts))
    seen = CriticalSquares(voxel, square)
    created = reduce_loops(starts, edges, seen, enters, np.uint64(0), kept=kept).created
    lives = created != UNKNOWN
    return created[lives], every[lives]


def _without(squares: CriticalSquares, kept: Columns) -> CriticalSquares:
    """Returns the squares that are not among the columns."""
    number, of_kept = (12 * s.voxel.astype(np.int64) + s.square for s in (squares, kept))
    of_kept.sort()
    place = np.minimum(np.searchsorted(of_kept, number), max(len(of_kept) - 1, 0))
    new = of_kept[place] != number if len(of_kept) else np.ones(len(number), np.bool_)
    return CriticalSquares(squares.voxel[new], squares.square[new])


@kernel
def keep_common_cells(words, others, ages, flow, critical):
    """Keeps of each lower star its edges, and the squares and cubes that another order has too.

    Lists the voxels with critical edges. Returns their number, and how many squares lie at voxels
    whose lower star in the other order has cells that this one lacks.
    """
    count = mixed = 0
    for voxel in range(words.size):
        if ages[voxel] == YOUNGEST:
            continue
        word, other = words[voxel], others[voxel] & LINK_BITS
        if word & LINK_BITS != other:
            word &= ~LINK_BITS | np.uint64(AXES) | other
            words[voxel] = word
            if other & ~word:
                squares = np.int64(other) >> FIRST_SQUARE & SQUARES
                while squares:
                    squares &= squares - 1
                    mixed += 1
        link = np.int64(word) & GRAPH
        for axis in range(6):
            if flow[link, axis] == 1 << (12 + axis):
                critical[count] = voxel
                count += 1
                break
    return count, mixed


@kernel
def count_critical_edges(critical, words, flow):
    """Returns how many critical edges the voxels have."""
    count = 0
    for voxel in critical:
        link = words[voxel] & np.uint64(GRAPH)
        for axis in range(6):
            count += flow[link, axis] == 1 << (12 + axis)
    return count


@kernel
def squares_without_partner(words, common, ages, flow, found):
    """Lists voxel and bit of squares paired with an edge in one order and not in both.

    Returns:
        Their number.
    """
    count = 0
    for voxel in range(words.size):
        if ages[voxel] == YOUNGEST:
            continue
        link = np.int64(words[voxel] & LINK_BITS)
        kept = np.int64(common[voxel] & LINK_BITS)
        if not link & ~kept:
            continue
        paired = both = np.uint32(0)
        for axis in range(6):
            paired |= flow[link & GRAPH, axis]
            both |= flow[kept & GRAPH, axis]
        for square in range(12):
            if (paired & ~both) >> square & 1:
                found[count, 0] = voxel
                found[count, 1] = square
                count += 1
    return count


@kernel
def look_from_youngest(voxels, squares, words, offsets):
    """Replaces voxel and bit of each square by those at the youngest of its corners."""
    for i in range(voxels.size):
        a, b = SQUARE_AXES[squares[i]]
        best, best_a, best_b = np.int64(voxels[i]), a, b
        most = (words[best] & ~VOXEL_BITS) | np.uint64(best)
        for corner in range(1, 4):
            other, other_a, other_b = np.int64(voxels[i]), a, b
            if corner & 1:
                other, other_a = other + offsets[a], a ^ 1
            if corner & 2:
                other, other_b = other + offsets[b], b ^ 1
            entry = (words[other] & ~VOXEL_BITS) | np.uint64(other)
            if entry > most:
                most, best, best_a, best_b = entry, other, other_a, other_b
        voxels[i] = best
        squares[i] = SQUARE_BETWEEN[best_a, best_b]


def _numbered(groups: NDArray[np.int64], by: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Returns names of the members of groups: of the group, and their place in it."""
    order = np.lexsort([by, groups])
    ordered = groups[order]
    names = np.empty(len(groups), np.int64)
    names[order] = (ordered << 31) + np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return names


def _common(
    names: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the positions of names that both have; each has a name once."""
    _, first, second = np.intersect1d(names, others, assume_unique=True, return_indices=True)
    return first, second
