"""What the metrics say of the cases of public bug reports: centre lines, surfaces, speed, edges.

Usage: python tests/acceptance/real_files_metrics.py FUNCTION
"""

import importlib
import os
import re
import subprocess
import sys
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from scipy.ndimage import find_objects, gaussian_filter
from skimage.morphology import skeletonize

from nnunet_topo.metrics import compute
from nnunet_topo.topology import betti_numbers

try:
    from nnunet_topo.topology.masks import label_components
except ModuleNotFoundError:  # an older package
    from nnunet_topo.topology.betti import label_components

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("NNUNET_TOPO_DATA", ROOT.parent / "shared/data"))
MASKS_PER_DIMENSION = 10_000
PAIRS = 600


def item_1_even_width() -> None:
    """A beam of 4 x 4 x 50 voxels is missed; ten false islands of 2 x 2 x 2 voxels."""
    beam = _block((10, 24, 56), (3, 7), (3, 7), (3, 53))
    tube = _block((10, 24, 56), (3, 6), (12, 15), (3, 53))
    islands = np.zeros_like(tube)
    for place in range(10):
        islands[8:10, 20:22, 3 + 5 * place : 5 + 5 * place] = True
    print(f"missed beam: clDice {compute(tube, beam | tube)['topo_cldice']:.3f}")
    print(f"ten false islands: clDice {compute(tube | islands, tube)['topo_cldice']:.3f}")
    even = _block((4, 4, 7), (1, 3), (1, 3), (1, 6))
    print(f"a block of 2 x 2 x 5 and itself: clDice {compute(even, even)['topo_cldice']:.3f}")


def item_1_random_masks() -> None:
    """Betti numbers of the centre lines of random masks against those of the masks."""
    rng = np.random.default_rng(0)
    for ndim in (2, 3):
        for connectivity in ("full", "face"):
            wrong = {"centre line of clDice": 0, "topology.thin": 0, "published skeleton": 0}
            unlike = 0
            for _ in range(MASKS_PER_DIMENSION):
                mask = _random_mask(rng, rng.integers(2, 12 if ndim == 3 else 25, ndim))
                numbers = betti_numbers(mask, connectivity=connectivity)
                published = skeletonize(mask).astype(bool)
                lines = _centre_lines(mask, connectivity) | {"published skeleton": published}
                for name, line in lines.items():
                    wrong[name] += betti_numbers(line, connectivity=connectivity) != numbers
                if not _wrong_components(mask, published, connectivity)[0]:
                    unlike += bool((lines["centre line of clDice"] != published).any())
            told = ", ".join(f"{name} {number}" for name, number in wrong.items())
            print(
                f"{MASKS_PER_DIMENSION} masks in {ndim}D, {connectivity}, other Betti numbers: "
                f"{told}; right published skeletons that were not taken: {unlike}"
            )


def item_1_real_data() -> None:
    """How often the published skeleton has other Betti numbers on real labels; what it changes."""
    print("| labels | masks | wrong | components | wrong | clDice changes by, mean / most |")
    print("|---|---|---|---|---|---|")
    for name, pairs in _real_pairs():
        masks = wrong_masks = components = wrong_components = 0
        changes = []
        for prediction, reference in pairs:
            published = [skeletonize(mask).astype(bool) for mask in (prediction, reference)]
            for mask, skeleton in ((prediction, published[0]), (reference, published[1])):
                wrong, number = _wrong_components(mask, skeleton, "full")
                masks, wrong_masks = masks + 1, wrong_masks + (wrong > 0)
                components, wrong_components = components + number, wrong_components + wrong
            if not published[0].any() or not published[1].any():
                continue
            shares = [np.mean(reference[published[0]]), np.mean(prediction[published[1]])]
            value = 2 * shares[0] * shares[1] / (sum(shares) or 1)
            changes.append(abs(compute(prediction, reference)["topo_cldice"] - value))
        print(
            f"| {name} | {masks} | {100 * wrong_masks / masks:.1f} % | {components} | "
            f"{100 * wrong_components / components:.1f} % | {np.mean(changes):.4f} / "
            f"{max(changes):.4f} |"
        )


