import json
import re
import subprocess
import sys
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder, load_summary_json
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

from nnunet_topo.cli import main
from nnunet_topo.evaluation import evaluate as evaluation
from nnunet_topo.evaluation.evaluate import evaluate_folder
from nnunet_topo.metrics import compute

from ..conftest import tiny_case

LABELS = {"background": 0, "ring": 1, "blob": 2}
SPACING = (2.0, 0.7, 1.3)  # z, y, x
CASES = 4


class Study:
    """A folder of references and one of predictions, as nnU-Net has them."""

    def __init__(self, folder: Path, reader="SimpleITKIO", ending=".nii.gz", labels=LABELS, **more):
        self.gt, self.pred = folder / "gt", folder / "pred"
        for part in (self.gt, self.pred):
            part.mkdir(parents=True)
        self.ending, self.labels = ending, labels
        self.reader = recursive_find_reader_writer_by_name(reader)()
        self.djfile, self.pfile = folder / "dataset.json", folder / "plans.json"
        description = {"channel_names": {"0": "x"}, "labels": labels, "file_ending": ending}
        self.djfile.write_text(json.dumps(description | more))
        plans = {"dataset_name": "Dataset902_Study", "plans_name": "p", "configurations": {}}
        self.pfile.write_text(json.dumps(plans | {"image_reader_writer": reader}))
        self.summary = self.pred / "summary.json"

    def put(self, name, reference=None, prediction=None, spacing=SPACING):
        for folder, array in ((self.gt, reference), (self.pred, prediction)):
            if array is not None:
                image = sitk.GetImageFromArray(array)
                image.SetSpacing(spacing[::-1])
                sitk.WriteImage(image, folder / f"{name}{self.ending}")

    def evaluate(self, **options):
        return evaluate_folder(self.gt, self.pred, self.djfile, self.pfile, **options)

    def evaluate_as_nnunet(self, labels=(1, 2), ignore=None):
        compute_metrics_on_folder(
            str(self.gt),
            str(self.pred),
            str(self.summary),
            self.reader,
            self.ending,
            list(labels),
            ignore,  # pyright: ignore[reportArgumentType]
            1,
        )
        return json.loads(self.summary.read_text())

    def command(self, *more):
        files = ("-djfile", str(self.djfile), "-pfile", str(self.pfile), "-np", "1")
        return main(["evaluate", str(self.gt), str(self.pred), *files, *more])

    def read(self):
        return json.loads(self.summary.read_text())


def pair(case: int):
    """Returns a reference and a prediction with a broken ring, an island or no blob."""
    reference = tiny_case(case)[1]
    prediction = np.roll(reference, 1, axis=2)
    if case == 0:
        prediction[:, :12, 9:13] = 0
    if case == 1:
        prediction[0, 0, 0] = 1
    if case == 2:
        prediction[prediction == 2] = 0
    return reference, prediction


@pytest.fixture
def study(tmp_path):
    study = Study(tmp_path / "study")
    for case in range(CASES):
        study.put(f"case_{case}", *pair(case))
    return study


def assert_contains(larger, smaller):
    """Asserts that nothing of the smaller was changed or left out in the larger."""
    if isinstance(smaller, dict):
        for key, value in smaller.items():
            assert_contains(larger[key], value)
    elif isinstance(smaller, list):
        for one, other in zip(larger, smaller, strict=True):
            assert_contains(one, other)
    else:
        np.testing.assert_equal(larger, smaller)


def test_nnunets_summary_keeps_all_its_values_and_gains_ours(study):
    before = study.evaluate_as_nnunet()
    done = study.evaluate()
    assert (done.cases, done.computed, done.troubles) == (CASES, CASES, [])
    after = study.read()
    assert_contains(after, before)
    reference, prediction = pair(0)
    expected = compute(prediction == 1, reference == 1, spacing_mm=SPACING)
    found = after["metric_per_case"][0]["metrics"]["1"]
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, nan_ok=True, rel=1e-5), key  # spacing is float32
    assert found["topo_betti_error_1"] == 1
    assert after["metric_per_case"][1]["metrics"]["1"]["topo_betti_error_0"] == 1


def test_every_label_of_every_case_and_mean_carries_every_key(study):
    study.evaluate_as_nnunet()
    study.evaluate()
    content = study.read()
    per_case = [
        labels for entry in content["metric_per_case"] for labels in entry["metrics"].values()
    ]
    keys = per_case[0].keys()
    assert all(labels.keys() == keys for labels in per_case)
    means = [*content["mean"].values(), content["foreground_mean"]]
    assert all(mean.keys() == keys | {"topo_volume_pearson"} for mean in means)


