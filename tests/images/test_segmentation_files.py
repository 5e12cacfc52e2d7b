"""Segmentations as people have them: formats, channels, headers, values, names."""

import gzip
import json
import re
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image
from skimage import io

from nnunet_topo.cli import main
from nnunet_topo.files import data_files
from nnunet_topo.metrics import compute

SPACING = (2.0, 0.5, 1.5)  # z, y, x


def tube():
    """Returns a tube of label 1 beside a block of label 2, all sides different."""
    array = np.zeros((12, 14, 16), np.uint8)
    array[2:10, 4:9, 5:9] = 1
    array[2:4, 10:13, 10:14] = 2
    return array


def broken():
    array = tube()
    array[5] = 0
    return array


def image_of(array, spacing=SPACING):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1][: array.ndim])
    return image


def nifti(array, affine=None):
    """Returns an image of nibabel's that SimpleITK reads as an array `[z, y, x]`."""
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1]) if affine is None else affine
    return nibabel.Nifti1Image(array.T, affine)


class Folders:
    def __init__(self, folder):
        self.folder = folder
        self.gt, self.pred = folder / "gt", folder / "pred"
        self.gt.mkdir()
        self.pred.mkdir()

    def put(self, reference=None, prediction=None, name="case", ending=".nii.gz"):
        """Writes arrays through SimpleITK, images of nibabel's as they are."""
        for folder, what in ((self.gt, reference), (self.pred, prediction)):
            if isinstance(what, np.ndarray):
                what = image_of(what)
            if isinstance(what, sitk.Image):
                sitk.WriteImage(what, folder / f"{name}{ending}")
            elif what is not None:
                nibabel.save(what, folder / f"{name}{ending}")

    def evaluate(self, *more, gt=None, pred=None):
        self.summary = (pred or self.pred) / "summary.json"
        return main(["evaluate", str(gt or self.gt), str(pred or self.pred), *more, "-np", "1"])

    def describe(self, labels, **more):
        """Returns options for a dataset.json with these labels."""
        file = self.folder / "dataset.json"
        content = {"channel_names": {"0": "x"}, "labels": labels, "file_ending": ".nii.gz"}
        file.write_text(json.dumps(content | more))
        return "-djfile", str(file)

    def plans(self, reader="SimpleITKIO"):
        """Returns options for plans with a reader."""
        file = self.folder / "plans.json"
        plans = {"dataset_name": "Dataset902_X", "plans_name": "p", "configurations": {}}
        file.write_text(json.dumps(plans | {"image_reader_writer": reader}))
        return "-pfile", str(file)

    def read(self):
        return json.loads(self.summary.read_text())

    def metrics(self, label="1", case=0):
        return self.read()["metric_per_case"][case]["metrics"][label]


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


def assert_equal(found, expected):
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-5, nan_ok=True), key


BROKEN = compute(broken() == 1, tube() == 1, spacing_mm=SPACING)


# -- without dataset.json and plans ------------------------------------------------------------


def test_two_folders_are_enough(folders, capsys):
    folders.put(tube(), broken())
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), BROKEN)
    assert list(folders.read()["mean"]) == ["1", "2"]
    told = capsys.readouterr().out.splitlines()
    assert told[0] == (
        "label 1: Dice 0.9333, Betti error 1, Betti matching error 1, right in 0% of cases, "
        f"clDice {BROKEN['topo_cldice']:.4f}, HD95 {BROKEN['topo_hd95_mm']:.3g} mm"
    )
    assert told[1].startswith("label 2: Dice 1.0000, Betti error 0")
    assert told[2].startswith("foreground mean: Dice 0.9667, Betti error 0.5")


def test_two_files_are_enough_and_nothing_is_written_beside_them(folders, capsys):
    folders.put(tube(), broken())
    files = folders.gt / "case.nii.gz", folders.pred / "case.nii.gz"
    assert folders.evaluate(gt=files[0], pred=files[1]) == 0
    assert "label 1: Dice 0.9333" in capsys.readouterr().out
    assert [file.name for file in folders.pred.iterdir()] == ["case.nii.gz"]
    output = folders.folder / "one.json"
    assert folders.evaluate("-o", str(output), gt=files[0], pred=files[1]) == 0
    assert json.loads(output.read_text())["mean"]["1"]["topo_betti_error"] == 1
    folders.put(tube(), tube(), "other")
    assert folders.evaluate(gt=files[0]) == 0  # of a folder that of the same case
    assert len(folders.read()["metric_per_case"]) == 1


