import numpy as np
import pytest

from nnunet_topo.priors.training_labels import (
    TrainingLabels,
    damage_by_augmentation,
)

from ..shapes import ball, ring, shell

ROTATION = (-np.pi, np.pi)


def reader(maps):
    """Returns a class that reads label maps as nnU-Net's data sets do."""

    class Reader:
        def __init__(self, folder, cases):
            assert (folder, len(cases)) == ("preprocessed", 1)

        def load_case(self, case):
            return None, maps[case][None], None, {}

    return Reader


def labels_of(*maps, classes=((1,),), space=None):
    named = {f"case_{i}": label_map for i, label_map in enumerate(maps)}
    return TrainingLabels(
        dataset_class=reader(named),
        folder="preprocessed",
        cases=tuple(named),
        classes=classes,
        space=space or maps[0].ndim,
        connectivity="full",
    )


def thin_and_thick():
    """Returns a slice with a ring of one voxel's thickness (1) and a disc (2)."""
    label_map = np.zeros((1, 37, 41), np.int16)
    label_map[0, ring((37, 41), 15.0, 0.5)] = 1
    label_map[0, ball((37, 41), (18, 20), 7)] = 2
    return label_map


def test_augmentation_tears_a_thin_ring_and_leaves_a_disc_whole():
    labels = labels_of(thin_and_thick(), classes=((1,), (2,), (1, 2), (3,)), space=2)
    thin, disc, both, never = damage_by_augmentation(labels, ROTATION, False)
    assert thin > 0.5
    assert disc == 0
    assert both >= thin
    assert np.isnan(never)


@pytest.mark.parametrize("in_slices", [False, True])
def test_thick_structures_of_volumes_survive(in_slices):
    labels = labels_of(shell((15, 17, 19), 6).astype(np.int16))
    assert damage_by_augmentation(labels, (-0.5, 0.5), in_slices)[0] < 0.05


def test_a_rectangle_in_one_slice_survives_augmentation_in_slices():
    label_map = np.zeros((9, 21, 23), np.int16)
    label_map[4, 5:15, 6:17] = 1
    assert damage_by_augmentation(labels_of(label_map), (-0.5, 0.5), True)[0] == 0


def test_the_measurement_is_the_same_each_time_and_leaves_random_numbers_alone():
    results = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002 # what nnU-Net's augmentation draws from
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        results.append(
            damage_by_augmentation(labels_of(thin_and_thick(), space=2), ROTATION, False)
        )
        assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert results[0] == results[1]
