"""Arguments that several commands take, and what they stand for."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_topo.commands.slurm import Slurm
    from nnunet_topo.evaluation.label_choice import LabelChoice
    from nnunet_topo.metrics import Windows

_TIME, _JOBS = "24:00:00", 8  # of Slurm jobs


def add_label_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which labels there are and what they are called."""
    command.add_argument("-djfile", type=Path, metavar="FILE", help="nnU-Net's dataset.json")
    command.add_argument(
        "-pfile", type=Path, metavar="FILE", help="nnU-Net's plans; default: reader by file ending"
    )
    command.add_argument(
        "-l",
        nargs="*",
        action="extend",
        metavar="LABEL",
        help="evaluate only these: values, ranges (10-33) or names; default: all of dataset.json, "
        "otherwise all in the files",
    )
    command.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the labels: dataset.json, CSV, ITK-SNAP label file, color table or "
        "segmentation of Slicer",
    )
    command.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME=LABELS",
        help="evaluate several labels as one, as in ribs=10-33 or kidneys=2,3; may be repeated",
    )
    command.add_argument(
        "-il",
        type=int,
        metavar="LABEL",
        help="ignore label; default that of dataset.json, otherwise that of --labels",
    )


def add_metric_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments that say how metrics are computed."""
    add_processes_argument(command)
    command.add_argument(
        "--connectivity",
        choices=("full", "face"),
        help="of the foreground: full, 26 in volumes and 8 in images, or face, 6 and 4; default: "
        "as in the training, or in metrics computed before, otherwise full",
    )
    command.add_argument(
        "--nsd-tolerance",
        type=float,
        default=1.0,
        metavar="MM",
        help="distance up to which surfaces count as equal, default 1 mm",
    )
    command.add_argument(
        "--windows",
        nargs="+",
        type=int,
        metavar=("SIDE", "NUMBER"),
        help="also average Betti errors over NUMBER (default 100) random windows of SIDE voxels",
    )


def add_patients_argument(
    command: argparse.ArgumentParser, effect: str = "Tests then count patients"
) -> None:
    """Adds the argument that says which cases are of the same patient, and its effect."""
    command.add_argument(
        "--patients",
        metavar="PATTERN",
        help="what names the patient of a case, if some have several: a regular expression for "
        "that part of a case's name, as in 'patient[0-9]+', or a .csv file with the columns case "
        f"and patient. {effect}",
    )


def check_prior_file(file: Path) -> None:
    """Checks a topology.json that was typed.

    Raises:
        ValueError: there is no such file.
    """
    if not file.is_file():
        raise ValueError(
            f"there is no file {file}; nnunet-topo plan writes topology.json into the folder of "
            "the data set in nnUNet_preprocessed"
        )


def add_processes_argument(command: argparse.ArgumentParser) -> None:
    """Adds the number of processes."""
    command.add_argument("-np", type=int, help="processes; default $nnUNet_def_n_proc")


def add_executor_arguments(command: argparse.ArgumentParser) -> None:
    """Adds where the work is done, and what a cluster gives for it."""
    command.add_argument(
        "--executor",
        choices=("local", "slurm"),
        default="local",
        help="on this machine (default), or as jobs of a Slurm cluster",
    )
    command.add_argument("--partition", metavar="P", help="of the cluster; default: Slurm's")
    command.add_argument(
        "--time",
        metavar="T",
        help=f"limit of a job as for sbatch, default {_TIME}; then it is queued again and resumes",
    )
    command.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another option of sbatch, such as mem=32G or cpus-per-task=12; may be repeated",
    )


def add_jobs_arguments(command: argparse.ArgumentParser) -> None:
    """Adds where cases are computed, and in how many jobs."""
    add_executor_arguments(command)
    command.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help=f"Slurm jobs that share the cases, default {_JOBS}",
    )


def check_executor(chosen: argparse.Namespace) -> None:
    """Checks that what a cluster gives is only asked for where one is used.

    Raises:
        ValueError: an argument has no effect here.
    """
    of_cluster = {name: getattr(chosen, name, None) for name in ("partition", "time", "jobs")}
    of_cluster["slurm"] = chosen.slurm or None
    given = [f"--{name}" for name, value in of_cluster.items() if value is not None]
    if given and chosen.executor != "slurm":
        raise ValueError(f"wanted --executor slurm for {' and '.join(given)}, got local")


@contextmanager
def cases_where_chosen(
    chosen: argparse.Namespace, folder: Path, *, processes: int = 1, gpus: int = 0
) -> Iterator[None]:
    """Lets the cases be computed where the user has chosen, meanwhile.

    Args:
        chosen: with the arguments of `add_jobs_arguments`.
        folder: for files of the jobs, near the results.
        processes: of each job.
        gpus: of each job.

    Raises:
        ValueError: there is no cluster here, or an argument is wrong.
    """
    from nnunet_topo.processes import computed

    check_executor(chosen)
    if chosen.executor == "local":
        yield
        return
    from nnunet_topo.commands.case_jobs import CaseJobs

    jobs = _JOBS if chosen.jobs is None else chosen.jobs
    with computed(CaseJobs(cluster(chosen, folder, gpus=gpus, cpus=processes), folder, jobs)):
        yield


def cluster(chosen: argparse.Namespace, folder: Path, *, gpus: int = 0, cpus: int = 1) -> "Slurm":
    """Returns the cluster that the user has chosen.

    Args:
        chosen: with the arguments of `add_executor_arguments`.
        folder: for files of the jobs.
        gpus: of each job.
        cpus: of each job, unless --slurm says how many.

    Raises:
        ValueError: there is none here, or an argument is wrong.
    """
    from nnunet_topo.commands.slurm import Resources, Slurm, minutes_of, options_of

    wanted, at_once = getattr(chosen, "gpus", None), None
    if wanted is not None:
        if not gpus or wanted < gpus:
            raise ValueError(f"--gpus: wanted at least {gpus or 1} on -device cuda, got {wanted}")
        at_once = wanted // gpus
    options = options_of(chosen.slurm)
    if cpus > 1:
        options = {"cpus-per-task": str(cpus)} | options
    minutes = minutes_of(chosen.time or _TIME)
    resources = Resources(chosen.partition, minutes, gpus, at_once, options)
    return Slurm(folder, resources)


def number_of_processes(chosen: argparse.Namespace) -> int:
    """Returns the number that the user has given, or nnU-Net's default."""
    from nnunetv2.configuration import default_num_processes

    return default_num_processes if chosen.np is None else chosen.np


def label_choice(chosen: argparse.Namespace) -> "LabelChoice | None":
    """Returns the user's choice of labels, None if there is none."""
    from nnunet_topo.evaluation.label_choice import LabelChoice

    choice = LabelChoice(chosen.l, chosen.labels, chosen.group, chosen.il)
    return None if choice == LabelChoice(groups=[]) else choice


def windows(chosen: argparse.Namespace) -> "Windows | None":
    """Returns the windows that the user asks for, None if there are none.

    Raises:
        ValueError: more than two numbers, or windows that are none.
    """
    from nnunet_topo.metrics import Windows

    if chosen.windows is None:
        return None
    if len(chosen.windows) > 2:
        raise ValueError(f"--windows: wanted SIDE and perhaps NUMBER, got {chosen.windows}")
    return Windows(*chosen.windows)
