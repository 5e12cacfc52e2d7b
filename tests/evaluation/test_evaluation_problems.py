import re
from math import isnan

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.evaluation.evaluate_predictions import load_summary_json

from nnunet_topo.cli import main
from nnunet_topo.evaluation.evaluate import evaluate_folder

from .study import CASES, assert_contains, pair


def spoil(study, kind):
    reference, prediction = pair(1)
    file = study.pred / "case_1.nii.gz"
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:200])
    if kind == "no image":
        file.write_text("not an image")
    if kind == "unreadable reference":
        (study.gt / file.name).write_bytes(b"")
    if kind == "shape":
        study.put("case_1", prediction=prediction[:, :-1])
    if kind == "spacing":
        study.put("case_1", prediction=prediction, spacing=(1.0, 1.0, 1.0))
    if kind == "labels":
        prediction[0, 0, :2] = 7, 9
        study.put("case_1", prediction=prediction)
    if kind == "fractions":
        study.put("case_1", reference=reference + 0.5 * (reference == 2).astype(np.float32))
    if kind == "missing":
        file.unlink()
    if kind == "extra":
        study.put("case_9", prediction=prediction)


SPOILED = {
    "truncated": "case_1.nii.gz: not evaluated, the prediction .* cannot be read",
    "no image": "case_1.nii.gz: not evaluated, the prediction .* cannot be read",
    "unreadable reference": "case_1.nii.gz: not evaluated, the reference .* cannot be",
    "shape": r"the reference has shape 30 x 26 x 22 \(x, y, z\), the prediction 30 x 25 x 22 ",
    "spacing": r"the reference has spacing 1.3 x 0.7 x 2, the prediction 1 x 1 x 1 mm \(x, y, z\)",
    "labels": r"the prediction holds 7, 9, not among the labels \(0-2\)",
    "fractions": "not evaluated, the reference holds 2.5, which are not whole numbers: resampled",
    "missing": "case_1.nii.gz: no prediction in ",
    "extra": "case_9.nii.gz: no reference in ",
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_problem_of_one_case_is_reported_and_the_others_are_evaluated(study, kind, capsys):
    spoil(study, kind)
    assert study.command() == 1
    assert re.search(SPOILED[kind], capsys.readouterr().err)
    evaluated = kind in ("spacing", "labels", "extra")
    content = study.read()
    assert len(content["metric_per_case"]) == CASES - (not evaluated)
    assert len(content["nnunet_topo"]["troubles"]) == 1
    assert content["metric_per_case"][0]["metrics"]["1"]["topo_betti_error_1"] == 1
    load_summary_json(str(study.summary))
    # The next run still reports the problem, and computes the failed case again.
    assert study.command() == 1
    assert re.search(SPOILED[kind], capsys.readouterr().err)


def test_a_case_that_fails_in_nnunets_summary_is_undefined_and_counted(study):
    before = study.evaluate_as_nnunet()
    spoil(study, "truncated")
    study.evaluate()
    content = study.read()
    assert_contains(content, before)
    failed = content["metric_per_case"][1]["metrics"]["1"]
    assert isnan(failed["topo_betti_error"])
    assert content["nnunet_topo"]["undefined"]["1"]["topo_betti_error"] == 1
    study.put("case_1", prediction=pair(1)[1])
    assert study.evaluate().problems == ()
    assert study.read()["metric_per_case"][1]["metrics"]["1"]["topo_betti_error"] == 1


def test_metrics_of_new_predictions_do_not_stand_beside_nnunets_of_old_ones(study, capsys):
    before = study.evaluate_as_nnunet()
    reference, _ = pair(1)
    study.put("case_1", prediction=reference)
    assert study.command("--report") == 1
    told = capsys.readouterr()
    assert (
        f"case_1.nii.gz: not evaluated, nnU-Net's metrics in {study.summary} are of other files "
        "or another ignore label (TP, FP and FN differ); remove that file, or -o names another"
    ) in told.err
    assert f"{CASES - 1} cases evaluated, {CASES - 1} of them now" in told.out
    content = study.read()
    assert_contains(content, before)
    assert content["nnunet_topo"]["refused"] == ["case_1.nii.gz"]
    assert isnan(content["metric_per_case"][1]["metrics"]["1"]["topo_betti_error"])
    rest = [before["metric_per_case"][case]["metrics"]["1"] for case in (0, 2, 3)]
    dice = np.mean([metrics["Dice"] for metrics in rest])
    assert abs(dice - before["mean"]["1"]["Dice"]) > 1e-3
    assert f"label 1 (ring): Dice {dice:.4f}" in told.out
    page = (study.pred / "summary_errors" / "report.html").read_text()
    assert f"{dice:.4f}" in page
    volumes = [[metrics[count] for metrics in rest] for count in ("n_pred", "n_ref")]
    pearson = content["mean"]["1"]["topo_volume_pearson"]
    assert pearson == pytest.approx(np.corrcoef(volumes)[0, 1])
    # The next run reports it again; elsewhere, and without nnU-Net's file, all is evaluated.
    assert study.command() == 1
    capsys.readouterr()
    assert study.command("-o", str(study.pred / "other.json")) == 0
    study.summary.unlink()
    assert study.command() == 0
    assert study.read()["metric_per_case"][1]["metrics"]["1"]["Dice"] == 1


def test_a_summary_of_nnunet_all_of_whose_predictions_were_replaced_stays_as_it_was(study, capsys):
    before = study.evaluate_as_nnunet()
    assert study.command() == 0
    for case in range(CASES):
        study.put(f"case_{case}", prediction=pair(case)[0])
    assert study.command() == 2
    told = capsys.readouterr().err
    assert told.count("not evaluated, nnU-Net's metrics in") == CASES
    np.testing.assert_equal(study.read(), before)


def test_nnunets_metrics_with_another_ignore_label_do_not_stand_beside_ours(study, capsys):
    study.evaluate_as_nnunet(labels=(1, 2), ignore=2)
    assert study.command() == 2
    assert "or another ignore label (TP, FP and FN differ)" in capsys.readouterr().err


def test_missing_predictions_are_not_reported_with_chill(study):
    spoil(study, "missing")
    assert study.command("--chill") == 0


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("djfile", "{", "is not a JSON file"),
        ("djfile", "[]", "must hold a JSON object, got list"),
        ("djfile", "{}", "is not an nnU-Net dataset.json: it has no labels and no file_ending"),
        ("djfile", '{"labels": {"a": 1}, "file_ending": ".png"}', "that ends in .png"),
        ("pfile", "{}", "is not an nnU-Net plans file: it has no image_reader_writer"),
        (
            "pfile",
            '{"image_reader_writer": "SomeIO"}',
            "Unable to find reader writer class",
        ),
        ("summary", '{"a": 1}', "is not an nnU-Net summary and is not replaced"),
        ("summary", '{"metric_per_case": [1], "mean": {"1": {}}}', "is not an nnU-Net summary"),
    ],
)
def test_wrong_files_are_refused_and_left_as_they_are(study, file, content, message, capsys):
    path = getattr(study, file)
    path.write_text(content)
    assert study.command() == 2
    assert message in capsys.readouterr().err
    assert path.read_text() == content
    assert not list(study.pred.glob("*topo*"))


