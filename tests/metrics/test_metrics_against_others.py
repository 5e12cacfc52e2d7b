import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from scipy.ndimage import binary_erosion, gaussian_filter
from skimage.metrics import hausdorff_distance, variation_of_information
from sklearn.metrics import adjusted_rand_score
from surface_distance import (
    compute_robust_hausdorff,
    compute_surface_dice_at_tolerance,
    compute_surface_distances,
    lookup_tables,
)

from nnunet_topo.metrics import compute
from nnunet_topo.metrics.surface import surfel_sizes
from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.masks import label_components

from .masks import BOTH, box, pairs
from .test_metrics import METRICS_MD

NEEDS_NUMPY_2 = pytest.mark.skipif(not hasattr(np, "bool"), reason="surface-distance needs NumPy 2")


@BOTH
@given(pairs)
def test_betti_and_euler_errors_are_those_of_the_betti_numbers(connectivity, pair):
    metrics = compute(*pair, connectivity=connectivity)
    p, r = (betti_numbers(mask, connectivity=connectivity) for mask in pair)
    for k, (of_p, of_r) in enumerate(zip(p, r, strict=True)):
        assert metrics[f"topo_betti_pred_{k}"] == of_p
        assert metrics[f"topo_betti_ref_{k}"] == of_r
    signed = sum((-1) ** k * (a - b) for k, (a, b) in enumerate(zip(p, r, strict=True)))
    assert metrics["topo_euler_error"] == abs(signed)
    # The Betti matching error counts each class that is missing, and more if places differ.
    assert metrics["topo_betti_matching_error"] >= metrics["topo_betti_error"]


@BOTH
@given(pairs)
def test_partitions_agree_with_scikit_image_and_scikit_learn(connectivity, pair):
    metrics = compute(*pair, connectivity=connectivity)
    labels = [label_components(mask, connectivity)[0] for mask in pair]
    assert metrics["topo_voi"] == pytest.approx(sum(variation_of_information(*labels)), abs=1e-9)
    expected = adjusted_rand_score(*(of_one.ravel() for of_one in labels))
    assert metrics["topo_ari"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "mask", [np.zeros((3, 4)), np.ones((3, 4)), np.ones((1, 1)), np.eye(1, 2), np.zeros((1, 1))]
)
def test_equal_partitions_have_an_adjusted_rand_index_of_one_as_in_scikit_learn(mask):
    labels = label_components(mask > 0, "full")[0].ravel()
    assert compute(mask, mask)["topo_ari"] == adjusted_rand_score(labels, labels) == 1


def test_a_partition_against_a_single_part_has_the_index_of_scikit_learn():
    halves, empty = box((4, 6), (0, 4), (0, 3)), np.zeros((4, 6), bool)
    assert compute(halves, empty)["topo_ari"] == adjusted_rand_score(halves.ravel(), empty.ravel())


@given(pairs)
def test_overlap_agrees_with_simpleitk(pair):
    metrics = compute(*pair)
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in pair))
    if pair.any():
        assert metrics["Dice"] == pytest.approx(measure.GetDiceCoefficient())
        assert metrics["IoU"] == pytest.approx(measure.GetJaccardCoefficient())
    if pair[0].any() and pair[1].any():
        assert metrics["topo_precision"] == pytest.approx(1 - measure.GetFalseDiscoveryRate())
        assert metrics["topo_recall"] == pytest.approx(1 - measure.GetFalseNegativeError())


@given(pairs)
def test_hd95_agrees_with_an_exhaustive_search(pair):
    if not pair[0].any() or not pair[1].any():
        return
    spacing = np.array([2.0, 0.7, 1.1][: pair[0].ndim])
    surfaces = []
    for mask in pair:
        padded = np.pad(mask, 1)
        inside = np.ones_like(mask)
        for axis in range(mask.ndim):
            for step in (-1, 1):
                inside &= np.roll(padded, step, axis)[(slice(1, -1),) * mask.ndim]
        surfaces.append(np.argwhere(mask & ~inside) * spacing)
    between = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=-1)
    nearest = [between.min(axis=1), between.min(axis=0)]
    metrics = compute(*pair, spacing_mm=spacing.tolist())
    expected = max(np.percentile(distance, 95) for distance in nearest)
    assert metrics["topo_hd95_mm"] == pytest.approx(expected)
    # What is not cut off at the 95th percentile is scikit-image's Hausdorff distance.
    grids = [np.zeros(mask.shape, bool) for mask in pair]
    for grid, surface in zip(grids, surfaces, strict=True):
        grid[tuple(np.rint(surface / spacing).astype(int).T)] = True
    assert metrics["topo_hd95_mm"] <= max(spacing) * hausdorff_distance(*grids) + 1e-9


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_size_of_each_surface_element_is_that_of_surface_distance(ndim):
    for spacing in ([0.7, 1.0, 2.9][:ndim], [5.0, 0.4, 0.4][:ndim], [1.0] * ndim):
        table = {
            2: lookup_tables.create_table_neighbour_code_to_contour_length,
            3: lookup_tables.create_table_neighbour_code_to_surface_area,
        }[ndim](spacing)
        found = surfel_sizes(np.array(spacing))
        # Both number the voxels around a corner as they like, up to a mirror image.
        np.testing.assert_allclose(np.sort(found), np.sort(table), rtol=1e-12)


