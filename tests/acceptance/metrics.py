"""The parts of metrics.sh that compare, measure times and make spoiled data."""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

PLANS = {"dataset_name": "Dataset900_Any", "plans_name": "any", "configurations": {}}


def known(root: str) -> None:
    """Prints the Betti numbers and errors of the known shapes of tests/metrics/test_metrics.py."""
    sys.path.insert(0, root)
    from tests.test_metrics import KNOWN, topology

    from nnunet_topo.metrics import compute

    print("shape: Betti numbers of P, of R, errors, Betti matching error, Euler error, exact")
    for name, (prediction, reference, *expected) in KNOWN.items():
        for connectivity in ("full", "face"):
            found = list(topology(compute(prediction, reference, connectivity=connectivity)))
            assert found == expected, (name, connectivity, found)
        numbers = [tuple(map(int, f)) if isinstance(f, tuple) else int(f) for f in found]
        print(f"{name}: {', '.join(map(str, numbers))}")


def agreement(root: str) -> None:
    """Prints how many random pairs agree with independent implementations."""
    sys.path.insert(0, root)
    import SimpleITK as sitk
    from gudhi import CubicalComplex
    from skimage.metrics import variation_of_information
    from sklearn.metrics import adjusted_rand_score
    from tests.test_betti_matching import draw_pair

    from nnunet_topo.metrics import compute
    from nnunet_topo.topology import betti_numbers
    from nnunet_topo.topology.betti_matching import match_betti_numbers
    from nnunet_topo.topology.masks import label_components
    from tests.cell_complexes import betti_matching

    pairs, matched = 4000, np.zeros(3, int)
    for seed in range(pairs):
        p, g = draw_pair(seed)
        for connectivity in ("full", "face"):
            found = match_betti_numbers(p, g, connectivity=connectivity)
            expected = betti_matching(p, g, connectivity)
            assert (found.prediction, found.reference, found.matched) == expected, seed
            matched[: p.ndim] += np.array(found.matched) > 0
    print(f"Betti matching against linear algebra over F2: {2 * pairs} of {2 * pairs} equal")
    print(f"  (with matches in dimension 0, 1, 2: {', '.join(map(str, matched))})")

    rng = np.random.default_rng(0)
    for connectivity, keyword in (("full", "top_dimensional_cells"), ("face", "vertices")):
        for _ in range(2000):
            mask = rng.random(rng.integers(1, 14, rng.integers(2, 4))) < rng.random()
            if not mask.any():
                continue
            complex_ = CubicalComplex(**{keyword: 1.0 - mask})
            complex_.compute_persistence(homology_coeff_field=2)
            expected = complex_.persistent_betti_numbers(0, 0.5)[: mask.ndim]
            assert list(betti_numbers(mask, connectivity=connectivity)) == list(expected)
        print(f"Betti numbers against gudhi, {connectivity}: 2000 of 2000 equal")

    worst = dict.fromkeys(("Dice", "IoU", "precision", "recall", "VOI", "ARI"), 0.0)
    for _ in range(2000):
        pair = rng.random((2, *rng.integers(1, 14, rng.integers(2, 4)))) < rng.random()
        metrics = compute(*pair)
        labels = [label_components(mask, "full")[0] for mask in pair]
        theirs = {"VOI": sum(variation_of_information(*labels))}
        ours = {"VOI": metrics["topo_voi"], "ARI": metrics["topo_ari"]}
        theirs["ARI"] = adjusted_rand_score(*(of_one.ravel() for of_one in labels))
        if pair[0].any() and pair[1].any():
            measure = sitk.LabelOverlapMeasuresImageFilter()
            measure.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in pair))
            ours |= {"Dice": metrics["Dice"], "IoU": metrics["IoU"]}
            ours |= {"precision": metrics["topo_precision"], "recall": metrics["topo_recall"]}
            theirs |= {"Dice": measure.GetDiceCoefficient(), "IoU": measure.GetJaccardCoefficient()}
            theirs["precision"] = 1 - measure.GetFalseDiscoveryRate()
            theirs["recall"] = 1 - measure.GetFalseNegativeError()
        for name, value in theirs.items():
            worst[name] = max(worst[name], abs(value - ours[name]))
    print(
        "largest difference on 2000 pairs from SimpleITK (overlap), scikit-image (VOI) and "
        "scikit-learn (ARI):"
    )
    print("  " + ", ".join(f"{name} {value:.1e}" for name, value in worst.items()))
    assert max(worst.values()) < 1e-9
    _surfaces(rng, compute)


