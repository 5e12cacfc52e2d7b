"""Betti matching against linear algebra, against its authors' code, and by hand."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nnunet_topo.topology import betti_numbers, match_betti, persistence_pairs

from ..image_persistence import match
from ..matching_cases import (
    against_authors,
    authors_module,
    found,
    pair_without_ties,
    random_pair,
    values,
)
from ..shapes import ring, shell, two_blobs

CONNECTIVITIES = ["full", "face"]
seeds = st.integers(0, 2**32 - 1)


def number_matched(p, mask, k, **options):
    return len(match_betti(p, mask, dimensions=[k], **options).matched)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@settings(max_examples=300)
@example(383)
@example(516)
@given(seeds)
def test_bars_are_matched_where_linear_algebra_over_f2_matches_them(connectivity, seed):
    p, mask = random_pair(seed)
    for k in {0, p.ndim - 1}:
        expected = match(p, mask, connectivity, k)
        bars, ended, matched = found(p, mask, connectivity, k)
        assert values(bars, p) == values(expected.bars, p)
        assert ended == expected.ended
        assert matched == expected.by_place


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@settings(max_examples=200)
@given(seeds)
def test_loops_are_matched_where_linear_algebra_over_f2_matches_them(connectivity, seed):
    p, mask = random_pair(seed, tuple(np.random.default_rng(seed).integers(2, 5, 3)))
    expected = match(p, mask, connectivity, 1)
    bars, ended, matched = found(p, mask, connectivity, 1)
    assert values(bars, p) == values(expected.bars, p)
    assert ended == expected.ended
    assert values(matched, p) == values(expected.by_birth, p)


@settings(max_examples=300)
@given(seeds, st.booleans())
def test_bars_are_matched_as_the_authors_code_matches_them(seed, flat):
    authors = authors_module()
    if authors is None:
        pytest.skip("neither Betti-Matching-3D nor topolosses is installed")
    p, mask = pair_without_ties(seed, flat)
    for k in range(p.ndim):
        compared = against_authors(authors, p, mask, k)
        assert compared is None or compared.equal


@pytest.mark.parametrize("seed", [13, 153, 284])
def test_loops_of_equal_voxels_are_matched_in_the_order_of_memory(seed):
    p, mask = random_pair(seed, tuple(np.random.default_rng(seed).integers(2, 5, 3)))
    expected = match(p, mask, "face", 1).by_birth
    assert expected.total() > 0
    assert number_matched(p, mask, 1, connectivity="face") == expected.total()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@given(seeds)
def test_the_bars_are_those_of_persistence_pairs(connectivity, seed):
    p, mask = random_pair(seed)
    for clamp in (None, 0.3):
        result = match_betti(p, mask, connectivity=connectivity, clamp=clamp).prediction
        expected = persistence_pairs(p, connectivity=connectivity, clamp=clamp)
        raised = np.maximum(p, clamp or 0)
        for k in range(p.ndim):
            diagrams = [np.sort(pairs.diagram(raised, k), axis=0) for pairs in (result, expected)]
            np.testing.assert_array_equal(*diagrams)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@given(seeds)
def test_the_target_has_as_many_bars_as_its_betti_numbers(connectivity, seed):
    p, mask = random_pair(seed)
    target = match_betti(p, mask, connectivity=connectivity).target
    counts = np.bincount(target.dimension, minlength=p.ndim)
    assert tuple(counts) == betti_numbers(mask, connectivity=connectivity)
    assert mask.ravel()[target.birth].all()
    assert not mask.ravel()[target.death[target.death >= 0]].any()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(
    "mask", [ring(), ring((9, 13, 17)), shell(), two_blobs(), two_blobs((9, 14))]
)
def test_a_perfect_prediction_has_all_its_bars_matched(connectivity, mask):
    for p in (mask.astype(float), 0.1 + 0.8 * mask):
        result = match_betti(p, mask, connectivity=connectivity)
        assert len(result.matched) == sum(betti_numbers(mask, connectivity=connectivity))
        assert len(result.prediction.birth) == len(result.matched)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_structures_in_other_places_are_not_matched(connectivity):
    # One ring wanted at the left, one found at the right.
    mask, other = np.zeros((2, 9, 20), bool)
    mask[1:8, 1:8], mask[2:7, 2:7] = True, False
    other[1:8, 12:19], other[2:7, 13:18] = True, False
    assert number_matched(0.9 * other, mask, 1, connectivity=connectivity) == 0
    assert number_matched(0.9 * (mask | other), mask, 1, connectivity=connectivity) == 1
    # In dimension 0 the component that never ends is common to all.
    assert number_matched(0.9 * other, mask, 0, connectivity=connectivity) == 1


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_ring_beside_the_wanted_one_is_the_same_loop_where_they_overlap(connectivity):
    mask = np.zeros((12, 14), bool)
    mask[2:9, 2:9], mask[3:8, 3:8] = True, False
    for shift, expected in ((1, 1), (4, 0)):
        p = 0.1 + 0.8 * np.roll(mask, shift, axis=1)
        assert number_matched(p, mask, 1, connectivity=connectivity) == expected


def test_loops_of_a_volume_are_told_apart_by_place():
    first = np.zeros((5, 11, 24), bool)
    first[2, 2:9, 2:9], first[2, 3:8, 3:8] = True, False
    second = np.roll(first, 13, axis=2)
    for connectivity in CONNECTIVITIES:
        assert number_matched(0.9 * first, first | second, 1, connectivity=connectivity) == 1
        assert number_matched(0.9 * first, second, 1, connectivity=connectivity) == 0
        both = 0.9 * first + 0.8 * second
        assert number_matched(both, first | second, 1, connectivity=connectivity) == 2


def test_the_worked_example_of_three_components():
    # F: bars 0.9 (essential), 0.8 ending at 0.1, 0.6 ending at 0.3. Wanted: the places of 0.9, 0.6.
    p = np.array([[0.9, 0.3, 0.6, 0.1, 0.8]])
    mask = np.array([[1, 0, 1, 0, 0]], bool)
    result = match_betti(p, mask, dimensions=[0])
    of_p, of_mask = result.prediction, result.target
    pairs = {
        (int(of_p.birth[a]), int(of_p.death[a]), int(of_mask.birth[b]), int(of_mask.death[b]))
        for a, b in result.matched
    }
    assert pairs == {(0, -1, 0, -1), (2, 1, 2, 1)}
    assert (4, 3) in set(zip(of_p.birth.tolist(), of_p.death.tolist(), strict=True))


def test_an_empty_mask_has_no_bars_and_an_empty_prediction_one():
    nothing = np.zeros((4, 5), bool)
    result = match_betti(np.full((4, 5), 0.3), nothing)
    assert (len(result.prediction.birth), len(result.target.birth)) == (1, 0)
    full = match_betti(np.zeros((4, 5)), ~nothing)
    assert full.matched.tolist() == [[0, 0]]
    assert len(match_betti(np.zeros((0, 5)), np.zeros((0, 5))).matched) == 0


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@given(seeds, st.permutations(range(3)))
def test_turned_images_have_the_same_matches(connectivity, seed, axes):
    rng = np.random.default_rng(seed)
    mask = rng.random((3, 4, 5)) < 0.6
    p = 0.5 * rng.permutation(60).reshape(3, 4, 5) / 60 + 0.4 * mask
    counts = [
        np.bincount(result.prediction.dimension[result.matched[:, 0]], minlength=3).tolist()
        for result in (
            match_betti(p, mask, connectivity=connectivity),
            match_betti(p.transpose(axes), mask.transpose(axes), connectivity=connectivity),
        )
    ]
    assert counts[0] == counts[1]


def test_what_cannot_be_matched_is_refused():
    mask = np.zeros((4, 5), bool)
    with pytest.raises(ValueError, match="same shape"):
        match_betti(np.zeros((5, 4)), mask)
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\]"):
        match_betti(np.full((4, 5), 1.5), mask)
    with pytest.raises(ValueError, match="NaN or infinite"):
        match_betti(np.full((4, 5), np.nan), mask)
