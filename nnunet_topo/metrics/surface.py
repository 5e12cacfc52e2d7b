"""Distances between the surfaces of two masks."""

from math import nan

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree


def compare_surfaces(
    p: Bool[np.ndarray, " *space"],
    r: Bool[np.ndarray, " *space"],
    spacing_mm: NDArray[np.float64],
    tolerance_mm: float | int,
) -> dict[str, float]:
    """Returns Hausdorff distance and normalised surface distance, in mm.

    The surface of a mask are its voxels with a face on the background or on the border of the
    image; each counts once, and its distance is that of the centres.

    - `topo_hd95_mm`: the 95th percentile of the distances from the surface of one mask to that of
      the other, the larger of the two directions; NaN where either is empty.
    - `topo_nsd`: the part of both surfaces that lies within the tolerance of the other, 0 where one
      is empty, NaN where both are. Nikolov et al.: Clinically Applicable Segmentation of Head and
      Neck Anatomy. JMIR 2021, there with areas instead of voxels.
    """
    surfaces = [_surface(mask) * spacing_mm for mask in (p, r)]
    points = sum(map(len, surfaces))
    if not all(map(len, surfaces)):
        return {"topo_hd95_mm": nan, "topo_nsd": 0.0 if points else nan}
    distances = [_nearest(*surfaces), _nearest(*reversed(surfaces))]
    near = sum(int(np.count_nonzero(distance <= tolerance_mm)) for distance in distances)
    hd95 = max(float(np.percentile(distance, 95)) for distance in distances)
    return {"topo_hd95_mm": hd95, "topo_nsd": near / points}


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def _nearest(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    tree = KDTree(others, balanced_tree=False, compact_nodes=False)  # quicker on grids
    return tree.query(points)[0]
