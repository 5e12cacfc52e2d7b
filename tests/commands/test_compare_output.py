import csv
import io
from pathlib import Path

import pytest

from nnunet_topo.evaluation import case as evaluation

from ..evaluation.study import pair
from ..report.pages import Page
from .compared import Folders, files_below


@pytest.mark.parametrize("name", ["report.html", "compare.csv", "compare.json", "compare.tex"])
def test_files_of_others_are_never_replaced(folders, name, capsys, monkeypatch):
    folders.out.mkdir()
    (folders.out / name).write_text("{}")

    def refuse(*_, **__):
        raise AssertionError("evaluated although nothing could be written")

    monkeypatch.setattr(evaluation, "compare_label_maps", refuse)
    assert folders.compare() == 2
    assert "left as it is" in capsys.readouterr().err
    assert files_below(folders.out) == {name: b"{}"}


def test_own_files_are_replaced_unless_they_were_edited(folders, capsys):
    assert folders.compare() == 0
    assert folders.compare() == 0
    with (folders.out / "compare.tex").open("a") as file:
        file.write("% my note")
    assert folders.compare() == 2
    assert (
        "compare.tex was not written by nnunet-topo compare, or was changed since"
        in capsys.readouterr().err
    )


class Killed(BaseException):
    """Ends a process wherever it is."""


@pytest.mark.parametrize("replaced", [1, 2, 3])
def test_a_comparison_killed_while_it_writes_is_written_again(folders, monkeypatch, replaced):
    assert folders.compare() == 0
    done, replace = [], Path.replace

    def killed(file, target):
        if len(done) == replaced:
            raise Killed
        done.append(target.name)
        return replace(file, target)

    monkeypatch.setattr(
        Path,
        "replace",
        lambda file, target: (
            killed(file, target) if Path(target).parent == folders.out else replace(file, target)
        ),
    )
    with pytest.raises(Killed):
        folders.compare("--metrics", "Dice")
    assert done[0] == "compare.json"
    monkeypatch.undo()
    assert folders.compare("--metrics", "Dice") == 0


def test_a_folder_of_others_in_the_place_of_ours_is_refused(folders, capsys):
    (folders.out / "control").mkdir(parents=True)
    (folders.out / "control" / "mine.txt").touch()
    assert folders.compare("--control") == 2
    assert "control was not written by" in capsys.readouterr().err


HOSTILE = (
    "<script>alert(1)<",
    '"><img src=x onerror=alert(2)>',
    "a case & its 'name'",
    "Ünïcödé 肺 \u202egnp",
    "=HYPERLINK(0) $x^2_1\\",
)


def test_hostile_names_are_shown_and_do_nothing(tmp_path, capsys):
    labels = {"background": 0, "<b onclick=alert(3)>ring": 1, "=blob & co": 2}
    folders = Folders(tmp_path, labels=labels)
    for case, name in enumerate(HOSTILE):
        reference, prediction = pair(case)
        folders.put_both(name, reference, prediction, reference)
        folders.put(f"only in one: {name}", reference, prediction)
    model = "\x1b[31m<svg onload>\u202e"
    assert folders.compare(names=("</title><script>alert(5)</script>", model)) == 0
    page = Page(folders.page())
    page.assert_harmless()
    assert page.elements.count(("b", {})) == 0
    for name in (
        *HOSTILE[:3],
        *HOSTILE[4:],
        "Ünïcödé 肺 \\u202egnp",
        "\\x1b[31m<svg onload>\\u202e",
    ):
        assert name in page.text, name
    assert not [c for c in capsys.readouterr().out if not c.isprintable() and c != "\n"]
    rows = list(csv.DictReader(io.StringIO((folders.out / "compare.csv").read_text())))
    names = {row["label_name"] for row in rows} - {"mean over labels"}
    assert names == {"<b onclick=alert(3)>ring", "'=blob & co"}
    assert "=blob \\& co" in (folders.out / "compare.tex").read_text()
    assert set(folders.result()["cases"][model]) == {f"{name}.nii.gz" for name in HOSTILE}


def test_nothing_is_written_beside_predictions_and_references(folders):
    before = files_below(folders.gt.parent)
    folders.compare("--control")
    assert files_below(folders.gt.parent) == before
