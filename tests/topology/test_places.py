import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_topo.topology import betti_numbers, persistence_pairs
from nnunet_topo.topology.matching import match_spatially
from nnunet_topo.topology.places import ANCHORED, APART, INSIDE, Places, find_places

from ..shapes import ring, shell

CONNECTIVITIES = ["full", "face"]


def random_mask(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(2, 9, size=rng.integers(2, 4))
    return rng.random(shape) < rng.uniform(0.1, 0.9)


def located(probability, mask, connectivity="full"):
    """Returns the bars of a probability, with the place and the fit of each."""
    pairs = persistence_pairs(probability, connectivity=connectivity)
    place, fit = find_places(mask, connectivity).locate(pairs, pairs.death >= 0)
    return pairs, place, fit


@given(st.integers(0, 2**32 - 1), st.sampled_from(CONNECTIVITIES))
def test_structures_have_as_many_bars_as_the_betti_numbers_say(seed, connectivity):
    mask = random_mask(seed)
    places = find_places(mask, connectivity)
    assert places.betti == betti_numbers(mask, connectivity=connectivity)
    assert tuple(int(capacity.sum()) for capacity in places.capacity) == places.betti
    assert all(capacity[0] == 0 for capacity in places.capacity)
    assert all(capacity.dtype == np.int64 for capacity in places.capacity)
    components, enclosed = places.betti[0], places.betti[-1]
    lengths = (components, enclosed) if mask.ndim == 2 else (components, components, enclosed)
    assert [len(capacity) - 1 for capacity in places.capacity] == list(lengths)
    if mask.any():
        assert places.components is not None
        assert places.holes is not None
        assert places.components.dtype == places.holes.dtype == np.int32


@given(st.integers(0, 2**32 - 1), st.sampled_from(CONNECTIVITIES))
def test_each_bar_of_the_target_fills_its_own_place(seed, connectivity):
    mask = random_mask(seed)
    pairs, place, fit = located(mask.astype(np.float32), mask, connectivity)
    if not mask.any():
        return
    places = find_places(mask, connectivity)
    own = mask.ravel()[pairs.birth]  # not the essential bar of an empty mask
    assert (fit[own] == INSIDE).all()
    for k, capacity in enumerate(places.capacity):
        found = np.bincount(place[own & (pairs.dimension == k)], minlength=len(capacity))
        assert found.tolist() == capacity.tolist()


def test_two_rings_and_their_holes_have_a_number_each():
    mask = np.zeros((12, 25), bool)
    mask[:, :12] |= ring((12, 12), 4.0, 0.7)
    mask[:, 13:] |= ring((12, 12), 4.0, 0.7)
    places = find_places(mask, "full")
    assert places.betti == (2, 2)
    assert places.holes is not None
    assert {places.holes[6, 6], places.holes[6, 19]} == {1, 2}
    assert places.holes[0, 0] == places.holes[2, 12] == 0


def test_loops_are_counted_by_component():
    mask = np.zeros((5, 9, 16), bool)
    mask[2, 2:7, 2:7] = True
    mask[2, 3:6, 3:6] = False
    mask[2, 2:7, 10:13] = True
    places = find_places(mask, "full")
    assert places.betti == (2, 1, 0)
    assert places.components is not None
    assert places.capacity[1][places.components[2, 2, 2]] == 1
    assert places.capacity[1].sum() == 1
    swapped = find_places(mask[..., ::-1], "full")  # now the second component has the loop
    assert swapped.capacity[1].tolist() == [0, 0, 1]


def test_nothing_has_no_places():
    for shape in ((3, 4), (3, 4, 5)):
        places = find_places(np.zeros(shape, bool), "full")
        assert places.betti == (0,) * len(shape)
        assert [capacity.tolist() for capacity in places.capacity] == [[0]] * len(shape)
        assert {capacity.dtype for capacity in places.capacity} == {np.dtype(np.int64)}
    place, fit = Places.empty(2).locate(
        persistence_pairs(np.random.default_rng(0).random((4, 5))), np.zeros(1, bool)
    )
    assert place.dtype == np.int64
    assert not place.any()
    assert (fit == APART).all()


def by_definition(places, dimension, birth, death):
    """Returns place and fit of a bar as `Places.locate` defines them; death is None if unknown."""
    components, holes, top = places.components, places.holes, places.components.ndim - 1
    born = components[birth] > 0
    ends_outside = death is None or components[death] == 0
    place, is_anchored = int(components[birth]), False
    if dimension == top:
        place = int(holes[death])
        is_anchored = place > 0
    elif dimension == 1 and places.betti[1] and not born and ends_outside:
        around = components[tuple(slice(max(i - 1, 0), i + 2) for i in birth)]
        beside = set(around.ravel().tolist()) - {0}
        place = beside.pop() if len(beside) == 1 else 0
        is_anchored = place > 0
    return place, INSIDE if born and ends_outside else ANCHORED if is_anchored else APART


@given(st.integers(0, 2**32 - 1), st.sampled_from(CONNECTIVITIES))
def test_bars_lie_where_they_are_born_or_filled_or_beside(seed, connectivity):
    mask = random_mask(seed)
    if not mask.any():
        return
    places = find_places(mask, connectivity)
    noise = np.random.default_rng(seed).random(mask.shape)
    pairs, place, fit = located(noise, mask, connectivity)
    for bar, (k, birth, death) in enumerate(
        zip(pairs.dimension, pairs.birth, pairs.death, strict=True)
    ):
        end = None if death < 0 else np.unravel_index(death, mask.shape)
        expected = by_definition(places, k, np.unravel_index(birth, mask.shape), end)
        assert (place[bar], fit[bar]) == expected


def square(ndim, first, end):
    """Returns the outline of a square, in the middle slice of a volume."""
    mask = np.zeros((9, 10), bool)
    mask[first:end, first:end] = True
    mask[first + 1 : end - 1, first + 1 : end - 1] = False
    return mask if ndim == 2 else np.stack([mask & False, mask, mask & False])


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_ring_beside_the_true_one_is_anchored(ndim):
    mask, beside = square(ndim, 2, 7), square(ndim, 1, 8)
    probability = np.where(beside, 0.9, 0.1)
    probability[mask] = 0.2
    weakest, middle = ((1, 3), (4, 4)) if ndim == 2 else ((1, 1, 3), (1, 4, 4))
    probability[weakest], probability[middle] = 0.4, 0.05
    pairs, place, fit = located(probability, mask)
    loop = (pairs.dimension == 1) & (pairs.birth == np.ravel_multi_index(weakest, mask.shape))
    assert place[loop].tolist() == [1]
    assert fit[loop].tolist() == [ANCHORED]


def test_a_cavity_is_anchored_by_the_voxel_that_fills_it():
    mask, beside = shell(radius=3), shell(radius=4)
    probability = np.where(beside & ~mask, 0.9, np.where(mask, 0.3, 0.1))
    probability[5, 6, 7] = 0.05
    pairs, place, fit = located(probability, mask)
    cavity = pairs.death == np.ravel_multi_index((5, 6, 7), mask.shape)
    assert pairs.dimension[cavity].tolist() == [2]
    assert place[cavity].tolist() == [1]
    assert fit[cavity].tolist() == [ANCHORED]


def test_a_loop_beside_two_components_or_none_is_apart():
    loop = square(3, 1, 8)
    probability = np.where(loop, 0.9, 0.1)
    probability[1, 1, 3] = 0.4
    for neighbours, expected in (([], APART), ([2], ANCHORED), ([2, 4], APART)):
        mask = square(3, 3, 6)
        mask[:, :2] = False
        mask[1, 0, neighbours] = True  # components of one voxel beside the birth
        target = np.pad(mask, ((0, 0), (0, 0), (0, 9)))
        target[..., 10:] |= square(3, 2, 7)[..., :9]  # so that the target has a second loop
        p = np.pad(probability, ((0, 0), (0, 0), (0, 9)), constant_values=0.0)
        pairs, _, fit = located(p, target)
        born = pairs.birth == np.ravel_multi_index((1, 1, 3), target.shape)
        assert fit[born & (pairs.dimension == 1)].tolist() == [expected]


def test_each_structure_takes_one_bar_before_any_takes_a_second():
    birth, death = np.array([0.9, 0.8, 0.4]), np.array([0.0, 0.1, 0.1])
    place, fit = np.array([1, 1, 2]), np.array([INSIDE, INSIDE, INSIDE])
    capacity = np.array([0, 1, 1])
    assert match_spatially(birth, death, 2, fit, place, capacity).tolist() == [True, False, True]
    # Without a bar at the second structure, its bar takes the other half.
    assert match_spatially(birth[:2], death[:2], 2, fit[:2], place[:2], capacity).all()


def test_bars_inside_come_before_longer_ones_that_are_only_anchored():
    birth, death = np.array([0.9, 0.3]), np.array([0.0, 0.1])
    place, capacity = np.array([1, 1]), np.array([0, 1])
    taken = match_spatially(birth, death, 1, np.array([ANCHORED, INSIDE]), place, capacity)
    assert taken.tolist() == [False, True]
    alone = match_spatially(birth[:1], death[:1], 1, np.array([ANCHORED]), place[:1], capacity)
    assert alone.all()
    apart = match_spatially(birth[:1], death[:1], 1, np.array([APART]), place[:1], capacity)
    assert not apart.any()


def test_longer_bars_come_first_at_a_place_and_among_the_rest():
    birth, death = np.array([0.9, 0.8, 0.3]), np.array([0.8, 0.2, 0.2])
    fit, capacity = np.full(3, INSIDE), np.array([0, 1])
    for place in (1, 0):
        taken = match_spatially(birth, death, 1, fit, np.full(3, place), capacity)
        assert taken.tolist() == [False, True, False]
