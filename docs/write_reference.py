"""Writes commands.md and trainers.md from the parsers and the files of the trainers.

Usage: python docs/write_reference.py
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from nnunet_topo import cli
from nnunet_topo.training.settings import describe_suffixes
from nnunet_topo.training.trainer_list import DescribedTrainer, described_trainers

FOLDER = Path(__file__).parent
NOTE = "<!-- Written by docs/write_reference.py. Do not edit. -->\n"
COMMANDS = """
# Commands

All commands of `nnunet-topo` with all their options. `nnunet-topo COMMAND --help` prints them, and
`nnunet-topo --version` the versions.
A [table](reliability.md#exit-status-of-nnunet-topo) says what the exit status of a command means,
and [installing](../setup_instructions.md#completion) how a shell completes options.
"""
TRAINERS = """
# Trainers and settings

What nnU-Net finds after `-tr`. `nnunet-topo trainers --list` prints the trainers, what each
minimises, and the settings. `nnunet-topo trainers --json` prints all of this page, for programs.
[The losses](losses.md#trainers) explains the trainers, and [training](training.md#settings) the
settings.

## Trainers

| trainer | what it minimises | printed weight | control |
|---|---|---|---|
"""
SETTINGS = """
## Settings

Settings are joined to the name with `_`, in this order, as in `nnUNetTrainerTAFL_50epochs_seed1`.
`<n>` is a whole number, `<x>` a number as Python prints it, such as `0.01`.

| setting | meaning |
|---|---|
"""
WHICH = """
## Which trainer takes which setting

All trainers take {common}. These also take:

| trainer | settings |
|---|---|
"""


def commands_page() -> str:
    """Returns the page of the commands."""
    commands = _commands("", cli.argument_parser())
    sections = ["\n".join(_section(*command)) for command in commands]
    return NOTE + COMMANDS + "\n" + "\n\n".join(sections) + "\n"


def trainers_page() -> str:
    """Returns the page of trainers and settings."""
    trainers = described_trainers()
    suffixes = [suffix for suffix, _ in describe_suffixes()]
    common = [s for s in suffixes if all(s in trainer.settings for trainer in trainers)]
    return "".join(
        (
            NOTE,
            TRAINERS,
            *map(_trainer_row, trainers),
            SETTINGS,
            *(f"| `{suffix}` | {_cell(meaning)} |\n" for suffix, meaning in describe_suffixes()),
            WHICH.format(common=_names(common)),
            *(
                f"| `{trainer.name}` | {_names(s for s in trainer.settings if s not in common)} |\n"
                for trainer in trainers
                if set(trainer.settings) - set(common)
            ),
        )
    )


def _commands(
    name: str, parser: argparse.ArgumentParser
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yields name, line and parser of the commands below a parser, and of those below them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for word, below in action.choices.items():
                yield f"{name} {word}".strip(), lines[word], below
                yield from _commands(f"{name} {word}".strip(), below)


def _section(name: str, line: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yields the lines of a command."""
    positional, required, others, words = [], [], [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words.append("|".join(action.choices))
        elif not action.option_strings:
            positional.append(action)
        elif not isinstance(action, argparse._HelpAction):
            (required if action.required else others).append(action)
    if name == "train":
        words.append("ARGUMENTS")  # nnU-Net's, which are not parsed here
    words += [f"{action.option_strings[0]} {_value(action)}" for action in required]
    words += [*map(_value, positional), *(["[options]"] if others else [])]
    yield f"{'#' * (2 + name.count(' '))} {name}\n"
    yield f"{_plain(_sentence(parser.description or line))}\n"
    yield f"`{' '.join(['nnunet-topo', name, *words])}`"
    arguments = [*positional, *required, *others]
    if arguments:
        yield "\n| argument | meaning |\n|---|---|"
    for action in arguments:
        yield f"| {_spelling(action)} | {_meaning(action)} |"


def _spelling(action: argparse.Action) -> str:
    names = action.option_strings or [""]
    spelled = [f"{name} {_value(action)}".strip() for name in names]
    return ", ".join(f"`{text}`".replace("|", "\\|") for text in spelled)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):  # of which the first must be given
        return f"{action.metavar[0]} [{' '.join(action.metavar[1:])} ...]"
    if action.metavar is not None:
        value = action.metavar
    elif action.choices is not None:
        value = "|".join(map(str, action.choices))
    else:
        value = action.dest.upper()
    if action.nargs == "?":
        return f"[{value}]"
    if action.nargs == "*":
        return f"[{value} ...]"
    return f"{value} ..." if action.nargs == "+" else value


def _meaning(action: argparse.Action) -> str:
    return _cell((action.help or "") % vars(action))


def _trainer_row(trainer: DescribedTrainer) -> str:
    weight = f"{trainer.weight:g}" if trainer.term else ""
    control = f"`{trainer.control}`" if trainer.control else ""
    description = _cell(trainer.description.rstrip("."))
    return f"| `{trainer.name}` | {description} | {weight} | {control} |\n"


def _names(names: Iterator[str] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Returns a text with what Markdown would take as markup escaped."""
    return re.sub(r"([*\[\]])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def _sentence(text: str) -> str:
    if not text.startswith("nnU"):
        text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


if __name__ == "__main__":
    (FOLDER / "commands.md").write_text(commands_page(), encoding="utf-8")
    (FOLDER / "trainers.md").write_text(trainers_page(), encoding="utf-8")
