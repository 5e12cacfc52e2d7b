import base64
import csv
import io
import json
import re
from dataclasses import astuple, replace
from html.parser import HTMLParser
from math import nan
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from matplotlib.image import imread
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

from nnunet_topo.cli import main
from nnunet_topo.commands import notes
from nnunet_topo.evaluation import evaluate as evaluation
from nnunet_topo.evaluation.results import Training, name_folders, read_volumes
from nnunet_topo.images.geometry import find_unit, read_geometry
from nnunet_topo.metrics import compare_label_maps, compute
from nnunet_topo.report import make_table
from nnunet_topo.report.claims import claims
from nnunet_topo.report.grid import Grid, describe_slice
from nnunet_topo.report.page import render
from nnunet_topo.report.pictures import _outline, choose_changes, draw_case
from nnunet_topo.report.records import Comparison
from nnunet_topo.report.screen import as_text
from nnunet_topo.report.tables import as_csv, as_latex
from nnunet_topo.report.words import shortened

from ..evaluation.test_evaluation import SPACING, Study, pair

DATASET = "Dataset903_Compared"
CONFIGURATION = "nnUNetPlans__3d_fullres"


class Folders(Study):
    """References and the predictions of two models, as bare folders."""

    def __init__(self, folder, **options):
        super().__init__(folder / "study", **options)
        self.other = folder / "study" / "other"
        self.other.mkdir()
        self.out = folder / "out"

    def put_both(self, name, reference, prediction, other):
        self.put(name, reference, prediction)
        self.pred, kept = self.other, self.pred
        self.put(name, None, other)
        self.pred = kept

    def compare(self, *more, names=("stock", "ours")):
        folders = [
            f"{name}={folder}" for name, folder in zip(names, (self.pred, self.other), strict=True)
        ]
        arguments = ["compare", "--gt", str(self.gt), "--pred", *folders, "-djfile"]
        arguments += [str(self.djfile), "-pfile", str(self.pfile), "-o", str(self.out), "-np", "1"]
        return main([*arguments, *more])

    def result(self):
        return json.loads((self.out / "compare.json").read_text())

    def page(self):
        return (self.out / "report.html").read_text()

    def latex(self):
        return (self.out / "compare.tex").read_text()


