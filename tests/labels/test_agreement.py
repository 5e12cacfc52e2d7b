"""Probabilities and the label map that they belong to."""

import numpy as np
import pytest

from nnunet_topo.labels.agreement import check_agreement


def test_half_of_the_labelled_voxels_must_be_what_the_probabilities_choose():
    label_map = np.array([[0, 1, 1, 2, 2, 0]])
    probabilities = np.stack([label_map == label for label in range(3)]) * 0.9
    members = {1: (1,), 2: (2,)}
    check_agreement(probabilities, label_map, members)
    check_agreement(probabilities, np.zeros_like(label_map), members)  # all was removed
    check_agreement(probabilities, np.array([[1, 1, 1, 1, 2, 2]]), members)
    with pytest.raises(ValueError, match="in only 1 of 4 labelled voxels"):
        check_agreement(probabilities, np.array([[0, 2, 2, 1, 2, 0]]), members)


def test_regions_agree_by_their_own_channels():
    label_map = np.array([[0, 1, 2, 2, 1, 0]])
    probabilities = np.stack([label_map > 0, label_map == 2]) * 0.9
    members = {0: (1, 2), 1: (2,)}
    check_agreement(probabilities, label_map, members)
    with pytest.raises(ValueError, match="in only 2 of 6 labelled voxels"):
        check_agreement(probabilities, np.array([[2, 2, 0, 0, 1, 1]]), members)