def test_labels_are_chosen_by_value_and_name_and_joined_in_groups(folders, capsys):
    names = folders.folder / "names.csv"
    names.write_text("label,name\n1,vessel\n2,organ\n9,spleen\n")
    folders.put(tube(), broken())
    assert folders.evaluate("-l", "1") == 0
    assert list(folders.read()["mean"]) == ["1"]
    named = ("--labels", str(names))
    assert folders.evaluate(*named, "-l", "organ", "spleen", "--group", "both=vessel,2") == 0
    content = folders.read()
    assert list(content["mean"]) == ["(1, 2)", "2", "9"]
    assert content["nnunet_topo"]["label_names"] == {"(1, 2)": "both", "2": "organ", "9": "spleen"}
    expected = compute(broken() > 0, tube() > 0, spacing_mm=SPACING)
    assert_equal(folders.metrics("(1, 2)"), expected)
    told = capsys.readouterr().out
    assert "label 2 (organ): Dice 1.0000" in told
    assert "label 9 (spleen): in no reference and no prediction\n" in told
    assert "both (labels 1, 2): Dice" in told
    assert folders.evaluate("-l", "--group", "both=1-2") == 0
    assert list(folders.read()["mean"]) == ["(1, 2)"]


def test_labels_are_listed_as_numbers(folders, capsys):
    array = np.zeros((5, 6, 30), np.uint8)
    for label in range(1, 13):
        array[2, 2:4, 2 * label] = label
    folders.put(array, array)
    names = {f"l{label}": label for label in (12, 3, 1, *range(4, 12), 2)}
    for more in ((), folders.describe({"background": 0} | names)):
        assert folders.evaluate(*more) == 0
        told = re.findall(r"^label (\d+)", capsys.readouterr().out, re.MULTILINE)
        assert told == [str(label) for label in range(1, 13)]


def test_a_mean_that_leaves_cases_out_says_how_many(folders, capsys):
    folders.put(tube(), broken())
    for name in ("missed", "missed_too"):
        folders.put(tube(), np.where(tube() == 1, 1, 0).astype(np.uint8), name)
    assert folders.evaluate() == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("label 2: Dice 0.3333")
    assert told[1].endswith("HD95 0 mm (2 cases undefined)")


def test_a_label_that_no_prediction_and_no_reference_has_is_in_one_line(folders, capsys):
    folders.put(tube(), broken())
    assert folders.evaluate(*folders.describe({"background": 0, "a": 1, "b": 2, "c": 7})) == 0
    told = capsys.readouterr().out
    assert "label 7 (c): in no reference and no prediction\n" in told
    assert "nan" not in told
    # Nothing was right or wrong in it: the mean is that of the two others.
    assert "foreground mean: Dice 0.9667, Betti error 0.5, " in told


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".seg.nrrd", ".mha", ".NII.GZ"])
def test_predictions_in_another_format_are_paired_by_the_name_of_the_case(folders, ending):
    folders.put(tube())
    written = ending.lower() if ending.isupper() else ending
    folders.put(None, broken(), ending=written)
    (folders.pred / f"case{written}").rename(folders.pred / f"case{ending}")
    (folders.pred / "preview.png").write_bytes(b"no prediction")
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), BROKEN)
    assert folders.evaluate(*folders.describe({"background": 0, "a": 1, "b": 2})) == 0


def test_dataset_json_alone_takes_the_reader_that_the_ending_says(folders):
    folders.put(tube(), broken())
    described = folders.describe({"background": 0, "a": 1, "b": 2})
    assert folders.evaluate(*described) == 0
    before = folders.read()
    folders.summary.unlink()
    assert folders.evaluate(*described, *folders.plans()) == 0
    assert folders.read() == before


def test_plans_that_do_not_fit_are_named_with_the_reason(folders, capsys):
    folders.put(tube(), broken())
    described = folders.describe({"background": 0, "a": 1})
    plans = folders.plans("NaturalImage2DIO")
    assert folders.evaluate(*described, *plans) == 2
    assert (
        "plans.json names the reader NaturalImage2DIO for .png, .bmp, .tif, but the file_ending in "
    ) in capsys.readouterr().err
    assert folders.evaluate("-djfile", plans[1], "-pfile", described[1]) == 2
    assert "it has no labels and no file_ending; it looks like a plans" in capsys.readouterr().err
    assert folders.evaluate(*plans) == 2
    assert "plans alone do not say which labels there are" in capsys.readouterr().err


def test_another_choice_of_labels_writes_our_summary_anew_and_never_nnunets(folders, capsys):
    folders.put(tube(), broken())
    assert folders.evaluate("-l", "1") == folders.evaluate("-l", "2") == 0
    assert list(folders.read()["mean"]) == ["2"]
    content = folders.read()
    del content["nnunet_topo"]  # as nnU-Net writes it
    folders.summary.write_text(json.dumps(content))
    assert folders.evaluate("-l", "1") == 2
    assert "was written by nnU-Net for the labels 2; -o names another" in capsys.readouterr().err
    assert folders.read() == content


