"""Skeleton Recall, clDice and SCNP in plain Python, voxel by voxel, from the papers.

Arguments are NumPy arrays, `[batch, channel, *space]`. Ignored voxels are background everywhere.
"""

from itertools import product

import numpy as np

from nnunet_topo.topology import thin


def within(voxel, shape):
    return all(0 <= x < side for x, side in zip(voxel, shape, strict=True))


def window(voxel, shape, steps):
    """Yields the voxels at the given steps that lie in the image."""
    for step in steps:
        other = tuple(x + d for x, d in zip(voxel, step, strict=True))
        if within(other, shape):
            yield other


def cross(ndim):
    """Returns the steps to a voxel itself and to its neighbours face to face."""
    faces = [
        tuple(sign * (axis == k) for k in range(ndim))
        for axis, sign in product(range(ndim), (-1, 1))
    ]
    return [(0,) * ndim, *faces]


def cube(ndim, side=3):
    return list(product(range(-(side // 2), side // 2 + 1), repeat=ndim))


def tube(mask, radius=2):
    """Returns the voxels of a mask that are few steps away from its centre lines."""
    reached = {tuple(voxel) for voxel in np.argwhere(thin(mask))}
    for _ in range(radius):
        reached |= {
            other for voxel in reached for other in window(voxel, mask.shape, cross(mask.ndim))
        }
    result = np.zeros(mask.shape, bool)
    for voxel in reached:
        result[voxel] = mask[voxel]
    return result


def skeleton_recall(probability, tubes, mask=None, *, over_batch=False, smooth=1e-5):
    """Returns 1 - recall, mean over channels and, unless over the batch, samples."""
    batch, channels, *space = probability.shape
    sums = np.zeros((batch, channels, 2))
    for b, c in product(range(batch), range(channels)):
        for voxel in np.ndindex(*space):
            if tubes[(b, c, *voxel)] and (mask is None or mask[(b, 0, *voxel)]):
                sums[b, c] += probability[(b, c, *voxel)], 1
    if over_batch:
        sums = sums.sum(0)
    return 1 - ((sums[..., 0] + smooth) / (sums[..., 1] + smooth)).mean()


def pooled(image, steps, best):
    result = np.empty_like(image)
    for voxel in np.ndindex(*image.shape):
        result[voxel] = best(image[other] for other in window(voxel, image.shape, steps))
    return result


def soft_skeleton(image, iterations):
    """Returns algorithm 1 of clDice for one image."""
    cross_, cube_ = cross(image.ndim), cube(image.ndim)

    def lost(image):
        return np.maximum(image - pooled(pooled(image, cross_, min), cube_, max), 0)

    skeleton = lost(image)
    for _ in range(iterations):
        image = pooled(image, cross_, min)
        skeleton = skeleton + (1 - skeleton) * lost(image)
    return skeleton


def cldice(
    probability, target, mask=None, *, iterations, exact=False, over_batch=False, smooth=1.0
):
    """Returns 1 - soft clDice, mean over channels and, unless over the batch, samples."""
    batch, channels, *_ = probability.shape
    sums = np.zeros((batch, channels, 4))
    for b, c in product(range(batch), range(channels)):
        p, y = probability[b, c].copy(), target[b, c].astype(float)
        if mask is not None:
            p[~mask[b, 0]], y[~mask[b, 0]] = 0, 0
        found = soft_skeleton(p, iterations)
        wanted = thin(y > 0).astype(float) if exact else soft_skeleton(y, iterations)
        sums[b, c] = (found * y).sum(), found.sum(), (wanted * p).sum(), wanted.sum()
    if over_batch:
        sums = sums.sum(0)
    precision = (sums[..., 0] + smooth) / (sums[..., 1] + smooth)
    sensitivity = (sums[..., 2] + smooth) / (sums[..., 3] + smooth)
    return (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean()


def least_confident(logits, target, mask=None, *, side=3):
    """Returns the logits of SCNP."""
    batch, channels, *space = logits.shape
    result = logits.copy()
    for b, c in product(range(batch), range(channels)):
        for voxel in np.ndindex(*space):
            if mask is not None and not mask[(b, 0, *voxel)]:
                continue
            inside = target[(b, c, *voxel)]
            alike = [
                logits[(b, c, *other)]
                for other in window(voxel, space, cube(len(space), side))
                if target[(b, c, *other)] == inside and (mask is None or mask[(b, 0, *other)])
            ]
            result[(b, c, *voxel)] = min(alike) if inside else max(alike)
    return result
