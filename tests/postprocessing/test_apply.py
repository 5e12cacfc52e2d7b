"""`nnunet-topo postprocess apply` on folders of predictions."""

import gzip
import json
import shutil
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

import nnunet_topo

from .folders import DATASET, prediction, read, reference


@pytest.fixture
def found(validation):
    """Returns a cross-validation whose steps have been found."""
    assert validation.find() == 0
    return validation


@pytest.fixture
def predictions(found):
    """Returns new predictions: a case with islands and a cavity, and one that is right."""
    folder = found.folder / "predictions"
    folder.mkdir()
    for name, array in (("wrong", prediction(1)), ("right", reference(2))):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.0, 0.5, 2.0))
        image.SetOrigin((3.0, -4.0, 5.5))
        image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
        sitk.WriteImage(image, folder / f"{name}.nii.gz")
    return folder


def test_chosen_steps_are_applied_and_the_grid_stays(found, predictions):
    assert found.apply(predictions) == 0
    before, after = (sitk.ReadImage(f / "wrong.nii.gz") for f in (predictions, found.applied))
    assert before.GetPixelID() == after.GetPixelID()
    for method in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert getattr(before, method)() == getattr(after, method)()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), reference(1))
    right = (predictions / "right.nii.gz").read_bytes()
    assert (found.applied / "right.nii.gz").read_bytes() == right


def test_the_record_says_what_was_changed(found, predictions, capsys):
    assert found.apply(predictions) == 0
    record = json.loads((found.applied / "postprocessed.json").read_text())
    assert record["cases"]["wrong.nii.gz"]["changes"] == {
        "1": {"added": 0, "removed": 12},
        "2": {"added": 3, "removed": 0},
    }
    assert record["steps"] == {"1": {"remove_below": 10.0}, "2": {"fill_holes": 10.0}}
    printed = capsys.readouterr().out
    assert "0 voxels added and 12 removed, in 1 of 2 cases" in printed


def test_a_result_does_not_outlive_its_prediction(found, predictions, capsys):
    assert found.apply(predictions) == 0
    (predictions / "wrong.nii.gz").write_bytes(b"damaged")
    (predictions / "right.nii.gz").rename(predictions / "renamed.nii.gz")
    assert found.apply(predictions) == 1
    assert not (found.applied / "wrong.nii.gz").exists()
    record = json.loads((found.applied / "postprocessed.json").read_text())
    assert sorted(record["cases"]) == ["renamed.nii.gz", "right.nii.gz"]
    told = f"whose cases are not in {predictions} now: right.nii.gz\n"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.uint16])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_the_data_type_stays(found, predictions, kind, ending):
    for file in predictions.iterdir():
        file.unlink()
    image = sitk.GetImageFromArray(prediction(1).astype(kind))
    image.SetSpacing((1.0, 0.5, 2.0))
    sitk.WriteImage(image, predictions / f"case{ending}")
    assert found.apply(predictions) == 0
    written = sitk.ReadImage(found.applied / f"case{ending}")
    assert written.GetPixelID() == image.GetPixelID()
    assert written.GetSpacing() == image.GetSpacing()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), reference(1))


def test_a_case_is_not_done_twice_and_new_steps_replace_it(found, predictions, capsys):
    assert found.apply(predictions) == 0
    assert found.apply(predictions) == 0
    assert "2 cases written, 0 of them now" in capsys.readouterr().out
    content = found.result()
    content["labels"][0]["steps"] = {}
    (found.out / "postprocessing.json").write_text(json.dumps(content))
    assert found.apply(predictions) == 0
    assert (read(found.applied / "wrong.nii.gz") == 1).sum() == (prediction(1) == 1).sum()


def test_files_of_others_are_not_replaced(found, predictions, capsys):
    found.applied.mkdir()
    (found.applied / "wrong.nii.gz").write_bytes(b"mine")
    assert found.apply(predictions) == 2
    assert "was not written by nnunet-topo postprocess apply" in capsys.readouterr().err
    assert (found.applied / "wrong.nii.gz").read_bytes() == b"mine"
    shutil.rmtree(found.applied)
    assert found.apply(predictions) == 0
    (found.applied / "right.nii.gz").write_bytes(b"edited")
    assert found.apply(predictions) == 2
    assert (found.applied / "right.nii.gz").read_bytes() == b"edited"
    (found.applied / "postprocessed.json").write_text("{}")
    assert found.apply(predictions) == 2


