"""`nnunet-topo cite`: BibTeX of what a training was made of."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import nnunet_topo

HELP = "BibTeX of the papers behind a trainer or command, of nnU-Net and of this package"
FILE = Path(nnunet_topo.__file__).with_name("citations.bib")
_ALWAYS = ("isensee2021", "nnunet_topo")
_OTHERS = {  # methods that are not trainers
    "refine": ("clough2020",),
    "correct": ("bazin2007",),
    "metrics": ("stucki2023", "shit2021"),  # Betti matching error, clDice
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="TRAINER",
        help="with its settings, such as nnUNetTrainerTAFL_skelrecall1; or refine, correct or "
        "metrics; default all",
    )


def run(chosen: argparse.Namespace) -> int:
    """Returns 0."""
    print("\n\n".join(entries(chosen.names)))
    return 0


def entries(names: Sequence[str]) -> list[str]:
    """Returns the BibTeX entries for some trainers, or all entries without a name.

    Raises:
        ValueError: a name is not one of our trainers, or its settings are wrong.
    """
    from nnunet_topo.training.trainer_list import papers

    text = FILE.read_text(encoding="utf-8").replace("{VERSION}", f"{{{nnunet_topo.__version__}}}")
    found = re.findall(r"@\w+\{(\w+),.*?\n\}", text, re.DOTALL)
    blocks = dict(zip(found, re.findall(r"@\w+\{.*?\n\}", text, re.DOTALL), strict=True))
    for name in names:
        if name not in _OTHERS and not name.startswith("nnUNetTrainer"):
            raise ValueError(
                f"wanted the name of a trainer, or one of {', '.join(_OTHERS)}, got {name!r}"
            )
    of_names = [_OTHERS[name] if name in _OTHERS else papers(name) for name in names]
    wanted = {key for keys in of_names for key in keys} | {*_ALWAYS} if names else {*blocks}
    return [block for key, block in blocks.items() if key in wanted]
