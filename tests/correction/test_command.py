"""The command: files, their record, and what must not happen to them."""

import argparse
import csv
import gzip
import json
import shutil
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from skimage import io

from nnunet_topo.cli import main
from nnunet_topo.commands import correct
from nnunet_topo.correction.correct import REVIEW_MM

from .folders import SPACING, organ, with_island


def test_a_case_that_is_right_is_copied_byte_for_byte(folders, capsys):
    folders.put("right", organ())
    assert folders.correct() == 0
    file = "right.nii.gz"
    assert (folders.out / file).read_bytes() == (folders.predictions / file).read_bytes()
    assert folders.case("right")["status"] == "unchanged"
    assert "organ: topology right in 1 of 1 case before, in 1 after" in capsys.readouterr().out


def test_a_result_does_not_outlive_its_prediction(folders, capsys):
    for case in ("damaged", "gone", "kept"):
        folders.put(case, with_island())
    assert folders.correct() == 0
    (folders.predictions / "damaged.nii.gz").write_bytes(b"damaged")
    (folders.predictions / "gone.nii.gz").unlink()
    assert folders.correct() == 1
    assert not (folders.out / "damaged.nii.gz").exists()
    assert folders.case("damaged")["status"] == "failed"
    told = f"whose cases are not in {folders.predictions} now: gone\n"
    assert told in capsys.readouterr().out


def test_labels_that_dataset_json_does_not_have_are_refused(folders):
    array = with_island()
    array[0, 0, 0] = 7
    folders.put("foreign", array)
    assert folders.correct() == 2
    told = "holds 7, which dataset.json does not have (0-2)"
    assert folders.case("foreign")["reason"].endswith(told)


def test_the_record_says_what_was_done_in_voxels_and_mm(folders, capsys):
    folders.put("island", with_island())
    assert folders.correct() == 0
    case = folders.case("island")
    row = case["topology"][0]
    assert (folders.written("island") == organ()).all()
    assert case["status"] == "corrected"
    assert not case["needs_review"]
    assert case["unit"] == "mm"
    assert case["voxels_changed"] == row["voxels_changed"] == 1
    assert row["mm3_changed"] == pytest.approx(np.prod(SPACING))
    assert row["largest_change_mm"] == pytest.approx(min(SPACING))
    assert (row["label"], row["wanted"]) == ("organ", ["1", "0", "0"])
    assert (row["before"], row["after"]) == ([2, 0, 0], [1, 0, 0])
    assert (row["was_right"], row["is_right"], row["note"]) == (False, True, "")
    printed = capsys.readouterr().out
    assert "organ (2, 0, 0) -> (1, 0, 0), 1 voxel (1.5 mm3) up to 0.5 mm" in printed
    assert "1 case: 1 corrected" in printed


def test_a_case_without_a_prior_of_its_kind_is_told(folders, capsys):
    folders.topology("slices", organ=[1, 0])
    content = json.loads(folders.prior.read_text())
    content["priors"]["full"]["volumes"] = {"organ": "none", "tumour": "none"}
    folders.prior.write_text(json.dumps(content))
    folders.put("slice", with_island()[4:5])
    assert folders.correct() == 0
    folders.put("volume", with_island())
    assert folders.correct() == 1
    told = "volume: failed, no label has a prior for volumes, whose slices are not corrected"
    printed = capsys.readouterr().err
    assert told in printed
    assert "priors > full > volumes" in printed
    assert folders.case("slice")["status"] in ("unchanged", "corrected")
    assert not (folders.out / "volume.nii.gz").exists()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_geometry_header_and_type_are_kept(folders, kind):
    folders.put("case", with_island().astype(kind), descrip=b"from a scanner")
    assert folders.correct() == 0
    before, after = (nibabel.load(f / "case.nii.gz") for f in (folders.predictions, folders.out))
    assert after.get_data_dtype() == before.get_data_dtype() == kind
    assert np.array_equal(after.affine, before.affine)
    assert after.header["descrip"] == before.header["descrip"]
    assert np.array_equal(np.asarray(after.dataobj).T, organ())


