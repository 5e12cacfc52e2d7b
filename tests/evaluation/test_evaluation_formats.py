import json

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.evaluation.evaluate_predictions import load_summary_json

from nnunet_topo.metrics import compute

from .study import SPACING, Study, assert_contains, pair


def test_labels_stored_as_float_are_labels(study):
    reference, prediction = pair(1)
    study.put("case_1", reference.astype(np.float64), prediction.astype(np.float32))
    assert study.command() == 0


def test_regions_and_the_ignore_label(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    study = Study(tmp_path / "regions", labels=labels, regions_class_order=[1, 2])
    reference, prediction = pair(1)
    reference[0] = 3
    study.put("case_1", reference, prediction)
    before = study.evaluate_as_nnunet(labels=((1, 2), 2), ignore=3)
    done = study.evaluate()
    assert done.problems == ()
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
    assert study.evaluate().problems == ()
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


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[1]",
        "{",
        '{"spacing": [1, 2]}',
        '{"spacing": "abc"}',
        '{"spacing": ["1", "2", "3"]}',
        '{"spacing": [1, 0, 2]}',
        '{"spacing": [1, [2], 3]}',
    ],
)
def test_a_file_beside_a_tiff_volume_without_a_spacing_is_named(content, tmp_path, capsys):
    study = Study(tmp_path / "study", "Tiff3DIO", ".tif")
    for folder in (study.gt, study.pred):
        tifffile.imwrite(folder / "case_0.tif", pair(0)[0])
    beside = study.gt / "case_0.json"
    beside.write_text(content)
    assert study.command() == 2
    told = capsys.readouterr().err
    assert f"cannot be read: {beside} must hold spacing, three numbers above 0" in told


def test_two_files_of_other_formats_are_evaluated_with_a_dataset_json_as_folders_are(tmp_path):
    study = Study(tmp_path / "study")
    study.put("case_0", pair(0)[0])
    sitk.WriteImage(sitk.GetImageFromArray(pair(0)[1]), study.pred / "case_0.nrrd")
    study.pred /= "case_0.nrrd"
    assert study.command("-o", str(tmp_path / "summary.json")) in (0, 1)  # without a spacing
    content = json.loads((tmp_path / "summary.json").read_text())
    assert len(content["metric_per_case"]) == 1
    assert content["nnunet_topo"]["label_names"] == {"1": "ring", "2": "blob"}
