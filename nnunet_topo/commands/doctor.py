"""`nnunet-topo doctor`: problems of an installation, and how to solve them.

A module is only imported after a check has found it to be installed, except Python's own.
"""

import argparse
import contextlib
import io
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from nnunet_topo._register import SWITCH_OFF, VARIABLE, trainers_folder

_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
_NUMBERS = ("nnUNet_n_proc_DA", "nnUNet_def_n_proc", "nnUNet_npp", "nnUNet_nps")
_TRAINER = "nnUNetTrainerTAFL"
# The oldest and newest versions that tests/acceptance/trust_versions.sh has tested.
TESTED = {
    "Python": ("3.10", "3.14"),
    "nnunetv2": ("2.8.0", "2.8.1"),
    "torch": ("2.4.0", "2.15.0"),
    "numpy": ("1.26.0", "2.5.5"),
    "numba": ("0.60.0", "0.68.1"),
}

HELP = "name the problems of the installation and their solutions"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        state: "WRONG" prevents something from working, "note" is worth knowing.
        what: what was found.
        cure: how to solve it.
    """

    state: Literal["ok", "note", "WRONG"]
    what: str
    cure: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command(there are none)."""


def run(_: argparse.Namespace) -> int:
    """Returns 1 where something is wrong."""
    from nnunet_topo.report.words import count

    wrong = 0
    for finding in examine():
        wrong += finding.state == "WRONG"
        print(f"{finding.state:<7}{finding.what}", flush=True)
        if finding.cure:
            print(f"       -> {finding.cure}")
    print(f"\n{count(wrong, 'problem')} found" if wrong else "\nno problem found")
    return int(wrong > 0)


def examine() -> Iterator[Finding]:
    """Yields the results of all checks, from versions to a run of the engine."""
    yield from _versions()
    yield from _tested()
    yield from _folders()
    yield from _numbers()
    yield from _search_path()
    yield from _lookup()
    yield from _engine()
    yield from _device()


def _versions() -> Iterator[Finding]:
    """Compares the installed versions with the requirements of this package and of numba."""
    for asking in ("nnunet-topo", "numba"):
        try:
            requirements = metadata.requires(asking) or []
        except metadata.PackageNotFoundError:
            cure = f"pip install {'.' if asking == 'nnunet-topo' else asking}"
            yield Finding("WRONG", f"{asking} is not installed as a package", cure)
            continue
        for requirement in requirements:
            yield from _requirement(asking, requirement)


def _requirement(asking: str, text: str) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    wanted = Requirement(text)
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return
    cure = f'pip install "{wanted.name}{wanted.specifier}"'
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        yield Finding("WRONG", f"{wanted.name} is missing, which {asking} needs", cure)
        return
    if wanted.specifier.contains(version, prereleases=True):
        if asking == "nnunet-topo":
            yield Finding("ok", f"{wanted.name} {version}")
        return
    what = f"{wanted.name} {version}: {asking} needs {wanted.specifier}"
    if wanted.name == "nnunetv2":
        cure += " in a second environment, see setup_instructions.md; models and data are shared"
    yield Finding("WRONG", what, cure)


def _tested() -> Iterator[Finding]:
    """Compares the installed versions with those that were tested; older ones are not allowed."""
    from packaging.version import Version

    for name, (oldest, newest) in TESTED.items():
        try:
            version = platform.python_version() if name == "Python" else metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # which was found before
        parts = len(Version(newest).release)
        if Version(version).release[:parts] > Version(newest).release:
            what = f"{name} {version} is newer than what was tested, {oldest} to {newest}"
            yield Finding("note", what, f"if something fails, try {name} {newest}")


def _folders() -> Iterator[Finding]:
    for variable in _FOLDERS:
        value = os.environ.get(variable)
        cure = f"export {variable}=/a/folder/of/yours"
        if not value:
            yield Finding("WRONG", f"{variable} is not set", cure)
        elif not Path(value).is_dir():
            what = f"{variable} is {value}, which is not a folder"
            yield Finding("WRONG", what, _cure_of_folder(value) or f"mkdir -p '{value}', or {cure}")
        elif re.fullmatch(r"Dataset\d{3}_.+", Path(value).name):
            what = f"{variable} is {value}, the folder of one data set"
            yield Finding("WRONG", what, f"export {variable}='{Path(value).parent}'")
        elif variable != "nnUNet_raw" and not _writable(Path(value)):
            what = f"{variable} is {value}, where you may not write"
            yield Finding("WRONG", what, f"{cure}, or ask for write permission")
        else:
            yield Finding("ok", f"{variable} is {value}")


