"""Commands that are killed at random moments give in the end what they give undisturbed.

NNUNET_TOPO_KILLS sets the number of kills of each command, 30 by default: two minutes each.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..evaluation.study import Study, pair
from ..postprocessing.folders import Validation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"),
]
KILLS = int(os.environ.get("NNUNET_TOPO_KILLS", "30"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CASES = 12
CHANGES = {"files_before", "seconds", "time"}  # keys of what differs from run to run
COMMANDS = ("evaluate", "compare", "correct", "find", "apply", "plan")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_gives_in_the_end_what_it_gives_undisturbed(
    name, tmp_path, monkeypatch, request
):
    command, outputs = SETUPS[name](tmp_path, monkeypatch, request)
    began = time.monotonic()
    assert run(command) in (0, 1)  # 1: some cases are meant to fail
    longest = time.monotonic() - began
    expected = content(outputs)
    assert expected
    rng, kills, finished = random.Random(name), 0, 0
    while kills < KILLS:
        remove(outputs)
        for _ in range(rng.randrange(2, 7)):
            # The first half is mostly imports.
            moment, how = rng.uniform(0.3, 1.0) * longest, SIGNALS[kills % len(SIGNALS)]
            status = run(command, moment, how)
            if status in (0, 1):
                break
            kills += 1
            assert status in (-how, 128 + how), (status, how)
        assert run(command) in (0, 1)
        finished += 1
        assert content(outputs) == expected
    print(f"{name}: {kills} kills, {finished} times finished, {longest:.1f} s undisturbed")


def run(command: list[str], moment: float | None = None, how: int = 0) -> int:
    """Returns the status of a command, which may be killed at a moment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nnunet_topo.cli", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may ignore it
    )
    try:
        return process.wait(moment)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        return process.wait(60)


def content(outputs: list[Path]) -> dict[str, Any]:
    """Returns what is in all files, of JSON without the times; hidden files must be gone."""
    files = [
        file
        for output in outputs
        for file in ([output] if output.is_file() else sorted(output.rglob("*")))
        if file.is_file()
    ]
    return {str(file): _content(file) for file in files}


def _content(file: Path) -> Any:
    if file.suffix == ".json":
        return _without_times(json.loads(file.read_text()))
    if file.suffix == ".jsonl":  # in the order in which cases were finished
        return sorted(file.read_text().splitlines())
    return file.read_bytes()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(of) for k, of in value.items() if k not in CHANGES}
    return [_without_times(of) for of in value] if isinstance(value, list) else value


def remove(outputs: list[Path]) -> None:
    for output in outputs:
        if output.is_dir():
            shutil.rmtree(output)
        else:
            output.unlink(missing_ok=True)


def fill(study: Study) -> Study:
    for case in range(CASES):
        study.put(f"case_{case:02d}", *pair(case % 4))
    return study


def evaluate(folder, *_):
    study = fill(Study(folder / "study"))
    maps = study.pred / "summary_errors"
    command = ["evaluate", str(study.gt), str(study.pred), "-np", "2", "--error-maps", "--chill"]
    return command, [study.summary, maps]


def compare(folder, *_):
    study = fill(Study(folder / "study"))
    other = folder / "other"
    shutil.copytree(study.gt, other)
    command = ["compare", "--gt", str(study.gt), "--pred", f"a={study.pred}", f"b={other}"]
    return [*command, "-o", str(folder / "out"), "-np", "1"], [folder / "out"]


def correct(folder, *_):
    study = fill(Study(folder / "study"))
    shutil.copy(study.djfile, study.pred / "dataset.json")
    prior = folder / "topology.json"
    priors = {"full": {"volumes": {"ring": [1, 1, 0], "blob": [1, 0, 0]}}}
    prior.write_text(json.dumps({"priors": priors, "unions": {}}))
    command = ["correct", "-i", str(study.pred), "-o", str(folder / "out"), "--prior", str(prior)]
    return [*command, "-np", "2"], [folder / "out"]


def find(folder, monkeypatch, _):
    validation = Validation(folder, monkeypatch).fill(CASES)
    command = ["postprocess", "find", "-d", "904", "-c", "3d_fullres", "-tr", "nnUNetTrainer"]
    return [*command, "-f", "0", "1", "-o", str(validation.out), "-np", "1"], [validation.out]


def apply(folder, monkeypatch, request):
    find_steps, (found,) = find(folder, monkeypatch, request)
    assert run(find_steps) == 0
    predictions = folder / "predictions"
    shutil.copytree(folder / "study" / "gt", predictions, dirs_exist_ok=True)
    for fold in (folder / "results").rglob("validation"):
        for file in fold.glob("*.nii.gz"):
            shutil.copy(file, predictions)
    command = ["postprocess", "apply", "-i", str(predictions), "-o", str(folder / "applied")]
    return [*command, str(found), "-np", "1"], [folder / "applied"]


def plan(folder, monkeypatch, request):
    _, preprocessed = request.getfixturevalue("dataset")
    return ["plan", "-d", "901", "-np", "1", "-c", "2d"], [preprocessed / "topology.json"]


SETUPS: dict[str, Callable] = {
    f.__name__: f for f in (evaluate, compare, correct, find, apply, plan)
}
assert set(SETUPS) == set(COMMANDS)
