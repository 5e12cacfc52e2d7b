"""Probabilities beside predictions: where they lie, what they decide, and which are refused."""

import numpy as np
import pytest

import nnunet_topo

from .folders import organ, with_island


def test_probabilities_decide_what_is_changed(folders):
    array = organ()
    array[4, 5, 11:13] = 1  # two voxels away
    channels = np.full((3, *array.shape), 0.02, np.float32)
    for label in range(3):
        channels[label][array == label] = 0.96
    channels[:, 4, 5, 9:11] = np.reshape([0.5, 0.48, 0.02], (3, 1))
    folders.put("case", array)
    folders.probabilities("case", channels)
    assert folders.correct("--probabilities") == 0
    assert np.argwhere(folders.written("case") != array).tolist() == [[4, 5, 9], [4, 5, 10]]


@pytest.mark.parametrize(
    ("channels", "told"),
    [
        (None, "there is no case.npz; nnUNetv2_predict writes it with --save_prob"),
        (np.zeros((2, 10, 12, 14), np.float32), "wanted probabilities of shape (3, 10, 12, 14)"),
        (np.full((3, 10, 12, 14), np.nan, np.float32), "wanted probabilities from 0 to 1"),
    ],
)
def test_wrong_probabilities_are_a_problem_of_the_case(folders, capsys, channels, told):
    folders.put("case", with_island())
    if channels is not None:
        folders.probabilities("case", channels)
    assert folders.correct("--probabilities") == 2
    assert told in capsys.readouterr().err
    assert folders.case("case")["status"] == "failed"


def joined_where_likely(folders):
    """Writes two parts, and probabilities in which one of two gaps is likelier label 1."""
    array = np.zeros((10, 12, 14), np.uint8)
    array[3:7, 2:10, 2:6] = array[3:7, 2:10, 8:12] = 1
    likely = np.where(array == 1, 0.95, 0.02).astype(np.float32)
    likely[4, 3, 6:8] = 0.45
    folders.describe({"background": 0, "organ": 1})
    folders.put("case", array)
    channels = np.stack([1 - likely, likely])[:, :, ::-1, ::-1]  # NIfTI of put() grows to L and P
    folders.probabilities("case", channels)
    return array


@pytest.mark.parametrize("place", ["in", "."])
def test_probabilities_lie_where_the_reader_of_the_plans_puts_them(folders, place):
    array = joined_where_likely(folders)
    plans = folders.folder / place / "plans.json"
    plans.write_text('{"image_reader_writer": "NibabelIOWithReorient"}')
    assert folders.correct("--probabilities") == 0
    assert np.argwhere(folders.written("case") != array).tolist() == [[4, 3, 6], [4, 3, 7]]


def test_probabilities_of_another_prediction_are_a_problem_of_the_case(folders, capsys):
    folders.put("case", with_island())
    channels = np.stack([organ() == label for label in range(3)])[:, ::-1, ::-1, ::-1] * 0.9
    folders.probabilities("case", channels)
    assert folders.correct("--probabilities") == 2
    assert "segmentation in only 64 of 163 labelled voxels" in capsys.readouterr().err
    assert folders.case("case")["status"] == "failed"


def test_a_case_is_done_again_with_other_probabilities_or_another_version(
    folders, monkeypatch, capsys
):
    folders.put("island", with_island())
    channels = np.stack([with_island() == label for label in range(3)]) * 0.8 + 0.1
    for value in (0.8, 0.7):
        channels[0, 0, 0, 0] = value
        folders.probabilities("island", channels)
        capsys.readouterr()
        assert folders.correct("--probabilities") == 0
        assert "1 case was done now" in capsys.readouterr().out
    monkeypatch.setattr(nnunet_topo, "__version__", "9.9")
    assert folders.correct("--probabilities") == 0
    assert "1 case was done now" in capsys.readouterr().out
