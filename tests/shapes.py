"""Known shapes; all sides differ."""

import numpy as np
import torch


def ball(shape, centre, radius) -> np.ndarray:
    """Returns a filled disc or ball."""
    grid = np.indices(shape)
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


def ring(shape=(13, 17), radius=5.0, thickness=1.0) -> np.ndarray:
    """Returns a ring in the plane of the last two axes; a torus where there is a third."""
    grid = np.indices(shape)
    centre = [side // 2 for side in shape]
    in_plane = np.hypot(grid[-2] - centre[-2], grid[-1] - centre[-1]) - radius
    height = grid[0] - centre[0] if len(shape) == 3 else 0
    return np.hypot(in_plane, height) <= thickness


def distance_to_circle(shape, radius, shift) -> np.ndarray:
    """Returns the distance of each voxel to a circle in the plane of the last two axes.

    Its centre is that of the image, moved by the shift.
    """
    *height, rows, columns = _from_centre(shape, shift)
    in_plane = np.hypot(rows, columns) - radius
    return np.hypot(in_plane, height[0]) if height else np.abs(in_plane)


def distance_to_sphere(shape, radius, shift) -> np.ndarray:
    """Returns the distance of each voxel to a sphere around the centre, moved by the shift."""
    return np.abs(np.sqrt(sum(o**2 for o in _from_centre(shape, shift))) - radius)


def _from_centre(shape, shift):
    return [
        grid - (side / 2 - 0.5 + by)
        for grid, side, by in zip(np.indices(shape), shape, shift, strict=True)
    ]


def shell(shape=(11, 13, 15), radius=4) -> np.ndarray:
    """Returns a ball with one cavity."""
    centre = [side // 2 for side in shape]
    return ball(shape, centre, radius) & ~ball(shape, centre, radius - 2)


def two_blobs(shape=(9, 11, 14)) -> np.ndarray:
    """Returns two separate balls, or discs."""
    middle = [side // 2 for side in shape[:-1]]
    return ball(shape, (*middle, 3), 2) | ball(shape, (*middle, 10), 2)


def corner_neighbours(ndim: int) -> np.ndarray:
    """Returns two voxels that touch at a corner."""
    mask = np.zeros((4, 5, 6)[-ndim:], dtype=bool)
    mask[(1,) * ndim] = mask[(2,) * ndim] = True
    return mask


def batch(*images) -> torch.Tensor:
    """Returns images as one sample of several channels."""
    return torch.stack([torch.as_tensor(np.ascontiguousarray(i)) for i in images])[None]


def noisy(mask, seed, noise=1.0) -> np.ndarray:
    """Returns probabilities of distinct values near a mask."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * (2 * mask - 1) + noise * rng.standard_normal(mask.shape)
    return 1 / (1 + np.exp(-logits))
