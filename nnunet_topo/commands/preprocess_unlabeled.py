"""`nnunet-topo preprocess-unlabeled`: images without labels for semi-supervised training."""

import argparse
from pathlib import Path

from nnunet_topo.commands.arguments import add_processes_argument, number_of_processes
from nnunet_topo.commands.exit_status import report_problems

HELP = "nnU-Net's preprocessing for images without labels, beside the labelled ones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("-d", required=True, metavar="DATASET", help="data set to train them with")
    parser.add_argument(
        "-i", type=Path, required=True, metavar="DIR", help="images, named as those of the data set"
    )
    parser.add_argument("-c", required=True, metavar="CONFIGURATION", help="3d_fullres, 2d, ...")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="default nnUNetPlans")
    add_processes_argument(parser)


def run(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where an image was left out, 2 where no image can be used."""
    from nnunet_topo.report.words import count, printable
    from nnunet_topo.unlabeled.preprocess import preprocess_unlabeled

    done = preprocess_unlabeled(
        chosen.d,
        chosen.i,
        chosen.c,
        plans=chosen.p,
        processes=number_of_processes(chosen),
    )
    print(
        f"{count(done.computed, 'case')} preprocessed now, {done.cases} in "
        f"{printable(str(done.folder))} for nnUNetTrainerBettiPriorSemiSupervised"
    )
    return report_problems(done.problems, nothing_done=not done.cases)
