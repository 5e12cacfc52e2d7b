from math import isnan, log2, nan
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_erosion, gaussian_filter
from skimage.metrics import hausdorff_distance, variation_of_information
from sklearn.metrics import adjusted_rand_score
from surface_distance import (
    compute_robust_hausdorff,
    compute_surface_dice_at_tolerance,
    compute_surface_distances,
    lookup_tables,
)

from nnunet_topo.metrics import boxes, compute
from nnunet_topo.metrics.edge_cases import EDGE_CASES, edge_cases_of
from nnunet_topo.metrics.surface import surfel_sizes
from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.masks import label_components

from ..shapes import ball, corner_neighbours, ring, shell, two_blobs

BOTH = pytest.mark.parametrize("connectivity", ["full", "face"])
METRICS_MD = Path(__file__).parents[2] / "docs/metrics.md"
TORUS = ring((9, 15, 17), 5.0, 1.6)


def box(shape, *sides):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def without(mask, *sides):
    return mask & ~box(mask.shape, *sides)


def topology(metrics):
    """Returns Betti numbers of both, errors by dimension, matching, Euler, exact."""
    dims = range(3 if "topo_betti_pred_2" in metrics else 2)
    of = [
        tuple(metrics[f"topo_betti_{name}_{k}"] for k in dims) for name in ("pred", "ref", "error")
    ]
    names = ("topo_betti_matching_error", "topo_euler_error", "topo_betti_exact")
    return (*of, *(metrics[name] for name in names))


# prediction, reference, then what `topology` returns
KNOWN = {
    "ring, broken": (
        *(without(ring(), (5, 8), (9, 17)), ring()),
        *((1, 0), (1, 1), (0, 1), 1, 1, 0),
    ),
    "ring at the border, and an island": (
        *(ring((11, 14), 5.0) | box((11, 14), (0, 1), (0, 1)), ring((11, 14), 5.0)),
        *((2, 1), (1, 1), (1, 0), 1, 1, 0),
    ),
    "two discs, joined": (
        *(two_blobs((9, 14)) | box((9, 14), (4, 5), (3, 11)), two_blobs((9, 14))),
        *((1, 0), (2, 0), (1, 0), 1, 1, 0),
    ),
    "torus, cut": (
        *(without(TORUS, (0, 9), (6, 9), (8, 17)), TORUS),
        *((1, 0, 0), (1, 1, 0), (0, 1, 0), 1, 1, 0),
    ),
    "shell, pierced": (
        *(without(shell(), (5, 6), (6, 7), (7, 15)), shell()),
        *((1, 0, 0), (1, 0, 1), (0, 0, 1), 1, 1, 0),
    ),
    "shell, filled": (
        *(ball((11, 13, 15), (5, 6, 7), 4), shell()),
        *((1, 0, 0), (1, 0, 1), (0, 0, 1), 1, 1, 0),
    ),
    "two balls, one of them missing": (
        *(without(two_blobs(), (0, 9), (0, 11), (7, 14)), two_blobs()),
        *((1, 0, 0), (2, 0, 0), (1, 0, 0), 1, 1, 0),
    ),
    "torus against shell": (
        *(TORUS, np.pad(shell(), ((0, 0), (1, 1), (1, 1)))[1:-1]),
        *((1, 1, 0), (1, 0, 1), (0, 1, 1), 2, 2, 0),
    ),
    "full against empty": (
        *(np.ones((4, 5, 6), bool), np.zeros((4, 5, 6), bool)),
        *((1, 0, 0), (0, 0, 0), (1, 0, 0), 1, 1, 0),
    ),
    "empty": (
        *(np.zeros((4, 5), bool), np.zeros((4, 5), bool)),
        *((0, 0), (0, 0), (0, 0), 0, 0, 1),
    ),
}


@BOTH
@pytest.mark.parametrize("name", KNOWN)
def test_known_errors_have_their_numbers(name, connectivity):
    prediction, reference, *expected = KNOWN[name]
    metrics = compute(prediction, reference, connectivity=connectivity)
    assert list(topology(metrics)) == expected
    assert metrics["topo_betti_error"] == sum(expected[2])
    assert metrics["topo_cce_3d"] == expected[2][0]


