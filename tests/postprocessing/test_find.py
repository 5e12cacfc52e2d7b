"""`nnunet-topo postprocess find` on a cross-validation in nnU-Net's folders."""

import json

import numpy as np
import pytest
from nnunetv2.postprocessing import remove_connected_components

from nnunet_topo.cli import main
from nnunet_topo.commands.comparison_steps import process_models
from nnunet_topo.evaluation.case import Settings
from nnunet_topo.evaluation.results import find_trainings
from nnunet_topo.metrics import compute
from nnunet_topo.postprocessing import find as finding
from nnunet_topo.postprocessing.candidates import score_candidates
from nnunet_topo.postprocessing.choice import MOST_GROUPS
from nnunet_topo.postprocessing.masks import fill_holes
from nnunet_topo.postprocessing.record import nnunet_equivalent
from nnunet_topo.postprocessing.scores import METRICS
from nnunet_topo.postprocessing.steps import Grid, Steps
from nnunet_topo.postprocessing.targets import find_targets

from .folders import DATASET, SPACING, Validation, prediction, reference

ERROR = "topo_betti_matching_error"


def figures(entry):
    return [entry[stage][ERROR] for stage in ("before", "nested", "after")]


def test_islands_and_cavities_are_repaired_and_the_figures_are_nested(validation, capsys):
    assert validation.find() == 0
    result = validation.result()
    ring, blob = result["labels"]
    assert ring["steps"] == {"remove_below": 10.0}
    assert blob["steps"] == {"fill_holes": 10.0}
    assert (figures(ring), figures(blob)) == ([2, 0, 0], [1, 0, 0])
    assert ring["before"]["Dice"] < ring["after"]["Dice"] == 1
    assert (ring["nnunet_equivalent"], ring["name"]) == (None, "ring")
    assert list(result["groups"]) == ["0", "1"]
    assert result["cases"]["case_0.nii.gz"]["1"]["before"][ERROR] == 2
    printed = capsys.readouterr().out
    assert "label 1 (ring): remove components below 10 mm3" in printed
    assert "Betti matching error 2 -> 0" in printed


def test_a_figure_does_not_come_from_steps_that_were_chosen_on_its_case(nothing):
    """Islands of one fold are small, those of the other are too large for steps from the first."""
    for case in range(6):
        of_prediction = reference(case)
        of_prediction[8, 18:23, 0 : 1 + 2 * (case % 2)] = 1  # 5 or 15 mm3
        of_prediction[0, 18:23, 21 : 22 + 2 * (case % 2)] = 1
        of_prediction[8, 0:5, 22 : 23 + 2 * (case % 2)] = 1
        of_prediction[0, 0:5, 0 : 1 + 2 * (case % 2)] = 1
        nothing.put(case, reference(case), of_prediction)
    assert nothing.find() == 0
    ring = nothing.result()["labels"][0]
    assert ring["nested_steps"] == {"0": {"remove_below": 20.0}, "1": {"remove_below": 10.0}}
    assert ring["steps"] == {"remove_below": 20.0}
    assert figures(ring) == [4, 2, 0]


@pytest.mark.parametrize("metric", sorted(set(METRICS) - {"topo_betti_error_2"}))
def test_figures_are_those_of_whole_cases(nothing, metric):
    """Islands in a corner make the box of the structures larger than that of the repaired ones."""
    spacing = list(SPACING)
    pairs = {f"case_{case}.nii.gz": (reference(case), prediction(case)) for case in range(4)}
    for case, pair in enumerate(pairs.values()):
        nothing.put(case, *pair)
    assert nothing.find("--metric", metric) == 0
    for name, (wanted, found) in pairs.items():
        of_case = nothing.result()["cases"][name]
        whole = compute(found == 2, wanted == 2, spacing_mm=spacing)[metric]
        assert of_case["2"]["before"][metric] == pytest.approx(whole, rel=1e-12)
        steps = nothing.result()["labels"][1]["steps"]
        repaired = fill_holes(found == 2, found == 0, 10, 1, "full") if steps else found == 2
        whole = compute(repaired, wanted == 2, spacing_mm=spacing)[metric]
        assert of_case["2"]["after"][metric] == pytest.approx(whole, rel=1e-12)


