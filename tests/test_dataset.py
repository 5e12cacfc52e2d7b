"""The channels of a data set's labels, and its folders."""

import json

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.dataset import Channels, Dataset, read_dataset_json, read_plans_file

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


@pytest.mark.parametrize("typed", ["Dataset004_Heart", "Dataset004_Heart/", "Dataset004_Heart\\"])
def test_a_name_may_be_that_of_a_folder(typed):
    assert Dataset.find(typed) == Dataset("Dataset004_Heart")


@pytest.mark.parametrize("typed", ["DatasetHeart", "\u00b2", "Heart", "", "Dataset004_Heart/sub"])
def test_what_cannot_be_a_data_set_is_refused(typed):
    with pytest.raises(ValueError, match="-d: wanted the number of a data set or a name such as"):
        Dataset.find(typed)


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("nnUNet_results", raising=False)
    with pytest.raises(ValueError, match="nnUNet_results must be set"):
        _ = Dataset("Dataset004_Hippocampus").results
    assert Dataset("Dataset004_Hippocampus").number == 4


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"file_ending": None}, "file_ending must be text such as .nii.gz, got null"),
        ({"file_ending": ""}, 'file_ending must be text such as .nii.gz, got ""'),
        ({"file_ending": [".nii.gz"]}, "file_ending must be text such as .nii.gz, got list"),
        ({"labels": ["background", "a"]}, "labels must be names with values, got list"),
        ({"labels": None}, "labels must be names with values, got null"),
        ({"overwrite_image_reader_writer": 1}, "must be the name of a reader, got 1"),
    ],
)
def test_an_entry_of_the_wrong_type_is_told_with_the_file(tmp_path, wrong, told):
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps({"labels": {"background": 0}, "file_ending": ".nii.gz", **wrong}))
    with pytest.raises(ValueError, match=r"dataset\.json") as refused:
        read_dataset_json(file)
    assert str(file) in str(refused.value)
    assert told in str(refused.value)


def test_plans_without_the_name_of_a_reader_are_refused(tmp_path):
    file = tmp_path / "plans.json"
    file.write_text('{"image_reader_writer": null}')
    with pytest.raises(ValueError, match="image_reader_writer must be the name of a reader, got n"):
        read_plans_file(file)
