"""Centre lines of masks, and how far they lie in another mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from nnunet_topo.topology.betti import betti_numbers
from nnunet_topo.topology.masks import label_components
from nnunet_topo.topology.persistence import Connectivity
from nnunet_topo.topology.thinning import thin, thin_by_lee


@dataclass(frozen=True, slots=True)
class LinesInside:
    """How much of a centre line lies in another mask: a count of voxels, and how many of them."""

    voxels: int
    inside: int


def lines_inside(
    mask: Bool[np.ndarray, " *space"],
    other: Bool[np.ndarray, " *space"],
    connectivity: Connectivity,
    *,
    one_slice: bool = False,
) -> LinesInside:
    """Returns how much of the centre line of a mask lies in another one, for a part of both."""
    line = centerline(mask, connectivity, one_slice=one_slice)
    return LinesInside(int(np.count_nonzero(line)), int(np.count_nonzero(line & other)))


def centerline_dice(prediction: Sequence[LinesInside], reference: Sequence[LinesInside]) -> float:
    """Returns clDice of two masks that are not empty, from the parts of their centre lines.

    The harmonic mean of the shares of each mask's centre line that lie in the other mask; 0 if no
    line does.
    Shit, Paetzold et al.: clDice. CVPR 2021, eqs. 1 and 2.
    """
    shares = [
        sum(part.inside for part in lines) / sum(part.voxels for part in lines)
        for lines in (prediction, reference)
    ]
    return 2 * shares[0] * shares[1] / (sum(shares) or 1.0)


def centerline(
    mask: Bool[np.ndarray, " *space"], connectivity: Connectivity, *, one_slice: bool = False
) -> Bool[np.ndarray, " *space"]:
    """Returns the skeleton that published clDice values use, repaired where it loses topology.

    That is Zhang and Suen's in an image and Lee's in a volume, both scikit-image's. They erase
    some components of even width, close small holes or open them: where the skeleton of a component
    (8- or 26-connected, as both see it) has other Betti numbers than the component, or leaves out
    a piece of it, `topology.thin` makes the centre line of that component instead.

    Args:
        mask: 2D or 3D, of any size: the surroundings change nothing.
        connectivity: at which Betti numbers are compared.
        one_slice: the mask is cut from a volume of one slice, which scikit-image thins differently.
    """
    if mask.ndim == 2:
        skeleton = skeletonize(mask, method="zhang").astype(bool)
        faults = None
    else:
        skeleton, faults = thin_by_lee(mask, sides=4 if one_slice else 6)
    if connectivity == "full" and faults is not None and not len(faults):
        return skeleton
    labels, number = label_components(mask, "full")
    doubtful = np.arange(1, number + 1)
    if connectivity == "full" and faults is not None:
        doubtful = np.unique(labels[tuple(faults.T)])
    boxes = ndimage.find_objects(labels)
    left = np.bincount(labels[skeleton], minlength=number + 1)
    for component in doubtful.tolist():
        box = boxes[component - 1]
        own = labels[box] == component
        line = skeleton[box]  # a view: what is written to it changes the skeleton
        if not left[component] or not _alike(own, line & own, connectivity):
            line[own] = thin(own, connectivity=connectivity)[own]
    return skeleton


def _alike(
    component: NDArray[np.bool_], line: NDArray[np.bool_], connectivity: Connectivity
) -> bool:
    """Returns whether a line has the topology of its component, and a voxel of each piece."""
    numbers = betti_numbers(component, connectivity=connectivity)
    if betti_numbers(line, connectivity=connectivity) != numbers:
        return False
    if numbers[0] == 1:
        return True
    # "face": a component at corners may have several pieces, and each needs a line.
    pieces, number = label_components(component, connectivity)
    return len(np.unique(pieces[line])) == number