def test_steps_that_help_only_where_they_were_chosen_are_not_taken(nothing):
    for case in range(6):
        right = reference(case)
        nothing.put(case, right, right if case % 2 else prediction(case))
    assert nothing.find() == 0
    ring, blob = nothing.result()["labels"]
    assert ring["nested_steps"] == {"0": {}, "1": {"remove_below": 10.0}}
    assert figures(ring) == [1, 1, 1]
    assert ring["steps"] == blob["steps"] == {}


def test_nothing_helps_is_said_in_words(nothing, capsys):
    for case in range(4):
        nothing.put(case, reference(case), reference(case))
    assert nothing.find() == 0
    printed = capsys.readouterr().out
    assert "label 1 (ring): nothing helps (Betti matching error 0)" in printed
    assert "nothing helps: the predictions are best left as they are" in printed
    assert [entry["steps"] for entry in nothing.result()["labels"]] == [{}, {}]


def test_predictions_without_any_overlap_are_told(nothing, capsys):
    for case in range(4):
        blob = reference(case)
        blob[blob == 1] = 0
        nothing.put(case, reference(case), blob)
    assert nothing.find() == 0
    printed = capsys.readouterr().out
    because = "because no prediction overlaps with its reference"
    assert f"label 1 (ring): nothing helps, {because}" in printed
    assert printed.count(because) == 1


def test_the_dice_loss_limits_the_steps(nothing):
    for case in range(4):
        of_reference, of_prediction = reference(case), reference(case)
        of_reference[8, 22] = 1  # a bar, of which the prediction has three ends too far apart
        of_prediction[8, 22, [0, 1, 2, 11, 12, 13, 23, 24, 25]] = 1
        nothing.put(case, of_reference, of_prediction)
    assert nothing.find("--max-dice-loss", "0") == 0
    assert nothing.result()["labels"][0]["steps"] == {}
    assert nothing.find("--max-dice-loss", "0.2") == 0
    free = nothing.result()
    before, _, after = figures(free["labels"][0])
    assert after < before
    assert free["labels"][0]["steps"]
    assert nothing.find("--max-dice-loss", "7") == 2


def test_nnunets_own_function_is_named_where_it_does_the_same():
    (label,) = find_targets((1,), None)
    whole, core = find_targets(((1, 2), (2,)), (1, 2))
    largest = Steps(keep_largest=1)
    for target in (label, whole):
        equivalent = nnunet_equivalent(target, largest, "full")
        assert equivalent is not None
        assert equivalent["pp_fn_kwargs"] == {"labels_or_regions": target.label}
        assert equivalent["pp_fn"] in dir(remove_connected_components)
    assert nnunet_equivalent(core, largest, "full") is None  # nnU-Net would make it background
    assert nnunet_equivalent(label, largest, "face") is None
    assert nnunet_equivalent(label, Steps(keep_largest=2), "full") is None
    assert nnunet_equivalent(label, Steps(fill_holes=1, keep_largest=1), "full") is None


def test_a_single_fold_is_divided_into_parts(validation):
    assert validation.find(folds="0") == 0
    groups = validation.result()["groups"]
    assert list(groups) == ["part 1", "part 2", "part 3"]
    assert len(groups) <= MOST_GROUPS
    assert [name for names in groups.values() for name in names] == [
        "case_0.nii.gz",
        "case_2.nii.gz",
        "case_4.nii.gz",
    ]


