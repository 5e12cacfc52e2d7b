"""An image on its way through the preprocessing, and the outcome."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_topo.files import case_files
from nnunet_topo.images.readers import known_ending
from nnunet_topo.messages import one_line, reason

_SHOWN = 5  # names in a message


@dataclass(frozen=True, slots=True)
class Target:
    """What all cases of a call have in common."""

    folder: Path
    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict[str, Any]
    plan: str  # digest of what the preprocessing depends on
    channels: int
    spacings: tuple[tuple[float, float], ...]  # (lowest, highest) allowed, in the image's order


@dataclass(frozen=True, slots=True)
class Case:
    """An image, labelled or not, and what a process must know to preprocess it."""

    name: str
    files: tuple[Path, ...]
    target: Target
    labelled: Mapping[str, str]  # digest of the voxels -> name of the labelled case


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome for an image; one of digest and problem is ""."""

    name: str
    digest: str = ""
    problem: str = ""


def find_cases(folder: Path, ending: str) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """Returns the files of each case by their names' four digits, and images named otherwise."""
    cases: dict[str, list[Path]] = defaultdict(list)
    problems = []
    for file in case_files(folder, ""):
        named = re.fullmatch(rf"(.+)_\d{{4}}{re.escape(ending)}", file.name)
        if named:
            cases[named[1]].append(file)
        elif known_ending(file):
            problems.append(f"{file.name}: left out, because it is not named CASE_0000{ending}")
    return {name: tuple(files) for name, files in cases.items()}, problems


def first_names(names: Sequence[str]) -> str:
    """Returns the first few names, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN))


def killed(case: Case) -> Outcome:
    """Returns the outcome of a case whose process was killed."""
    return Outcome(case.name, problem=f"{case.name}: its process was killed; too little memory?")


def reason_of(error: Exception) -> str:
    """Returns an error in one line."""
    return one_line(error) if isinstance(error, RuntimeError) else reason(error)