def test_a_format_of_slicer_keeps_its_type_and_geometry(folders):
    folders.describe(ending=".nrrd")
    image = sitk.GetImageFromArray(with_island().astype(np.int16))
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin((3, 4, 5))
    sitk.WriteImage(image, folders.predictions / "case.nrrd")
    assert folders.correct() == 0
    after = sitk.ReadImage(folders.out / "case.nrrd")
    assert after.GetPixelID() == image.GetPixelID()
    assert after.GetSpacing() == image.GetSpacing()
    assert after.GetOrigin() == image.GetOrigin()
    assert (sitk.GetArrayFromImage(after) == organ()).all()


def test_images_are_corrected_by_the_priors_of_slices(folders):
    folders.describe({"background": 0, "ring": 1}, ".png")
    folders.topology("slices", ring=[1, 1])
    image = np.zeros((18, 21), np.uint8)
    image[3:14, 4:16] = 1
    image[6:11, 7:13] = 0
    image[8, 4:7] = 0  # broken
    folders.put_image("case", image)
    assert folders.correct() == 0
    after = io.imread(folders.out / "case.png")
    assert after.dtype == np.uint8
    assert np.argwhere(after != image)[:, 0].tolist() == [8]
    assert folders.case("case")["unit"] == "pixels"


def test_a_volume_of_one_slice_is_an_image(folders):
    folders.topology("slices", organ=[1, 0])
    array = np.zeros((1, 12, 14), np.uint8)
    array[0, 2:7, 3:9] = 1
    array[0, 10, 12] = 1
    for axis, case in enumerate("abc"):
        folders.put(case, np.moveaxis(array, 0, axis), spacing=np.roll(SPACING, axis))
    assert folders.correct() == 0
    for axis, case in enumerate("abc"):
        assert folders.case(case)["voxels_changed"] == 1
        assert np.moveaxis(folders.written(case), axis, 0)[0, 10, 12] == 0


def test_a_label_beyond_the_type_of_the_file_is_written_as_it_is(folders):
    names = {"background": 0, **{f"part {label}": label for label in range(1, 261)}}
    folders.describe(names)
    folders.topology(**{"part 260": [1, 0, 0]})
    array = (organ() == 1).astype(np.uint8)
    channels = np.full((261, *array.shape), 1e-4, np.float32)
    channels[0], channels[1] = np.where(array == 0, 0.97, 0.02), np.where(array == 1, 0.95, 0.02)
    channels[0, 8, 9, 10], channels[260, 8, 9, 10] = 0.55, 0.4
    folders.put("case", array)
    folders.probabilities("case", channels)
    assert folders.correct("--probabilities") == 0
    assert np.argwhere(folders.written("case") == 260).tolist() == [[8, 9, 10]]
    assert set(np.unique(folders.written("case"))) == {0, 1, 260}


def test_regions_are_corrected_by_their_own_channels(folders):
    folders.describe({"background": 0, "whole": [1, 2], "core": [2]}, regions_class_order=[1, 2])
    folders.topology(whole=[1, 0, 0], core=[1, 0, 0])
    array = organ()
    array[3:6, 4:7, 4:7] = 2
    array[2:4, 9:11, 10:13] = 0
    array[4, 5, 5] = 1  # a cavity of the core
    channels = np.stack([array > 0, array == 2]) * np.float32(0.9) + np.float32(0.05)
    channels[1, 4, 5, 5] = 0.3  # less certain than the wall around it
    folders.put("case", array)
    folders.probabilities("case", channels)
    assert folders.correct("--probabilities") == 0
    rows = {row["label"]: row for row in folders.case("case")["topology"]}
    assert rows["whole"]["voxels_changed"] == 0
    assert rows["core"]["after"] == [1, 0, 0]
    assert np.argwhere(folders.written("case") != array).tolist() == [[4, 5, 5]]


