"""Files that are written whole or not at all, and read with one-line errors."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from nnunet_topo.files import (
    case_name,
    digest,
    new_content,
    read_json,
    read_json_if_whole,
    replacing,
    split_ending,
    write_if_missing,
    write_whole,
)


def test_a_file_is_replaced_in_one_step(tmp_path):
    file = tmp_path / "record.json"
    write_whole(file, "first")
    write_whole(file, "second é \udce9")  # as os.fsdecode gives names that are not UTF-8
    assert file.read_bytes() == "second é \\udce9".encode()
    assert [f.name for f in tmp_path.iterdir()] == ["record.json"]


def test_a_write_that_fails_halfway_leaves_the_earlier_file_and_nothing_else(tmp_path):
    file = tmp_path / "case.nii.gz"
    file.write_text("former")
    with pytest.raises(KeyboardInterrupt):
        _write_half(file)
    assert file.read_text() == "former"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", ["", "{", "[1]", '"text"', b"\xff\xfe", "[" * 10**5])
def test_a_file_without_a_json_object_is_named_in_one_line(tmp_path, content):
    file = tmp_path / "broken.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"broken\.json") as error:
        read_json(file)
    assert "\n" not in str(error.value)
    assert read_json_if_whole(file) == {}
    assert read_json_if_whole(tmp_path / "missing.json") == {}


def test_the_mark_of_windows_editors_is_not_part_of_the_content(tmp_path):
    file = tmp_path / "dataset.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(file) == {"a": 1}


def test_a_digest_is_the_same_in_every_version():
    # Files that people have hold it: another one would make them look edited.
    assert digest("priors") == digest(b"priors") == "b203593926b80501c910d4e427ec723c"
    assert digest("a", b"b", b"c") != digest("a", b"c", b"b") != digest("a", b"bc")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_split_at_its_ending_as_both_are_written(form):
    name = unicodedata.normalize(form, "Müller_Jörg")
    for ending in (".nii.gz", ".NII.GZ"):
        file = Path("folder") / f"{name}{ending}"
        assert split_ending(file, [".gz", ".nii.gz"]) == (name, ending)
        assert case_name(file, [".gz", ".nii.gz"]) == "Müller_Jörg"
    assert split_ending(Path(f"{name}.txt"), [".nii.gz"]) == (f"{name}.txt", "")


def _write_half(file):
    with replacing(file) as new:
        assert new.name.endswith(".nii.gz")  # by which its writer knows the format
        new.write_text("half")
        raise KeyboardInterrupt


def test_a_file_that_is_there_is_not_written_again(tmp_path, monkeypatch):
    file = tmp_path / "splits_final.json"
    write_if_missing(file, "first")
    write_if_missing(file, "second")
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]

    def no_links(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", no_links)  # as on a stick with exFAT
    write_if_missing(file, "third")
    write_if_missing(tmp_path / "other.json", "fourth")
    assert file.read_text() == "first"
    assert (tmp_path / "other.json").read_text() == "fourth"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    file, steps = tmp_path / "record.json", []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda d: (steps.append("flush"), fsync(d)))
    monkeypatch.setattr("os.replace", lambda *a: (steps.append("replace"), replace(*a)))
    write_whole(file, "content")
    assert steps == ["flush", "replace", "flush"]


@pytest.mark.skipif(os.name == "nt", reason="nothing is removed on Windows")
def test_what_a_killed_process_has_left_of_a_file_is_removed_when_it_is_written(tmp_path):
    file = tmp_path / "topology[1].nii.gz"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    own = new_content(file).name
    left, alive, elsewhere, other = (
        tmp_path / name
        for name in (
            own.replace(str(os.getpid()), str(dead.pid)),
            own.replace(str(os.getpid()), str(os.getppid())),
            own.replace(str(os.getpid()), f"{dead.pid}").replace("[1].", "[1].host-of-"),
            own.replace("topology", "other").replace(str(os.getpid()), str(dead.pid)),
        )
    )
    for path in (left, alive, elsewhere, other):
        path.write_text("half")
    write_whole(file, "whole")
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in (file, alive, elsewhere, other)
    }
