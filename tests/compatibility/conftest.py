"""Fixtures: data sets with each kind of labels."""

import os
import shutil
from pathlib import Path

import pytest

from .kinds import KINDS, preprocess


@pytest.fixture(scope="session")
def of_every_kind(tiny_dataset, nnunet_folders, tmp_path_factory) -> Path:
    """Returns the folder in which a data set of each kind of labels is preprocessed."""
    preprocessed = Path(nnunet_folders["nnUNet_preprocessed"])
    raw = Path(nnunet_folders["nnUNet_raw"])
    for kind, (name, _) in KINDS.items():
        if (preprocessed / name).exists():
            continue
        made = tmp_path_factory.mktemp("made", numbered=True) / name
        preprocess(kind, made, raw / name / "imagesTr", preprocessed / "Dataset901_TinyRings")
        part = shutil.move(made, preprocessed / f"part_{os.getpid()}_{name}")
        try:
            part.rename(preprocessed / name)
        except OSError:  # another process was faster
            shutil.rmtree(part)
    return preprocessed