@pytest.mark.parametrize("ndim", [2, 3])
def test_voxels_that_touch_at_a_corner_are_one_at_full_connectivity_alone(ndim):
    pair = corner_neighbours(ndim)
    alone = pair & box(pair.shape, *((0, 2),) * ndim)
    full, face = (compute(pair, alone, connectivity=c) for c in ("full", "face"))
    assert (full["topo_betti_pred_0"], face["topo_betti_pred_0"]) == (1, 2)
    assert (full["topo_betti_error"], face["topo_betti_error"]) == (0, 1)
    assert (full["topo_betti_matching_error"], face["topo_betti_matching_error"]) == (0, 1)
    # The partition of `pair` has two parts, or three; 4 x 5 pixels or 4 x 5 x 6 voxels.
    assert full["topo_voi"] != face["topo_voi"]


def test_overlap_distances_and_partitions_of_two_rectangles_by_hand():
    prediction, reference = box((6, 8), (1, 3), (2, 5)), box((6, 8), (1, 3), (3, 6))
    metrics = compute(prediction, reference, spacing_mm=(2, 0.5), nsd_tolerance_mm=0.25)
    # TP 4, FP 2, FN 2, TN 40
    assert metrics["Dice"] == pytest.approx(2 / 3)
    assert metrics["IoU"] == 0.5
    assert metrics["topo_precision"] == metrics["topo_recall"] == pytest.approx(2 / 3)
    assert metrics["topo_accuracy"] == 44 / 48
    assert metrics["topo_ver"] == metrics["topo_aver"] == 0
    # All 12 pixels are surface; in each direction four lie at 0 and two at 0.5 mm.
    assert metrics["topo_hd95_mm"] == 0.5
    # The contour of each: four pieces of 0.5 mm, two of 2 mm, and one across each of the four
    # corners. Both contours pass the places of four of the first, and of two slanted ones.
    slanted = 0.5 * np.hypot(2, 0.5)
    contour = 4 * 0.5 + 2 * 2 + 4 * slanted
    assert metrics["topo_nsd"] == pytest.approx((4 * 0.5 + 2 * slanted) / contour)
    sizes, joint = [6, 42], [4, 2, 2, 40]
    entropy = [-sum(n / 48 * log2(n / 48) for n in numbers) for numbers in (joint, sizes)]
    assert metrics["topo_voi"] == pytest.approx(2 * entropy[0] - 2 * entropy[1])
    pairs = [sum(n * (n - 1) / 2 for n in numbers) for numbers in (joint, sizes, [48])]
    chance = pairs[1] ** 2 / pairs[2]
    assert metrics["topo_ari"] == pytest.approx((pairs[0] - chance) / (pairs[1] - chance))


def test_volume_error_has_a_sign():
    small, large = box((3, 4, 5), (0, 1), (0, 1), (0, 3)), box((3, 4, 5), (0, 1), (0, 1), (0, 4))
    assert compute(small, large)["topo_ver"] == -0.25
    assert compute(small, large)["topo_aver"] == 0.25
    assert compute(large, small)["topo_ver"] == pytest.approx(1 / 3)


def test_distances_follow_the_spacing_of_each_axis():
    reference = box((7, 9, 11), (1, 3), (2, 4), (3, 5))
    for axis, spacing in enumerate((3.0, 0.5, 0.8)):
        moved = np.roll(reference, 3, axis)  # no corner in common
        metrics = compute(moved, reference, spacing_mm=(3.0, 0.5, 0.8), nsd_tolerance_mm=3)
        assert metrics["topo_hd95_mm"] == pytest.approx(3 * spacing)
        assert (metrics["topo_nsd"] == 1) == (axis > 0)
        assert compute(moved, reference)["topo_hd95_mm"] == 3


def test_hd95_leaves_out_the_farthest_twentieth_and_takes_the_worse_direction():
    line = box((3, 4, 103), (1, 2), (1, 2), (0, 80))
    longer = box((3, 4, 103), (1, 2), (1, 2), (0, 103))
    # From the longer one: 80 voxels at 0, then 1 to 23; the 95th percentile of 103 lies at 96.9.
    assert compute(longer, line)["topo_hd95_mm"] == pytest.approx(17.9)
    assert compute(line, longer)["topo_hd95_mm"] == pytest.approx(17.9)


def test_cldice_of_lines_by_hand():
    reference = box((5, 6, 20), (2, 3), (3, 4), (2, 12))  # ten voxels, its own skeleton
    prediction = box((5, 6, 20), (2, 3), (3, 4), (6, 14))  # eight, six of them in the reference
    precision, sensitivity = 6 / 8, 6 / 10
    expected = 2 * precision * sensitivity / (precision + sensitivity)
    assert compute(prediction, reference)["topo_cldice"] == pytest.approx(expected)
    flat = compute(prediction[2], reference[2])
    assert flat["topo_cldice"] == pytest.approx(expected)