class Page(HTMLParser):
    """What a browser would make of a page: elements, and the text beside the style sheet."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in ("meta", "br", "img", "wbr"):
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def assert_harmless(self):
        """Asserts that nothing is loaded or run, whatever the names are."""
        for name, attributes in self.elements:
            assert name not in ("script", "img", "iframe", "object", "base", "form"), name
            for key, value in attributes.items():
                assert not key.startswith("on"), (name, key)
                if key in ("src", "href", "xlink:href", "data", "action"):
                    assert value.startswith(("#", "data:image/png;base64,")), value


@pytest.fixture
def folders(tmp_path):
    folders = Folders(tmp_path)
    for case in range(3):
        reference, prediction = pair(case)
        folders.put_both(f"case_{case}", reference, prediction, reference)
    return folders


def files_below(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


# -- the command -------------------------------------------------------------------------------


def test_bare_folders_are_evaluated_paired_and_written(folders, capsys):
    assert folders.compare() == 0
    result = folders.result()
    reference, prediction = pair(0)
    expected = compute(prediction == 1, reference == 1, spacing_mm=SPACING)
    of_case = result["cases"]["stock"]["case_0.nii.gz"]["1"]
    for key, value in expected.items():
        assert of_case[key] == pytest.approx(value, rel=1e-5), key
    lines = list(csv.DictReader(io.StringIO((folders.out / "compare.csv").read_text())))
    (dice,) = [
        line
        for line in lines
        if (line["label"], line["metric"], line["model"]) == ("1", "Dice", "ours")
    ]
    values = [result["cases"]["stock"][f"case_{i}.nii.gz"]["1"]["Dice"] for i in range(3)]
    assert float(dice["mean"]) == 1
    assert float(dice["difference_mean"]) == pytest.approx(1 - np.mean(values))
    assert (dice["wins"], dice["ties"], dice["losses"]) == ("3", "0", "0")
    printed = capsys.readouterr().out
    assert "primary outcome, declared before: Betti matching error, mean over the" in printed
    told = "with 3 cases no difference could be shown, however large (it takes at least 6)"
    assert told in printed
    assert "\\begin{tabular}" in (folders.out / "compare.tex").read_text()
    page = Page(folders.page())
    page.assert_harmless()
    assert "ours: No difference to stock shown." in page.text
    assert told in page.text


def test_an_undefined_value_is_null_in_json_empty_in_csv_and_counted(folders):
    folders.compare()  # case 2 of the first has no blob
    result = folders.result()
    assert result["cases"]["stock"]["case_2.nii.gz"]["2"]["topo_hd95_mm"] is None
    (row,) = [
        row
        for row in result["table"]
        if (row["label"], row["metric"], row["model"]) == ("2", "topo_hd95_mm", "stock")
    ]
    assert (row["cases"], row["undefined"], row["wins"]) == (2, 1, None)


def test_nothing_is_written_beside_predictions_and_references(folders):
    before = files_below(folders.gt.parent)
    folders.compare("--control")
    assert files_below(folders.gt.parent) == before


def test_cases_that_not_all_models_have_are_left_out_and_named(folders, capsys):
    (folders.other / "case_1.nii.gz").unlink()
    assert folders.compare() == 0
    assert list(folders.result()["cases"]["stock"]) == ["case_0.nii.gz", "case_2.nii.gz"]
    note = "1 of 3 cases of stock is left out, because another model does not have it: case_1"
    assert note in capsys.readouterr().out
    assert note in Page(folders.page()).text


def test_a_model_whose_predictions_can_no_longer_be_read_is_not_compared(folders, capsys):
    assert folders.compare() == 0
    for file in folders.pred.glob("*.nii.gz"):
        file.write_text("not an image")
    assert folders.compare() == 2
    told = capsys.readouterr().err
    assert "no case has been evaluated for all models (stock: 0, ours: 3); stock: case_0" in told
    assert "case_0.nii.gz cannot be read" in told


def test_no_case_in_common_is_an_error(folders, capsys):
    for case in (1, 2):
        (folders.other / f"case_{case}.nii.gz").unlink()
    (folders.pred / "case_0.nii.gz").unlink()
    assert folders.compare() == 2
    assert (
        "no case has been evaluated for all models (stock: 2, ours: 1)" in capsys.readouterr().err
    )


def test_a_case_that_cannot_be_read_is_a_trouble_of_its_model(folders, capsys):
    (folders.other / "case_1.nii.gz").write_text("no image")
    assert folders.compare() == 1
    assert "ours: case_1.nii.gz: not evaluated" in capsys.readouterr().err
    assert len(folders.result()["cases"]["ours"]) == 2


def test_one_case_is_compared_and_not_tested(tmp_path, capsys):
    folders = Folders(tmp_path)
    reference, prediction = pair(1)
    folders.put_both("single", reference, prediction, reference)
    assert folders.compare() == 0
    printed = capsys.readouterr().out
    assert "ours: not tested against stock, for want of two cases" in printed
    assert "1 case, full connectivity" in printed
    assert "note: one case alone: nothing can be tested" in printed


def test_equal_models_show_no_difference_and_no_changed_case(folders):
    for file in folders.pred.iterdir():
        (folders.other / file.name).write_bytes(file.read_bytes())
    assert folders.compare() == 0
    text = Page(folders.page()).text
    assert "18 secondary comparisons: no difference shown in 18" in text
    assert "No case differs in any of the metrics" in text
    table = [row for row in folders.result()["table"] if row["model"] == "ours"]
    assert all((row["wins"], row["losses"]) == (0, 0) for row in table)
    assert all(row["p_holm"] == 1 for row in table)


def test_a_model_that_misses_more_is_not_called_better_in_that_very_sentence(tmp_path, capsys):
    folders = Folders(tmp_path, labels={"background": 0, "organ": 1})
    for case in range(9):
        reference = np.zeros((8, 9, 10), np.uint8)
        reference[2:6, 2:7, 3:7] = 1
        off = np.roll(reference, 2, axis=2)
        exact = np.zeros_like(reference) if case > 6 else np.roll(reference, 1, axis=2)
        folders.put_both(f"case_{case}", reference, off, exact)
    assert folders.compare("--metrics", "topo_hd95_mm", "--primary", "topo_hd95_mm") == 0
    printed = capsys.readouterr().out
    answer = (
        "ours: not called better than stock: smaller HD95 (mm) where both found it, but missed "
    )
    assert f"{answer}2 more structures. HD95 (mm)" in printed
    assert "missed 2 of 9 structures (stock: 0)" in printed
    assert f"{answer[:5]} N{answer[7:]}2 more structures." in Page(folders.page()).text
    assert "but missed 2 more structures: not called better} \\\\" in folders.latex()
    assert "ours: 2 of 9 structures missed} \\\\" in folders.latex()
    result = folders.result()
    assert result["presence"]["ours"] == {"there": 9, "missed": 2, "absent": 0, "invented": 0}
    (row,) = [r for r in result["table"] if r["family"] == "primary" and r["model"] == "ours"]
    assert (row["pairs"], row["missed"], row["missed_more"]) == (7, 2, 2)
    assert row["verdict"] == "not called better"
    assert folders.compare("--missing-mm", "90") == 0
    (row,) = [
        row
        for row in folders.result()["table"]
        if (row["metric"], row["model"]) == ("topo_hd95_mm", "ours")
    ]
    assert (row["cases"], row["undefined"]) == (9, 0)
    assert row["mean"] == pytest.approx((2 * 90 + 7 * 1.3) / 9, abs=0.01)
    assert "A missed structure counts as 90 mm in distances." in Page(folders.page()).text
    assert folders.compare("--missing-mm", "1") == 0
    assert (
        "counts as 1 mm, which is less than the largest distance of one" in capsys.readouterr().out
    )


def test_without_a_primary_outcome_nothing_is_said_to_be_better_on_the_whole(folders, capsys):
    assert folders.compare("--primary", "none", "--metrics", "Dice") == 0
    assert "ours: no primary outcome was declared" in capsys.readouterr().out
    assert folders.result()["primary"] is None
    assert {row["family"] for row in folders.result()["table"]} == {"secondary"}


def test_distances_of_images_without_spacing_are_in_pixels_everywhere(tmp_path, capsys):
    folders = Folders(
        tmp_path, reader="NaturalImage2DIO", ending=".png", labels={"background": 0, "b": 1}
    )
    for case in range(3):
        reference = np.zeros((20, 24), np.uint8)
        reference[5:12, 4:15] = 1
        moved = np.roll(reference, 1 + case, axis=1)
        folders.put_both(f"case_{case}", reference, moved, reference)
    assert folders.compare("--missing-mm", "40") == 0
    texts = [capsys.readouterr().out, folders.page(), folders.latex()]
    for text in texts:
        assert "HD95 (pixels)" in text
        assert "HD95 (mm)" not in text
    assert "counts as 40 pixels" in folders.latex()
    assert folders.result()["unit"] == "pixels"
    lines = list(csv.DictReader(io.StringIO((folders.out / "compare.csv").read_text())))
    assert {line["unit"] for line in lines} == {"", "pixels"}
    assert 'class="side"' not in folders.page()


def test_the_unit_that_a_summary_records_is_that_of_the_report(tmp_path):
    files = [tmp_path / name for name in ("a.json", "b.json")]
    reader = recursive_find_reader_writer_by_name("Tiff3DIO")()
    for file, unit in zip(files, ("voxels", "mm"), strict=True):
        file.write_text(json.dumps({"nnunet_topo": {"unit": unit}}))
    assert find_unit(files[:1], reader, []) == "voxels"
    with pytest.raises(ValueError, match="distances are in mm and in voxels"):
        find_unit(files, reader, [])
    files[0].write_text(json.dumps({"nnunet_topo": {}}))
    assert find_unit(files[:1], reader, [tmp_path]) == "voxels"
    (tmp_path / "case.tif").touch()
    (tmp_path / "case.json").touch()
    assert find_unit(files[:1], reader, [tmp_path]) == "mm"
    nifti = recursive_find_reader_writer_by_name("SimpleITKIO")()
    assert find_unit(files[:1], nifti, [tmp_path]) == "mm"


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
    assert "compare.tex is not as nnunet-topo compare has written it" in capsys.readouterr().err


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


def test_the_control_keeps_the_largest_component_of_each_label(folders):
    assert folders.compare("--control", "--metrics", "topo_betti_error_0") == 0
    result = folders.result()
    assert list(result["cases"]) == ["stock", "stock, largest components", "ours"]
    island, removed = (
        result["cases"][model]["case_1.nii.gz"]["1"]["topo_betti_pred_0"]
        for model in ("stock", "stock, largest components")
    )
    assert (island, removed) == (2, 1)
    assert folders.compare("--control") == 0  # again, over its own files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pred", "nothing", "b=."], "--pred takes NAME=FOLDER, got 'nothing'"),
        (["--pred", "a=.", "a=."], "each model needs a name of its own"),
        (["--pred", "a=."], "it takes two models to compare, or one and --control"),
        (["--pred", "a=nowhere", "b=."], "nowhere is no folder"),
        (["-d", "4"], "give either -d, -c and -tr, or --gt and --pred"),
        (["--metrics", "topo_ver"], "'topo_ver' cannot be compared; choose from Dice"),
        (["--primary", "Dise"], "'Dise' cannot be compared; choose from Dice"),
        (["--missing-mm", "-1"], "--missing-mm takes a distance above 0, got -1"),
    ],
)
def test_wrong_arguments_say_what_is_right(folders, arguments, message, capsys):
    assert folders.compare(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not folders.out.exists()


def test_an_interrupted_comparison_goes_on_where_it_was(folders, monkeypatch, capsys):
    compared = []

    def interrupt(*label_maps, **options):
        compared.append(label_maps)
        if len(compared) == 2:
            raise KeyboardInterrupt
        return compare_label_maps(*label_maps, **options)

    monkeypatch.setattr(evaluation, "compare_label_maps", interrupt)
    assert folders.compare() == 130
    assert "interrupted; the same command goes on where it was" in capsys.readouterr().err
    assert folders.compare() == 0
    assert len(compared) == 2 + (3 + 3 - 1)


def test_connectivity_is_used_and_printed(folders, capsys):
    assert folders.compare("--connectivity", "face") == 0
    assert "3 cases, face connectivity" in capsys.readouterr().out
    assert "6-connected in volumes" in Page(folders.page()).text


# -- trainings ---------------------------------------------------------------------------------


class Results:
    """nnU-Net's folders with two trainers of two folds, two cases each."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        for name in ("raw", "preprocessed", "results"):
            (folder / name / DATASET).mkdir(parents=True)
            monkeypatch.setenv(f"nnUNet_{name}", str(folder / name))
        self.study = Study(folder / "study")
        self.study.gt = folder / "preprocessed" / DATASET / "gt_segmentations"
        self.study.gt.mkdir()
        self.out = folder / "out"
        for trainer in ("nnUNetTrainer", "nnUNetTrainerTAFL_5epochs"):
            for fold in (0, 1):
                self.study.pred = self.fold(trainer, fold) / "validation"
                self.study.pred.mkdir(parents=True)
                for case in (2 * fold, 2 * fold + 1):
                    reference, prediction = pair(case)
                    right = "TAFL" in trainer
                    self.study.put(f"case_{case}", reference, reference if right else prediction)
                # That there is one tells that the validation is finished.
                (self.study.pred / "summary.json").write_text("{}")
            for file in (self.study.djfile, self.study.pfile):
                (self.fold(trainer, 0).parent / file.name).write_bytes(file.read_bytes())

    def fold(self, trainer, fold):
        name = f"{trainer}__{CONFIGURATION}"
        return self.folder / "results" / DATASET / name / f"fold_{fold}"

    def evaluate(self, trainer, fold, *, after_nnunet=False):
        folder = self.fold(trainer, fold) / "validation"
        (folder / "summary.json").unlink()
        if after_nnunet:
            self.study.pred, self.study.summary = folder, folder / "summary.json"
            self.study.evaluate_as_nnunet()
        files = (self.study.djfile, self.study.pfile)
        evaluation.evaluate_folder(self.study.gt, folder, *files, chill=True)
        return folder

    def compare(self, *more, trainers=("nnUNetTrainer", "nnUNetTrainerTAFL_5epochs"), folds="01"):
        asked = ["compare", "-d", "903", "-c", "3d_fullres", "-tr", *trainers, "-f", *folds]
        return main([*asked, "-o", str(self.out), "-np", "1", *more])


