"""Two folds that start at the same moment, on a disk where names appear late and times are coarse.

NNUNET_TOPO_STARTS sets how often they do, 50 by default: about ten minutes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .setups import PLANS, prepare_training

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork"),
]
STARTS = int(os.environ.get("NNUNET_TOPO_STARTS", "50"))


def test_two_folds_that_start_at_once_on_a_slow_disk_use_the_same_files(
    tmp_path, monkeypatch, request
):
    prepare_training(tmp_path, monkeypatch, request)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "code"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.two_starts", str(STARTS), PLANS],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rounds = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rounds) == STARTS
    first = rounds[0]
    for of_round in rounds:
        assert of_round == first
    one, other = first["folds"]
    for key in ("topology.json", "splits_final.json", "prior"):
        assert one[key] == other[key]
    assert one["cases"] != other["cases"]
    assert first["left"] == []
    print(f"{STARTS} starts of two folds, all equal")