def test_a_bad_case_is_reported_and_the_others_are_written(found, predictions, capsys):
    (predictions / "broken.nii.gz").write_bytes(b"not an image")
    several = np.stack([prediction(1), prediction(2)])
    nibabel.save(nibabel.Nifti1Image(several.T, np.eye(4)), predictions / "four.nii.gz")
    unknown = prediction(1)
    unknown[0, 0, 0] = 7
    sitk.WriteImage(sitk.GetImageFromArray(unknown), predictions / "unknown.nii.gz")
    flat = sitk.GetImageFromArray(prediction(1)[4])
    sitk.WriteImage(flat, predictions / "flat.nii.gz")
    assert found.apply(predictions) == 1
    printed = capsys.readouterr().err
    for message in (
        "broken.nii.gz: not written, ",
        "four.nii.gz: not written, it has shape",
        f"unknown.nii.gz: not written, it holds 7, which {DATASET} does not have (0-2)",
        "flat.nii.gz: not written, the steps were chosen on a volume, but the shape of this is",
    ):
        assert message in printed
    written = sorted(f.name for f in found.applied.glob("*.nii.gz"))
    assert written == ["right.nii.gz", "wrong.nii.gz"]
    assert not list(found.applied.glob(".nnunet-topo*"))


def test_nothing_written_is_an_error(found, predictions):
    for file in predictions.iterdir():
        file.write_bytes(b"not an image")
    assert found.apply(predictions) == 2


def test_predictions_of_another_data_set_are_refused(found, predictions, capsys):
    shutil.copy(found.model / "dataset.json", predictions)
    plans = json.loads((found.model / "plans.json").read_text())
    (predictions / "plans.json").write_text(json.dumps(plans))
    assert found.apply(predictions) == 0
    assert (found.applied / "plans.json").is_file()
    (predictions / "plans.json").write_text(json.dumps(plans | {"dataset_name": "Dataset777_X"}))
    assert found.apply(predictions) == 2
    assert f"is of {DATASET}, the predictions are of Dataset777_X" in capsys.readouterr().err
    (predictions / "plans.json").unlink()
    content = json.loads((predictions / "dataset.json").read_text())
    content["labels"] = {"background": 0, "liver": 1}
    (predictions / "dataset.json").write_text(json.dumps(content))
    assert found.apply(predictions) == 2
    assert "has the labels 1, 2," in capsys.readouterr().err


def test_wrong_folders_are_named(found, predictions, capsys):
    empty = found.folder / "empty"
    empty.mkdir()
    assert found.apply(empty) == 2
    assert "holds no prediction that ends in .nii.gz" in capsys.readouterr().err
    assert found.apply(found.folder / "nowhere") == 2
    assert "is not a folder" in capsys.readouterr().err
    found.applied = predictions
    assert found.apply(predictions) == 2
    assert "wanted another folder than that of the predictions" in capsys.readouterr().err
    found.applied, found.out = found.folder / "applied", empty
    assert found.apply(predictions) == 2
    assert "holds no postprocessing.json" in capsys.readouterr().err


def test_an_edited_result_is_checked(found, predictions, capsys):
    file = found.out / "postprocessing.json"
    content = found.result()
    content["labels"][0]["label"] = 5
    file.write_text(json.dumps(content))
    assert found.apply(predictions) == 2
    assert "label 5 is not one of 1, 2" in capsys.readouterr().err
    del content["all_labels"]
    file.write_text(json.dumps(content))
    assert found.apply(predictions) == 2
    assert "is incomplete: KeyError: 'all_labels'" in capsys.readouterr().err
    file.write_text('{"written_by": "someone"}')
    assert found.apply(predictions) == 2
    assert "was not written by nnunet-topo postprocess find" in capsys.readouterr().err


def test_a_threshold_needs_probabilities_of_this_prediction(found, predictions, capsys):
    content = found.result()
    content["labels"][0]["steps"] = {"threshold": 0.3}
    (found.out / "postprocessing.json").write_text(json.dumps(content))
    (predictions / "right.nii.gz").unlink()
    assert found.apply(predictions) == 2
    assert "needs wrong.npz: predict with --save_probabilities" in capsys.readouterr().err
    np.savez(predictions / "wrong.npz", probabilities=np.zeros((2, 9, 24, 26)))
    assert found.apply(predictions) == 2
    assert "wanted 3 channels of the shape (9, 24, 26)" in capsys.readouterr().err
    probabilities = np.stack([prediction(1) == label for label in range(3)]) * 0.9
    np.savez(predictions / "wrong.npz", probabilities=probabilities[:, :, :, ::-1])
    assert found.apply(predictions) == 2
    assert "are they of another prediction" in capsys.readouterr().err
    probabilities[1, 0, 23] = 0.35
    np.savez(predictions / "wrong.npz", probabilities=probabilities)
    assert found.apply(predictions) == 0
    assert (read(found.applied / "wrong.nii.gz")[0, 23] == 1).all()


