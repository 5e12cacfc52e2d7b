"""Measurements of two masks part by part, before they are summed up."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from nnunet_topo.metrics.partition import Overlaps, count_overlaps
from nnunet_topo.metrics.skeleton import LinesInside, lines_inside
from nnunet_topo.metrics.surface import Surface, find_surface
from nnunet_topo.metrics.windows import betti_in_windows
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.betti_matching import BettiMatching, match_with_components
from nnunet_topo.topology.masks import Box, label_components


@dataclass(frozen=True, slots=True)
class Options:
    """How two masks are compared.

    Attributes:
        spacing_mm: size of a voxel along each axis.
        connectivity: of the foreground.
        nsd_tolerance_mm: distance up to which surfaces count as equal.
        one_slice: the masks are of a volume of one slice of the first axis.
        windows: first and last corner of each window that Betti numbers are counted in, None if
            they are not.
    """

    spacing_mm: Float[np.ndarray, " axis"]
    connectivity: Connectivity
    nsd_tolerance_mm: float
    one_slice: bool
    windows: Int64[np.ndarray, "windows 2 axes"] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """The measurements of two masks in a box.

    Attributes:
        voxels: of the prediction, of the reference and of both.
        matching: Betti numbers, and those in common.
        overlaps: of the components.
        components: in each slice of the first axis, of prediction and reference.
        first_slice: number of the first of these slices.
        lines: how much of the centre lines of each lies in the other.
        surfaces: of prediction and reference.
        betti_in_windows: of prediction and reference, None if there are no windows.
    """

    voxels: tuple[int, int, int]
    matching: BettiMatching
    overlaps: Overlaps
    components: Int[np.ndarray, "masks slices"]
    first_slice: int
    lines: tuple[LinesInside, LinesInside]
    surfaces: tuple[Surface, Surface]
    betti_in_windows: Int64[np.ndarray, "masks windows dimensions"] | None


def measure_part(
    p: Bool[np.ndarray, " *space"], r: Bool[np.ndarray, " *space"], box: Box, options: Options
) -> Part:
    """Returns the measurements of two masks.

    Args:
        p: prediction, in a box, with a margin of one voxel of background.
        r: reference, in the same form.
        box: where in the image, without the margin.
        options: how they are compared.
    """
    offset = [side.start for side in box]
    connectivity, one_slice = options.connectivity, options.one_slice
    overlaps, numbers = _overlaps(p, r, connectivity)
    matching = match_with_components(p, r, numbers, connectivity)
    inside = (slice(1, -1),) * p.ndim
    p, r = p[inside], r[inside]
    return Part(
        (int(np.count_nonzero(p)), int(np.count_nonzero(r)), int(np.count_nonzero(p & r))),
        matching,
        overlaps,
        np.array([_components_of_slices(mask, connectivity) for mask in (p, r)]),
        offset[0] if p.ndim == 3 else 0,  # an image is one slice
        (
            lines_inside(p, r, connectivity, one_slice=one_slice),
            lines_inside(r, p, connectivity, one_slice=one_slice),
        ),
        (find_surface(p, offset), find_surface(r, offset)),
        None
        if options.windows is None
        else betti_in_windows(p, r, box, options.windows, connectivity),
    )


def _overlaps(
    p: Bool[np.ndarray, " *space"], r: Bool[np.ndarray, " *space"], connectivity: Connectivity
) -> tuple[Overlaps, tuple[int, int]]:
    """Returns the overlaps of the components of two masks, and their numbers."""
    (of_p, parts), (of_r, others) = (label_components(mask, connectivity) for mask in (p, r))
    return count_overlaps(of_p, of_r, (parts, others)), (parts, others)


def _components_of_slices(
    mask: Bool[np.ndarray, " *space"], connectivity: Connectivity
) -> list[int]:
    """Returns the number of components in each slice of the first axis; an image is one slice."""
    slices = [mask] if mask.ndim == 2 else mask
    return [label_components(image, connectivity)[1] for image in slices]