def test_compare_takes_folders_of_other_formats_and_labels_without_a_dataset_json(folders):
    other, out = folders.folder / "other", folders.folder / "out"
    other.mkdir()
    (folders.folder / "names.csv").write_text("label,name\n1,vessel\n2,organ\n")
    for case in "ab":
        folders.put(tube(), broken(), case)
        sitk.WriteImage(image_of(tube()), other / f"{case}.nrrd")
    models = [f"broken={folders.pred}", f"whole={other}"]
    labels = ["--labels", str(folders.folder / "names.csv"), "--group", "both=1-2", "--control"]
    asked = ["compare", "--gt", str(folders.gt), "--pred", *models, *labels, "-o", str(out)]
    assert main([*asked, "-np", "1"]) == 0
    content = json.loads((out / "compare.json").read_text())
    assert content["labels"] == {"1": "vessel", "2": "organ", "(1, 2)": "both"}
    assert list(content["cases"]) == ["broken", "broken, largest components", "whole"]
    for model, dice in (("broken", BROKEN["Dice"]), ("whole", 1)):
        assert list(content["cases"][model]) == ["a.nii.gz", "b.nii.gz"]
        assert content["cases"][model]["a.nii.gz"]["1"]["Dice"] == pytest.approx(dice)


# -- labels of a dataset.json ------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "b": 2, "a": 1},
        {"a": 1, "b": 2},
        {"bg": 0, "a": "1", "b": "2"},
        {"0": "background", "1": "a", "2": "b"},
        {"background": 0, "a": 1.0, "b": [2]},
    ],
)
def test_labels_are_evaluated_however_a_dataset_json_writes_them(folders, labels):
    folders.put(tube(), broken())
    assert folders.evaluate(*folders.describe(labels), *folders.plans()) == 0
    assert list(folders.read()["mean"]) == ["1", "2"]
    assert folders.read()["nnunet_topo"]["label_names"] == {"1": "a", "2": "b"}
    assert_equal(folders.metrics(), BROKEN)


def test_gaps_and_regions_give_the_right_numbers(folders):
    reference, prediction = tube(), broken()
    reference[reference == 2] = prediction[prediction == 2] = 11
    folders.put(reference, prediction)
    assert folders.evaluate(*folders.describe({"background": 0, "far": 11, "a": 1})) == 0
    assert list(folders.read()["mean"]) == ["1", "11"]
    regions = {"background": 0, "all": ["1", 11], "inner": [11]}
    assert folders.evaluate(*folders.describe(regions)) == 0
    assert folders.read()["nnunet_topo"]["label_names"] == {"(1, 11)": "all", "(11,)": "inner"}
    expected = compute(prediction > 0, reference > 0, spacing_mm=SPACING)
    assert_equal(folders.metrics("(1, 11)"), expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0}, "labels names nothing beside the background"),
        ({}, "labels names nothing beside the background"),
        ({"background": 0, "ignore": 1}, "labels names nothing beside the background"),
        ({"background": 0, "a": "x"}, "labels > a must be a whole number, got 'x'"),
        (["background", "a"], "labels must be names with values, got list"),
        ({"background": 0, "a": 2, "ignore": 1}, "the ignore label it must have the highest"),
    ],
)
def test_labels_of_which_nothing_can_be_made_are_refused_in_a_sentence(
    folders, labels, message, capsys
):
    folders.put(tube(), broken())
    assert folders.evaluate(*folders.describe(labels), *folders.plans()) == 2
    assert message in capsys.readouterr().err


# -- channels ----------------------------------------------------------------------------------


def colours(array):
    return np.stack([array, 0 * array, 0 * array], axis=-1)


def palette(array):
    image = Image.fromarray(array).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    return image


