from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnunet_topo.topology import betti_numbers, persistence_pairs

from ..shapes import corner_neighbours, ring, shell, two_blobs

shapes = hnp.array_shapes(min_dims=2, max_dims=3, max_side=6)
# Few values, so ties and plateaus are common; distinct ones come from the seeds.
tied_images = hnp.arrays(np.float32, shapes, elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1]))
seeds = st.integers(0, 2**32 - 1)


def bars(image, dimension, **options):
    """Returns the sorted diagram of one dimension."""
    clamped = np.maximum(image, image.dtype.type(options.get("clamp", 0)))
    diagram = persistence_pairs(image, **options).diagram(clamped, dimension)
    return diagram[np.lexsort(diagram.T)]


def betti_at(image, level, connectivity):
    """Returns the number of bars alive in the superlevel set of a level, per dimension."""
    pairs = persistence_pairs(image, connectivity=connectivity)
    diagrams = [pairs.diagram(image, k) for k in range(image.ndim)]
    return tuple(int(((d[:, 0] >= level) & (d[:, 1] < level)).sum()) for d in diagrams)


@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize("mask", [ring(), ring((9, 15, 17), 5.0, 1.6), shell(), two_blobs()])
def test_a_binary_mask_has_a_bar_from_1_to_0_for_each_of_its_betti_numbers(mask, connectivity):
    pairs = persistence_pairs(mask, connectivity=connectivity)
    for k, number in enumerate(betti_numbers(mask, connectivity=connectivity)):
        assert pairs.diagram(mask, k).tolist() == [[1, 0]] * number


@given(tied_images)
def test_the_bars_alive_are_the_betti_numbers_of_each_superlevel_set(image):
    for connectivity in ("full", "face"):
        for level in (0.25, 0.5, 0.75, 1):
            expected = betti_numbers(image >= level, connectivity=connectivity)
            assert betti_at(image, level, connectivity) == expected


@given(shapes, seeds)
def test_births_and_deaths_are_those_of_betti_curves_where_values_are_distinct(shape, seed):
    image = np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape) + 1.0
    for level in np.random.default_rng(seed).choice(image.ravel(), 3):
        expected = betti_numbers(image >= level, connectivity="full")
        assert betti_at(image, level, "full") == expected


@pytest.mark.parametrize("connectivity", ["full", "face"])
def test_the_essential_class_is_born_at_the_maximum_and_has_no_death_voxel(connectivity):
    image = np.random.default_rng(0).random((4, 5, 7))
    pairs = persistence_pairs(image, connectivity=connectivity)
    essential = pairs.death == -1
    assert essential.sum() == 1
    assert pairs.dimension[essential] == 0
    assert pairs.birth[essential] == image.argmax()


def test_a_known_two_peak_image_names_its_voxels():
    image = np.array([[0.9, 0.1, 0.7], [0.0, 0.0, 0.0]])
    pairs = persistence_pairs(image, connectivity="face", dimensions=[0])
    named = set(zip(pairs.birth.tolist(), pairs.death.tolist(), strict=True))
    assert named == {(0, -1), (2, 1)}


@given(tied_images)
def test_a_subset_of_the_dimensions_has_their_bars(image):
    for k in range(image.ndim):
        pairs = persistence_pairs(image, dimensions=[k])
        assert set(pairs.dimension) <= {k}
        np.testing.assert_array_equal(bars(image, k, dimensions=[k]), bars(image, k))


def test_dimensions_may_come_from_a_generator():
    image = np.random.default_rng(0).random((6, 7))
    once: Any = (k for k in (0, 1))
    found = persistence_pairs(image, dimensions=once)
    np.testing.assert_array_equal(found.birth, persistence_pairs(image).birth)


@given(shapes, seeds)
def test_the_clamp_gives_the_diagram_of_the_raised_image(shape, seed):
    image = np.random.default_rng(seed).random(shape, dtype=np.float32)
    raised = np.maximum(image, np.float32(0.4))
    for k in range(image.ndim):
        np.testing.assert_array_equal(bars(image, k, clamp=0.4), bars(raised, k))


@given(tied_images, st.integers(1, 3))
def test_a_flat_background_changes_only_what_touched_the_border(image, margin):
    padded = np.pad(image, margin)
    for level in (0.25, 0.5, 0.75, 1):
        for connectivity in ("full", "face"):
            expected = betti_numbers(image >= level, connectivity=connectivity)
            assert betti_at(padded, level, connectivity) == expected