@NEEDS_NUMPY_2
@pytest.mark.parametrize("ndim", [2, 3])
def test_nsd_is_that_of_surface_distance_at_any_spacing(ndim):
    rng = np.random.default_rng(ndim)
    for _ in range(40):
        shape, spacing = rng.integers(3, 20, ndim), rng.uniform(0.3, 3, ndim)
        noise = gaussian_filter(rng.standard_normal((2, *shape)), (0, *[rng.choice([0, 1])] * ndim))
        noise[1] = noise[0] + rng.uniform(0, 1.5) * noise[1]
        prediction, reference = noise > np.quantile(noise[0], rng.uniform(0.2, 0.9))
        if not prediction.any() or not reference.any():
            continue
        tolerance = rng.uniform(0, 2)
        theirs = compute_surface_distances(reference, prediction, spacing)
        expected = compute_surface_dice_at_tolerance(theirs, tolerance)
        metrics = compute(
            prediction, reference, spacing_mm=spacing.tolist(), nsd_tolerance_mm=tolerance
        )
        assert metrics["topo_nsd"] == pytest.approx(expected, abs=1e-9)


@NEEDS_NUMPY_2
def test_surfaces_that_are_far_apart_have_their_distances():
    shape = (120, 9, 9)
    prediction, reference = (
        box(shape, (2, 5), (2, 5), (2, 5)),
        box(shape, (100, 103), (2, 5), (2, 5)),
    )
    metrics = compute(prediction, reference, spacing_mm=(0.5, 2, 2), nsd_tolerance_mm=48.9)
    assert metrics["topo_hd95_mm"] == pytest.approx(49)
    theirs = compute_surface_distances(reference, prediction, (0.5, 2, 2))
    expected = compute_surface_dice_at_tolerance(theirs, 48.9)
    assert 0 < expected < 1
    assert metrics["topo_nsd"] == pytest.approx(expected)


@pytest.mark.parametrize("spacing", [0.2, 0.1, 0.8, 0.6, 0.4])
def test_a_distance_equal_to_the_tolerance_is_within(spacing):
    of_file = float(np.float32(spacing))  # what a file holds
    for voxels in range(1, 12):
        reference = box((30, 8, 9), (2, 6), (2, 6), (2, 6))
        moved = np.roll(reference, voxels, 0)
        for size in (spacing, of_file):
            options = {"spacing_mm": (size, 50.0, 50.0)}
            tolerance = voxels * spacing
            assert compute(moved, reference, nsd_tolerance_mm=tolerance, **options)["topo_nsd"] == 1
            below = tolerance - spacing / 100
            assert compute(moved, reference, nsd_tolerance_mm=below, **options)["topo_nsd"] < 1


@NEEDS_NUMPY_2
def test_one_example_of_hd95_in_four_conventions():
    prediction, reference = hd95_example()
    spacing = (3.0, 1.0, 1.0)
    ours = compute(prediction, reference, spacing_mm=spacing)["topo_hd95_mm"]
    theirs = compute_surface_distances(reference, prediction, spacing)
    surfels = compute_robust_hausdorff(theirs, 95)
    distances = []
    for mask, other in ((prediction, reference), (reference, prediction)):
        points, others = (np.argwhere(m & ~binary_erosion(m)) * spacing for m in (mask, other))
        distances.append(np.linalg.norm(points[:, None] - others[None], axis=-1).min(axis=1))
    pooled = np.percentile(np.concatenate(distances), 95)  # as in MedPy
    larger = max(np.percentile(each, 95) for each in distances)  # as in MONAI
    assert ours == larger
    text = METRICS_MD.read_text(encoding="utf-8")
    told = f"ours {ours:.2f} mm, MONAI {larger:.2f} mm, MedPy {pooled:.2f} mm"
    assert f"{told}, surface-distance {surfels:.2f} mm" in text


def hd95_example():
    """Returns a block with a rod that the reference lacks, and the block."""
    shape = (10, 30, 40)
    reference = box(shape, (2, 8), (5, 15), (5, 15))
    return reference | box(shape, (4, 5), (8, 10), (15, 36)), reference
