from math import isnan, log2
from pathlib import Path

import numpy as np
import pytest
from skimage.morphology import skeletonize

from nnunet_topo.metrics import Windows, compute
from nnunet_topo.metrics.edge_cases import EDGE_CASES

from ..shapes import ball, corner_neighbours, ring, shell, two_blobs
from .masks import BOTH, TORUS, box, without

METRICS_MD = Path(__file__).parents[2] / "docs/metrics.md"


def edge_cases_of(key):
    """Returns the table's row of a metric, for any dimension in its key."""
    stem, _, dimension = key.rpartition("_")
    (row,) = [row for row in EDGE_CASES if row.key == (f"{stem}_k" if dimension.isdigit() else key)]
    return row


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
def test_voxels_that_touch_at_a_corner_are_one_only_at_full_connectivity(ndim):
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


def test_equal_surfaces_are_within_a_tolerance_of_zero():
    pair = box((6, 8), (1, 3), (2, 5)), box((6, 8), (1, 3), (3, 6))
    assert compute(pair[0], pair[0], nsd_tolerance_mm=0)["topo_nsd"] == 1
    assert 0 < compute(*pair, nsd_tolerance_mm=0)["topo_nsd"] < 1


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


def test_a_volume_of_one_slice_is_thinned_as_scikit_image_thins_it():
    bar = box((1, 9, 15), (0, 1), (2, 7), (3, 12))
    assert skeletonize(bar).sum() == 7
    inner = box((1, 9, 15), (0, 1), (4, 5), (5, 10))
    assert compute(bar, inner)["topo_cldice"] == pytest.approx(2 * 5 / 7 / (1 + 5 / 7))
    assert compute(inner, bar)["topo_cldice"] == pytest.approx(2 * 5 / 7 / (1 + 5 / 7))
    # The ends of the same bar in a volume of three slices are thinned away, too.
    wide = [np.pad(mask, ((1, 1), (0, 0), (0, 0))) for mask in (bar, inner)]
    assert compute(*wide)["topo_cldice"] == 1


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
        metrics = compute(prediction, reference, windows=Windows(3))
        for key, value in metrics.items():
            declared = getattr(edge_cases_of(key), name)
            assert declared is None or declared == pytest.approx(value, nan_ok=True)
            # What is not declared can be measured: by the Betti numbers, or as equal partitions.
            assert declared is not None or not isnan(value)
        assert metrics.keys() == compute(some, some, windows=Windows(3)).keys()


def test_every_row_of_the_table_of_edge_cases_is_a_metric_and_stands_in_the_documents():
    metrics = compute(TORUS, TORUS, windows=Windows(3))
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
