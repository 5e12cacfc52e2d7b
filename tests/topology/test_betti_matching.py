import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.betti_matching import _name_of_edge, _rank_mod_2, match_betti_numbers
from nnunet_topo.topology.unmatched import find_unmatched

from ..cell_complexes import betti_matching
from ..shapes import ball, ring, shell, two_blobs

BOTH = pytest.mark.parametrize("connectivity", ["full", "face"])
TORUS = ring((9, 15, 17), 5.0, 1.6)


def draw_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two small masks, unrelated or one the other with errors; many of them dense."""
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(2, 4))
    most = 9 if ndim == 2 else 6
    shape = (
        tuple(rng.integers(1, most, ndim)) if rng.random() < 0.5 else tuple(most - np.arange(ndim))
    )
    p = rng.random(shape) < rng.uniform(0.3, 0.95)
    if rng.random() < 0.5:
        return p, rng.random(shape) < rng.uniform(0.3, 0.95)
    return p, p ^ (rng.random(shape) < rng.uniform(0, 0.4))


@BOTH
@given(st.integers(0, 10**9))
def test_matches_are_those_of_linear_algebra_over_f2(connectivity, seed):
    p, g = draw_pair(seed)
    found = match_betti_numbers(p, g, connectivity=connectivity)
    expected = betti_matching(p, g, connectivity)
    assert (found.prediction, found.reference, found.matched) == expected


def test_what_touches_on_the_diagonals_of_a_square_is_one_place_less():
    # Seeds on which the four places of such squares are independent of all others.
    seeds = [seed for seed in range(400) if draw_pair(seed)[0].ndim == 3]
    for seed in seeds[:120]:
        p, g = draw_pair(seed)
        assert (
            match_betti_numbers(p, g, connectivity="face").matched
            == (betti_matching(p, g, "face")[2])
        )


def test_each_edge_has_a_name_of_its_own_beside_the_components():
    components, voxels = 30, 24
    edges = [_name_of_edge(np.arange(voxels), axis, components, voxels) for axis in range(3)]
    names = np.concatenate([np.arange(components), *edges])
    assert len(np.unique(names)) == components + 3 * voxels


def test_sums_of_nodes_are_independent_if_none_is_the_sum_of_others():
    first, second = [0, 1, 2, 9], [3, 4, 5, 9]
    assert _rank_mod_2([first, second]) == 2
    assert _rank_mod_2([first, second, [0, 1, 2, 3, 4, 5]]) == 2
    assert _rank_mod_2([first, second, [0, 1, 2, 3]]) == 3
    assert _rank_mod_2([[4, 4, 7, 7], first, first]) == 1


@BOTH
@pytest.mark.parametrize("mask", [ring(), two_blobs((9, 14)), TORUS, shell(), two_blobs()])
def test_a_mask_and_itself_have_all_in_common(mask, connectivity):
    found = match_betti_numbers(mask, mask, connectivity=connectivity)
    assert found.matched == betti_numbers(mask, connectivity=connectivity)
    assert found.error == 0


@BOTH
@given(st.integers(0, 10**9), st.randoms())
def test_it_is_symmetric_and_flips_change_nothing(connectivity, seed, random):
    p, g = draw_pair(seed)
    found = match_betti_numbers(p, g, connectivity=connectivity)
    axes = list(range(p.ndim))
    random.shuffle(axes)
    axis = random.choice(axes)
    moved = [np.flip(mask.transpose(axes), axis) for mask in (g, p)]
    swapped = match_betti_numbers(*moved, connectivity=connectivity)
    assert (found.prediction, found.reference) == (swapped.reference, swapped.prediction)
    assert found.matched == swapped.matched


@BOTH
def test_equal_numbers_in_other_places_do_not_match(connectivity):
    left, right = np.zeros((2, 13, 40), bool)
    left[:, :17], right[:, 20:37] = ring(), ring()
    found = match_betti_numbers(left, right, connectivity=connectivity)
    assert found.prediction == found.reference == (1, 1)
    assert found.matched == (0, 0)
    assert found.error == 4


@BOTH
def test_two_halves_of_a_ring_share_a_component_and_no_loop(connectivity):
    left, right = ring(), ring()
    left[:, 9:] = right[:, :8] = False
    found = match_betti_numbers(left, right, connectivity=connectivity)
    assert (found.prediction, found.reference, found.matched) == ((1, 0), (1, 0), (1, 0))


@BOTH
@pytest.mark.parametrize(("gap", "matched"), [(0, (1, 1, 0)), (1, (0, 0, 0))])
def test_tori_match_where_they_touch(gap, matched, connectivity):
    lower, upper = np.zeros((2, 20, 15, 17), bool)
    height = np.flatnonzero(TORUS.any(axis=(1, 2)))
    flat = TORUS[height]
    lower[: len(height)], upper[len(height) + gap : 2 * len(height) + gap] = flat, flat
    # One voxel of contact at each height of the ring is enough for the loops to be one.
    assert match_betti_numbers(lower, upper, connectivity=connectivity).matched == matched


@BOTH
def test_a_cavity_matches_the_cavity_that_it_shares_a_place_with(connectivity):
    outer, centre = ball((11, 13, 15), (5, 6, 7), 5), ball((11, 13, 15), (5, 6, 7), 1)
    shifted = ball((11, 13, 15), (5, 6, 8), 1)
    same = match_betti_numbers(outer & ~centre, outer & ~shifted, connectivity=connectivity)
    assert same.matched == (1, 0, 1)
    elsewhere = ball((11, 13, 15), (5, 6, 10), 0)
    other = match_betti_numbers(outer & ~centre, outer & ~elsewhere, connectivity=connectivity)
    assert (other.prediction, other.reference) == ((1, 0, 1), (1, 0, 1))
    assert other.matched == (1, 0, 0)


def test_empty_masks_have_nothing_in_common():
    empty = np.zeros((4, 5, 6), bool)
    assert match_betti_numbers(empty, empty).error == 0
    assert match_betti_numbers(empty, shell((4, 5, 6), 1)).matched == (0, 0, 0)


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"same shape, got \(3, 4\) and \(4, 3\)"):
        match_betti_numbers(np.ones((3, 4)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="'full' or 'face', got '26'"):
        match_betti_numbers(np.ones((3, 4)), np.ones((3, 4)), connectivity="26")  # pyright: ignore[reportArgumentType]


@BOTH
def test_structures_without_a_partner_are_as_many_as_the_numbers_say(connectivity):
    for seed in range(400):
        p, g = draw_pair(seed)
        counted = match_betti_numbers(p, g, connectivity=connectivity)
        found = find_unmatched(p, g, connectivity=connectivity)
        for k in (0, p.ndim - 1):
            of_k = [structure for structure in found if structure.dimension == k]
            in_prediction = sum(structure.in_prediction for structure in of_k)
            assert in_prediction == counted.prediction[k] - counted.matched[k], seed
            assert len(of_k) - in_prediction == counted.reference[k] - counted.matched[k], seed


def test_structures_without_a_partner_are_found_where_they_are():
    reference = np.zeros((9, 14, 17), bool)
    reference[1:8, 1:8, 1:8] = True
    prediction = reference.copy()
    prediction[3:5, 3:6, 4] = False  # a cavity
    prediction[4, 10:12, 11:16] = True  # an island
    prediction[5, 10, 11] = True
    reference[7, 12, 15] = True  # what is missed
    found = find_unmatched(prediction, reference)
    assert [(f.dimension, f.in_prediction, f.size) for f in found] == [
        (0, True, 11),
        (2, True, 6),
        (0, False, 1),
    ]
    assert [f.centre for f in found] == [(4, 10, 13), (3, 4, 4), (7, 12, 15)]


def test_of_a_structure_that_fell_apart_the_smaller_part_is_left_over():
    reference = np.zeros((5, 21), bool)
    reference[2, 1:20] = True
    prediction = reference.copy()
    prediction[2, 14] = False
    (part,) = find_unmatched(prediction, reference)
    assert (part.dimension, part.in_prediction, part.centre, part.size) == (0, True, (2, 17), 5)
    (part,) = find_unmatched(reference, prediction)
    assert not part.in_prediction


def test_an_open_ring_leaves_over_what_it_would_enclose_and_not_the_outside():
    closed = np.zeros((20, 23), bool)
    closed[2:18, 2:21] = True
    closed[3:17, 3:20] = False  # encloses more than lies around it
    opened = closed.copy()
    opened[17, 8] = False
    for prediction, reference in ((closed, opened), (opened, closed)):
        (hole,) = find_unmatched(prediction, reference)
        assert (hole.dimension, hole.in_prediction) == (1, prediction is closed)
        assert (hole.centre, hole.size) == ((9, 11), 14 * 17)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_centre_of_a_structure_lies_in_its_largest_slice_of_the_first_axis(axis):
    nail = np.zeros((13, 12, 11), bool)
    nail[1:10, 5, 4] = True
    nail[10, 3:8, 2:7] = True  # the head
    nail = np.moveaxis(nail, 0, axis)
    (found,) = find_unmatched(nail, np.zeros_like(nail))
    # The slice through the shaft has its centroid at (9 * 5 + 5 * 10) / 14 = 6.8.
    expected = {0: (10, 5, 4), 1: (5, 7, 4), 2: (5, 4, 7)}[axis]
    assert (found.centre, found.size) == (expected, 9 + 25)
    assert nail[found.centre]


def test_the_centre_of_an_image_is_that_of_all_its_pixels():
    bent = np.zeros((9, 14), bool)
    bent[1:8, 2] = bent[7, 2:12] = True
    (found,) = find_unmatched(bent, np.zeros_like(bent))
    # The centroid (5.75, 4.81) is nearest to (7, 5).
    assert (found.centre, found.size) == ((7, 5), 16)


def test_more_structures_than_32_bits_can_pair_are_told_apart():
    grid = np.zeros((520, 522), bool)
    grid[::2, ::2] = True  # 67,860 pixels alone
    missing = grid.copy()
    missing[516, 518] = False
    assert find_unmatched(grid, grid) == []
    (found,) = find_unmatched(grid, missing)
    assert (found.centre, found.size) == ((516, 518), 1)
