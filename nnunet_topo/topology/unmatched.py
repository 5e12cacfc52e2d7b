"""Where two masks have components and enclosed regions that the other one does not have.

The counts are those of `match_betti_numbers`: of the classes that become one in the union, the
largest of each mask counts as the common one, and the others are left over. Loops in volumes are
bars of a union and have no place, so they are counted there but not found here.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nnunet_topo.topology.masks import as_masks, dual, foreground_box, label_components
from nnunet_topo.topology.persistence import Connectivity, check_connectivity


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A component or an enclosed region of one mask without a partner in the other.

    Attributes:
        dimension: 0, a component; 1 in images and 2 in volumes, an enclosed region.
        in_prediction: otherwise it belongs to the reference.
        centre: a voxel of it, in the slice of the first axis in which it is largest.
        size: in voxels.
    """

    dimension: int
    in_prediction: bool
    centre: tuple[int, ...]
    size: int


def find_unmatched(
    prediction: ArrayLike, reference: ArrayLike, *, connectivity: Connectivity = "full"
) -> list[Unmatched]:
    """Returns the components and enclosed regions that only one of two masks has, largest first.

    Args:
        prediction: 2D or 3D; what is non-zero is foreground.
        reference: likewise, of the same shape.
        connectivity: of the foreground in both, as for `betti_numbers`.

    Raises:
        ValueError: wrong or different shapes, NaN, unknown connectivity.
    """
    pair = as_masks(prediction, reference)
    check_connectivity(connectivity)
    box = foreground_box(*pair)
    p, r = (np.pad(mask[box], 1) for mask in pair)
    found = _find(0, p, r, p | r, connectivity)
    found += _find(p.ndim - 1, ~p, ~r, ~(p | r), dual(connectivity))
    begin = [side.start for side in box]
    found = [
        replace(f, centre=tuple(c + b for c, b in zip(f.centre, begin, strict=True))) for f in found
    ]
    return sorted(found, key=lambda structure: -structure.size)


def _find(
    dimension: int,
    p: NDArray[np.bool_],
    r: NDArray[np.bool_],
    meeting: NDArray[np.bool_],
    connectivity: Connectivity,
) -> list[Unmatched]:
    """Finds components of p and r that no component of a third mask joins, without padding."""
    regions, number = label_components(meeting, connectivity)
    sides = [(mask, *label_components(mask, connectivity)) for mask in (p, r)]
    nodes = number + sum(count for _, _, count in sides)
    first, second, begin = [], [], number
    for mask, labels, count in sides:
        touched = mask & meeting
        links = np.unique(regions[touched].astype(np.int64) * (count + 1) + labels[touched])
        region, label = np.divmod(links, count + 1)
        first.append(region - 1)
        second.append(begin + label - 1)
        begin += count
    ends = np.concatenate(first), np.concatenate(second)
    graph = coo_array((np.ones(len(ends[0]), bool), ends), shape=(nodes, nodes))
    groups = np.split(
        connected_components(graph, directed=False)[1], [number, number + sides[0][2]]
    )[1:]
    found = []
    for (_, labels, count), own, others in zip(sides, groups, reversed(groups), strict=True):
        sizes = np.bincount(labels.ravel())[1:].astype(float)
        outside = labels[(0,) * labels.ndim]
        if outside:
            sizes[outside - 1] = np.inf  # the outside of both is not a structure
        largest_first = np.lexsort((-sizes, own))
        _, leaders = np.unique(own[largest_first], return_index=True)
        kept = np.zeros(count, bool)
        kept[largest_first[leaders]] = True
        kept &= np.isin(own, others)
        boxes = ndimage.find_objects(labels)
        for index in np.flatnonzero(~kept):
            centre = _centre(labels[boxes[index]] == index + 1)
            voxel = tuple(
                int(c) + side.start - 1 for c, side in zip(centre, boxes[index], strict=True)
            )
            found.append(Unmatched(dimension, labels is sides[0][1], voxel, int(sizes[index])))
    return found


def _centre(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns the voxel nearest to the centroid of the largest slice."""
    largest = np.argmax(mask.reshape(len(mask), -1).sum(axis=1)) if mask.ndim == 3 else None
    voxels = np.argwhere(mask if largest is None else mask[largest])
    nearest = voxels[np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))]
    return nearest if largest is None else np.insert(nearest, 0, largest)
