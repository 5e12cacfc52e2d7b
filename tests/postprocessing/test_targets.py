"""How steps of labels and regions change a label map, and what they leave alone."""

import numpy as np
import pytest
from nnunetv2.postprocessing.remove_connected_components import (
    remove_all_but_largest_component_from_segmentation,
)
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.postprocessing.steps import Steps
from nnunet_topo.postprocessing.targets import apply_steps, find_targets

NESTED = ((1, 2, 3), (2, 3), (3,))  # whole, core, enhancing
ORDER = (1, 2, 3)


def apply(label_map, targets, steps, probabilities=None):
    return apply_steps(
        label_map,
        targets,
        {str(label): of for label, of in steps.items()},
        probability=lambda target: None if probabilities is None else probabilities[target.channel],
        spacing=np.ones(label_map.ndim),
        connectivity="full",
    )


def test_the_largest_component_of_a_label_is_that_of_nnunet():
    rng = np.random.default_rng(0)
    for _ in range(10):
        label_map = rng.integers(0, 4, (6, 8, 9)).astype(np.uint8)
        label_map[rng.random(label_map.shape) < 0.6] = 0
        for label in (1, 2, 3):
            sizes = np.bincount((label_map == label).ravel())
            ours = apply(label_map, find_targets((1, 2, 3), None), {label: Steps(keep_largest=1)})
            theirs = remove_all_but_largest_component_from_segmentation(label_map, label)
            # nnU-Net keeps all that are equally large.
            if (theirs == label).sum() == (ours == label).sum():
                np.testing.assert_array_equal(ours, theirs)
            assert sizes[1] >= (ours == label).sum()


def test_a_removed_voxel_is_background_and_other_labels_stay():
    label_map = np.zeros((8, 11), np.uint8)
    label_map[1:5, 1:5] = 1
    label_map[6, 8] = 1
    label_map[6, 9] = 2
    changed = apply(label_map, find_targets((1, 2), None), {1: Steps(remove_below=5)})
    assert changed[6, 8] == 0
    assert changed[6, 9] == 2
    assert (changed == label_map).sum() == label_map.size - 1


def test_a_hole_is_not_filled_over_another_label():
    label_map = np.zeros((9, 11), np.uint8)
    label_map[1:8, 1:8] = 1
    label_map[3:6, 3:6] = 0
    label_map[4, 4] = 2
    changed = apply(label_map, find_targets((1, 2), None), {1: Steps(fill_holes=9)})
    assert changed[4, 4] == 2
    assert (changed == 1).sum() == 48
    assert (changed == 2).sum() == 1


def test_a_step_adds_only_to_voxels_that_it_may_take():
    """A gap is not closed along another label, which would leave two halves."""
    label_map = np.zeros((7, 15), np.uint8)
    label_map[2:5, 1:6] = label_map[2:5, 8:13] = 1
    label_map[1:6, 6] = 2
    changed = apply(label_map, find_targets((1, 2), None), {1: Steps(close_gaps=2)})
    np.testing.assert_array_equal(changed, label_map)


def test_two_labels_that_want_a_voxel_do_not_overwrite_each_other():
    label_map = np.zeros((5, 9), np.uint8)
    label_map[2, 1], label_map[2, 7] = 1, 2
    probabilities = np.zeros((3, 5, 9))
    probabilities[:, 2, 4] = 0.4
    steps = {1: Steps(threshold=0.3), 2: Steps(threshold=0.3)}
    changed = apply(label_map, find_targets((1, 2), None), steps, probabilities)
    assert changed[2, 4] == 1
    assert (changed[2, [1, 7]] == (1, 2)).all()


def test_a_hole_that_two_nested_regions_fill_belongs_to_both():
    label_map = nested_tumour()
    label_map[4, 4] = 0
    steps = {(1, 2, 3): Steps(fill_holes=1), (2, 3): Steps(fill_holes=1)}
    assert apply(label_map, find_targets(NESTED, ORDER), steps)[4, 4] == 2


def test_a_voxel_that_one_label_leaves_is_not_taken_by_another():
    label_map = np.zeros((9, 9), np.uint8)
    label_map[1:8, 1:8] = 2
    label_map[4, 4] = 1
    steps = {1: Steps(remove_below=5), 2: Steps(fill_holes=5)}
    changed = apply(label_map, find_targets((1, 2), None), steps)
    assert changed[4, 4] == 0


