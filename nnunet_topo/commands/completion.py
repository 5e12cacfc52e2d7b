"""`nnunet-topo completion`: commands, options and files, completed by the shell."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

HELP = "print the completion of this command for a shell"
DESCRIPTION = (
    'bash: eval "$(nnunet-topo completion bash)" in ~/.bashrc. zsh: nnunet-topo completion zsh > '
    "_nnunet-topo, in a folder of $fpath. tcsh: eval `nnunet-topo completion tcsh` in ~/.tcshrc."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "shell",
        choices=shtab.SUPPORTED_SHELLS,
        metavar="SHELL",
        help="bash, zsh, tcsh, or another one that shtab knows",
    )


def run_with(parser: argparse.ArgumentParser, shell: str) -> int:
    """Prints the completion of a parser, and returns 0."""
    for action in _actions(parser):
        if action.type is Path:
            kind = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
            action.complete = kind  # pyright: ignore[reportAttributeAccessIssue] # as shtab wants
    print(shtab.complete(parser, shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for choice in set(action.choices.values()):
                yield from _actions(choice)
