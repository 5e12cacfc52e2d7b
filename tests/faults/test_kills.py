"""Commands that are killed at random moments give in the end what they give undisturbed.

NNUNET_TOPO_KILLS sets the number of kills of each command, 30 by default: two minutes each, for a
training about ten and for `run` about half an hour.
"""

import json
import os
import random
import shutil
import signal
import time
from fnmatch import fnmatch
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
import torch

from .killing import run
from .setups import SETUPS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"),
]
KILLS = int(os.environ.get("NNUNET_TOPO_KILLS", "30"))
SIGNALS = [getattr(signal, f"SIG{name}", None) for name in ("KILL", "TERM", "INT")]
# Keys and files of what differs from run to run.
CHANGES = {"files_before", "seconds", "time", "topology_ms"}
CHANGES |= {"epoch_start_timestamps", "epoch_end_timestamps"}
LOGS = ("training_log*", "*.log", "status.csv", "debug.json", "progress.png", "topology.png")
SETTLING = 1.5  # seconds in which the trainings of a killed `run` end


@pytest.mark.parametrize("name", SETUPS)
def test_a_killed_command_gives_in_the_end_what_it_gives_undisturbed(
    name, tmp_path, monkeypatch, request
):
    command, outputs = SETUPS[name](tmp_path, monkeypatch, request)
    times = []
    for _ in range(2):  # the first one compiles and fills caches
        remove(outputs)
        began = time.monotonic()
        assert run(command) in (0, 1)  # 1: some cases are meant to fail
        times.append(time.monotonic() - began)
    longest = min(times)
    expected = content(outputs)
    assert expected
    rng, kills, finished = random.Random(name), 0, 0
    while kills < KILLS:
        assert finished < 4 * KILLS, f"{kills} kills"  # the command ends before it is killed
        remove(outputs)
        for _ in range(rng.randrange(2, 7)):
            # The first half is mostly imports.
            moment, how = rng.uniform(0.3, 1.0) * longest, SIGNALS[kills % len(SIGNALS)]
            status = run(command, moment, how)
            if status in (0, 1):
                break
            kills += 1
            assert status in (-how, 128 + how), (status, how)
            time.sleep(SETTLING if name == "run" else 0)
        assert run(command) in (0, 1)
        finished += 1
        assert content(outputs) == expected
    print(f"{name}: {kills} kills, {finished} times finished, {longest:.1f} s undisturbed")


def content(outputs: list[Path]) -> dict[str, Any]:
    """Returns what is in all files, of JSON without the times; hidden files must be gone."""
    files = [
        file
        for output in outputs
        for file in ([output] if output.is_file() else sorted(output.rglob("*")))
        if file.is_file() and not any(fnmatch(file.name, log) for log in LOGS)
    ]
    return {str(file): _content(file) for file in files}


def _content(file: Path) -> Any:
    if file.suffix == ".json":
        return _without_times(json.loads(file.read_text()))
    if file.suffix == ".jsonl":  # in the order in which cases were finished
        return sorted(file.read_text().splitlines())
    if file.suffix == ".pth":
        return _without_times(torch.load(file, weights_only=False))
    return file.read_bytes()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(of) for k, of in value.items() if k not in CHANGES}
    if isinstance(value, torch.Tensor):
        return md5(value.numpy().tobytes()).hexdigest()
    return [_without_times(of) for of in value] if isinstance(value, list | tuple) else repr(value)


def remove(outputs: list[Path]) -> None:
    for output in outputs:
        if output.is_dir():
            shutil.rmtree(output)
        else:
            output.unlink(missing_ok=True)
