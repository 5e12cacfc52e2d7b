import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnunet_topo.topology import betti_numbers, persistence_pairs

from .shapes import corner_neighbours, ring, shell, two_blobs

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


def test_the_essential_class_is_born_at_the_maximum_and_has_no_death_voxel():
    image = np.random.default_rng(0).random((4, 5, 7))
    pairs = persistence_pairs(image)
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


def test_the_maximum_names_the_essential_class_even_below_the_clamp():
    image = np.random.default_rng(0).random((4, 5)) * 0.009
    pairs = persistence_pairs(image, clamp=0.01)
    assert pairs.birth.tolist() == [image.argmax()]
    assert pairs.death.tolist() == [-1]


def test_constant_and_empty_images():
    constant = persistence_pairs(np.full((3, 4), 0.3))
    assert (constant.dimension.tolist(), constant.death.tolist()) == ([0], [-1])
    assert len(persistence_pairs(np.zeros((0, 4))).birth) == 0


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
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
