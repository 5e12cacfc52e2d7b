"""A copy of the tiny data set, on which `nnunet-topo plan` is run."""

import shutil
from pathlib import Path

import pytest

from nnunet_topo.cli import main

NAME = "Dataset901_TinyRings"


@pytest.fixture
def dataset(tiny_dataset, nnunet_folders, tmp_path, monkeypatch):
    """Returns raw and preprocessed folder of a copy of the data set, without topology.json."""
    folders = []
    for kind in ("raw", "preprocessed"):
        folders.append(tmp_path / kind / NAME)
        source = Path(nnunet_folders[f"nnUNet_{kind}"]) / NAME
        shutil.copytree(source, folders[-1], ignore=shutil.ignore_patterns("topology.json*"))
        monkeypatch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
    return tuple(folders)


def plan(*more, configurations=("3d_fullres", "2d")):
    arguments = ["plan", "-d", "901", "-np", "1", *more]
    return main([*arguments, "-c", *configurations] if configurations else arguments)
