import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from nnunet_topo.topology import betti_numbers, euler_characteristic
from nnunet_topo.topology.betti import corner_codes
from nnunet_topo.topology.masks import foreground_box, label_components

from ..shapes import ball, corner_neighbours, ring, shell, two_blobs

KNOWN = {
    "empty image": (np.zeros((4, 5), bool), (0, 0)),
    "full image": (np.ones((4, 5, 6), bool), (1, 0, 0)),
    "one voxel": (np.ones((1, 1, 1), bool), (1, 0, 0)),
    "disc": (ball((9, 12), (4, 5), 3), (1, 0)),
    "ring": (ring(), (1, 1)),
    "ring that touches the border": (ring((11, 14), 5.0), (1, 1)),
    "two discs": (two_blobs((9, 14)), (2, 0)),
    "ball": (ball((9, 10, 12), (4, 5, 5), 3), (1, 0, 0)),
    "torus": (ring((9, 15, 17), 5.0, 1.6), (1, 1, 0)),
    "shell": (shell(), (1, 0, 1)),
    "two balls": (two_blobs(), (2, 0, 0)),
}
masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, max_side=6))


@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize("name", KNOWN)
def test_known_shapes_have_their_betti_numbers(name, connectivity):
    mask, expected = KNOWN[name]
    assert betti_numbers(mask, connectivity=connectivity) == expected


@pytest.mark.parametrize("ndim", [2, 3])
def test_voxels_that_touch_at_a_corner_are_one_component_only_at_full_connectivity(ndim):
    mask = corner_neighbours(ndim)
    assert betti_numbers(mask, connectivity="full")[0] == 1
    assert betti_numbers(mask, connectivity="face")[0] == 2


def test_a_diagonal_ring_encloses_its_centre_only_at_full_connectivity():
    diamond = np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0]], bool)
    assert betti_numbers(diamond, connectivity="full") == (1, 1)
    assert betti_numbers(diamond, connectivity="face") == (4, 0)


@given(masks)
def test_the_euler_characteristic_is_the_alternating_sum(mask):
    for connectivity in ("full", "face"):
        betti = betti_numbers(mask, connectivity=connectivity)
        expected = sum((-1) ** k * number for k, number in enumerate(betti))
        assert euler_characteristic(mask, connectivity=connectivity) == expected


def test_voxels_are_closed_cubes_unless_told_otherwise():
    diagonal = corner_neighbours(3)
    assert euler_characteristic(diagonal) == betti_numbers(diagonal)[0] == 1


@given(masks)
def test_corner_codes_have_a_bit_for_each_voxel_around_a_corner(mask):
    expected = np.zeros([side + 1 for side in mask.shape], int)
    for voxel in np.argwhere(mask):
        for place in np.ndindex((2,) * mask.ndim):
            # The voxel lies at this place around the corner on its other side.
            bit = int("".join(map(str, place)), 2)
            expected[tuple(voxel + 1 - place)] |= 1 << bit
    codes = corner_codes(mask)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, expected)


def test_the_box_around_the_foreground_of_several_masks_is_the_smallest():
    first, second = np.zeros((2, 7, 8, 9), bool)
    assert foreground_box(first) == (slice(0, 0),) * 3
    first[2, 3, 4] = True
    assert foreground_box(first, second) == (slice(2, 3), slice(3, 4), slice(4, 5))
    second[1, 7, 0] = second[6, 7, 8] = True
    assert foreground_box(first, second) == (slice(1, 7), slice(3, 8), slice(0, 9))


@given(masks)
def test_betti_numbers_agree_with_gudhi(mask):
    from gudhi import CubicalComplex

    for connectivity, keyword in (("full", "top_dimensional_cells"), ("face", "vertices")):
        complex_ = CubicalComplex(**{keyword: 1.0 - mask})
        complex_.compute_persistence(homology_coeff_field=2)
        expected = [0] * mask.ndim
        if mask.any():  # bars [0, 1) and the essential class
            expected = complex_.persistent_betti_numbers(0, 0.5)[: mask.ndim]
        assert list(betti_numbers(mask, connectivity=connectivity)) == list(expected)


@given(masks, st.randoms())
def test_flips_and_permuted_axes_change_nothing(mask, random):
    axes = list(range(mask.ndim))
    random.shuffle(axes)
    moved = np.flip(mask.transpose(axes), axis=random.choice(axes))
    assert betti_numbers(moved) == betti_numbers(mask)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint64, "<f2", ">f2", ">f4", ">i2", ">f8"])
def test_masks_of_every_type_and_byte_order_that_touch_every_border(dtype):
    mask = np.zeros((4, 5, 6), bool)
    mask[0], mask[-1], mask[:, 0, 0], mask[:, -1, -1] = True, True, True, True  # two plates, joined
    for connectivity in ("full", "face"):
        assert betti_numbers(mask.astype(dtype), connectivity=connectivity) == (1, 1, 0)
        assert betti_numbers(mask.astype(dtype)[::-1, :, ::-1]) == (1, 1, 0)


@pytest.mark.parametrize(
    "laid_out",
    [
        np.ascontiguousarray,
        np.asfortranarray,
        lambda mask: np.repeat(mask, 2, axis=0)[::2],
        lambda mask: mask[::-1].copy()[::-1],
    ],
)
def test_components_are_those_of_scipy_in_any_memory_layout(laid_out):
    rng = np.random.default_rng(0)
    for _ in range(400):
        mask = rng.random(rng.integers(0, 12, rng.integers(2, 4))) < rng.random()
        for connectivity in ("full", "face"):
            reach = mask.ndim if connectivity == "full" else 1
            structure = ndimage.generate_binary_structure(mask.ndim, reach)
            expected, number = ndimage.label(mask, structure)
            labels, found = label_components(laid_out(mask), connectivity)
            assert found == number
            assert labels.shape == mask.shape
            np.testing.assert_array_equal(labels > 0, mask)
            pairs = np.unique(np.stack([labels[mask], expected[mask]]), axis=1)
            assert pairs.shape[1] == number  # each component of one is one of the other


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"2D or 3D, got shape \(3,\)"):
        betti_numbers(np.ones(3))
    with pytest.raises(ValueError, match="'full' or 'face', got '26'"):
        betti_numbers(np.ones((3, 4)), connectivity="26")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a mask must not contain NaN"):
        betti_numbers(np.array([[1, np.nan], [0, 1]]))