def test_a_far_change_and_a_label_out_of_nothing_mark_the_case_for_review(folders, capsys):
    array = organ()
    array[3:7, 3:8, 3:9] = 0
    array[9] = 1  # larger than the rest, which is removed
    folders.put("case", array)
    assert folders.correct("--review-distance", "0.4") == 0
    assert folders.case("case")["needs_review"]
    assert "to be reviewed, with a change further than 0.4 mm" in capsys.readouterr().out
    shutil.rmtree(folders.out)
    channels = np.full((3, *array.shape), 0.01, np.float32)
    channels[0], channels[1, 4, 4, 4] = 0.98, 0.2
    folders.put("case", np.zeros_like(array))
    folders.probabilities("case", channels)
    assert folders.correct("--probabilities") == 0
    case = folders.case("case")
    assert case["needs_review"]
    assert case["topology"][0]["largest_change_mm"] is None
    assert np.argwhere(folders.written("case")).tolist() == [[4, 4, 4]]


def test_one_bad_case_does_not_cost_the_others(folders, capsys):
    folders.put("bad", with_island())
    (folders.predictions / "bad.nii.gz").write_bytes(b"not an image")
    folders.put("fine", with_island())
    assert folders.correct() == 1
    assert folders.case("bad")["status"] == "failed"
    assert folders.case("fine")["status"] == "corrected"
    assert not (folders.out / "bad.nii.gz").exists()
    assert "bad: failed, " in capsys.readouterr().err
    folders.put("bad", organ())
    assert folders.correct() == 0
    assert "1 case was done now" in capsys.readouterr().out


def test_endings_in_upper_case_are_endings(folders):
    folders.put("a", with_island())
    folders.put("b", with_island())
    (folders.predictions / "b.nii.gz").rename(folders.predictions / "b.NII.GZ")
    assert folders.correct() == 0
    written = nibabel.load(folders.out / "b.NII.GZ")
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, organ())
    assert (folders.written("a") == organ()).all()


def test_segmentations_that_are_left_out_are_told(folders, capsys):
    folders.put("a", with_island())
    for other in ("b.nrrd", "a.nrrd", "a.NII.GZ"):  # the second is a copy
        sitk.WriteImage(sitk.GetImageFromArray(organ()), folders.predictions / "x.nrrd")
        (folders.predictions / "x.nrrd").rename(folders.predictions / other)
    (folders.predictions / "notes.txt").write_text("of a user")
    assert folders.correct() == 1
    told = capsys.readouterr().err
    assert "b.nrrd: left out, its name does not end in .nii.gz" in told
    assert "a.NII.GZ: left out, a.nii.gz is of the same case" in told
    assert "a.nrrd" not in told
    assert "notes.txt" not in told
    assert list(folders.record()["cases"]) == ["a"]


def test_what_cannot_be_reached_is_left_named_and_counted(folders, capsys):
    folders.put("empty", np.zeros_like(organ()))
    assert folders.correct() == 1
    row = folders.case("empty")["topology"][0]
    assert row["note"] == "nothing in the prediction shows where it is"
    assert folders.case("empty")["status"] == "not corrected"
    printed = capsys.readouterr()
    assert "in 0 after; 1 not: nothing in the prediction" in printed.out
    assert "empty: not corrected: organ (0, 0, 0), nothing in the prediction" in printed.err
    assert folders.correct() == 1  # the record is not a success the second time either


def test_finished_cases_are_not_computed_again(folders, capsys):
    folders.put("a", with_island())
    folders.put("b", organ())
    assert folders.correct() == 0
    before = (folders.out / "a.nii.gz").stat().st_mtime_ns
    assert folders.correct() == 0
    assert "0 cases were done now" in capsys.readouterr().out
    assert (folders.out / "a.nii.gz").stat().st_mtime_ns == before
    folders.put("b", with_island())
    assert folders.correct() == 0
    assert "1 case was done now" in capsys.readouterr().out


