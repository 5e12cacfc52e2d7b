"""Degraded crops around the cavity, split by patient."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import io
from torch import Tensor

SIDE, KEPT = 80, 8  # of a crop; lines of lowest frequency
PATIENTS = (18, 4, 8)  # to train, to validate, to test


@dataclass(frozen=True)
class Slices:
    """Degraded images and masks, `[slice, 1, y, x]`, and the group of each slice.

    Results are kept by group: the patient for the cavity, the slice itself for the ring.
    """

    images: Tensor
    masks: Tensor
    groups: NDArray[np.str_]

    def of(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Slices":
        """Returns some of the slices."""
        index = torch.from_numpy(np.arange(len(self.groups))[chosen])
        return Slices(self.images[index], self.masks[index], self.groups[chosen])


def read_slices(folder: Path) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.bool_]]]:
    """Yields name, image and cavity of each slice of the data set that has a cavity."""
    for file in sorted((folder / "labelsTr").glob("*.png")):
        cavity = io.imread(file) > 0
        if cavity.any():
            image = io.imread(folder / "imagesTr" / f"{file.stem}_0000.png").astype(np.float64)
            yield file.stem, image, cavity


def crop(array: NDArray, cavity: NDArray[np.bool_]) -> NDArray:
    """Returns the square of an array around the middle of the cavity, with zeros outside."""
    places = np.argwhere(cavity)
    corner = (places.min(0) + places.max(0) + 1) // 2  # after the padding, that of the crop
    return np.pad(array, SIDE // 2)[tuple(slice(start, start + SIDE) for start in corner)]


def read_crops(folder: Path) -> tuple[NDArray, NDArray, NDArray]:
    """Returns crops around the cavity, `[slice, y, x]`, their masks and their patients."""
    images, masks, patients = [], [], []
    for name, image, cavity in read_slices(folder):
        images.append(crop(image, cavity))
        masks.append(crop(cavity, cavity))
        patients.append(patient_of(name))
    return np.stack(images), np.stack(masks), np.array(patients)


def patient_of(name: str) -> str:
    """Returns the patient of a slice."""
    return name.partition("-IM")[0]


def degrade(image: NDArray, removed: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Returns an image without some lines of its Fourier transform, in [0, 1]."""
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    middle = np.arange(SIDE // 2 - KEPT // 2, SIDE // 2 + KEPT // 2)
    lines = np.setdiff1d(np.arange(SIDE), middle)
    spectrum[rng.choice(lines, removed, replace=False)] = 0
    degraded = np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)))
    low, high = degraded.min(), degraded.max()
    return ((degraded - low) / (high - low)).astype(np.float32)


def degraded_slices(
    images: NDArray, masks: NDArray, groups: NDArray, seed: int, removed: int
) -> Slices:
    """Returns slices whose images lack so many lines, drawn anew for each seed."""
    noise = np.random.default_rng((seed, removed))
    degraded = np.stack([degrade(image, removed, noise) for image in images])
    return Slices(
        torch.from_numpy(degraded)[:, None], torch.from_numpy(masks)[:, None].float(), groups
    )


def split(
    crops: tuple[NDArray, NDArray, NDArray], seed: int, labelled: int, removed: int
) -> dict[str, Slices]:
    """Returns the slices to train with and without labels, to validate and to test."""
    images, masks, patients = crops
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(patients))
    train, validate, test = np.split(order, np.cumsum(PATIENTS)[:-1])
    to_train = rng.permutation(np.flatnonzero(np.isin(patients, train)))
    slices = degraded_slices(images, masks, patients, seed, removed)
    return {
        "labelled": slices.of(to_train[:labelled]),
        "unlabelled": slices.of(to_train[labelled:]),
        "validate": slices.of(np.isin(patients, validate)),
        "test": slices.of(np.isin(patients, test)),
    }