def test_no_case_of_a_patient_helps_to_choose_its_own_steps(validation):
    study = find_trainings(DATASET, "3d_fullres", "nnUNetPlans", ["nnUNetTrainer"], ["0"])
    process_models(
        study,
        lambda _: validation.out,
        metric=ERROR,
        settings=Settings(),
        processes=1,
        patient=lambda name: "a" if name in ("case_0.nii.gz", "case_4.nii.gz") else "b",
    )
    groups = validation.result()["groups"]
    assert groups == {"part 1": ["case_0.nii.gz", "case_4.nii.gz"], "part 2": ["case_2.nii.gz"]}


def test_a_search_keeps_the_cases_of_a_patient_together(validation, tmp_path, capsys):
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\ncase_0,a\ncase_2,b\ncase_4,a\n")
    assert validation.find("--patients", str(table), folds="0") == 0
    groups = validation.result()["groups"]
    assert groups == {"part 1": ["case_0.nii.gz", "case_4.nii.gz"], "part 2": ["case_2.nii.gz"]}
    assert "note: " not in capsys.readouterr().out


def test_a_search_says_which_patients_are_in_several_folds(validation, capsys):
    assert validation.find("--patients", "case") == 0
    assert "note: 1 of 1 patient have cases in the validation" in capsys.readouterr().out
    assert list(validation.result()["groups"]) == ["0", "1"]


def test_a_wrong_pattern_is_named_before_anything_is_measured(validation, capsys):
    assert validation.find("--patients", "frame[0-9]") == 2
    assert "--patients: wanted a regular expression that matches" in capsys.readouterr().err
    assert not validation.out.exists()


def test_an_interrupted_search_measures_no_case_twice(validation, monkeypatch):
    measured = []

    def measure(*arguments, **more):
        measured.append(1)
        if len(measured) == 6:
            raise KeyboardInterrupt
        return score_candidates(*arguments, **more)

    monkeypatch.setattr("nnunet_topo.postprocessing.cases.score_candidates", measure)
    assert validation.find() == 130
    assert not (validation.out / "postprocessing.json").exists()
    assert validation.find() == 0
    # Two labels of six cases; the third case was interrupted in its second label.
    assert len(measured) == 6 + 8
    assert validation.find() == 0
    assert len(measured) == 14


def test_scores_of_another_training_are_not_taken_over(validation):
    assert validation.find() == 0
    before = validation.result()
    for case in range(6):
        validation.put(case, reference(case), reference(case))
    assert validation.find() == 0
    after = validation.result()
    assert figures(after["labels"][0]) == [0, 0, 0]
    assert before["trainings"] != after["trainings"]
    assert before["trainings"].keys() == after["trainings"].keys()


def test_scores_in_another_order_of_the_candidates_are_not_taken_over(validation, monkeypatch):
    assert validation.find() == 0
    before = validation.result()["labels"]
    sizes_first = Grid.of_components

    def reverse(grid):
        first, *others = sizes_first(grid)
        return [first, *others[::-1]]

    monkeypatch.setattr(Grid, "of_components", reverse)
    assert validation.find() == 0
    for entry, earlier in zip(validation.result()["labels"], before, strict=True):
        assert figures(entry) == figures(earlier)


def test_a_case_that_cannot_be_read_does_not_cost_the_others(validation, capsys):
    (validation.validation(3) / "case_3.nii.gz").write_bytes(b"not an image")
    assert validation.find() == 1
    result = validation.result()
    assert "case_3.nii.gz" not in result["cases"]
    assert len(result["cases"]) == 5
    assert result["labels"][0]["steps"] == {"remove_below": 10.0}
    assert "case_3.nii.gz: left out, the prediction" in capsys.readouterr().err


def test_folds_may_be_given_one_by_one(validation):
    assert validation.find("-f", "1", folds="0") == 0
    assert list(validation.result()["groups"]) == ["0", "1"]


def test_a_fold_that_cannot_be_read_is_not_counted_as_one(validation, capsys):
    for file in validation.validation(1).glob("*.nii.gz"):
        file.write_bytes(b"not an image")
    assert validation.find() == 1
    printed = capsys.readouterr()
    assert "steps that were chosen on other cases\n" in printed.out
    assert "case_1.nii.gz: left out, the prediction" in printed.err
    assert list(validation.result()["trainings"]) == [str(validation.validation(0))]