SEVERAL = {
    "4D NIfTI": (".nii.gz", "16 x 14 x 12 x 2 (x, y, z, channels)"),
    "vector NIfTI": (".nii.gz", "16 x 14 x 12 x 3 (x, y, z, channels)"),
    "layers of nrrd": (".seg.nrrd", "16 x 14 x 12 x 2 (x, y, z, channels)"),
    "colours of mha": (".mha", "16 x 14 x 3 (x, y, channels)"),
    "pages of colours": (".tif", "16 x 14 x 12 x 3 (x, y, z, channels)"),
    "colours of png": (".png", "16 x 14 x 3 (x, y, channels)"),
    "opacity of png": (".png", "16 x 14 x 4 (x, y, channels)"),
    "grey and opacity": (".png", "16 x 14 x 2 (x, y, channels)"),
    "palette": (".png", "16 x 14 x 3 (x, y, colours of a palette)"),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_a_file_of_several_channels_is_refused_by_name_and_shape_on_disk(folders, kind, capsys):
    ending, shape = SEVERAL[kind]
    volume, flat = broken(), broken()[3]
    file = folders.pred / f"case{ending}"
    if kind == "4D NIfTI":
        nibabel.save(nibabel.Nifti1Image(np.stack([volume.T] * 2, -1), np.eye(4)), file)
    elif kind == "vector NIfTI":
        nibabel.save(
            nibabel.Nifti1Image(np.stack([volume.T] * 3, -1)[..., None, :], np.eye(4)), file
        )
    elif kind == "layers of nrrd":
        sitk.WriteImage(sitk.Compose(image_of(volume), image_of(volume)), file)
    elif kind == "colours of mha":
        sitk.WriteImage(sitk.GetImageFromArray(colours(flat), isVector=True), file)
    elif kind == "pages of colours":
        tifffile.imwrite(file, np.stack([volume] * 3, -1), photometric="rgb")
    elif kind == "palette":
        palette(flat).save(file)
    elif kind == "grey and opacity":
        Image.fromarray(flat).convert("LA").save(file)
    else:
        array = colours(flat) if kind == "colours of png" else np.dstack([colours(flat), flat])
        io.imsave(file, array, check_contrast=False)
    if ending == ".png":
        io.imsave(folders.gt / "case.png", tube()[3], check_contrast=False)
    else:
        folders.put(tube())
    assert folders.evaluate("-l", "1") == 2
    assert f"{file} is not a label map: it has shape {shape}: " in capsys.readouterr().err


def test_grey_colours_and_a_fourth_axis_of_one_are_harmless(folders):
    folders.put(tube())
    image = nifti(broken())
    image = nibabel.Nifti1Image(broken().T[..., None], image.affine)
    for ending in (".nii.gz", ".nii"):  # of which nnU-Net has different readers
        nibabel.save(image, folders.pred / f"case{ending}")
        assert folders.evaluate() == 0
        assert_equal(folders.metrics(), BROKEN)
        (folders.pred / f"case{ending}").unlink()
    flat = Folders(folders.folder / "gt")
    for opacity in ([], [np.full((14, 16), 255, np.uint8)]):
        for folder, array in ((flat.gt, tube()[3]), (flat.pred, broken()[5] + tube()[3])):
            io.imsave(folder / "a.png", np.dstack([array] * 3 + opacity), check_contrast=False)
        assert flat.evaluate() == 0
        assert flat.metrics()["Dice"] == 1


# -- slices and units --------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_two_dimensional_whichever_way_it_lies(folders, axis):
    reference = np.zeros((40, 44), np.uint8)
    reference[2:34, 2:34] = 1
    prediction = reference.copy()
    prediction[:, 33] = 0
    prediction[25:34, 36:38] = 1
    volumes = [np.expand_dims(array, axis) for array in (reference, prediction)]
    spacing = tuple(np.insert((1.0, 1.0), axis, 7.0))
    folders.put(*(image_of(volume, spacing) for volume in volumes))
    assert folders.evaluate() == 0
    expected = compute(prediction, reference)
    assert (expected["topo_hd95_mm"], expected["topo_cce_2d"]) == (4, 1)
    as_volume = compute(volumes[1], volumes[0], spacing_mm=spacing)
    assert as_volume["topo_hd95_mm"] == 0  # every voxel of one slice is surface
    assert_equal(folders.metrics(), expected)
    assert "topo_betti_error_2" not in folders.metrics()


def test_a_photograph_is_measured_in_pixels_and_a_volume_without_spacing_in_voxels(folders, capsys):
    for folder, array in ((folders.gt, tube()[3]), (folders.pred, tube()[:, :, 3:][3])):
        io.imsave(folder / "case.png", np.pad(array, 3)[:20, :19], check_contrast=False)
    assert folders.evaluate() == 0
    assert folders.read()["nnunet_topo"]["unit"] == "pixels"
    out = capsys.readouterr().out
    assert "pixels" in out
    assert " mm" not in out
    volumes = Folders(folders.gt)
    for folder, array in ((volumes.gt, tube()), (volumes.pred, broken())):
        tifffile.imwrite(folder / "case.tif", array)
    assert volumes.evaluate() == 0
    assert volumes.read()["nnunet_topo"]["unit"] == "voxels"
    assert_equal(volumes.metrics(), compute(broken() == 1, tube() == 1))
    (volumes.gt / "case.json").write_text(json.dumps({"spacing": SPACING}))
    assert volumes.evaluate() == 0  # the spacing is part of what the metrics depend on
    assert volumes.read()["nnunet_topo"]["unit"] == "mm"
    assert_equal(volumes.metrics(), BROKEN)
    for folder in (volumes.gt, volumes.pred):
        tifffile.imwrite(folder / "other.tif", tube())
    assert volumes.evaluate() == 1
    assert "other.tif: its files have no spacing; its distances are in voxels" in (
        capsys.readouterr().err
    )


def test_a_tiff_volume_of_three_slices_is_no_colour_image(folders):
    for folder, array in ((folders.gt, tube()[4:7]), (folders.pred, broken()[4:7])):
        tifffile.imwrite(folder / "case.tif", array)
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), compute(broken()[4:7] == 1, tube()[4:7] == 1))


