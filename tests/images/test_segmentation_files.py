"""Segmentations in two folders: formats, labels, encodings, names."""

import json
import re

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_topo.cli import main
from nnunet_topo.metrics import compute

from .files import BROKEN, SPACING, assert_equal, broken, image_of, tube


def test_two_folders_are_enough(folders, capsys):
    folders.put(tube(), broken())
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), BROKEN)
    assert list(folders.read()["mean"]) == ["1", "2"]
    told = capsys.readouterr().out.splitlines()
    assert told[0] == (
        "label 1: Dice 0.9333, Betti error 1, Betti matching error 1, right in 0% of cases, "
        f"clDice {BROKEN['topo_cldice']:.4f}, HD95 {BROKEN['topo_hd95_mm']:.3g} mm"
    )
    assert told[1].startswith("label 2: Dice 1.0000, Betti error 0")
    assert told[2].startswith("foreground mean: Dice 0.9667, Betti error 0.5")


def test_two_files_are_enough_and_nothing_is_written_beside_them(folders, capsys):
    folders.put(tube(), broken())
    files = folders.gt / "case.nii.gz", folders.pred / "case.nii.gz"
    assert folders.evaluate(gt=files[0], pred=files[1]) == 0
    assert "label 1: Dice 0.9333" in capsys.readouterr().out
    assert [file.name for file in folders.pred.iterdir()] == ["case.nii.gz"]
    output = folders.folder / "one.json"
    assert folders.evaluate("-o", str(output), gt=files[0], pred=files[1]) == 0
    assert json.loads(output.read_text())["mean"]["1"]["topo_betti_error"] == 1
    folders.put(tube(), tube(), "other")
    assert folders.evaluate(gt=files[0]) == 0  # of a folder that of the same case
    assert len(folders.read()["metric_per_case"]) == 1


@pytest.mark.parametrize("ending", [".nii.gz", ".NII.GZ"])
def test_an_unpacked_copy_beside_a_file_is_not_read_in_its_place(ending, folders):
    folders.put(tube(), broken(), "written")
    folders.put(None, tube(), "unpacked", ".nii")  # SimpleITK takes its voxels
    for folder in (folders.gt, folders.pred):
        (folder / "written.nii.gz").rename(folder / f"case{ending}")
    (folders.pred / "unpacked.nii").rename(folders.pred / f"case{ending[:4]}")
    folders.evaluate()
    assert_equal(folders.metrics(), BROKEN)


def test_labels_are_chosen_by_value_and_name_and_joined_in_groups(folders, capsys):
    names = folders.folder / "names.csv"
    names.write_text("label,name\n1,vessel\n2,organ\n9,spleen\n")
    folders.put(tube(), broken())
    assert folders.evaluate("-l", "1") == 0
    assert list(folders.read()["mean"]) == ["1"]
    named = ("--labels", str(names))
    assert folders.evaluate(*named, "-l", "organ", "spleen", "--group", "both=vessel,2") == 0
    content = folders.read()
    assert list(content["mean"]) == ["(1, 2)", "2", "9"]
    assert content["nnunet_topo"]["label_names"] == {"(1, 2)": "both", "2": "organ", "9": "spleen"}
    expected = compute(broken() > 0, tube() > 0, spacing_mm=SPACING)
    assert_equal(folders.metrics("(1, 2)"), expected)
    told = capsys.readouterr().out
    assert "label 2 (organ): Dice 1.0000" in told
    assert "label 9 (spleen): in no reference and no prediction\n" in told
    assert "both (labels 1, 2): Dice" in told
    assert folders.evaluate("-l", "--group", "both=1-2") == 0
    assert list(folders.read()["mean"]) == ["(1, 2)"]


