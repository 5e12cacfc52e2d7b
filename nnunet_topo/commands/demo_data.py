"""The data set of the demo.

Volumes of 32 x 40 x 48 voxels hold a thin ring, a hollow shell and a thin tube. A small part of
each is faint, and there are bright specks and noise around. Networks with little training leave
gaps, pierce the shell and predict islands.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nnunet_topo.files import replacing, write_whole
from nnunet_topo.topology import betti_numbers

DATASET = "Dataset900_TopologyDemo"
SHAPE = (32, 40, 48)
LABELS = {"background": 0, "ring": 1, "shell": 2, "tube": 3}
BETTI = {1: (1, 1, 0), 2: (1, 0, 1), 3: (1, 0, 0)}


def make_case(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Returns an image and its labels, `[z, y, x]`; each label is sure to have its Betti numbers.

    Args:
        seed: of the random numbers; the same seed gives the same case.
    """
    rng = np.random.default_rng(seed)
    while True:
        image, labels = _draw(rng)
        if all(betti_numbers(labels == label) == betti for label, betti in BETTI.items()):
            return image, labels


def _draw(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    grid = np.moveaxis(np.indices(SHAPE), 0, -1).astype(float)
    labels = np.zeros(SHAPE, np.uint8)
    contrast = np.zeros(SHAPE)
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)

    normal = rng.normal(size=3) * (1, 0.4, 0.4)
    across = np.linalg.svd(normal[None] / np.linalg.norm(normal))[2][1:]
    radius = rng.uniform(7.5, 9)
    turns = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ring = rng.uniform((12, 12, 12), (19, 15, 15)) + radius * turns @ across
    _add(labels, contrast, grid, 1, ring, 1.4, _faint(rng, len(ring), 0.07))

    centre = rng.uniform((9, 27, 30), (22, 30, 38))
    outer = rng.uniform(6, 7)
    distance = np.linalg.norm(grid - centre, axis=-1)
    in_wall = (distance <= outer) & (distance > outer - 2.2) & (labels == 0)
    weak = rng.normal(size=3)
    towards = (grid - centre) @ (weak / np.linalg.norm(weak)) / np.maximum(distance, 1e-9)
    labels[in_wall] = 2
    contrast[in_wall] = np.where(towards > 0.93, 0.35, 1.0)[in_wall]

    along = np.linspace(0, 1, 200)[:, None]
    begin, end = rng.uniform((5, 4, 28), (12, 8, 32)), rng.uniform((20, 14, 40), (27, 18, 44))
    bend = 4 * np.sin(np.pi * along) * rng.normal(size=3) * (1, 0.5, 0.5)
    tube = begin + along * (end - begin) + bend
    _add(labels, contrast, grid, 3, tube, 1.5, 2 * _faint(rng, len(tube), 0.12))  # unlike the ring

    image = contrast + rng.normal(0, 0.22, SHAPE)
    for speck in rng.uniform((2, 2, 2), np.array(SHAPE) - 2, (6, 3)):
        image += 0.8 * np.exp(-((grid - speck) ** 2).sum(-1) / 2)
    return gaussian_filter(image, 0.5).astype(np.float32), labels


def _faint(rng: np.random.Generator, points: int, part: float) -> NDArray[np.float64]:
    """Returns the contrast along a curve: low along one part of it."""
    contrast = np.ones(points)
    length = int(part * points)
    start = rng.integers(points // 5, 4 * points // 5 - length)
    contrast[start : start + length] = 0.3
    return contrast


def _add(labels, contrast, grid, label, curve, radius, along) -> None:
    """Draws a tube around a curve, but not over other labels."""
    squares = ((grid[..., None, :] - curve) ** 2).sum(-1)
    nearest = squares.argmin(-1)
    inside = (squares.min(-1) <= radius**2) & (labels == 0)
    labels[inside] = label
    contrast[inside] = along[nearest[inside]]


def make_dataset(raw: Path, training: int, test: int) -> None:
    """Writes a data set in nnU-Net's raw layout, and test cases with their labels.

    Args:
        raw: nnU-Net's folder of raw data.
        training: number of training cases.
        test: number of test cases.
    """
    import SimpleITK as sitk

    folder = raw / DATASET
    for part, number, first in (("Tr", training, 0), ("Ts", test, 1000)):
        for kind in ("images", "labels"):
            (folder / f"{kind}{part}").mkdir(parents=True, exist_ok=True)
        for case in range(number):
            image, labels = make_case(first + case)
            name = f"demo_{first + case:04d}"
            for file, array in (
                (folder / f"images{part}" / f"{name}_0000.nii.gz", image),
                (folder / f"labels{part}" / f"{name}.nii.gz", labels),
            ):
                with replacing(file) as new:
                    sitk.WriteImage(sitk.GetImageFromArray(array), new)
    description = {
        "channel_names": {"0": "synthetic"},
        "labels": LABELS,
        "numTraining": training,
        "file_ending": ".nii.gz",
    }
    write_whole(folder / "dataset.json", json.dumps(description, indent=2))
