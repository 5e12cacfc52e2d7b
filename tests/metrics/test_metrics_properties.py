from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_topo.metrics import boxes, compute, partition

from .masks import BOTH, pairs
from .test_metrics import KNOWN


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


@BOTH
@given(pairs)
def test_many_components_are_counted_as_few_are(connectivity, pair):
    expected = compute(*pair, connectivity=connectivity)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "_MOST_CELLS", 0)
        found = compute(*pair, connectivity=connectivity)
    assert found == pytest.approx(expected, nan_ok=True, abs=1e-12)


@pytest.mark.parametrize("most_cells", [0, 100])
def test_overlaps_by_hand(most_cells, monkeypatch):
    monkeypatch.setattr(partition, "_MOST_CELLS", most_cells)
    found = partition.count_overlaps(
        np.array([[1, 1, 0, 0, 2, 2, 2]]), np.array([[0, 1, 1, 0, 0, 0, 0]]), (2, 1)
    )
    assert sorted(found.shared.tolist()) == [1, 1, 1, 3]
    assert (found.prediction.tolist(), found.reference.tolist()) == ([2, 3], [2])


def test_small_parts_that_are_far_apart_have_boxes_of_their_own():
    mask = np.zeros((3, 300, 400), bool)
    mask[0, 1:3, 2:5] = mask[2, 280:290, 390:395] = True
    expected = [np.s_[0:1, 1:3, 2:5], np.s_[2:3, 280:290, 390:395]]
    assert boxes.split_into_boxes(mask) == expected
    assert boxes.split_into_boxes(mask[..., ::-1]) == [
        (*box[:2], slice(400 - box[2].stop, 400 - box[2].start)) for box in expected
    ]
    near = np.zeros((3, 30, 40), bool)  # measured at once in no time
    near[0, 1:3, 2:5] = near[2, 20:25, 30:35] = True
    assert boxes.split_into_boxes(near) == [np.s_[0:3, 1:25, 2:35]]


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
    with pytest.raises(ValueError, match="a mask must not contain NaN"):
        compute(mask * nan, mask)
    with pytest.raises(ValueError, match="spacing_mm must be 3 positive numbers"):
        compute(mask, mask, spacing_mm=(1, 1))
    for wrong in (nan, inf, 0, -1):
        with pytest.raises(ValueError, match="spacing_mm must be 3 positive numbers"):
            compute(mask, mask, spacing_mm=(1, wrong, 1))
    with pytest.raises(ValueError, match="nsd_tolerance_mm must be at least 0, got -1"):
        compute(mask, mask, nsd_tolerance_mm=-1)
    with pytest.raises(ValueError, match=r"mask must have the shape \(3, 4, 5\)"):
        compute(mask, mask, mask=mask[0])