def test_a_prediction_of_another_shape_and_one_without_reference_are_named(validation, capsys):
    validation.put(1, None, prediction(1)[:5])
    validation.put(9, None, prediction(1))
    assert validation.find() == 1
    printed = capsys.readouterr().err
    assert "case_1.nii.gz: left out, the reference has shape" in printed
    assert "case_9.nii.gz: no reference in" in printed


def test_probabilities_allow_a_lower_threshold(nothing):
    for case in range(4):
        of_prediction = reference(case)
        gap = np.zeros(of_prediction.shape, bool)
        gap[:, :12, 8:12] = True
        of_prediction[gap & (of_prediction == 1)] = 0
        nothing.put(case, reference(case), of_prediction)
        probabilities = np.zeros((3, *of_prediction.shape), np.float32)
        probabilities[1] = np.where(reference(case) == 1, 0.45, 0)
        probabilities[1][of_prediction == 1] = 0.9
        probabilities[2] = of_prediction == 2
        probabilities[0] = 1 - probabilities[1:].sum(0)
        np.savez(nothing.validation(case) / f"case_{case}.npz", probabilities=probabilities)
    assert nothing.find() == 0
    result = nothing.result()
    assert result["grid"]["thresholds"] == [0.4, 0.3, 0.2]
    assert result["labels"][0]["steps"] == {"threshold": 0.4}
    assert nothing.apply(nothing.validation(0)) == 0
    (nothing.validation(0) / "case_0.npz").unlink()
    assert nothing.find() == 0  # without all probabilities there is no threshold
    assert nothing.result()["grid"]["thresholds"] == []


def test_ignored_voxels_do_not_count(tmp_path, monkeypatch):
    labels = {"background": 0, "ring": 1, "blob": 2, "ignore": 3}
    validation = Validation(tmp_path, monkeypatch, labels=labels)
    for case in range(4):
        of_reference = reference(case)
        of_reference[0] = of_reference[8] = 3
        validation.put(case, of_reference, prediction(case))
    assert validation.find() == 0
    ring = validation.result()["labels"][0]
    assert figures(ring) == [0, 0, 0]
    assert ring["steps"] == {}


def test_regions_are_searched_and_written_in_nnunets_order(tmp_path, monkeypatch):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    validation = Validation(tmp_path, monkeypatch, labels=labels)
    for case in range(4):
        validation.put(case, reference(case), prediction(case))
    assert validation.find() == 0
    result = validation.result()
    assert result["regions_class_order"] == [1, 2]
    assert [entry["label"] for entry in result["labels"]] == [[1, 2], [2]]
    assert "fill_holes" in result["labels"][1]["steps"]
    assert [figures(entry)[2] for entry in result["labels"]] == [0, 0]


def test_images_are_measured_in_pixels(tmp_path, monkeypatch):
    from skimage.io import imsave

    validation = Validation(tmp_path, monkeypatch, reader="NaturalImage2DIO", ending=".png")
    for case in range(4):
        of_reference = np.zeros((40, 50), np.uint8)
        of_reference[5:20, 5:40] = 1
        of_prediction = of_reference.copy()
        of_prediction[30:32, 10:14] = 1
        folders = validation.study.gt, validation.validation(case)
        for folder, image in zip(folders, (of_reference, of_prediction), strict=True):
            imsave(folder / f"case_{case}.png", image, check_contrast=False)
    assert validation.find() == 0
    result = validation.result()
    assert (result["dimensions"], result["unit_of_sizes"]) == (2, "pixels")
    assert result["labels"][0]["steps"] == {"keep_largest": 1}
    assert result["labels"][0]["nnunet_equivalent"]
    assert validation.apply(validation.validation(0)) == 0
    assert (validation.applied / "case_0.png").is_file()


