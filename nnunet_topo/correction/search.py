"""Changes voxel by voxel, each counted: for what a single voxel mends, and for tiny images."""

import numpy as np

from nnunet_topo.correction.field import Field, Mask
from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.topology.homotopic import approach, keeps_topology
from nnunet_topo.topology.masks import label_components

_MOST_TRIED = 40  # voxels, the cheapest first
_MOST_CHANGES = 24  # that are taken back
_TINY = 100  # voxels; in larger images there is room for every seed that fits
_STEPS = 1500


def flip_by_flip(mask: Mask, field: Field, wanted: BettiPrior) -> Mask | None:
    """Returns a mask after single voxels were flipped, None if that does not lead to the numbers.

    Each time, the voxel goes that costs least for what it mends. One voxel may join three
    components.

    Args:
        mask: as changed so far.
        field: what changes cost.
        wanted: Betti numbers.
    """
    off = _error(mask, field, wanted)
    while off:
        cost = field.cost_from(mask)
        voxels = np.flatnonzero(~keeps_topology(mask, connectivity=field.connectivity).ravel())
        voxels = voxels[np.argsort(cost.flat[voxels], kind="stable")][:_MOST_TRIED]
        best, least = None, np.inf
        for voxel in voxels:
            if cost.flat[voxel] / off >= least:
                break  # all others cost more
            tried = mask.copy()
            tried.flat[voxel] = not tried.flat[voxel]
            gain = off - _error(tried, field, wanted)
            if gain > 0 and cost.flat[voxel] / gain < least:
                best, least = tried, cost.flat[voxel] / gain
        if best is None:
            return None
        mask = best
        off = _error(mask, field, wanted)
    return mask


def exchange(mask: Mask, field: Field, wanted: BettiPrior) -> Mask:
    """Returns a mask at most as costly: changes are taken back, and others made if they cost less.

    Args:
        mask: one that has the wanted numbers.
        field: what changes cost.
        wanted: Betti numbers.
    """
    least = field.cost_of(mask)
    changed, number = label_components(mask != field.mask, "full")
    groups = [changed == label for label in range(1, number + 1)]
    groups += [_only(voxel, mask.shape) for voxel in np.flatnonzero(changed)[:_MOST_CHANGES]]
    groups.sort(key=lambda group: -float(field.cost[group].sum()))
    for group in groups[:_MOST_CHANGES]:
        back = np.where(group, field.mask, mask)
        found = flip_by_flip(back, field, wanted)
        if found is None:
            continue
        found = approach(found, field.mask, field.cost, connectivity=field.connectivity)
        if field.cost_of(found) < least:
            mask, least = found, field.cost_of(found)
    return mask


def _only(voxel: np.int64, shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, bool)
    mask.flat[voxel] = True
    return mask


def wander(field: Field, wanted: BettiPrior) -> Mask | None:
    """Returns a mask with the wanted numbers that a random walk in a tiny image finds, else None.

    Where structures fill a tiny image, only some arrangements have room for all. The walk takes
    each voxel that mends something, and flips simple points until there is one.

    Args:
        field: what changes cost.
        wanted: Betti numbers.
    """
    if field.score.size > _TINY:
        return None
    random = np.random.default_rng(0)
    starts = [field.mask, np.ones_like(field.mask), np.zeros_like(field.mask)]
    for start in starts:
        is_free = (start == field.mask) | np.isfinite(field.cost)
        found = _walk(np.where(is_free, start, field.mask), field, wanted, random)
        if found is not None:
            return found
    return None


def _walk(mask: Mask, field: Field, wanted: BettiPrior, random: np.random.Generator) -> Mask | None:
    off = _error(mask, field, wanted)
    for _ in range(_STEPS):
        simple = keeps_topology(mask, connectivity=field.connectivity) & np.isfinite(field.cost)
        others = np.flatnonzero(~simple & np.isfinite(field.cost))
        random.shuffle(others)
        for voxel in others:
            tried = mask.copy()
            tried.flat[voxel] = not tried.flat[voxel]
            now = _error(tried, field, wanted)
            # A step that changes nothing leads out of dead ends.
            if now < off or (now == off and random.random() < 0.1):
                mask, off = tried, now
                break
        else:
            candidates = np.flatnonzero(simple)
            if len(candidates):
                mask = mask.copy()
                voxel = random.choice(candidates)
                mask.flat[voxel] = not mask.flat[voxel]
        if off == 0:
            return mask
    return None


def _error(mask: Mask, field: Field, wanted: BettiPrior) -> float:
    return wanted.error(betti_numbers(mask, connectivity=field.connectivity))
