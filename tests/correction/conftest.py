import pytest

from .folders import Folders


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)
