"""`nnunet-topo trainers`: the folder of the trainers, or a list of them."""

import argparse

from nnunet_topo._register import trainers_folder

HELP = "print the folder of the trainers, for nnUNet_extTrainer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--list", action="store_true", help="print trainers and settings instead")
    shown.add_argument("--json", action="store_true", help="the same and more, for programs")


def run(chosen: argparse.Namespace) -> int:
    """Returns 0."""
    if not (chosen.list or chosen.json):
        print(trainers_folder())
        return 0
    from nnunet_topo.training import trainer_list

    print(trainer_list.as_json() if chosen.json else "\n".join(trainer_list.as_table()))
    return 0