def test_probabilities_lie_where_the_reader_of_the_plans_puts_them(found, tmp_path):
    content = found.result()
    content["labels"][0]["steps"] = {"threshold": 0.3}
    (found.out / "postprocessing.json").write_text(json.dumps(content))
    folder = tmp_path / "turned"
    folder.mkdir()
    (folder / "plans.json").write_text('{"image_reader_writer": "NibabelIOWithReorient"}')
    affine = np.diag([-2.0, -0.5, 1.0, 1.0])
    nibabel.Nifti1Image(prediction(1).T, affine).to_filename(folder / "case.nii.gz")
    probabilities = np.stack([prediction(1) == label for label in range(3)]) * 0.9
    probabilities[1, 0, 23, :5] = 0.35
    np.savez(folder / "case.npz", probabilities=probabilities[:, :, ::-1, ::-1])
    assert found.apply(folder) == 0
    added = (read(found.applied / "case.nii.gz") == 1) & (prediction(1) == 0)
    assert np.argwhere(added).tolist() == [[0, 23, x] for x in range(5)]


def test_endings_in_upper_case_are_endings_and_others_are_told(found, predictions, capsys):
    (predictions / "right.nii.gz").rename(predictions / "right.NII.GZ")
    sitk.WriteImage(sitk.GetImageFromArray(prediction(0)), predictions / "other.nrrd")
    assert found.apply(predictions) == 1
    assert "other.nrrd: left out, its name does not end in .nii.gz" in capsys.readouterr().err
    names = {file.name for file in found.applied.iterdir()}
    assert {"wrong.nii.gz", "right.NII.GZ"} <= names


def test_two_processes_write_what_one_does(found, predictions):
    assert found.apply(predictions, "-np", "2") == 0
    np.testing.assert_array_equal(read(found.applied / "wrong.nii.gz"), reference(1))


class Killed(BaseException):
    """Ends a process wherever it is."""


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_killed_while_it_writes_is_finished_by_the_next(
    found, predictions, monkeypatch, earlier
):
    if earlier:
        assert found.apply(predictions) == 0
        shutil.copy(predictions / "wrong.nii.gz", predictions / "right.nii.gz")
    replace = Path.replace

    def killed(file, target):
        if Path(target) == found.applied / "right.nii.gz":
            raise Killed
        return replace(file, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            found.apply(predictions)
    assert found.apply(predictions) == 0
    wanted = reference(1 if earlier else 2)
    np.testing.assert_array_equal(read(found.applied / "right.nii.gz"), wanted)
    assert not list(found.applied.glob(".nnunet-topo*"))


def test_a_header_with_two_spacings_is_told_each_time(found, predictions, capsys):
    file = predictions / "wrong.nii.gz"
    content = bytearray(gzip.decompress(file.read_bytes()))
    struct.pack_into("<3f", content, 80, 3, 1, 1)  # pixdim
    file.write_bytes(gzip.compress(content))
    for _ in range(2):
        assert found.apply(predictions) == 1
        told = capsys.readouterr()
        assert "wrong.nii.gz: its header has spacing 3 x 1 x 1 mm (x, y, z) in pixdim" in told.err
        assert "in 1 of 2 cases" in told.out
        assert (found.applied / file.name).exists()


def test_steps_are_done_again_with_other_probabilities(found, predictions):
    content = found.result()
    content["labels"][0]["steps"] = {"threshold": 0.3}
    (found.out / "postprocessing.json").write_text(json.dumps(content))
    (predictions / "right.nii.gz").unlink()
    probabilities = np.stack([prediction(1) == label for label in range(3)]) * 0.9
    for lower in (0.0, 0.35):
        probabilities[1, 0, 23] = lower
        np.savez(predictions / "wrong.npz", probabilities=probabilities)
        assert found.apply(predictions) == 0
        assert (read(found.applied / "wrong.nii.gz")[0, 23] == 1).all() == bool(lower)


def test_what_another_version_has_written_is_done_again(found, predictions, monkeypatch, capsys):
    assert found.apply(predictions) == 0
    monkeypatch.setattr(nnunet_topo, "__version__", "9.9")
    capsys.readouterr()
    assert found.apply(predictions) == 0
    assert "2 cases" in capsys.readouterr().out