def test_a_thick_tube_with_a_thin_one_inside_has_cldice_one():
    thick, thin = box((9, 9, 30), (2, 7), (2, 7), (0, 30)), box((9, 9, 30), (4, 5), (4, 5), (0, 30))
    metrics = compute(thick, thin)
    assert metrics["topo_cldice"] > 0.95
    assert metrics["Dice"] < 0.1


def test_component_error_of_slices_by_hand():
    # Slices of the first axis: reference one component in 1 to 3; prediction two, one, none, one.
    reference = box((6, 5, 9), (1, 4), (2, 3), (1, 2))
    prediction = box((6, 5, 9), (1, 3), (2, 3), (1, 2)) | box((6, 5, 9), (1, 2), (2, 3), (6, 7))
    prediction |= box((6, 5, 9), (5, 6), (2, 3), (6, 7))
    metrics = compute(prediction, reference)
    assert metrics["topo_cce_2d"] == pytest.approx((1 + 0 + 1 + 1) / 4)
    assert metrics["topo_cce_3d"] == 2
    image = compute(prediction[1], reference[1])
    assert image["topo_cce_2d"] == image["topo_cce_3d"] == 1


def test_what_is_undefined_is_nan_and_nothing_else():
    empty, some = np.zeros((4, 5, 6), bool), box((4, 5, 6), (1, 2), (1, 3), (1, 4))

    def undefined(prediction, reference):
        metrics = compute(prediction, reference)
        return {name.removeprefix("topo_") for name, value in metrics.items() if isnan(value)}

    assert undefined(some, some) == set()
    assert undefined(empty, some) == {"precision", "hd95_mm"}
    assert undefined(some, empty) == {"recall", "ver", "aver", "hd95_mm"}
    assert undefined(empty, empty) == {
        *("Dice", "IoU", "precision", "recall", "ver", "aver"),
        *("hd95_mm", "nsd", "cldice", "cce_2d"),
    }
    assert compute(empty, some)["topo_cldice"] == compute(empty, some)["topo_nsd"] == 0
    full = np.ones((1, 1, 1), bool)
    assert compute(full, full)["topo_accuracy"] == 1


@pytest.mark.parametrize("ndim", [2, 3])
def test_metrics_of_empty_masks_are_those_of_the_table(ndim):
    empty, some = np.zeros((5, 6, 7)[:ndim], bool), box((5, 6, 7)[:ndim], *((1, 3),) * ndim)
    for prediction, reference, name in (
        (empty, some, "prediction_empty"),
        (some, empty, "reference_empty"),
        (empty, empty, "both_empty"),
    ):
        metrics = compute(prediction, reference)
        for key, value in metrics.items():
            declared = getattr(edge_cases_of(key), name)
            assert declared is None or declared == pytest.approx(value, nan_ok=True)
            # What is not declared can be measured: by the Betti numbers, or as equal partitions.
            assert declared is not None or not isnan(value)
        assert metrics.keys() == compute(some, some).keys()


def test_every_row_of_the_table_of_edge_cases_is_a_metric_and_stands_in_the_documents():
    metrics = compute(TORUS, TORUS)
    of_metrics = {edge_cases_of(key).key for key in metrics}
    assert of_metrics == {edge_cases.key for edge_cases in EDGE_CASES}

    def told(value):
        return "measured" if value is None else "NaN" if isnan(value) else f"{value:g}"

    rows = [
        (
            f"`{of_one.key}`",
            *map(told, (of_one.prediction_empty, of_one.reference_empty, of_one.both_empty)),
            of_one.remark,
        )
        for of_one in EDGE_CASES
    ]
    _, _, section = METRICS_MD.read_text(encoding="utf-8").partition("## Empty masks")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line[:3] == "| `"]
    assert [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines] == rows


def test_ignored_voxels_are_background_in_both_and_not_counted():
    prediction, reference = ring(), without(ring(), (5, 8), (9, 17))
    mask = ~box(ring().shape, (5, 8), (9, 17))
    metrics = compute(prediction, reference, mask=mask)
    assert metrics["topo_betti_error"] == 0
    assert metrics["topo_accuracy"] == metrics["Dice"] == 1
    wrong = prediction | box(ring().shape, (0, 1), (0, 1))
    assert compute(wrong, reference, mask=mask)["topo_accuracy"] == 1 - 1 / mask.sum()
    nothing = compute(prediction, reference, mask=np.zeros_like(mask))
    assert isnan(nothing["topo_accuracy"])
    assert nothing["topo_betti_error"] == 0


