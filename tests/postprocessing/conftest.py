"""Fixtures of the tests of postprocessing."""

import pytest

from .folders import Validation


@pytest.fixture
def validation(tmp_path, monkeypatch):
    """Returns nnU-Net's folders with a finished cross-validation."""
    return Validation(tmp_path, monkeypatch).fill()


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """Returns nnU-Net's folders with folds that have validated no case yet."""
    return Validation(tmp_path, monkeypatch)
