import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from nnunet_topo._register import SWITCH_OFF, VARIABLE, trainers_folder
from nnunet_topo.cli import main
from nnunet_topo.commands import demo_steps
from nnunet_topo.commands.demo_data import BETTI, SHAPE, make_case
from nnunet_topo.commands.demo_steps import Step
from nnunet_topo.commands.nnunet_commands import call, continued
from nnunet_topo.topology import betti_numbers

from ..conftest import run, wait_until_gone

PYTHON = Path(sys.executable).name


@pytest.fixture
def short_steps(tmp_path, monkeypatch):
    """Replaces nnU-Net's commands by three that are over at once; returns the folder."""
    monkeypatch.setattr(demo_steps, "make_dataset", lambda raw, training, test: raw.mkdir())
    monkeypatch.setattr(demo_steps, "shrink_plans", lambda preprocessed: None)
    count = "from pathlib import Path; f = Path('{}'); f.write_text(f.read_text() + 'x')"
    for name in ("first", "second"):
        (tmp_path / name).write_text("")
    good = [
        Step(f"step {name}", (PYTHON, "-c", count.format(tmp_path / name)))
        for name in ("first", "second")
    ]
    needs = f"import pathlib, sys; sys.exit(0 if pathlib.Path('{tmp_path}/k').exists() else 'none')"
    bad = Step("evaluate and compare", (PYTHON, "-c", needs))
    monkeypatch.setattr(demo_steps, "steps", lambda folder, size, device: [*good, bad])
    return tmp_path


def test_each_label_of_a_case_has_its_betti_numbers_and_the_seed_decides():
    image, labels = make_case(3)
    again = make_case(3)
    assert image.shape == labels.shape == SHAPE
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(labels, again[1])
    assert {label: betti_numbers(labels == label) for label in BETTI} == BETTI
    assert not np.array_equal(labels, make_case(4)[1])
    # Bright on the whole, but no threshold separates it.
    assert image[labels > 0].mean() > image[labels == 0].mean() + 0.5
    assert (image[labels > 0] < np.quantile(image[labels == 0], 0.95)).any()


def test_steps_find_the_trainers_where_python_does_not_register_them(short_steps, monkeypatch):
    monkeypatch.setenv(SWITCH_OFF, "1")
    monkeypatch.delenv(VARIABLE, raising=False)
    write = (
        f"import os, pathlib; pathlib.Path('{short_steps}/k').write_text(os.environ['{VARIABLE}'])"
    )
    step = Step("evaluate and compare", (PYTHON, "-c", write))
    monkeypatch.setattr(demo_steps, "steps", lambda folder, size, device: [step])
    assert main(["demo", "-o", str(short_steps / "demo"), "-device", "cpu"]) == 0
    assert trainers_folder() in (short_steps / "k").read_text().split(os.pathsep)


def test_a_failed_step_is_shown_and_the_next_run_resumes_there(short_steps, capsys):
    folder = short_steps / "demo"
    assert main(["demo", "-o", str(folder), "-device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert "none" in printed.err
    assert "evaluate and compare failed with status 1" in printed.err
    (short_steps / "k").touch()
    assert main(["demo", "-o", str(folder), "-device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("done before") == 2
    assert (short_steps / "first").read_text() == (short_steps / "second").read_text() == "x"
    assert "report.html" in printed
    done = json.loads((folder / "demo.json").read_text())["done"]
    assert done == ["make data", "step first", "step second", "evaluate and compare"]


def test_folders_that_are_not_the_demos_are_left_alone(short_steps, capsys):
    folder = short_steps / "mine"
    folder.mkdir()
    (folder / "thesis.tex").touch()
    assert main(["demo", "-o", str(folder)]) == 2
    assert (
        "is not empty and does not hold a demo; -o names another folder" in capsys.readouterr().err
    )
    assert [file.name for file in folder.iterdir()] == ["thesis.tex"]
    other = short_steps / "other"
    main(["demo", "-o", str(other), "-device", "cpu", "--quick"])
    capsys.readouterr()
    assert main(["demo", "-o", str(other), "-device", "cpu"]) == 2
    assert "holds a demo of another size" in capsys.readouterr().err


def test_a_demo_that_is_interrupted_while_it_makes_its_data_resumes(
    short_steps, capsys, monkeypatch
):
    def interrupted(raw, *_):
        raw.mkdir(exist_ok=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(demo_steps, "make_dataset", interrupted)
        for _ in range(2):  # the second one knows its folder, and gets as far
            assert main(["demo", "-o", str(short_steps / "demo"), "-device", "cpu"]) == 130
    (short_steps / "demo" / "demo.json").write_text("{}")
    assert main(["demo", "-o", str(short_steps / "demo"), "-device", "cpu"]) == 2
    assert "holds a demo of another size" in capsys.readouterr().err


def test_an_interrupted_training_is_continued_and_a_finished_one_validated(tmp_path):
    command = ("nnUNetv2_train", "900")
    assert continued(command, tmp_path) == command
    (tmp_path / "checkpoint_best.pth").touch()
    assert continued(command, tmp_path) == (*command, "--c")
    (tmp_path / "checkpoint_final.pth").touch()
    assert continued(command, tmp_path) == (*command, "--val")


@pytest.fixture(params=["SIGTERM", "SIGHUP"])
def way(request):
    if os.name == "nt":
        pytest.skip("Windows has no signals that can be waited for")
    way = getattr(signal, request.param)
    before = signal.signal(way, signal.SIG_DFL)  # nohup ignores one of them
    yield way
    signal.signal(way, before)


def test_a_closed_terminal_and_a_cancelled_job_end_the_training_too(tmp_path, way):
    started = tmp_path / "started"
    code = f"import os, pathlib, time; pathlib.Path('{started}').write_text(str(os.getpid()))"

    def cancel():
        while not (started.is_file() and started.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), way)

    threading.Thread(target=cancel).start()
    with pytest.raises(KeyboardInterrupt):
        call((PYTHON, "-c", f"{code}; time.sleep(60)"), tmp_path / "log", os.environ)
    wait_until_gone(int(started.read_text()))
    assert signal.getsignal(way) == signal.SIG_DFL


@pytest.mark.slow
def test_the_quick_demo_ends_in_a_report_and_again_at_once(tmp_path):
    command = ("nnunet-topo", "demo", "-o", str(tmp_path / "demo"), "-device", "cpu", "--quick")
    printed = run(*command)
    report = tmp_path / "demo/report/report.html"
    assert str(report) in printed
    assert "<html" in report.read_text()
    written = report.stat().st_mtime_ns
    again = run(*command)
    assert again.count("done before") == 10
    assert report.stat().st_mtime_ns == written
