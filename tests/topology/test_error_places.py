from collections import Counter
from typing import get_args

import numpy as np
import pytest

from nnunet_topo.topology import betti_numbers, unmatched
from nnunet_topo.topology.betti_matching import match_betti_numbers, surviving_loops
from nnunet_topo.topology.error_places import ErrorKind

from ..planted_errors import planted
from ..shapes import ring
from .test_betti_matching import BOTH, draw_pair


def assert_is_cycle(cycle, mask, connectivity):
    """Asserts that voxels are a closed cycle in a mask that bounds nothing in it."""
    assert mask[tuple(cycle.T)].all()
    assert len(np.unique(cycle, axis=0)) == len(cycle)
    steps = np.abs(np.diff(np.vstack([cycle, cycle[:1]]), axis=0))
    assert (steps.max(axis=1) == 1).all()
    if connectivity == "face":
        assert (steps.sum(axis=1) == 1).all()
    drawn = np.zeros_like(mask)
    drawn[tuple(cycle.T)] = True
    assert surviving_loops(np.pad(drawn, 1), np.pad(mask, 1), connectivity) > 0


@BOTH
@pytest.mark.parametrize("error", planted(), ids=str)
def test_each_kind_of_error_is_found_with_its_kind_and_place(error, connectivity):
    (found,) = unmatched(error.prediction, error.reference, connectivity=connectivity)
    assert found.kind == error.kind
    assert error.where[found.voxel]
    if error.all_marked and connectivity == "full":
        assert set(map(tuple, found.voxels)) == set(map(tuple, np.argwhere(error.where)))
    if found.is_cycle:
        mask = error.prediction if found.in_prediction else error.reference
        assert_is_cycle(found.voxels, mask, connectivity)
    assert found.is_cycle == (error.prediction.ndim == 3 and found.dimension == 1)


def test_every_kind_is_planted():
    assert {error.kind for error in planted()} == set(get_args(ErrorKind))


@BOTH
def test_there_are_as_many_errors_as_the_matching_error_counts(connectivity):
    kinds = Counter()
    for seed in range(600):
        p, g = draw_pair(seed)
        counted = match_betti_numbers(p, g, connectivity=connectivity)
        found = unmatched(p, g, connectivity=connectivity)
        kinds.update(error.kind for error in found)
        assert len(found) == counted.error, seed
        for k in range(p.ndim):
            of_k = [error for error in found if error.dimension == k]
            in_prediction = sum(error.in_prediction for error in of_k)
            assert in_prediction == counted.prediction[k] - counted.matched[k], seed
            assert len(of_k) - in_prediction == counted.reference[k] - counted.matched[k], seed
    assert set(kinds) == set(get_args(ErrorKind))


@BOTH
def test_loops_of_random_volumes_have_closed_cycles_that_bound_nothing(connectivity):
    rng = np.random.default_rng(0)
    cycles = 0
    for _ in range(30):
        p, g = rng.random((2, 6, 7, 8)) < rng.uniform(0.3, 0.7)
        for error in unmatched(p, g, connectivity=connectivity):
            if error.dimension == 1:
                assert_is_cycle(error.voxels, p if error.in_prediction else g, connectivity)
                assert error.voxel in (error.birth, error.death)
                cycles += 1
    assert cycles > 300


def test_a_mask_and_its_reference_exchanged_exchange_false_and_missing():
    for seed in range(60):
        p, g = draw_pair(seed)
        kinds = Counter(error.kind for error in unmatched(p, g))
        swapped = Counter(error.kind for error in unmatched(g, p))
        for kind, number in kinds.items():
            other = {"gap": "false joint", "false joint": "gap"}.get(kind)
            other = other or kind.replace("false", "MISSING").replace("missing", "false").lower()
            assert swapped[other] == number, (seed, kind)


