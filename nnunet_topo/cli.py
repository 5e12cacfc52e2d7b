"""The command nnunet-topo: a table of its subcommands, each in a module of its own."""

import argparse
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import nnunet_topo
from nnunet_topo.commands import (
    cite,
    compare,
    completion,
    correct,
    demo,
    doctor,
    evaluate,
    plan,
    postprocess,
    preprocess_unlabeled,
    refine,
    run,
    train,
    trainers,
)
from nnunet_topo.commands.exit_status import RESUMES, exit_status
from nnunet_topo.commands.printing import printing_anyway

COMMANDS = {
    "trainers": trainers,
    "cite": cite,
    "plan": plan,
    "evaluate": evaluate,
    "compare": compare,
    "run": run,
    "postprocess": postprocess,
    "refine": refine,
    "correct": correct,
    "preprocess-unlabeled": preprocess_unlabeled,
    "demo": demo,
    "doctor": doctor,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns the exit status."""
    with printing_anyway():
        return _run(list(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["train"]:
        return train.run_with(arguments[1:])
    parser = argument_parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    chosen = parser.parse_args(arguments)
    if chosen.command == "completion":
        return completion.run_with(parser, chosen.shell)
    chosen.command_line = shlex.join(["nnunet-topo", *arguments])
    command = COMMANDS[chosen.command]
    interrupted = "nothing was written" if command is plan else RESUMES
    return exit_status(chosen.command, lambda: command.run(chosen), interrupted=interrupted)


def argument_parser() -> argparse.ArgumentParser:
    """Returns the parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="nnunet-topo",
        description="Topology-aware training for nnU-Net v2.",
        epilog="Problems: send the output of `nnunet-topo doctor` with your report. "
        "What to cite: `nnunet-topo cite TRAINER`.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print versions and exit")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train", add_help=False, help=train.HELP)
    for name, module in [*COMMANDS.items(), ("completion", completion)]:
        description = getattr(module, "DESCRIPTION", None)
        module.add_arguments(commands.add_parser(name, help=module.HELP, description=description))
    return parser


class _Version(argparse.Action):
    """Prints the versions on which results depend."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        lines = [f"nnunet-topo {nnunet_topo.__version__}"]
        for name in ("nnunetv2", "torch", "numpy"):
            try:
                lines.append(f"{name} {metadata.version(name)}")
            except metadata.PackageNotFoundError:
                lines.append(f"{name} is not installed")
        print(*lines, f"Python {platform.python_version()}", sep="\n")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