@pytest.fixture
def results(tmp_path, monkeypatch):
    return Results(tmp_path, monkeypatch)


def test_the_folds_of_trainers_are_compared_together(results, capsys):
    before = files_below(results.folder / "results")
    assert results.compare() == 0
    assert "4 cases, full connectivity" in capsys.readouterr().out
    content = json.loads((results.out / "compare.json").read_text())
    assert list(content["cases"]) == ["nnUNetTrainer", "nnUNetTrainerTAFL_5epochs"]
    wins = {(row["label"], row["metric"]): row["wins"] for row in content["table"]}
    assert (wins["1", "Dice"], wins["mean", "topo_betti_matching_error"]) == (4, 3)
    assert files_below(results.folder / "results") == before


def test_a_missing_fold_is_named_with_those_that_exist(results, capsys):
    assert results.compare(folds="012") == 2
    error = capsys.readouterr().err
    assert "nnUNetTrainer has no finished validation of fold 2; there is fold 0, 1, see -f" in error
    assert results.compare(folds="0") == 0


def test_a_missing_trainer_is_named_with_those_that_exist(results, capsys):
    assert results.compare(trainers=("nnUNetTrainer", "nnUNetTrainerWasserstein")) == 2
    error = capsys.readouterr().err
    assert "no results of nnUNetTrainerWasserstein (nnUNetPlans, 3d_fullres)" in error
    assert "there are: nnUNetTrainer, nnUNetTrainerTAFL_5epochs" in error