def test_files_of_others_are_never_overwritten(folders, capsys):
    folders.put("case", with_island())
    folders.out.mkdir()
    foreign = folders.out / "case.nii.gz"
    foreign.write_bytes(b"precious")
    assert folders.correct() == 2
    assert foreign.read_bytes() == b"precious"
    assert "was not written by nnunet-topo correct" in capsys.readouterr().err
    foreign.unlink()
    assert folders.correct() == 0
    foreign.write_bytes(b"edited by hand")
    assert folders.correct() == 2
    assert foreign.read_bytes() == b"edited by hand"


def test_other_settings_need_another_folder(folders, capsys):
    folders.put("case", with_island())
    assert folders.correct() == 0
    assert folders.correct("--connectivity", "face") == 2
    capsys.readouterr()
    folders.topology(organ=[2, 0, 0])
    assert folders.correct() == 2
    assert "was written with other settings (prior: " in capsys.readouterr().err
    assert (folders.written("case") == organ()).all()


def test_several_processes_correct_the_same(folders):
    for case in "abc":
        folders.put(case, with_island())
    assert folders.correct("-np", "2") == 0
    assert all((folders.written(case) == organ()).all() for case in "abc")
    assert sorted(f.name for f in folders.out.iterdir()) == [
        "a.nii.gz",
        "b.nii.gz",
        "c.nii.gz",
        "correction.json",
        "dataset.json",
    ]


def test_plans_of_other_files_are_told(folders, capsys):
    folders.put("case", with_island())
    plans = folders.predictions / "plans.json"
    plans.write_text('{"image_reader_writer": "NaturalImage2DIO"}')
    assert folders.correct() == 2
    assert "are these the plans of another data set?" in capsys.readouterr().err


def test_wrong_folders_and_priors_are_told(folders, capsys):
    assert folders.correct() == 2
    assert "holds no segmentation that ends in .nii.gz" in capsys.readouterr().err
    folders.put("case", with_island())
    arguments = ["correct", "-i", str(folders.predictions), "--prior", str(folders.prior), "-o"]
    assert main([*arguments, str(folders.predictions)]) == 2
    assert "wanted another folder" in capsys.readouterr().err
    assert folders.correct("--review-distance", "-1") == 2
    assert "--review-distance" in capsys.readouterr().err
    assert main([*arguments[:3], "--prior", "gone.json", "-o", "out"]) == 2
    assert "no file gone.json; nnunet-topo plan writes topology.json" in capsys.readouterr().err
    folders.topology(organ="none")
    assert folders.correct() == 2
    assert "no label has a prior at full connectivity" in capsys.readouterr().err
    folders.topology(liver=[1, 0, 0])
    assert folders.correct() == 2
    assert "wanted one of organ, tumour" in capsys.readouterr().err
    folders.topology("slices", organ=[1, 0])
    assert folders.correct() == 2
    assert "volumes: missing" in capsys.readouterr().err
    (folders.predictions / "dataset.json").unlink()
    assert folders.correct() == 2
    assert "give -djfile" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            {"labels": {"organ": 1}},
            "nnU-Net does not accept the labels of {}: RuntimeError: Backgro",
        ),
        ({"labels": {"0": "background", "1": "organ"}}, "nnU-Net does not accept the labels of {}"),
        (
            {"labels": {"background": 0, "organ": [1, 2]}},
            "nnU-Net does not accept the labels of {}",
        ),
        ({"labels": ["background", "organ"]}, "{}: labels must be names with values"),
        ({"labels": {"background": 0, "organ": None}}, "nnU-Net does not accept the labels of {}"),
        ({"file_ending": None}, "{}: file_ending must be text"),
    ],
)
def test_a_wrong_dataset_json_is_told_by_name(folders, wrong, told, capsys):
    folders.put("case", with_island())
    file = folders.predictions / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    assert folders.correct() == 2
    assert told.format(file) in capsys.readouterr().err


