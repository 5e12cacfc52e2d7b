"""What a command says, and ends with, when it is interrupted or fails."""

import os
import signal
import time

import pytest

from nnunet_topo.commands.exit_status import exit_status


def raising(error):
    def call():
        raise error

    return call


def test_an_expected_error_is_one_line(capsys):
    assert exit_status("plan", raising(ValueError("wanted 3\ngot \x1b[31m4"))) == 2
    assert capsys.readouterr().err == "nnunet-topo plan: wanted 3 got \\x1b[31m4\n"


def test_an_unexpected_error_is_one_line_and_its_traceback_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert exit_status("plan", raising(ZeroDivisionError("by nothing"))) == 2
    (file,) = tmp_path.iterdir()
    told = capsys.readouterr().err
    assert told.startswith("nnunet-topo plan: unexpected ZeroDivisionError: by nothing. ")
    assert told.endswith(f"{file}\n")
    assert told.count("\n") == 1
    written = file.read_text()
    assert "Traceback" in written
    assert "raise error" in written


def test_where_no_file_can_be_written_the_traceback_is_printed(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert exit_status("plan", raising(ZeroDivisionError("by nothing"))) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_is_an_interrupt_and_what_is_open_is_closed(name, status, capsys):
    closed, number = [], getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # nohup ignores one of them

    def call():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            closed.append(True)
        return 0

    assert exit_status("evaluate", call, interrupted="come back") == status
    assert closed
    assert capsys.readouterr().err == "\nterminated; come back\n"
    assert signal.signal(number, before) is signal.SIG_DFL


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")
def test_a_handler_of_somebody_else_is_kept():
    def others(*_):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, others)
    try:
        assert exit_status("plan", lambda: 0) == 0
        assert signal.getsignal(signal.SIGTERM) is others
    finally:
        signal.signal(signal.SIGTERM, before)