def _surfaces(rng: np.random.Generator, compute) -> None:
    """Prints how far distances are from SimpleITK's maps and from surface-distance."""
    import SimpleITK as sitk
    from scipy.ndimage import gaussian_filter
    from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances

    worst, off, share = 0.0, [], []
    for _ in range(50):
        spacing = rng.uniform(0.5, 2, 3)
        noise = gaussian_filter(rng.standard_normal((2, 23, 29, 31)), (0, 3, 3, 3))
        noise[1] = noise[0] + 0.3 * noise[1]
        pair = noise > np.quantile(noise[0], 0.8)
        metrics = compute(*pair, spacing_mm=spacing.tolist())
        directed = []
        for mask, other in (pair, pair[::-1]):
            images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in (mask, other)]
            for image in images:
                image.SetSpacing(spacing[::-1].tolist())
            padded = [sitk.ConstantPad(image, [1] * 3, [1] * 3) for image in images]
            surfaces = [sitk.GetArrayFromImage(sitk.BinaryContour(i, False)) for i in padded]
            contour = sitk.GetImageFromArray(surfaces[1])
            contour.SetSpacing(spacing[::-1].tolist())
            distance = sitk.SignedMaurerDistanceMap(
                contour, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
            )
            found = np.maximum(sitk.GetArrayFromImage(distance)[surfaces[0] > 0], 0)
            directed.append(float(np.percentile(found, 95)))
        worst = max(worst, abs(max(directed) - metrics["topo_hd95_mm"]))
        theirs = compute_surface_distances(pair[1], pair[0], spacing)
        hd95 = max(
            np.interp(0.95, np.cumsum(theirs[a]) / np.sum(theirs[a]), theirs[d])
            for d, a in (
                ("distances_gt_to_pred", "surfel_areas_gt"),
                ("distances_pred_to_gt", "surfel_areas_pred"),
            )
        )
        off.append(abs(hd95 - metrics["topo_hd95_mm"]) / max(spacing))
        share.append(abs(compute_surface_dice_at_tolerance(theirs, 1.0) - metrics["topo_nsd"]))
    print(f"HD95 against SimpleITK's distance maps on 50 pairs: largest difference {worst:.1e} mm")
    print(
        f"against surface-distance: HD95 (areas instead of voxels) median {np.median(off):.2f}, "
        f"largest {max(off):.2f} voxels; NSD largest {max(share):.1e}"
    )
    assert worst < 1e-4
    assert max(share) < 1e-6


def plans(file: str, reader: str) -> None:
    """Writes a plans file that only names the reader."""
    Path(file).write_text(json.dumps(PLANS | {"image_reader_writer": reader}))


def evaluate_as_nnunet(dataset: str, predictions: str) -> None:
    """Lets the installed version of nnU-Net write its summary."""
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    labels, summary = f"{dataset}/labelsTr", f"{predictions}/summary.json"
    compute_metrics_on_folder(
        labels, predictions, summary, NaturalImage2DIO(), ".png", [1], None, 1
    )


def merged(dataset: str, predictions: str) -> None:
    """Evaluates a folder, and shows that nothing of the summary in it was lost."""
    from nnunetv2.evaluation.evaluate_predictions import load_summary_json

    from nnunet_topo.evaluation.evaluate import evaluate_folder

    folder = Path(predictions)
    before = json.loads((folder / "summary.json").read_text())
    plans(str(folder.parent / "plans.json"), "NaturalImage2DIO")
    done = evaluate_folder(
        Path(dataset) / "labelsTr",
        folder,
        Path(dataset) / "dataset.json",
        folder.parent / "plans.json",
    )
    after = load_summary_json(str(folder / "summary.json"))
    kept = 0
    for entry, old in zip(after["metric_per_case"], before["metric_per_case"], strict=True):
        for key, value in old["metrics"]["1"].items():
            assert entry["metrics"][1][key] == value
            kept += 1
    for key, value in before["mean"]["1"].items():
        assert after["mean"][1][key] == value == after["foreground_mean"][key]
    ours = sum(key.startswith("topo_") for key in after["mean"][1])
    print(
        f"{len(done.evaluated)} cases, problems {list(done.problems)}; "
        f"{kept} values of nnU-Net kept, {ours} keys new"
    )


def observers(*files: str) -> None:
    """Prints the means at both connectivities as a table."""
    means = [json.loads(Path(file).read_text())["mean"]["1"] for file in files]
    wanted = ["Dice", *(key for key in means[0] if key.startswith("topo_"))]
    print("| metric, mean of 20 images | `full` | `face` |\n|---|---|---|")
    for key in wanted:
        print(f"| `{key}` | {means[0][key]:.4g} | {means[1][key]:.4g} |")


