"""Where two masks have components, loops and cavities without a partner in the other, and why.

There are as many as `match_betti_numbers` counts. Classes that become one in the union of both
masks are one class. What several parts of one mask lack to be one, as a part of the other is, are
the shortest bridges between them:

- Parts of the prediction in one component of the union are joined through voxels that only the
reference has: gaps. Parts of the reference are joined through voxels of the prediction alone: false
joints.
- The same holds for the outside, by Alexander duality: where the background of the reference joins
what the background of the prediction does not, the prediction has a wall too many.
- Loops of volumes: see `loop_places`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Int64
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nnunet_topo.topology.bridges import Bridge, find_bridges
from nnunet_topo.topology.loop_places import Loop, find_loops
from nnunet_topo.topology.masks import as_masks, dual, foreground_box, label_components
from nnunet_topo.topology.persistence import Connectivity, check_connectivity

ErrorKind = Literal[
    "false component",
    "missing component",
    "false joint",
    "gap",
    "false loop",
    "missing loop",
    "false hole",
    "missing hole",
    "false wall",
    "missing wall",
    "false cavity",
    "missing cavity",
]
"""False: the prediction has it and the reference does not. Missing, and gap: the reverse."""

Voxel = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A component, loop or cavity of one mask without a partner in the other.

    Attributes:
        kind: what is wrong with the prediction:

            - component: a piece that touches nothing of the other mask, or does not overlap it.
            - false joint: two components of the reference are one.
            - gap: a component of the reference is in two.
            - false loop: an opening is closed, or in a volume a handle is added.
            - missing loop: a ring is open.
            - hole: a region that is enclosed in an image, a tunnel through a solid in a volume.
            - wall: as a loop, one dimension higher: what closes a cavity, or divides it.
            - cavity: a region of a volume that is enclosed.
        dimension: of the homology class: 0, a component; 1, a loop; 2, a cavity.
        in_prediction: the prediction has the class; otherwise the reference has it.
        voxel: where to look: a voxel of `voxels`, or the middle of a hole or tunnel.
        voxels: `[voxel, axis]`: the component, enclosed region, bridge between two parts, break in
            a border, or in a volume a closed cycle around the loop.
        birth: of a loop in a volume, the voxel that closes it; None for the others.
        death: of a loop in a volume, the voxel that would fill it last; None for the others.
        is_cycle: `voxels` are a closed cycle, in order, that is not the boundary of anything in its
            mask.
    """

    kind: ErrorKind
    dimension: int
    in_prediction: bool
    voxel: Voxel
    voxels: Int64[np.ndarray, "voxels axes"] = field(compare=False)
    birth: Voxel | None = None
    death: Voxel | None = None
    is_cycle: bool = False

    @property
    def size(self) -> int:
        """Returns the number of voxels."""
        return len(self.voxels)


