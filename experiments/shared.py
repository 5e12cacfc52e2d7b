"""What experiments share: where the data is, commands, and the test of a difference."""

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


def call(*command: str, log: Path, **environment: str) -> None:
    """Runs a command that ends with this process, even by a kill, and keeps what it prints.

    Raises:
        RuntimeError: it failed; the message has its last line.
        ValueError: there is no such command.
        KeyboardInterrupt: Ctrl-C, a closed terminal or a cancelled job.
    """
    from nnunet_topo.commands.nnunet_commands import call as run

    log.parent.mkdir(parents=True, exist_ok=True)
    status = run(command, log, os.environ | environment)
    if status:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        told = next((line for line in reversed(lines) if line), "it printed nothing")
        raise RuntimeError(f"{Path(command[0]).name} ended with status {status}: {told[-300:]}")


def wilcoxon_p(differences: NDArray[np.float64]) -> float:
    """Returns the two-sided p-value of the signed-rank test, 1 if nothing differs."""
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0
