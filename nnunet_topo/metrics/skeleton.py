"""Overlap of centerlines."""

from math import nan

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from skimage.morphology import skeletonize


def centerline_dice(p: Bool[np.ndarray, " *space"], r: Bool[np.ndarray, " *space"]) -> float:
    """Returns clDice: harmonic mean of how much of each skeleton lies in the other mask.

    0 where the skeletons lie outside of the other mask or one mask is empty, NaN where both are.
    The skeleton is scikit-image's of Lee, which published values use too and with which a 2D image
    counts as one slice. It is made for tubes, and not perfect: it erases some small components of
    even width. NaN also where it leaves nothing of a mask.
    Shit, Paetzold et al.: clDice. CVPR 2021, eqs. 1 and 2. Lee, Kashyap, Chu: Building Skeleton
    Models via 3-D Medial Surface/Axis Thinning Algorithms. CVGIP 1994.
    """
    if p.any() != r.any():
        return 0.0
    skeletons = [_skeleton(mask) for mask in (p, r)]
    if not all(skeleton.any() for skeleton in skeletons):
        return nan
    precision, sensitivity = np.mean(r[skeletons[0]]), np.mean(p[skeletons[1]])
    return float(2 * precision * sensitivity / ((precision + sensitivity) or 1))


def _skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return skeletonize(mask, method="lee").astype(bool)