def test_connectivities_differ_where_voxels_touch_at_a_corner():
    image = corner_neighbours(3).astype(float)
    assert len(bars(image, 0, connectivity="full")) == 1
    assert len(bars(image, 0, connectivity="face")) == 2


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_every_real_type_and_every_stride_is_accepted(dtype):
    image = (np.random.default_rng(1).integers(0, 3, (5, 12, 7)) > 0).astype(dtype)
    strided = image[:, ::2]
    assert not strided.flags.c_contiguous
    for k in range(3):
        np.testing.assert_array_equal(bars(strided, k), bars(strided.copy(), k))


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (1, 1, 1), (1, 5, 7), (4, 1, 6), (3, 1, 1)])
def test_sides_of_one_are_images_too(shape):
    image = np.random.default_rng(2).random(shape)
    for connectivity in ("full", "face"):
        assert betti_at(image, image.max(), connectivity)[0] == 1


@pytest.mark.parametrize("connectivity", ["full", "face"])
def test_components_that_reach_the_same_maximum_name_a_voxel_each(connectivity):
    image = np.zeros((4, 5, 6), np.float32)
    image[1, 1, 1:3] = image[3, 3, 3] = image[1, 4, 5] = 1
    pairs = persistence_pairs(image, connectivity=connectivity, dimensions=(0,))
    named = {tuple(map(int, np.unravel_index(voxel, image.shape))) for voxel in pairs.birth}
    assert len(pairs.birth) == 3
    assert len(named & {(1, 1, 1), (1, 1, 2)}) == 1
    assert named >= {(3, 3, 3), (1, 4, 5)}


def test_the_maximum_names_the_essential_class_even_below_the_clamp():
    image = np.random.default_rng(0).random((4, 5)) * 0.009
    pairs = persistence_pairs(image, clamp=0.01)
    assert pairs.birth.tolist() == [image.argmax()]
    assert pairs.death.tolist() == [-1]


def test_constant_and_empty_images():
    constant = persistence_pairs(np.full((3, 4), 0.3))
    assert (constant.dimension.tolist(), constant.death.tolist()) == ([0], [-1])
    assert len(persistence_pairs(np.zeros((0, 4))).birth) == 0


@pytest.mark.parametrize("engine", ["numba", "gudhi"])
@given(tied_images, st.sampled_from([-5.0, -0.5, -1e6, 3.0]))
def test_adding_a_constant_to_an_image_moves_its_bars_and_loses_none(engine, image, constant):
    moved = image + np.float32(constant)
    for connectivity in ("full", "face"):
        expected = named(image, connectivity=connectivity)
        assert named(moved, connectivity=connectivity, engine=engine) == expected


def named(image, **options):
    """Returns the bars with their ranks at birth and death: a diagram without the values."""
    pairs = persistence_pairs(image, **options)
    ranks = np.unique(image, return_inverse=True)[1].ravel()
    deaths = np.where(pairs.death < 0, -1, ranks[pairs.death])
    return sorted(zip(pairs.dimension.tolist(), ranks[pairs.birth], deaths, strict=True))


@pytest.mark.parametrize("clamp", [0, 0.0, -1, -2.5])
def test_a_clamp_may_lie_anywhere(clamp):
    image = np.random.default_rng(0).normal(size=(7, 8, 9))
    raised = np.maximum(image, clamp)
    assert named(raised) == named(raised, clamp=clamp)
    at_the_clamp = persistence_pairs(image, clamp=clamp)
    expected = persistence_pairs(raised)
    for k in range(3):
        found = at_the_clamp.diagram(raised, k)
        assert sorted(found.tolist()) == sorted(expected.diagram(raised, k).tolist())


def test_in_an_image_below_0_the_essential_class_dies_at_its_minimum():
    image = np.array([[-1.0, -3.0, -2.0]])
    assert sorted(persistence_pairs(image).diagram(image, 0).tolist()) == [[-2, -3], [-1, -3]]
    assert persistence_pairs(image + 4).diagram(image + 4, 0).tolist()[-1] == [3, 0]


INTEGERS = [
    (np.int64, 2**53),
    (np.int64, 2**63 - 200),
    (np.int64, -(2**63)),
    (np.uint64, 2**64 - 200),
    (np.int32, 2**31 - 200),
    (np.uint32, 2**24),
    (np.dtype(">i8"), 2**53),
]


