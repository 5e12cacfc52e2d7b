"""Fixtures of the tests of the evaluation."""

import pytest

from .study import CASES, Study, pair


@pytest.fixture
def study(tmp_path):
    study = Study(tmp_path / "study")
    for case in range(CASES):
        study.put(f"case_{case}", *pair(case))
    return study
