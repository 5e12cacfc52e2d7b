"""The probabilities that nnU-Net saves beside a prediction."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

NAME = "probabilities"  # of the array in the file


def saved_probabilities(file: Path) -> NDArray[Any]:
    """Returns the array `[channel, z, y, x]` of nnU-Net's .npz, the background first if it is one.

    Raises:
        ValueError: there is no such array in the file, or the file is damaged.
        OSError: it cannot be read.
    """
    found = None
    try:
        content = np.load(file)
        if isinstance(content, NpzFile):
            with content:
                found = content.get(NAME)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(
            f"{file}: wanted nnU-Net's probabilities, got another or a damaged file: {error}"
        ) from None
    if found is None:
        raise ValueError(f"{file}: wanted an array called {NAME}, as nnU-Net saves it")
    return found