def nested_tumour():
    label_map = np.zeros((16, 18), np.uint8)
    label_map[1:13, 1:13] = 1
    label_map[3:11, 3:11] = 2
    label_map[5:9, 5:9] = 3
    return label_map


def test_a_part_that_leaves_the_core_stays_in_the_whole_tumour():
    label_map = nested_tumour()
    label_map[2, 12] = 3  # an island of core and enhancing inside the whole tumour
    changed = apply(label_map, find_targets(NESTED, ORDER), {(2, 3): Steps(remove_below=5)})
    assert changed[2, 12] == 1
    assert (np.delete(changed.ravel(), 2 * 18 + 12) == np.delete(label_map, 2 * 18 + 12)).all()


def test_a_part_that_leaves_the_whole_tumour_is_background():
    label_map = nested_tumour()
    label_map[14:16, 16] = (2, 3)
    changed = apply(label_map, find_targets(NESTED, ORDER), {(1, 2, 3): Steps(keep_largest=1)})
    assert not changed[14:16, 16].any()


def test_what_is_added_to_a_region_stays_in_the_regions_around_it():
    label_map = nested_tumour()
    label_map[7, 4] = 1  # a hole of the core, inside the whole tumour
    label_map[4, 4] = 0  # a hole of both
    changed = apply(label_map, find_targets(NESTED, ORDER), {(2, 3): Steps(fill_holes=1)})
    assert (changed[7, 4], changed[4, 4]) == (2, 2)
    changed = apply(label_map, find_targets(NESTED, ORDER), {(1, 2, 3): Steps(fill_holes=1)})
    assert (changed[7, 4], changed[4, 4]) == (1, 1)


def test_a_region_does_not_grow_into_one_that_it_would_take_voxels_from():
    left, right = find_targets(((1, 2), (3,)), (1, 3))
    assert left.takes == (0,)
    assert right.takes == (0,)
    whole, core, enhancing = find_targets(NESTED, ORDER)
    assert (whole.takes, core.takes, enhancing.takes) == ((0,), (0, 1), (0, 1, 2))
    assert whole.leaves == {1: 0, 2: 0, 3: 0}
    assert core.leaves == {2: 1, 3: 1}
    assert enhancing.leaves == {3: 2}


def test_the_result_is_what_nnunet_paints_of_the_changed_regions():
    """Masks of nested regions, painted in nnU-Net's order, give the label map after the steps."""
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    manager = LabelManager(labels, list(ORDER))
    rng = np.random.default_rng(1)
    for _ in range(5):
        label_map = nested_tumour()
        label_map[rng.random(label_map.shape) < 0.05] = 0
        steps = {(2, 3): Steps(fill_holes=2)}
        changed = apply(label_map, find_targets(NESTED, ORDER), steps)
        masks = np.array([np.isin(changed, region) for region in NESTED], np.float32)
        painted = manager.convert_probabilities_to_segmentation(masks)
        np.testing.assert_array_equal(painted, changed)
        for region in ((1, 2, 3), (3,)):
            kept = np.isin(label_map, region)
            assert np.isin(changed, region)[kept].all()


def test_the_order_of_regions_must_fit_them():
    with pytest.raises(ValueError, match="a value for each of 3 regions, got \\[1, 2\\]"):
        find_targets(NESTED, (1, 2))
    with pytest.raises(ValueError, match="gives region \\(2, 3\\) the value 1"):
        find_targets(NESTED, (1, 1, 3))


def test_unknown_values_and_groups_are_left_alone():
    label_map = np.zeros((7, 9), np.uint8)
    label_map[1:6, 1:6] = 1
    label_map[3, 3] = 9
    targets = find_targets((1, (1, 2)), None)
    assert [target.label for target in targets] == [1]
    assert (apply(label_map, targets, {1: Steps(fill_holes=5, keep_largest=1)}) == label_map).all()


def test_a_label_beyond_the_type_of_the_label_map_is_added():
    label_map = np.zeros((7, 15), np.uint8)
    label_map[2:5, 1:6] = 1
    probabilities = np.zeros((3, 7, 15), np.float32)
    probabilities[2, 3, 9] = 0.4
    targets = find_targets((1, 300), None)
    changed = apply(label_map, targets, {300: Steps(threshold=0.3)}, probabilities)
    assert np.argwhere(changed == 300).tolist() == [[3, 9]]
    assert (changed != label_map).sum() == 1