def test_ties_and_flips_move_places_along():
    for error in planted():
        (before,) = unmatched(error.prediction, error.reference)
        axis = error.prediction.ndim - 1
        (after,) = unmatched(*(np.flip(m, axis) for m in (error.prediction, error.reference)))
        assert (before.kind, before.size) == (after.kind, after.size)
        assert np.flip(error.where, axis)[after.voxel]


def test_a_ring_broken_twice_has_a_gap_at_one_break_and_an_open_loop_at_the_other():
    for reference in (ring((23, 27), 8, 1.5), ring((9, 23, 27), 8, 1.8)):
        prediction = reference.copy()
        left, right = np.zeros((2, *reference.shape), bool)
        left[..., 10:13, :13] = right[..., 10:13, 14:] = True
        prediction[left | right] = False
        found = {error.kind: error for error in unmatched(prediction, reference)}
        assert set(found) == {"gap", "missing loop"}
        sides = {kind: bool(left[error.voxel]) for kind, error in found.items()}
        assert all((left | right)[error.voxel] for error in found.values())
        assert sides["gap"] != sides["missing loop"]


def test_a_ring_displaced_by_less_than_its_width_has_no_error_and_a_ring_elsewhere_has_four():
    torus = ring((9, 25, 27), 7, 1.8)
    assert unmatched(np.roll(torus, 1, axis=2), torus) == []
    far = np.zeros((9, 25, 60), bool)
    far[..., :27] = torus
    found = unmatched(np.roll(far, 30, axis=2), far)
    kinds = Counter(error.kind for error in found)
    names = "false component", "missing component", "false loop", "missing loop"
    assert kinds == dict.fromkeys(names, 1)


@BOTH
def test_a_tunnel_is_marked_in_its_middle(connectivity):
    reference = np.zeros((13, 15, 17), bool)
    reference[2:11, 2:13, 2:15] = True
    for axis, middle in ((0, (6, 6, 8)), (1, (6, 7, 9)), (2, (5, 7, 8))):
        prediction = reference.copy()
        around = [slice(m - 1, m + 2) for m in middle]
        around[axis] = slice(None)
        prediction[tuple(around)] = False
        (found,) = unmatched(prediction, reference, connectivity=connectivity)
        assert (found.kind, found.death) == ("false hole", found.voxel)
        assert np.abs(np.subtract(found.voxel, middle)).max() <= 1  # some are equally deep


@BOTH
def test_a_cycle_around_a_tunnel_is_not_a_loop_that_both_masks_have(connectivity):
    reference = np.zeros((7, 30, 34), bool)
    reference[2:5, 2:28, 2:32] = True
    reference[:, 17, 16] = False  # a tunnel of both, nearer to the middle of the other
    prediction = reference.copy()
    prediction[:, 10:15, 6:26] = False
    (found,) = unmatched(prediction, reference, connectivity=connectivity)
    assert (found.kind, found.is_cycle) == ("false hole", True)
    assert 10 <= found.voxel[1] < 15
    assert (found.voxels[:, 2].min(), found.voxels[:, 2].max()) == (5, 26)


@BOTH
def test_of_loops_that_touch_without_overlap_only_the_false_one_is_found(connectivity):
    reference, handle = np.zeros((2, 6, 25, 40), bool)
    prediction = reference.copy()
    reference[1:3, :, :27] = prediction[3:5, :, :27] = ring((25, 27), 7, 1.0)  # one on the other
    handle[3, 8:17, 20:34] = True
    handle[3, 10:15, 22:32] = False
    prediction |= handle
    found = unmatched(prediction, reference, connectivity=connectivity)
    assert betti_numbers(prediction, connectivity=connectivity)[1] == 2
    assert [error.kind for error in found] == ["false loop"]
    assert found[0].voxels[:, 2].max() > 27


def test_an_island_that_only_touches_its_neighbour_is_a_false_component():
    reference = np.zeros((9, 14), bool)
    reference[2:7, 2:8] = True
    prediction = reference.copy()
    prediction[:, 7] = False
    prediction[4, 8:11] = True  # touches the reference, and not the prediction
    (found,) = unmatched(prediction, reference)
    assert (found.kind, found.size) == ("false component", 3)
    (found,) = unmatched(reference, prediction)
    assert found.kind == "missing component"


