"""`nnunet-topo correct`: predictions changed, as little as possible, to a known topology."""

import argparse
from pathlib import Path

from nnunet_topo.commands.arguments import (
    add_jobs_arguments,
    add_processes_argument,
    cases_where_chosen,
    check_prior_file,
    number_of_processes,
)
from nnunet_topo.commands.exit_status import report_problems

SUMMARY, MAPS = "changes.json", "changes_errors"

HELP = "give predictions exactly the topology that is known, with as few changes as possible"
DESCRIPTION = (
    "Changes each prediction so that its labels have the Betti numbers of topology.json: removes "
    "or joins components, fills or opens holes, cuts or closes loops, whichever changes the fewest "
    "voxels, weighted by how certain the network is of them. What is right stays as it is."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("-i", type=Path, required=True, metavar="DIR", help="predictions")
    parser.add_argument("-o", type=Path, required=True, metavar="DIR", help="where results go")
    parser.add_argument("--prior", type=Path, required=True, metavar="FILE", help="topology.json")
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="use the .npz files beside the predictions, which nnUNetv2_predict writes with "
        "--save_probabilities; default: each voxel counts alike",
    )
    parser.add_argument(
        "-djfile",
        type=Path,
        metavar="FILE",
        help="nnU-Net's dataset.json; default: that with the predictions",
    )
    parser.add_argument(
        "--connectivity",
        choices=("full", "face"),
        default="full",
        help="of the foreground: full, 26 in volumes and 8 in images (default), or face, 6 and 4",
    )
    parser.add_argument(
        "--review-distance",
        type=float,
        default=5.0,
        metavar="MM",
        help="changes further from the old surface mark a case for review, default 5 mm",
    )
    parser.add_argument(
        "--error-maps",
        action="store_true",
        help="also write where each corrected error was, as nnunet-topo evaluate does with the "
        f"corrected files as references, into the folder {MAPS} in -o",
    )
    add_processes_argument(parser)
    add_jobs_arguments(parser)


def run(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where a case could not be corrected, 2 where nothing was done."""
    check_prior_file(chosen.prior)
    with cases_where_chosen(chosen, chosen.o / ".jobs", processes=number_of_processes(chosen)):
        return _run(chosen)


def _run(chosen: argparse.Namespace) -> int:
    from nnunet_topo.correction.correct import Request, correct_folder
    from nnunet_topo.correction.result import describe, summarize
    from nnunet_topo.evaluation.error_maps import open_folder
    from nnunet_topo.report.words import count, printable

    request = Request(
        chosen.prior,
        chosen.djfile,
        chosen.probabilities,
        chosen.connectivity,
        chosen.review_distance,
        number_of_processes(chosen),
    )
    if chosen.error_maps:
        open_folder(chosen.o / MAPS)  # refuses one of others before anything is computed
    done = correct_folder(chosen.i, chosen.o, request)
    problems = list(done.problems)
    for result in done.results:
        is_problem = result.status in ("failed", "not corrected", "partly corrected")
        if is_problem:
            problems.append(describe(result))
        elif result.status == "corrected":
            print(printable(describe(result)))
    print(*map(printable, summarize(done.results, chosen.review_distance)), sep="\n")
    for note in done.notes:
        print(f"note: {printable(note)}")
    print(f"{count(done.computed, 'case was', 'cases were')} done now, all in {done.record}")
    failed = all(result.status == "failed" for result in done.results)
    if chosen.error_maps and not failed:
        problems += _write_error_maps(chosen)
    return report_problems(problems, nothing_done=failed)


def _write_error_maps(chosen: argparse.Namespace) -> list[str]:
    """Writes where the corrected files differ from the predictions in topology.

    Returns:
        What went wrong, one line each.
    """
    from nnunet_topo.evaluation.case import Settings
    from nnunet_topo.evaluation.error_maps import TABLE, write_error_maps
    from nnunet_topo.evaluation.evaluate import evaluate_folder
    from nnunet_topo.evaluation.label_choice import LabelChoice
    from nnunet_topo.evaluation.segmentations import find_segmentations, wanted_labels
    from nnunet_topo.report.words import count, printable

    folders, processes = (chosen.o, chosen.i), number_of_processes(chosen)
    settings = Settings(chosen.connectivity)
    found = find_segmentations(*folders, chosen.o / "dataset.json", None)
    labels = wanted_labels([found], LabelChoice(), processes=processes)
    evaluation = evaluate_folder(
        *folders,
        chosen.o / "dataset.json",
        labels=labels,
        output=chosen.o / SUMMARY,
        processes=processes,
        chill=True,
        settings=settings,
    )
    maps = write_error_maps(
        found, labels, evaluation, chosen.o / MAPS, settings, processes=processes
    )
    number = sum(map(len, maps.errors.values()))
    print(f"{count(number, 'corrected error')}: {printable(str(chosen.o / MAPS / TABLE))}")
    return [*evaluation.problems, *maps.problems]