@pytest.mark.parametrize("engine", ["numba", "gudhi"])
@pytest.mark.parametrize(("dtype", "offset"), INTEGERS)
def test_whole_numbers_of_any_size_are_distinguished(dtype, offset, engine):
    small = np.random.default_rng(3).permutation(5 * 6 * 4).reshape(5, 6, 4)
    large = np.array([offset + int(v) for v in small.ravel()], dtype).reshape(small.shape)
    assert named(large, engine=engine) == named(small)
    raised = named(np.maximum(small, 60))
    clamped = persistence_pairs(large, clamp=offset + 60, engine=engine)
    ranks = np.maximum(small, 60).ravel() - 60
    deaths = np.where(clamped.death < 0, -1, ranks[clamped.death])
    found = zip(clamped.dimension.tolist(), ranks[clamped.birth], deaths, strict=True)
    assert sorted(found) == raised


def test_a_diagram_in_float64_never_holds_whole_numbers_that_were_rounded():
    image = np.array([[2**60, 0, 2**60 + 1]])
    pairs = persistence_pairs(image)
    assert image.ravel()[pairs.birth].tolist() == [2**60, 2**60 + 1]
    with pytest.raises(ValueError, match=r"float64, which does not hold 1152921504606846977"):
        pairs.diagram(image, 0)
    first_lost = np.array([[2**53 + 1, 0, 2**53]])  # rounded to 2**53
    pairs = persistence_pairs(first_lost)
    with pytest.raises(ValueError, match=r"float64, which does not hold 9007199254740993"):
        pairs.diagram(first_lost, 0)
    assert pairs.diagram(first_lost - 1, 0).tolist() == [[2**53 - 1, -1], [2**53, -1]]
    assert persistence_pairs(image * 2**2).diagram([[2**62, 0, 2**62]], 0).tolist()


@pytest.mark.parametrize("clamp", [0.3, 2, 2.5, -0.1, 400.0, -400.0])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64, np.uint64, ">u2"])
def test_a_clamp_between_whole_numbers_parts_them_where_it_lies(dtype, clamp):
    image = np.random.default_rng(4).integers(0, 2 if dtype is bool else 6, (6, 7, 5)).astype(dtype)
    raised = np.maximum(image.astype(float), clamp)
    whole, real = persistence_pairs(image, clamp=clamp), persistence_pairs(raised)
    for k in range(3):
        expected = sorted(real.diagram(raised, k).tolist())
        assert sorted(whole.diagram(raised, k).tolist()) == expected


@pytest.mark.parametrize("dtype", ["<f2", ">f2", ">f4", "<f8", ">f8", np.longdouble])
def test_floats_of_every_size_and_byte_order_are_distinguished(dtype):
    ranks = np.random.default_rng(5).permutation(5 * 6 * 4).reshape(5, 6, 4)
    least = np.finfo(dtype).eps
    image = (1 + ranks * least).astype(dtype)
    assert named(image) == named(image, engine="gudhi") == named(ranks)
    # The level of 0.1 in float32 lies above 0.1, and nothing between the two may get lost.
    close = np.array([[np.float32(0.1), 0, np.float32(0.1)]], np.float64)
    assert len(persistence_pairs(close, clamp=0.1).birth) == 2


def test_zeros_of_either_sign_are_equal():
    image = np.array([[0.0, -0.0, 0.0], [-0.0, -1.0, -0.0], [0.0, -0.0, 0.0]])
    for dtype in (np.float32, np.float64):
        pairs = persistence_pairs(image.astype(dtype))
        assert sorted(pairs.dimension.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.ones((2, 2)), {"clamp": np.nan}, "clamp must be a finite number, .* got nan"),
        (np.ones((2, 2)), {"clamp": np.inf}, "clamp must be a finite number, .* got inf"),
        (np.ones((2, 2)), {"clamp": "0.1"}, "clamp must be a finite number, .* got '0.1'"),
        (np.ones(3), {}, r"2D or 3D, got shape \(3,\)"),
        (np.ones((2, 2), complex), {}, "real numbers, got complex128"),
        (np.array([[0.0, np.nan]]), {}, "finite, got NaN"),
        (np.array([[0.0, np.inf]]), {}, "finite, got NaN or infinite"),
        (np.ones((2, 2)), {"connectivity": "26"}, "'full' or 'face', got '26'"),
        (np.ones((2, 2)), {"dimensions": [2]}, r"0..1 for a 2D image, got \(2,\)"),
        (
            np.ones((2, 2)),
            {"engine": "magic"},
            r"engine must be one of .*'numba', 'gudhi', 'cripser'.*got 'magic'",
        ),
    ],
)
def test_bad_input_is_refused_by_name(image, options, message):
    with pytest.raises(ValueError, match=message):
        persistence_pairs(image, **options)
