"""Betti matching with targets that are no masks, against linear algebra and the authors' code."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nnunet_topo.topology import match_betti, persistence_pairs
from nnunet_topo.topology.bar_matching import _match_grey

from ..image_persistence import match_values
from ..matching_cases import (
    authors_module,
    both_against_authors,
    found_of_both,
    random_pair,
    two_images,
    two_images_without_ties,
    values,
    values_of_both,
)

CONNECTIVITIES = ["full", "face"]
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@settings(max_examples=150)
@given(seeds)
@example(270)  # the order of equal voxels of C changes what is matched, here and in a volume
@example(275)
@example(88)  # a hole whose darkest voxel is another one in F than in C
def test_bars_of_two_images_are_matched_where_linear_algebra_matches_them(connectivity, seed):
    p, target = two_images(seed)
    for k in range(p.ndim):
        of_p, of_target, matched = match_values(p, target, connectivity, k)
        found = found_of_both(p, target, connectivity, k)
        assert values(found[0], p) == values(of_p, p)
        assert values(found[1], target) == values(of_target, target)
        assert values_of_both(found[2], p, target) == values_of_both(matched, p, target)


@settings(max_examples=200)
@given(seeds, st.booleans())
def test_bars_of_two_images_are_matched_as_the_authors_code_matches_them(seed, flat):
    authors = authors_module()
    if authors is None:
        pytest.skip("neither Betti-Matching-3D nor topolosses is installed")
    p, target = two_images_without_ties(seed, flat)
    for k in range(p.ndim):
        compared = both_against_authors(authors, p, target, k)
        assert compared is None or compared.equal


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@settings(max_examples=200)
@given(seeds)
def test_a_mask_has_the_matches_that_it_has_as_an_image(connectivity, seed):
    p, mask = random_pair(seed)
    as_mask = match_betti(p, mask, connectivity=connectivity)
    if not mask.any():
        return
    wanted = tuple(range(p.ndim))
    as_image = _match_grey(p, mask.astype(np.float32), float(p.min()), connectivity, wanted)
    for k in wanted:
        ends = []
        for result in (as_mask, as_image):
            of_k = result.matched[result.prediction.dimension[result.matched[:, 0]] == k]
            birth = p.flat[result.prediction.birth[of_k[:, 0]]]
            voxel = result.target.death[of_k[:, 1]]
            ends.append(sorted(zip(birth, np.where(voxel < 0, -1, p.flat[voxel]), strict=True)))
        assert ends[0] == ends[1]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@given(seeds)
def test_an_image_has_all_its_bars_matched_with_itself(connectivity, seed):
    p = 0.1 + 0.8 * two_images(seed)[0]
    result = match_betti(p, p, connectivity=connectivity)
    bars = persistence_pairs(p, connectivity=connectivity)
    assert len(result.prediction.birth) == len(result.target.birth) == len(bars.birth)
    of_p, of_target = result.matched.T
    np.testing.assert_array_equal(result.prediction.birth[of_p], result.target.birth[of_target])
    np.testing.assert_array_equal(result.prediction.death[of_p], result.target.death[of_target])
    assert len(result.matched) == len(bars.birth)


def test_the_worked_example_of_two_images():
    # F: 0.9 (essential), 0.7 ends at 0.2. G: 0.8 (essential), 0.5 ends at 0.3, in the same places;
    # and 0.6, ends at 0.1, where F has nothing. C: the second component ends at 0.3.
    p = np.array([[0.9, 0.2, 0.7, 0.05, 0.0]])
    target = np.array([[0.8, 0.3, 0.5, 0.1, 0.6]])
    result = match_betti(p, target, dimensions=[0])
    pairs = {
        (
            int(result.prediction.birth[a]),
            int(result.prediction.death[a]),
            int(result.target.birth[b]),
            int(result.target.death[b]),
        )
        for a, b in result.matched
    }
    assert pairs == {(0, -1, 0, -1), (2, 1, 2, 1)}
    assert sorted(result.target.birth.tolist()) == [0, 2, 4]


def test_what_comes_into_the_prediction_after_its_end_in_both_is_not_matched():
    # The bar of F at 0.4 is born after the target has joined both places at 0.5.
    p = np.array([[0.9, 0.1, 0.4]])
    target = np.array([[0.8, 0.5, 0.7]])
    result = match_betti(p, target, dimensions=[0])
    assert len(result.prediction.birth) == len(result.target.birth) == 2
    assert len(result.matched) == 1


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_the_clamp_raises_the_prediction_alone(connectivity):
    rng = np.random.default_rng(3)
    p, target = rng.random((4, 5, 6)), rng.random((4, 5, 6))
    result = match_betti(p, target, connectivity=connectivity, clamp=0.4)
    raised = match_betti(np.maximum(p, 0.4), target, connectivity=connectivity)
    np.testing.assert_array_equal(result.matched, raised.matched)
    assert len(result.target.birth) == len(
        persistence_pairs(target, connectivity=connectivity).birth
    )


def test_targets_that_are_no_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"target must hold probabilities in \[0, 1\]"):
        match_betti(np.zeros((4, 5)), np.full((4, 5), 2))
    with pytest.raises(ValueError, match="NaN or infinite"):
        match_betti(np.zeros((4, 5)), np.full((4, 5), np.nan))
