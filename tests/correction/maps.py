"""Masks and probability maps that are corrected in the tests."""

import numpy as np
from scipy import ndimage

CONNECTIVITIES = ("full", "face")


def random_map(seed, shape, *, sigma=1.5):
    """Returns smooth noise as probabilities."""
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.normal(size=shape), sigma)
    return 1 / (1 + np.exp(-2 * (noise / noise.std() + random.normal() * 0.5)))


def all_masks(shape):
    """Returns every mask of a tiny shape, `[mask, voxel]`."""
    voxels = int(np.prod(shape))
    return (np.arange(2**voxels)[:, None] >> np.arange(voxels) & 1).astype(bool)


def disk(shape, centre, radius):
    """Returns a disk or a ball."""
    place = np.indices(shape) - np.reshape(centre, (-1,) + (1,) * len(shape))
    return (place**2).sum(0) <= radius**2


def image(mask, inside=0.95, outside=0.05):
    """Returns probabilities of a mask."""
    return np.where(mask, inside, outside)


def torus(shape=(9, 24, 26), radius=7.0, width=2.2):
    """Returns a ring of a volume, thick and round."""
    z, y, x = np.indices(shape) - np.reshape([4, 12, 13], (3, 1, 1, 1))
    return np.hypot(np.hypot(y, x) - radius, z) <= width