pairs = st.tuples(hnp.array_shapes(min_dims=2, max_dims=3, max_side=7), st.integers(0, 10**9)).map(
    lambda drawn: (
        np.random.default_rng(drawn[1]).random((2, *drawn[0]))
        < np.random.default_rng(drawn[1]).uniform(0.1, 0.9)
    )
)


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


def test_a_partition_against_one_part_alone_has_the_index_of_scikit_learn():
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


@pytest.mark.parametrize(
    "as_given",
    [
        lambda mask: mask.astype(np.uint8) * 255,
        lambda mask: mask.astype(np.float16),
        lambda mask: mask.astype(">i2") * 256,
        lambda mask: np.asfortranarray(mask.astype(">f8")),
        lambda mask: np.repeat(mask, 2, axis=-1)[..., ::2],
        lambda mask: mask[::-1].copy()[::-1],
        lambda mask: mask.tolist(),
    ],
)
def test_arrays_of_any_type_and_order_have_the_same_metrics(as_given):
    for prediction, reference in (KNOWN["torus, cut"][:2], KNOWN["ring, broken"][:2]):
        expected = compute(prediction, reference)
        assert compute(as_given(prediction), as_given(reference)) == pytest.approx(
            expected, nan_ok=True
        )


@BOTH
@given(pairs, st.integers(1, 3))
def test_a_margin_around_the_masks_changes_nothing_but_the_accuracy(connectivity, pair, margin):
    wide = [np.pad(mask, margin) for mask in pair]
    metrics, expected = (compute(*masks, connectivity=connectivity) for masks in (wide, pair))
    depends = {"topo_accuracy", "topo_voi", "topo_ari"}  # on the number of voxels
    for key in expected.keys() - depends:
        if pair[0].shape[0] > 1 or key != "topo_cldice":  # one slice is thinned as an image is
            assert metrics[key] == pytest.approx(expected[key], nan_ok=True), key


@BOTH
@given(pairs, st.integers(0, 10**6))
def test_parts_that_are_far_apart_are_measured_as_one_image(connectivity, pair, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(3 * side + 4 for side in pair[0].shape)
    far = [np.zeros(shape, bool) for _ in pair]
    for _ in range(3):
        place = [rng.integers(0, 2) * (side + 2) for side in pair[0].shape]
        where = tuple(slice(p, p + side) for p, side in zip(place, pair[0].shape, strict=True))
        for mask, part in zip(far, pair[:: rng.choice([-1, 1])], strict=True):
            mask[where] |= part
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "_WORTH_A_SPLIT", 10**9)
        whole = compute(*far, connectivity=connectivity)
        patch.setattr(boxes, "_WORTH_A_SPLIT", 0)
        split = compute(*far, connectivity=connectivity)
    assert split == pytest.approx(whole, nan_ok=True, abs=1e-12)


@given(pairs)
def test_a_mask_and_itself_are_alike(pair):
    mask = pair[0]
    metrics = compute(mask, mask)
    zero = ("betti_error", "betti_matching_error", "euler_error", "cce_3d")
    assert all(metrics[f"topo_{name}"] == 0 for name in zero)
    assert metrics["topo_voi"] == pytest.approx(0, abs=1e-12)
    if mask.any():
        assert metrics["topo_nsd"] == metrics["Dice"] == metrics["topo_accuracy"] == 1
        assert metrics["topo_hd95_mm"] == metrics["topo_aver"] == metrics["topo_cce_2d"] == 0
        assert metrics["topo_cldice"] == 1
    assert metrics["topo_ari"] == pytest.approx(1)


def test_bad_input_is_refused_by_name():
    mask = np.ones((3, 4, 5))
    with pytest.raises(ValueError, match=r"same shape, got \(3, 4, 5\) and \(3, 4\)"):
        compute(mask, mask[..., 0])
    with pytest.raises(ValueError, match="a mask must not hold NaN"):
        compute(mask * nan, mask)
    with pytest.raises(ValueError, match="spacing_mm must be 3 positive numbers"):
        compute(mask, mask, spacing_mm=(1, 1))
    with pytest.raises(ValueError, match="spacing_mm must be 3 positive numbers"):
        compute(mask, mask, spacing_mm=(1, nan, 1))
    with pytest.raises(ValueError, match="nsd_tolerance_mm must be at least 0, got -1"):
        compute(mask, mask, nsd_tolerance_mm=-1)
    with pytest.raises(ValueError, match=r"mask must have the shape \(3, 4, 5\)"):
        compute(mask, mask, mask=mask[0])
