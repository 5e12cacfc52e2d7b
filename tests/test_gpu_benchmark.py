"""The whole path of benchmarks/gpu.sh on a CPU: one run suffices where a card is at hand."""

import json
import os
import subprocess
import sys

import pytest

from .documents import ROOT
from .trainers import SUPERVISED


@pytest.mark.slow
def test_every_part_of_the_gpu_benchmark_runs_on_a_cpu(tmp_path):
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), "--smoke", "-o", str(tmp_path)]
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = tmp_path.glob("smoke-*.json")
    results = json.loads(written.read_text())
    assert len(results["losses"]) == len(results["half precision"]) == 9
    for row in results["losses"]:
        assert float(row["difference"]) == 0  # the device is the CPU itself
        assert float(row["largest gradient"]) > 0
    measured = [(row["classes"], f"nnUNetTrainer{row['trainer']}") for row in results["trainers"]]
    assert sorted(measured) == [(classes, name) for classes in (1, 3) for name in SUPERVISED]
    assert "## trainers" in written.with_suffix(".md").read_text()
