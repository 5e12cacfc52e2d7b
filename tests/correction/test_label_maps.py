"""Label maps in which several structures get their wanted topology."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nnunet_topo.correction.label_map import NEIGHBOURS, NO_TRACE, correct_label_map
from nnunet_topo.correction.structures import Moves, Structure, strongest_first
from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.betti_range import BettiPrior

from .maps import disk

SOLID = BettiPrior.of((1, 0))


def label(value, prior=None, name=None):
    return Structure(name or f"label {value}", (value,), prior)


def scored(label_map, number, certain=3.0):
    """Returns scores that agree with a label map."""
    return {
        (value,): np.where(label_map == value, certain, -certain) for value in range(number + 1)
    }


def random_labels(seed, shape=(20, 22), number=3):
    random = np.random.default_rng(seed)
    logits = [ndimage.gaussian_filter(random.normal(size=shape), 1.5) for _ in range(number + 1)]
    scores = {
        (value,): logits[value] - np.max(logits[:value] + logits[value + 1 :], axis=0)
        for value in range(number + 1)
    }
    return np.argmax(logits, axis=0).astype(np.int32), scores


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), alone=st.booleans())
def test_no_structure_gets_worse_and_what_is_called_right_is_right(seed, alone):
    label_map, scores = random_labels(seed)
    structures = [label(1, SOLID), label(2, BettiPrior.of((2, 0))), label(3)]
    found = correct_label_map(label_map, structures, scores=None if alone else scores)
    assert np.isin(found.label_map, [0, 1, 2, 3]).all()
    assert found.voxels_changed == np.count_nonzero(found.label_map != label_map)
    for row, structure in zip(found.structures, structures, strict=False):
        before, after = (structure.mask(m) for m in (label_map, found.label_map))
        assert row.before == list(betti_numbers(before))
        assert row.after == list(betti_numbers(after))
        assert row.is_right == structure.prior.allows(row.after)
        assert structure.prior.error(row.after) <= structure.prior.error(row.before)
        assert bool(row.note) == (not row.is_right)
    lost, gained = (
        np.any((m == 3) & (o != 3))
        for m, o in ((label_map, found.label_map), (found.label_map, label_map))
    )
    if lost and not gained:
        assert betti_numbers(label_map == 3) == betti_numbers(found.label_map == 3)


def test_a_label_map_that_is_right_is_returned_as_it_is():
    label_map = np.zeros((12, 13), np.int32)
    label_map[2:6, 3:9], label_map[7:10, 4:8] = 1, 2
    found = correct_label_map(label_map, [label(1, SOLID), label(2, SOLID)])
    assert found.label_map is label_map
    assert [row.voxels_changed for row in found.structures] == [0, 0]


def test_a_path_does_not_break_a_neighbour():
    label_map = np.zeros((13, 21), np.int32)
    label_map[5:8, 2:7] = label_map[5:8, 14:19] = 1
    label_map[1:12, 10] = 2  # a wall between the two
    structures = [label(1, SOLID), label(2, SOLID)]
    scores = scored(label_map, 2)
    scores[(1,)][6, 7:14] = -0.1  # the cheapest path leads through the wall
    found = correct_label_map(label_map, structures, scores=scores)
    assert [row.is_right for row in found.structures] == [True, True]
    assert betti_numbers(found.label_map == 2) == (1, 0)


def test_a_neighbour_without_a_prior_is_not_broken_either():
    label_map = np.zeros((13, 21), np.int32)
    label_map[5:8, 2:7] = label_map[5:8, 14:19] = 1
    label_map[:, 10] = 2  # from border to border: no way around
    scores = scored(label_map, 2)
    scores[(1,)][label_map == 1] = 50  # too certain to be removed
    scores[(1,)][6, 7:14] = -0.1
    found = correct_label_map(label_map, [label(1, SOLID), label(2)], scores=scores)
    assert betti_numbers(found.label_map == 2) == (1, 0)
    assert found.structures[0].is_right  # the other half goes, at a higher cost
    assert found.structures[0].voxels_changed == 15


def test_what_only_a_neighbour_could_give_is_left_and_named():
    label_map = np.full((7, 9), 2, np.int32)
    label_map[3, 2] = label_map[3, 6] = 1  # two holes of label 2, which are wanted
    both = Structure("both", (1, 2))
    found = correct_label_map(label_map, [label(1, SOLID), label(2, BettiPrior.of((1, 2))), both])
    row = next(row for row in found.structures if row.name == "label 1")
    assert (row.is_right, row.note, found.voxels_changed) == (False, NEIGHBOURS, 0)


def test_an_island_goes_to_the_label_that_is_likely_there():
    label_map = np.zeros((15, 25), np.int32)
    label_map[3:12, 2:8], label_map[2:13, 11:23] = 1, 2
    label_map[7, 17] = 1
    for scores in (None, scored(label_map, 2)):
        if scores is not None:
            scores[(2,)][7, 17] = -0.5
        structures = [label(1, SOLID), label(2, SOLID)]
        found = correct_label_map(label_map, structures, scores=scores)
        assert found.label_map[7, 17] == 2
        assert found.voxels_changed == 1
        assert all(row.is_right for row in found.structures)


def test_a_missing_label_is_made_by_probabilities_and_named_without():
    label_map = np.zeros((9, 10), np.int32)
    found = correct_label_map(label_map, [label(1, SOLID)])
    assert found.structures[0].note == NO_TRACE
    assert found.voxels_changed == 0
    scores = scored(label_map, 1)
    scores[(1,)][4, 6] = -0.5
    found = correct_label_map(label_map, [label(1, SOLID)], scores=scores)
    assert np.argwhere(found.label_map == 1).tolist() == [[4, 6]]
    assert found.structures[0].largest_change_mm == np.inf


def test_ignored_voxels_stay():
    label_map = np.zeros((9, 15), np.int32)
    label_map[4, 1:4] = label_map[4, 10:14] = 1
    label_map[:, 7] = 9
    found = correct_label_map(label_map, [label(1, SOLID)], ignore=9)
    assert (found.label_map[:, 7] == 9).all()
    assert found.structures[0].is_right


def test_the_largest_change_is_in_mm_along_each_axis():
    label_map = np.zeros((12, 30), np.int32)
    label_map[3:9, 3:9] = 1
    along_x, along_y = label_map.copy(), label_map.copy()
    along_x[5, 9:13] = 0
    along_x[5, 12] = 1  # an island of one voxel
    scores = scored(along_x, 1, certain=9.0)
    scores[(1,)][5, 9:12] = -0.01  # it is joined over three voxels
    found = correct_label_map(along_x, [label(1, SOLID)], scores=scores, spacing_mm=(2.0, 0.5))
    assert found.voxels_changed == 3
    assert found.structures[0].largest_change_mm == pytest.approx(2 * 0.5)
    along_y[11, 5] = 1
    scores = scored(along_y, 1, certain=9.0)
    scores[(1,)][9:11, 5] = -0.01
    found = correct_label_map(along_y, [label(1, SOLID)], scores=scores, spacing_mm=(2.0, 0.5))
    assert found.voxels_changed == 2
    assert found.structures[0].largest_change_mm == pytest.approx(2.0)


def test_a_union_is_joined_by_its_labels():
    label_map = np.zeros((10, 20), np.int32)
    label_map[3:7, 2:8], label_map[3:7, 10:17] = 1, 2
    structures = [
        label(1, SOLID),
        label(2, SOLID),
        Structure("both", (1, 2), SOLID),
    ]
    scores = scored(label_map, 2)
    scores[(1, 2)] = np.where(label_map > 0, 3.0, -0.5)
    for given_scores in (None, scores):
        found = correct_label_map(label_map, structures, scores=given_scores)
        assert all(row.is_right for row in found.structures)
        assert [row.name for row in found.structures][-1] == "both"
        assert found.voxels_changed == 2


def test_nested_regions_stay_nested():
    label_map = np.zeros((24, 26), np.int32)
    label_map[disk(label_map.shape, (12, 12), 9)] = 1
    label_map[disk(label_map.shape, (12, 12), 5)] = 2
    label_map[1, 24] = 2  # an island of both regions
    label_map[12, 12] = 0  # a hole of both
    structures = [Structure("outer", (1, 2), SOLID), Structure("inner", (2,), SOLID)]
    found = correct_label_map(label_map, structures, nested=True)
    assert [row.name for row in found.structures] == ["outer", "inner"]
    assert all(row.is_right for row in found.structures)
    assert found.voxels_changed == 2
    assert found.label_map[1, 24] == 0


def test_the_strongest_prior_comes_first_and_unions_after_labels():
    structures = [
        label(1, BettiPrior.of(((1, 2), None))),
        Structure("union", (1, 2), SOLID),
        label(2, SOLID),
        label(3, BettiPrior.of((None, None))),
    ]
    order = [s.name for s in strongest_first(structures, nested=False)]
    assert order == ["label 2", "label 1", "union"]
    assert strongest_first(structures, nested=True)[0].name == "union"


def test_a_voxel_becomes_what_disturbs_fewest_structures():
    outer, inner = Structure("outer", (1, 2)), Structure("inner", (2,))
    into = Moves.of(inner, [outer], {0, 1, 2})
    assert into.choices[2][0] == 1  # it leaves the inner one and stays in the outer one
    assert into.choices[1][0] == 2
    assert into.locked == [0]
