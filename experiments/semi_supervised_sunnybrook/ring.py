"""The ring of the myocardium: rings from outer contours, and the split of the few patients."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from experiments.semi_supervised_sunnybrook.slices import (
    Slices,
    crop,
    degraded_slices,
    patient_of,
    read_slices,
)
from nnunet_topo.topology import betti_numbers

BETTI = (1, 1)
FOLDS = 4
END = "-ocontour-manual"


@dataclass(frozen=True)
class RingCrops:
    """Crops of all slices around the cavity, with rings where there are any.

    Attributes:
        images: `[slice, y, x]`.
        rings: likewise; empty where no ring is known.
        names: of the slices.
        patients: of the slices.
    """

    images: NDArray[np.float64]
    rings: NDArray[np.bool_]
    names: NDArray[np.str_]
    patients: NDArray[np.str_]


def read_outer_contours(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Returns the outer contours of the Sunnybrook Cardiac Data, `[point, (x, y)]`, by slice.

    The patient is a folder above the file: `SC-HF-I-01` and `SC-HF-I-1` are the same.

    Raises:
        FileNotFoundError: the folder holds no outer contour.
    """
    contours = {}
    for file in sorted(folder.rglob(f"*{END}.txt")):
        patients = [re.fullmatch(r"(SC-[A-Z-]+)-(\d+)", part) for part in file.parts[:-1]]
        patient = next((found for found in reversed(patients) if found), None)
        if patient is not None:
            name = f"{patient[1]}-{int(patient[2]):02d}-{file.stem.removesuffix(END)}"
            contours[name] = np.loadtxt(file, ndmin=2)
    if not contours:
        raise FileNotFoundError(f"{folder} must hold SC-.../.../*{END}.txt, found none")
    return contours


def read_rings(data: Path, contours: Path) -> RingCrops:
    """Returns the crops of a data set, with the rings between its cavities and outer contours.

    A ring whose Betti numbers are not (1, 1) is left out: at the base the cavity is open, and a
    contour of another slice does not enclose it.
    """
    outer = read_outer_contours(contours)
    images, rings, names = [], [], []
    for name, image, cavity in read_slices(data):
        ring = np.zeros_like(cavity)
        if name in outer:
            ring = polygon2mask(cavity.shape, outer[name][:, ::-1]) & ~cavity
        whole = crop(ring, cavity)
        images.append(crop(image, cavity))
        rings.append(whole if betti_numbers(whole) == BETTI else np.zeros_like(whole))
        names.append(name)
    patients = [patient_of(name) for name in names]
    return RingCrops(np.stack(images), np.stack(rings), np.array(names), np.array(patients))


def split_rings(crops: RingCrops, seed: int, labelled: int, removed: int) -> dict[str, Slices]:
    """Returns the slices to train with and without rings, to validate and to test.

    A quarter of the patients with rings tests, another validates. Seeds 0 to 3 test each once. All
    slices of the patients that train, and of those without rings, may serve unlabelled.

    Raises:
        ValueError: fewer than four patients have rings, or fewer slices than are to be labelled.
    """
    ringed = crops.rings.any(axis=(1, 2))
    patients = np.unique(crops.patients[ringed])
    if len(patients) < FOLDS:
        raise ValueError(f"at least {FOLDS} patients must have rings, got {patients.tolist()}")
    part = (np.arange(len(patients)) + seed) % FOLDS
    tested, validated = (np.isin(crops.patients, patients[part == fold]) for fold in (0, 1))
    rng = np.random.default_rng(seed)
    to_train = rng.permutation(np.flatnonzero(ringed & ~tested & ~validated))
    if len(to_train) < labelled:
        raise ValueError(f"{labelled} slices are to be labelled, but {len(to_train)} have rings")
    unlabelled = ~tested & ~validated
    unlabelled[to_train[:labelled]] = False
    slices = degraded_slices(crops.images, crops.rings, crops.names, seed, removed)
    return {
        "labelled": slices.of(to_train[:labelled]),
        "unlabelled": slices.of(unlabelled),
        "validate": slices.of(validated & ringed),
        "test": slices.of(tested & ringed),
    }
