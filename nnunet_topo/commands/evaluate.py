"""`nnunet-topo evaluate`: metrics of segmentations, as nnU-Net's summary.json."""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from nnunet_topo.commands.arguments import (
    add_jobs_arguments,
    add_label_arguments,
    add_metric_arguments,
    cases_where_chosen,
    label_choice,
    number_of_processes,
    windows,
)
from nnunet_topo.commands.evaluation_details import Details, add_detail_arguments
from nnunet_topo.commands.exit_status import report_problems

HELP = "Dice, topology and distances of any segmentations, as a summary.json of nnU-Net"
DESCRIPTION = (
    "Compares predictions with references, paired by their names. Without options the labels are "
    "those in the files, and the file ending decides the reader. With -djfile and -pfile it is "
    "nnUNetv2_evaluate_folder with topology metrics."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "references", type=Path, metavar="REFERENCES", help="folder of segmentations, or one file"
    )
    parser.add_argument(
        "predictions", type=Path, metavar="PREDICTIONS", help="folder of predictions, or one file"
    )
    add_label_arguments(parser)
    parser.add_argument(
        "-o",
        type=Path,
        metavar="FILE",
        help="summary; default summary.json in the folder PREDICTIONS, for one file none",
    )
    parser.add_argument(
        "--chill", action="store_true", help="do not report references without a prediction"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the summary as JSON on standard output, with null for undefined values",
    )
    add_detail_arguments(parser)
    add_metric_arguments(parser)
    add_jobs_arguments(parser)


def run(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where something could not be evaluated, 2 where nothing was."""
    place = _summary(chosen)
    jobs = place.with_name(f".{place.name}.jobs")
    with cases_where_chosen(chosen, jobs, processes=number_of_processes(chosen)):
        return _run(chosen, place)


def _summary(chosen: argparse.Namespace) -> Path:
    beside = chosen.predictions if chosen.predictions.is_dir() else chosen.predictions.parent
    return chosen.o or beside / "summary.json"


def _run(chosen: argparse.Namespace, place: Path) -> int:
    from nnunet_topo.evaluation.case import Settings
    from nnunet_topo.evaluation.evaluate import evaluate_folder, recorded_connectivity
    from nnunet_topo.evaluation.words import describe
    from nnunet_topo.files import nan_as_null, read_json
    from nnunet_topo.report.words import count, printable

    # For single files no summary is kept unless the user asks for it.
    written = chosen.o is not None or chosen.predictions.is_dir()
    details = Details.wanted(chosen, place)
    with tempfile.TemporaryDirectory() as folder:
        output = place if written else Path(folder) / "summary.json"
        settings = Settings(
            chosen.connectivity or recorded_connectivity(output),
            chosen.nsd_tolerance,
            windows(chosen),
        )
        done = evaluate_folder(
            chosen.references,
            chosen.predictions,
            chosen.djfile,
            chosen.pfile,
            choice=label_choice(chosen),
            labels=None if details is None else details.labels,
            output=chosen.o if written else output,
            processes=number_of_processes(chosen),
            chill=chosen.chill,
            settings=settings,
        )
        summary = read_json(output) if done.evaluated else {}
    with contextlib.redirect_stdout(sys.stderr if chosen.json else sys.stdout):
        if done.evaluated:
            print(*map(printable, describe(done, place=written)), sep="\n")
        computed = f", {done.computed} of them now" if written else ""
        print(f"{count(len(done.evaluated), 'case')} evaluated{computed}")
        if done.refused and done.evaluated:
            print(f"not evaluated, and in no mean: {printable(', '.join(done.refused))}")
        problems = list(done.problems)
        if details is not None and done.evaluated:
            problems += details.write(done, settings)
    if chosen.json:
        print(json.dumps(nan_as_null(summary), indent=2))
    return report_problems(problems, nothing_done=not done.evaluated)
