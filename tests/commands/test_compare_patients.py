"""Cases of one patient count as one in the tests of a comparison."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nnunet_topo.cli import main
from nnunet_topo.evaluation.patients import read_patients
from nnunet_topo.files import read_json
from nnunet_topo.report import make_table
from nnunet_topo.report.cases import Cases
from nnunet_topo.report.statistics import compare, describe

from ..evaluation.study import pair
from ..report.drawn_cases import cases


@pytest.fixture
def frames(folders):
    """Returns two frames each of patients; the second model is better in each but one."""
    for folder in (folders.gt, folders.pred, folders.other):
        for file in folder.glob("*.nii.gz"):
            file.unlink()
    for patient in range(4):
        for frame in ("ED", "ES"):
            reference, _ = pair(patient)
            prediction = reference.copy()
            prediction[0, 0, 0] = 1
            own, other = (prediction, reference) if patient else (reference, prediction)
            folders.put_both(f"p{patient}_{frame}", reference, own, other)
    return folders


def primary(folders):
    lines = csv.DictReader(io.StringIO((folders.out / "compare.csv").read_text()))
    return [line for line in lines if line["family"] == "primary"]


@pytest.mark.parametrize("pattern", ["^p[0-9]+", "^(.*)_E[DS]$"])
def test_tests_count_patients_and_say_so(frames, capsys, pattern):
    assert frames.compare("--patients", pattern) == 0
    printed = capsys.readouterr().out
    assert "8 cases of 4 patients, full connectivity" in printed
    assert "better in 3 patients, equal in 0, worse in 1" in printed
    assert "with 4 patients no difference could be shown" in printed
    page = frames.page()
    assert "8 cases of 4 patients" in page
    assert "only applies to these patients" in page
    stock, ours = primary(frames)
    assert (stock["cases"], ours["pairs"]) == ("4", "4")
    assert (ours["wins"], ours["ties"], ours["losses"]) == ("3", "0", "1")
    assert frames.result()["made"]["Patients"] == pattern
    assert frames.result()["patients"]["p3_ES.nii.gz"] == "p3"


def test_without_the_option_each_case_counts(frames, capsys):
    assert frames.compare() == 0
    assert "better in 6 cases, equal in 0, worse in 2" in capsys.readouterr().out
    assert frames.result()["patients"] == {}


def test_post_processing_is_chosen_on_other_patients(frames):
    assert frames.compare("--patients", "^p[0-9]+", postprocess=True) == 0
    (found,) = (frames.out / "postprocessing").glob("0_*/postprocessing.json")
    for group in read_json(found)["groups"].values():
        of_group = {case.split("_")[0] for case in group}
        assert len(group) == 2 * len(of_group)


@pytest.mark.parametrize("table", ["case,patient\n", "Patient;note;Case\n"])
def test_a_table_names_patients(frames, capsys, tmp_path, table):
    separator = ";" if ";" in table else ","
    rows = [[f"p{p}_{f}.nii.gz", f"Müller {p // 2}"] for p in range(4) for f in ("ED", "ES")]
    if separator == ";":
        rows = [[patient, "", case.removesuffix(".nii.gz")] for case, patient in rows]
    file = tmp_path / "patients.csv"
    lines = "".join(f"{separator.join(row)}\r\n" for row in rows)
    file.write_text(f"\ufeff{table}{lines}", "utf-8")
    assert frames.compare("--patients", str(file)) == 0
    assert "8 cases of 2 patients" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("patient[0-9]+", "got patient[0-9]+, which matches nothing of p0_ED"),
        ("[0-9", "'[0-9' is not a regular expression"),
        ("(p)([0-9])", "at most one group, got (p)([0-9]), which has 2"),
        ("x*", "got x*, which matches nothing of p0_ED"),
    ],
)
def test_what_names_no_patient_is_refused_before_anything_is_done(frames, capsys, told, message):
    assert frames.compare("--patients", told) == 2
    assert message in capsys.readouterr().err
    assert not frames.out.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,patient\np0_ED,a\n", "has no line for the case p0_ES"),
        ("name,subject\np0_ED,a\n", "wanted the columns case and patient"),
        ("case,patient\np0_ED,\n", "wanted a case and a patient, got ['p0_ED', '']"),
        ("case,patient\np0_ED,a,b\n", "wanted 2 cells, got ['p0_ED', 'a', 'b']"),
        ("case,patient\np0_ED,a\np0_ED,b\n", "p0_ED is of a and of b"),
        ("", "wanted the columns case and patient"),
    ],
)
def test_a_table_without_the_patient_of_a_case_is_refused(frames, capsys, tmp_path, text, message):
    file = tmp_path / "patients.csv"
    file.write_text(text)
    assert frames.compare("--patients", str(file)) == 2
    assert f"--patients: {file}" in (error := capsys.readouterr().err)
    assert message in error
    assert not frames.out.exists()


def test_a_patient_in_several_folds_is_noted(results, capsys):
    arguments = ["compare", "-d", "903", "-c", "3d_fullres", "-tr", "nnUNetTrainer"]
    arguments += ["nnUNetTrainerTAFL_5epochs", "-f", "0", "1", "-o", str(results.out), "-np", "1"]
    assert main([*arguments, "--no-postprocess", "--patients", "^case"]) == 0
    note = "1 of 1 patient have cases in the validation of several folds, so networks train on"
    assert note in capsys.readouterr().out


def test_the_value_of_a_patient_is_the_mean_of_the_cases():
    rng = np.random.default_rng(3)
    first, other = rng.random((2, 12))
    other[5] = np.nan
    patients = [f"{i // 3}" for i in range(12)]
    models = {"first": cases(*first), "other": cases(*other)}
    own, row = make_table(models, ["1"], ["Dice"], patients=patients)
    defined = ~np.isnan(other).reshape(4, 3)
    means = [
        np.array(
            [of[known].mean() for of, known in zip(of_model.reshape(4, 3), defined, strict=True)]
        )
        for of_model in (other, first)
    ]
    expected = compare(*means, True)
    assert row.difference.p == expected.p
    assert row.difference.mean == pytest.approx(expected.mean)
    assert (row.difference.low, row.difference.high) == pytest.approx((expected.low, expected.high))
    assert own.spread.mean == pytest.approx(first.mean())
    assert (own.spread.cases, row.spread.cases, row.spread.undefined) == (4, 4, 1)
    assert describe(means[0]).mean == pytest.approx(row.spread.mean)


def test_the_order_of_the_cases_does_not_matter():
    rng = np.random.default_rng(4)
    first, other = (cases(*rng.random(12)) for _ in range(2))
    patients = [f"{i // 3}" for i in range(12)]
    turned = Cases(dict(reversed(other.by_name.items())))
    tables = [
        make_table({"first": first, "other": of}, ["1"], ["Dice"], patients=patients)
        for of in (other, turned)
    ]
    assert tables[0] == tables[1]


def test_two_equal_cases_of_a_patient_are_no_more_than_one():
    rng = np.random.default_rng(5)
    first, other = rng.random((2, 9))
    once = make_table({"first": cases(*first), "other": cases(*other)}, ["1"], ["Dice"])
    models = {"first": cases(*first, *first), "other": cases(*other, *other)}
    twice = make_table(models, ["1"], ["Dice"], patients=[*range(9), *range(9)])
    assert once[1].difference.p == twice[1].difference.p
    assert make_table(models, ["1"], ["Dice"])[1].difference.p < once[1].difference.p


@pytest.mark.parametrize("case", ["a.b_patient7_x.nii.gz", "a.b_patient7_x", "patient7.PNG"])
def test_endings_are_no_part_of_a_case(case):
    assert read_patients("patient[^_]+")(case) == "patient7"


def test_run_notes_before_the_first_training_who_is_in_several_folds(
    tiny_dataset, nnunet_folders, tmp_path, monkeypatch, capsys
):
    name = "Dataset901_TinyRings"
    source = Path(nnunet_folders["nnUNet_preprocessed"]) / name
    shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("splits_final.json"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    arguments = ["run", "-d", "901", "-c", "3d_fullres", "-p", "nnUNetPlansTiny", "-o"]
    arguments += [str(tmp_path / "out"), "-tr", "nnUNetTrainer", "nnUNetTrainerTAFL", "--dry-run"]
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\n" + "".join(f"tiny_{i},p{i // 2}\n" for i in range(6)))
    assert main([*arguments, "--patients", str(table)]) == 0
    told = "of 3 patients have cases in the validation of several folds, so networks train on"
    assert told in capsys.readouterr().out
    splits = [
        {"train": [f"tiny_{i}" for i in range(2, 6)], "val": ["tiny_0", "tiny_1"]},
        {"train": [f"tiny_{i}" for i in (0, 1, 4, 5)], "val": ["tiny_2", "tiny_3"]},
    ]
    (tmp_path / name / "splits_final.json").write_text(json.dumps(splits))
    assert main([*arguments, "-f", "0", "1", "--patients", str(table)]) == 0
    assert "note" not in capsys.readouterr().out
    assert main([*arguments, "-f", "0", "--patients", "patient"]) == 2
    assert "matches nothing of tiny_" in capsys.readouterr().err