# -- headers -----------------------------------------------------------------------------------


def affine(direction=(-1, -1, 1), origin=(0, 0, 0)):
    matrix = np.diag([*(np.array(direction) * SPACING[::-1]), 1.0])
    matrix[:3, 3] = origin
    return matrix


READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient", "SimpleITKIOWithReorient")


@pytest.mark.parametrize("reader", READERS)
def test_another_direction_is_not_compared_unless_the_reader_turns_it(folders, reader, capsys):
    folders.put(tube(), nibabel.Nifti1Image(broken().T[::-1], affine((1, -1, 1), (-22.5, 0, 0))))
    described = folders.describe({"background": 0, "a": 1, "b": 2})
    status = folders.evaluate(*described, *folders.plans(reader))
    if reader.endswith("WithReorient"):
        assert status == 0
        assert_equal(folders.metrics(), BROKEN)
        return
    assert status == 2
    assert (
        "case.nii.gz: not evaluated, its direction differs: the axes x, y, z point to LPS in the "
        "reference, to RPS in the prediction. If the voxels agree, copy the header"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("reader", READERS[:2])
def test_another_origin_is_compared_on_the_grid_and_told(folders, reader, capsys):
    described = (*folders.describe({"background": 0, "a": 1, "b": 2}), *folders.plans(reader))
    folders.put(tube(), nibabel.Nifti1Image(broken().T, affine(origin=(0, 0.04, 0.1))))
    assert folders.evaluate(*described) == 0  # less than a tenth of a voxel
    folders.put(None, nibabel.Nifti1Image(broken().T, affine(origin=(-3, 0, 1))))
    assert folders.evaluate(*described) == 1
    assert (
        "case.nii.gz: the origin of the prediction is 2 x 0 x 0.5 voxels (x, y, z) off that of the "
        "reference; compared voxel by voxel"
    ) in capsys.readouterr().err
    assert_equal(folders.metrics(), BROKEN)


def test_oblique_axes_with_rounding_and_not_quite_at_right_angles_are_compared(folders):
    turn = np.array([[0.936, -0.352, 0], [0.352, 0.936, 0], [0, 0, 1]])
    oblique = affine()
    oblique[:3, :3] = turn @ oblique[:3, :3]
    noisy = oblique.copy()
    noisy[:3, :3] += 5e-4 * np.array([[0, 1, 1], [1, 0, 0], [-1, 1, 0]])
    folders.put(nibabel.Nifti1Image(tube().T, oblique), nibabel.Nifti1Image(broken().T, noisy))
    assert folders.evaluate() == 0
    expected = compute(broken() == 1, tube() == 1, spacing_mm=SPACING)
    assert folders.metrics()["topo_betti_error"] == expected["topo_betti_error"]
    assert folders.metrics()["topo_hd95_mm"] == pytest.approx(expected["topo_hd95_mm"], rel=1e-3)


def patched(image, file, offset, form, *values):
    """Writes an image and then values into its header."""
    nibabel.save(image, file)
    content = bytearray(file.read_bytes())
    struct.pack_into(form, content, offset, *values)
    file.write_bytes(content)


PIXDIM, QFORM_AND_SFORM = 80, 252


@pytest.mark.parametrize("length", [0.0, np.nan])
def test_a_spacing_of_zero_or_nan_is_not_taken_for_1(folders, length, capsys):
    folders.put(tube(), ending=".nii")
    file = folders.pred / "case.nii"
    patched(nibabel.Nifti1Image(broken().T, None), file, PIXDIM, "<3f", length, 1, 1)
    assert folders.evaluate() == 1
    assert "the header of the prediction has no valid spacing (" in capsys.readouterr().err
    assert_equal(folders.metrics(), BROKEN)  # by the reference's
    (folders.gt / "case.nii").write_bytes((folders.pred / "case.nii").read_bytes())
    assert folders.evaluate() == 2
    assert "has no valid spacing" in capsys.readouterr().err


def test_the_thickness_of_one_slice_says_nothing_of_a_spacing(folders):
    for folder, array in ((folders.gt, tube()[3:4]), (folders.pred, broken()[3:4])):
        file = folder / "case.nii"
        patched(nibabel.Nifti1Image(array.T, None), file, PIXDIM, "<3f", 1.5, 0.5, 0)
    assert folders.evaluate() == 0
    assert_equal(
        folders.metrics(), compute(broken()[3] == 1, tube()[3] == 1, spacing_mm=(0.5, 1.5))
    )


def test_a_header_without_direction_is_compared_voxel_by_voxel_and_told(folders, capsys):
    image = nibabel.Nifti1Image(broken().T, None)
    image.header.set_zooms(SPACING[::-1])
    folders.put(tube(), image)
    assert folders.evaluate() == 1
    assert "the header of the prediction gives no direction" in capsys.readouterr().err
    assert_equal(folders.metrics(), BROKEN)
    (folders.pred / "case.nii.gz").unlink()
    header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 16 14 12\nencoding: raw\n"
    header += "spacings: 1.5 0.5 2\n\n"
    (folders.pred / "case.nrrd").write_bytes(header.encode() + broken().tobytes())
    folders.put(nibabel.Nifti1Image(tube().T, affine((1, 1, 1))))
    assert folders.evaluate() == 1
    assert "the header of the prediction gives no direction" in capsys.readouterr().err
    assert_equal(folders.metrics(), BROKEN)


def test_lengths_in_micrometres_are_mm_by_every_reader(folders):
    for role, array in (("gt", tube()), ("pred", broken())):
        image = nifti(array, np.diag([-1500.0, -500, 2000, 1]))
        image.header.set_xyzt_units("micron")
        nibabel.save(image, folders.folder / role / "case.nii.gz")
    described = folders.describe({"background": 0, "a": 1, "b": 2})
    for reader in READERS[:3]:
        assert folders.evaluate(*described, *folders.plans(reader)) == 0
        assert_equal(folders.metrics(), BROKEN)


# -- values ------------------------------------------------------------------------------------

MEANINGLESS = {
    "NaN": (lambda a: np.where(a == 2, np.nan, a), "holds NaN or infinite values, which are not"),
    "infinity": (lambda a: np.where(a == 2, np.inf, a), "holds NaN or infinite values"),
    "probabilities": (lambda a: 0.7 * (a == 1), "holds 0.7, between 0 and 1: probabilities"),
    "black and white": (lambda a: 255.0 * (a > 0), "holds 255 but no label that is wanted (1, 2)"),
    "scaled": (lambda a: a * 1.0000002, "holds 1.0000002, 2.0000005, close to 1, 2 but not equal"),
    "interpolated": (lambda a: a * 1.5, "holds 1.5, 3, which are not whole numbers"),
}


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("role", ["reference", "prediction"])
@pytest.mark.parametrize("kind", MEANINGLESS)
def test_a_case_whose_values_are_no_labels_is_refused_and_in_no_mean(
    folders, kind, role, ending, capsys
):
    spoil, message = MEANINGLESS[kind]
    message = "holds 1.5, which are" if kind == "interpolated" else message
    folders.put(tube(), broken(), "sound", ending)
    files = {"reference": tube(), "prediction": broken()}
    files[role] = spoil(files[role]).astype(np.float32)
    folders.put(*files.values(), "spoiled", ending)
    described = folders.describe({"background": 0, "a": 1, "b": 2}, file_ending=ending)
    assert folders.evaluate(*described) == 1
    told = capsys.readouterr()
    assert f"not evaluated, and in no mean: spoiled{ending}" in told.out
    assert f"spoiled{ending}: not evaluated, the {role} " in told.err
    assert message in told.err
    content = folders.read()
    assert content["nnunet_topo"]["refused"] == [f"spoiled{ending}"]
    assert content["mean"]["1"]["Dice"] == pytest.approx(BROKEN["Dice"])


def test_other_labels_beside_those_that_are_chosen_are_background_on_purpose(folders, capsys):
    prediction = broken()
    prediction[prediction == 2] = 5
    folders.put(tube(), prediction)
    assert folders.evaluate("-l", "1") == 0
    assert_equal(folders.metrics(), BROKEN)
    assert folders.evaluate(*folders.describe({"background": 0, "a": 1, "b": 2})) == 1
    assert "the prediction holds 5, not among the labels (0-2)" in capsys.readouterr().err
    folders.put(None, 255 * (broken() > 0).astype(np.uint8))
    assert folders.evaluate("-l", "1") == 2
    assert "a binary mask saved in black and white, 0 and 255?" in capsys.readouterr().err


def test_the_ignore_label_is_neither_a_label_nor_counted(folders):
    folders.put(tube(), broken())
    assert folders.evaluate("-il", "2") == 0
    assert list(folders.read()["mean"]) == ["1"]
    expected = compute(broken() == 1, tube() == 1, spacing_mm=SPACING, mask=tube() != 2)
    assert_equal(folders.metrics(), expected)


def test_a_mask_of_0_and_255_adds_no_label_to_those_of_the_references(folders, capsys):
    folders.put((tube() > 0).astype(np.uint8), (broken() > 0).astype(np.uint8), "sound")
    folders.put((tube() > 0).astype(np.uint8), 255 * (broken() > 0).astype(np.uint8), "spoiled")
    assert folders.evaluate() == 1
    assert list(folders.read()["mean"]) == ["1"]
    assert "spoiled.nii.gz: not evaluated, the prediction holds 255" in capsys.readouterr().err


def test_images_in_place_of_segmentations_are_noticed(folders, capsys):
    rng = np.random.default_rng(0)
    folders.put(*(rng.normal(0, 1000, (2, 12, 14, 16))).astype(np.int16))
    assert folders.evaluate() == 2
    assert "are these images instead of segmentations?" in capsys.readouterr().err
    folders.put(tube().astype(np.uint32) * 312782546, tube())
    assert folders.evaluate() == 1 or folders.evaluate() == 2
    assert "holds labels of 16777216 or more" in capsys.readouterr().err


def test_an_image_among_the_segmentations_of_a_data_set_is_refused(folders, capsys):
    folders.put(tube(), broken(), "sound")
    image = np.random.default_rng(0).integers(-1000, 1000, tube().shape).astype(np.int16)
    folders.put(tube(), image, "spoiled")
    assert folders.evaluate(*folders.describe({"background": 0, "a": 1, "b": 2})) == 1
    told = capsys.readouterr().err
    assert "spoiled.nii.gz: not evaluated, the prediction holds 14" in told
    assert "that are not labels, from -1000 to 999: an image instead of a segmentation?" in told
    assert_equal(folders.read()["mean"]["1"], {"Dice": BROKEN["Dice"]})


def test_a_mask_that_was_saved_as_jpeg_is_refused_unless_its_label_is_chosen(folders, capsys):
    sound = 255 * np.pad(np.ones((60, 20), np.uint8), ((9, 11), (15, 18)))
    file = folders.folder / "mask.jpg"
    Image.fromarray(sound).save(file, quality=75)
    compressed = np.array(Image.open(file))
    assert 8 < len(np.unique(compressed)) < 256
    for name, prediction in (("sound", sound), ("spoiled", compressed)):
        io.imsave(folders.gt / f"{name}.png", sound, check_contrast=False)
        io.imsave(folders.pred / f"{name}.png", prediction, check_contrast=False)
    assert folders.evaluate() == 1
    told = capsys.readouterr().err
    assert "spoiled.png: not evaluated, the prediction holds " in told
    assert "that was saved as JPEG or made smaller?" in told
    assert list(folders.read()["mean"]) == ["255"]
    assert folders.metrics("255")["Dice"] == 1
    assert folders.evaluate("-l", "255") == 0


# -- files and their encoding ------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [None, (0, 0, 0)])
def test_a_file_that_is_called_gz_and_is_not_compressed_is_evaluated(folders, spacing):
    folders.put(nifti(tube()), nifti(broken()))
    file = folders.gt / "case.nii.gz"
    content = bytearray(gzip.decompress(file.read_bytes()))
    if spacing is not None:  # of which nothing is known, if the header cannot be read
        content[80:92] = struct.pack("<3f", *spacing)
    file.write_bytes(content)
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), BROKEN)
    file.write_bytes(content[:-100])
    assert folders.evaluate() == 2


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_voxels_beside_a_header_that_stays_the_same_are_evaluated_again(folders, ending):
    folders.put(tube(), tube(), ending=ending)
    assert folders.evaluate() == 0
    assert folders.metrics()["Dice"] == 1
    header = (folders.pred / f"case{ending}").read_bytes()
    folders.put(None, broken(), ending=ending)
    assert (folders.pred / f"case{ending}").read_bytes() == header
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), BROKEN)


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("ElementType = MET_UCHAR\nElementDataFile = a b.raw\n", ["a b.raw"]),
        ("ElementDataFile = LIST\nx_1.raw\nx_2.raw\n", ["x_1.raw", "x_2.raw"]),
        ("ElementDataFile = x_%d.raw 1 2 1\n", ["x_1.raw", "x_2.raw"]),
        ("NRRD0004\ndatafile: ./a b.raw\r\n", ["a b.raw"]),
        ("NRRD0004\ndata file: missing.raw\n", []),
        ("NRRD0004\n\ncontent", []),
    ],
)
def test_the_files_that_a_detached_header_names(tmp_path, header, names):
    for name in ("a b.raw", "x_1.raw", "x_2.raw", "y.raw"):
        (tmp_path / name).touch()
    for ending, expected in ((".mhd", names), (".nhdr", names), (".nrrd", [])):
        (tmp_path / f"case{ending}").write_bytes(header.encode())
        found = data_files(tmp_path / f"case{ending}")
        assert found == [tmp_path / name for name in expected]