def test_other_plans_are_named_where_none_fit(results, capsys):
    assert results.compare("-p", "nnUNetResEncUNetMPlans") == 2
    error = capsys.readouterr().err
    assert "there are, with other plans or configurations: nnUNetTrainer" in error
    assert f"nnUNetTrainer__{CONFIGURATION}" in error


def test_an_unknown_data_set_is_an_error(results, capsys):
    assert results.compare("-d", "777") == 2
    assert "Could not find a dataset with the ID 777" in capsys.readouterr().err


def test_what_has_been_evaluated_is_not_evaluated_again(results, monkeypatch):
    for trainer in ("nnUNetTrainer", "nnUNetTrainerTAFL_5epochs"):
        for fold in (0, 1):
            results.evaluate(trainer, fold)

    def refuse(*_, **__):
        raise AssertionError("evaluated again")

    monkeypatch.setattr(evaluation, "compare_label_maps", refuse)
    assert results.compare() == 0


def test_a_prediction_that_changed_after_nnunets_summary_is_measured_anew(results):
    folder = results.evaluate("nnUNetTrainer", 0, after_nnunet=True)
    (folder / "case_0.nii.gz").write_bytes((results.study.gt / "case_0.nii.gz").read_bytes())
    assert results.compare() == 0
    content = json.loads((results.out / "compare.json").read_text())
    of_case = content["cases"]["nnUNetTrainer"]["case_0.nii.gz"]["1"]
    assert (of_case["Dice"], of_case["topo_betti_error"]) == (1, 0)


def test_so_is_one_that_changed_between_two_comparisons(results):
    folder = results.evaluate("nnUNetTrainer", 0, after_nnunet=True)
    assert results.compare() == 0
    (folder / "case_0.nii.gz").write_bytes((results.study.gt / "case_0.nii.gz").read_bytes())
    assert results.compare() == 0
    content = json.loads((results.out / "compare.json").read_text())
    of_case = content["cases"]["nnUNetTrainer"]["case_0.nii.gz"]["1"]
    assert (of_case["Dice"], of_case["topo_betti_error"]) == (1, 0)


def test_a_summary_of_other_labels_is_not_taken_over(folders):
    folders.evaluate()
    description = json.loads(folders.djfile.read_text())
    description["labels"] = {"background": 0, "ring": 1, "blob": 2, "third": 3}
    folders.djfile.write_text(json.dumps(description))
    assert folders.compare() == 0
    assert list(folders.result()["labels"]) == ["1", "2", "3"]
    assert folders.result()["cases"]["stock"]["case_0.nii.gz"]["3"]["Dice"] is None


def test_training_curves_come_from_the_checkpoint(results):
    logged = {
        "train_losses": [np.float32(0.5), np.float32(0.25)],
        "topology_term": [nan, 0.75],
        "dice_per_class_or_region": [[0.1, 0.2], [0.3, 0.4]],
    }
    file = results.fold("nnUNetTrainerTAFL_5epochs", 1) / "checkpoint_final.pth"
    torch.save({"logging": logged}, file)
    assert results.compare() == 0
    page = (results.out / "report.html").read_text()
    labels = [attributes.get("aria-label") or "" for _, attributes in Page(page).elements]
    assert "topology term over the epochs of fold 1" in labels
    assert "training loss over the epochs of fold 1" in labels
    assert not any("dice_per_class" in label or "fold 0" in label for label in labels)


def test_a_prior_that_references_contradict_is_warned_of(results, capsys):
    own = {
        "prior": {"0": [1, [1, 2], 0], "1": [2, 0, None], "2": "target"},
        "finetuned_from": "stock.pth",
    }
    for fold in (0, 1):
        file = results.fold("nnUNetTrainerTAFL_5epochs", fold) / "checkpoint_final.pth"
        torch.save({"logging": {}, "nnunet_topo": own}, file)
    assert results.compare() == 0
    note = (
        "nnUNetTrainerTAFL_5epochs was trained with the Betti numbers (2, 0, free) of blob, which "
        "4 of 4 references do not have"
    )
    printed = capsys.readouterr().out
    assert printed.count("was trained with") == 1
    assert note in printed
    text = Page((results.out / "report.html").read_text()).text
    assert note in text
    assert "nnUNetTrainerTAFL_5epochs, fold 1: from stock.pth" in text


def test_an_unequal_augmentation_is_warned_of(results, capsys):
    for fold in (0, 1):
        file = results.fold("nnUNetTrainerTAFL_5epochs", fold) / "checkpoint_final.pth"
        torch.save({"logging": {}, "nnunet_topo": {"spatial": False}}, file)
    assert results.compare() == 0
    assert "rotation" not in capsys.readouterr().out  # nothing is known of the other
    for fold in (0, 1):
        torch.save({"logging": {}}, results.fold("nnUNetTrainer", fold) / "checkpoint_final.pth")
    assert results.compare() == 0
    note = "TAFL_5epochs trained without rotation and scaling, nnUNetTrainer with them"
    assert note in capsys.readouterr().out
    assert note in Page((results.out / "report.html").read_text()).text


def test_a_model_that_segments_nothing_is_named(folders, capsys):
    for case in range(3):
        reference, _ = pair(case)
        folders.put_both(f"case_{case}", reference, np.zeros_like(reference), reference)
    assert folders.compare() == 0
    note = "stock segments nothing as ring"
    printed = capsys.readouterr().out
    assert note in printed
    assert "ours segments nothing" not in printed
    assert "too briefly" not in printed  # nobody knows how they were made
    text = Page(folders.page()).text
    assert note in text
    assert "Betti error: components, loops and cavities too many or too few" in text


