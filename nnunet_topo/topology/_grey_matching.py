"""Bars that two images have in common, of which the target G need not be a mask.

Voxels enter F by its value. They enter G by its value, then by that of F. They enter C by the
greater of both, then by that of F where G is as great. What is equal enters in the order of memory.
So each voxel enters C when it enters the first of F and G.

Bars of F and of G are matched where the bars that they have in C are one: these are born in the
order of F or G, and die in that of C. `_image_persistence` and `_image_loops` say how they are
found. For a mask the order of C is that of G, which spares most of the work that is done here.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology._cubical import (
    OLDEST,
    OUTSIDE,
    YOUNGEST,
    Columns,
    Forest,
    Grid,
    Pairs,
    Voxels,
    box_above,
    make_grid,
)
from nnunet_topo.topology._cubical2d import cubical_pairs_2d
from nnunet_topo.topology._cubical3d import CriticalSquares, critical_cells, pair_cells
from nnunet_topo.topology._image_loops import _bars_of_image, _common, _numbered, _reduce
from nnunet_topo.topology._image_persistence import (
    NEVER,
    NOTHING,
    MatchedBars,
    component_bars,
    entry_times,
    voxels_of,
)
from nnunet_topo.topology._kernel import kernel
from nnunet_topo.topology._merging import merge

_NO_VOXELS = np.empty(0, np.int32)
_Bars = tuple[Voxels, Voxels]  # births and deaths


@dataclass(frozen=True, slots=True)
class Ordered:
    """An image whose voxels enter in a certain order.

    Attributes:
        grid: with the ranks of that order as ages.
        values: value of each rank.
        pairs: of each dimension of the grid.
        squares: critical squares, of a volume.
    """

    grid: Grid
    values: NDArray[np.int64]
    pairs: dict[int, Pairs]
    squares: CriticalSquares | None

    def at(self, voxels: Voxels) -> NDArray[np.int64]:
        """Returns the value at voxels, -1 beside the image and for NOTHING."""
        ages = self.grid.ages[voxels]
        there = (voxels >= 0) & (ages != OLDEST) & (ages != YOUNGEST)
        ranks = np.where(there, ages if self.grid.dual else -ages, 0)
        return np.where(there, self.values[ranks], -1)

    def forest(self, dimension: int) -> Forest:
        """Returns the forest of the first or the last dimension of the grid."""
        forest = self.pairs[dimension].forest
        assert forest is not None
        return forest


def match_images(
    f: NDArray[np.int32],
    g: NDArray[np.int32],
    *,
    planar: bool,
    dual: bool,
    wanted: tuple[int, ...],
) -> tuple[Grid, list[MatchedBars]]:
    """Returns a grid of both images, and the bars of each dimension wanted.

    Args:
        f: `[z, y, x]`, integers from 0 on, in the order of the values of both.
        g: the same of the target.
        planar: whether the images are 2D.
        dual: whether the foreground has full connectivity.
        wanted: dimensions.
    """
    top = 1 if planar else 2
    box = box_above(((f > f.min()) | (g > g.min())).astype(np.int32), 0)
    if not box[1]:
        box = np.array([0, 1, 0, 1, 0, 1])
    of_image = {k: top - k if dual else k for k in range(top + 1)}  # dimensions of the grid
    first = {of_image[k] for k in wanted if k < top}

    def ordered(ranks: tuple[NDArray[np.int32], NDArray[np.int64]]) -> Ordered:
        keys, values = ranks
        grid = make_grid(keys, box, floor=0, planar=planar, dual=dual)
        kept = {name: getattr(grid, name).copy() for name in ("ages", "words", "labels")}
        return Ordered(replace(grid, **kept), values, {}, None)

    images = [ordered(_ranks(f, np.zeros_like(f))), ordered(_ranks(g, f))]
    comparison = ordered(_ranks(np.maximum(f, g), np.where(g >= f, f, 0)))
    images = [_paired(image, first, _NO_VOXELS) for image in images]
    watched = _NO_VOXELS
    if 0 in wanted:
        watched = np.concatenate([image.forest(of_image[0]).roots for image in images])
    comparison = _paired(comparison, {of_image[k] for k in wanted}, watched)
    found = []
    for k in wanted:
        if k == 0:
            found.append(_common_components(images, comparison, of_image[0]))
        elif k < top:
            found.append(_common_loops(images, comparison))
        else:
            roots = comparison.forest(of_image[top]).roots
            images = [_paired(image, {of_image[top]}, roots) for image in images]
            found.append(_common_enclosed(images, comparison, of_image[top], top))
    return comparison.grid, found


def _ranks(
    first: NDArray[np.int32], second: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Returns ranks by one number and then by another, and the first number of each rank."""
    both = first.astype(np.int64) << 32 | second
    numbers, ranks = np.unique(both, return_inverse=True)
    return ranks.reshape(first.shape).astype(np.int32), numbers >> 32


