"""The toy of CONTRIBUTING.md, built from its text in a copy of the package."""

import re
import shutil
import textwrap
from pathlib import Path

from .conftest import run
from .documents import ROOT, blocks

TOY = [block.text for block in blocks("python") if block.document == "CONTRIBUTING.md"]


def test_the_toy_of_three_files_passes_its_tests_and_trains(tiny_dataset, nnunet_folders, tmp_path):
    for part in ("nnunet_topo", "trainers"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    files = []
    for text in TOY:
        (file,) = re.findall(r"  # ([\w/]+\.py)", text)  # beside its first line
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(textwrap.dedent(text) + "\n")
        files.append(file)
    assert [file.split("/")[0] for file in files] == ["nnunet_topo", "trainers", "tests"]
    here = {"PYTHONPATH": str(tmp_path), "nnUNet_extTrainer": str(tmp_path / "trainers")}
    tested = run("python", "-m", "pytest", "-q", str(tmp_path / files[-1]), env=here)
    assert "2 passed" in tested
    name = "nnUNetTrainerVolume_1epochs_2iters_from0"
    command = ["nnUNetv2_train", tiny_dataset, "2d", "0", "-tr", name, "-p", "nnUNetPlansTiny"]
    trained = run(*command, "-device", "cpu", env=here)
    assert "Dice + cross-entropy + weight * difference of volumes" in trained
    results = Path(nnunet_folders["nnUNet_results"])
    (summary,) = results.rglob(f"{name}__*/fold_0/validation/summary.json")
    assert "topo_betti_error" in summary.read_text()
