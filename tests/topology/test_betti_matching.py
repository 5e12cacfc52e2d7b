import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.betti_matching import _name_of_edge, _rank_mod_2, match_betti_numbers

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