def test_an_empty_file_is_called_empty(folders, capsys):
    folders.put(tube(), broken())
    (folders.pred / "case.nii.gz").write_bytes(b"")
    assert folders.evaluate() == 2
    assert (
        "case.nii.gz cannot be read: the file is empty, it has 0 bytes" in capsys.readouterr().err
    )


def test_a_dataset_json_that_an_editor_on_windows_has_marked_is_read(folders):
    folders.put(tube(), broken())
    option, file = folders.describe({"background": 0, "a": 1, "b": 2})
    Path(file).write_text(Path(file).read_text(), encoding="utf-8-sig")
    assert folders.evaluate(option, file) == 0
    assert_equal(folders.metrics(), BROKEN)


# -- names -------------------------------------------------------------------------------------


def test_hidden_files_and_folders_are_no_cases(folders, capsys):
    folders.put(tube(), broken())
    for folder in (folders.gt, folders.pred):
        for name in ("._case.nii.gz", ".DS_Store", ".hidden.nii.gz", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"\0\5\x16\7")
        (folder / "folder.nii.gz").mkdir()
    described = folders.describe({"background": 0, "a": 1, "b": 2})
    for more in ((), described, (*described, *folders.plans())):
        assert folders.evaluate(*more) == 0
        assert len(folders.read()["metric_per_case"]) == 1
    assert "evaluated" in capsys.readouterr().out