def _cure_of_folder(value: str) -> str:
    """Returns what is wrong with the spelling of a path, "" if nothing is."""
    if value != (without := value.strip().strip("\"'")):
        return f"the quotes or blanks around it are part of the name: write {without}"
    if value.startswith("~"):
        return "~ is not replaced within quotes: write $HOME instead"
    return ""


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _numbers() -> Iterator[Finding]:
    for variable in _NUMBERS:
        value = os.environ.get(variable)
        if value is None:
            continue
        if not value.isdecimal():
            what = f"{variable} is {value!r}, and must be a whole number"
            yield Finding("WRONG", what, f"export {variable}=8, or unset {variable}")
        elif variable == "nnUNet_n_proc_DA" and int(value) == 0:
            what = f"{variable} is 0, and nnU-Net's planning fails with it"
            cure = f"unset {variable}, and set it only in front of a training: {variable}=0 nnUN"
            yield Finding("note", what, f"{cure}etv2_train ...")
        elif variable == "nnUNet_def_n_proc" and int(value) == 0:
            what = f"{variable} is 0, and nnU-Net needs at least one process"
            yield Finding("WRONG", what, f"export {variable}=8, or unset {variable}")


def _search_path() -> Iterator[Finding]:
    """Looks at the folders in which nnU-Net searches for trainers."""
    entries = [entry for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry]
    ours = trainers_folder()
    by_hand = f"export {VARIABLE}=$(nnunet-topo trainers), or train with nnunet-topo train"
    if not Path(ours, f"{_TRAINER}.py").is_file():
        what = f"the trainers are missing from {ours}"
        yield Finding("WRONG", what, "pip install --force-reinstall --no-deps .")
    elif ours in entries:
        yield Finding("ok", f"{VARIABLE} holds our trainers, {ours}")
    elif os.environ.get(SWITCH_OFF, "") not in ("", "0"):
        what = f"{SWITCH_OFF} is set, so nnU-Net does not find our trainers"
        yield Finding("WRONG", what, f"unset {SWITCH_OFF}; or {by_hand}")
    else:
        what = (
            f"{VARIABLE} does not hold our trainers: Python has not read nnunet_topo_register.pth, "
            "or something replaced the variable after its start"
        )
        yield Finding("WRONG", what, by_hand)
    for entry in entries:
        if not Path(entry).is_dir():
            what = f"{VARIABLE} names {entry}, which is not a folder"
            yield Finding("note", what, "nnU-Net ignores it; remove it if trainers are missing")


def _lookup() -> Iterator[Finding]:
    """Lets nnU-Net search for one of our trainers."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

            found = recursive_find_trainer_class_by_name(_TRAINER)
    except ImportError as error:
        cure = (
            "repair or remove the file that the message names; it stops every search of nnU-Net's"
        )
        yield Finding("WRONG", f"nnU-Net's search for trainers fails: {error}", cure)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        cure = (
            "torch and torchvision were built for each other in other versions: install both from "
            "one place, pip install --force-reinstall torch torchvision"
            if "torchvision::" in reason
            else f"see above; if {VARIABLE} is right, a trainer file in one of its folders is "
            "broken: python FILE.py shows the error"
        )
        yield Finding("WRONG", f"nnU-Net does not find {_TRAINER}: {reason}", cure)
    else:
        from nnunet_topo.training.trainer import TopologyTrainerMixin

        if issubclass(found, TopologyTrainerMixin):
            yield Finding("ok", f"nnU-Net finds {_TRAINER}")
        else:
            what = f"nnU-Net finds another {_TRAINER} first, of the module {found.__module__}"
            cure = f"rename or remove that file, or put our folder first in {VARIABLE}"
            yield Finding("WRONG", what, cure)


def _engine() -> Iterator[Finding]:
    """Computes Betti numbers of a ring with the engine."""
    try:
        import numpy as np

        from nnunet_topo.topology import persistence_pairs
        from nnunet_topo.topology._kernel import cache_folder

        ring = np.pad(np.pad(np.zeros((1, 2)), 1, constant_values=1.0), 1)
        found = persistence_pairs(ring).dimension.tolist()
        volume = persistence_pairs(np.pad(ring[None], 1)).dimension.tolist()
    except Exception as error:
        cure = "pip install --force-reinstall numba, and see the versions above"
        yield Finding("WRONG", f"the engine fails: {type(error).__name__}: {error}", cure)
        return
    if sorted(found) != [0, 1] or sorted(volume) != [0, 1]:
        what = f"the engine is wrong: a ring has bars in {found}, {volume} instead of [0, 1]"
        cure = f"delete {cache_folder()} and try again; if that does not help, please report it"
        yield Finding("WRONG", what, cure)
    elif cache_folder() is None:
        what = "the engine works, but no folder can be written: it is compiled in every process"
        yield Finding("note", what, "export NUMBA_CACHE_DIR=/a/folder/of/yours")
    else:
        yield Finding("ok", f"the engine works; machine code in {cache_folder()}")


def _device() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        yield Finding("WRONG", f"torch cannot be imported: {error}", "pip install torch")
        return
    if torch.cuda.is_available():
        yield Finding("ok", f"GPU: {torch.cuda.get_device_name()}")
    elif torch.version.cuda and Path("/proc/driver/nvidia").exists():
        what = f"there is an NVIDIA driver, but torch {torch.__version__} cannot use the GPU"
        cure = "nvidia-smi shows the driver's CUDA version; install a torch that fits it"
        yield Finding("WRONG", what, cure)
    else:
        yield Finding("note", "no GPU: train with -device cpu, or -device mps on a Mac")
