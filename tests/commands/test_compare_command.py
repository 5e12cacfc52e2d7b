import csv
import io
import json

import numpy as np
import pytest
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

from nnunet_topo.cli import main
from nnunet_topo.evaluation import case as evaluation
from nnunet_topo.evaluation.evaluate import evaluate_folder
from nnunet_topo.images.geometry import find_unit
from nnunet_topo.metrics import compare_label_maps, compute

from ..evaluation.study import SPACING, pair
from ..report.pages import Page
from .compared import Folders


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


def test_errors_in_windows_can_be_compared(folders):
    windows = ("--windows", "9", "20", "--primary", "topo_betti_error_windows")
    assert folders.compare(*windows) == 0
    rows = [row for row in folders.result()["table"] if row["family"] == "primary"]
    assert {row["metric"] for row in rows} == {"topo_betti_error_windows"}
    assert "20 of 9 voxels a side" in Page(folders.page()).text


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


def test_a_case_that_cannot_be_read_is_a_problem_of_its_model(folders, capsys):
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
    assert "ours: not tested against stock, because fewer than two cases" in printed
    assert "1 case, full connectivity" in printed
    assert "note: there is only one case: nothing can be tested" in printed


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
    reader = recursive_find_reader_writer_by_name("Tiff3DIO")()
    assert find_unit(["voxels"], reader, []) == "voxels"
    with pytest.raises(ValueError, match="distances are in mm and in voxels"):
        find_unit(["voxels", "mm"], reader, [])
    assert find_unit([None], reader, [tmp_path]) == "voxels"
    (tmp_path / "case.tif").touch()
    (tmp_path / "case.json").touch()
    assert find_unit([None], reader, [tmp_path]) == "mm"
    nifti = recursive_find_reader_writer_by_name("SimpleITKIO")()
    assert find_unit([None], nifti, [tmp_path]) == "mm"


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
        (["--pred", "a=.", "a=."], "each model needs a different name"),
        (["--pred", "a=nowhere", "b=."], "nowhere is not a folder"),
        (["-f", "0", "7", "-p", "Nix"], "wanted -d, -c and -tr for -f, -p, got --gt and --pred"),
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


def test_one_model_is_not_compared(folders, capsys):
    one = ["compare", "--gt", str(folders.gt), "--pred", f"a={folders.pred}"]
    assert main([*one, "-o", str(folders.out)]) == 2
    assert "wanted two models to compare, or one and --control" in capsys.readouterr().err
    assert not folders.out.exists()


def test_an_option_that_is_given_twice_counts_twice(folders):
    both = ["--pred", f"a={folders.pred}", "--pred", f"b={folders.other}", "-l", "1", "-l", "2"]
    assert main(["compare", "--gt", str(folders.gt), *both, "-o", str(folders.out)]) == 0
    cases = folders.result()["cases"]
    assert list(cases)[:2] == ["a", "b"]
    assert list(cases["a"]["case_0.nii.gz"]) == ["1", "2"]


def test_an_interrupted_comparison_resumes(folders, monkeypatch, capsys):
    compared = []

    def interrupt(*label_maps, **options):
        compared.append(label_maps)
        if len(compared) == 2:
            raise KeyboardInterrupt
        return compare_label_maps(*label_maps, **options)

    monkeypatch.setattr(evaluation, "compare_label_maps", interrupt)
    assert folders.compare() == 130
    assert "interrupted; run the same command again to resume" in capsys.readouterr().err
    assert folders.compare() == 0
    assert len(compared) == 2 + (3 + 3 - 1)


def test_connectivity_is_used_and_printed(folders, capsys):
    assert folders.compare("--connectivity", "face") == 0
    assert "3 cases, face connectivity" in capsys.readouterr().out
    assert "6-connected in volumes" in Page(folders.page()).text


def test_the_connectivity_is_that_of_metrics_that_were_computed_before(folders, capsys):
    folders.evaluate(settings=evaluation.Settings("face"))
    assert folders.compare() == 0
    assert folders.result()["connectivity"] == "face"
    files = folders.djfile, folders.pfile
    evaluate_folder(folders.gt, folders.other, *files)
    assert folders.compare() == 2
    assert "have both connectivities: give --connectivity" in capsys.readouterr().err
    assert folders.compare("--connectivity", "full") == 0


def test_a_summary_of_other_labels_is_not_taken_over(folders):
    folders.evaluate()
    description = json.loads(folders.djfile.read_text())
    description["labels"] = {"background": 0, "ring": 1, "blob": 2, "third": 3}
    folders.djfile.write_text(json.dumps(description))
    assert folders.compare() == 0
    assert list(folders.result()["labels"]) == ["1", "2", "3"]
    assert folders.result()["cases"]["stock"]["case_0.nii.gz"]["3"]["Dice"] is None


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
