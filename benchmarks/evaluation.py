"""The evaluation of a CT with many labels, ours with all metrics against nnU-Net's."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk

from benchmarks.timing import Comparison, compare

SHAPE = (120, 404, 488)  # z, y, x
SPACING_MM = (0.9, 0.9, 2.5)  # x, y, z
ORGANS = (  # centre and radii in voxels
    ((60, 190, 150), (50, 90, 95)),
    ((70, 200, 330), (28, 50, 45)),
    ((55, 170, 260), (35, 40, 60)),
    ((35, 260, 190), (30, 28, 24)),
    ((35, 260, 300), (30, 28, 24)),
    ((95, 150, 170), (24, 60, 60)),
    ((95, 150, 310), (24, 60, 60)),
    ((90, 150, 240), (25, 45, 40)),
)
VERTEBRAE, PAIRS_OF_RIBS, ISLANDS = 10, 12, 60
LABELS = len(ORGANS) + VERTEBRAE + 2 * PAIRS_OF_RIBS
RUNS = 5


def against_nnunet() -> Comparison:
    """Returns the times of one case from its files to its metrics, both sides in turn, compiled."""
    with TemporaryDirectory() as folder:
        files = write_case(Path(folder))
        sides = {"ours": lambda: evaluate(files), "nnU-Net": lambda: evaluate_as_nnunet(files)}
        size = " x ".join(map(str, SHAPE[::-1]))
        return compare(f"{size}, {LABELS} labels", sides, dict.fromkeys(sides, RUNS))


def peak_memory_mb() -> dict[str, float]:
    """Returns the peak memory of each side, in its own process; only on Linux."""
    peaks = {}
    with TemporaryDirectory() as folder:
        write_case(Path(folder))
        for side in ("ours", "nnU-Net"):
            call = [sys.executable, "-m", "benchmarks.evaluation", side, folder]
            for _ in range(2):  # the first one compiles
                told = subprocess.run(call, capture_output=True, text=True, check=True).stdout
            peaks[side] = float(told.split()[-1])
    return peaks


def evaluate(folder: Path) -> None:
    """Evaluates the case as the command does."""
    from nnunet_topo.evaluation.evaluate import evaluate_folder

    (folder / "summary.json").unlink(missing_ok=True)
    done = evaluate_folder(
        folder / "reference",
        folder / "prediction",
        folder / "dataset.json",
        folder / "plans.json",
        output=folder / "summary.json",
    )
    if done.computed != 1:
        raise RuntimeError(f"not evaluated: {done.problems}")


def evaluate_as_nnunet(folder: Path) -> None:
    """Computes nnU-Net's own metrics of the case."""
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    reference, prediction = (
        str(folder / part / "case.nii.gz") for part in ("reference", "prediction")
    )
    compute_metrics(reference, prediction, SimpleITKIO(), list(range(1, LABELS + 1)))


def write_case(folder: Path) -> Path:
    """Writes a reference and a prediction, and the files that nnU-Net needs for them."""
    reference = trunk(np.random.default_rng(0))
    pair = reference, disturbed(reference, np.random.default_rng(1))
    return write_study(folder, LABELS, {"case": pair}, SPACING_MM)


