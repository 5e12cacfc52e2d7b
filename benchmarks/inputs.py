"""Images for timing: like the outputs of a network before, during and after training."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

KINDS = {"a": "untrained: smooth noise", "b": "in mid-training", "c": "nearly converged"}


def probabilities(shape: Sequence[int], kind: str, seed: int = 0) -> np.ndarray:
    """Returns a float32 probability map of one of KINDS."""
    rng = np.random.default_rng(seed)
    if kind == "a":
        return _sigmoid(_noise(rng, shape, 1.5) + 0.15 * _noise(rng, shape, 0.6))
    mask = structures(rng, shape)
    inside = distance_transform_edt(mask) - distance_transform_edt(~mask)
    inside = (inside - 0.5 * np.sign(inside)).astype(np.float32)  # to the faces between voxels
    if kind == "b":
        logits = np.clip(1.2 * inside, -7, 7)
        logits += 1.2 * _noise(rng, shape, 1.5) + 0.3 * _noise(rng, shape, 0.6)
        logits += np.where(_noise(rng, shape, 3.0) > 2.6, 5.0, 0.0)  # a few false islands
    elif kind == "c":
        logits = np.clip(5 * inside, -12, 12)
        logits += _noise(rng, shape, 1.5) + 0.2 * _noise(rng, shape, 0.6)
    else:
        raise ValueError(f"kind must be one of {list(KINDS)}, got {kind!r}")
    return _sigmoid(logits)


def structures(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Returns three ellipsoids and three winding tubes, about a twentieth of the volume."""
    sides, least = np.array(shape), min(shape)
    grid = np.indices(shape).astype(np.float32)
    mask = np.zeros(shape, dtype=bool)
    for _ in range(3):
        centre = rng.uniform(0.2, 0.8, len(sides)) * sides
        radii = rng.uniform(0.07, 0.16, len(sides)) * least
        mask |= sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) < 1
    for _ in range(3):
        off_line = np.ones(shape, dtype=bool)
        for point in _winding_line(rng, sides, int(1.2 * least)):
            off_line[point] = False
        mask |= distance_transform_edt(off_line) < max(1.5, 0.02 * least)
    return mask


def worst_cases(shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns images that have made engines slow, beside white noise of the same shape."""
    rng = np.random.default_rng(0)
    noise = rng.random(shape, dtype=np.float32)
    thin = (1, *shape[1:])
    return {
        "white noise": noise,
        "flat zero background with noise": np.where(noise > 0.98, noise, 0).astype(np.float32),
        "zero background, noisy half": np.where(np.indices(shape)[0] < shape[0] // 2, noise, 0),
        "saturated noise": np.clip(3 * noise - 1, 0, 1),
        "binary noise": (noise > 0.5).astype(np.float32),
        "binary structures": structures(rng, shape).astype(np.float32),
        "checkerboard": (np.indices(shape).sum(axis=0) % 2).astype(np.float32),
        "grid of lines": (np.indices(shape) % 4 == 0).sum(axis=0).astype(np.float32) / len(shape),
        "ramp": (np.indices(shape).sum(axis=0) / sum(shape)).astype(np.float32),
        "constant": np.full(shape, 0.5, np.float32),
        "one slice": rng.random(thin, dtype=np.float32),
    }


def _winding_line(rng: np.random.Generator, sides: np.ndarray, steps: int):
    point = rng.uniform(0.1, 0.9, len(sides)) * sides
    direction = rng.standard_normal(len(sides))
    for _ in range(steps):
        direction += 0.25 * rng.standard_normal(len(sides))
        direction /= np.linalg.norm(direction)
        point = point + direction
        outside = (point < 0) | (point > sides - 1)
        direction[outside] *= -1
        point = np.clip(point, 0, sides - 1)
        yield tuple(np.round(point).astype(int))


def _noise(rng: np.random.Generator, shape: Sequence[int], sigma: float) -> np.ndarray:
    noise = gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma)
    return noise / noise.std()


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-logits))).astype(np.float32)
