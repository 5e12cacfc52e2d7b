"""The command nnunet-topo."""

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path

import nnunet_topo
from nnunet_topo._register import register, trainers_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["train"]:  # every option is nnU-Net's, --help too
        return _train(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="nnunet-topo", description="Topology-aware training for nnU-Net v2."
    )
    parser.add_argument("--version", action="version", version=nnunet_topo.__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "train",
        add_help=False,
        help="nnUNetv2_train with the same arguments, where Python's .pth files are not read",
    )
    trainers = commands.add_parser(
        "trainers", help="print the folder of the trainers, for nnUNet_extTrainer"
    )
    trainers.add_argument("--list", action="store_true", help="print trainers and settings instead")
    return _list_trainers() if parser.parse_args(arguments).list else _print_folder()


def _train(arguments: list[str]) -> int:
    register(ask=False)
    from nnunetv2.run.run_training import run_training_entry

    sys.argv = ["nnUNetv2_train", *arguments]
    run_training_entry()
    return 0


def _print_folder() -> int:
    print(trainers_folder())
    return 0


def _list_trainers() -> int:
    for name, description in _described_trainers():
        print(f"{name:<36}{description}")
    from nnunet_topo.nnunet.settings import describe_suffixes

    print("\nSettings, joined to the name with _ in this order, as in nnUNetTrainerTAFL_50epochs:")
    for spelling, meaning in describe_suffixes():
        print(f"  {spelling:<26}{meaning}")
    return 0


def _described_trainers() -> list[tuple[str, str]]:
    """Returns name and first docstring line of each trainer, read without importing it."""
    described = []
    for file in sorted(Path(trainers_folder()).glob("nnUNetTrainer*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        described.append((file.stem, (ast.get_docstring(classes[0]) or "").split("\n")[0]))
    return described


if __name__ == "__main__":
    sys.exit(main())
