"""Tubes around the centre lines of masks."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nnunet_topo.topology.masks import as_foreground
from nnunet_topo.topology.persistence import Connectivity
from nnunet_topo.topology.thinning import thin

RADIUS = 2


def tube_around_lines(
    mask: ArrayLike, *, radius: int = RADIUS, connectivity: Connectivity = "full"
) -> NDArray[np.bool_]:
    """Returns the voxels of a mask that are at most a radius away from its centre lines.

    A distance is counted in steps from face to face. Thin structures are their own tube. An empty
    mask gives an empty result.

    Args:
        mask: 2D or 3D; what is non-zero is foreground. The outside is background.
        radius: number of steps, 0 for the centre lines alone; see `thin`.
        connectivity: of the foreground, as for `betti_numbers`.

    Raises:
        ValueError: wrong number of dimensions, NaN, unknown connectivity, negative radius.
    """
    if radius < 0:
        raise ValueError(f"radius must be at least 0, got {radius}")
    foreground = as_foreground(mask, connectivity)
    lines = thin(foreground, connectivity=connectivity)
    if not radius or not lines.any():
        return lines
    return ndimage.binary_dilation(lines, iterations=radius) & foreground
