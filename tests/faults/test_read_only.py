"""Output folders that turn read-only in the middle of the work, and links in them."""

import os
import shutil
import subprocess

import pytest

from nnunet_topo import own_folder
from nnunet_topo.evaluation.journal import Journal
from nnunet_topo.files import new_content, write_whole
from nnunet_topo.locks import NAME, hold, release

from ..correction.folders import Folders, with_island
from ..evaluation.study import Study, pair

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions and links")


class Disk:
    """A folder that can be made read-only; for root it is a file system of its own."""

    def __init__(self, folder):
        self.folder, self.is_mounted = folder, os.geteuid() == 0
        folder.mkdir(exist_ok=True)
        if self.is_mounted and self._call("mount", "-t", "tmpfs", "tmpfs", str(folder)):
            pytest.skip("root cannot mount here")

    def make(self, mode):
        if self.is_mounted:
            assert not self._call("mount", "-o", f"remount,{mode}", str(self.folder))
        else:
            self.folder.chmod(0o555 if mode == "ro" else 0o755)

    def close(self):
        self.make("rw")
        if self.is_mounted:
            self._call("umount", str(self.folder))

    @staticmethod
    def _call(*command):
        return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.fixture
def disk(tmp_path):
    """Returns a function that makes a disk of a folder; all are closed in the end."""
    disks = []

    def make(folder):
        disks.append(Disk(folder))
        return disks[-1]

    yield make
    for one in disks:
        one.close()


def test_corrections_that_cannot_be_written_any_more_resume(tmp_path, disk, monkeypatch, capsys):
    folders = Folders(tmp_path)
    for case in "abcd":
        folders.put(case, with_island())
    out = disk(folders.out)
    put = own_folder.OwnFolder.put

    def put_and_turn(self, name, *more):
        put(self, name, *more)
        if name == "b":
            out.make("ro")

    monkeypatch.setattr(own_folder.OwnFolder, "put", put_and_turn)
    assert folders.correct("-np", "1") in (1, 2)
    told = capsys.readouterr()
    assert str(folders.out) in told.out + told.err
    kept = {case: (folders.out / f"{case}.nii.gz").read_bytes() for case in "ab"}
    assert not (folders.out / "c.nii.gz").exists()
    out.make("rw")
    monkeypatch.undo()
    assert folders.correct("-np", "1") == 0
    assert {case: (folders.out / f"{case}.nii.gz").read_bytes() for case in "ab"} == kept
    assert len(list(folders.out.glob("*.nii.gz"))) == 4
    assert not [file for file in folders.out.iterdir() if file.name.startswith(".")]


def test_an_evaluation_that_cannot_be_written_resumes(tmp_path, disk, monkeypatch, capsys):
    study = Study(tmp_path)
    predictions = disk(study.pred)
    for case in range(3):
        study.put(f"case_{case}", *pair(case))
    append = Journal.append

    def append_and_stop(self, result):
        append(self, result)
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", append_and_stop)
    assert study.command() == 130
    monkeypatch.undo()
    predictions.make("ro")
    assert study.command() != 0
    assert str(study.pred) in capsys.readouterr().err
    assert not study.summary.exists()
    predictions.make("rw")
    assert study.command() == 0
    assert len(study.read()["metric_per_case"]) == 3


def test_links_in_our_places_are_not_followed(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    for place in (out / "record.json", new_content(out / "record.json"), out / NAME):
        place.symlink_to(precious)
    hold(out, "writes")
    write_whole(out / "record.json", "ours")
    release(out)
    (out / "journal").symlink_to(precious)
    with Journal(out / "journal") as journal:
        journal.handle.write("ours")
    assert precious.read_text() == "mine"
    assert (out / "record.json").read_text() == "ours"
    assert not (out / "record.json").is_symlink()


def test_a_linked_folder_for_unfinished_files_is_not_written_to(tmp_path):
    folders = Folders(tmp_path)
    folders.put("a", with_island())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("mine")
    folders.out.mkdir()
    (folders.out / ".correction.json.new").symlink_to(elsewhere)
    assert folders.correct("-np", "1") == 0
    assert [file.name for file in elsewhere.iterdir()] == ["mine.txt"]


def test_a_linked_result_is_not_replaced(tmp_path, capsys):
    folders = Folders(tmp_path)
    folders.put("a", with_island())
    precious = tmp_path / "precious.nii.gz"
    shutil.copy(folders.predictions / "a.nii.gz", precious)
    folders.out.mkdir()
    (folders.out / "a.nii.gz").symlink_to(precious)
    before = precious.read_bytes()
    assert folders.correct("-np", "1") != 0
    told = capsys.readouterr()
    assert "is left as it is" in told.out + told.err
    assert precious.read_bytes() == before