def test_hidden_files_are_no_cases_where_plan_refine_and_unlabelled_images_look(
    tmp_path, monkeypatch
):
    from nnunet_topo.priors.fingerprint import _label_files
    from nnunet_topo.refinement.request import find_cases
    from nnunet_topo.unlabeled import case
    from nnunet_topo.unlabeled.record import unlabeled_cases

    name, ending = "Dataset902_X", ".nii.gz"
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    for folder, files in (("imagesTr", ("a_0000", "._a_0000")), ("labelsTr", ("a", "._a"))):
        (tmp_path / name / folder).mkdir(parents=True)
        for file in (*files, ".hidden_0000"):
            (tmp_path / name / folder / f"{file}{ending}").touch()
    images, labels = tmp_path / name / "imagesTr", tmp_path / name / "labelsTr"
    assert list(_label_files(name, tmp_path / "none", {"file_ending": ending})) == ["a"]
    assert list(find_cases(images, ending)) == ["a"]
    assert list(case.find_cases(images, ending)[0]) == ["a"]
    labels.rename(tmp_path / "gt_segmentations")  # nnU-Net's copies, where the raw data are gone
    assert list(_label_files(name, tmp_path, {"file_ending": ending})) == ["a"]
    preprocessed = tmp_path / "unlabeled"
    preprocessed.mkdir()
    for file in ("a.pkl", "a.b2nd", "._a.pkl", "._a.b2nd"):
        (preprocessed / file).touch()
    assert unlabeled_cases(preprocessed) == ["a"]


