"""Runs the missing parts of the experiment, and prints the tables."""

import argparse
import json
from pathlib import Path

from experiments.clough_mnist.experiment import Experiment
from experiments.clough_mnist.figure import draw_three_priors
from experiments.clough_mnist.tables import tables
from experiments.shared import add_data_option

RECORD = Path(__file__).parent / "results.json"


def main() -> None:
    """Parses the command line, runs the missing parts and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    parser.add_argument("-o", "--output", type=Path, default="clough-mnist", help="folder")
    parser.add_argument(
        "--digits", type=int, default=1000, help="test digits for each m (default 1000, all)"
    )
    parser.add_argument("--table", action="store_true", help="print what is recorded, run nothing")
    arguments = parser.parse_args()
    if arguments.table:
        print(tables(json.loads(RECORD.read_text())))
        return
    if not 1 <= arguments.digits <= 1000:
        parser.error(f"--digits must be from 1 to 1000, got {arguments.digits}")
    try:
        experiment = Experiment(arguments.data, arguments.output)
    except (OSError, EOFError, ValueError) as error:
        parser.error(str(error))
    experiment.run(arguments.digits)
    draw_three_priors(experiment, arguments.output / "figure_6.png")
    print(tables(experiment.results))


if __name__ == "__main__":
    main()