def test_empty_and_missing_folders_are_refused(study, tmp_path, capsys):
    for file in study.pred.iterdir():
        file.unlink()
    assert study.command() == 2
    assert f"{study.pred} holds no segmentation that ends in .nii.gz" in capsys.readouterr().err
    study.pred.rmdir()
    assert study.command() == 2
    assert f"{study.pred}: there is no such file or folder" in capsys.readouterr().err


def test_a_summary_that_cannot_be_written_is_reported_before_anything_is_computed(study, capsys):
    assert study.command("-o", str(study.djfile / "summary.json")) == 2
    assert "-o names a file elsewhere" in capsys.readouterr().err
    assert study.command("-o", str(study.pred / "summary.txt")) == 2
    assert "must be a .json file" in capsys.readouterr().err


def test_a_folder_in_which_no_case_can_be_evaluated_is_a_failure_without_a_file(study, capsys):
    for case in range(CASES):
        (study.pred / f"case_{case}.nii.gz").write_text("not an image")
    assert study.command() == 2
    assert "4 problems" in capsys.readouterr().err
    assert not study.summary.exists()


@pytest.mark.parametrize("by_nnunet", [False, True])
def test_metrics_of_files_that_can_no_longer_be_evaluated_do_not_stay(study, by_nnunet):
    before = study.evaluate_as_nnunet() if by_nnunet else None
    assert study.command() == 0
    for case in range(CASES):
        (study.pred / f"case_{case}.nii.gz").write_text("not an image")
    assert study.command() == 2
    if by_nnunet:
        np.testing.assert_equal(study.read(), before)
    else:
        assert not study.summary.exists()