def test_labels_are_listed_as_numbers(folders, capsys):
    array = np.zeros((5, 6, 30), np.uint8)
    for label in range(1, 13):
        array[2, 2:4, 2 * label] = label
    folders.put(array, array)
    names = {f"l{label}": label for label in (12, 3, 1, *range(4, 12), 2)}
    for more in ((), folders.describe({"background": 0} | names)):
        assert folders.evaluate(*more) == 0
        told = re.findall(r"^label (\d+)", capsys.readouterr().out, re.MULTILINE)
        assert told == [str(label) for label in range(1, 13)]


def test_a_mean_that_leaves_cases_out_says_how_many(folders, capsys):
    folders.put(tube(), broken())
    for name in ("missed", "missed_too"):
        folders.put(tube(), np.where(tube() == 1, 1, 0).astype(np.uint8), name)
    assert folders.evaluate() == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("label 2: Dice 0.3333")
    assert told[1].endswith("HD95 0 mm (2 cases undefined)")


def test_a_label_that_no_prediction_and_no_reference_has_is_in_one_line(folders, capsys):
    folders.put(tube(), broken())
    assert folders.evaluate(*folders.describe({"background": 0, "a": 1, "b": 2, "c": 7})) == 0
    told = capsys.readouterr().out
    assert "label 7 (c): in no reference and no prediction\n" in told
    assert "nan" not in told
    # Nothing was right or wrong in it: the mean is that of the two others.
    assert "foreground mean: Dice 0.9667, Betti error 0.5, " in told


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".seg.nrrd", ".mha", ".NII.GZ"])
def test_predictions_in_another_format_are_paired_by_the_name_of_the_case(folders, ending):
    folders.put(tube())
    written = ending.lower() if ending.isupper() else ending
    folders.put(None, broken(), ending=written)
    (folders.pred / f"case{written}").rename(folders.pred / f"case{ending}")
    (folders.pred / "preview.png").write_bytes(b"no prediction")
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), BROKEN)
    assert folders.evaluate(*folders.describe({"background": 0, "a": 1, "b": 2})) == 0


def test_with_only_dataset_json_the_ending_decides_the_reader(folders):
    folders.put(tube(), broken())
    described = folders.describe({"background": 0, "a": 1, "b": 2})
    assert folders.evaluate(*described) == 0
    before = folders.read()
    folders.summary.unlink()
    assert folders.evaluate(*described, *folders.plans()) == 0
    assert folders.read() == before


def test_plans_that_do_not_fit_are_named_with_the_reason(folders, capsys):
    folders.put(tube(), broken())
    described = folders.describe({"background": 0, "a": 1})
    plans = folders.plans("NaturalImage2DIO")
    assert folders.evaluate(*described, *plans) == 2
    assert (
        "plans.json names the reader NaturalImage2DIO for .png, .bmp, .tif, but the file_ending in "
    ) in capsys.readouterr().err
    assert folders.evaluate("-djfile", plans[1], "-pfile", described[1]) == 2
    assert "it has no labels and no file_ending; it looks like a plans" in capsys.readouterr().err
    assert folders.evaluate(*plans) == 2
    assert "the plans do not contain the labels" in capsys.readouterr().err


def test_another_choice_of_labels_replaces_our_summary_and_never_nnunets(folders, capsys):
    folders.put(tube(), broken())
    assert folders.evaluate("-l", "1") == folders.evaluate("-l", "2") == 0
    assert list(folders.read()["mean"]) == ["2"]
    content = folders.read()
    del content["nnunet_topo"]  # as nnU-Net writes it
    folders.summary.write_text(json.dumps(content))
    assert folders.evaluate("-l", "1") == 2
    assert "was written by nnU-Net for the labels 2; -o names another" in capsys.readouterr().err
    assert folders.read() == content