def item_2() -> None:
    """One case of 488 x 404 x 120 with 42 labels: seconds and peak memory, in one run."""
    benchmark = _benchmark()
    with TemporaryDirectory() as folder:
        benchmark.write_case(Path(folder))
        told: dict[str, list[str]] = {"_evaluate": [], "_evaluate_as_nnunet": []}
        for turn in range(4):  # the first one compiles
            for side, of_side in told.items():
                call = [sys.executable, __file__, side, folder]
                done = subprocess.run(call, capture_output=True, text=True, check=True)
                if turn:
                    of_side.append(done.stdout.splitlines()[-1])
    medians = {}
    for side, of_side in told.items():
        numbers = np.array([[float(n) for n in line.split()] for line in of_side])
        medians[side] = np.median(numbers, axis=0)
    (seconds, memory), (of_nnunet, memory_of_nnunet) = medians.values()
    print(
        f"evaluate with all metrics {seconds:.1f} s, nnU-Net's own {of_nnunet:.1f} s: "
        f"{seconds / of_nnunet:.2f} times; peak memory {memory:.0f} MB, {memory_of_nnunet:.0f} MB"
    )


def _evaluate(folder: str) -> None:
    _told(_benchmark().evaluate, Path(folder), warm=True)


def _evaluate_as_nnunet(folder: str) -> None:
    _told(_benchmark().evaluate_as_nnunet, Path(folder), warm=True)


def _told(call, folder: Path, *, warm: bool) -> None:
    """Prints the peak of a first call, and the seconds of a second one."""
    call(folder)
    status = Path("/proc/self/status").read_text()
    peak = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024
    began = perf_counter()
    call(folder)
    print(perf_counter() - began, peak)


def _benchmark():
    sys.path.append(str(ROOT))  # after the package that is tried
    return importlib.import_module("benchmarks.evaluation")


def item_3() -> None:
    """A distance that equals the tolerance, at spacings that 32-bit floats cannot hold."""
    missed = []
    for spacing in (0.2, 0.1, 0.8, 0.6, 0.4):
        of_file = float(np.float32(spacing))
        for voxels in range(1, 11):
            reference = _block((30, 8, 9), (2, 6), (2, 6), (2, 6))
            moved = np.roll(reference, voxels, 0)
            for size in (spacing, of_file):
                metrics = compute(
                    moved,
                    reference,
                    spacing_mm=(size, 50.0, 50.0),
                    nsd_tolerance_mm=voxels * spacing,
                )
                if metrics["topo_nsd"] < 1:
                    missed.append(f"{voxels} x {spacing} mm")
    print(f"of 100 distances equal to the tolerance, beyond it: {len(missed)}", end="")
    print(f", as {', '.join(missed[:4])}" if missed else "")


def item_4() -> None:
    """NSD against surface-distance on random anisotropic pairs; HD95 in four conventions."""
    from surface_distance import (
        compute_robust_hausdorff,
        compute_surface_dice_at_tolerance,
        compute_surface_distances,
    )

    rng = np.random.default_rng(0)
    off = []
    while len(off) < PAIRS:
        ndim = rng.integers(2, 4)
        shape, spacing = rng.integers(4, 26, ndim), rng.uniform(0.3, 4, ndim)
        pair = [_random_mask(rng, shape) for _ in range(2)]
        if rng.random() < 0.7:
            pair[0] ^= pair[1] & _random_mask(rng, shape)
        if not pair[0].any() or not pair[1].any():
            continue
        tolerance = rng.uniform(0, 3)
        theirs = compute_surface_distances(pair[1], pair[0], spacing)
        ours = compute(*pair, spacing_mm=spacing.tolist(), nsd_tolerance_mm=tolerance)["topo_nsd"]
        off.append(abs(ours - compute_surface_dice_at_tolerance(theirs, tolerance)))
    print(f"NSD against surface-distance on {PAIRS} pairs: largest difference {max(off):.1e}")
    shape, spacing = (10, 30, 40), (3.0, 1.0, 1.0)
    reference = _block(shape, (2, 8), (5, 15), (5, 15))
    prediction = reference | _block(shape, (4, 5), (8, 10), (15, 36))
    values = {"ours": compute(prediction, reference, spacing_mm=spacing)["topo_hd95_mm"]}
    try:
        import torch
        from monai.metrics import compute_hausdorff_distance

        pair = (torch.tensor(mask)[None, None].float() for mask in (prediction, reference))
        options = {"include_background": True, "percentile": 95, "spacing": spacing}
        values["MONAI"] = float(compute_hausdorff_distance(*pair, **options))
    except ImportError:
        print("(MONAI is not installed)")
    try:
        from medpy.metric.binary import hd95

        values["MedPy"] = float(hd95(prediction, reference, spacing))
    except ImportError:
        print("(MedPy is not installed)")
    theirs = compute_surface_distances(reference, prediction, spacing)
    values["surface-distance"] = compute_robust_hausdorff(theirs, 95)
    print("HD95: " + ", ".join(f"{name} {value:.2f} mm" for name, value in values.items()))


