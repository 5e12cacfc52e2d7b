"""`nnunet-topo plan`: counts Betti numbers of the training labels, and writes priors."""

import argparse

from nnunet_topo.commands.arguments import add_processes_argument, number_of_processes
from nnunet_topo.commands.exit_status import report_problems

HELP = "count the Betti numbers of all training labels, and write the priors that they agree on"
DESCRIPTION = (
    "Writes topology.json beside nnU-Net's plans, for you to edit and for trainers with a Betti "
    "prior to read."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "-d", metavar="DATASET", required=True, help="number or name of the data set"
    )
    parser.add_argument("-p", metavar="PLANS", default="nnUNetPlans", help="default nnUNetPlans")
    parser.add_argument(
        "-c",
        nargs="+",
        action="extend",
        metavar="CONFIGURATION",
        help="whose preprocessed labels are measured, default all",
    )
    add_processes_argument(parser)
    parser.add_argument(
        "--update",
        action="store_true",
        help="keep priors and unions of a file that was edited, and measure the rest again",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a file that was edited, and keep a copy under another name",
    )


def run(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where something could not be measured, 2 where nothing was."""
    from nnunet_topo.priors.plan import plan
    from nnunet_topo.priors.plan_words import describe, warn
    from nnunet_topo.report.words import printable

    done = plan(
        chosen.d,
        chosen.p,
        chosen.c or (),
        processes=number_of_processes(chosen),
        update=chosen.update,
        overwrite=chosen.overwrite,
    )
    print(*map(printable, describe(done.fingerprint, done.written)), "", sep="\n")
    for warned in warn(done.fingerprint, done.written):
        print("\n".join(map(printable, f"warning: {warned}".splitlines())))
    for line in done.notes:
        print(f"note: {printable(line)}")
    if done.kept is not None:
        print(f"the former file is kept as {printable(str(done.kept))}")
    print(f"written: {printable(str(done.written.file))}")
    return report_problems(done.problems, nothing_done=False)
