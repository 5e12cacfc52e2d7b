"""Every model is compared after its own post-processing, and stands in the report without it."""

import csv
import io
import json

import numpy as np
import pytest

from ..evaluation.study import pair
from ..postprocessing.folders import prediction, read, reference
from ..report.pages import Page
from .compared import files_below

ERROR = "topo_betti_matching_error"
CASES = 8


@pytest.fixture
def islands(folders):
    """Returns folders in which the second model is better by nothing but missing islands."""
    for folder in (folders.gt, folders.pred, folders.other):
        for file in folder.glob("*.nii.gz"):
            file.unlink()
    for case in range(CASES):
        folders.put_both(f"case_{case}", reference(case), prediction(case), reference(case))
    return folders


def values(result, model, metric=ERROR):
    return [of_case["1"][metric] for of_case in result["cases"][model].values()]


def test_what_a_step_repairs_is_no_merit_of_a_model(islands, capsys):
    assert islands.compare("--no-postprocess", "--primary", ERROR) == 0
    assert "ours: better than stock" in capsys.readouterr().out
    assert islands.compare(postprocess=True) == 0
    printed = capsys.readouterr().out
    assert "ours, post-processed: no difference to stock, post-processed shown" in printed
    assert "without it, ours: better than stock" in printed
    assert "remove components below 18 mm3" in printed
    result = islands.result()
    assert list(result["cases"]) == [
        *("stock", "ours", "stock, post-processed", "ours, post-processed")
    ]
    assert values(result, "stock") == [2] * CASES
    assert values(result, "stock, post-processed") == [0] * CASES
    assert result["postprocessing"]["ours, post-processed"] == "nothing helps"


def test_the_report_has_every_model_with_and_without_its_steps(islands):
    assert islands.compare(postprocess=True) == 0
    page = Page(islands.page())
    page.assert_harmless()
    assert "The answer without post-processing" in page.text
    assert "label 1 (ring): remove components below 18 mm3" in page.text
    lines = list(csv.DictReader(io.StringIO((islands.out / "compare.csv").read_text())))
    primary = [line for line in lines if line["family"] == "primary"]
    means = {line["model"]: float(line["mean"]) for line in primary}
    assert means == {
        "stock, post-processed": 0,
        "ours, post-processed": 0,
        "stock": 1.5,
        "ours": 0,
    }
    assert [row["model"] for row in islands.result()["table_as_predicted"][:2]] == ["stock", "ours"]


def test_no_case_is_compared_after_steps_that_were_chosen_on_it(islands):
    larger = prediction(7)
    larger[8, 18:23, 0:3] = 1  # an island that the steps from other cases leave
    islands.put_both("case_7", reference(7), larger, reference(7))
    assert islands.compare(postprocess=True) == 0
    found = islands.out / "postprocessing" / "0_stock"
    content = json.loads((found / "postprocessing.json").read_text())
    record = json.loads((found / "predictions" / "postprocessed.json").read_text())
    (outcome, _) = content["labels"]
    assert outcome["steps"] != outcome["nested_steps"]["part 3"]
    for part, cases in content["groups"].items():
        for case in cases:
            used = record["steps_of_cases"][case].get("1", {})
            assert used == outcome["nested_steps"][part]
    result = islands.result()
    assert values(result, "stock, post-processed") == [0] * 7 + [1]
    for case, of_labels in content["cases"].items():
        of_case = result["cases"]["stock, post-processed"][case]["1"]
        assert of_case[ERROR] == of_labels["1"]["nested"][ERROR]
        assert of_case["Dice"] == pytest.approx(of_labels["1"]["nested"]["Dice"])


