"""Fixtures of the tests of the command compare."""

import pytest

from ..evaluation.study import pair
from .compared import Folders, Results


@pytest.fixture
def folders(tmp_path):
    folders = Folders(tmp_path)
    for case in range(3):
        reference, prediction = pair(case)
        folders.put_both(f"case_{case}", reference, prediction, reference)
    return folders


@pytest.fixture
def results(tmp_path, monkeypatch):
    return Results(tmp_path, monkeypatch)