def _paired(image: Ordered, dimensions: set[int], watched: Voxels) -> Ordered:
    """Returns an image with the pairs of some dimensions of its grid, and one more voxel watched.

    That voxel is there for images without critical cells, whose forests would have no root. It also
    stands for the root OUTSIDE, whose voxel is on the border, from which no path leads anywhere.
    """
    grid = image.grid
    watched = np.append(watched, np.int32(grid.youngest_voxel))
    watched[grid.ages[watched] == YOUNGEST] = grid.youngest_voxel
    if grid.shape[0] == 1:
        return replace(
            image, pairs={p.dimension: p for p in cubical_pairs_2d(grid, dimensions, watched)}
        )
    cells = critical_cells(grid, dimensions, watched)
    pairs = {p.dimension: p for p in pair_cells(grid, cells, dimensions)}
    return replace(image, pairs=pairs, squares=cells.squares)


def _common_components(images: list[Ordered], comparison: Ordered, dimension: int) -> MatchedBars:
    """Dimension 0. Each component of C carries the voxels of F and of G that entered first."""
    forest = comparison.forest(dimension)
    forests = [image.forest(dimension) for image in images]
    bars = [component_bars(image.grid, own) for image, own in zip(images, forests, strict=True)]
    sides = np.split(forest.watched[:-1], [len(forests[0].roots)])
    orders, first, values = [], [], []
    for image, own, side, known in zip(images, forests, sides, bars, strict=True):
        order = np.argsort(known.born)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        in_component = np.full(len(forest.roots), len(order))
        np.minimum.at(in_component, side, place)
        born_at = np.where(known.born[order] == NEVER, -1, image.at(own.roots[order]))
        orders.append(order)
        first.append(in_component)
        values.append(np.append(born_at, -1))
    levels = comparison.at(forest.saddles)
    joins = levels >= 0  # not where a shell parts the last component and it
    common = merge_common(forest.ends[joins], forest.saddles[joins], levels[joins], *first, *values)
    matched = [
        known.bar_of[order[places]]
        for known, order, places in zip(bars, orders, common.T, strict=True)
    ]
    essential = np.array([[known.bar_of[known.essential] for known in bars]])
    both = np.concatenate([np.stack(matched, axis=1), essential])
    return _matched_bars(0, images, [(known.births, known.deaths) for known in bars], both)