def test_a_second_comparison_only_does_what_has_changed(islands, monkeypatch):
    assert islands.compare(postprocess=True) == 0
    before = files_below(islands.out / "postprocessing")

    def refuse(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr("nnunet_topo.postprocessing.cases.score_candidates", refuse)
    assert islands.compare(postprocess=True) == 0
    assert files_below(islands.out / "postprocessing") == before


def test_a_case_that_is_gone_is_not_compared_any_more(islands):
    assert islands.compare(postprocess=True) == 0
    for folder in (islands.pred, islands.other):
        (folder / "case_3.nii.gz").unlink()
    assert islands.compare(postprocess=True) == 0
    assert "case_3.nii.gz" not in islands.result()["cases"]["stock, post-processed"]
    written = islands.out / "postprocessing" / "0_stock" / "predictions"
    assert len(list(written.glob("*.nii.gz"))) == CASES - 1


def test_where_steps_cannot_be_chosen_no_model_has_any(islands, capsys):
    for case in range(1, CASES):
        for folder in (islands.pred, islands.other):
            (folder / f"case_{case}.nii.gz").unlink()
    islands.compare(postprocess=True)
    printed = capsys.readouterr().out
    assert "no model is post-processed, because stock cannot be" in printed
    assert list(islands.result()["cases"]) == ["stock", "ours"]


def test_the_control_is_one_of_the_steps(islands):
    assert islands.compare("--control", "largest-component", postprocess=True) == 0
    result = islands.result()
    assert list(result["presence"]) == [
        *("stock", "stock, largest components", "ours"),
        *("stock, post-processed", "ours, post-processed"),
    ]
    control = islands.out / "control" / "predictions" / "case_0.nii.gz"
    np.testing.assert_array_equal(read(control) == 1, reference(0) == 1)
    models = [row["model"] for row in result["table"][:3]]
    assert models == [
        *("stock, post-processed", "stock, largest components", "ours, post-processed")
    ]


def test_a_broken_prediction_is_reported_and_the_others_are_compared(islands, capsys):
    (islands.pred / "case_2.nii.gz").write_bytes(b"not an image")
    assert islands.compare(postprocess=True) == 1
    assert "case_2.nii.gz" in capsys.readouterr().err
    assert len(islands.result()["cases"]["stock, post-processed"]) == CASES - 1


def test_the_folds_of_trainers_are_post_processed_fold_by_fold(results):
    for trainer in ("nnUNetTrainer", "nnUNetTrainerTAFL_5epochs"):
        for fold in (0, 1):
            results.study.pred = results.fold(trainer, fold) / "validation"
            for case in (2 * fold, 2 * fold + 1):
                results.study.put(f"case_{case}", *pair(case))
    before = files_below(results.folder / "results")
    assert results.compare("--postprocess") == 0
    found = results.out / "postprocessing" / "0_nnUNetTrainer"
    content = json.loads((found / "postprocessing.json").read_text())
    assert list(content["groups"]) == ["0", "1"]
    assert (found / "fold_1" / "case_3.nii.gz").is_file()
    assert files_below(results.folder / "results") == before


def test_a_fold_that_cannot_be_read_does_not_cost_the_others(results, capsys):
    for trainer in ("nnUNetTrainer", "nnUNetTrainerTAFL_5epochs"):
        for fold in (0, 1):
            results.study.pred = results.fold(trainer, fold) / "validation"
            for case in (2 * fold, 2 * fold + 1):
                results.study.put(f"case_{case}", *pair(case))
    for file in results.fold("nnUNetTrainer", 0).glob("validation/*.nii.gz"):
        file.write_bytes(b"not an image")
    assert results.compare("--postprocess", "--control") == 1
    printed = capsys.readouterr().err
    assert "case_0.nii.gz" in printed
    assert "case_1.nii.gz" in printed
    compared = json.loads((results.out / "compare.json").read_text())["cases"]
    assert "nnUNetTrainer, post-processed" in compared
    assert all(list(cases) == ["case_2.nii.gz", "case_3.nii.gz"] for cases in compared.values())


@pytest.mark.parametrize(
    ("primary", "by"), [("none", ERROR), ("Dice", ERROR), ("topo_betti_error", "topo_betti_error")]
)
def test_steps_are_chosen_by_the_primary_outcome_where_that_is_possible(
    islands, primary, by, capsys
):
    assert islands.compare("--primary", primary, postprocess=True) == 0
    found = islands.out / "postprocessing" / "0_stock" / "postprocessing.json"
    assert json.loads(found.read_text())["metric"] == by
    assert "stock: " in capsys.readouterr().out
    assert "Post-processing" in Page(islands.page()).text
