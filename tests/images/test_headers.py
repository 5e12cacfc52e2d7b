"""Direction, origin and spacing in headers."""

import struct

import nibabel
import numpy as np
import pytest

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
