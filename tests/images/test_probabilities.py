"""Probabilities that nnU-Net saves: which files are refused, and with which words."""

import numpy as np
import pytest

from nnunet_topo.images.probabilities import saved_probabilities


def saved(folder, **arrays):
    """Returns a .npz of some arrays, compressed as nnU-Net's."""
    file = folder / "case.npz"
    np.savez_compressed(file, **arrays)
    return file


def test_probabilities_are_read(tmp_path):
    channels = np.random.default_rng(1).random((2, 3, 4, 5))
    file = saved(tmp_path, probabilities=channels)
    np.testing.assert_array_equal(saved_probabilities(file), channels)


@pytest.mark.parametrize("kept", [0, 1, 4, 30, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_named(tmp_path, kept):
    file = saved(tmp_path, probabilities=np.random.default_rng(1).random((2, 9, 9, 9)))
    content = file.read_bytes()
    file.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ValueError, match=r"case\.npz: wanted nnU-Net's probabilities"):
        saved_probabilities(file)


def test_a_damaged_file_is_named(tmp_path):
    file = saved(tmp_path, probabilities=np.random.default_rng(1).random((2, 9, 9, 9)))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"case\.npz: wanted nnU-Net's probabilities"):
        saved_probabilities(file)


def test_another_npz_is_refused(tmp_path):
    with pytest.raises(ValueError, match="wanted an array called probabilities"):
        saved_probabilities(saved(tmp_path, softmax=np.zeros(3)))
    file = tmp_path / "case.npz"
    with file.open("wb") as stream:
        np.save(stream, np.zeros((2, 3, 4, 5)))
    with pytest.raises(ValueError, match="wanted an array called probabilities"):
        saved_probabilities(file)


def test_nothing_in_a_file_is_executed(tmp_path):
    file = saved(tmp_path, probabilities=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"case\.npz: wanted nnU-Net's probabilities"):
        saved_probabilities(file)