def test_dataset_json_is_found_above_a_validation_folder(folders):
    validation = folders.folder / "model/fold_0/validation"
    validation.mkdir(parents=True)
    folders.put("case", with_island())
    shutil.move(folders.predictions / "case.nii.gz", validation)
    shutil.move(folders.predictions / "dataset.json", folders.folder / "model")
    folders.predictions = validation
    assert folders.correct() == 0
    assert json.loads((folders.out / "dataset.json").read_text())["file_ending"] == ".nii.gz"


def test_error_maps_show_where_something_was_corrected(folders, capsys):
    folders.put("right", organ())
    folders.put("island", with_island())
    assert folders.correct("--error-maps") == 0
    assert "1 corrected error: " in capsys.readouterr().out
    maps = folders.out / "changes_errors"
    (row,) = csv.DictReader((maps / "errors.csv").open())
    assert (row["case"], row["kind"]) == ("island.nii.gz", "false component")
    marked = sitk.GetArrayFromImage(sitk.ReadImage(maps / "island.nii.gz"))
    np.testing.assert_array_equal(marked > 0, with_island() != organ())
    written = (maps / "island.nii.gz").stat().st_mtime_ns
    assert folders.correct("--error-maps") == 0
    assert (maps / "island.nii.gz").stat().st_mtime_ns == written
    assert folders.correct() == 0


def test_error_maps_of_others_are_left_before_anything_is_computed(folders, capsys):
    folders.put("island", with_island())
    (folders.out / "changes_errors").mkdir(parents=True)
    (folders.out / "changes_errors" / "island.nii.gz").write_text("mine")
    assert folders.correct("--error-maps") == 2
    assert "changes_errors was not written by" in capsys.readouterr().err
    assert not (folders.out / "correction.json").exists()


def test_a_case_is_done_again_with_another_spacing_beside_it(folders):
    folders.describe(ending=".tif", overwrite_image_reader_writer="Tiff3DIO")
    tifffile.imwrite(folders.predictions / "case.tif", with_island())
    assert folders.correct() == 0
    assert not (folders.out / "case.json").exists()
    assert folders.case("case")["unit"] == "voxels"
    for spacing in ([5.0, 1.0, 1.0], [2.0, 1.0, 1.0]):
        (folders.predictions / "case.json").write_text(json.dumps({"spacing": spacing}))
        assert folders.correct() == 0
        assert json.loads((folders.out / "case.json").read_text()) == {"spacing": spacing}
        assert folders.case("case")["unit"] == "mm"
        (changes,) = folders.case("case")["topology"]
        assert changes["mm3_changed"] == spacing[0]


def test_a_header_with_two_spacings_is_told(folders, capsys):
    folders.put("island", with_island())
    file = folders.predictions / "island.nii.gz"
    content = bytearray(gzip.decompress(file.read_bytes()))
    struct.pack_into("<3f", content, 80, 3, 1, 1)  # pixdim
    file.write_bytes(gzip.compress(content))
    assert folders.correct() == 0
    told = (
        "island: corrected, its header has spacing 3 x 1 x 1 mm (x, y, z) in pixdim and 1.5 x 0.5"
    )
    assert told in capsys.readouterr().out
    assert folders.case("island")["topology"][0]["mm3_changed"] == pytest.approx(3)


def test_the_area_of_a_slice_leaves_out_its_thickness(folders):
    folders.topology("slices", organ=[1, 0])
    array = np.zeros((1, 12, 14), np.uint8)
    array[0, 2:7, 3:9] = array[0, 10, 12] = 1
    folders.put("slice", array, spacing=(7.0, 0.5, 2.0))
    assert folders.correct() == 0
    assert folders.case("slice")["mm3_changed"] == pytest.approx(0.5 * 2.0)


def test_a_change_of_5_mm_is_reviewed_by_default():
    parser = argparse.ArgumentParser()
    correct.add_arguments(parser)
    chosen = parser.parse_args(["-i", "a", "-o", "b", "--prior", "c"])
    assert chosen.review_distance == REVIEW_MM == 5.0
