"""Every command and every line of Python in the documents, as printed.

A command is run by a test here, or stands in NOT_RUN of typed_commands.py with the reason; all of
those that are ours or nnU-Net's are parsed by their own parsers.
"""

import argparse
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_topo.losses import WassersteinLoss

from .conftest import FEW_WORKERS, tiny_case
from .documents import (
    DOCUMENTS,
    READMES,
    ROOT,
    Block,
    blocks,
    defined_names,
    texts_of_package,
)
from .typed_commands import NEWCOMER, NOT_RUN, RUN, RUN_ELSEWHERE, RUN_SLOWLY, SETUP

FILES = ("json", "csv")  # what users edit
TYPED = [block for block in blocks() if block.language not in ("", "python", *FILES)]
COMMANDS = sorted({command for block in TYPED for command in block.commands()})
OUR_KIND = re.compile(r"nnUNetv2_\w+|nnunet-topo")
NAME_OF_TRAINER = re.compile(r"\bnnUNetTrainer\w*(?:[.-]\d\w*)*(?![\w<])")


def place(block: Block) -> str:
    return f"{block.document}: {block.heading}"


def to_run(heading: str) -> list[str]:
    """Returns the commands under a heading, without those that are not run."""
    under = [block for block in TYPED if place(block) == heading]
    return [c for block in under for c in block.commands() if c not in NOT_RUN]


def test_every_command_is_run_here_or_says_why_not():
    headings = [*RUN, *RUN_SLOWLY, *RUN_ELSEWHERE]
    run = {command for heading in headings for command in to_run(heading)}
    assert sorted(run | NOT_RUN.keys()) == COMMANDS
    for heading in headings:
        assert to_run(heading), f"nothing is run under {heading}"
    for heading, test in RUN_ELSEWHERE.items():
        assert heading.partition(": ")[2] in (ROOT / test).read_text(), heading


def test_what_the_newcomer_runs_stands_in_its_script():
    script = (ROOT / "tests/acceptance/newcomer.sh").read_text()
    for command, reason in NOT_RUN.items():
        if reason == NEWCOMER:
            headings = {block.heading for block in TYPED if command in block.commands()}
            assert any(f'"{heading}"' in script for heading in headings), command


class _ParsedError(Exception):
    """The error that stops a parser."""


def ours(command: str) -> list[str]:
    """Returns the arguments of the command of ours or of nnU-Net's that a command holds, or []."""
    words = shlex.split(command) if "\\" not in command else command.split()
    if words[:2] == ["docker", "build"]:
        return []
    begins = [i for i, word in enumerate(words) if OUR_KIND.fullmatch(word)]
    if "=" in words[0] or words[0] in ("export", "conda", "pip") or not begins:
        return []
    words = words[begins[-1] :]
    return ["nnUNetv2_train", *words[2:]] if words[:2] == ["nnunet-topo", "train"] else words


@pytest.mark.parametrize("command", [command for command in COMMANDS if ours(command)])
def test_the_parser_of_each_command_takes_what_is_printed(command, monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise _ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    name, *arguments = ours(command)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    (entry,) = metadata.entry_points(group="console_scripts", name=name)
    with pytest.raises(_ParsedError):
        entry.load()()


@pytest.mark.parametrize("subcommand", ["install", "wheel", "freeze", "uninstall"])
def test_pip_has_the_options_that_are_printed(subcommand):
    asked = [words[words.index("pip") + 1 :] for c in COMMANDS if "pip" in (words := c.split())]
    options = {
        word
        for subcommand_asked, *words in asked
        if subcommand_asked == subcommand
        for word in words
        if word.startswith("-")
    }
    pip = [sys.executable, "-m", "pip", subcommand, "--help"]
    explained = subprocess.run(pip, capture_output=True, text=True, check=True).stdout
    for option in options:
        assert re.search(rf"(?<![\w-]){option}\b", explained), option


def test_every_trainer_that_is_named_is_found_by_nnunet():
    names = {
        name
        for document in DOCUMENTS
        for name in NAME_OF_TRAINER.findall(document.read_text(encoding="utf-8"))
    }
    assert "nnUNetTrainerTAFL_200epochs_lr0.0005_adam_cosine_wd0.0001" in names
    for name in sorted(names - {"nnUNetTrainerMine", "nnUNetTrainerVolume"}):  # the user's own
        assert recursive_find_trainer_class_by_name(name).__name__ == name


def test_every_variable_that_is_named_is_read_by_somebody():
    nnunet = importlib.util.find_spec("nnunetv2")
    assert nnunet is not None
    assert nnunet.origin is not None
    folders = (Path(nnunet.origin).parent, ROOT / "nnunet_topo")
    sources = "".join(f.read_text() for folder in folders for f in folder.rglob("*.py"))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for name in re.findall(r"\b(?:nnUNet_|NNUNET_|NUMBA_)\w+", text):
            # NNUNET_TOPO_DATA is the tests'.
            assert name in sources or name == "NNUNET_TOPO_DATA", f"{document.name}: {name}"


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, *READMES], ids=lambda document: str(document.relative_to(ROOT))
)
def test_every_link_and_path_leads_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, target
    of_checkout = r"`[^`\n]*?(?<![\w/])((?:tests|docs|benchmarks|nnunet_topo|\.ci)/[\w/.*]*[\w*])"
    for path in re.findall(of_checkout, text):
        assert list(ROOT.glob(path)), path
    if document in READMES:
        for name in re.findall(r"`(\w+\.\w+)`", text):
            assert (document.parent / name).is_file(), name


