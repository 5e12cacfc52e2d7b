"""Files of several channels, of one slice, and without spacing."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image
from skimage import io

from nnunet_topo.metrics import compute

from .files import BROKEN, SPACING, Folders, assert_equal, broken, image_of, nifti, tube


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


def test_a_tiff_volume_of_three_slices_is_not_a_colour_image(folders):
    for folder, array in ((folders.gt, tube()[4:7]), (folders.pred, broken()[4:7])):
        tifffile.imwrite(folder / "case.tif", array)
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), compute(broken()[4:7] == 1, tube()[4:7] == 1))