def speed_cases(folder: str) -> None:
    """Writes two cases with an organ (1) and a vessel tree (2), a small and a large one."""
    import SimpleITK as sitk
    from scipy.ndimage import gaussian_filter, zoom

    def noise(shape, sigma, seed):
        coarse = tuple(int(np.ceil(side / 4)) for side in shape)
        smooth = gaussian_filter(np.random.default_rng(seed).standard_normal(coarse), sigma / 4)
        fine = zoom(smooth.astype(np.float32), 4, order=1)[tuple(map(slice, shape))]
        return fine / fine.std()

    description = {"labels": {"background": 0, "organ": 1, "vessels": 2}, "file_ending": ".nii.gz"}
    for name, shape in (("small", (128, 128, 128)), ("large", (300, 512, 512))):
        first, second = (noise(shape, shape[0] / 18, seed) for seed in (0, 1))
        bumps = noise(shape, shape[0] / 36, 2)
        grid = np.ogrid[tuple(map(slice, shape))]
        radii = [side * share for side, share in zip(shape, (0.27, 0.22, 0.25), strict=True)]
        squares = (((g - s / 2) / r) ** 2 for g, s, r in zip(grid, shape, radii, strict=True))
        distance = sum(squares)
        for part, bend, height in (("gt", 0.0, 0.1), ("pred", 0.03, 0.13)):
            labels = (distance + height * bumps < 1).astype(np.uint8)
            labels[np.hypot(first + bend * bumps, second) < 0.12] = 2
            image = sitk.GetImageFromArray(labels)
            image.SetSpacing((0.7, 0.7, 1.0))
            (Path(folder) / name / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, Path(folder) / name / part / "case.nii.gz")
        (Path(folder) / name / "dataset.json").write_text(json.dumps(description))
        plans(f"{folder}/{name}/plans.json", "SimpleITKIO")


def speed(folder: str) -> None:
    """Prints the time and memory of one case as the command takes it, then the parts."""
    import SimpleITK as sitk

    from nnunet_topo.evaluation.evaluate import evaluate_folder
    from nnunet_topo.metrics import compute, parts
    from nnunet_topo.metrics.skeleton import centerline
    from nnunet_topo.metrics.surface import compare_surfaces, find_surface
    from nnunet_topo.topology.betti_matching import match_with_components
    from nnunet_topo.topology.masks import crop_to_foreground

    compute(*np.ones((2, 5, 6, 7), bool))  # machine code
    files = Path(folder)
    (files / "pred/summary.json").unlink(missing_ok=True)
    began = time.perf_counter()
    done = evaluate_folder(
        files / "gt", files / "pred", files / "dataset.json", files / "plans.json"
    )
    spent = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert done.computed == 1
    began = time.perf_counter()
    pair = [
        sitk.GetArrayFromImage(sitk.ReadImage(files / part / "case.nii.gz"))
        for part in ("pred", "gt")
    ]
    print(
        f"{' x '.join(map(str, pair[0].shape))}, two labels: {spent:.2f} s, peak {peak:.2f} GB; "
        f"of it reading once {time.perf_counter() - began:.2f} s"
    )
    for label, name in ((1, "organ"), (2, "vessels")):
        p, r = (array == label for array in pair)
        p, r = (np.pad(mask, 1) for mask in crop_to_foreground(p, r))
        _, components = parts._overlaps(p, r, "full")
        both = p[1:-1, 1:-1, 1:-1], r[1:-1, 1:-1, 1:-1]
        measures = {
            "Betti": lambda p=p, r=r, n=components: match_with_components(p, r, n, "full"),
            "surfaces": lambda both=both: compare_surfaces(
                *([find_surface(mask, (0, 0, 0))] for mask in both), np.ones(3), 1.0
            ),
            "centre lines": lambda both=both: [centerline(mask, "full") for mask in both],
            "partitions": lambda p=p, r=r: parts._overlaps(p, r, "full"),
        }
        seconds = []
        for part, measured in measures.items():
            began = time.perf_counter()
            measured()
            seconds.append(f"{part} {time.perf_counter() - began:.2f} s")
        metrics = json.loads(done.summary.read_text())["metric_per_case"][0]["metrics"][str(label)]
        betti = [int(metrics[f"topo_betti_ref_{k}"]) for k in range(3)]
        print(f"  {name}, {r.sum()} voxels, Betti numbers {betti}: {', '.join(seconds)}")


def troubles(dataset: str, folder: str) -> None:
    """Makes a folder of real cases, most of them spoiled."""
    import shutil

    import SimpleITK as sitk

    gt, pred = Path(folder) / "gt", Path(folder) / "pred"
    shutil.rmtree(folder, ignore_errors=True)
    for part in (gt, pred):
        part.mkdir(parents=True)
    shutil.copy(f"{dataset}/dataset.json", folder)
    plans(f"{folder}/plans.json", "SimpleITKIO")
    cases = sorted(Path(dataset, "labelsTr").glob("*.nii.gz"))[:9]
    for case in cases:
        for part in (gt, pred):
            shutil.copy(case, part)
    spoiled = [pred / case.name for case in cases]
    spoiled[1].unlink()
    (gt / spoiled[2].name).unlink()
    spoiled[3].write_bytes(spoiled[3].read_bytes()[:300])
    spoiled[4].write_text("not an image")
    images = [sitk.ReadImage(file) for file in spoiled[5:]]
    sitk.WriteImage(images[0][:-1], spoiled[5])
    images[1].SetSpacing((1.0, 1.0, 2.0))
    sitk.WriteImage(images[1], spoiled[6])
    sitk.WriteImage(sitk.Cast(images[2], sitk.sitkFloat32) * 2.5, spoiled[7])
    sitk.WriteImage(sitk.Cast(images[3], sitk.sitkFloat64), spoiled[8])  # labels, merely as float


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