ARCHITECTURE = ROOT / "docs/architecture.md"


def test_every_file_and_function_of_the_architecture_exists():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)(?:::([\w.]+))?`", text)
    assert len([name for _, name in named if name]) > 20
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert not name or name in defined_names(ROOT / path), f"{path}::{name}"


def test_every_test_that_the_reliability_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reliability.md").read_text()))
    assert len(named) > 20
    defined = {name for file in (ROOT / "tests").rglob("test_*.py") for name in defined_names(file)}
    assert not named - defined


def test_the_architecture_names_every_room_and_the_layers_in_their_order():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    rooms = {file.parent.name for file in (ROOT / "nnunet_topo").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `nnunet_topo/(\w+)/` \|", text, re.MULTILINE)) == rooms
    (printed,) = [b.text for b in blocks("") if place(b) == "docs/architecture.md: Layers"]
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.search(r"^layers = \[\n(.*?)^\]", contracts, re.MULTILINE | re.DOTALL)
    assert layers is not None
    lines = re.findall(r'"(.*)"', layers.group(1))
    assert printed.splitlines() == [line.replace("nnunet_topo.", "") for line in lines]


def test_the_messages_that_are_explained_are_those_of_the_program():
    _, _, section = (ROOT / SETUP).read_text(encoding="utf-8").partition("## If something is wrong")
    quoted = re.findall(r"^- \*(.+?)\*", section.partition("\n## ")[0], re.MULTILINE)
    assert len(quoted) > 5
    texts = texts_of_package()
    # PyTorch's own.
    others = {"torch.jit.interface is deprecated", "set_num_threads expects a positive integer"}
    for message in quoted:
        pieces = [piece.strip() for piece in re.split(r"\.\.\.|: ", message)]
        for piece in pieces:
            known = re.fullmatch(r"\w*(Error|Warning)", piece) or piece in others
            assert known or piece in texts, f"{message}: {piece}"


def write(array: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), file)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Returns the home of a user with a data set 4 and the folders that the documents name."""
    home = tmp_path_factory.mktemp("home")
    raw = home / "nnUNet_raw/Dataset004_Rings"
    for case in range(6):
        image, labels = tiny_case(case)
        write(image, raw / f"imagesTr/tiny_{case}_0000.nii.gz")
        write(labels, raw / f"labelsTr/tiny_{case}.nii.gz")
    description = {
        "channel_names": {"0": "noise"},
        "labels": {"background": 0, "ring": 1, "blob": 2},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    for name in ("preprocessed", "results"):
        (home / f"nnUNet_{name}").mkdir()
    (home / "nnunet-topo-env/bin").mkdir(parents=True)
    (home / "nnunet-topo-env/bin/activate").touch()  # this test's environment is active
    return home


def furnish(here: Path, home: Path) -> None:
    """Puts the files and folders that the documents name into a working directory."""
    raw = home / "nnUNet_raw/Dataset004_Rings"
    for folder in ("GT_FOLDER", "REFERENCES"):
        shutil.copytree(raw / "labelsTr", here / folder)
    shutil.copytree(raw / "imagesTr", here / "RAW_IMAGES")
    (here / "IMAGES").mkdir()
    shutil.copy(raw / "imagesTr/tiny_0_0000.nii.gz", here / "IMAGES")
    write(tiny_case(7)[0], here / "SCANS/scan_7_0000.nii.gz")
    for case in range(6):
        labels = tiny_case(case)[1]
        labels[:9] = 0
        for folder in ("PRED_FOLDER", "PREDICTIONS", "FOLDER"):
            write(labels, here / folder / f"tiny_{case}.nii.gz")
    shutil.copy(raw / "dataset.json", here)
    plans = {"dataset_name": raw.name, "plans_name": "p", "configurations": {}}
    plans |= {"image_reader_writer": "SimpleITKIO", "label_manager": "LabelManager"}
    (here / "plans.json").write_text(json.dumps(plans))


def affordable(command: str) -> str:
    """Returns a command with trainings of an epoch of two iterations, on what there is.

    Of one fold, and with few workers to be started.
    """

    def shorter(found: re.Match) -> str:
        stem, *settings = found.group().split("_")
        stem = "nnUNetTrainerStock" if stem == "nnUNetTrainer" else stem  # which takes settings
        kept = [setting for setting in settings if not re.fullmatch(r"\d+(epochs|iters)", setting)]
        return "_".join([stem, "1epochs", "2iters", *kept])

    command = NAME_OF_TRAINER.sub(shorter, command)
    if command.startswith("nnUNetv2_plan_and_preprocess"):
        return f"{command} -np 1 -npfp 1"
    if re.match(r"nnunet-topo (compare|run) -d", command) and " -f " not in command:
        command += " -f 0"
    begin = r"(\w+=\S+ )*(nnUNetv2_(train|predict)|nnunet-topo (train|run) )"
    uses_device = re.match(begin, command)  # after the variables of this command
    return f"{command} -device cpu" if uses_device and not torch.cuda.is_available() else command


def in_shell(commands: list[str], here: Path, home: Path) -> str:
    """Returns what a shell of that user's prints."""
    names = ("raw", "preprocessed", "results")
    environment = (
        os.environ | FEW_WORKERS | {f"nnUNet_{n}": str(home / f"nnUNet_{n}") for n in names}
    )
    environment["nnUNet_n_proc_DA"] = "1"  # planning takes no 0
    environment["HOME"] = str(home)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment["SLURM_CPUS_PER_TASK"], environment["SLURM_ARRAY_TASK_ID"] = "2", "1"
    # Machine code and fonts are those of the real home.
    environment["XDG_CACHE_HOME"] = str(platformdirs.user_cache_path())
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    return printed


@pytest.mark.parametrize("heading", RUN)
def test_the_commands_run_as_printed(heading, home, tmp_path):
    furnish(tmp_path, home)
    printed = in_shell(to_run(heading), tmp_path, home)
    shown = {
        "cite": "{kirchhoff2024,",
        "doctor": "no problem found",
        "evaluate": "6 cases evaluated",
        "compare": "6 cases, full connectivity",
    }
    for command in to_run(heading):
        assert shown[command.split()[1]] in printed, printed


@pytest.mark.slow
def test_the_trainings_run_as_printed_but_shorter(home, tmp_path):
    written = {
        "README.md: Your own data": ("PREDICTED/tiny_0.nii.gz", "comparison/report.html"),
        "docs/training.md: From a finished model": ("comparison_finetuned/report.html",),
        f"{SETUP}: Sharing models": ("model.zip", "PREDICTED/tiny_0.nii.gz"),
        "docs/compare.md: Trainers": ("comparison/report.html",),
        "docs/compare.md: Trainers that are still to be trained": ("comparison_run/report.html",),
        "docs/index.md: Your own data": ("comparison_first/report.html",),
        "docs/how_to/vessels.md: 3. With training": ("comparison_vessels/report.html",),
        "docs/how_to/ring.md: 3. With training": ("comparison_rings/report.html",),
        "docs/how_to/finished_models.md: Overnight: fine-tune all folds and compare": (
            "night/report.html",
        ),
    }
    for number, heading in enumerate(RUN_SLOWLY):
        here = tmp_path / str(number)
        here.mkdir()
        furnish(here, home)
        in_shell([affordable(command) for command in to_run(heading)], here, home)
        for file in written.get(heading, ()):
            assert (here / file).is_file(), f"{heading} wrote no {file}"


PYTHON = blocks("python")


def test_the_library_is_used_as_printed():
    (block,) = [block.text for block in PYTHON if "betti_numbers(" in block.text]
    names = {}
    exec(block, names)
    assert torch.isfinite(names["loss"])
    assert names["probability"].grad.any()
    assert names["betti_numbers"](names["target"][0, 0].numpy()) == (1, 0, 0)


def test_splits_keep_patients_together_as_printed(tmp_path, monkeypatch):
    (block,) = [block for block in PYTHON if "GroupKFold" in block.text]
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    labels = tmp_path / "Dataset027_ACDC" / "gt_segmentations"
    labels.mkdir(parents=True)
    for patient in range(12):
        for frame in ("frame01", "frame12"):
            (labels / f"patient{patient:03d}_{frame}.nii.gz").touch()
    exec(block.text, {})
    splits = json.loads((labels.parent / "splits_final.json").read_text())
    assert len(splits) == 5
    assert len({case for fold in splits for case in fold["val"]}) == 24
    for fold in splits:
        train, val = ({case.split("_")[0] for case in fold[part]} for part in ("train", "val"))
        assert not train & val
        assert len(train | val) == 12


def test_monai_trains_and_measures_as_printed():
    (block,) = [block for block in PYTHON if place(block) == "docs/library.md: In MONAI"]
    names = {}
    exec(block.text, names)
    assert torch.isfinite(names["loss"])
    network, target, metric = (names[name] for name in ("network", "target", "metric"))
    network.zero_grad()
    names["term"](network(names["image"]).softmax(1)[:, 1:], target[:, 1:]).backward()
    assert any(parameter.grad.abs().max() > 0 for parameter in network.parameters())
    metric.reset()
    without_class_1, split = target.clone(), target.clone()
    without_class_1[:, 1] = 0
    split[0, 2, 20:22] = 0
    for prediction in (target, without_class_1, split):
        metric(prediction, target)
    # A matching error of 1 in 2 of 6 cases; of 1, the second half, in 1 of 6.
    torch.testing.assert_close(metric.aggregate(), torch.tensor([2 / 6, 1 / 6]))


def test_two_arrays_are_measured_as_printed():
    (block,) = [block for block in PYTHON if place(block) == "docs/metrics.md: Metrics"]
    names = {}
    exec(block.text, names)
    assert names["metrics"]["topo_betti_error_0"] == 1


def test_a_broken_vessel_is_counted_as_printed(capsys):
    (block,) = [block for block in PYTHON if place(block) == "docs/how_to/measure.md: Two arrays"]
    exec(block.text, {})
    assert capsys.readouterr().out == "1.0\n"


def test_a_trainer_of_ones_own_is_found_and_trains_as_printed(make_trainer, tmp_path, monkeypatch):
    (block,) = [block.text for block in PYTHON if "class nnUNetTrainerMine" in block.text]
    body = block[block.index("class nnUNetTrainerMine") :].strip().splitlines()
    assert len(body) == 3
    (tmp_path / "nnUNetTrainerMine.py").write_text(block)
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    trainer = make_trainer("nnUNetTrainerMine")
    trainer.num_iterations_per_epoch, trainer.num_epochs = 3, 2
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    trainer.current_epoch = 1  # the term starts at half of the epochs
    trainer.on_train_epoch_start()
    loader, _ = trainer.get_dataloaders()
    # The first steps measure the weight, and a step may hold no intact label.
    results = [trainer.train_step(next(loader)) for _ in range(12)]
    assert all(np.isfinite(result["loss"]) for result in results)
    assert any(result["topology_term"] > 0 for result in results)
    assert results[-1]["topology_weight"] > 0


def test_a_term_on_a_few_classes_sees_no_others_as_printed():
    (block,) = [block.text for block in PYTHON if "[0, 4]" in block.text]
    names = {"WassersteinLoss": WassersteinLoss}
    exec(block, names)
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(1, 5, 9, 9, generator=generator, requires_grad=True)
    names["build_topology_term"](None)(probability, probability.detach() > 0.5, None).backward()
    assert [bool(of.any()) for of in probability.grad[0]] == [True, False, False, False, True]
