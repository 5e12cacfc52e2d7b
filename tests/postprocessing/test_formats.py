"""Steps on images, single slices and TIFF volumes: their units, and what is written."""

import json

import numpy as np
import SimpleITK as sitk
import tifffile

from .folders import Validation, prediction, read, reference


def slices(case):
    """Returns prediction and reference of one slice, with an island of 9 pixels."""
    of_reference = np.zeros((40, 50), np.uint8)
    of_reference[5:20, 5:40] = 1
    if case % 4 in (1, 2):
        of_reference[25:32, 5:15] = 1
    of_prediction = of_reference.copy()
    of_prediction[34:37, 40:43] = 1
    return of_prediction, of_reference


def test_a_slice_of_a_volume_is_measured_in_mm2_whichever_axis_it_lies_on(tmp_path, monkeypatch):
    validation = Validation(tmp_path, monkeypatch)
    for case in range(4):
        folders = validation.validation(case), validation.study.gt
        for folder, array in zip(folders, slices(case), strict=True):
            image = sitk.GetImageFromArray(array[:, :, None])  # sagittal
            image.SetSpacing((9.0, 0.5, 2.0))
            sitk.WriteImage(image, folder / f"case_{case}.nii.gz")
    assert validation.find() == 0
    result = validation.result()
    assert (result["dimensions"], result["unit_of_sizes"]) == (2, "mm2")
    assert result["labels"][0]["steps"] == {"remove_below": 10.0}
    assert result["cases"]["case_0.nii.gz"]["1"]["nested"]["topo_betti_matching_error"] == 0
    assert validation.apply(validation.validation(1)) == 0
    written = sitk.ReadImage(validation.applied / "case_1.nii.gz")
    assert written.GetSpacing() == (9.0, 0.5, 2.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written)[:, :, 0], slices(1)[1])


def test_a_tiff_volume_keeps_its_spacing_beside_it(tmp_path, monkeypatch):
    validation = Validation(tmp_path, monkeypatch, reader="Tiff3DIO", ending=".tif")
    for case in range(4):
        of_case = reference(case), prediction(case)
        folders = validation.study.gt, validation.validation(case)
        for folder, array in zip(folders, of_case, strict=True):
            tifffile.imwrite(folder / f"case_{case}.tif", array)
            (folder / f"case_{case}.json").write_text(json.dumps({"spacing": [2.0, 0.5, 2.0]}))
    assert validation.find() == 0
    result = validation.result()
    assert result["unit_of_sizes"] == "mm3"
    assert result["labels"][0]["steps"] == {"remove_below": 20.0}  # 10 voxels
    assert validation.apply(validation.validation(0)) == 0
    np.testing.assert_array_equal(tifffile.imread(validation.applied / "case_0.tif"), reference(0))
    beside = json.loads((validation.applied / "case_0.json").read_text())
    assert beside == {"spacing": [2.0, 0.5, 2.0]}
    # A finer spacing makes the second part of label 1 too small to stay.
    finer = validation.validation(0) / "case_2.json"
    finer.write_text(json.dumps({"spacing": [1.0, 0.5, 1.0]}))
    assert validation.apply(validation.validation(0)) == 0
    assert not (tifffile.imread(validation.applied / "case_2.tif")[8] == 1).any()


def test_an_image_among_volumes_is_left_out(tmp_path, monkeypatch, capsys):
    validation = Validation(tmp_path, monkeypatch).fill()
    for folder, array in zip(
        (validation.validation(5), validation.study.gt), slices(5), strict=True
    ):
        sitk.WriteImage(sitk.GetImageFromArray(array), folder / "case_5.nii.gz")
    assert validation.find() == 1
    told = "case_5.nii.gz: left out, it is an image or a single slice, but the first case is a"
    assert told in capsys.readouterr().err
    assert len(validation.result()["cases"]) == 5


def test_steps_in_mm_are_not_applied_to_a_file_without_spacing(tmp_path, monkeypatch, capsys):
    validation = Validation(tmp_path, monkeypatch).fill()
    assert validation.find() == 0
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    tifffile.imwrite(predictions / "case.tif", prediction(0))
    assert validation.apply(predictions) == 2
    assert "the steps are in mm, but the spacing of the file is none" in capsys.readouterr().err
    (predictions / "case.json").write_text(json.dumps({"spacing": [2.0, 0.5, 1.0]}))
    assert validation.apply(predictions) == 0
    np.testing.assert_array_equal(tifffile.imread(validation.applied / "case.tif"), reference(0))
    assert not read(validation.validation(0) / "case_0.nii.gz").all()