def unmatched(
    prediction: ArrayLike, reference: ArrayLike, *, connectivity: Connectivity = "full"
) -> list[Unmatched]:
    """Returns the topological errors of a prediction with their places, largest first.

    Their number is the Betti matching error, and for each dimension and mask the number of classes
    without a partner. Where a structure has several parts, the largest counts as the structure.

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
    if box[0].start == box[0].stop:
        return []
    p, g = (np.pad(mask[box], 1) for mask in pair)
    union = label_components(p | g, connectivity)[0]
    found: list[Unmatched] = []
    for own, other, is_prediction in ((p, g, True), (g, p, False)):
        # Voxels at which a component was mended or parted do not explain a loop, too.
        mended = np.zeros(p.shape, bool)
        for error in _components(own, other, union, connectivity, is_prediction):
            if error.kind in ("false joint", "gap"):
                mended[tuple(error.voxels.T)] = True
            found.append(error)
        # A gap is what joins parts of the prediction; it opens loops of the reference.
        found += _enclosed(other, own, mended, connectivity, not is_prediction)
        if p.ndim == 3:
            loops = find_loops(other, own, union, connectivity, first=mended)
            found += [_loop(loop, not is_prediction) for loop in loops]
    begin = np.array([side.start - 1 for side in box])
    return sorted((_moved(error, begin) for error in found), key=lambda error: -error.size)


def _moved(error: Unmatched, by: NDArray[np.int64]) -> Unmatched:
    voxel, birth, death = (
        None if v is None else tuple(int(c + b) for c, b in zip(v, by, strict=True))
        for v in (error.voxel, error.birth, error.death)
    )
    assert voxel is not None
    return replace(error, voxel=voxel, voxels=error.voxels + by, birth=birth, death=death)


def _components(
    own: NDArray[np.bool_],
    other: NDArray[np.bool_],
    union: NDArray[np.int32],
    connectivity: Connectivity,
    is_prediction: bool,
) -> Iterator[Unmatched]:
    """Yields the components of one mask, own, without a partner in the other.

    Args:
        own: with a margin.
        other: likewise.
        union: number of each voxel's component in the union of both.
        connectivity: of the foreground.
        is_prediction: whether own is the prediction.
    """
    labels, number = label_components(own, connectivity)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    boxes = ndimage.find_objects(labels)
    group = np.zeros(number, np.int64)
    group[labels[own] - 1] = union[own]
    shared = np.zeros(int(union.max()) + 1, bool)
    shared[union[other]] = True
    overlaps = np.zeros(number, bool)
    overlaps[labels[own & other] - 1] = True
    # Only what overlaps the other mask is a part of a structure, unless nothing of it does.
    alone = ~shared[group] | ~overlaps
    order = np.lexsort([-sizes, ~overlaps, group])
    leaders = order[np.unique(group[order], return_index=True)[1]]
    alone[leaders] = ~shared[group[leaders]]
    extra: ErrorKind = "false component" if is_prediction else "missing component"
    for part in np.flatnonzero(alone).tolist():
        voxels = _voxels_of(labels, part + 1, boxes[part])
        yield Unmatched(extra, 0, is_prediction, _middle(voxels), voxels)
    several = np.bincount(group[~alone], minlength=len(shared)) > 1
    if not several.any():
        return
    is_part = np.concatenate([[False], ~alone & several[group]])
    parts = np.where(is_part[labels], labels, 0)
    between = several[union] & (parts == 0)
    kind: ErrorKind = "gap" if is_prediction else "false joint"
    for bridge in find_bridges(parts, between, connectivity):
        yield _bridged(kind, 0, is_prediction, bridge, ~own)


def _enclosed(
    own: NDArray[np.bool_],
    other: NDArray[np.bool_],
    mended: NDArray[np.bool_],
    connectivity: Connectivity,
    is_prediction: bool,
) -> Iterator[Unmatched]:
    """Yields the regions that one mask, own, encloses, without a partner in the other.

    Args:
        own: with a margin.
        other: likewise.
        mended: voxels that explain another error.
        connectivity: of the foreground.
        is_prediction: whether own is the prediction.
    """
    outside = dual(connectivity)
    labels, number = label_components(~own, outside)
    meets = np.zeros(number + 1, bool)
    meets[labels[~own & ~other]] = True
    top = own.ndim - 1
    solid, wall = _ENCLOSED[top, is_prediction]
    alone = np.flatnonzero(~meets[1:]) + 1
    if len(alone):
        boxes = ndimage.find_objects(labels)
        for region in alone.tolist():
            voxels = _voxels_of(labels, region, boxes[region - 1])
            yield Unmatched(solid, top, is_prediction, _middle(voxels), voxels)
    if np.count_nonzero(meets) < 2:
        return
    parts = np.where(other, 0, labels)
    for bridge in find_bridges(parts, own & ~other, outside, mended):
        yield _bridged(wall, top, is_prediction, bridge, own)


_ENCLOSED: dict[tuple[int, bool], tuple[ErrorKind, ErrorKind]] = {
    (1, True): ("false hole", "false loop"),
    (1, False): ("missing hole", "missing loop"),
    (2, True): ("false cavity", "false wall"),
    (2, False): ("missing cavity", "missing wall"),
}


def _bridged(
    kind: ErrorKind, dimension: int, is_prediction: bool, bridge: Bridge, mask: NDArray[np.bool_]
) -> Unmatched:
    """Returns the error at a bridge, of which only the voxels of a mask are wrong."""
    voxels = bridge.voxels[mask[tuple(bridge.voxels.T)]]
    return Unmatched(kind, dimension, is_prediction, _nearest_to_mean(voxels), voxels)


def _loop(loop: Loop, is_prediction: bool) -> Unmatched:
    """Returns the error of a loop in a volume."""
    kind: ErrorKind = _ENCLOSED[1, is_prediction][0 if loop.is_tunnel else 1]
    place = loop.death if loop.is_tunnel else loop.birth
    assert place is not None
    voxels = loop.cycle if len(loop.cycle) else np.array([place], np.int64)
    return Unmatched(
        kind, 1, is_prediction, place, voxels, loop.birth, loop.death, bool(len(loop.cycle))
    )


def _voxels_of(
    labels: NDArray[np.int32], label: int, box: tuple[slice, ...]
) -> Int64[np.ndarray, "voxels axes"]:
    return np.argwhere(labels[box] == label) + [side.start for side in box]


def _middle(voxels: Int64[np.ndarray, "voxels axes"]) -> Voxel:
    """Returns the voxel nearest to the centroid of the largest slice of the first axis."""
    if voxels.shape[1] == 3:
        slices = voxels[:, 0]
        voxels = voxels[slices == np.argmax(np.bincount(slices))]
    return _nearest_to_mean(voxels)


def _nearest_to_mean(voxels: Int64[np.ndarray, "voxels axes"]) -> Voxel:
    nearest = np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))
    return tuple(map(int, voxels[nearest]))