def item_12() -> None:
    """The adjusted Rand index of partitions that are equal and trivial."""
    from sklearn.metrics import adjusted_rand_score

    for name, mask in (
        ("one voxel", np.ones((1, 1))),
        ("two single voxels", np.eye(1, 2)),
        ("all foreground", np.ones((3, 4))),
        ("all background", np.zeros((3, 4))),
    ):
        parts = label_components(mask > 0, "full")[0].ravel()
        theirs = adjusted_rand_score(parts, parts)
        print(f"{name}: {compute(mask, mask)['topo_ari']}, scikit-learn {theirs}")


def item_13_edge_cases() -> None:
    """Each metric where the prediction, the reference, or both are empty."""
    empty, some = np.zeros((5, 6, 7), bool), _block((5, 6, 7), (1, 4), (1, 4), (1, 4))
    cases = [compute(*pair) for pair in ((empty, some), (some, empty), (empty, empty))]
    for key in cases[0]:
        values = ["NaN" if isnan(case[key]) else f"{case[key]:g}" for case in cases]
        if any(isnan(case[key]) for case in cases) or key in ("topo_cldice", "topo_ari"):
            print(f"{key}: P empty {values[0]}, R empty {values[1]}, both {values[2]}")


def _centre_lines(mask: np.ndarray, connectivity: str) -> dict[str, np.ndarray]:
    from nnunet_topo.metrics import skeleton

    if not hasattr(skeleton, "centerline"):  # before
        return {"centre line of clDice": skeleton._skeleton(mask)}
    from nnunet_topo.topology import thin

    return {
        "centre line of clDice": skeleton.centerline(mask, connectivity),
        "topology.thin": thin(mask, connectivity=connectivity),
    }


def _wrong_components(mask: np.ndarray, skeleton: np.ndarray, connectivity: str) -> tuple[int, int]:
    """Returns how many components have a skeleton that is wrong, and how many there are."""
    labels, number = label_components(mask, "full")
    wrong = 0
    for component, box in enumerate(find_objects(labels), start=1):
        own = labels[box] == component
        line = skeleton[box] & own
        numbers = betti_numbers(own, connectivity=connectivity)
        pieces, pieces_in_all = label_components(own, connectivity)
        wrong += (
            betti_numbers(line, connectivity=connectivity) != numbers
            or len(np.unique(pieces[line])) < pieces_in_all
        )
    return wrong, number


def _real_pairs():
    """Yields data sets: pairs of another mask and the reference."""
    import SimpleITK as sitk

    def read(file: Path) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))

    def others(data_set: str, folder: str) -> list[tuple[np.ndarray, np.ndarray]]:
        files = sorted((DATA / data_set / "labelsTr").glob("*.png"))
        pairs = [(DATA / data_set / folder / file.name, file) for file in files]
        return [(read(a) > 0, read(b) > 0) for a, b in pairs if a.is_file()]

    hippocampus = sorted((DATA / "Dataset004_Hippocampus/labelsTr").glob("*.nii.gz"))
    for label, name in ((1, "anterior"), (2, "posterior")):
        masks = [read(file) == label for file in hippocampus]
        moved = [(np.roll(mask, 1, 1), mask) for mask in masks]
        yield f"hippocampus, {name}; against itself moved by a voxel", moved
    yield "ChaseDB1, vessels; second observer", others("Dataset101_ChaseDB1", "labels2ndTr")
    yield "TopoMortar, mortar; noisy labels", others("Dataset103_TopoMortar", "labelsNoisyTr")
    yield "TopoMortar, mortar; pseudo labels", others("Dataset103_TopoMortar", "labelsPseudoTr")
    sunnybrook = others("Dataset102_SunnybrookLV", "labelsTr")
    moved = [(np.roll(mask, 1, 1), mask) for mask, _ in sunnybrook if mask.any()]
    yield "Sunnybrook, left ventricle; against itself moved by a pixel", moved
    benchmark = _benchmark()
    reference = benchmark.trunk(np.random.default_rng(0))
    prediction = benchmark.disturbed(reference, np.random.default_rng(1))
    yield "drawn trunk, 42 labels; drawn prediction with islands", _of_labels(prediction, reference)


def _of_labels(prediction: np.ndarray, reference: np.ndarray):
    for label in range(1, reference.max() + 1):
        box = find_objects(((prediction == label) | (reference == label)).view(np.uint8))[0]
        yield prediction[box] == label, reference[box] == label


def _random_mask(rng: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    """Returns noise, or blobs with rough surfaces, of any density."""
    noise = rng.standard_normal(shape)
    if rng.random() < 0.6:
        noise = gaussian_filter(noise, rng.uniform(0.4, 2))
    return noise > np.quantile(noise, rng.random())


def _block(shape: tuple[int, ...], *sides: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
