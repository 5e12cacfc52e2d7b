"""Which components, loops and cavities two masks have in common, by place and not only by number.

A class of the prediction P and one of the reference G are the same where they become one in the
union U of both. With im_P the image of H_k(P) in H_k(U), the number of classes in common is
dim(im_P & im_G) = dim im_P + dim im_G - dim(im_P + im_G). The Betti matching error counts the
rest. The idea of matching in the union: Stucki, Paetzold, Shit, Menze, Bauer: Topologically
Faithful Image Segmentation via Induced Matching of Persistence Barcodes. ICML 2023. For masks this
needs no matching of barcodes, and almost no reduction:

- Dimension 0: a component of the union contains both.
- Highest dimension, by Alexander duality: H_k(X) are the functions on the components of the
outside of X, without constants. So im_P are the functions on the outside of the union that are
constant where the outside of P joins them. Both have in common those that both outsides join.
- Dimension 1 of a volume, by Mayer and Vietoris: what P and G span together has dimension
beta1(U) - beta0(U) + beta0(P) + beta0(G) - c, where c counts the components of their
intersection. Each image on its own is the bars of the filtration P, then U, that never end.
"""

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nnunet_topo.topology.betti import euler_characteristic
from nnunet_topo.topology.masks import (
    as_masks,
    crop_to_foreground,
    dual,
    label_components,
    neighbours,
)
from nnunet_topo.topology.persistence import Connectivity, check_connectivity, persistence_pairs

_OUTSIDE, _P_ALONE, _G_ALONE, _BOTH = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class BettiMatching:
    """Betti numbers of two masks and of the classes they have in common, by dimension.

    Attributes:
        prediction: Betti numbers of the prediction.
        reference: Betti numbers of the reference.
        matched: how many classes the two have in common.
    """

    prediction: tuple[int, ...]
    reference: tuple[int, ...]
    matched: tuple[int, ...]

    @property
    def error(self) -> int:
        """Returns the Betti matching error, the number of classes without a partner."""
        return sum(self.prediction) + sum(self.reference) - 2 * sum(self.matched)


def match_betti_numbers(
    prediction: ArrayLike, reference: ArrayLike, *, connectivity: Connectivity = "full"
) -> BettiMatching:
    """Returns the Betti numbers of two masks and how many classes they have in common.

    Symmetric; a mask has all classes in common with itself. The outside counts as background, so
    structures at the border count like any other. Two empty masks have all zeros.

    Args:
        prediction: 2D or 3D; non-zero is foreground.
        reference: likewise, of the same shape.
        connectivity: of the foreground in both, as for `betti_numbers`.

    Raises:
        ValueError: wrong or different shapes, NaN, unknown connectivity.
    """
    pair = as_masks(prediction, reference)
    check_connectivity(connectivity)
    p, g = (np.pad(mask, 1) for mask in crop_to_foreground(*pair))
    beta0 = label_components(p, connectivity)[1], label_components(g, connectivity)[1]
    return match_with_components(p, g, beta0, connectivity)


def match_with_components(
    p: NDArray[np.bool_], g: NDArray[np.bool_], beta0: tuple[int, int], connectivity: Connectivity
) -> BettiMatching:
    """Returns what `match_betti_numbers` does.

    Args:
        p: prediction, with a margin of background.
        g: reference, likewise.
        beta0: how many components they have.
        connectivity: of the foreground.
    """
    union = p | g
    shared = _match_components(p, g, union, connectivity)
    enclosed, both, in_union = _match_outsides(p, g, union, connectivity)
    if p.ndim == 2:
        of_p, of_g = zip(beta0, enclosed, strict=True)
        return BettiMatching(of_p, of_g, (shared, both))
    loops = [
        b0 + b2 - euler_characteristic(mask, connectivity=connectivity)
        for b0, b2, mask in zip(beta0, enclosed, (p, g), strict=True)
    ]
    in_common = 0
    if min(loops) > 0:
        joint = _intersection_components(p, g, connectivity)
        # beta1(U) - beta0(U)
        of_union = in_union - euler_characteristic(union, connectivity=connectivity)
        together = of_union + sum(beta0) - joint
        apart = [surviving_loops(mask, union, connectivity) for mask in (p, g)]
        in_common = sum(apart) - together
    of_p, of_g = zip(beta0, loops, enclosed, strict=True)
    return BettiMatching(of_p, of_g, (shared, in_common, both))


