"""Loops of volumes: cut or filled by homotopic growth, and closed where the longest bars say."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_topo.correction.field import Field, Mask
from nnunet_topo.correction.making import probability
from nnunet_topo.topology import betti_numbers, euler_characteristic, persistence_pairs
from nnunet_topo.topology.homotopic import Paths, approach
from nnunet_topo.topology.masks import Box, label_components

_MOST_TRIED = 60  # bars
_MOST_VISITED = 2**24  # voxels in which membranes are tried; in noise there are hundreds


def fewer_loops(mask: Mask, field: Field, most: int) -> Mask:
    """Returns a mask of at most as many loops, with the same components and cavities.

    Each component grows from its highest voxel, along simple points in falling order of the score,
    and keeps no loop. Where its fronts meet, cuts are left. The cuts that cost most are taken back:
    these are the loops that stay. A cut that costs more than a membrane over its loop gives way to
    the membrane. Membranes are what homotopic shrinking leaves of a hull, in rising order.

    Args:
        mask: 3D, as changed so far.
        field: what changes cost.
        most: number of loops that may stay.
    """
    urgency = np.abs(field.score)
    grown = approach(_highest_voxels(mask, field), mask, urgency, connectivity=field.connectivity)
    cost = field.cost_from(mask)
    cuts, number = label_components(mask & ~grown, "full")
    boxes = [_widened(box) for box in ndimage.find_objects(cuts)]
    # Infinite where a voxel must stay; such a cut is taken back first.
    costs = np.bincount(cuts.ravel(), weights=cost.ravel(), minlength=number + 1)[1:]
    left = 0
    loops = np.zeros(number, np.int64)
    for index, box in enumerate(boxes):
        whole = grown[box] | (cuts[box] == index + 1)
        loops[index] = _euler(grown[box], field) - _euler(whole, field)
    for index in np.argsort(-costs, kind="stable"):
        box = boxes[index]
        if loops[index] <= 0 or left + loops[index] <= most:
            grown[box] |= cuts[box] == index + 1
            left += max(int(loops[index]), 0)
            loops[index] = 0
    if (loops > 0).any():
        hull = approach(np.ones_like(mask), mask, urgency, connectivity=field.connectivity)
        membranes, _ = label_components(hull & ~mask, "full")
        bounds = [_widened(box) for box in ndimage.find_objects(membranes)]
        visited = 0
        for index in np.flatnonzero(loops > 0):
            beside = np.unique(membranes[boxes[index]])
            chosen = [int(label) for label in beside if label]
            if chosen:
                box = _joined([boxes[index], *(bounds[label - 1] for label in chosen)])
                visited += grown[box].size
                if visited > _MOST_VISITED:
                    break
                membrane = np.isin(membranes[box], chosen)
                cut = cuts[box] == index + 1
                grown[box] = _filled(grown[box], mask[box], membrane, cut, cost[box], field)
    return grown


def _filled(
    grown: Mask, mask: Mask, membrane: Mask, cut: Mask, cost: NDArray[np.float64], field: Field
) -> Mask:
    """Returns a mask with a membrane instead of a cut, if that costs less and is possible."""
    if np.isinf(cost[membrane]).any():
        return grown

    def towards(now: Mask, wanted: Mask) -> Mask:
        return approach(now, wanted, cost, connectivity=field.connectivity)

    with_both = towards(towards(grown, grown | membrane), grown | membrane | cut)
    if (cut & ~with_both).any():
        return grown
    thinned = towards(with_both, grown | cut)
    before, after = (float(cost[one != mask].sum()) for one in (grown, thinned))
    return thinned if after < before else grown


def _highest_voxels(mask: Mask, field: Field) -> Mask:
    """Returns the voxel of each component with the highest score."""
    labels, _ = label_components(mask, field.connectivity)
    inside = np.flatnonzero(mask)
    of_inside, scores = labels.ravel()[inside], field.score.ravel()[inside]
    highest = np.full(of_inside.max(initial=0) + 1, -np.inf)
    np.maximum.at(highest, of_inside, scores)
    at_top = inside[scores == highest[of_inside]]
    _, first = np.unique(labels.ravel()[at_top], return_index=True)
    seeds = np.zeros_like(mask)
    seeds.flat[at_top[first]] = True
    return seeds


def _widened(box: Box) -> Box:
    """Returns a box with one more voxel on each side, where there is one."""
    return tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)


def _joined(boxes: Sequence[Box]) -> Box:
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )


def _euler(mask: Mask, field: Field) -> int:
    return euler_characteristic(mask, connectivity=field.connectivity)


def more_loops(mask: Mask, field: Field, fewest: int) -> Mask:
    """Returns a mask of at least as many loops, as far as the longest bars show them.

    A bar that is born below the threshold closes a ring: along the cheapest path around its birth
    voxel, above the score of that voxel. A bar that dies above the threshold is opened the same way
    in the complement.

    Args:
        mask: 3D, as changed so far.
        field: what changes cost.
        fewest: number of loops that are wanted.
    """
    before = betti_numbers(mask, connectivity=field.connectivity)
    rings = sorted(
        [*_rings(field, is_complement=False), *_rings(field.complement(), is_complement=True)],
        key=lambda ring: -ring.length,
    )
    for ring in rings[:_MOST_TRIED]:
        if before[1] >= fewest:
            break
        for tried in ring.closed(mask):
            after = betti_numbers(tried, connectivity=field.connectivity)
            others_stay = (after[0], after[2]) == (before[0], before[2])
            is_allowed = not np.isinf(field.cost[tried != mask]).any()
            if others_stay and before[1] < after[1] <= fewest and is_allowed:
                mask, before = tried, after
                break
    return mask


class _Ring:
    """A loop of the superlevel sets, or of the complement of the sublevel sets, not yet there."""

    def __init__(self, field: Field, voxel: int, length: float, *, is_complement: bool) -> None:
        self._field, self._voxel, self.length = field, voxel, length
        self._is_complement = is_complement

    def closed(self, mask: Mask) -> Iterator[Mask]:
        """Yields the mask with the ring, in several ways if several paths close it."""
        if not self._is_complement:
            for cycle in self._cycles():
                yield mask | cycle
            return
        for cycle in self._cycles():
            yield mask & ~cycle[1:-1, 1:-1, 1:-1]

    def _cycles(self) -> Iterator[Mask]:
        field = self._field
        place = np.unravel_index(self._voxel, field.score.shape)
        level = field.score[place]
        score = np.pad(field.score, 1, constant_values=-np.inf)
        place = tuple(int(p) + 1 for p in place)
        above = score >= level
        above[place] = False
        around = tuple(slice(p - 1, p + 2) for p in place)
        pieces, number = label_components(above[around], field.connectivity)
        if field.connectivity == "face":  # only pieces that touch the voxel itself
            touching = {int(pieces[step]) for step in _FACES} - {0}
        else:
            touching = set(range(1, number + 1))
        groups = np.where(above, 0, -1).astype(np.int32)
        groups[around] = np.where(pieces > 0, pieces, -1)
        cost = np.where(np.isfinite(score), np.maximum(-score, 0), 1e3)
        paths = Paths(groups, cost, field.connectivity)
        flat = paths.groups
        for piece in sorted(touching)[:-1]:
            path = paths.from_group(piece, np.flatnonzero(flat == piece))
            if path.group in touching:
                cycle = np.zeros(score.shape, bool)
                cycle.flat[path.voxels] = True
                cycle[place] = True
                ends = ((pieces == piece) | (pieces == path.group)) & (
                    _beside(cycle[around]) | _TOUCHING[field.connectivity]
                )
                wide = cycle.copy()
                wide[around] |= ends
                yield wide[1:-1, 1:-1, 1:-1]


_FACES = [step for step in product((0, 1, 2), repeat=3) if sum(abs(s - 1) for s in step) == 1]
_TOUCHING = {
    "full": np.ones((3, 3, 3), bool),
    "face": ndimage.generate_binary_structure(3, 1),
}


def _beside(mask: Mask) -> Mask:
    return ndimage.binary_dilation(mask, np.ones((3, 3, 3), bool))


def _rings(field: Field, *, is_complement: bool) -> Iterator[_Ring]:
    """Yields the loops that are born below the threshold."""
    pairs = persistence_pairs(field.score, connectivity=field.connectivity, dimensions=(1,))
    values = field.score.ravel()
    births, deaths = values[pairs.birth], values[pairs.death]
    length = probability(births) - probability(deaths)
    for index in np.flatnonzero(births <= 0):
        yield _Ring(
            field, int(pairs.birth[index]), float(length[index]), is_complement=is_complement
        )
