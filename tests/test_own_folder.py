"""Folders that commands write: ours and others' files, and how an interrupted run resumes."""

import json
from pathlib import Path

import pytest

from nnunet_topo.own_folder import OwnFolder

RECORD = "record.json"


def opened(place, **settings):
    return OwnFolder(place, RECORD, "the command", settings=settings)


def put(folder, case, text, digest="digest"):
    file = folder.new / f"{case}.txt"
    file.write_text(text)
    folder.put(case, digest, {"text": text}, [file])


def written(place, **cases):
    folder = opened(place)
    folder.begin()
    for case, text in cases.items():
        put(folder, case, text)
    folder.close()


def names(place):
    return sorted(file.name for file in place.iterdir())


def test_what_is_finished_is_known_to_the_next_run(tmp_path):
    written(tmp_path / "out", a="1", b="2")
    again = opened(tmp_path / "out")
    assert again.finished("a", "digest") == {"text": "1"}
    assert again.finished("a", "another digest") is None
    assert again.finished("a", "") is None
    assert again.finished("c", "digest") is None
    assert names(tmp_path / "out") == ["a.txt", "b.txt", RECORD]


def test_what_another_run_finished_before_the_lock_was_taken_is_known(tmp_path):
    early = opened(tmp_path / "out")
    written(tmp_path / "out", a="1")
    early.begin()
    assert early.finished("a", "digest") == {"text": "1"}
    early.close()
    assert opened(tmp_path / "out").finished("a", "digest") == {"text": "1"}
    early.refuse_others(["a.txt"])


def test_a_long_run_can_be_read_before_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("nnunet_topo.own_folder._SECONDS", 0)
    folder = opened(tmp_path)
    folder.begin()
    put(folder, "a", "1")
    assert json.loads((tmp_path / RECORD).read_text())["cases"]["a"]["text"] == "1"


def test_a_case_whose_file_is_missing_is_not_finished(tmp_path):
    written(tmp_path, a="1")
    (tmp_path / "a.txt").unlink()
    assert opened(tmp_path).finished("a", "digest") is None


@pytest.mark.parametrize("cut", ["", '\n{"case": "b", "con'])
def test_an_interrupted_run_keeps_what_it_finished(cut, tmp_path):
    folder = opened(tmp_path)
    folder.begin()
    put(folder, "a", "1")
    with (folder.new / "finished.jsonl").open("a") as lines:
        lines.write(cut)
    (folder.new / "half.txt").write_text("half")
    again = opened(tmp_path)
    again.begin()
    assert again.finished("a", "digest") == {"text": "1"}
    put(again, "c", "3")
    third = opened(tmp_path)
    assert third.finished("c", "digest") == {"text": "3"}
    third.begin()
    third.close()
    assert names(tmp_path) == ["a.txt", "c.txt", RECORD]


def test_runs_that_were_killed_before_they_moved_a_file_own_the_former_one(tmp_path, monkeypatch):
    written(tmp_path, a="1")
    for text in ("2", "3"):
        folder = opened(tmp_path)
        folder.begin()
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            (folder.new / "a.txt").write_text(text)
            with pytest.raises(KeyboardInterrupt):
                folder.put("a", "digest", {"text": text}, [folder.new / "a.txt"])
        assert (tmp_path / "a.txt").read_text() == "1"
        assert opened(tmp_path).finished("a", "digest") is None
    folder = opened(tmp_path)
    folder.begin()
    put(folder, "a", "4")
    assert (tmp_path / "a.txt").read_text() == "4"


def test_files_of_others_stay(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    folder = opened(tmp_path)
    with pytest.raises(ValueError, match=r"a\.txt was not written by the command"):
        folder.refuse_others(["b.txt", "a.txt"])
    folder.begin()
    with pytest.raises(ValueError, match=r"a\.txt was not written by the command"):
        put(folder, "a", "1")
    with pytest.raises(ValueError, match=r"a\.txt was not written by the command"):
        folder.write("a.txt", "1")
    put(folder, "b", "2")
    (tmp_path / "b.txt").write_text("edited")
    with pytest.raises(ValueError, match="or was changed since"):
        put(folder, "b", "3")
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert (tmp_path / "b.txt").read_text() == "edited"


OURS = '{"written_by": "the command", "cases": {}, "files": {}}'


@pytest.mark.parametrize(
    "content",
    [
        *("{}", "[]", "no JSON", '{"written_by": "another"}'),
        OURS.replace('"files": {}', '"files": {"../a.txt": ["0"]}'),
        OURS.replace('"files": {}', '"files": {"a.txt": []}'),
        OURS.replace('"cases": {}', '"cases": {"a": {"files": ["/a.txt"]}}'),
        OURS.replace("}}", '}, "settings": null}'),
    ],
)
def test_a_record_of_others_is_refused(content, tmp_path):
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(ValueError, match="was not written by the command and is left as it is"):
        opened(tmp_path)
    assert (tmp_path / RECORD).read_text() == content


def test_a_record_may_hold_what_a_newer_version_adds(tmp_path):
    newer = '{"newer": {"a": 1}, "version": "99", "written_by": "the command"'
    case = '{"a": {"files": ["a.txt"], "digest": "d", "of_newer": [1]}}'
    (tmp_path / RECORD).write_text(f'{newer}, "cases": {case}, "files": {{"a.txt": ["0"]}}}}')
    assert opened(tmp_path).finished("a", "d") is None  # its file is missing


def test_other_settings_are_refused(tmp_path):
    folder = opened(tmp_path, labels=(1, 2), form="a")
    folder.begin()
    opened(tmp_path, labels=(1, 2), form="a")
    with pytest.raises(ValueError, match="form: a, now b"):
        opened(tmp_path, labels=(1, 2), form="b")


def test_only_own_files_of_other_cases_are_removed(tmp_path):
    written(tmp_path, a="1", b="2", c="3")
    (tmp_path / "b.txt").write_text("edited")
    folder = opened(tmp_path)
    folder.begin()
    folder.keep_only(["a"])
    folder.close(summary="one case")
    assert names(tmp_path) == ["a.txt", "b.txt", RECORD]
    record = json.loads((tmp_path / RECORD).read_text())
    assert list(record["cases"]) == ["a"]
    assert record["summary"] == "one case"


def test_files_that_a_case_no_longer_has_are_removed(tmp_path):
    written(tmp_path, a="1", b="2", c="3")
    (tmp_path / "b.txt").write_text("edited")
    folder = opened(tmp_path)
    folder.begin()
    for case in "ab":
        folder.put(case, "another digest", {"failed": True})
    folder.drop("c")
    folder.drop("never there")
    folder.close()
    assert names(tmp_path) == ["b.txt", RECORD]
    assert list(json.loads((tmp_path / RECORD).read_text())["cases"]) == ["a", "b"]


def test_results_of_cases_that_are_gone_are_told(tmp_path):
    written(tmp_path, **dict.fromkeys("abcdefgh", "1"))
    folder = opened(tmp_path)
    assert folder.note_on_others("abcdefgh", tmp_path / "in") == []
    (note,) = folder.note_on_others("ab", tmp_path / "in")
    assert note.endswith(f"not in {tmp_path / 'in'} now: c, d, e, f, g, ...")
    for case in "cdefgh":
        (tmp_path / f"{case}.txt").unlink()
    assert folder.note_on_others("ab", tmp_path / "in") == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="wanted a folder for the results"):
        opened(tmp_path / "file")
