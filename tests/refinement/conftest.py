import os

import pytest
import torch

from .folders import Folders


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Keeps what is tiny in one thread, as the command would not."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    torch.set_num_threads(1)


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)
