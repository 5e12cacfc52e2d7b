"""Changes of masks along simple points, paths and watersheds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.homotopic import Paths, approach, keeps_topology, watershed_line

CONNECTIVITIES = ("full", "face")


def noise(seed, shape, sigma=1.0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)


def ring(shape=(9, 11)):
    mask = np.zeros(shape, bool)
    mask[1:-1, 1:-1] = True
    mask[3:-3, 3:-3] = False
    return mask


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(7, 9), (12, 5), (4, 6, 5), (3, 7, 4)]),
    connectivity=st.sampled_from(CONNECTIVITIES),
)
def test_a_mask_approaches_another_and_keeps_its_betti_numbers(seed, shape, connectivity):
    mask, wanted = noise(seed, shape) > 0, noise(seed + 1, shape) > 0
    urgency = np.abs(noise(seed + 2, shape))
    found = approach(mask, wanted, urgency, connectivity=connectivity)
    assert betti_numbers(found, connectivity=connectivity) == betti_numbers(
        mask, connectivity=connectivity
    )
    assert not ((found != mask) & (mask == wanted)).any()
    left = (found != wanted) & keeps_topology(found, connectivity=connectivity)
    assert not left.any()


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(4, 5), (3, 4, 3)]),
    connectivity=st.sampled_from(CONNECTIVITIES),
)
def test_voxels_keep_the_topology_exactly_where_a_flip_keeps_the_betti_numbers(
    seed, shape, connectivity
):
    mask = noise(seed, shape, 0.5) > 0
    keeps = keeps_topology(mask, connectivity=connectivity)
    before = betti_numbers(mask, connectivity=connectivity)
    for voxel in np.flatnonzero(keeps):
        flipped = mask.copy()
        flipped.flat[voxel] = not flipped.flat[voxel]
        assert betti_numbers(flipped, connectivity=connectivity) == before


def test_voxels_that_touch_at_a_corner_are_joined_only_at_full_connectivity():
    mask = np.zeros((3, 4), bool)
    mask[0, 0] = mask[1, 1] = True
    # without the first voxel, one component is left of one, or of two
    assert [bool(keeps_topology(mask, connectivity=c)[0, 0]) for c in CONNECTIVITIES] == [
        True,
        False,
    ]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_ring_grown_from_a_voxel_is_cut_where_it_is_lowest(connectivity):
    mask = ring()
    score = np.where(mask, 5.0, -5.0)
    score[1:3, 6] = 0.5
    seed = np.zeros_like(mask)
    seed[4, 1] = True
    grown = approach(seed, mask, np.abs(score), connectivity=connectivity)
    assert betti_numbers(grown, connectivity=connectivity) == (1, 0)
    left = np.argwhere(mask & ~grown)
    assert len(left)
    assert set(left[:, 1]) == {6}


def test_a_hull_shrinks_to_a_ring_with_a_lid():
    mask = np.zeros((5, 9, 9), bool)
    mask[2] = ring((9, 9))
    far = ndimage.distance_transform_edt(~mask)
    hull = approach(np.ones_like(mask), mask, far, connectivity="full")
    assert betti_numbers(hull) == (1, 0, 0)
    assert hull[mask].all()
    assert np.count_nonzero(hull & ~mask) == np.count_nonzero(~mask[2, 3:-3, 3:-3])


def test_the_cheapest_path_goes_around_and_is_found_again():
    groups = np.full((7, 9), -1, np.int32)
    groups[1:-1, 1:-1] = 0
    groups[3, 1], groups[3, 7] = 1, 2
    cost = np.ones(groups.shape)
    cost[2:5, 4] = 10
    paths = Paths(groups, cost, "face")
    source = np.flatnonzero(groups.ravel() == 1)
    for _ in range(2):
        path = paths.from_group(1, source)
        assert path.group == 2
        assert path.cost == pytest.approx(9, abs=1e-4)
        assert len(path.voxels) == 9
    assert paths.from_group(1, source, limit=8).group == 0


def test_a_path_at_full_connectivity_goes_along_diagonals():
    groups = np.full((7, 7), -1, np.int32)
    groups[1:-1, 1:-1] = 0
    groups[1, 1], groups[5, 5] = 1, 2
    path = Paths(groups, np.ones(groups.shape), "full").from_group(1, np.array([8]))
    assert len(path.voxels) == 3


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_watershed_line_parts_two_markers_at_the_lowest_voxels(connectivity):
    region = np.zeros((7, 15), bool)
    region[1:-1, 1:-1] = True
    height = np.abs(np.arange(15) - 9.0)[None] + np.zeros((7, 1))
    first, second = np.zeros_like(region), np.zeros_like(region)
    first[3, 2], second[3, 13] = True, True
    line = watershed_line(first, second, region, height, connectivity=connectivity)
    parts = region & ~line
    assert betti_numbers(parts, connectivity=connectivity)[0] == 2
    assert set(np.argwhere(line)[:, 1]) == {9}