def test_files_of_others_are_not_replaced(validation, capsys):
    validation.out.mkdir()
    (validation.out / "postprocessing.json").write_text('{"mine": 1}')
    assert validation.find() == 2
    assert "was not written by nnunet-topo postprocess find" in capsys.readouterr().err
    assert (validation.out / "postprocessing.json").read_text() == '{"mine": 1}'
    (validation.out / "postprocessing.json").unlink()
    (validation.out / "candidates.jsonl").write_text("my list\n")
    assert validation.find() == 2
    assert (validation.out / "candidates.jsonl").read_text() == "my list\n"


def test_edited_steps_are_not_replaced(validation, monkeypatch, capsys):
    assert validation.find() == 0
    assert validation.find() == 0  # what was not edited is
    file = validation.out / "postprocessing.json"
    content = validation.result()
    content["labels"][0]["steps"] = {"remove_below": 50.0}
    edited = json.dumps(content)
    whole = file.read_text()
    file.write_text(edited)
    told = "postprocessing.json was edited since nnunet-topo postprocess find wrote it and is left"
    assert validation.find() == 2
    assert told in capsys.readouterr().err
    assert file.read_text() == edited
    assert validation.apply(validation.validation(0)) == 0
    file.write_text(whole)
    choose = finding.choose

    def edited_meanwhile(*arguments):
        file.write_text(edited)
        return choose(*arguments)

    monkeypatch.setattr(finding, "choose", edited_meanwhile)
    assert validation.find() == 2
    assert file.read_text() == edited


def test_nnunets_folders_stay_as_they_are(validation):
    before = {f: f.read_bytes() for f in validation.model.rglob("*") if f.is_file()}
    assert validation.find() == 0
    assert {f: f.read_bytes() for f in validation.model.rglob("*") if f.is_file()} == before


@pytest.mark.parametrize(
    ("more", "folds", "message"),
    [
        ((), "013", "nnUNetTrainer has no finished validation of fold 3; it has fold 0, 1"),
        (("-tr", "nnUNetTrainerNone"), "01", "no results of nnUNetTrainerNone"),
        (("-d", "905"), "01", "905"),
        (("--metric", "Dise"), "01", "--metric takes topo_betti_matching_error"),
        (("-c", "2d"), "01", "no results of nnUNetTrainer (nnUNetPlans, 2d)"),
    ],
)
def test_wrong_arguments_are_named(validation, more, folds, message, capsys):
    assert validation.find(*more, folds=folds) == 2
    assert message in capsys.readouterr().err


def test_a_training_on_all_cases_is_refused(validation, capsys):
    asked = ["postprocess", "find", "-d", "904", "-c", "3d_fullres", "-tr", "nnUNetTrainer"]
    assert main([*asked, "-f", "all", "-o", str(validation.out)]) == 2
    assert "-f all: that training is validated on its own" in capsys.readouterr().err


def test_too_few_cases_are_named(nothing, capsys):
    assert nothing.find() == 2
    assert "holds no segmentation that ends in .nii.gz" in capsys.readouterr().err
    nothing.put(0, reference(0), prediction(0))
    assert nothing.find(folds="0") == 2
    assert "wanted at least two cases, got 1" in capsys.readouterr().err


def test_a_result_that_cannot_be_written_leaves_the_earlier_one(validation, monkeypatch):
    assert validation.find() == 0
    before = (validation.out / "postprocessing.json").read_bytes()

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(finding, "write_result", full)
    assert validation.find("--max-dice-loss", "0.5") == 2
    assert (validation.out / "postprocessing.json").read_bytes() == before


def test_the_result_says_what_it_came_from(validation):
    assert validation.find() == 0
    result = validation.result()
    assert result["dataset"] == DATASET
    assert result["model"] == "nnUNetTrainer__nnUNetPlans__3d_fullres"
    assert len(result["trainings"]) == 2
    assert result["candidates"] == 208
    assert json.loads((validation.out / "candidates.jsonl").read_text().splitlines()[0])
