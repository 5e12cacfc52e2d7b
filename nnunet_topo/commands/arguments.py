"""Arguments that several commands take, and what they stand for."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_topo.evaluation.label_choice import LabelChoice
    from nnunet_topo.metrics import Windows


def add_label_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which labels there are and what they are called."""
    command.add_argument("-djfile", type=Path, metavar="FILE", help="nnU-Net's dataset.json")
    command.add_argument(
        "-pfile", type=Path, metavar="FILE", help="nnU-Net's plans; default: reader by file ending"
    )
    command.add_argument(
        "-l",
        nargs="*",
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
        "-il", type=int, metavar="LABEL", help="ignore label; default that of dataset.json"
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


def add_processes_argument(command: argparse.ArgumentParser) -> None:
    """Adds the number of processes."""
    command.add_argument("-np", type=int, help="processes; default $nnUNet_def_n_proc")


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
