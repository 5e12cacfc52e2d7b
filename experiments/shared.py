"""What experiments share: where data is, files that are there as a whole, tests."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

DATA = Path(__file__).parents[2] / "shared" / "data"


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Adds --data, the folder that holds the data sets."""
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("NNUNET_TOPO_DATA", DATA),
        help="folder that holds the data sets (default: NNUNET_TOPO_DATA, else ../shared/data)",
    )


def replace_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Writes a file under another name first, so that a kill leaves the old one or the new one."""
    partial = file.with_name(file.name + ".partial")
    write(partial)
    partial.replace(file)


def wilcoxon_p(differences: NDArray[np.float64]) -> float:
    """Returns the two-sided p-value of the signed-rank test, 1 where nothing differs."""
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0
