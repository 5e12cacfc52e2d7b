"""What each step does to a mask, by hand and against plain code."""

import numpy as np
import pytest

from nnunet_topo.postprocessing.masks import close_gaps, fill_holes
from nnunet_topo.postprocessing.steps import Grid, Steps, Units, change_mask

from . import naive


def changed(mask, steps, spacing, connectivity="full", may_take=None, probability=None):
    return change_mask(
        mask,
        ~mask if may_take is None else may_take,
        steps,
        probability=probability,
        spacing=np.asarray(spacing, float),
        connectivity=connectivity,
    )


def blobs(seed, shape, share=0.35):
    """Returns a noisy mask with many components, holes and gaps."""
    rng = np.random.default_rng(seed)
    return rng.random(shape) < share


def test_components_are_removed_by_their_size_in_mm3():
    mask = np.zeros((6, 9, 12), bool)
    mask[1, 1, 1:5] = True  # 4 voxels of 0.75 mm3
    mask[4, 5:7, 1:6] = True  # 10 voxels
    spacing = (3.0, 0.5, 0.5)
    assert changed(mask, Steps(remove_below=3.0), spacing).sum() == 14
    assert changed(mask, Steps(remove_below=3.1), spacing).sum() == 10
    assert not changed(mask, Steps(remove_below=7.6), spacing).any()


def test_areas_of_an_image_are_in_mm2():
    mask = np.zeros((9, 12), bool)
    mask[1, 1:5] = True
    assert changed(mask, Steps(remove_below=0.5), (0.25, 0.5)).sum() == 4
    assert changed(mask, Steps(remove_below=0.6), (0.25, 0.5)).sum() == 0
    assert Units("mm", 2).size == "mm2"
    assert Units("pixels", 2).size == "pixels"


def test_a_diagonal_neighbour_belongs_to_the_component_at_full_connectivity_alone():
    mask = np.zeros((7, 9), bool)
    mask[2:4, 2:4] = True
    mask[4, 4] = True
    kept = [changed(mask, Steps(keep_largest=1), (1, 1), c) for c in ("full", "face")]
    assert [of.sum() for of in kept] == [5, 4]


def test_the_largest_components_are_kept_and_of_equal_ones_the_first():
    mask = np.zeros((5, 14), bool)
    mask[2, 0:2] = mask[2, 4:6] = True
    mask[2, 8:11] = True
    assert np.flatnonzero(changed(mask, Steps(keep_largest=1), (1, 1))[2]).tolist() == [8, 9, 10]
    two = changed(mask, Steps(keep_largest=2), (1, 1))
    assert np.flatnonzero(two[2]).tolist() == [0, 1, 8, 9, 10]
    assert changed(mask, Steps(keep_largest=5), (1, 1)).sum() == 7


def test_a_hole_is_filled_up_to_its_size_with_background_alone():
    mask = np.zeros((9, 12), bool)
    mask[1:8, 1:11] = True
    mask[3:5, 3:6] = False  # 6 pixels
    spacing = (0.5, 0.5)
    assert changed(mask, Steps(fill_holes=1.4), spacing).sum() == mask.sum()
    assert changed(mask, Steps(fill_holes=1.5), spacing).sum() == mask.sum() + 6
    may_take = ~mask
    may_take[3, 3] = False  # another label
    filled = changed(mask, Steps(fill_holes=1.5), spacing, may_take=may_take)
    assert filled.sum() == mask.sum() + 5
    assert not filled[3, 3]


def test_a_bay_that_opens_to_the_border_of_the_image_is_not_a_hole():
    mask = np.ones((6, 8), bool)
    mask[2:5, 0] = False
    assert not changed(mask, Steps(fill_holes=99), (1, 1))[3, 0]


@pytest.mark.parametrize(("connectivity", "is_hole"), [("full", True), ("face", False)])
def test_background_that_touches_the_outside_at_a_corner_is_a_hole_at_full_connectivity(
    connectivity, is_hole
):
    mask = np.zeros((7, 9), bool)
    mask[1:5, 1:6] = True
    mask[2, 2] = mask[1, 1] = False
    filled = changed(mask, Steps(fill_holes=1), (1, 1), connectivity)
    assert filled[2, 2] == is_hole


def test_a_gap_is_closed_only_where_that_joins_components():
    mask = np.zeros((9, 30), bool)
    mask[3:6, 2:9] = mask[3:6, 11:20] = True  # a gap of two pixels
    mask[3, 15:17] = False  # a notch, which a closing would fill
    closed = changed(mask, Steps(close_gaps=1.5), (1, 1))
    assert closed[3:6, 9:11].all()
    assert not closed[3, 15:17].any()
    assert changed(mask, Steps(close_gaps=0.9), (1, 1)).sum() == mask.sum()


def test_the_radius_of_a_closing_is_in_mm_along_each_axis():
    mask = np.zeros((12, 11, 13), bool)
    mask[2:4, 4:7, 4:7] = mask[6:8, 4:7, 4:7] = True  # a gap of two voxels along z
    steps = Steps(close_gaps=1.0)
    assert not changed(mask, steps, (1.5, 0.3, 0.3))[4:6].any()
    assert changed(mask, steps, (0.5, 0.3, 0.3))[4:6, 5, 5].all()


