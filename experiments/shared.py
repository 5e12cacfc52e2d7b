"""What experiments share: where the data is, and the test of a difference."""

import argparse
import os
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


def wilcoxon_p(differences: NDArray[np.float64]) -> float:
    """Returns the two-sided p-value of the signed-rank test, 1 if nothing differs."""
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0
