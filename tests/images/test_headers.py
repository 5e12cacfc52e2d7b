"""Direction, origin and spacing in headers."""

import gzip
import re
import struct
import tracemalloc

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_topo.files import data_files
from nnunet_topo.images.segmentation import read_segmentation
from nnunet_topo.metrics import compute

from .files import BROKEN, SPACING, assert_equal, broken, nifti, tube


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


def test_the_thickness_of_a_single_slice_does_not_matter(folders):
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


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_lengths_of_a_header_without_spacing_are_in_voxels(folders, ending, capsys):
    folders.put(tube(), broken(), ending=ending)
    for folder in (folders.gt, folders.pred):
        file = folder / f"case{ending}"
        content = re.sub(rb"(?m)^(space|kinds|ElementSpacing).*\n", b"", file.read_bytes())
        file.write_bytes(content)
    assert folders.evaluate() == 0
    assert folders.read()["nnunet_topo"]["unit"] == "voxels"
    assert " mm" not in capsys.readouterr().out
    assert_equal(folders.metrics(), compute(broken() == 1, tube() == 1, spacing_mm=(1, 1, 1)))
    folders.put(tube(), None, ending=ending)
    assert folders.evaluate() == 0
    assert folders.read()["nnunet_topo"]["unit"] == "mm"
    assert_equal(folders.metrics(), BROKEN)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("unit", ["mm", "micron"])
def test_a_header_with_two_spacings_is_told_with_the_one_that_is_taken(
    folders, reader, unit, capsys
):
    size = 1000.0 if unit == "micron" else 1.0
    for role, array in (("gt", tube()), ("pred", broken())):
        image = nifti(array, np.diag([-1.5 * size, -0.5 * size, 2 * size, 1]))
        image.set_qform(None)
        image.header.set_xyzt_units(unit)
        nibabel.save(image, folders.folder / role / "case.nii")
        file = folders.folder / role / "case.nii"
        if role == "gt":
            patched(image, file, PIXDIM, "<3f", size, size, 3 * size)
    described = folders.describe({"background": 0, "a": 1, "b": 2}, file_ending=".nii")
    assert folders.evaluate(*described, *folders.plans(reader)) == 1
    told = capsys.readouterr().err
    taken = "sform" if reader == "NibabelIOWithReorient" else "pixdim"
    assert (
        "the header of the reference has spacing 1 x 1 x 3 mm (x, y, z) in pixdim and 1.5 x 0.5 x "
        f"2 mm in its sform; nnU-Net's reader takes {taken}"
    ) in told
    assert "the header of the prediction" not in told
    spacing = SPACING if taken == "sform" else (3, 1, 1)
    assert_equal(folders.metrics(), compute(broken() == 1, tube() == 1, spacing_mm=spacing))


def test_rounding_and_the_thickness_of_a_single_slice_are_not_two_spacings(folders):
    for folder, array in ((folders.gt, tube()[3:4]), (folders.pred, broken()[3:4])):
        image = nifti(array)
        patched(image, folder / "case.nii", PIXDIM, "<3f", 1.5004, 0.5, 9)
    assert folders.evaluate() == 0


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("side", [1500, 20000])
def test_a_header_of_a_huge_volume_is_refused_before_anything_is_read(
    folders, ending, side, capsys
):
    folders.put(tube(), broken(), ending=ending)
    file = folders.pred / f"case{ending}"
    if ending == ".mha":
        text = file.read_bytes().replace(
            b"DimSize = 16 14 12", b"DimSize = %d %d %d" % (3 * (side,))
        )
        file.write_bytes(text)
    else:
        content = bytearray(
            (gzip.decompress if ending.endswith("gz") else bytes)(file.read_bytes())
        )
        struct.pack_into("<3h", content, 42, *3 * (side,))
        file.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    tracemalloc.start()
    status = folders.evaluate()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert status == 2
    assert peak < 1e9  # a byte for each voxel would be 3.4e9
    told = capsys.readouterr().err
    assert f"case{ending}: not evaluated, the reference has shape 16 x 14 x 12 (x, y, z), " in told
    assert f"{side} x {side} x {side} (x, y, z)" in told


def test_a_header_of_a_huge_volume_on_both_sides_is_told_by_the_size_of_the_file(folders, capsys):
    folders.put(tube(), broken(), ending=".nii")
    for folder in (folders.gt, folders.pred):
        content = bytearray((folder / "case.nii").read_bytes())
        struct.pack_into("<3h", content, 42, 30000, 30000, 30000)
        (folder / "case.nii").write_bytes(content)
    assert folders.evaluate() == 2
    told = capsys.readouterr().err
    assert (
        "header promises shape 30000 x 30000 x 30000 (x, y, z), which a file of 3040 bytes" in told
    )


def test_an_empty_volume_that_compresses_well_is_read(folders):
    folders.put(np.zeros((200, 210, 220), np.uint8), np.zeros((200, 210, 220), np.uint8))
    assert (folders.pred / "case.nii.gz").stat().st_size < 20_000
    assert folders.evaluate("-l", "1") == 0


@pytest.mark.parametrize("kind", [np.uint8, np.int16])
@pytest.mark.parametrize(
    "ending", [".gipl", ".gipl.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz"]
)
def test_a_file_that_was_cut_short_is_refused(folders, ending, kind, capsys):
    noise = np.random.default_rng(0).integers(0, 2, tube().shape).astype(kind)
    folders.put(noise, noise, ending=ending)
    assert folders.evaluate() == 0
    file = folders.pred / f"case{ending}"
    largest = max(data_files(file) or [file], key=lambda one: one.stat().st_size)
    content = largest.read_bytes()
    for end in (len(content) // 2, len(content) - 12):  # more than a checksum
        largest.write_bytes(content[:end])
        assert folders.evaluate() == 2
        assert "case" in capsys.readouterr().err


def test_a_gipl_file_that_is_called_gz_and_is_not_compressed_is_refused_only_if_cut(tmp_path):
    file = tmp_path / "case.gipl.gz"
    sitk.WriteImage(sitk.GetImageFromArray(tube()), tmp_path / "case.gipl", False)
    content = (tmp_path / "case.gipl").read_bytes()
    assert len(content) == 256 + tube().size
    file.write_bytes(content)
    np.testing.assert_array_equal(read_segmentation(SimpleITKIO(), file).label_map, tube())
    file.write_bytes(content[:-1])
    told = r"promises shape 16 x 14 x 12 \(x, y, z\) in 2944 bytes, it holds 2943: cut short"
    with pytest.raises(ValueError, match=told):
        read_segmentation(SimpleITKIO(), file)
