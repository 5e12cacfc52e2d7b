"""`nnunet-topo run`: several trainers and folds, trained here or on a cluster, and compared."""

import argparse
import shlex
import sys
from pathlib import Path

from nnunet_topo._register import register
from nnunet_topo.commands import compare
from nnunet_topo.commands.arguments import (
    add_executor_arguments,
    add_patients_argument,
    check_executor,
    cluster,
)

HELP = "nnUNetv2_train for several trainers and folds, here or on a cluster, then compare"
DESCRIPTION = (
    "Trains and validates what is not finished yet, fold by fold, and compares all trainers with "
    "the first. After an interruption the same command resumes."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "-d", required=True, metavar="DATASET", help="number or name of the data set"
    )
    parser.add_argument("-c", required=True, metavar="CONFIGURATION", help="3d_fullres, 2d, ...")
    parser.add_argument(
        "-tr",
        required=True,
        nargs="+",
        action="extend",
        metavar="TRAINER",
        help="trainers, the control first",
    )
    parser.add_argument("-f", nargs="+", action="extend", metavar="FOLD", help="default 0 to 4")
    parser.add_argument("-p", metavar="PLANS", default="nnUNetPlans", help="default nnUNetPlans")
    parser.add_argument("-o", type=Path, required=True, metavar="DIR", help="for report and logs")
    parser.add_argument(
        "-device", choices=("cpu", "cuda", "mps"), default="cuda", help="default cuda"
    )
    parser.add_argument("-num_gpus", type=int, default=1, metavar="N", help="for each training")
    parser.add_argument("--npz", action="store_true", help="save probabilities of the validations")
    add_patients_argument(parser)
    parser.add_argument(
        "--gpus",
        type=int,
        metavar="N",
        help="GPUs in use at the same time; default: those of one training, on Slurm no limit",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only print the commands that would be run"
    )
    add_executor_arguments(parser)


def run(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where a training failed or something could not be evaluated."""
    register(ask=False)
    from nnunet_topo.commands.comparison_output import check_output
    from nnunet_topo.commands.executors import train_here, train_on_cluster
    from nnunet_topo.commands.nnunet_commands import continued, remove_dead_locks
    from nnunet_topo.commands.notes import notes_on_patients
    from nnunet_topo.commands.training_board import Board
    from nnunet_topo.commands.trainings import choose_trainings, patients_of_folds
    from nnunet_topo.evaluation.patients import read_patients
    from nnunet_topo.locks import hold
    from nnunet_topo.report.words import printable

    check_executor(chosen)
    slots = [] if chosen.executor == "slurm" or chosen.dry_run else _slots(chosen)
    trainers, folds = list(dict.fromkeys(chosen.tr)), list(dict.fromkeys(chosen.f or "01234"))
    of_data = ("-d", chosen.d, "-c", chosen.c, "-p", chosen.p)
    options = ["-device", chosen.device, "-num_gpus", str(chosen.num_gpus)]
    options += ["--npz"] if chosen.npz else []
    trainings = choose_trainings(chosen.d, chosen.c, chosen.p, chosen.tr, folds, options)
    of_patients: list[str] = []
    if chosen.patients is not None:
        of_patients = ["--patients", chosen.patients]
        patients = read_patients(chosen.patients)
        of_folds = patients_of_folds(chosen.d, chosen.c, chosen.p, folds, patients)
        for note in notes_on_patients(*of_folds):
            print(f"note: {printable(note)}", flush=True)
    if chosen.dry_run:
        for training in trainings:
            is_done = "# done: " if training.dice() is not None else ""
            if training.starts_from is not None:
                print(f"# the next one starts from {printable(str(training.starts_from))}")
            print(is_done + shlex.join(continued(training.command, training.folder)))
        return 0
    check_output(chosen.o)
    hold(chosen.o, "nnunet-topo run")
    board = Board(
        trainings,
        chosen.o / "logs",
        lambda lines: print(*map(printable, lines.splitlines()), sep="\n", flush=True),
    )
    unfinished = board.unfinished()
    for training in trainings:
        if training not in unfinished:
            remove_dead_locks(training.folder)
    if chosen.executor == "slurm":
        gpus = chosen.num_gpus if chosen.device == "cuda" else 0
        slurm = cluster(chosen, chosen.o / "jobs", gpus=gpus)
        train_on_cluster(unfinished, board, slurm, chosen.o / "jobs")
    else:
        train_here(unfinished, board, slots)
    if board.failed:
        names = ", ".join(f"{training.trainer}, fold {training.fold}" for training in board.failed)
        print(f"not compared, because some trainings failed: {printable(names)}", file=sys.stderr)
        return 1
    of_models = "-tr", *trainers, "-f", *folds
    return compare.run_with([*of_data, *of_models, *of_patients, "-o", str(chosen.o)])


def _slots(chosen: argparse.Namespace) -> list[dict[str, str]]:
    """Returns the environment of each training that runs on this machine at the same time."""
    import torch

    from nnunet_topo.commands.executors import gpu_slots

    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("-device cuda: PyTorch finds no GPU here; -device cpu works everywhere")
    if chosen.gpus is None:
        return [{}]
    if chosen.device != "cuda":
        raise ValueError(f"--gpus needs -device cuda, got {chosen.device}")
    return gpu_slots(chosen.gpus, chosen.num_gpus, torch.cuda.device_count())
