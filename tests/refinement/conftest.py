import os

import pytest
import torch

from .folders import Folders


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Runs tiny networks in one thread, unlike the command."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    torch.set_num_threads(1)


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)