def test_a_gap_is_not_closed_through_another_label():
    mask = np.zeros((9, 24), bool)
    mask[3:6, 2:9] = mask[3:6, 12:20] = True
    may_take = ~mask
    may_take[:, 10] = False
    assert changed(mask, Steps(close_gaps=3), (1, 1), may_take=may_take).sum() == mask.sum()


def test_a_lower_threshold_adds_background_alone():
    mask = np.zeros((4, 6), bool)
    mask[1, 1] = True
    probability = np.full((4, 6), 0.35)
    probability[0] = 0.1
    may_take = ~mask
    may_take[2] = False
    lowered = changed(
        mask, Steps(threshold=0.3), (1, 1), may_take=may_take, probability=probability
    )
    assert not lowered[0].any()
    assert lowered[1].all()
    assert not lowered[2].any()
    with pytest.raises(ValueError, match="the probabilities are needed"):
        changed(mask, Steps(threshold=0.3), (1, 1))


def test_gaps_are_closed_before_small_components_are_removed():
    mask = np.zeros((7, 20), bool)
    mask[2:5, 2:8] = mask[2:5, 9:11] = True  # 18 and 6 pixels, a gap of one
    steps = Steps(close_gaps=1, remove_below=10)
    assert changed(mask, steps, (1, 1)).sum() == 18 + 6 + 1  # the middle of the gap
    assert steps.in_words(Units("pixels", 2)) == (
        "close gaps between components with a radius of 1 pixels, remove components below 10 pixels"
    )


@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize(
    ("shape", "spacing"), [((17, 22), (1.0, 0.6)), ((7, 9, 10), (1.7, 0.8, 0.5))]
)
@pytest.mark.parametrize("seed", range(4))
def test_steps_are_those_of_plain_code(shape, spacing, connectivity, seed):
    mask = blobs(seed, shape, 0.25 if len(shape) == 2 else 0.12)
    may_take = ~mask & ~blobs(seed + 50, shape, 0.1)
    probability = np.random.default_rng(seed).random(shape)
    for radius in (0.8, 1.7):
        np.testing.assert_array_equal(
            close_gaps(mask, may_take, radius, np.array(spacing), connectivity),
            naive.close_gaps(mask, may_take, radius, spacing, connectivity),
        )
    dense = ~mask
    for largest in (1.0, 6.0):
        np.testing.assert_array_equal(
            fill_holes(dense, mask, largest, np.prod(spacing), connectivity),
            naive.fill_holes(dense, mask, largest, spacing, connectivity),
        )
    for steps in (
        Steps(0.95, 1.7, 6.0, 2.0),
        Steps(None, 0.8, None, None, 2),
        Steps(0.9, None, 1.0, 3.0, 3),
    ):
        np.testing.assert_array_equal(
            changed(mask, steps, spacing, connectivity, may_take, probability),
            naive.change(mask, may_take, steps, spacing, connectivity, probability),
        )


@pytest.mark.parametrize("steps", [Steps(0.3, 1, 2, 3, 1), Steps(close_gaps=1, fill_holes=5)])
def test_empty_and_full_masks_stay_as_they_are(steps):
    for mask in (np.zeros((6, 7, 8), bool), np.ones((6, 7, 8), bool)):
        same = changed(mask, steps, (1, 2, 3), probability=np.zeros(mask.shape))
        np.testing.assert_array_equal(same, mask)


def test_steps_are_read_back_and_wrong_ones_are_named():
    steps = Steps(0.3, 1.5, None, 20.0)
    assert Steps.from_json(steps.to_json(), "here") == steps
    for wrong, message in (
        ({"remove": 3}, "here: 'remove' is not a step; there are threshold, close_gaps"),
        ({"remove_below": -1}, "here: remove_below takes a number above 0, got -1"),
        ({"keep_largest": 1.5}, "here: keep_largest takes a whole number"),
        ({"threshold": 2}, "here: threshold must be below 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Steps.from_json(wrong, "here")


def test_a_grid_has_every_combination_once_and_nothing_first():
    grid = Grid((0.4,), (1.0, 2.0), (5.0,), (10.0, 20.0), (1,))
    candidates = grid.candidates()
    assert len(set(candidates)) == len(candidates) == 2 * 3 * 2 * 4
    assert candidates[0] == Steps()
    assert sum(len(steps) == 1 for steps in candidates) == 1 + 2 + 1 + 3


def test_of_equal_candidates_a_number_of_components_comes_before_a_size():
    candidates = Grid(sizes=(10.0,), numbers=(1, 2)).candidates()
    assert candidates == [
        Steps(),
        Steps(keep_largest=1),
        Steps(keep_largest=2),
        Steps(None, None, None, 10.0),
    ]


def test_a_grid_is_in_typical_voxels():
    spacings = [np.array([2.0, 0.5, 0.5]), np.array([2.0, 0.5, 0.5]), np.array([9.0, 1, 1])]
    grid = Grid.of_spacings(spacings, probabilities=False)
    assert grid.thresholds == ()
    assert grid.sizes[:3] == (5.0, 10.0, 25.0)
    assert grid.radii == (0.5, 1.0, 2.0)
    assert Grid.of_spacings(spacings, probabilities=True).thresholds