def test_the_folder_of_the_summary_is_made(study, tmp_path):
    file = tmp_path / "new" / "sub" / "summary.json"
    assert study.command("-o", str(file), "--report") == 0
    assert file.is_file()


def spoil_call(study, kind):
    """Returns references that are not those of the predictions."""
    other = study.gt.with_name("other")
    other.mkdir()
    for case in range(CASES):
        name = f"case_{case}_0000" if kind == "names" else f"case_{case}"
        image = sitk.GetImageFromArray(pair(case)[0][1:])
        sitk.WriteImage(image, other / f"{name}.nii.gz")
    return other


@pytest.mark.parametrize("by_nnunet", [False, True])
@pytest.mark.parametrize("kind", ["names", "shape"])
def test_a_call_with_wrong_references_costs_no_finished_metrics(study, kind, by_nnunet, capsys):
    if by_nnunet:
        study.evaluate_as_nnunet()
    study.evaluate()
    before = study.summary.read_bytes()
    sound, study.gt = study.gt, spoil_call(study, kind)
    assert study.command() == 2
    told = capsys.readouterr()
    assert f"{study.summary} keeps its metrics: nothing could be evaluated" in told.err
    assert "0 cases evaluated" in told.out
    assert study.summary.read_bytes() == before
    study.gt = sound
    assert study.evaluate().computed == 0
    assert study.summary.read_bytes() == before


def test_an_ignore_label_that_was_forgotten_costs_no_finished_metrics(study, capsys):
    for case in range(CASES):
        reference, prediction = pair(case)
        reference[0, 0, :3], prediction[0, 0, :3] = 2, 1
        study.put(f"case_{case}", reference, prediction)
    study.evaluate_as_nnunet(labels=(1,), ignore=2)
    options = str(study.gt), str(study.pred), "-np", "1"
    assert main(["evaluate", *options, "-il", "2"]) == 0
    before = study.summary.read_bytes()
    assert main(["evaluate", *options]) == 2
    told = capsys.readouterr().err
    assert "or another ignore label" in told
    assert "keeps its metrics" in told
    assert study.summary.read_bytes() == before


def test_a_single_file_does_not_replace_the_summary_of_a_folder(study, capsys):
    study.evaluate()
    before = study.summary.read_bytes()
    files = "-djfile", str(study.djfile), "-np", "1"
    call = ["evaluate", str(study.gt / "case_1.nii.gz"), str(study.pred), *files]
    assert main(call) == 2
    assert "has other cases than this file (case_0.nii.gz, case_2.nii.gz, case_3" in (
        capsys.readouterr().err
    )
    with pytest.raises(ValueError, match="-o names another file"):
        evaluate_folder(study.gt, study.pred / "case_1.nii.gz", study.djfile)
    assert study.summary.read_bytes() == before
    assert main([*call, "-o", str(study.pred / "one.json")]) == 0
    for case in (0, 2, 3):
        (study.pred / f"case_{case}.nii.gz").unlink()
    study.evaluate(chill=True)
    assert main(call) == 0


@pytest.mark.parametrize(
    "options", [("--group", "both=1,2"), ("--group", "third=3"), ("--labels",)]
)
def test_groups_that_are_not_in_nnunets_summary_are_refused(study, options, capsys):
    before = study.evaluate_as_nnunet()
    names = study.gt.with_name("names.json")
    names.write_text('{"labels": {"background": 0, "both": [1, 2], "blob": 2}}')
    options = (*options, str(names)) if options == ("--labels",) else options
    call = ["evaluate", str(study.gt), str(study.pred), "-np", "1", *options]
    assert main(call) == 2
    assert "was written by nnU-Net for the labels 1, 2; -o names" in capsys.readouterr().err
    assert study.read() == before
    assert main([*call, "-o", str(study.pred / "other.json")]) == 0
    study.summary.unlink()
    study.evaluate_as_nnunet(labels=(1, 2, (1, 2), 3))
    assert main(call) == 0


def test_a_tolerance_below_0_is_refused_and_costs_no_metrics(study, capsys):
    study.evaluate()
    before = study.read()
    assert study.command("--nsd-tolerance", "inf") == 2
    assert "the NSD tolerance must be a distance, got inf" in capsys.readouterr().err
    assert study.command("--nsd-tolerance", "-1") == 2
    assert study.command("--windows", "0") == 2
    assert study.command("--windows", "65", "10", "3") == 2
    assert "the NSD tolerance must be at least 0, got -1" in capsys.readouterr().err
    assert study.read() == before