def _match_components(
    p: NDArray[np.bool_], g: NDArray[np.bool_], union: NDArray[np.bool_], connectivity: Connectivity
) -> int:
    """Returns how many components of the union contain both masks."""
    labels, number = label_components(union, connectivity)
    if number == 1:
        return int(p.any() and g.any())
    holds = np.zeros((2, number + 1), bool)
    for row, mask in zip(holds, (p, g), strict=True):
        row[labels[mask]] = True
    return int(np.count_nonzero(holds.all(axis=0)))


def _match_outsides(
    p: NDArray[np.bool_], g: NDArray[np.bool_], union: NDArray[np.bool_], connectivity: Connectivity
) -> tuple[tuple[int, int], int, int]:
    """Returns how many regions p and g enclose, how many in common, and how many the union.

    Regions outside of the union that the outside of p, or that of g, joins are one.
    """
    outside = dual(connectivity)
    labels, number = label_components(~union, outside)
    # A voxel of each region: any voxel of a region of the union's outside will do.
    voxel = np.zeros(number + 1, np.int64)
    if number > 1:
        enclosed = np.flatnonzero((labels > 0) & (labels != labels.flat[0]))
        voxel[labels.ravel()[enclosed]] = enclosed
    del labels
    nodes, links, regions = number, [], []
    for mask in (p, g):
        wider, of_mask = label_components(~mask, outside)
        links.append(nodes - 1 + wider.ravel()[voxel[1:]].astype(np.int64))
        nodes += of_mask
        regions.append(of_mask - 1)
    of_node, _ = _label_graph(nodes, np.tile(np.arange(number), 2), np.concatenate(links))
    both = len(np.unique(of_node[:number])) - 1
    return (regions[0], regions[1]), both, number - 1


def surviving_loops(
    mask: NDArray[np.bool_], union: NDArray[np.bool_], connectivity: Connectivity
) -> int:
    """Returns the rank of H_1(mask) in H_1(union): bars that begin with the mask and never end."""
    from nnunet_topo.topology._cubical import release_workspace  # numba: heavy

    image = union.astype(np.float32)
    image += mask
    pairs = persistence_pairs(image, connectivity=connectivity, dimensions=(1,))
    release_workspace()  # whole organs are larger than the patches of a loss
    values = image.ravel()
    return int(np.count_nonzero((values[pairs.birth] == 2) & (values[pairs.death] == 0)))


def _intersection_components(
    p: NDArray[np.bool_], g: NDArray[np.bool_], connectivity: Connectivity
) -> int:
    """Returns the number of components in which p and g meet, as cells and not as voxels."""
    meet = _meet_in_contacts if connectivity == "full" else _meet_between_voxels
    return meet(p, g)


def _meet_in_contacts(p: NDArray[np.bool_], g: NDArray[np.bool_]) -> int:
    """Counts where closed cubes of p and of g meet: in cubes of both, or in faces between them.

    All cubes around a corner touch each other, so a corner of a cube of both belongs to the
    component of that cube. What remains are corners and edges between cubes of only p and cubes
    of only g; an edge joins its two corners.
    """
    labels, number = label_components(p & g, "full")
    corners = _touched(p, (0, 1, 2)) & _touched(g, (0, 1, 2))
    of_corner = np.zeros(corners.shape, np.int32)
    for part in product((slice(None, -1), slice(1, None)), repeat=3):
        np.maximum(of_corner[part], labels, out=of_corner[part])
    free = np.flatnonzero(corners & (of_corner == 0))
    of_corner.ravel()[free] = number + 1 + np.arange(len(free))
    ends = []
    for axis in range(3):
        across = tuple(other for other in range(3) if other != axis)
        edges = _touched(p, across) & _touched(g, across) & ~_touched(p & g, across)
        ends.append([end[edges] for end in neighbours(of_corner, axis)])
    first, second = (np.concatenate(end) - 1 for end in zip(*ends, strict=True))
    return _label_graph(number + len(free), first, second)[1]