def test_a_training_that_is_too_short_is_named_with_its_length(results, capsys):
    trainings = {"nnUNetTrainer": (1000, {}), "nnUNetTrainerTAFL_5epochs": (5, {"iters": 10})}
    for trainer, (epochs, settings) in trainings.items():
        for fold in (0, 1):
            content = {"logging": {"train_losses": [0.5] * epochs}, "current_epoch": epochs}
            content["nnunet_topo"] = {"settings": settings}
            torch.save(content, results.fold(trainer, fold) / "checkpoint_final.pth")
    assert results.compare() == 0
    printed = capsys.readouterr().out
    short = "was trained for 5 epochs of 10 iterations: such a short training says nothing about"
    assert f"note: nnUNetTrainerTAFL_5epochs {short} the method" in printed
    assert (
        "nnUNetTrainer was trained for 250000 iterations, nnUNetTrainerTAFL_5epochs for 50"
        in printed
    )
    assert "nnUNetTrainer was trained for 1000" not in printed
    assert short in Page((results.out / "report.html").read_text()).text


def test_the_name_of_a_trainer_tells_its_length_where_no_checkpoint_does(results, capsys):
    assert results.compare() == 0
    printed = capsys.readouterr().out
    assert "nnUNetTrainerTAFL_5epochs was trained for 5 epochs of 250 iterations: such" in printed
    assert "note: nnUNetTrainer was" not in printed


@pytest.mark.parametrize(
    ("epochs", "iterations", "fine_tuned", "short"),
    [
        (1000, 250, False, False),
        (50, 250, False, False),
        (49, 250, False, True),
        (1000, 10, False, True),
        (1, 1, True, True),
        (50, 250, True, False),
        (20, 10, True, False),
    ],
)
def test_a_training_is_short_by_its_iterations(epochs, iterations, fine_tuned, short):
    origin = "stock.pth" if fine_tuned else ""
    training = Training({}, {}, origin, True, epochs, iterations)
    told = notes.notes_on_trainings({"m": {"0": training}}, {"m": {}}, {}, {"m": True})
    assert bool(told) == short


def test_a_prior_of_slices_is_not_held_against_volumes(results, capsys):
    file = results.fold("nnUNetTrainerTAFL_5epochs", 0) / "checkpoint_final.pth"
    torch.save({"logging": {}, "nnunet_topo": {"prior": {"0": [3, 0]}}}, file)
    assert results.compare() == 0
    assert "was trained with" not in capsys.readouterr().out


def test_a_trainer_for_face_connectivity_is_measured_so(results, capsys):
    folder = results.fold("nnUNetTrainerTAFL_5epochs", 0).parent
    name = "nnUNetTrainerTAFL_5epochs_face"
    folder.rename(folder.with_name(f"{name}__{CONFIGURATION}"))
    assert results.compare(trainers=("nnUNetTrainer", name)) == 0
    assert "face connectivity" in capsys.readouterr().out


# -- claims, tables, pages ---------------------------------------------------------------------


def comparison(cases=1000, labels=3, models=("stock", "a", "b"), shift=0.0, seed=1, primary="Dice"):
    """Returns a study drawn by chance."""
    rng = np.random.default_rng(seed)
    metrics = ("Dice", "topo_cldice", "topo_hd95_mm", "topo_betti_error", "topo_betti_exact")
    values = {
        model: {
            f"a_case_with_a_rather_long_name_{case:05d}.nii.gz": {
                str(label): dict(
                    zip(metrics, rng.random(5) + shift * (model != "stock"), strict=True)
                )
                | {f"topo_betti_ref_{k}": float(rng.integers(0, 3)) for k in range(3)}
                for label in range(1, labels + 1)
            }
            for case in range(cases)
        }
        for model in models
    }
    names = {str(label): f"label {label}" for label in range(1, labels + 1)}
    rows = make_table(values, list(names), metrics, primary=primary)
    found = ("Simulated", values, names, metrics, "full", rows, [], [], {"Command": "none"})
    return Comparison(*found, primary=primary)


def test_a_thousand_cases_fit_in_twenty_megabytes():
    page = render(comparison())
    assert len(page.encode()) < 3e6
    Page(page).assert_harmless()
    assert "Points and lines are 400 cases drawn by chance" in Page(page).text
    many_labels = render(comparison(cases=60, labels=62, models=("stock", "a")))
    assert len(many_labels.encode()) < 20e6
    assert "Drawn are the 24 of 310 with the largest effects" in Page(many_labels).text


def test_a_summary_claims_no_more_than_the_tests():
    for claim in claims(comparison(cases=40)):
        assert claim.answer == "no difference to stock shown"
        assert claim.secondary == "19 secondary comparisons: no difference shown in 19"
        assert claim.named == {}
    (claim,) = claims(comparison(cases=40, shift=0.5, models=("stock", "a")))
    assert claim.answer == "better than stock"
    assert re.match(r"Dice 1\.0\d+ instead of 0\.[45]\d+, difference \+0\.", claim.evidence)
    assert claim.secondary == "19 secondary comparisons: better in 11, worse in 8"
    assert "label 2: clDice +0." in claim.named["better"]
    assert "mean over labels: HD95 (mm) +0." in claim.named["worse"]


def test_tables_agree_with_one_another():
    found = comparison(cases=12, labels=1, models=("stock", "a"))
    row = found.rows[1]
    mean = f"{row.spread.mean:.4f}"
    assert mean in as_text(found)
    assert f"${mean}$" in as_latex(found)
    (line,) = [r for r in csv.DictReader(io.StringIO(as_csv(found))) if r["model"] == "a"][:1]
    assert float(line["mean"]) == row.spread.mean
    assert float(line["p_holm"]) == row.difference.p_holm
    assert mean in Page(render(found)).text


def test_the_reference_is_described_and_a_prior_it_contradicts_warned_of():
    text = Page(render(comparison(cases=50, labels=1))).text
    assert "Betti numbers of the reference segmentations, full connectivity" in text
    assert "the references do not agree on one number in label 1 (components)" in text