def test_compare_takes_folders_of_other_formats_and_labels_without_a_dataset_json(folders):
    other, out = folders.folder / "other", folders.folder / "out"
    other.mkdir()
    (folders.folder / "names.csv").write_text("label,name\n1,vessel\n2,organ\n")
    for case in "ab":
        folders.put(tube(), broken(), case)
        sitk.WriteImage(image_of(tube()), other / f"{case}.nrrd")
    models = [f"broken={folders.pred}", f"whole={other}"]
    labels = ["--labels", str(folders.folder / "names.csv"), "--group", "both=1-2", "--control"]
    asked = ["compare", "--gt", str(folders.gt), "--pred", *models, *labels, "-o", str(out)]
    assert main([*asked, "-np", "1"]) == 0
    content = json.loads((out / "compare.json").read_text())
    assert content["labels"] == {"1": "vessel", "2": "organ", "(1, 2)": "both"}
    assert list(content["cases"]) == [
        *("broken", "broken, largest components", "whole"),
        *("broken, post-processed", "whole, post-processed"),
    ]
    for model, dice in (("broken", BROKEN["Dice"]), ("whole", 1)):
        assert list(content["cases"][model]) == ["a.nii.gz", "b.nii.gz"]
        assert content["cases"][model]["a.nii.gz"]["1"]["Dice"] == pytest.approx(dice)


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "b": 2, "a": 1},
        {"a": 1, "b": 2},
        {"bg": 0, "a": "1", "b": "2"},
        {"0": "background", "1": "a", "2": "b"},
        {"background": 0, "a": 1.0, "b": [2]},
    ],
)
def test_labels_are_evaluated_however_a_dataset_json_writes_them(folders, labels):
    folders.put(tube(), broken())
    assert folders.evaluate(*folders.describe(labels), *folders.plans()) == 0
    assert list(folders.read()["mean"]) == ["1", "2"]
    assert folders.read()["nnunet_topo"]["label_names"] == {"1": "a", "2": "b"}
    assert_equal(folders.metrics(), BROKEN)


def test_gaps_and_regions_give_the_right_numbers(folders):
    reference, prediction = tube(), broken()
    reference[reference == 2] = prediction[prediction == 2] = 11
    folders.put(reference, prediction)
    assert folders.evaluate(*folders.describe({"background": 0, "far": 11, "a": 1})) == 0
    assert list(folders.read()["mean"]) == ["1", "11"]
    regions = {"background": 0, "all": ["1", 11], "inner": [11]}
    assert folders.evaluate(*folders.describe(regions)) == 0
    assert folders.read()["nnunet_topo"]["label_names"] == {"(1, 11)": "all", "(11,)": "inner"}
    expected = compute(prediction > 0, reference > 0, spacing_mm=SPACING)
    assert_equal(folders.metrics("(1, 11)"), expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0}, "labels has no label besides the background"),
        ({}, "labels has no label besides the background"),
        ({"background": 0, "ignore": 1}, "labels has no label besides the background"),
        ({"background": 0, "a": "x"}, "labels > a must be a whole number, got 'x'"),
        (["background", "a"], "labels must be names with values, got list"),
        ({"background": 0, "a": 2, "ignore": 1}, "the ignore label it must have the highest"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_in_a_sentence(folders, labels, message, capsys):
    folders.put(tube(), broken())
    assert folders.evaluate(*folders.describe(labels), *folders.plans()) == 2
    assert message in capsys.readouterr().err


def test_no_reader_in_dataset_json_is_one_by_the_ending(folders):
    folders.put(tube(), broken())
    labels = {"background": 0, "a": 1, "b": 2}
    assert folders.evaluate(*folders.describe(labels, overwrite_image_reader_writer=None)) == 0
    assert_equal(folders.metrics(), BROKEN)


def test_a_wrong_ending_in_dataset_json_is_told(folders, capsys):
    folders.put(tube(), broken())
    described = folders.describe({"background": 0, "a": 1, "b": 2}, file_ending=None)
    assert folders.evaluate(*described) == 2
    assert f"{described[1]}: file_ending must be text such as .nii.gz" in capsys.readouterr().err