def write_study(
    folder: Path,
    labels: int,
    content: Mapping[str, tuple[np.ndarray, np.ndarray]],
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Writes references and predictions, and the files that nnU-Net needs for them."""
    for number, part in enumerate(("reference", "prediction")):
        (folder / part).mkdir()
        for case, pair in content.items():
            image = sitk.GetImageFromArray(pair[number])
            image.SetSpacing(spacing_mm)
            sitk.WriteImage(image, folder / part / f"{case}.nii.gz", True)
    names = {"background": 0} | {f"label {label}": label for label in range(1, labels + 1)}
    (folder / "dataset.json").write_text(json.dumps({"labels": names, "file_ending": ".nii.gz"}))
    plans = {"dataset_name": "Dataset900_Made", "plans_name": "any", "configurations": {}}
    (folder / "plans.json").write_text(json.dumps(plans | {"image_reader_writer": "SimpleITKIO"}))
    return folder


def trunk(rng: np.random.Generator) -> np.ndarray:
    """Returns organs with rough surfaces, vertebrae with a canal, and curved ribs."""
    labels = np.zeros(SHAPE, np.uint8)
    label = 0
    for centre, radii in ORGANS:
        label += 1
        _add_organ(labels, label, centre, radii, 0.08, rng)
    for level in range(VERTEBRAE):
        label += 1
        z, turn = 6 + 12 * level, np.linspace(0, 2 * np.pi, 60, endpoint=False)
        _add_organ(labels, label, (z, 285, 244), (5, 17, 21), 0.06, rng)
        arch = np.stack([np.full(60, z), 310 + 13 * np.cos(turn), 244 + 13 * np.sin(turn)], axis=1)
        _add_tube(labels, label, arch, 4.0)
    along = np.linspace(0, 1, 400)
    turn = np.pi * (0.05 + 0.85 * along)
    for level in range(PAIRS_OF_RIBS):
        for side in (-1, 1):
            label += 1
            z = np.clip(8 + 9 * level + 12 * along, 0, SHAPE[0] - 1)
            rib = [z, 200 + 130 * np.cos(turn), 244 + side * (20 + 150 * np.sin(turn))]
            _add_tube(labels, label, np.stack(rib, axis=1), 4.5)
    return labels


def disturbed(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the labels with other borders, and islands of random labels at random places."""
    places = np.indices(labels.shape, dtype=np.int16)
    for axis, voxels in enumerate((0.8, 1.5, 1.5)):
        shift = _noise(rng, labels.shape, (6, 20, 20)) + 0.5 * _noise(rng, labels.shape, (3, 6, 6))
        places[axis] += np.rint(voxels * shift).astype(np.int16)
        np.clip(places[axis], 0, labels.shape[axis] - 1, out=places[axis])
    prediction = labels[tuple(places)]
    for _ in range(ISLANDS):
        first = [rng.integers(2, side - 4) for side in labels.shape]
        island = tuple(slice(place, place + rng.integers(1, 4)) for place in first)
        prediction[island] = rng.integers(1, LABELS + 1)
    return prediction


def _add_organ(
    labels: np.ndarray,
    label: int,
    centre: Sequence[float],
    radii: Sequence[float],
    roughness: float,
    rng: np.random.Generator,
) -> None:
    box = tuple(
        slice(max(0, int(c - 1.4 * r)), min(side, int(c + 1.4 * r) + 2))
        for c, r, side in zip(centre, radii, labels.shape, strict=True)
    )
    distance = sum(
        ((grid - c) / r).astype(np.float32) ** 2
        for grid, c, r in zip(np.ogrid[box], centre, radii, strict=True)
    )
    bumps = _noise(rng, distance.shape, (4, 8, 8)) + 0.5 * _noise(rng, distance.shape, (2, 3, 3))
    labels[box][distance + roughness * bumps < 1] = label


def _add_tube(labels: np.ndarray, label: int, points: np.ndarray, radius: float) -> None:
    for point in points:
        box = tuple(
            slice(max(0, int(np.floor(p - radius))), min(side, int(np.ceil(p + radius)) + 1))
            for p, side in zip(point, labels.shape, strict=True)
        )
        distance = sum(
            ((grid - p) / r) ** 2
            for grid, p, r in zip(np.ogrid[box], point, (radius / 2, radius, radius), strict=True)
        )
        labels[box][distance < 1] = label


def _noise(rng: np.random.Generator, shape: Sequence[int], coarseness: Sequence[int]) -> np.ndarray:
    """Returns values drawn on a coarse grid, with smooth steps between them."""
    coarse = [-(-side // step) + 2 for side, step in zip(shape, coarseness, strict=True)]
    noise = rng.standard_normal(coarse).astype(np.float32)
    for axis, (side, step) in enumerate(zip(shape, coarseness, strict=True)):
        place = np.arange(side, dtype=np.float32) / step
        first = place.astype(int)
        share = place - first
        share = (share**2 * (3 - 2 * share)).reshape([-1 if a == axis else 1 for a in range(3)])
        noise = np.take(noise, first, axis) * (1 - share) + np.take(noise, first + 1, axis) * share
    return noise


if __name__ == "__main__":
    {"ours": evaluate, "nnU-Net": evaluate_as_nnunet}[sys.argv[1]](Path(sys.argv[2]))
    status = Path("/proc/self/status").read_text().splitlines()  # getrusage adds the parent's
    print(next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")))