def test_a_case_without_the_label_contradicts_no_prior():
    found = comparison(cases=20, labels=1)
    for of_model in found.values.values():
        for case, of_case in enumerate(of_model.values()):
            of_case["1"] |= {f"topo_betti_ref_{k}": float(case >= 5 and k == 0) for k in range(3)}
    text = Page(render(found)).text
    assert "1: 15 cases; 0: 5 cases" in text
    assert "do not agree" not in text
    cases = found.values["stock"]
    training = SimpleNamespace(prior={0: [1, 0, 0]})
    assert notes._contradictions("a", {"0": training}, cases, found.labels) == []
    training.prior = {0: [2, 0, 0]}
    (note,) = notes._contradictions("a", {"0": training}, cases, found.labels)
    assert "which 15 of 15 references do not have" in note


def test_with_many_labels_screen_and_page_show_the_answer_first_and_stay_short():
    found = comparison(cases=24, labels=117, shift=0.05)
    lines = as_text(found).splitlines()
    assert len(lines) <= 50
    assert lines[1].startswith("primary outcome, declared before: Dice, mean over the labels of")
    assert re.match("a: (better than|no difference to) stock.* effect ", lines[2])
    assert any(
        "largest effects in single labels (10 of 1170; compare.csv has all)" in li for li in lines
    )
    folded = re.sub(r"<details.*?</details>", "", render(found), flags=re.DOTALL)
    assert folded.count('class="block"') == 5
    text = Page(folded).text
    assert "label 117" not in text.partition("label by label")[0]
    assert text.index("a: ") < text.index("mean over labels, ")
    assert "37 more labels" not in text
    assert text.count("77 more labels between") == 2


def test_single_labels_are_sorted_by_the_size_of_their_effect():
    found = comparison(cases=20, labels=4, models=("stock", "a"), shift=0.1)
    page = Page(render(found)).text
    listed = page[page.index("Single labels: 20 pairs") : page.rindex("The cases that changed")]
    headed = re.findall(r"(label \d), (.*?), (?:higher|lower) is better", listed)
    effects = {
        (row.label, row.metric): abs(row.difference.effect) for row in found.rows if row.difference
    }
    sizes = [
        effects[label.split()[1], next(m for m in found.metrics if found.title_of(m) == title)]
        for label, title in headed
    ]
    assert len(sizes) == 20
    assert sizes == sorted(sizes, reverse=True)


def test_a_note_for_each_of_many_models_does_not_fill_the_screen():
    found = replace(comparison(cases=8, labels=2), notes=[f"note {n}" for n in range(70)])
    lines = as_text(found).splitlines()
    assert len(lines) <= 50
    assert lines[-1] == "note: 58 more notes in report.html"
    assert "64 more notes" in Page(render(found)).text


def test_labels_are_listed_by_their_numbers(tmp_path):
    numbers = (11, 2, 10, 1)
    labels = {"background": 0} | {f"part {number}": number for number in numbers}
    folders = Folders(tmp_path, labels=labels)
    reference = np.zeros((4, 5, 24), np.uint8)
    for number in numbers:
        reference[1:3, 1:4, 2 * number - 1] = number
    folders.put_both("case", reference, reference, reference)
    assert folders.compare() == 0
    assert list(folders.result()["labels"]) == ["1", "2", "10", "11"]
    listed = list(dict.fromkeys(row["label"] for row in folders.result()["table"]))
    assert listed == ["mean", "1", "2", "10", "11"]


def test_long_names_break_at_underscores_and_folded_parts_are_not_printed():
    page = render(comparison(cases=3, models=("stock", "nnUNetTrainerTAFL_200epochs_lr0.0005")))
    assert "<bdi>nnUNetTrainerTAFL_<wbr>200epochs_<wbr>lr0.0005</bdi>" in page
    assert "anywhere" not in page
    assert "details-content" not in page


def test_long_names_keep_both_ends_in_figures():
    assert shortened("nnUNetTrainer", 13) == "nnUNetTrainer"
    short = shortened("nnUNetTrainerWasserstein_weight0.1_finetune_nospatial", 30)
    assert short == "nnUNetTrainerWa…tune_nospatial"
    assert len(short) == 30


