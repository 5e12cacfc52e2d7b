"""Broken installations, and whether the doctor names the cure."""

import os
import re
from importlib import metadata
from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from nnunet_topo._register import trainers_folder
from nnunet_topo.cli import main
from nnunet_topo.commands import doctor
from nnunet_topo.topology import _kernel


@pytest.fixture
def sound(tmp_path, monkeypatch):
    """Sets up nnU-Net's environment as it should be, and returns a folder for what breaks it."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        folder = tmp_path / variable
        folder.mkdir()
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setenv("nnUNet_extTrainer", trainers_folder())
    monkeypatch.delenv("NNUNET_TOPO_NO_AUTOREGISTER", raising=False)
    broken = tmp_path / "broken"
    broken.mkdir()
    return broken


def package(folder, monkeypatch, name, version, *requirements):
    """Puts the metadata of another version of a package in front of the installed one."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))


def trainer_file(folder, monkeypatch, name, text):
    (folder / f"{name}.py").write_text(text)
    both = f"{folder}{os.pathsep}{trainers_folder()}"
    monkeypatch.setenv("nnUNet_extTrainer", both)


ANOTHER = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
class nnUNetTrainerTAFL(nnUNetTrainer):
    pass
"""


def _made(folder):
    folder.mkdir()
    return folder


# What breaks, how it is made, what is found and what cures it.
BROKEN = {
    "results not set": (
        lambda folder, patch: patch.delenv("nnUNet_results"),
        ("nnUNet_results is not set", "export nnUNet_results=/a/folder"),
    ),
    "raw folder missing": (
        lambda folder, patch: patch.setenv("nnUNet_raw", str(folder / "gone")),
        ("nnUNet_raw is .*gone, which is not a folder", "mkdir -p '.*gone'"),
    ),
    "quotes in the name of a folder": (
        lambda folder, patch: patch.setenv("nnUNet_raw", f'"{folder}"'),
        ("which is not a folder", "the quotes or blanks around it are part of the name: write /"),
    ),
    "home in quotes": (
        lambda folder, patch: patch.setenv("nnUNet_raw", "~/raw"),
        ("nnUNet_raw is ~/raw, which is not a folder", r"write \$HOME instead"),
    ),
    "data set in place of the folder of all": (
        lambda folder, patch: patch.setenv("nnUNet_raw", str(_made(folder / "Dataset004_Hip"))),
        ("Dataset004_Hip, the folder of one data set", "export nnUNet_raw='/.*[^4]/?'"),
    ),
    "results not writable": (
        lambda folder, patch: patch.setenv("nnUNet_results", "/proc"),
        ("nnUNet_results is /proc, where you may not write", "ask for write permission"),
    ),
    "number of workers misspelt": (
        lambda folder, patch: patch.setenv("nnUNet_n_proc_DA", "all"),
        ("nnUNet_n_proc_DA is 'all', and must be a whole number", "unset nnUNet_n_proc_DA"),
    ),
    "no workers at all": (
        lambda folder, patch: patch.setenv("nnUNet_def_n_proc", "0"),
        ("nnUNet_def_n_proc is 0, and nnU-Net needs at least one", "export nnUNet_def_n_proc=8"),
    ),
    "registration refused": (
        lambda folder, patch: (
            patch.setenv("NNUNET_TOPO_NO_AUTOREGISTER", "1"),
            patch.delenv("nnUNet_extTrainer"),
        ),
        ("NNUNET_TOPO_NO_AUTOREGISTER is set", "unset NNUNET_TOPO_NO_AUTOREGISTER"),
    ),
    "search path replaced": (
        lambda folder, patch: patch.setenv("nnUNet_extTrainer", str(folder)),
        ("nnUNet_extTrainer does not hold our trainers", r"export nnUNet_extTrainer=\$\(nnunet"),
    ),
    "trainer file of a colleague broken": (
        lambda folder, patch: trainer_file(
            folder, patch, "nnUNetTrainerTheirs", "import not_installed_anywhere"
        ),
        ("search for trainers fails: .*not_installed_anywhere", "repair or remove the file"),
    ),
    "torch and torchvision of different builds": (
        lambda folder, patch: trainer_file(
            folder,
            patch,
            "nnUNetTrainerTheirs",
            "raise RuntimeError('operator torchvision::nms does not exist')",
        ),
        ("torchvision::nms", "install both from one place"),
    ),
    "research code copied under our name": (
        lambda folder, patch: trainer_file(folder, patch, "nnUNetTrainerTAFL", ANOTHER),
        ("nnU-Net finds another nnUNetTrainerTAFL first", "rename or remove that file"),
    ),
    "older nnU-Net": (
        lambda folder, patch: package(folder, patch, "nnunetv2", "2.5.1"),
        ("nnunetv2 2.5.1: nnunet-topo needs .*>=2.8", "second environment"),
    ),
    "numpy too new for numba": (
        lambda folder, patch: package(folder, patch, "numpy", "99.0"),
        ("numpy 99.0: numba needs <", 'pip install "numpy.*<'),
    ),
    "requirement missing": (
        lambda folder, patch: package(
            folder, patch, "nnunet_topo", "0.1.0", "not-installed-anywhere>=3"
        ),
        (
            "not-installed-anywhere is missing, which nnunet-topo needs",
            'pip install "not-installed-anywhere>=3"',
        ),
    ),
    "trainers missing from the package": (
        lambda folder, patch: patch.setattr(doctor, "trainers_folder", lambda: str(folder)),
        ("the trainers are missing from .*broken", "pip install --force-reinstall"),
    ),
}


def test_a_sound_installation_has_no_problem(sound, capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "nnU-Net finds nnUNetTrainerTAFL" in printed
    assert "the engine works" in printed
    assert "no problem found" in printed


@pytest.mark.parametrize("name", BROKEN)
def test_each_problem_is_found_and_its_cure_is_named(name, sound, monkeypatch, capsys):
    break_, (what, cure) = BROKEN[name]
    break_(sound, monkeypatch)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    found = [i for i, line in enumerate(lines) if re.match(f"WRONG  .*{what}", line)]
    assert len(found) == 1, printed
    assert re.search(cure, lines[found[0] + 1]), printed


def test_no_augmentation_workers_are_right_for_a_training_and_wrong_for_planning(
    sound, monkeypatch, capsys
):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "note   nnUNet_n_proc_DA is 0, and nnU-Net's planning fails with it" in printed
    assert "only in front of a training: nnUNet_n_proc_DA=0 nnUNetv2_train ..." in printed
    with pytest.raises(RuntimeError, match="positive"):  # else there is nothing to warn of
        torch.set_num_threads(get_allowed_n_proc_DA())


def test_without_any_writable_folder_the_engine_still_works(sound, monkeypatch, capsys):
    monkeypatch.setattr(_kernel, "_cache_parents", lambda: iter([Path("/proc")]))
    _kernel.cache_folder.cache_clear()
    try:
        assert main(["doctor"]) == 0
    finally:
        _kernel.cache_folder.cache_clear()
    printed = capsys.readouterr().out
    assert "note   the engine works, but no folder can be written" in printed
    assert "-> export NUMBA_CACHE_DIR=" in printed


@pytest.mark.parametrize(
    ("version", "is_told"),
    [("2.8.1", False), ("2.8.1.post1", False), ("2.8", False), ("2.8.2", True), ("2.9", True)],
)
def test_a_version_newer_than_the_tested_ones_is_a_note(
    version, is_told, sound, monkeypatch, capsys
):
    package(sound, monkeypatch, "nnunetv2", version)
    assert main(["doctor"]) == 0
    told = f"note   nnunetv2 {version} is newer than what was tested, 2.8.0 to 2.8.1"
    assert (told in capsys.readouterr().out) == is_told


def test_the_oldest_tested_versions_are_the_lowest_that_may_be_installed():
    allowed = {"Python": SpecifierSet(metadata.metadata("nnunet-topo")["Requires-Python"])}
    for text in metadata.requires("nnunet-topo") or []:
        requirement = Requirement(text)
        if requirement.marker is None:
            allowed[requirement.name] = requirement.specifier
    for name, (oldest, newest) in doctor.TESTED.items():
        lowest = [Version(one.version) for one in allowed[name] if one.operator == ">="]
        assert lowest == [Version(oldest)], name
        assert newest in allowed[name], name
