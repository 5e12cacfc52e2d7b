"""What a command prints where the terminal or a pipe cannot take it."""

import io
import os
import subprocess
import sys

import pytest

from nnunet_topo import cli
from nnunet_topo.commands.printing import printing_anyway

from ..evaluation.study import Study, pair


@pytest.fixture
def study(tmp_path):
    made = Study(tmp_path)
    made.put("case_0", *pair(0))
    return made


def test_a_character_that_the_encoding_does_not_have_is_printed_as_an_escape(study, monkeypatch):
    names = study.djfile.with_name("names.csv")
    names.write_text("label,name\n1,\u03a9\n", encoding="utf-8")
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="cp1252"))
    arguments = ["evaluate", str(study.gt), str(study.pred), "--labels", str(names), "-np", "1"]
    assert cli.main(arguments) == 0
    assert b"label 1 (\\u03a9): Dice" in printed.getvalue()


def test_the_work_goes_on_when_nobody_reads_the_output(study, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as pipe, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", pipe)
        assert study.command("--report") == 0
    assert (study.pred / "summary_errors" / "report.html").is_file()


@pytest.mark.parametrize("typed", [["trainers", "--list"], ["--version"]])
def test_what_is_left_to_print_at_the_end_is_no_error(typed):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "nnunet_topo", *typed]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_other_errors_of_the_output_are_told(monkeypatch):
    class Full(io.StringIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with printing_anyway(), pytest.raises(OSError, match="No space left"):
        print("text")


def test_a_program_without_a_terminal_prints_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["trainers"]) == 0
