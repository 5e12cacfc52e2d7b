"""`nnunet-topo postprocess`: steps that repair topology, chosen by cross-validation and applied."""

import argparse
from pathlib import Path

from nnunet_topo.commands.arguments import (
    add_jobs_arguments,
    add_patients_argument,
    add_processes_argument,
    cases_where_chosen,
    number_of_processes,
)
from nnunet_topo.commands.exit_status import report_problems

HELP = "find steps that repair the topology of finished predictions, and apply them"
DESCRIPTION = (
    "`find` chooses steps on the validation of finished trainings: remove small components, keep "
    "the largest, fill holes, close gaps, lower the threshold. `apply` does them to predictions."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the two actions of the command and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    find = actions.add_parser("find", help="choose steps on the predictions of a cross-validation")
    find.add_argument("-d", required=True, metavar="DATASET", help="number or name of the data set")
    find.add_argument("-c", required=True, metavar="CONFIGURATION", help="3d_fullres, 2d, ...")
    find.add_argument("-tr", required=True, metavar="TRAINER", help="whose validation is used")
    find.add_argument("-p", metavar="PLANS", default="nnUNetPlans", help="default nnUNetPlans")
    find.add_argument(
        "-f",
        nargs="+",
        action="extend",
        metavar="FOLD",
        help="default 0 to 4; the cases of a single fold are divided into parts",
    )
    find.add_argument(
        "--metric",
        default="topo_betti_matching_error",
        metavar="KEY",
        help="topology metric that the steps improve, default %(default)s",
    )
    find.add_argument(
        "--max-dice-loss",
        type=float,
        default=0.002,
        metavar="X",
        help="largest mean loss of Dice that a label may have, default %(default)s",
    )
    find.add_argument(
        "--connectivity",
        choices=("full", "face"),
        help="of the foreground; default: as in the training, otherwise full",
    )
    add_patients_argument(find, "The parts of a single fold then keep them together")
    find.add_argument("-o", type=Path, required=True, metavar="DIR", help="where results go")
    add_processes_argument(find)
    add_jobs_arguments(find)
    apply = actions.add_parser("apply", help="apply the chosen steps to predictions")
    apply.add_argument(
        "found", type=Path, metavar="FOUND", help="folder that `postprocess find` has written"
    )
    apply.add_argument(
        "-i", type=Path, required=True, metavar="DIR", help="folder of nnU-Net's predictions"
    )
    apply.add_argument("-o", type=Path, required=True, metavar="DIR", help="where results go")
    add_processes_argument(apply)
    add_jobs_arguments(apply)


def run(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where a case failed, 2 where nothing was done."""
    with cases_where_chosen(chosen, chosen.o / ".jobs", processes=number_of_processes(chosen)):
        return _find(chosen) if chosen.action == "find" else _apply(chosen)


def _find(chosen: argparse.Namespace) -> int:
    from nnunet_topo.commands.notes import notes_on_patients
    from nnunet_topo.evaluation.case import Settings
    from nnunet_topo.evaluation.patients import patients_of_study, read_patients
    from nnunet_topo.evaluation.results import find_trainings, is_face
    from nnunet_topo.postprocessing.find import Options, find_steps
    from nnunet_topo.postprocessing.record import FILE
    from nnunet_topo.postprocessing.words import describe
    from nnunet_topo.report.words import printable

    face = chosen.connectivity or ("face" if is_face(chosen.tr) else "full")
    patients = None if chosen.patients is None else read_patients(chosen.patients)
    options = Options(
        chosen.metric,
        chosen.max_dice_loss,
        number_of_processes(chosen),
        Settings(face),
        patient=patients,
    )
    folds = list(dict.fromkeys(chosen.f or "01234"))
    if "all" in folds:
        raise ValueError(
            "-f all: that training is validated on its own training cases, so its steps would not "
            "fit new cases; give folds of a cross-validation"
        )
    study = find_trainings(chosen.d, chosen.c, chosen.p, [chosen.tr], folds)
    notes = [] if patients is None else notes_on_patients(*patients_of_study(study, patients))
    found = find_steps(study, chosen.o, options)
    print(*map(printable, describe(found)), sep="\n")
    print(f"written: {printable(str(chosen.o / FILE))}")
    for note in notes:
        print(f"note: {printable(note)}")
    return report_problems(found.problems, nothing_done=False)


def _apply(chosen: argparse.Namespace) -> int:
    from nnunet_topo.postprocessing.apply import RECORD, apply_to_folder
    from nnunet_topo.postprocessing.words import describe_applied
    from nnunet_topo.report.words import printable

    applied = apply_to_folder(
        chosen.i, chosen.o, chosen.found, processes=number_of_processes(chosen)
    )
    print(*map(printable, describe_applied(applied)), sep="\n")
    if applied.done:
        print(f"written: {printable(str(chosen.o))}, changes of each case in {RECORD}")
    for note in applied.notes:
        print(f"note: {printable(note)}")
    return report_problems(applied.problems, nothing_done=not applied.done)
