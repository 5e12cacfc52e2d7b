"""Betti matching: which bars of a prediction and of its target are the same feature in space.

With C = max(F, G), a bar of F and a bar of G are matched where their images in the superlevel sets
of C are one bar: the class of F dies in C where that of G does. See `_image_persistence` for masks
and `_grey_matching` for other targets.

Stucki, Paetzold, Shit, Menze, Bauer: Topologically Faithful Image Segmentation via Induced Matching
of Persistence Barcodes. ICML 2023. Stucki, Buergin, Paetzold, Bauer: Efficient Betti Matching
Enables Topology-Aware 3D Segmentation via Persistent Homology. 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from jaxtyping import Int64
from numpy.typing import ArrayLike, NDArray

from nnunet_topo.topology.betti import euler_characteristic
from nnunet_topo.topology.masks import Box, dual, foreground_box, label_components
from nnunet_topo.topology.persistence import (
    Connectivity,
    PersistencePairs,
    check_connectivity,
    check_dimensions,
    check_image,
    compile_once,
    lowest_value,
    ordered_integers,
    persistence_pairs,
)

if TYPE_CHECKING:
    from nnunet_topo.topology._cubical import Grid
    from nnunet_topo.topology._image_persistence import MatchedBars


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """The bars of a prediction and of a target, and which of them are matched.

    Attributes:
        prediction: bars of the prediction.
        target: bars of the target. Each bar of a mask dies at the voxel of the background at which
            the comparison image, max(F, G), loses it. It is born at a voxel of the foreground: the
            brightest of a component, in F, or the darkest around a cavity.
        matched: `[pair, 2]`, positions of the bars of prediction and target.
    """

    prediction: PersistencePairs
    target: PersistencePairs
    matched: Int64[np.ndarray, "pairs 2"]


def match_betti(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    connectivity: Connectivity = "full",
    dimensions: Sequence[int] | None = None,
    clamp: float | None = None,
) -> MatchedPairs:
    """Returns the bars of a prediction and of its target, and which of them are the same feature.

    Bars are those of `persistence_pairs`. The essential classes of both, the components that never
    end, are matched with each other unless the target is an empty mask. If no value exceeds the
    clamp, that of the prediction begins at the largest one in the target. Ties are broken by one
    order: voxels enter by their value in the target, then by that in the prediction, then by their
    place in memory (the first ones first with face connectivity, the last ones first with full). Of
    those at the least value, or at the clamp, the ones outside of the box around all others are
    last. Where several bars of the comparison image end at one voxel, components and enclosed parts
    are matched by place, loops of a volume in the order of their births (Bauer, Lesnick 2015).

    A target that is not a mask takes more work than a mask: all is computed for three images.

    Args:
        prediction: probabilities in [0, 1], 2D or 3D.
        target: of the same shape: a mask, of booleans or of 0 and 1, or values in [0, 1].
        connectivity: of the foreground in both, as for `persistence_pairs`.
        dimensions: the homology dimensions wanted, default all.
        clamp: the prediction is raised to it first, as for `persistence_pairs`.

    Raises:
        ValueError: different shapes, values outside [0, 1], and what `persistence_pairs` refuses.
    """
    values, goal = check_image(prediction), np.asarray(target)
    if values.shape != goal.shape:
        raise ValueError(
            f"prediction and target must have the same shape, got {values.shape} and {goal.shape}"
        )
    check_connectivity(connectivity)
    wanted = check_dimensions(dimensions, values.ndim)
    lowest = lowest_value(values, clamp)
    if values.size == 0:
        return _joined([])
    _refuse_others(values, "prediction")
    peak = int(values.argmax())
    compile_once(values.ndim, connectivity)
    foreground = goal if goal.dtype.kind == "b" else goal == 1
    if not (foreground | (goal == 0)).all():
        goal = check_image(target)
        _refuse_others(goal, "target")
        found = _match_grey(values, goal, lowest, connectivity, wanted)
    elif foreground.any():
        found = _match(values, foreground, values.dtype.type(lowest), connectivity, wanted)
    else:
        none = np.empty(0, np.int64)
        bars = persistence_pairs(values, connectivity=connectivity, dimensions=wanted, clamp=clamp)
        return MatchedPairs(bars, PersistencePairs(none, none, none), np.empty((0, 2), np.int64))
    if values.flat[peak].item() <= lowest:  # only the essential class, which may begin anywhere
        inside = np.flatnonzero(foreground) if foreground.any() else np.arange(values.size)
        found.prediction.birth[:] = inside[values.flat[inside].argmax()]
    return found


def _refuse_others(values: NDArray[Any], name: str) -> None:
    """Raises ValueError for values outside [0, 1]."""
    least, most = values.min(), values.max()
    if least < 0 or most > 1:
        raise ValueError(
            f"{name} must hold probabilities in [0, 1], got values from {least} to {most}"
        )


def _match_grey(
    values: NDArray[Any],
    goal: NDArray[Any],
    lowest: float,
    connectivity: Connectivity,
    wanted: tuple[int, ...],
) -> MatchedPairs:
    from nnunet_topo.topology._grey_matching import match_images  # numba: heavy

    planar = values.ndim == 2
    both = np.stack([np.maximum(values, values.dtype.type(lowest)), goal])
    keys, least = ordered_integers(both, both.min())
    f, g = np.maximum(keys, least)
    shape = (1, *values.shape) if planar else values.shape
    grid, found = match_images(
        f.reshape(shape),
        g.reshape(shape),
        planar=planar,
        dual=connectivity == "full",
        wanted=wanted,
    )
    return _in_image(found, grid, shape)


def _match(
    values: NDArray[Any],
    foreground: NDArray[np.bool_],
    lowest: Any,
    connectivity: Connectivity,
    wanted: tuple[int, ...],
) -> MatchedPairs:
    from nnunet_topo.topology import _cubical, _image_persistence  # numba: heavy
    from nnunet_topo.topology._cubical2d import cubical_pairs_2d
    from nnunet_topo.topology._cubical3d import critical_cells, pair_cells
    from nnunet_topo.topology._image_loops import match_loops

    planar, is_dual, top = values.ndim == 2, connectivity == "full", values.ndim - 1
    keys, least = ordered_integers(values[None] if planar else values, lowest)
    mask = foreground[None] if planar else foreground
    extent = foreground_box(mask)
    box = _box(keys, least, extent)
    grid = _cubical.make_grid(keys, box, floor=least, planar=planar, dual=is_dual)
    parts = _parts(mask[extent], extent, grid, connectivity)
    offsets = {kind: _offsets(grid, kind) for kind in get_args(Connectivity)}
    goal = _image_persistence.target_in_grid(grid, parts, offsets[connectivity], offsets["full"])
    in_grid = {top - k if is_dual else k for k in wanted}
    loops = 0
    cells = None if planar else critical_cells(grid, in_grid, goal.watched)
    if cells is None:
        every = cubical_pairs_2d(grid, in_grid, goal.watched)
    else:
        euler = euler_characteristic(mask[extent], connectivity=connectivity)
        loops = int(parts.max()) - int(parts.min()) - euler
        every = pair_cells(grid, cells, in_grid, goal.moved() if loops else None)
    found: list[MatchedBars] = []
    for pairs in every:
        k = top - pairs.dimension if is_dual else pairs.dimension
        if 0 < k < top and cells is not None:
            found.append(match_loops(grid, cells, pairs, goal, loops))
            continue
        assert pairs.forest is not None
        if k == 0:
            found.append(_image_persistence.match_components(grid, pairs.forest, goal))
        else:
            found.append(
                _image_persistence.match_enclosed(grid, pairs.forest, goal, offsets["full"])
            )
    found.sort(key=lambda bars: bars.dimension)
    return _in_image(found, grid, keys.shape)


def _in_image(bars: "list[MatchedBars]", grid: "Grid", shape: tuple[int, ...]) -> MatchedPairs:
    """Returns the bars of all dimensions, with voxels of the image."""
    from nnunet_topo.topology._cubical import to_image

    return _joined([(own, [to_image(v, grid, shape) for v in own.voxels()]) for own in bars])


def _joined(found: "list[tuple[MatchedBars, list[NDArray[np.int64]]]]") -> MatchedPairs:
    """Joins the bars of several dimensions, each with its voxels in the image."""
    sides: list[PersistencePairs] = []
    none = np.empty(0, np.int64)
    for side in (0, 2):
        lengths = [len(ends[side]) for _, ends in found]
        dimension = np.repeat([bars.dimension for bars, _ in found], lengths).astype(np.int64)
        birth = np.concatenate([none, *(ends[side] for _, ends in found)])
        death = np.concatenate([none, *(ends[side + 1] for _, ends in found)])
        sides.append(PersistencePairs(dimension, birth, death))
    matched, before, before_target = [np.empty((0, 2), np.int64)], 0, 0
    for bars, ends in found:
        target_bar = np.flatnonzero(bars.partner >= 0)
        matched.append(
            np.stack([before + bars.partner[target_bar], before_target + target_bar], axis=1)
        )
        before, before_target = before + len(ends[0]), before_target + len(ends[2])
    return MatchedPairs(sides[0], sides[1], np.concatenate(matched))


def _box(keys: NDArray[np.int32], least: int, extent: Box) -> NDArray[np.int64]:
    """Returns the box that holds the foreground and all that exceeds the least key."""
    from nnunet_topo.topology._cubical import box_above

    box = np.array([end for side in extent for end in (side.start, side.stop)])
    above = box_above(keys, least)
    if above[1]:
        box[::2], box[1::2] = np.minimum(box, above)[::2], np.maximum(box, above)[1::2]
    return box


def _parts(
    mask: NDArray[np.bool_], extent: Box, grid: "Grid", connectivity: Connectivity
) -> NDArray[np.int32]:
    """Returns the `Target.parts` of a mask that lies at an extent of the image."""
    from nnunet_topo.topology._image_persistence import number_parts

    parts = np.zeros(grid.shape, np.int32)
    wide = np.pad(mask, [(int(margin > 0),) * 2 for margin in grid.margin])
    flat = wide[0] if not grid.margin[0] else wide
    begin = [
        side.start - int(b) + int(m) - int(m > 0)
        for side, b, m in zip(extent, grid.box[::2], grid.margin, strict=True)
    ]
    place = tuple(slice(b, b + n) for b, n in zip(begin, wide.shape, strict=True))
    components, _ = label_components(flat, connectivity)
    outside, _ = label_components(~flat, dual(connectivity))
    number_parts(components.reshape(wide.shape), outside.reshape(wide.shape), parts[place])
    return parts.ravel()


def _offsets(grid: "Grid", connectivity: Connectivity) -> NDArray[np.int64]:
    """Returns the offsets in the grid to the neighbours that a voxel is connected to."""
    _, ny, nx = grid.shape
    reach = range(-1, 2)
    return np.array(
        [
            (z * ny + y) * nx + x
            for z in (reach if grid.margin[0] else (0,))
            for y in reach
            for x in reach
            if 0 < abs(z) + abs(y) + abs(x) <= (3 if connectivity == "full" else 1)
        ]
    )