def test_one_thing_is_not_called_many():
    (claim,) = claims(comparison(cases=1, labels=1, models=("stock", "a")))
    assert "better in 1 case," in claim.evidence or "better in 0 cases," in claim.evidence
    text = as_text(comparison(cases=1, labels=1, models=("stock", "a")))
    assert text.startswith("1 case, full connectivity, 1 label or region; compared with stock")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_the_page_have_the_contrast_that_wcag_asks_for(scheme):
    style = re.findall(r"<style>(.*?)</style>", render(comparison(cases=2)), re.DOTALL)[0]
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w+)", blocks[0]))
    if scheme == "dark":
        colours |= dict(re.findall(r"--(\w+): (#\w+)", blocks[1]))
    for text in ("ink", "soft", "link", "better", "worse"):
        for ground in ("paper", "band"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for line in ("same", "line", "c0", "c1", "c2", "c3", "c4", "c5"):
        assert contrast(colours[line], colours["paper"]) >= 3, line


def contrast(one, other):
    """Returns the contrast ratio of WCAG 2.1 of two colours such as #fff."""

    def luminance(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        channels = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


# -- pictures ----------------------------------------------------------------------------------


def test_cases_that_became_better_and_worse_are_shown_alike():
    values = {
        name: {
            f"case_{i}": {"1": {"topo_betti_matching_error": error}}
            for i, error in enumerate(errors)
        }
        for name, errors in {"stock": [5, 5, 5, 5, 5, nan], "ours": [0, 4, 5, 6, 9, 0]}.items()
    }
    changes = choose_changes(values, ["1"], ["Dice", "topo_betti_matching_error"])
    assert [(change.case, change.gain) for change in changes] == [
        ("case_0", 5),
        ("case_1", 1),
        ("case_4", -4),
        ("case_3", -1),
    ]


def test_an_outline_is_all_edges_between_a_mask_and_what_is_outside():
    mask = np.random.default_rng(0).random((9, 13)) < 0.5
    padded = np.pad(mask, 1)
    edges = sum(np.count_nonzero(np.diff(padded.astype(int), axis=axis)) for axis in (0, 1))
    path = _outline(mask)
    assert sum(int(length) for length in re.findall(r"[hv](\d+)", path)) == edges
    assert _outline(np.ones((2, 3), bool)) == "M0 0h3M0 2h3M0 0v2M3 0v2"


def test_topological_errors_are_marked_where_they_are():
    reference = np.zeros((7, 20, 30), bool)
    reference[2:5, 4:16, 3:12] = True
    prediction = reference.copy()
    prediction[3, 8:10, 20:24] = True  # an island
    prediction[3, 6, 6] = False  # a cavity
    image = np.random.default_rng(0).normal(size=reference.shape)
    row = draw_case(image, reference, {"m": prediction}, Grid((2.0, 1.5, 1.0)), "full", "case")
    page = Page(row)
    marks = [a for name, a in page.elements if a.get("class", "").startswith("mark")]
    # Cropped 4 voxels above and none to the left; rows are 1.5 times as high as columns are wide.
    assert [(m["class"], float(m["cx"]), float(m["cy"])) for m in marks] == [
        ("mark part", 21.5, 12.75),
        ("mark hole", 6.5, 9.75),
    ]
    assert "m: 1 extra component, 1 extra enclosed region" in page.text
    assert (
        "Slice 4 of 7, along the file's third axis, counted from 1 as in ITK-SNAP (3 in"
        in page.text
    )
    assert "6.0 mm from the first slice" in page.text
    pictures = [a["href"] for name, a in page.elements if name == "image"]
    assert len(pictures) == 1  # once for both panels
    assert pictures[0].startswith("data:image/png;base64,iVBOR")
    assert [a["href"] for name, a in page.elements if name == "use"] == ["#slice-0"]


def test_every_copy_of_a_slice_is_drawn_without_smoothing():
    reference = np.zeros((1, 12, 14), bool)
    reference[0, 4:8, 4:8] = True
    image = np.random.default_rng(0).random(reference.shape)
    row = draw_case(image, reference, {"m": reference}, Grid((1, 1, 1)), "full", "case")
    # Rules of the style sheet that name an ancestor do not reach the copies of <use>.
    (picture,) = [a for name, a in Page(row).elements if name == "image"]
    assert picture["image-rendering"] == "pixelated"
    outlines = [a for _, a in Page(row).elements if a.get("class", "").startswith("outline")]
    assert {outline["fill"] for outline in outlines} == {"none"}


def volume_on_disk(file, order):
    """Writes a volume whose axes grow to three sides of the patient; returns its affine."""
    axes = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.zeros((4, 4))
    affine[:, 3] = (-21.0, 33.0, -40.0, 1.0)
    for column, (letter, spacing) in enumerate(zip(order, (0.7, 1.3, 2.0), strict=True)):
        row, sign = axes[letter]
        affine[row, column] = sign * spacing
    array = np.zeros((5, 6, 7), np.uint8)
    array[2:4, 1:3, 5] = 1
    nibabel.save(nibabel.Nifti1Image(array, affine), file)
    return affine


@pytest.mark.parametrize(
    "reader", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient", "SimpleITKIOWithReorient"]
)
@pytest.mark.parametrize("order", ["RAS", "LPS", "LAS", "PSR", "IRA", "ALI"])
def test_sides_slice_and_position_are_those_of_the_file(tmp_path, reader, order):
    file = tmp_path / "case.nii.gz"
    affine = volume_on_disk(file, order)
    array, properties = recursive_find_reader_writer_by_name(reader)().read_seg(str(file))
    geometry = read_geometry(file, properties)
    turned = reader.endswith("WithReorient")
    assert "".join(geometry.letters) == ("SAR" if turned else order[::-1])
    foreground = np.argwhere(array[0])
    index = int(foreground[-1, 0])  # the last slice of the array with the structure
    grid = Grid(properties["spacing"], "mm", *astuple(geometry))
    told = describe_slice(grid, index, array.shape[1])
    # By hand: the slice of the file in which that voxel lies, and where the patient has it.
    axis = next(k for k, letter in enumerate(order) if letter in "SI") if turned else 2
    on_disk = np.argwhere(np.asarray(nibabel.load(file).dataobj))
    ends = on_disk[:, axis].max(), on_disk[:, axis].min()
    slice_on_disk = int(ends[turned and order[axis] == "I"])
    world = affine @ [*(slice_on_disk if k == axis else 0 for k in range(3)), 1]
    row = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[order[axis]]
    side = ("LR", "PA", "IS")[row][int(world[row] > 0)]
    assert f"slice {slice_on_disk + 1} of {(5, 6, 7)[axis]}, along" in told
    assert f"({slice_on_disk} in 3D Slicer" in told
    assert f"the file's {('first', 'second', 'third')[axis]} axis" in told
    assert told.endswith(f"at {side} {abs(world[row]):.1f} mm.")
    plane = {"R": "Sagittal", "A": "Coronal", "S": "Axial"}[("R", "A", "S")[row]]
    assert told.startswith(f"{plane} slice")


def test_letters_stand_at_the_edges_of_every_picture():
    reference = np.zeros((3, 20, 30), bool)
    reference[1, 5:12, 6:20] = True
    grid = Grid((2.0, 1.0, 1.0), letters=("S", "P", "L"), first_mm=5.0)
    page = Page(draw_case(None, reference, {"m": reference}, grid, "full", "case"))
    sides = [a for name, a in page.elements if name == "text"]
    assert len(sides) == 8  # four for the reference, four for the model
    # Above, below, left and right: radiologists see the patient's right on the left.
    assert page.text.startswith("APRL")
    tops, bottoms, lefts, rights = (sides[i] for i in range(4))
    assert float(tops["y"]) < float(lefts["y"]) < float(bottoms["y"])
    assert float(lefts["x"]) < float(tops["x"]) < float(rights["x"])


def test_nothing_is_said_of_sides_that_a_file_does_not_tell(tmp_path):
    file = tmp_path / "case.nii"
    volume_on_disk(file, "RAS")
    content = bytearray(file.read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    file.write_bytes(content)
    reader = recursive_find_reader_writer_by_name("SimpleITKIO")()
    assert read_geometry(file, reader.read_seg(str(file))[1]).letters == ("", "", "")
    file = tmp_path / "case.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8)), file)
    told = read_geometry(file, reader.read_seg(str(file))[1])
    assert told.letters == ("S", "P", "L")  # SimpleITK writes the space
    header, _, data = file.read_bytes().partition(b"\n\n")
    kept = [line for line in header.split(b"\n") if not line.startswith((b"space", b"kinds"))]
    file.write_bytes(b"\n".join(kept) + b"\n\n" + data)
    assert read_geometry(file, reader.read_seg(str(file))[1]).letters == ("", "", "")
    file = tmp_path / "case.gipl"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8)), file)
    assert read_geometry(file, reader.read_seg(str(file))[1]).letters == ("", "", "")
    pages = Grid((1, 1, 1), "voxels", *astuple(read_geometry(tmp_path / "a.tif", {})))
    told = (
        "Slice 3 of 9, along the file's first axis, counted from 1 as in ITK-SNAP (2 in 3D Slicer"
    )
    assert describe_slice(pages, 2, 9) == f"{told} and FSLeyes, from 0)."


