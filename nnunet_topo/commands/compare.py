"""`nnunet-topo compare`: trainers, or folders of predictions, compared with the first."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_topo.commands.arguments import (
    add_label_arguments,
    add_metric_arguments,
    add_patients_argument,
    label_choice,
    number_of_processes,
    windows,
)
from nnunet_topo.commands.exit_status import exit_status, report_problems

if TYPE_CHECKING:
    from nnunet_topo.evaluation.study import Study
    from nnunet_topo.topology import Connectivity

HELP = "compare trainers, or folders of predictions, with the first: tables and a report"
DESCRIPTION = (
    "Trainers: -d -c -tr [-f] [-p]. Folders: --gt --pred, and the arguments of `nnunet-topo "
    "evaluate` for labels and readers."
)
_OF_FOLDERS = ("-djfile", "-pfile", "-l", "--labels", "--group", "-il", "--images")
_OF_TRAINERS = ("-f", "-p")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("-d", metavar="DATASET", help="number or name of the data set")
    parser.add_argument("-c", metavar="CONFIGURATION", help="3d_fullres, 2d, ...")
    parser.add_argument(
        "-tr", nargs="+", action="extend", metavar="TRAINER", help="trainers, the control first"
    )
    parser.add_argument("-f", nargs="+", action="extend", metavar="FOLD", help="default 0 1 2 3 4")
    parser.add_argument("-p", metavar="PLANS", help="default nnUNetPlans")
    parser.add_argument("--gt", type=Path, help="folder with reference segmentations")
    parser.add_argument(
        "--pred",
        nargs="+",
        action="extend",
        metavar="NAME=DIR",
        help="folders of predictions, the control first",
    )
    add_label_arguments(parser)
    parser.add_argument("--images", type=Path, help="raw images for the pictures, for folders")
    parser.add_argument("-o", type=Path, required=True, metavar="DIR", help="where results go")
    parser.add_argument(
        "--control",
        nargs="?",
        const="largest-component",
        choices=("largest-component",),
        help="also compare the first with only its largest components",
    )
    parser.add_argument(
        "--postprocess",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare each model after its own post-processing, chosen on other cases, see "
        "`nnunet-topo postprocess`, which is the default; as predicted, the models are in the "
        "report too",
    )
    parser.add_argument(
        "--metrics", nargs="+", action="extend", metavar="KEY", help="secondary metrics to test"
    )
    parser.add_argument(
        "--primary",
        metavar="KEY",
        help="metric of the primary outcome, mean over labels, or none; default the Betti matching "
        "error. Declare it before you look",
    )
    parser.add_argument(
        "--missing-mm",
        type=float,
        metavar="X",
        help="distance that counts if a model misses a structure (in pixels if images have no "
        "spacing); default: such cases have no distance, and are counted",
    )
    parser.add_argument(
        "--error-maps",
        action="store_true",
        help="also write where each topological error of each model is, into evaluation/",
    )
    add_patients_argument(parser)
    add_metric_arguments(parser)


def run(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where something could not be evaluated, 2 where nothing could be compared."""
    from nnunet_topo.commands.comparison import Options, compare
    from nnunet_topo.commands.comparison_output import WRITTEN
    from nnunet_topo.evaluation.case import Settings
    from nnunet_topo.evaluation.patients import read_patients
    from nnunet_topo.evaluation.results import find_trainings, name_folders
    from nnunet_topo.report import DEFAULT_METRICS, PRIMARY_METRIC
    from nnunet_topo.report.screen import as_text
    from nnunet_topo.report.words import printable

    processes = number_of_processes(chosen)
    of_trainers, of_folders = (chosen.d, chosen.c, chosen.tr), (chosen.gt, chosen.pred)
    if all(of_trainers) and not any(of_folders):
        _refuse(chosen, _OF_FOLDERS, wanted="--gt and --pred", got="-d, -c and -tr")
        folds = list(dict.fromkeys(chosen.f or "01234"))
        study = find_trainings(chosen.d, chosen.c, chosen.p or "nnUNetPlans", chosen.tr, folds)
    elif all(of_folders) and not any(of_trainers):
        _refuse(chosen, _OF_TRAINERS, wanted="-d, -c and -tr", got="--gt and --pred")
        study = name_folders(
            chosen.gt,
            chosen.pred,
            chosen.djfile,
            chosen.pfile,
            images=chosen.images,
            choice=label_choice(chosen),
            processes=processes,
        )
    else:
        raise ValueError("give either -d, -c and -tr, or --gt and --pred (see --help)")
    primary = chosen.primary or PRIMARY_METRIC
    options = Options(
        metrics=chosen.metrics or DEFAULT_METRICS,
        primary=None if primary == "none" else primary,
        missing=chosen.missing_mm,
        control=chosen.control is not None,
        postprocess=chosen.postprocess,
        processes=processes,
        settings=Settings(
            chosen.connectivity or _connectivity(study), chosen.nsd_tolerance, windows(chosen)
        ),
        command=chosen.command_line,
        error_maps=chosen.error_maps,
        patients=None if chosen.patients is None else read_patients(chosen.patients),
    )
    done = compare(study, chosen.o, options)
    print(as_text(done))
    print(f"written into {printable(str(chosen.o))}: {', '.join(WRITTEN)}")
    return report_problems(done.problems, nothing_done=False)


def _refuse(chosen: argparse.Namespace, options: Sequence[str], *, wanted: str, got: str) -> None:
    """Raises ValueError if options were given that only count with others."""
    values = {option: getattr(chosen, option.lstrip("-")) for option in options}
    given = [name for name, value in values.items() if value is not None]
    given = [name for name in given if name != "--group" or chosen.group]
    if given:
        raise ValueError(f"wanted {wanted} for {', '.join(given)}, got {got}")


def _connectivity(study: "Study") -> "Connectivity":
    """Returns the connectivity of trainings by their names, of folders that of their summaries."""
    from nnunet_topo.evaluation.evaluate import recorded_connectivity
    from nnunet_topo.evaluation.results import is_face

    if any(is_face(model.name) for model in study.models if model.trainings):
        return "face"
    folders = [model.folders[""] for model in study.models if not model.trainings]
    return recorded_connectivity(*(folder / "summary.json" for folder in folders))


def run_with(arguments: Sequence[str]) -> int:
    """Runs the command with arguments as a user types them, and returns its exit status."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    chosen = parser.parse_args(arguments)
    chosen.command_line = shlex.join(["nnunet-topo", "compare", *arguments])
    return exit_status("compare", lambda: run(chosen))
