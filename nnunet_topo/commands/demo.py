"""`nnunet-topo demo`: the whole workflow on a small data set that is made here."""

import argparse
from pathlib import Path

from nnunet_topo._register import register

HELP = "run the whole workflow on a small data set, in minutes on a CPU"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "-o",
        type=Path,
        default=Path("nnunet-topo-demo"),
        metavar="DIR",
        help="where everything is written, default %(default)s",
    )
    parser.add_argument(
        "-device", choices=("cpu", "cuda", "mps"), help="default: the best there is"
    )
    parser.add_argument("--quick", action="store_true", help="less data, hardly any training")


def run(chosen: argparse.Namespace) -> int:
    """Returns 0, or 1 where a step failed."""
    register(ask=False)
    from nnunet_topo.commands import demo_steps

    size = demo_steps.QUICK if chosen.quick else demo_steps.FULL
    return demo_steps.run_demo(chosen.o, size, chosen.device)
