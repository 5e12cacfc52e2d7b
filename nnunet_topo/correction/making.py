"""More components: made where the longest bars say, of which the mask shows nothing yet."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_topo.correction.field import HIGHEST, Field, Mask
from nnunet_topo.topology import persistence_pairs
from nnunet_topo.topology.homotopic import watershed_line
from nnunet_topo.topology.masks import label_components
from nnunet_topo.topology.persistence import NO_VOXEL

_MOST_TRIED = 200  # bars; in noise there are thousands


def more_components(mask: Mask, field: Field, fewest: int, error: Callable[[Mask], float]) -> Mask:
    """Returns a mask of at least as many components, as far as there is room.

    The longest bar that the mask does not show goes first. If it is born below the threshold, its
    highest voxel becomes a component. If it dies above the threshold, its component is cut from
    the older one along the watershed between them. In the complement of an image, such a cut is
    what closes a broken ring. If the bars do not suffice, the highest voxels that touch nothing
    become components.

    Args:
        mask: as changed so far.
        field: what changes cost.
        fewest: number of components that are wanted.
        error: how far the Betti numbers of a mask are from those that are wanted; what does not
            make it less is not done.
    """
    number = label_components(mask, field.connectivity)[1]
    if number >= fewest:
        return mask
    least = error(mask)
    for candidate in _by_bars(mask, field):
        tried = candidate(mask)
        if tried is not None and not np.isinf(field.cost[tried != mask]).any():
            found = label_components(tried, field.connectivity)[1]
            if number < found <= fewest and (off := error(tried)) < least:
                mask, number, least = tried, found, off
        if number == fewest:
            return mask
    while number < fewest:
        apart = ~_touched(mask, field) & np.isfinite(field.cost)
        if not apart.any():
            break
        mask = mask.copy()
        mask.flat[np.where(apart, field.score, -np.inf).argmax()] = True
        number += 1
    return mask


def _touched(mask: Mask, field: Field) -> Mask:
    """Returns the voxels of a mask, and those beside one."""
    rank = mask.ndim if field.connectivity == "full" else 1
    return ndimage.binary_dilation(mask, ndimage.generate_binary_structure(mask.ndim, rank))


def _by_bars(mask: Mask, field: Field) -> Iterator[Callable[[Mask], Mask | None]]:
    """Yields what shows one more component, by the longest bar first; None if it does not."""
    pairs = persistence_pairs(field.score, connectivity=field.connectivity, dimensions=(0,))
    values = field.score.ravel()
    birth, death = pairs.birth, pairs.death
    deaths = np.where(death == NO_VOXEL, values.min(), values[death])
    length = probability(values[birth]) - probability(deaths)
    is_hidden = (values[birth] <= 0) | (deaths > 0)
    order = np.argsort(-length, kind="stable")
    for index in order[is_hidden[order]][:_MOST_TRIED]:
        if values[birth[index]] <= 0:
            yield partial(_made, voxel=int(birth[index]))
        elif mask.ravel()[birth[index]]:
            voxel, joins_at = int(birth[index]), float(deaths[index])
            yield partial(_cut, field=field, voxel=voxel, joins_at=joins_at)


def probability(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the probability of a logit."""
    return 1 / (1 + np.exp(-np.clip(score, -500, 500)))


def _made(mask: Mask, voxel: int) -> Mask | None:
    """Returns a mask with one more voxel, None if it is there."""
    if mask.flat[voxel]:
        return None
    made = mask.copy()
    made.flat[voxel] = True
    return made


def _cut(mask: Mask, field: Field, voxel: int, joins_at: float) -> Mask | None:
    """Returns a mask whose component is cut from the older one that it joins at a score.

    Args:
        mask: as changed so far.
        field: what changes cost.
        voxel: the highest of the component.
        joins_at: where it joins the older one.

    Returns:
        None if the two are not one component of the mask.
    """
    labels, _ = label_components(mask, field.connectivity)
    region = mask & (labels == labels.flat[voxel])
    peaks, _ = label_components(region & (field.score > joins_at), field.connectivity)
    own = peaks.flat[voxel]
    first, second = peaks == own, (peaks > 0) & (peaks != own)
    if not own or not second.any():
        return None
    height = np.minimum(field.score, HIGHEST)
    line = watershed_line(first, second, region, height, connectivity=field.connectivity)
    return mask & ~line
