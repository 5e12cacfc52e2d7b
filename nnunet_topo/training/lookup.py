"""nnU-Net's search for trainers without its output, and the right spelling if it finds none."""

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
    """Returns the trainer that nnU-Net finds, without what nnU-Net prints about its search.

    Raises:
        ValueError: there is none, or the settings in its name are wrong.
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
    """Silences one warning: timm, which nnU-Net's Primus trainers import, uses torch.jit.interface.

    Each search for a trainer gives it, and nobody who trains can do anything about it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.interface` is deprecated", FutureWarning)
        yield


def right_spelling(name: str, stems: Iterable[str]) -> str:
    """Returns the name that a misspelt name of a trainer is likely to mean, "" if there is none.

    Args:
        name: settings included, such as nnUNetTrainerTALF_50epochs.
        stems: names of trainers without settings.
    """
    if _PREFIX not in name:
        return ""
    asked, *settings = name.split("_", 1)
    known = {stem.removeprefix(_PREFIX).lower(): stem for stem in stems}
    alike = get_close_matches(asked.removeprefix(_PREFIX).lower(), known, n=1, cutoff=0.7)
    return "_".join([known[alike[0]], *settings]) if alike else ""


def refuse_misspelt(name: str, folder: Path) -> None:
    """Ends nnU-Net's search at a name that is spelt like one of ours, with the right spelling.

    The right spelling is then the last line that is printed. If another folder of trainers follows
    ours in nnUNet_extTrainer, it may hold the name. The search then continues, and the right
    spelling is printed after nnU-Net's error when Python ends with one.

    Args:
        name: that is not one of ours.
        folder: of our trainers.

    Raises:
        RuntimeError: like nnU-Net's own, if no folder after ours is searched.
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
    error = getattr(sys, "last_value", None)  # what Python ended with
    if isinstance(error, RuntimeError) and name in str(error):
        print(told, file=sys.stderr)