def test_a_break_is_marked_in_the_border_and_in_all_its_width():
    closed = np.zeros((20, 23), bool)
    closed[2:18, 2:21] = True
    closed[3:17, 3:20] = False  # encloses more than lies around it
    opened = closed.copy()
    opened[17, 6:11] = False
    (found,) = unmatched(opened, closed)
    assert (found.kind, found.voxel) == ("missing loop", (17, 8))
    assert found.voxels.tolist() == [[17, x] for x in range(6, 11)]
    (found,) = unmatched(closed, opened)
    assert (found.kind, found.voxel) == ("false loop", (17, 8))


@BOTH
def test_a_gap_is_marked_in_all_its_width_and_only_where_it_is_narrowest(connectivity):
    reference = np.zeros((9, 13, 24), bool)
    reference[2:7, 3:9, 2:22] = True
    prediction = reference.copy()
    prediction[:, :, 10:13] = False
    narrow = np.zeros_like(reference)
    narrow[2:7, 3:9, 10:13] = True
    (found,) = unmatched(prediction, reference, connectivity=connectivity)
    assert set(map(tuple, found.voxels)) == set(map(tuple, np.argwhere(narrow)))
    prediction[2:4, :, 8:16] = False  # wider above
    (found,) = unmatched(prediction, reference, connectivity=connectivity)
    if connectivity == "face":  # diagonal paths are as short and reach a bit further
        assert found.voxels[:, 0].min() == 4
    assert set(found.voxels[:, 2]) == {10, 11, 12}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_place_of_a_component_lies_in_its_largest_slice_of_the_first_axis(axis):
    nail = np.zeros((13, 12, 11), bool)
    nail[1:10, 5, 4] = True
    nail[10, 3:8, 2:7] = True  # the head
    nail = np.moveaxis(nail, 0, axis)
    (found,) = unmatched(nail, np.zeros_like(nail))
    # The slice through the shaft has its centroid at (9 * 5 + 5 * 10) / 14 = 6.8.
    expected = {0: (10, 5, 4), 1: (5, 7, 4), 2: (5, 4, 7)}[axis]
    assert (found.voxel, found.size) == (expected, 9 + 25)
    assert nail[found.voxel]


def test_the_place_of_a_component_of_an_image_is_in_the_middle_of_its_pixels():
    bent = np.zeros((9, 14), bool)
    bent[1:8, 2] = bent[7, 2:12] = True
    (found,) = unmatched(bent, np.zeros_like(bent))
    # The centroid (5.75, 4.81) is nearest to (7, 5).
    assert (found.voxel, found.size) == ((7, 5), 16)


def test_errors_at_the_border_of_an_image_are_found_there():
    reference = np.zeros((7, 9, 11), bool)
    reference[:, 3:6, :] = True
    prediction = reference.copy()
    prediction[:, :, 5] = False
    (found,) = unmatched(prediction, reference)
    assert (found.kind, found.voxel[2]) == ("gap", 5)
    assert unmatched(np.ones((3, 4), bool), np.ones((3, 4), bool)) == []
    assert unmatched(np.zeros((3, 4)), np.zeros((3, 4))) == []


def test_more_structures_than_32_bits_can_pair_are_told_apart():
    grid = np.zeros((520, 522), bool)
    grid[::2, ::2] = True  # 67,860 pixels alone
    missing = grid.copy()
    missing[516, 518] = False
    assert unmatched(grid, grid) == []
    (found,) = unmatched(grid, missing)
    assert (found.voxel, found.size) == ((516, 518), 1)


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"same shape, got \(3, 4\) and \(4, 3\)"):
        unmatched(np.ones((3, 4)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="'full' or 'face', got '26'"):
        unmatched(np.ones((3, 4)), np.ones((3, 4)), connectivity="26")  # pyright: ignore[reportArgumentType]
