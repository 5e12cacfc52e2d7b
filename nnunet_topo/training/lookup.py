"""Quiet search for trainers, and the right spelling of a misspelt name."""

import atexit
import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_topo._register import VARIABLE

_PREFIX = "nnUNetTrainer"
_MEANT = "; did you mean "
_LIST = "nnunet-topo trainers --list shows all of ours"


def find_trainer(name: str) -> type:
    """Returns the trainer that nnU-Net finds, but hides what nnU-Net prints while it searches.

    Raises:
        ValueError: there is no such trainer, or the settings in its name are wrong.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), without_timms_warning():
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError as error:
        right = str(error).partition(_MEANT)[2]
        told = f"{_MEANT}{right}" if right else f"; {_LIST}"
        raise ValueError(f"nnU-Net finds no trainer {name}{told}") from None


@contextlib.contextmanager
def without_timms_warning() -> Iterator[None]:
    """Hides a warning that every search for a trainer causes and that users can do nothing about.

    nnU-Net's Primus trainers import timm, and timm uses the deprecated torch.jit.interface.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.interface` is deprecated", FutureWarning)
        yield


def right_spelling(name: str, stems: Iterable[str]) -> str:
    """Returns the name that a misspelt trainer name probably means, "" if there is none.

    Args:
        name: with settings, such as nnUNetTrainerTALF_50epochs.
        stems: names of trainers without settings.
    """
    if _PREFIX not in name:
        return ""
    asked, *settings = name.split("_", 1)
    known = {stem.removeprefix(_PREFIX).lower(): stem for stem in stems}
    alike = get_close_matches(asked.removeprefix(_PREFIX).lower(), known, n=1, cutoff=0.7)
    return "_".join([known[alike[0]], *settings]) if alike else ""


def refuse_misspelt(name: str, folder: Path) -> None:
    """Stops nnU-Net's search for a name that resembles one of ours, and tells the right spelling.

    The right spelling is then the last line that is printed. If nnUNet_extTrainer lists another
    folder of trainers after ours, the name may be in there. The search then continues. If it ends
    in an error, the right spelling is printed after it.

    Args:
        name: that is not one of ours.
        folder: of our trainers.

    Raises:
        RuntimeError: the name resembles one of ours and no folder after ours is searched. The
            message begins like nnU-Net's.
    """
    right = right_spelling(name, [file.stem for file in folder.glob(f"{_PREFIX}*.py")])
    if not right:
        return
    told = f"Could not find requested nnunet trainer {name}{_MEANT}{right}? {_LIST}"
    if _is_searched_last(folder):
        raise RuntimeError(told)
    atexit.register(_tell_after_an_error, name, f"nnunet-topo: {told}")


def _is_searched_last(folder: Path) -> bool:
    entries = os.environ.get(VARIABLE, "").split(os.pathsep)
    there = [Path(entry) for entry in entries if entry.strip() and Path(entry).exists()]
    return bool(there) and there[-1].samefile(folder)


def _tell_after_an_error(name: str, told: str) -> None:
    error = getattr(sys, "last_value", None)  # set if Python ends with an error
    if isinstance(error, RuntimeError) and name in str(error):
        print(told, file=sys.stderr)
