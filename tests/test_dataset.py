"""The channels of a data set's labels, and its folders."""

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.dataset import Channels, Dataset

HEART = {"background": 0, "wall": 1, "cavity": 2, "ignore": 3}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_classes_are_channels_of_one_label_each():
    channels = Channels.of_manager(LabelManager(HEART, None))
    assert channels == Channels(("wall", "cavity"), ((1,), (2,)), False, 3)
    assert len(channels) == 2
    assert channels.union(["cavity", "wall"]) == (0, 1)
    assert channels.name_of((0, 1)) == "wall + cavity"
    assert channels.labels_of((1,)) == (2,)
    assert channels.default_unions() == {"foreground": ["wall", "cavity"]}


def test_regions_are_channels_of_several_labels():
    channels = Channels.of_manager(LabelManager(REGIONS, [1, 2, 3]))
    assert channels.names == ("whole", "core", "enhancing")
    assert channels.members == ((1, 2, 3), (2, 3), (3,))
    assert channels.has_regions
    assert channels.labels_of((1, 2)) == (2, 3)
    assert channels.default_unions() == {}  # one of them is all foreground


def test_names_are_in_the_order_of_the_channels_whatever_the_order_of_the_file():
    labels = {"c": 3, "background": 0, "a": 1, "ignore": 4, "b": [2]}
    shuffled = Channels.of_manager(LabelManager(labels, None))
    assert shuffled.names == ("a", "b", "c")
    assert shuffled.members == ((1,), (2,), (3,))
    labels = {"core": [2, 3], "background": 0, "whole": [1, 2, 3]}
    regions = Channels.of_manager(LabelManager(labels, [1, 2]))
    assert regions.names == ("core", "whole")
    assert regions.members == ((2, 3), (1, 2, 3))


def test_the_union_of_all_has_a_name_of_its_own():
    channels = Channels.of_manager(LabelManager({"background": 0, "foreground": 1, "b": 2}, None))
    assert channels.default_unions() == {"all foreground": ["foreground", "b"]}


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("nnUNet_results", raising=False)
    with pytest.raises(ValueError, match="nnUNet_results must be set"):
        _ = Dataset("Dataset004_Hippocampus").results
    assert Dataset("Dataset004_Hippocampus").number == 4
