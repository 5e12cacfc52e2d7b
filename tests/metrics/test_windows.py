import numpy as np
import pytest

from nnunet_topo.metrics import Windows, compare_label_maps, compute
from nnunet_topo.topology import betti_numbers

KEYS = ("topo_betti_error_windows_0", "topo_betti_error_windows_1", "topo_betti_error_windows")


def noise(shape, seed, share=0.5):
    return np.random.default_rng(seed).random(shape) < share


def in_windows(prediction, reference, side, number, connectivity="full"):
    """Returns the mean errors of each dimension, counted window by window."""
    errors = []
    for first, last in Windows(side, number).corners(prediction.shape):
        inside = tuple(map(slice, first, last))
        betti = [
            betti_numbers(np.pad(mask[inside], 1), connectivity=connectivity)
            for mask in (prediction, reference)
        ]
        errors.append(np.abs(np.subtract(*betti)))
    return np.mean(errors, axis=0)


@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize("shape", [(37, 29), (13, 17, 11)])
def test_the_error_is_the_mean_over_the_windows_of_the_image(shape, connectivity):
    prediction, reference = noise(shape, 1), noise(shape, 2)
    found = compute(prediction, reference, connectivity=connectivity, windows=Windows(7, 40))
    expected = in_windows(prediction, reference, 7, 40, connectivity)
    assert [found[f"topo_betti_error_windows_{k}"] for k in range(len(shape))] == pytest.approx(
        expected.tolist()
    )
    assert found["topo_betti_error_windows"] == pytest.approx(expected.sum())


def test_far_boxes_of_foreground_add_up_within_a_window():
    prediction, reference = np.zeros((2, 400, 420), bool)
    for corner in (20, 350):
        prediction[corner : corner + 30, corner : corner + 30] = noise((30, 30), corner)
        reference[corner : corner + 30, corner : corner + 30] = noise((30, 30), corner + 1)
    found = compute(prediction, reference, windows=Windows(380, 30))
    expected = in_windows(prediction, reference, 380, 30)
    assert [found[key] for key in KEYS] == pytest.approx([*expected, expected.sum()])
    assert found["topo_betti_error_windows"] > 0


def test_a_window_as_large_as_the_image_has_the_errors_of_the_image():
    prediction, reference = noise((17, 23), 3), noise((17, 23), 4)
    found = compute(prediction, reference, windows=Windows(65))
    for key in KEYS:
        assert found[key] == found[key.replace("_windows", "")]


def test_errors_that_cancel_in_the_image_are_seen_in_windows():
    prediction, reference = np.zeros((2, 60, 60), bool)
    prediction[5:8, 5:8] = reference[50:53, 50:53] = True
    found = compute(prediction, reference, windows=Windows(20, 200))
    assert found["topo_betti_error"] == 0
    assert found["topo_betti_error_windows"] > 0


def test_windows_lie_in_the_image_and_reach_each_voxel_and_are_the_same_each_time():
    corners = Windows(5, 2000).corners((11, 8, 3))
    assert (corners[:, 0] >= 0).all()
    assert (corners[:, 1] <= (11, 8, 3)).all()
    assert (corners[:, 1] - corners[:, 0] == (5, 5, 3)).all()
    assert set(corners[:, 0, 0]) == set(range(7))
    assert np.array_equal(corners, Windows(5, 2000).corners((11, 8, 3)))


def test_windows_depend_on_no_label_and_no_prediction():
    reference, first, second = (noise((40, 50), seed).astype(np.uint8) for seed in (1, 2, 3))
    for mask in (reference, first):
        mask[:13] = mask[:, :17] = 0  # so that the box of label 1 begins elsewhere than the image
    alone = compute(first == 1, reference == 1, windows=Windows(9, 50))
    maps = [mask * 1 + 2 * (second > mask) for mask in (first, reference)]
    found = compare_label_maps(*maps, [1, 2], windows=Windows(9, 50))
    assert [found[1][key] for key in KEYS] == [alone[key] for key in KEYS]


@pytest.mark.parametrize(("side", "number"), [(0, 10), (65, 0), (-3, 10)])
def test_windows_without_a_side_or_a_number_are_refused(side, number):
    with pytest.raises(ValueError, match="windows must have a side of at least 1"):
        Windows(side, number)


def test_without_windows_there_is_no_error_in_windows():
    assert not any("windows" in key for key in compute(noise((9, 9), 1), noise((9, 9), 2)))