def test_an_oblique_volume_says_so(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
    c, s = np.cos(0.3), np.sin(0.3)
    image.SetDirection((1, 0, 0, 0, c, -s, 0, s, c))
    sitk.WriteImage(image, tmp_path / "case.nii.gz")
    reader = recursive_find_reader_writer_by_name("SimpleITKIO")()
    _, properties = reader.read_seg(str(tmp_path / "case.nii.gz"))
    geometry = read_geometry(tmp_path / "case.nii.gz", properties)
    assert geometry.letters == ("S", "P", "L")
    assert geometry.oblique
    reference = np.ones((3, 4, 5), bool)
    grid = Grid((1, 1, 1), "mm", *astuple(geometry))
    row = Page(draw_case(None, reference, {"m": reference}, grid, "full", "case"))
    assert "The grid is oblique" in row.text


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_drawn_in_that_slice_on_whichever_axis(tmp_path, axis):
    folders = Folders(tmp_path, labels={"background": 0, "ring": 1})
    flat = np.zeros((14, 16), np.uint8)
    flat[3:9, 3:9] = 1
    island = flat.copy()
    island[11:13, 11:14] = 1
    reference, prediction = (np.expand_dims(image, axis) for image in (flat, island))
    folders.put_both("case", reference, prediction, reference)
    study = name_folders(
        folders.gt, [f"stock={folders.pred}"], folders.djfile, folders.pfile, images=None
    )
    volumes = read_volumes(study, study.models, "case.nii.gz", "1")
    np.testing.assert_array_equal(volumes.reference[0], flat)
    np.testing.assert_array_equal(volumes.predictions["stock"][0], island)
    spacing = [length for k, length in enumerate(SPACING) if k != axis]
    assert volumes.spacing == pytest.approx((SPACING[axis], *spacing))
    letters = [letter for k, letter in enumerate("SPL") if k != axis]
    assert volumes.geometry.letters == ("SPL"[axis], *letters)


def test_a_large_slice_is_drawn_coarser_and_as_wide():
    reference = np.zeros((1, 30, 1701), bool)
    reference[0, 9:20, 8:-8] = True
    image = np.random.default_rng(0).random(reference.shape)
    row = draw_case(image, reference, {"m": reference}, Grid((999, 1, 1)), "full", "wide")
    (picture,) = [a for name, a in Page(row).elements if name == "image"]
    file = io.BytesIO(base64.b64decode(picture["href"].partition(",")[2]))
    assert imread(file).shape[:2] == (9, 567)
    assert (picture["width"], picture["height"]) == ("1701", "27")


def test_pictures_of_images_and_of_empty_masks_are_drawn():
    reference = np.zeros((1, 12, 14), bool)
    prediction = reference.copy()
    prediction[0, 5, 6] = True
    grid = Grid((999, 1, 1), "pixels")
    text = Page(draw_case(None, reference, {"m": prediction}, grid, "full", "flat")).text
    assert "m: 1 extra component" in text
    assert "Slice" not in text
    empty = {"m": np.zeros_like(reference)}
    assert "no component" in Page(draw_case(None, reference, empty, grid, "full", "")).text


def test_diagrams_are_drawn_of_probabilities_that_were_saved(folders):
    reference, prediction = pair(1)
    rng = np.random.default_rng(0)
    probability = np.stack([np.zeros(reference.shape), prediction == 1, prediction == 2])
    probability = np.clip(probability * 0.8 + rng.uniform(0, 0.04, probability.shape), 0, 1)
    np.savez(folders.pred / "case_1.npz", probabilities=probability.astype(np.float16))
    study = name_folders(
        folders.gt, [f"stock={folders.pred}"], folders.djfile, folders.pfile, images=None
    )
    volumes = read_volumes(study, study.models, "case_1.nii.gz", "2")
    np.testing.assert_allclose(volumes.probabilities["stock"], probability[2], atol=1e-3)
    folders.compare()
    labels = [a.get("aria-label") or "" for _, a in Page(folders.page()).elements]
    (what,) = {label for label in labels if label.startswith("Persistence diagram")}
    # A ring and an island at 0.8 or more, one loop, and noise below 0.05 left out.
    assert what == (
        "Persistence diagram of stock in case_1.nii.gz: 2, 1, 0 bars of at least 0.05 in "
        "dimensions 0 to 2"
    )