@kernel
def merge_common(ends, at, levels, first_f, first_g, values_f, values_g):
    """Union-find whose components carry what entered first in F and in G.

    All that meets at one voxel becomes one at once. Of the components that are in both images, in
    each of these all but the first one end there.

    Args:
        ends: `[join, 2]`, components of C joined, in the order of C.
        at: voxel of each join.
        levels: its value.
        first_f: which voxel of F has entered first in each component, in the order of F.
        first_g: the same of G.
        values_f: value of each of these voxels, and -1 for none at the end.
        values_g: the same of G.

    Returns:
        `[match, 2]`, what is matched of `first_f` and `first_g`.
    """
    parent = np.arange(first_f.size)
    met = np.empty(2 * at.size, np.int64)
    in_f, in_g = np.empty_like(met), np.empty_like(met)
    matched = np.empty((2 * at.size, 2), np.int64)
    count = begin = 0
    while begin < at.size:
        end = begin + 1
        while end < at.size and at[end] == at[begin]:
            end += 1
        here = 0
        for side in range(2 * (end - begin)):
            a = np.int64(ends[begin + side // 2, side % 2])
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            known = False
            for i in range(here):
                known = known or met[i] == a
            if not known:
                met[here] = a
                here += 1
        common = 0
        for i in range(here):
            f, g = first_f[met[i]], first_g[met[i]]
            if values_f[f] > levels[begin] and values_g[g] > levels[begin]:
                in_f[common], in_g[common] = f, g
                common += 1
        in_f[:common].sort()
        in_g[:common].sort()
        for i in range(1, common):
            matched[count, 0], matched[count, 1] = in_f[i], in_g[i]
            count += 1
        one = met[0]
        for i in range(1, here):
            parent[met[i]] = one
            first_f[one] = min(first_f[one], first_f[met[i]])
            first_g[one] = min(first_g[one], first_g[met[i]])
        begin = end
    return matched[:count]


def _common_enclosed(
    images: list[Ordered], comparison: Ordered, dimension: int, top: int
) -> MatchedBars:
    """The last dimension. Each part of what F or G leaves out carries its last voxel in C."""
    last_in_c = entry_times(comparison.grid, comparison.forest(dimension).roots)
    if not comparison.grid.dual:
        last_in_c[OUTSIDE] = 0
    bars, joins, ends = [], [], []
    for image in images:
        forest = image.forest(dimension)
        last = np.zeros(len(forest.roots), np.uint64)
        np.maximum.at(last, forest.watched[:-1], last_in_c)
        if image.grid.dual:
            last[image.grid.ages[forest.roots] == OLDEST] = NEVER  # the shell
        else:
            last[OUTSIDE] = NEVER
        ended = last[merge(np.arange(len(forest.saddles)), forest.ends.copy(), ~last)]
        dies = voxels_of(comparison.grid, ended)
        lasts = np.flatnonzero((ended > 0) & (ended < NEVER))
        lasts = lasts[image.at(forest.saddles[lasts]) > comparison.at(dies[lasts])]
        bars.append((forest.saddles[forest.lasts], forest.roots[forest.ended[forest.lasts]]))
        joins.append((np.cumsum(forest.lasts) - 1)[lasts])
        ends.append(dies[lasts])
    matched = _common(ends[0].astype(np.int64), ends[1].astype(np.int64))
    both = np.stack([join[place] for join, place in zip(joins, matched, strict=True)], axis=1)
    return _matched_bars(top, images, bars, both)


def _common_loops(images: list[Ordered], comparison: Ordered) -> MatchedBars:
    """Dimension 1 of a volume. Of those that end at one voxel of C the first are matched."""
    grid = comparison.grid
    bars, found, names = [], [], []
    for image in images:
        starts, ends = (comparison, image) if grid.dual else (image, comparison)
        assert ends.squares is not None
        words = starts.grid.words.copy()
        voxels = _reduce(replace(starts.grid, words=words), ends.grid, ends.squares, Columns.none())
        births, deaths = voxels[::-1] if grid.dual else voxels
        lasts = image.at(births) > comparison.at(deaths)
        births, deaths = births[lasts], deaths[lasts]
        own = image.pairs[1]
        created, destroyed = own.created, own.destroyed
        bars.append((destroyed, created) if grid.dual else (created, destroyed))
        found.append((births, entry_times(grid, deaths)))
        names.append(_numbered(deaths.astype(np.int64), entry_times(image.grid, births)))
    both = np.stack(_common(*names), axis=1)
    for side in (0, 1):
        place, bar = _bars_of_image(images[side].grid, found[side], both[:, side], bars[side])
        both = both[place]
        both[:, side] = bar
    return _matched_bars(1, images, bars, both)


def _matched_bars(
    dimension: int, images: list[Ordered], bars: list[_Bars], matched: NDArray[np.int64]
) -> MatchedBars:
    """Returns the bars whose ends differ in value, and the partners of those of G."""
    sides, numbers = [], []
    for image, (births, deaths) in zip(images, bars, strict=True):
        lasts = (deaths == NOTHING) | (image.at(births) > image.at(deaths))
        sides += [births[lasts], deaths[lasts]]
        numbers.append(np.cumsum(lasts) - 1)
    partner = np.full(len(sides[2]), NOTHING)
    partner[numbers[1][matched[:, 1]]] = numbers[0][matched[:, 0]]
    births, deaths, target_births, target_deaths = sides
    return MatchedBars(dimension, births, deaths, target_births, target_deaths, partner)