def test_preprocessed_labels_of_several_channels_are_refused(tmp_path):
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    from nnunet_topo.priors.training_labels import TrainingLabels

    channels = np.stack([tube()] * 3).astype(np.int8)  # of an RGB label file
    image = np.zeros((1, *tube().shape), np.float32)
    nnUNetDatasetBlosc2.save_case(image, channels, {}, str(tmp_path / "case"))
    labels = TrainingLabels(
        dataset_class=nnUNetDatasetBlosc2,
        folder=str(tmp_path),
        cases=("case",),
        classes=((1,),),
        space=3,
        connectivity="full",
    )
    with pytest.raises(ValueError, match="preprocessed labels have 3 channels: the label file"):
        labels.label_map("case")


def test_a_case_in_two_formats_is_ambiguous_unless_both_folders_have_one_of_them(folders, capsys):
    folders.put(tube(), broken())
    folders.put(None, tube(), ending=".nrrd")
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), BROKEN)
    (folders.gt / "case.nii.gz").rename(folders.gt / "other.nii.gz")
    folders.put(tube(), ending=".mha")
    assert folders.evaluate() == 2
    assert "case: not evaluated, there are several files of it: case.nii.gz, case.nrrd" in (
        capsys.readouterr().err
    )


def test_names_with_blanks_and_dots_are_paired_and_letters_of_two_characters(folders):
    folders.put(tube(), broken(), "patient 1.2 left")
    folders.put(tube(), None, "Ren\u00e9")
    folders.put(None, broken(), "Rene\u0301")  # as macOS writes it
    assert folders.evaluate() == 0
    entries = folders.read()["metric_per_case"]
    names = {Path(entry["prediction_file"]).name for entry in entries}
    assert names == {"patient 1.2 left.nii.gz", "Rene\u0301.nii.gz"}


def test_a_link_to_a_file_that_is_missing_is_a_case_that_cannot_be_read(folders, capsys):
    folders.put(tube(), broken())
    folders.put(tube(), None, "linked")
    (folders.pred / "linked.nii.gz").symlink_to(folders.folder / "annex/object")
    assert folders.evaluate() == 1
    assert "linked.nii.gz: not evaluated, the prediction" in capsys.readouterr().err


def test_folders_whose_names_do_not_match_are_told_with_an_example(folders, capsys):
    folders.put(tube(), None, "case_1")
    folders.put(None, tube(), "case_1_seg")
    assert folders.evaluate() == 2
    assert "there are case_1.nii.gz and case_1_seg.nii.gz, for example" in capsys.readouterr().err