def test_means_leave_out_what_is_undefined_and_count_it(study):
    study.evaluate()
    content = study.read()
    values = [entry["metrics"]["2"]["topo_hd95_mm"] for entry in content["metric_per_case"]]
    assert [isnan(value) for value in values] == [False, False, True, False]
    assert content["mean"]["2"]["topo_hd95_mm"] == pytest.approx(np.nanmean(values))
    assert content["nnunet_topo"]["undefined"]["2"]["topo_hd95_mm"] == 1
    assert "topo_hd95_mm" not in content["nnunet_topo"]["undefined"]["1"]
    both = [content["mean"][label]["topo_hd95_mm"] for label in "12"]
    assert content["foreground_mean"]["topo_hd95_mm"] == pytest.approx(np.mean(both))


def test_volumes_are_correlated_in_mm_and_not_in_voxels(study):
    rng = np.random.default_rng(0)
    volumes = []
    for case in range(CASES):
        masks = (rng.random((2, 6, 7, 8)) < rng.uniform(0.2, 0.8, (2, 1, 1, 1))).astype(np.uint8)
        spacing = (case + 1.0, 1.0, 1.0)
        study.put(f"case_{case}", *masks, spacing=spacing)
        volumes.append([mask.sum() * spacing[0] for mask in masks])
    study.evaluate()
    content = study.read()
    expected = np.corrcoef(np.transpose(volumes))[0, 1]
    assert content["mean"]["1"]["topo_volume_pearson"] == pytest.approx(expected)
    assert isnan(content["mean"]["2"]["topo_volume_pearson"])  # no voxel has label 2


def test_a_folder_without_summary_gets_nnunets_own_metrics_too(study):
    study.evaluate()
    ours = study.read()
    study.summary.unlink()
    theirs = study.evaluate_as_nnunet()
    for entry in theirs["metric_per_case"]:
        entry["metrics"] = dict(entry["metrics"])
    assert_contains(ours, theirs)
    loaded = load_summary_json(str(study.summary))
    assert set(loaded["mean"]) == {1, 2}


def test_only_what_has_changed_is_computed_again(study):
    study.evaluate()
    first = study.read()
    assert study.evaluate().computed == 0
    assert study.summary.read_text() == json.dumps(first, indent=4, sort_keys=True)
    study.put("case_3", prediction=pair(3)[0])
    assert study.evaluate().computed == 1
    second = study.read()
    assert second["metric_per_case"][3]["metrics"]["1"]["Dice"] == 1
    assert second["mean"]["1"]["Dice"] > first["mean"]["1"]["Dice"]
    assert study.evaluate(settings=evaluation.Settings("face")).computed == CASES
    assert study.read()["nnunet_topo"]["connectivity"] == "face"


def test_a_case_that_came_or_went_changes_our_summary_and_never_nnunets(study):
    study.evaluate()
    (study.pred / "case_0.nii.gz").unlink()
    study.evaluate(chill=True)
    names = [Path(entry["prediction_file"]).name for entry in study.read()["metric_per_case"]]
    assert names == [f"case_{case}.nii.gz" for case in (1, 2, 3)]
    study.summary.unlink()
    before = study.evaluate_as_nnunet()
    study.put("case_0", *pair(0))
    (study.pred / "case_1.nii.gz").unlink()
    done = study.evaluate(chill=True)
    assert_contains(study.read(), before)
    assert [trouble.split(":")[0] for trouble in done.troubles] == [
        "case_0.nii.gz",
        "case_1.nii.gz",
    ]
    assert "-o names another file" in done.troubles[0]
    assert isnan(study.read()["metric_per_case"][0]["metrics"]["1"]["topo_betti_error"])
    elsewhere = study.pred / "all.json"
    assert study.evaluate(output=elsewhere, chill=True).cases == CASES - 1


