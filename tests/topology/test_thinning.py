import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter
from skimage.morphology import skeletonize

from nnunet_topo.metrics import compute
from nnunet_topo.metrics.skeleton import centerline
from nnunet_topo.topology import betti_numbers, is_simple, thin
from nnunet_topo.topology._thinning import _bits_where
from nnunet_topo.topology.masks import label_components
from nnunet_topo.topology.thinning import thin_by_lee

from ..shapes import ball, ring, shell, two_blobs

BOTH = pytest.mark.parametrize("connectivity", ["full", "face"])
masks = st.tuples(hnp.array_shapes(min_dims=2, max_dims=3, max_side=9), st.integers(0, 10**9)).map(
    lambda drawn: draw_mask(*drawn)
)


def draw_mask(shape, seed):
    """Returns noise, or blobs with rough surfaces, of any density."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(shape)
    if rng.random() < 0.5:
        noise = gaussian_filter(noise, rng.uniform(0.4, 1.5))
    return noise > np.quantile(noise, rng.random())


def block(shape, *sides):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def beam_and_tube():
    beam = block((10, 20, 56), (3, 7), (3, 7), (3, 53))
    return beam, block((10, 20, 56), (3, 6), (12, 15), (3, 53))


@BOTH
@given(masks)
def test_a_centre_line_is_part_of_its_mask_and_has_its_betti_numbers(connectivity, mask):
    for line in (
        thin(mask, connectivity=connectivity),
        centerline(mask, connectivity),
    ):
        assert not (line & ~mask).any()
        assert betti_numbers(line, connectivity=connectivity) == betti_numbers(
            mask, connectivity=connectivity
        )
        labels, number = label_components(mask, connectivity)
        assert len(np.unique(labels[line])) == number


@BOTH
@given(masks)
def test_a_voxel_is_simple_if_it_can_go_without_a_change_of_any_betti_number(connectivity, mask):
    simple = is_simple(mask, connectivity=connectivity)
    assert not (simple & ~mask).any()
    numbers = betti_numbers(mask, connectivity=connectivity)
    for voxel in np.argwhere(mask)[:40]:
        without = mask.copy()
        without[tuple(voxel)] = False
        same = betti_numbers(without, connectivity=connectivity) == numbers
        # They can also stay because one class goes and another one comes.
        assert same or not simple[tuple(voxel)]


@pytest.mark.parametrize("ndim", [2, 3])
@BOTH
def test_simple_voxels_of_all_small_neighbourhoods_are_those_of_the_betti_numbers(
    connectivity, ndim
):
    rng = np.random.default_rng(ndim)
    for number in range(512 if ndim == 2 else 300):
        around = (
            (number >> np.arange(9) & 1).reshape(3, 3) > 0
            if ndim == 2
            else rng.random((3, 3, 3)) < rng.random()
        )
        around[(1,) * ndim] = True
        simple = bool(is_simple(around, connectivity=connectivity)[(1,) * ndim])
        without = around.copy()
        without[(1,) * ndim] = False
        # In so small an image no class can go while another one comes.
        same = betti_numbers(around, connectivity=connectivity) == betti_numbers(
            without, connectivity=connectivity
        )
        assert simple == same


def test_the_26_neighbours_have_a_bit_each_in_the_order_of_memory():
    for bit, step in enumerate(np.ndindex(3, 3, 3)):
        place = tuple(i - 1 for i in step)
        assert _bits_where(lambda *other, place=place: other == place) == 1 << bit


@given(masks)
def test_lees_skeleton_is_that_of_scikit_image_voxel_by_voxel(mask):
    if mask.ndim == 2:
        mask = mask[None]
    skeleton, faults = thin_by_lee(mask, sides=4 if len(mask) == 1 else 6)
    np.testing.assert_array_equal(skeleton, skeletonize(mask, method="lee"))
    assert faults.shape[1] == 3
    assert faults.dtype == np.int64
    assert mask[tuple(faults.T)].all()
    assert not skeleton[tuple(faults.T)].any()
    if not len(faults):
        assert betti_numbers(skeleton) == betti_numbers(mask)


@pytest.mark.parametrize(
    "mask",
    [
        ring((21, 25), 7.0, 2.0),
        ball((15, 17, 19), (7, 8, 9), 5),
        ring((9, 15, 17), 5.0, 1.6),
        block((9, 11, 40), (3, 6), (4, 7), (2, 37)),
        two_blobs(),
    ],
)
def test_where_the_published_skeleton_keeps_topology_it_is_the_centre_line(mask):
    published = skeletonize(mask)  # Zhang's in an image, Lee's in a volume
    assert betti_numbers(published) == betti_numbers(mask)
    np.testing.assert_array_equal(centerline(mask, "full"), published)


def test_components_are_judged_one_by_one():
    kept = block((12, 12, 30), (2, 5), (2, 5), (2, 28))
    erased = block((12, 12, 30), (8, 10), (8, 10), (10, 14))
    published = skeletonize(kept | erased, method="lee")
    assert not published[erased].any()
    line = centerline(kept | erased, "full")
    np.testing.assert_array_equal(line & kept, published)
    assert betti_numbers(line & erased) == (1, 0, 0)


def test_an_image_is_thinned_by_zhang_and_suen_and_not_by_lee():
    mask = draw_mask((40, 50), 1)
    zhang, lee = (skeletonize(mask, method=method) for method in ("zhang", "lee"))
    labels, number = label_components(mask, "full")
    alike = [
        component
        for component in range(1, number + 1)
        if betti_numbers(zhang & (labels == component)) == betti_numbers(labels == component)
    ]
    judged = np.isin(labels, alike)
    assert (zhang[judged] != lee[judged]).any()
    np.testing.assert_array_equal(centerline(mask, "full")[judged], zhang[judged])


def test_a_beam_of_even_width_has_a_centre_line_as_long_as_it():
    beam, tube = beam_and_tube()
    assert not skeletonize(beam, method="lee").any()
    for axes in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        turned = np.transpose(beam, axes)
        line = thin(turned)
        assert betti_numbers(line) == (1, 0, 0)
        assert 44 <= line.sum() <= 50
    assert compute(tube, beam | tube)["topo_cldice"] == pytest.approx(2 / 3, abs=0.02)


def test_false_islands_of_two_voxels_width_cost_cldice():
    _, tube = beam_and_tube()
    islands = np.zeros_like(tube)
    for place in range(10):
        islands[8:10, 17:19, 3 + 5 * place : 5 + 5 * place] = True
    assert not skeletonize(islands, method="lee").any()
    assert compute(tube | islands, tube)["topo_cldice"] < 0.9


@BOTH
def test_voxels_near_the_background_go_first(connectivity):
    y, x = np.indices((40, 44))
    triangle = (y >= 3) & (x >= 3) & (2 * y + x <= 70)
    line = thin(triangle, connectivity=connectivity)
    # In the opposite order several hundred voxels stay, as the ends of curves.
    assert line.sum() < triangle.any(axis=0).sum() + triangle.any(axis=1).sum()


@BOTH
def test_the_centre_line_of_a_tube_is_its_axis(connectivity):
    tube = np.zeros((13, 15, 40), bool)
    tube[:, :, 3:37] = ball((13, 15), (6, 7), 4)[..., None]
    z, y, x = np.nonzero(thin(tube, connectivity=connectivity))
    assert set(zip(z, y, strict=True)) == {(6, 7)}
    assert x.tolist() == list(range(6, 34))


@BOTH
def test_ends_of_curves_stay_and_cavities_stay_closed(connectivity):
    line = block((5, 6, 20), (2, 3), (3, 4), (2, 12))
    np.testing.assert_array_equal(thin(line, connectivity=connectivity), line)
    hollow = shell()
    surface = thin(hollow, connectivity=connectivity)
    assert betti_numbers(surface, connectivity=connectivity) == (1, 0, 1)
    assert surface.sum() < hollow.sum()
    thick = block((14, 14, 40), (2, 11), (2, 11), (2, 38))
    assert 20 <= thin(thick, connectivity=connectivity).sum() <= 40


@BOTH
@given(masks)
def test_what_is_thin_stays_as_it_is(connectivity, mask):
    line = thin(mask, connectivity=connectivity)
    again = thin(line, connectivity=connectivity)
    assert (line & ~again).sum() <= 0.1 * line.sum()


def test_bad_masks_are_refused():
    for function in (thin, is_simple):
        with pytest.raises(ValueError, match=r"mask must be 2D or 3D, got shape \(3,\)"):
            function(np.ones(3))
        with pytest.raises(ValueError, match="connectivity must be 'full' or 'face', got '6'"):
            function(np.ones((3, 3)), connectivity="6")
        assert not function(np.zeros((0, 4, 5))).any()
        assert function(np.zeros((3, 4), np.uint8)).dtype == bool
