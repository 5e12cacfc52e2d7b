"""Two folders of segmentations."""

import pytest

from .files import Folders


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)