def test_an_interrupted_evaluation_goes_on_where_it_was(study, monkeypatch):
    sound, calls = evaluation._evaluate_case, []

    def interrupted(case):
        calls.append(case.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sound(case)

    before = study.evaluate_as_nnunet()
    monkeypatch.setattr(evaluation, "_evaluate_case", interrupted)
    assert study.command() == 130
    assert study.read() == before
    journal = study.pred / "summary.json.topo-part"
    with journal.open("a") as file:
        file.write('{"name": "case_2.nii.gz", "dig')  # cut short
    monkeypatch.setattr(evaluation, "_evaluate_case", sound)
    done = study.evaluate()
    assert (done.cases, done.computed) == (CASES, CASES - 2)
    assert not journal.exists()
    resumed = study.read()
    study.summary.unlink()
    study.evaluate_as_nnunet()
    study.evaluate()
    np.testing.assert_equal(resumed, study.read())


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
def test_what_is_wrong_with_one_case_is_told_and_the_others_are_evaluated(study, kind, capsys):
    spoil(study, kind)
    assert study.command() == 1
    assert re.search(SPOILED[kind], capsys.readouterr().err)
    evaluated = kind in ("spacing", "labels", "extra")
    content = study.read()
    assert len(content["metric_per_case"]) == CASES - (not evaluated)
    assert len(content["nnunet_topo"]["troubles"]) == 1
    assert content["metric_per_case"][0]["metrics"]["1"]["topo_betti_error_1"] == 1
    load_summary_json(str(study.summary))
    # Nothing of a trouble is forgotten by the next run, which computes what failed again.
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
    assert study.evaluate().troubles == []
    assert study.read()["metric_per_case"][1]["metrics"]["1"]["topo_betti_error"] == 1


def test_the_connectivity_asked_for_is_used_and_recorded(study, capsys):
    touching = np.zeros((22, 26, 30), np.uint8)
    touching[3, 4, 5] = touching[4, 5, 6] = 1
    study.put("case_0", prediction=touching)
    for connectivity, components in (("full", 1), ("face", 2)):
        assert study.command("--connectivity", connectivity) == 0
        assert f"{connectivity} connectivity" in capsys.readouterr().out
        content = study.read()
        assert content["nnunet_topo"]["connectivity"] == connectivity
        assert content["metric_per_case"][0]["metrics"]["1"]["topo_betti_pred_0"] == components
    # Of a summary that has metrics already, the trainers' too, it is kept.
    assert study.command() == 0
    assert "face connectivity" in capsys.readouterr().out


def test_a_summary_written_on_windows_is_merged_into(study):
    study.evaluate_as_nnunet()
    content = study.read()
    for entry in content["metric_per_case"]:
        name = Path(entry["prediction_file"]).name
        entry["prediction_file"] = f"D:\\results\\fold_0\\{name}"
    study.summary.write_text(json.dumps(content))
    assert study.evaluate().troubles == []
    assert_contains(study.read(), content)
    # On other systems a backslash may be part of a name.
    assert evaluation.file_name("/results/a\\b.nii.gz") == "a\\b.nii.gz"
    # A folder given to nnU-Net with slashes, and joined by it with backslashes.
    assert evaluation.file_name("C:/results\\fold_0\\b.nii.gz") == "b.nii.gz"


def test_missing_predictions_are_no_trouble_with_chill(study):
    spoil(study, "missing")
    assert study.command("--chill") == 0


def test_labels_stored_as_float_are_labels(study):
    reference, prediction = pair(1)
    study.put("case_1", reference.astype(np.float64), prediction.astype(np.float32))
    assert study.command() == 0


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
        ("summary", '{"a": 1}', "is no summary of nnU-Net, and is left as it is"),
        ("summary", '{"metric_per_case": [1], "mean": {"1": {}}}', "is no summary of nnU-Net"),
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


def test_a_summary_that_cannot_be_written_is_told_before_anything_is_computed(study, capsys):
    assert study.command("-o", "/nowhere/summary.json") == 2
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


def test_a_tolerance_below_0_is_refused_and_costs_no_metrics(study, capsys):
    study.evaluate()
    before = study.read()
    assert study.command("--nsd-tolerance", "-1") == 2
    assert "the NSD tolerance must be at least 0, got -1" in capsys.readouterr().err
    assert study.read() == before


def test_regions_and_the_ignore_label(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    study = Study(tmp_path / "regions", labels=labels, regions_class_order=[1, 2])
    reference, prediction = pair(1)
    reference[0] = 3
    study.put("case_1", reference, prediction)
    before = study.evaluate_as_nnunet(labels=((1, 2), 2), ignore=3)
    done = study.evaluate()
    assert done.troubles == []
    content = study.read()
    assert_contains(content, before)
    found = content["metric_per_case"][0]["metrics"]
    assert set(found) == {"(1, 2)", "2"}
    counted = reference != 3
    expected = compute(prediction > 0, np.isin(reference, (1, 2)), spacing_mm=SPACING, mask=counted)
    for key, value in expected.items():
        assert found["(1, 2)"][key] == pytest.approx(value, rel=1e-5), key
    assert found["(1, 2)"]["topo_betti_error"] == 0  # the island is ignored
    assert set(load_summary_json(str(study.summary))["mean"]) == {(1, 2), 2}


@pytest.mark.parametrize(
    ("reader", "ending"),
    [
        ("SimpleITKIO", ".mha"),
        ("SimpleITKIO", ".nrrd"),
        ("NibabelIO", ".nii.gz"),
        ("NibabelIOWithReorient", ".nii.gz"),
        ("Tiff3DIO", ".tif"),
    ],
)
def test_every_format_of_volumes_that_nnunet_reads(tmp_path, reader, ending):
    study = Study(tmp_path / "volumes", reader, ending)
    reference, prediction = pair(0)
    if reader == "Tiff3DIO":
        for folder, array in ((study.gt, reference), (study.pred, prediction)):
            properties = {"spacing": list(SPACING)}
            study.reader.write_seg(array, str(folder / f"case_0{ending}"), properties)
    else:
        study.put("case_0", reference, prediction)
    study.evaluate()
    found = study.read()["metric_per_case"][0]["metrics"]["1"]
    expected = compute(prediction == 1, reference == 1, spacing_mm=SPACING)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-5), key


def test_the_spacing_of_tiff_volumes_is_that_of_the_file_that_has_one(tmp_path):
    # nnU-Net copies the labels to where it preprocesses, and not the spacing beside them.
    study = Study(tmp_path / "volumes", "Tiff3DIO", ".tif")
    reference, prediction = pair(0)
    for folder, array in ((study.gt, reference), (study.pred, prediction)):
        study.reader.write_seg(array, str(folder / "case_0.tif"), {"spacing": list(SPACING)})
    (study.gt / "case_0.json").unlink()
    assert study.evaluate().troubles == []
    found = study.read()["metric_per_case"][0]["metrics"]["1"]
    expected = compute(prediction == 1, reference == 1, spacing_mm=SPACING)
    for key in ("topo_hd95_mm", "topo_nsd"):
        assert found[key] == pytest.approx(expected[key]), key
    voxel_mm3 = study.read()["nnunet_topo"]["cases"]["case_0.tif"]["voxel_mm3"]
    assert voxel_mm3 == pytest.approx(np.prod(SPACING))


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_images_are_two_dimensional_and_measured_in_pixels(tmp_path, ending):
    from skimage import io

    study = Study(tmp_path / "images", "NaturalImage2DIO", ending)
    reference, prediction = (array[9] for array in pair(0))
    for folder, array in ((study.gt, reference), (study.pred, prediction)):
        io.imsave(folder / f"case_0{ending}", array, check_contrast=False)
    study.evaluate()
    found = study.read()["metric_per_case"][0]["metrics"]["1"]
    expected = compute(prediction == 1, reference == 1)
    assert "topo_betti_error_2" not in found
    for key, value in expected.items():
        assert found[key] == pytest.approx(value), key


def test_several_processes_give_the_same_and_a_killed_one_costs_its_case_alone(study, tmp_path):
    study.evaluate()
    alone = study.read()
    study.summary.unlink()
    # A reader that kills its process on one file, in a module that spawned processes find.
    (tmp_path / "killing.py").write_text(
        "import os\n"
        "from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO\n"
        "class Reader(SimpleITKIO):\n"
        "    def read_seg(self, file):\n"
        "        if 'case_2' in file: os.kill(os.getpid(), 9)\n"
        "        return super().read_seg(file)\n"
    )
    (tmp_path / "killed.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from killing import Reader\n"
        "from nnunetv2.utilities.label_handling.label_handling import LabelManager\n"
        "from nnunet_topo.evaluation.evaluate import evaluate\n"
        "if __name__ == '__main__':\n"
        "    gt, pred = map(Path, sys.argv[1:])\n"
        f"    labels = LabelManager({LABELS}, None)\n"
        "    summary = pred / 'summary.json'\n"
        "    done = evaluate(gt, pred, summary, Reader(), '.nii.gz', labels, processes=2)\n"
        "    print(done.cases, done.troubles)\n"
    )
    command = [sys.executable, str(tmp_path / "killed.py"), str(study.gt), str(study.pred)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip().endswith(
        "3 ['case_2.nii.gz: its process was killed; too little memory?']"
    )
    three = study.read()["metric_per_case"]
    np.testing.assert_equal(three, [alone["metric_per_case"][case] for case in (0, 1, 3)])
    assert evaluation._nanmean([nan, nan]) is nan
