"""How nnU-Net finds the trainers, in the environment that the tests run in."""

import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_topo import cli
from nnunet_topo._register import register, trainers_folder
from nnunet_topo.training.lookup import find_trainer
from nnunet_topo.training.named_trainers import trainer_with_settings
from nnunet_topo.training.trainer import TopologyTrainerMixin

from .conftest import run
from .trainers import TRAINERS

ROOT = Path(__file__).parents[1]
LOOKUP = """
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
import sys
for name in sys.argv[1:]:
    print("FOUND", find(name).__name__)
"""


def at_start(code, **env):
    """Returns what a fresh Python prints, run outside the checkout."""
    outer = {k: v for k, v in os.environ.items() if k != "nnUNet_extTrainer"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=outer | env,
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


SHOW = "import os; print(os.environ.get('nnUNet_extTrainer'))"


def test_python_starts_with_the_trainers_registered():
    folder = at_start(SHOW)
    assert sorted(file.stem for file in Path(folder).glob("nnUNetTrainer*.py")) == TRAINERS


def test_what_the_user_set_stays_in_front_and_nothing_is_doubled():
    ours = at_start(SHOW)
    theirs = f"/their/folder{os.pathsep}/another"
    both = at_start(SHOW, nnUNet_extTrainer=theirs)
    assert both == f"{theirs}{os.pathsep}{ours}"
    assert at_start(SHOW, nnUNet_extTrainer=both) == both


def test_registration_can_be_refused():
    assert at_start(SHOW, NNUNET_TOPO_NO_AUTOREGISTER="1") == "None"
    assert at_start(SHOW, NNUNET_TOPO_NO_AUTOREGISTER="0") != "None"


def test_starting_python_loads_nothing_heavy():
    code = "import sys; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = at_start(code)
    for heavy in ("numpy", "torch", "nnunetv2", "gudhi", "scipy"):
        assert f"'{heavy}'" not in loaded


def test_a_half_removed_package_prints_nothing():
    line = (ROOT / "nnunet_topo_register.pth").read_text()
    assert line.startswith("import ")
    assert len(line.splitlines()) == 1
    assert at_start(f"import sys; sys.modules['nnunet_topo'] = None\n{line}") == ""


def test_the_start_file_names_a_callable():
    entry = (ROOT / "nnunet_topo_register.start").read_text().strip()
    assert pkgutil.resolve_name(entry) is register


@pytest.fixture
def user_folder(tmp_path):
    """A folder with a trainer of the user's own."""
    (tmp_path / "nnUNetTrainerTheirs.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class nnUNetTrainerTheirs(nnUNetTrainer):\n    pass\n"
    )
    return str(tmp_path)


def test_nnunet_finds_every_trainer_and_those_of_the_user_too(user_folder):
    names = [*TRAINERS, "nnUNetTrainerTheirs", "nnUNetTrainerTAFL_5epochs_seed1", "nnUNetTrainer"]
    folders = user_folder + os.pathsep + at_start(SHOW)
    printed = run("python", "-c", LOOKUP, *names, env={"nnUNet_extTrainer": folders})
    assert [line.split()[1] for line in printed.splitlines() if line[:5] == "FOUND"] == names


def test_wrong_settings_stop_the_lookup_with_the_right_name():
    printed = run("python", "-c", LOOKUP, "nnUNetTrainerTAFL_weight1e-2", fails=True)
    assert "ValueError" in printed
    assert "nnUNetTrainerTAFL_weight0.01" in printed


def test_a_name_that_is_not_ours_is_left_to_nnunet():
    printed = run("python", "-c", LOOKUP, "nnUNetTrainerNobody_5epochs", fails=True)
    assert "RuntimeError: Could not find requested nnunet trainer" in printed
    assert "did you mean" not in printed


MISSPELT = {
    "nnUNetTrainerTALF_50epochs_seed1": "did you mean nnUNetTrainerTAFL_50epochs_seed1?",
    "nnUNetTrainerWassersteen": "did you mean nnUNetTrainerWasserstein?",
    "nnUNetTrainerBettiprior": "did you mean nnUNetTrainerBettiPrior?",
}


@pytest.mark.parametrize("name", MISSPELT)
def test_a_search_for_a_misspelt_name_ends_with_the_right_one(name, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", trainers_folder())
    told = f"Could not find requested nnunet trainer {name}; {MISSPELT[name]}"
    with pytest.raises(RuntimeError, match=re.escape(told)):
        trainer_with_settings(name, Path(trainers_folder()))


def test_the_right_spelling_is_the_last_line_of_nnunets_traceback():
    printed = run("python", "-c", LOOKUP, "nnUNetTrainerWassersteen", fails=True)
    last = printed.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: Could not find requested nnunet trainer ")
    assert "did you mean nnUNetTrainerWasserstein?" in last


@pytest.mark.parametrize("name", ["nnUNetTrainerTheirs_50epochs", "Path", "nnUNetTrainer"])
def test_names_unlike_ours_are_not_taken_for_misspelt_ones(name):
    with pytest.raises(AttributeError):
        trainer_with_settings(name, Path(trainers_folder()))


def test_a_later_folder_may_have_the_name_otherwise_the_right_one_is_the_last_line(user_folder):
    ours = at_start(SHOW)
    file = Path(user_folder) / "nnUNetTrainerTheirs.py"
    name = "nnUNetTrainerTALF"
    file.write_text(file.read_text().replace("nnUNetTrainerTheirs", name))
    env = {"nnUNet_extTrainer": ours + os.pathsep + user_folder}
    printed = run("python", "-c", LOOKUP, name, env=env)
    assert f"FOUND {name}" in printed
    assert "did you mean" not in printed
    file.write_text("")
    printed = run("python", "-c", LOOKUP, name, env=env, fails=True)
    assert "RuntimeError: Could not find requested nnunet trainer" in printed
    assert "did you mean nnUNetTrainerTAFL?" in printed.strip().splitlines()[-1]


def test_our_commands_search_without_the_warning_of_timm():
    code = (
        "from nnunet_topo.training.lookup import find_trainer as f; print(f('nnUNetTrainerTAFL'))"
    )
    strict = "error:`torch.jit.interface` is deprecated:FutureWarning"
    assert run("python", "-W", strict, "-c", code).startswith("<class")


def test_the_command_prints_the_folder_and_the_list(capsys):
    assert cli.main(["trainers"]) == 0
    assert capsys.readouterr().out.strip() == trainers_folder()
    assert cli.main(["trainers", "--list"]) == 0
    listed = capsys.readouterr().out
    for name in [*TRAINERS, "<n>epochs", "seed<n>"]:
        assert name in listed
    # Each column begins in the same place, whatever the longest name.
    for rows in (
        listed.splitlines()[: len(TRAINERS)],
        listed.split("_50epochs:\n")[1].splitlines(),
    ):
        names = [row.split()[0] for row in rows]
        ends = {row.index(name) + len(name) for row, name in zip(rows, names, strict=True)}
        begins = {len(row) - len(row.split(None, 1)[1]) for row in rows}
        assert len(begins) == 1
        assert begins.pop() >= max(ends) + 2


def test_programs_can_read_what_each_trainer_is(capsys):
    assert cli.main(["trainers", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["folder"] == trainers_folder()
    trainers = {trainer["name"]: trainer for trainer in listed["trainers"]}
    assert list(trainers) == TRAINERS
    for name, told in trainers.items():
        class_ = find_trainer(name)
        assert told["weight"] == class_.topology_weight
        assert (told["base_loss"], told["term"]) == (class_.base_loss, class_.term)
        has_term = class_.build_topology_term is not TopologyTrainerMixin.build_topology_term
        added = (class_.skelrecall, class_.cldice, class_.scnp)
        assert (told["skelrecall"], told["cldice"], told["scnp"]) == added
        assert bool(told["term"]) == has_term
        assert bool(told["control"]) == (has_term or any(added))
        assert not told["control"] or told["control"] == class_.control
        for spelling in (suffix["suffix"] for suffix in listed["settings"]):
            example = spelling.replace("<n>", "1").replace("<n-n>", "1-2").replace("<x>", "0.75")
            taken = spelling in told["settings"]
            try:
                trainer_with_settings(f"{name}_{example}", Path(trainers_folder()))
            except ValueError:
                assert not taken
            else:
                assert taken


def test_the_train_command_registers_in_the_process():
    env = {"NNUNET_TOPO_NO_AUTOREGISTER": "1", "nnUNet_extTrainer": ""}
    printed = run("nnunet-topo", "train", "--help", env=env)
    assert "usage: nnUNetv2_train" in printed
    folders = {f"nnUNet_{name}": "/nowhere" for name in ("raw", "preprocessed", "results")}
    arguments = ("train", "4", "3d_fullres", "0", "-tr", "nnUNetTrainerTAFL_x", "-device", "cpu")
    printed = run("nnunet-topo", *arguments, env=env | folders, fails=True)
    assert "'x' is not a setting" in printed


def test_a_missing_data_set_is_named(tmp_path):
    folders = {f"nnUNet_{name}": str(tmp_path) for name in ("raw", "preprocessed", "results")}
    arguments = ("987", "3d_fullres", "0", "-tr", "nnUNetTrainerTAFL", "-device", "cpu")
    printed = run("nnUNetv2_train", *arguments, env=folders, fails=True)
    assert "Could not find a dataset with the ID 987" in printed


def test_a_missing_variable_is_named(monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    arguments = ("Dataset987_None", "3d_fullres", "0", "-tr", "nnUNetTrainerTAFL")
    printed = run("nnUNetv2_train", *arguments, "-device", "cpu", fails=True)
    assert "nnUNet_preprocessed is not defined" in printed
