"""Masks with exactly the wanted Betti numbers."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_topo.correction.field import Field, complement, without_margin
from nnunet_topo.correction.mask import correct_mask
from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.topology.homotopic import approach
from nnunet_topo.topology.masks import label_components

from .maps import CONNECTIVITIES, all_masks, disk, image, random_map, torus

IMAGES = [(1, 0), (1, 1), (2, 0), (1, 2), (2, 1), (3, 2), (0, 0)]
VOLUMES = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]


def check(found, probability, prior, connectivity):
    """Checks what every correction must keep."""
    mask = probability if probability.dtype == bool else probability > 0.5
    counted = betti_numbers(found.mask, connectivity=connectivity)
    assert found.betti_after == counted
    assert found.is_right == BettiPrior.of(prior).allows(counted)
    assert found.voxels_changed == np.count_nonzero(found.mask != mask)
    if not found.is_right:
        assert (found.mask == mask).all()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    prior=st.sampled_from(IMAGES),
    connectivity=st.sampled_from(CONNECTIVITIES),
    is_mask=st.booleans(),
)
def test_images_get_exactly_the_wanted_numbers(seed, prior, connectivity, is_mask):
    probability = random_map(seed, (19, 22))
    probability = probability > 0.5 if is_mask else probability
    found = correct_mask(probability, prior, connectivity=connectivity)
    check(found, probability, prior, connectivity)
    assert found.is_right


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    prior=st.sampled_from(VOLUMES),
    connectivity=st.sampled_from(CONNECTIVITIES),
    is_mask=st.booleans(),
)
def test_volumes_get_exactly_the_wanted_numbers(seed, prior, connectivity, is_mask):
    probability = random_map(seed, (9, 11, 10))
    probability = probability > 0.5 if is_mask else probability
    found = correct_mask(probability, prior, connectivity=connectivity)
    check(found, probability, prior, connectivity)
    assert found.is_right


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("prior", [(1, 0), (2, 0), (1, 1)])
def test_no_mask_costs_less_than_the_best_of_all_and_most_cost_as_little(prior, connectivity):
    shape, random = (3, 5), np.random.default_rng(3)
    masks = all_masks(shape)
    betti = [betti_numbers(m.reshape(shape), connectivity=connectivity) for m in masks]
    right = masks[(np.array(betti) == prior).all(axis=1)]
    ratios = []
    for _ in range(40):
        score = 2 * random.normal(size=shape)
        least = ((right != (score.ravel() > 0)) @ np.abs(score.ravel())).min()
        found = correct_mask(1 / (1 + np.exp(-score)), prior, connectivity=connectivity)
        assert found.is_right
        assert found.cost >= least - 1e-9
        if least:
            ratios.append(found.cost / least)
    assert np.median(ratios) == pytest.approx(1)


def test_the_cost_is_the_sum_of_the_absolute_logits():
    probability = image(disk((20, 20), (8, 8), 5))
    probability[17, 17] = 0.8
    found = correct_mask(probability, (1, 0))
    assert found.voxels_changed == 1
    assert found.cost == pytest.approx(np.log(0.8 / 0.2))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(14, 17), (8, 9, 10)])
def test_a_mask_that_is_right_is_not_changed(shape, connectivity):
    probability = random_map(5, shape)
    prior = betti_numbers(probability > 0.5, connectivity=connectivity)
    found = correct_mask(probability, prior, connectivity=connectivity)
    assert found.voxels_changed == found.cost == 0
    assert (found.mask == (probability > 0.5)).all()


@pytest.mark.parametrize("size", [1, 3])
def test_a_small_island_is_removed_and_a_large_one_joined(size):
    shape = (24 * size, 40 * size)
    mask = disk(shape, (12 * size, 10 * size), 7 * size)
    small = mask.copy()
    small[12 * size, 30 * size] = True
    large = mask | disk(shape, (12 * size, 27 * size), 8 * size)
    assert (correct_mask(image(small), (1, 0)).mask == mask).all()
    joined = correct_mask(image(large), (1, 0)).mask
    assert (joined | large == joined).all()
    assert np.count_nonzero(joined & ~large) == 2 * size - 1


def test_no_change_can_be_taken_back():
    for seed in range(6):
        probability = random_map(seed, (70, 74), sigma=2.0)
        mask = probability > 0.5
        found = correct_mask(probability, (1, 0))
        assert found.is_right
        again = approach(found.mask, mask, np.ones(mask.shape), connectivity="full")
        assert (again == found.mask).all()


def test_a_small_hole_is_filled_and_a_large_one_opened_at_its_thinnest():
    small = disk((24, 24), (12, 12), 8)
    filled = small.copy()
    small[12, 12] = False
    assert (correct_mask(image(small), (1, 0)).mask == filled).all()
    large = disk((24, 24), (12, 12), 9) & ~disk((24, 24), (12, 13), 7)
    opened = correct_mask(image(large), (1, 0)).mask
    assert not (opened & ~large).any()
    assert np.count_nonzero(large & ~opened) == 1


def test_a_broken_ring_closes_at_its_gap():
    mask = disk((26, 26), (13, 13), 10) & ~disk((26, 26), (13, 13), 6)
    probability = image(mask, 0.99, 0.01)
    gap = mask & (np.indices(mask.shape)[1] > 13) & (abs(np.indices(mask.shape)[0] - 13) < 2)
    probability[gap] = 0.3
    for of in (probability, probability > 0.5):
        found = correct_mask(of, (1, 1))
        assert found.is_right
        made = np.argwhere(found.mask & ~(probability > 0.5))
        assert len(made) == 3
        assert gap[tuple(made.T)].all()
        assert not ((probability > 0.5) & ~found.mask).any()


def test_a_missing_component_is_made_where_the_longest_bar_says():
    probability = image(disk((20, 30), (10, 8), 5))
    probability[4, 24], probability[15, 24] = 0.2, 0.4
    found = correct_mask(probability, (2, 0))
    assert np.argwhere(found.mask & ~(probability > 0.5)).tolist() == [[15, 24]]


def test_two_blobs_that_a_weak_bridge_joins_are_cut_there():
    mask = disk((21, 36), (10, 9), 7) | disk((21, 36), (10, 26), 7)
    probability = image(mask, 0.99, 0.01)
    probability[10, 17:19] = 0.6
    found = correct_mask(probability, (2, 0))
    assert found.is_right
    assert {x for _, x in np.argwhere(found.mask != (probability > 0.5)).tolist()} <= {17, 18}


def test_an_empty_prediction_becomes_a_component_at_its_maximum():
    for shape in ((8, 9), (6, 7, 8)):
        probability = np.full(shape, 0.01)
        probability[(3,) * len(shape)] = 0.3
        found = correct_mask(probability, (1, *(0,) * (len(shape) - 1)))
        assert np.argwhere(found.mask).tolist() == [[3] * len(shape)]


def test_a_ball_with_a_handle_loses_it_the_cheaper_way():
    ball = disk((20, 30, 20), (10, 10, 10), 7)
    wire = ball.copy()
    wire[10, 16:24, 6] = wire[10, 16:24, 14] = wire[10, 23, 6:15] = True
    cut = correct_mask(image(wire), (1, 0, 0))
    assert cut.betti_before == (1, 1, 0)
    assert cut.voxels_changed == 1
    assert not (cut.mask & ~wire).any()
    drilled = ball.copy()
    drilled[:, 10, 10] = False
    filled = correct_mask(image(drilled), (1, 0, 0))
    assert filled.betti_before == (1, 1, 0)
    assert filled.voxels_changed == 1
    assert not (drilled & ~filled.mask).any()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_of_two_loops_the_ring_stays_and_the_small_handle_goes(connectivity):
    mask = torus()
    mask[4, 3:6, 13] = True
    mask[4, 4, 13] = False
    mask[4, 2, 12:15] = mask[4, 1:5, 12] = mask[4, 1:5, 14] = True
    mask[4, 1, 12:15] = True
    mask[4, 3, 13] = False
    before = betti_numbers(mask, connectivity=connectivity)
    found = correct_mask(image(mask), (1, 1, 0), connectivity=connectivity)
    assert before[1] > 1 or before == (1, 1, 0)
    assert found.is_right
    assert found.voxels_changed <= 3
    assert (found.mask == torus())[4, 8:].all()


def test_a_broken_ring_of_a_volume_closes():
    mask = torus()
    probability = image(mask, 0.98, 0.02)
    probability[:, 10:15, 18:24] = np.where(mask[:, 10:15, 18:24], 0.4, 0.02)
    assert betti_numbers(probability > 0.5) == (1, 0, 0)
    found = correct_mask(probability, (1, 1, 0))
    assert found.is_right
    made = np.argwhere(found.mask != (probability > 0.5))
    assert len(made) <= 12
    assert mask[tuple(made.T)].all()


def test_a_cavity_is_filled_or_made():
    ball = disk((15, 16, 17), (7, 7, 8), 6)
    hollow = ball.copy()
    hollow[7, 7, 8] = False
    assert (correct_mask(image(hollow), (1, 0, 0)).mask == ball).all()
    made = correct_mask(image(ball), (1, 0, 1))
    assert made.is_right
    assert made.voxels_changed == 1


def test_a_range_is_reached_at_its_nearer_end():
    mask = np.zeros((9, 40), bool)
    mask[4, 2::6] = True
    components = betti_numbers(mask)[0]
    found = correct_mask(image(mask), ((1, 4), 0))
    assert found.betti_after == (4, 0)
    assert found.voxels_changed <= components - 4
    assert correct_mask(image(mask), ((components, np.inf), 0)).voxels_changed == 0
    assert correct_mask(image(mask), ((9, 12), 0)).betti_after == (9, 0)


def test_a_prior_that_the_image_has_no_room_for_is_not_reached():
    probability = random_map(1, (4, 4))
    found = correct_mask(probability, (1, 5))
    assert not found.is_right
    assert (found.mask == (probability > 0.5)).all()
    assert found.betti_after == found.betti_before


@pytest.mark.parametrize(
    ("shape", "prior", "connectivity"),
    [((4, 4), (2, 1), "full"), ((4, 4), (1, 2), "full"), ((3, 5), (2, 1), "face")],
)
def test_a_prior_that_fills_a_tiny_image_is_reached(shape, prior, connectivity):
    for seed in range(8):
        probability = random_map(seed, shape, sigma=0.5)
        found = correct_mask(probability, prior, connectivity=connectivity)
        check(found, probability, prior, connectivity)
        assert found.is_right


def test_locked_voxels_stay():
    for seed, shape in product(range(6), [(16, 17), (8, 9, 8)]):
        probability = random_map(seed, shape, sigma=1.0)
        locked = random_map(seed + 100, shape) > 0.6
        prior = (1, *(0,) * (len(shape) - 1))
        found = correct_mask(probability, prior, locked=locked)
        assert not ((found.mask != (probability > 0.5)) & locked).any()
        check(found, probability, prior, "full")


def test_what_is_not_a_probability_or_a_prior_is_refused():
    with pytest.raises(ValueError, match="probabilities from 0 to 1"):
        correct_mask(np.array([[0.0, 1.5]]), (1, 0))
    with pytest.raises(ValueError, match="2D or 3D"):
        correct_mask(np.zeros(3), (1, 0))
    with pytest.raises(ValueError, match="prior must have 2 numbers"):
        correct_mask(np.zeros((3, 3)), (1, 0, 0))
    with pytest.raises(ValueError, match="connectivity"):
        correct_mask(np.zeros((3, 3)), (1, 0), connectivity="half")


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(9, 11), (6, 7, 8)])
def test_components_of_the_complement_are_the_outside_and_what_is_enclosed(shape, connectivity):
    score = np.random.default_rng(4).normal(size=shape)
    field = Field(score, np.abs(score), connectivity)
    outside = field.complement()
    assert (outside.mask == complement(field.mask)).all()
    assert (without_margin(outside.mask) == field.mask).all()
    number = label_components(outside.mask, outside.connectivity)[1]
    assert number - 1 == betti_numbers(field.mask, connectivity=connectivity)[-1]
