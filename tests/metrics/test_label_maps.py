import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nnunetv2.evaluation.evaluate_predictions import compute_metrics

from nnunet_topo.metrics import compare_label_maps, compute, narrow_label_map

COUNTS = ("Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref")
label_maps = st.tuples(
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=8), st.integers(0, 10**9)
).map(lambda drawn: np.random.default_rng(drawn[1]).integers(0, 5, (2, *drawn[0])))


def nnunets_metrics(prediction, reference, labels, ignore_label):
    """Returns what nnU-Net's own function does."""
    of_file = {"reference": reference[None], "prediction": prediction[None]}
    reader = SimpleNamespace(read_seg=lambda file: (of_file[file], {}))
    return compute_metrics("reference", "prediction", reader, labels, ignore_label)["metrics"]


@given(label_maps, st.sampled_from([None, 4]), st.sampled_from(["u1", "f4", ">f8", "i8", "f2"]))
def test_counts_dice_and_iou_are_those_of_nnunet_to_the_last_bit(pair, ignore_label, kind):
    prediction, reference = pair.astype(kind)
    labels = [1, 3, 9, (1, 2), (2, 3, 9)]
    found = compare_label_maps(prediction, reference, labels, ignore_label=ignore_label)
    expected = nnunets_metrics(prediction, reference, labels, ignore_label)
    assert list(found) == labels
    for label in labels:
        for key in COUNTS:
            np.testing.assert_equal(found[label][key], expected[label][key])


@pytest.mark.parametrize("connectivity", ["full", "face"])
@given(label_maps, st.sampled_from([None, 4]))
def test_the_metrics_of_a_label_are_those_of_its_masks(connectivity, pair, ignore_label):
    options = {
        "spacing_mm": (0.7, 2.0, 1.1)[: pair[0].ndim],
        "connectivity": connectivity,
        "nsd_tolerance_mm": 0.8,
    }
    found = compare_label_maps(*pair, [2, (1, 3)], ignore_label=ignore_label, **options)
    counted = None if ignore_label is None else pair[1] != ignore_label
    for label, values in found.items():
        masks = [np.isin(array, label) for array in pair]
        expected = compute(*masks, mask=counted, **options)
        ours = {key: value for key, value in values.items() if key in expected}
        assert ours == pytest.approx(expected, nan_ok=True, abs=1e-12)


@pytest.mark.parametrize("kind", ["u1", "u2", "i4", "f4", "f8", ">i2", "f2"])
def test_label_maps_of_any_type_give_the_same(kind):
    rng = np.random.default_rng(0)
    pair = rng.integers(0, 3, (2, 5, 6, 7))
    expected = compare_label_maps(*pair, [1, 2])
    for arrays in (pair.astype(kind), [np.asfortranarray(array) for array in pair.astype(kind)]):
        before = [array.copy() for array in arrays]
        found = compare_label_maps(*arrays, [1, 2], ignore_label=None)
        assert all(found[label] == pytest.approx(expected[label]) for label in (1, 2))
        compare_label_maps(*arrays, [1], ignore_label=2)
        np.testing.assert_array_equal(arrays, before)  # what is given is left as it is


@pytest.mark.parametrize(
    "values", [(1, 2035, 70000), (-3, 0, 5), (300, 256, 44), (65535, 65536, 1)]
)
@pytest.mark.parametrize("kind", ["i8", "f8"])
def test_labels_may_be_large_negative_or_zero(values, kind):
    rng = np.random.default_rng(1)
    pair = np.array(values)[rng.integers(0, 3, (2, 4, 5, 6))].astype(kind)
    found = compare_label_maps(*pair, list(values))
    expected = compare_label_maps(*(np.searchsorted(sorted(values), pair) + 1), [1, 2, 3])
    for number, value in enumerate(sorted(values), start=1):
        assert found[value] == pytest.approx(expected[number])


def test_a_value_that_is_not_a_whole_number_is_not_a_label():
    reference = np.ones((4, 5, 6))
    prediction = reference.copy()
    prediction[0, 0, :3] = 1.5, np.nan, np.inf
    prediction[0, 1, 0] = 65537  # 1, if it were cut to 16 bits
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compare_label_maps(prediction, reference, [1])[1]["n_pred"] == 120 - 4
        assert narrow_label_map(prediction) is prediction


def test_more_labels_than_a_byte_holds_are_distinguished():
    label_map = np.arange(300).reshape(15, 20) // 2 * 2
    found = compare_label_maps(label_map, label_map, range(1, 301))
    assert [found[label]["n_pred"] for label in (1, 2, 254, 255, 256, 298)] == [0, 2, 2, 0, 2, 2]


def test_the_label_of_the_background_may_be_asked_for():
    label_map = np.array([[0, 0, 1], [2, 0, 1]], np.uint8)
    found = compare_label_maps(label_map, label_map, [0, 1])
    assert [found[label]["n_ref"] for label in (0, 1)] == [3, 2]


def test_a_label_that_is_nowhere_has_the_values_of_empty_masks():
    pair = np.ones((2, 4, 5, 6), np.uint8)
    assert compare_label_maps(*pair, [7])[7] == pytest.approx(
        compute(*np.zeros((2, 4, 5, 6)))
        | {"TP": 0, "FP": 0, "FN": 0, "TN": 120, "n_pred": 0, "n_ref": 0},
        nan_ok=True,
    )
    assert compare_label_maps(*pair, []) == {}


def test_a_label_map_is_narrowed_only_where_no_value_changes():
    for values, kind in (
        ([0, 1, 255], "u1"),
        ([0, 1, 256], "u2"),
        ([0, 1, 65536], "f4"),
        ([0, 1, -1], "f4"),
        ([0, 1, 1.5], "f4"),
        ([0, 1, np.nan], "f4"),
    ):
        label_map = np.array(values, "f4").reshape(3, 1, 1)
        narrow = narrow_label_map(label_map)
        assert narrow.dtype == kind
        np.testing.assert_array_equal(narrow, label_map)


def test_label_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"same shape, got \(3, 4\) and \(4, 3\)"):
        compare_label_maps(np.zeros((3, 4)), np.zeros((4, 3)), [1])
