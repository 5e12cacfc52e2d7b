"""Components and enclosed parts that two images have in common: the first and the last dimension.

The target G is a mask, F a prediction, and C = max(F, G). The foreground of G enters C first of
all, from the voxel where F is greatest to that where it is least; then the other voxels enter as
they do in F. That order breaks all ties. G and C have one and the same order then, so each bar of
G, which dies at a voxel of the background, is the bar of C that dies there. What is left to find
are the bars of the image of H(F) in H(C): born in the order of F, dying in that of C.

- Components: F's own joins, and one more wherever a voxel of F beside the foreground enters, tell
  which components are one in C. Each carries the voxel of F that entered first.
- Enclosed parts, in reverse: F's own joins of the outside; each part carries the voxel that enters
  C last.

See `_cubical` for grids. Bauer, Schmahl: Efficient Computation of Image Persistence. SoCG 2023.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology._cubical import (
    OLDEST,
    OUTSIDE,
    UNKNOWN,
    VOXEL_BITS,
    YOUNGEST,
    Forest,
    Grid,
    Voxels,
)
from nnunet_topo.topology._kernel import kernel
from nnunet_topo.topology._merging import age_and_voxel, merge

NOTHING = -1
NEVER = np.uint64(2**64 - 1)

Times = NDArray[np.uint64]  # when voxels enter F, the first ones first


@dataclass(frozen=True, slots=True)
class Target:
    """A mask within a grid.

    Attributes:
        parts: component of each voxel of the foreground, from 1 on; the enclosed part of each voxel
            that the foreground encloses, from -1 down; 0 elsewhere.
        foreground: its voxels.
        surface: voxels of the background that touch the foreground, in a corner at least.
        contacts: `[contact, 2]`, a place in `surface` and a component that it is connected to.
        watched: the surface, and one voxel that is there in any case.
    """

    parts: NDArray[np.int32]
    foreground: NDArray[np.int64]
    surface: Voxels
    contacts: NDArray[np.int32]
    watched: Voxels

    def moved(self) -> NDArray[np.bool_]:
        """Returns the voxels whose place among their neighbours may be another in C than in F."""
        voxels = self.parts > 0
        voxels[self.surface] = True
        return voxels


@dataclass(frozen=True, slots=True)
class MatchedBars:
    """Bars of one dimension as voxels of the grid, NOTHING where there is none.

    Attributes:
        dimension: homology dimension in the image.
        birth: of each bar of the prediction.
        death: of each bar of the prediction.
        target_birth: of each bar of the target.
        target_death: of each bar of the target.
        partner: for each bar of the target the bar of the prediction, NOTHING for none.
    """

    dimension: int
    birth: Voxels
    death: Voxels
    target_birth: Voxels
    target_death: Voxels
    partner: NDArray[np.int64]

    def voxels(self) -> tuple[Voxels, ...]:
        """Returns births and deaths of the prediction's bars, then those of the target's."""
        return self.birth, self.death, self.target_birth, self.target_death


def target_in_grid(
    grid: Grid,
    parts: NDArray[np.int32],
    connected: NDArray[np.int64],
    around: NDArray[np.int64],
) -> Target:
    """Returns a target with its surface.

    Args:
        grid: what it lies in.
        parts: see `Target`.
        connected: offsets to the neighbours that a voxel of the foreground is connected to.
        around: offsets to all neighbours.
    """
    foreground = np.flatnonzero(parts > 0)
    seen = np.zeros(parts.size, np.bool_)
    mark_surface(foreground, parts, around, seen)
    surface = np.flatnonzero(seen).astype(np.int32)
    surface = surface[(grid.ages[surface] != OLDEST) & (grid.ages[surface] != YOUNGEST)]
    contacts = np.empty((surface.size * min(connected.size, 8), 2), np.int32)
    count = find_contacts(surface, parts, connected, contacts)
    _, ny, nx = grid.shape
    first = (grid.margin[0] * ny + grid.margin[1]) * nx + grid.margin[2]
    watched = np.append(surface, np.int32(first))
    return Target(parts, foreground, surface, contacts[:count], watched)


@kernel
def number_parts(components, outside, parts):
    """Writes `Target.parts`; what is outside and reaches the first corner is not enclosed."""
    open_ = outside[0, 0, 0]
    nz, ny, nx = parts.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                part = outside[z, y, x]
                parts[z, y, x] = components[z, y, x]
                if part != open_:
                    parts[z, y, x] -= part - np.int32(part > open_)


@kernel
def mark_surface(foreground, parts, around, seen):
    """Marks the voxels beside the foreground."""
    for voxel in foreground:
        for offset in around:
            seen[voxel + offset] = parts[voxel + offset] <= 0


@kernel
def find_contacts(surface, parts, connected, contacts):
    """Lists each component at each voxel of the surface once, and returns how many there are."""
    count = 0
    for place in range(surface.size):
        first = count
        for offset in connected:
            label = parts[surface[place] + offset]
            if label <= 0:
                continue
            known = False
            for i in range(first, count):
                known = known or contacts[i, 1] == label
            if not known:
                contacts[count, 0] = place
                contacts[count, 1] = label
                count += 1
    return count


def match_components(grid: Grid, forest: Forest, target: Target) -> MatchedBars:
    """Dimension 0 of the image.

    Args:
        grid: with its words.
        forest: of the components of superlevel sets; with those that the target has watched.
        target: the mask.
    """
    bars = component_bars(grid, forest)
    born, saddles, essential = bars.born, forest.saddles, bars.essential
    bar_of = np.append(bars.bar_of, NOTHING)  # the last one is for what has no voxel of F

    # Components of the foreground are numbered after those of F. What joins them to these: F's
    # maxima within them, at once, and what lies beside them, when it enters.
    inside = np.flatnonzero(target.parts[forest.roots] > 0)
    place, label = target.contacts.T
    when = entry_times(grid, target.surface[place])
    in_time = np.argsort(when)
    place, label, when = place[in_time], label[in_time], when[in_time]
    label = np.concatenate([target.parts[forest.roots[inside]], label]) - 1
    of_f = np.concatenate([inside, forest.watched[place]])
    joins = np.concatenate([np.stack([of_f, len(born) + label], axis=1), forest.ends])
    at = np.concatenate([forest.roots[inside], target.surface[place], saddles])
    labels = target.parts[target.foreground]
    first = first_times(target.foreground, labels, grid.words, grid.dual)
    rank = np.concatenate([born, np.full(len(first), NEVER)])
    carried = np.concatenate([np.full(len(born), NEVER), first])
    order = merged_order(np.concatenate([np.zeros(len(inside), np.uint64), when]), bars.when)
    dead, target_births, ended = merge_carrying(order, len(inside), joins, at, rank, carried)
    target_birth, target_death = voxels_of(grid, target_births), dead
    partner = bar_of[np.minimum(ended, len(born))]
    partner[~lasts_until(grid, bars.births[partner], target_death)] = NOTHING
    if len(first):
        target_birth = np.append(target_birth, voxels_of(grid, first.min(keepdims=True)))
        target_death = np.append(target_death, NOTHING)
        partner = np.append(partner, bar_of[essential])
    return MatchedBars(0, bars.births, bars.deaths, target_birth, target_death, partner)


@dataclass(frozen=True, slots=True)
class ComponentBars:
    """The bars of the components of an image, the essential class last.

    Attributes:
        births: voxel of each.
        deaths: voxel of each, NOTHING for the essential class.
        bar_of: the bar of each root of the forest, NOTHING for none.
        born: when each root enters, NEVER if it is not in the image.
        when: each join happens.
        essential: root of the essential class.
    """

    births: Voxels
    deaths: Voxels
    bar_of: NDArray[np.int64]
    born: Times
    when: Times
    essential: int


def component_bars(grid: Grid, forest: Forest) -> ComponentBars:
    """Returns the bars of a forest of components."""
    born, when = entry_times(grid, forest.roots), entry_times(grid, forest.saddles)
    lasts = forest.lasts
    if grid.dual:
        born[OUTSIDE] = NEVER
        lasts = lasts & (grid.ages[forest.saddles] != OLDEST)  # a shell parts the last one and it
    essential, count = int(np.argmin(born)), int(np.count_nonzero(lasts))
    ended = forest.ended[lasts]
    bar_of = np.full(len(born), NOTHING)
    bar_of[ended] = np.arange(count)
    bar_of[essential] = count
    births = np.append(forest.roots[ended], forest.roots[essential])
    deaths = np.append(forest.saddles[lasts], NOTHING)
    return ComponentBars(births, deaths, bar_of, born, when, essential)


def match_enclosed(
    grid: Grid, forest: Forest, target: Target, around: NDArray[np.int64]
) -> MatchedBars:
    """The last dimension of the image.

    Args:
        grid: with its words.
        forest: of what lies outside of superlevel sets; with those that the target has watched.
        target: the mask.
        around: offsets to all neighbours.
    """
    births, lasts = forest.saddles, forest.lasts
    deaths = forest.roots[forest.ended[lasts]]
    dimension = 1 if grid.shape[0] == 1 else 2

    # The voxel of each part that enters C last: of the background if there is one.
    last = entry_times(grid, forest.roots)
    inside = target.parts[forest.roots] > 0
    last[inside] = 0
    beside = np.flatnonzero(inside[forest.watched[:-1]])
    at_surface = entry_times(grid, target.surface[beside])
    np.maximum.at(last, forest.watched[beside], at_surface)
    if grid.dual:
        last[grid.ages[forest.roots] == OLDEST] = NEVER  # the shell
    else:
        last[OUTSIDE] = NEVER
    ended = last[merge(np.arange(len(births)), forest.ends.copy(), ~last)]

    enclosed = np.flatnonzero(target.parts < 0)
    filled = ~first_times(enclosed, -target.parts[enclosed], grid.words, not grid.dual)
    target_death = voxels_of(grid, filled)
    wall = np.zeros(len(filled), np.int32)
    last_in_wall(target.surface, target.parts, grid.words, grid.dual, around, wall)
    partner = np.full(len(filled), NOTHING)
    dies = voxels_of(grid, ended)
    part = -target.parts[np.where(ended > 0, dies, 0)]
    found = np.flatnonzero((part > 0) & lasts)
    found = found[ended[found] == filled[part[found] - 1]]
    found = found[lasts_until(grid, births[found], dies[found])]
    partner[part[found] - 1] = np.cumsum(lasts)[found] - 1
    return MatchedBars(dimension, births[lasts], deaths, wall, target_death, partner)


def lasts_until(grid: Grid, births: Voxels, deaths: Voxels) -> NDArray[np.bool_]:
    """Returns whether the value at each birth is greater than that at its death."""
    difference = grid.ages[births].astype(np.int64) - grid.ages[deaths]
    return difference > 0 if grid.dual else difference < 0


def entry_times(grid: Grid, voxels: Voxels) -> Times:
    """Returns numbers in the order in which voxels enter the superlevel sets of F."""
    numbers = age_and_voxel(grid, voxels)
    return ~numbers if grid.dual else numbers


def voxels_of(grid: Grid, entries: Times) -> Voxels:
    """Returns the voxels of numbers of `entry_times`."""
    return ((~entries if grid.dual else entries) & VOXEL_BITS).astype(np.int32)


@kernel
def first_times(voxels, labels, words, dual):
    """Returns when the first voxel of each label, from 1 on, enters; `dual` reverses the order."""
    count = 0
    for label in labels:
        count = max(count, label)
    first = np.full(count, NEVER)
    for i in range(voxels.size):
        entry = (words[voxels[i]] & ~VOXEL_BITS) | np.uint64(voxels[i])
        if dual:
            entry = ~entry
        first[labels[i] - 1] = min(first[labels[i] - 1], entry)
    return first


@kernel
def merged_order(first, second):
    """Returns the order of two sorted arrays, one after the other; of equals the first first."""
    order = np.empty(first.size + second.size, np.int64)
    i = j = 0
    for place in range(order.size):
        if j == second.size or (i < first.size and first[i] <= second[j]):
            order[place] = i
            i += 1
        else:
            order[place] = first.size + j
            j += 1
    return order


@kernel
def last_in_wall(surface, parts, words, dual, around, wall):
    """Finds for each enclosed part the voxel around it that is the last to enter F."""
    last = np.zeros(wall.size, np.uint64)
    for voxel in surface:
        part = -parts[voxel] - 1
        if part < 0:
            continue
        for offset in around:
            other = voxel + offset
            if parts[other] <= 0:
                continue
            entry = (words[other] & ~VOXEL_BITS) | np.uint64(other)
            if dual:
                entry = ~entry
            if entry >= last[part]:
                last[part] = entry
                wall[part] = other


@kernel
def merge_carrying(order, apart, ends, at, rank, carried):
    """Union-find whose components carry the first entry of the foreground in them.

    All that meets at one voxel becomes one at once. Of the components with foreground all but the
    first one of the target end there, and in F all but the one that was born first.

    Args:
        order: joins in the order of time.
        apart: how many of them come before all others, each for itself.
        ends: `[join, 2]`, components joined.
        at: voxel of each join.
        rank: when each component is born in F.
        carried: first entry of foreground in each component, NEVER without foreground.

    Returns:
        For each bar of the target its last voxel, its first entry, and the component of F that ends
        where it does; of those that end at one voxel the first with the first.
    """
    parent = np.arange(rank.size)
    count = 0
    dead = np.empty(carried.size, np.int32)
    births = np.empty(carried.size, np.uint64)
    ended = np.empty(carried.size, np.int64)
    begin = 0
    while begin < order.size:
        end = begin + 1
        while begin >= apart and end < order.size and at[order[end]] == at[order[begin]]:
            end += 1
        started = count
        one = front = UNKNOWN  # all that has met here; the first of it in F that holds foreground
        for side in range(2 * (end - begin)):
            a = np.int64(ends[order[begin + side // 2], side % 2])
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            if a == one:
                continue
            if carried[a] != NEVER:
                if front == UNKNOWN:
                    front = a
                else:
                    dead[count] = at[order[begin]]
                    births[count] = max(carried[a], carried[one])
                    ended[count] = a if rank[a] > rank[front] else front
                    front = a if rank[a] < rank[front] else front
                    count += 1
            if one == UNKNOWN:
                one = a
                continue
            if rank[a] < rank[one]:
                a, one = one, a
            parent[a] = one
            carried[one] = min(carried[a], carried[one])
        if count > started + 1:
            births[started:count].sort()
            here = ended[started:count]
            ended[started:count] = here[np.argsort(rank[here])]
        begin = end
    return dead[:count], births[:count], ended[:count]