def _touched(mask: NDArray[np.bool_], axes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Returns the cells that span all but these axes and touch a voxel; one more along the axes."""
    for axis in axes:
        width = [(0, 0)] * mask.ndim
        width[axis] = (1, 1)
        lower, upper = neighbours(np.pad(mask, width), axis)
        mask = lower | upper
    return mask


def _meet_between_voxels(p: NDArray[np.bool_], g: NDArray[np.bool_]) -> int:
    """Counts where p and g meet, if voxels are points that edges, squares and cubes join.

    Some edges, squares and cubes of the union touch both voxels of only p and voxels of only g.
    They belong to neither mask. Each such edge counts as a place where p and g meet. Each such
    square relates places that are one: its edges, and the voxels of both in which its sides in p
    end. It relates two places, or four if p and g lie on the two diagonals of the square. Four
    places sum to zero (mod 2), which takes away one place unless they are one already.
    """
    labels, number = label_components(p & g, "face")
    kind = p.astype(np.int8) + 2 * g.astype(np.int8)
    places = [np.arange(number)]
    pairs, quadruples = [], []
    for axis in range(3):
        lower, upper = neighbours(kind, axis)
        is_mixed = (
            (lower + upper == _P_ALONE + _G_ALONE) & (lower != _OUTSIDE) & (upper != _OUTSIDE)
        )
        where = np.ravel_multi_index(np.nonzero(is_mixed), kind.shape)
        places.append(_name_of_edge(where, axis, number, kind.size))
    for axes in combinations(range(3), 2):
        relations, related = _relations_in_squares(kind, labels, number, axes)
        count = np.count_nonzero(related, axis=1)
        pairs.append(relations[count == 2][related[count == 2]].reshape(-1, 2))
        quadruples.append(relations[count == 4][related[count == 4]].reshape(-1, 4))
    names = np.sort(np.concatenate(places))
    first, second = np.searchsorted(names, np.concatenate(pairs)).T
    of_place, remaining = _label_graph(len(names), first, second)
    sums = of_place[np.searchsorted(names, np.concatenate(quadruples))]
    return remaining - _rank_mod_2(sums.tolist())


def _relations_in_squares(
    kind: NDArray[np.int8], labels: NDArray[np.int32], number: int, axes: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the places at the sides and corners of the mixed squares, and which are related."""
    a, b = axes
    views = [neighbours(half, b) for half in neighbours(kind, a)]
    corners = [views[0][0], views[1][0], views[1][1], views[0][1]]  # once around
    inside = np.logical_and.reduce([corner != _OUTSIDE for corner in corners])
    touch = [
        np.logical_or.reduce([corner == alone for corner in corners])
        for alone in (_P_ALONE, _G_ALONE)
    ]
    squares = np.nonzero(inside & touch[0] & touch[1])
    kinds = np.stack([corner[squares] for corner in corners], axis=1)
    first = np.ravel_multi_index(squares, kind.shape)
    step = [int(np.prod(kind.shape[axis + 1 :])) for axis in axes]
    voxels = first[:, None] + np.array([0, step[0], step[0] + step[1], step[1]])
    sides = [(0, a), (1, b), (3, a), (0, b)]  # first voxel and axis
    of_sides = [_name_of_edge(voxels[:, v], axis, number, kind.size) for v, axis in sides]
    is_mixed = kinds + np.roll(kinds, -1, axis=1) == _P_ALONE + _G_ALONE
    outside_p = kinds == _G_ALONE
    ends_here = np.roll(outside_p, 1, axis=1) ^ np.roll(outside_p, -1, axis=1)
    of_corners = labels.ravel()[voxels].astype(np.int64) - 1
    names = np.concatenate([np.stack(of_sides, axis=1), of_corners], axis=1)
    return names, np.concatenate([is_mixed, (kinds == _BOTH) & ends_here], axis=1)


def _name_of_edge(
    first_voxel: NDArray[np.int64], axis: int, number: int, voxels: int
) -> NDArray[np.int64]:
    """Returns the places of edges, after those of the components."""
    return number + axis * voxels + first_voxel


def _label_graph(
    nodes: int, first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.int32], int]:
    """Returns the component of each node of a graph, from 0, and their number."""
    ends = first.astype(np.int32), second.astype(np.int32)  # SciPy 1.11 gives noise for 64 bits
    links = coo_array((np.ones(len(first), bool), ends), shape=(nodes, nodes))
    number, labels = connected_components(links, directed=False)
    return labels, int(number)


def _rank_mod_2(sums: list[list[int]]) -> int:
    """Returns how many sums of nodes are independent, where two equal terms cancel."""
    by_pivot: dict[int, set[int]] = {}
    for terms in sums:
        rest: set[int] = set()
        for term in terms:
            rest ^= {term}
        while rest and (pivot := max(rest)) in by_pivot:
            rest = rest ^ by_pivot[pivot]
        if rest:
            by_pivot[max(rest)] = rest
    return len(by_pivot)
