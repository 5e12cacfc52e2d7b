"""The command nnunet-topo: a table of its subcommands, each in a module of its own."""

import argparse
import shlex
import sys
from collections.abc import Sequence

import nnunet_topo
from nnunet_topo.commands import (
    compare,
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

COMMANDS = {
    "trainers": trainers,
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
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["train"]:
        return train.run_with(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="nnunet-topo", description="Topology-aware training for nnU-Net v2."
    )
    parser.add_argument("--version", action="version", version=nnunet_topo.__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train", add_help=False, help=train.HELP)
    for name, module in COMMANDS.items():
        description = getattr(module, "DESCRIPTION", None)
        module.add_arguments(commands.add_parser(name, help=module.HELP, description=description))
    chosen = parser.parse_args(arguments)
    chosen.command_line = shlex.join(["nnunet-topo", *arguments])
    command = COMMANDS[chosen.command]
    interrupted = "nothing was written" if command is plan else RESUMES
    return exit_status(chosen.command, lambda: command.run(chosen), interrupted=interrupted)


if __name__ == "__main__":
    sys.exit(main())
