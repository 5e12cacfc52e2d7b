"""Segmentations that are written again: format, type and geometry stay, and nothing is lost."""

import gzip
import re

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_topo.files import data_files
from nnunet_topo.images.segmentation import read_segmentation
from nnunet_topo.images.written import write_changed, write_like

SHAPE = (4, 5, 6)
ENDINGS = [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".nhdr"]


def label_map():
    array = np.zeros(SHAPE, np.int16)
    array[1:3, 1:4, 2:5] = 2
    return array


def written_file(folder, ending):
    image = sitk.GetImageFromArray(label_map())
    image.SetSpacing((0.5, 1.0, 3.0))
    image.SetOrigin((7.0, -3.0, 2.0))
    image.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    folder.mkdir()
    sitk.WriteImage(image, str(folder / f"case{ending}"))
    return folder / f"case{ending}"


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_type_and_geometry_stay_in_every_format(ending, changes, tmp_path):
    source = written_file(tmp_path / "before", ending)
    (tmp_path / "after").mkdir()
    target = tmp_path / "after" / source.name
    before = read_segmentation(SimpleITKIO(), source).label_map
    after = before.copy()
    if changes:
        after[0, 0, 1] = 2
    write_changed(source, SimpleITKIO(), before, after, target)
    old, new = (sitk.ReadImage(str(file)) for file in (source, target))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(new), after)
    assert new.GetPixelID() == old.GetPixelID()
    for of in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(new, of)(), getattr(old, of)(), atol=1e-5)
    assert all(file.parent == target.parent and file.is_file() for file in data_files(target))


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_an_unchanged_file_is_copied_byte_for_byte(ending, tmp_path):
    source = written_file(tmp_path / "before", ending)
    content = source.read_bytes()
    if ending == ".nii.gz":
        # As no writer here compresses it.
        content = gzip.compress(gzip.decompress(content), compresslevel=1, mtime=1)
    else:
        content = content.replace(b"\n", b"\n# with a comment of its user\n", 1)
    source.write_bytes(content)
    before = read_segmentation(SimpleITKIO(), source).label_map
    write_changed(source, SimpleITKIO(), before, before, tmp_path / f"case{ending}")
    assert (tmp_path / f"case{ending}").read_bytes() == content


def test_codes_and_last_axis_of_a_nifti_header_stay(tmp_path):
    source, target = tmp_path / "before.nii.gz", tmp_path / "after.nii.gz"
    affine = np.diag([0.5, 1.0, 3.0, 1.0])
    image = nibabel.Nifti1Image(label_map().T[..., None], affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, 4)
    image.set_qform(affine, 2)
    image.to_filename(source)
    before = label_map()
    after = before.copy()
    after[0, 0, 0] = 1
    write_changed(source, SimpleITKIO(), before, after, target)
    new = nibabel.load(target)
    assert new.shape == (6, 5, 4, 1)
    np.testing.assert_array_equal(np.asarray(new.dataobj)[..., 0].T, after)
    assert (int(new.header["sform_code"]), int(new.header["qform_code"])) == (4, 2)
    assert new.header.get_xyzt_units() == ("mm", "sec")
    assert new.get_data_dtype() == np.int16


@pytest.mark.parametrize("reader", [NibabelIOWithReorient, SimpleITKIOWithReorient])
def test_the_header_stays_where_a_reader_turns_the_axes(reader, tmp_path):
    source, target = tmp_path / "before.nii.gz", tmp_path / "after.nii.gz"
    affine = np.array([[0, 0, -3.0, 4], [0.5, 0, 0, 5], [0, -1, 0, 6], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(label_map().T, affine)
    image.set_sform(affine, 4)
    image.to_filename(source)
    before = read_segmentation(reader(), source).label_map
    after = before.copy()
    after[0, 0, 0] = 1
    write_changed(source, reader(), before, after, target)
    new = nibabel.load(target)
    np.testing.assert_array_equal(new.affine, nibabel.load(source).affine)
    assert int(new.header["sform_code"]) == 4
    np.testing.assert_array_equal(read_segmentation(reader(), target).label_map, after)
    assert np.count_nonzero(label_map() != np.asarray(new.dataobj).T) == 1


@pytest.mark.parametrize("changes", [False, True])
def test_a_tiff_volume_keeps_its_spacing(changes, tmp_path):
    source, target = tmp_path / "case.tif", tmp_path / "after" / "case.tif"
    target.parent.mkdir()
    Tiff3DIO().write_seg(label_map().astype(np.uint8), str(source), {"spacing": [3.0, 1.0, 0.5]})
    read = read_segmentation(Tiff3DIO(), source)
    after = read.label_map.copy()
    if changes:
        after[0, 0, 1] = 2
    write_changed(source, Tiff3DIO(), read.label_map, after, target)
    again = read_segmentation(Tiff3DIO(), target)
    np.testing.assert_array_equal(again.label_map, after)
    np.testing.assert_array_equal(again.spacing, [3.0, 1.0, 0.5])


READERS = [SimpleITKIO, NibabelIOWithReorient, SimpleITKIOWithReorient]
FORMATS = [(".nii.gz", reader) for reader in READERS]
FORMATS += [(e, r) for e in (".nrrd", ".mha", ".mhd") for r in (READERS[0], READERS[2])]


@pytest.mark.parametrize(("ending", "reader"), FORMATS)
@pytest.mark.parametrize(
    ("kind", "label", "wanted"),
    [
        (np.uint8, 300, np.uint16),
        (np.int8, 200, np.uint8),
        (np.uint8, 70000, np.uint32),
        (np.int16, -5, np.int16),
    ],
)
def test_a_type_that_cannot_hold_a_new_label_is_widened(
    ending, reader, kind, label, wanted, tmp_path
):
    source, target = tmp_path / f"before{ending}", tmp_path / f"after{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(label_map().astype(kind)), str(source))
    before = read_segmentation(reader(), source).label_map.astype(np.int32)
    after = before.copy()
    after[0, 0, 1] = label
    write_changed(source, reader(), before, after, target)
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(target)))
    assert stored.dtype == wanted
    assert sorted(np.unique(stored)) == sorted([0, 2, label])
    np.testing.assert_array_equal(read_segmentation(reader(), target).label_map, after)


def test_labels_beyond_the_type_that_a_scale_made_possible_are_kept(tmp_path):
    source, target = tmp_path / "before.nii.gz", tmp_path / "after.nii.gz"
    values = (np.where(label_map() > 0, 200, 0) - 128).astype(np.int8)
    image = nibabel.Nifti1Image(values.T, np.eye(4))
    image.header.set_slope_inter(1, 128)
    image.to_filename(source)
    before = read_segmentation(SimpleITKIO(), source).label_map.astype(np.int32)
    assert before.max() == 200
    after = before.copy()
    after[0, 0, 1] = 200
    write_changed(source, SimpleITKIO(), before, after, target)
    np.testing.assert_array_equal(np.asarray(nibabel.load(target).dataobj).T, after)


def test_labels_that_a_format_cannot_hold_are_refused(tmp_path):
    source = tmp_path / "case.tif"
    Tiff3DIO().write_seg(label_map().astype(np.uint8), str(source), {"spacing": [3.0, 1.0, 0.5]})
    before = read_segmentation(Tiff3DIO(), source).label_map.astype(np.int32)
    after = before.copy()
    after[0, 0, 1] = 70000
    with pytest.raises(ValueError, match=r"such as case\.tif cannot hold its new labels"):
        write_changed(source, Tiff3DIO(), before, after, tmp_path / "after.tif")


@pytest.mark.parametrize("beside", [None, "of a user"])
def test_a_tiff_volume_without_spacing_gets_none(beside, tmp_path):
    source, target = tmp_path / "case.tif", tmp_path / "after.tif"
    tifffile.imwrite(source, label_map().astype(np.uint8))
    if beside:
        target.with_suffix(".json").write_text(beside)
    before = read_segmentation(Tiff3DIO(), source).label_map
    after = before.copy()
    after[0, 0, 1] = 2
    if beside:
        with pytest.raises(ValueError, match=r"after\.json must hold spacing"):
            write_changed(source, Tiff3DIO(), before, after, target)
        assert target.with_suffix(".json").read_text() == beside
    else:
        write_changed(source, Tiff3DIO(), before, after, target)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["after.tif", "case.tif"]
    np.testing.assert_array_equal(tifffile.imread(target), after)


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_a_header_without_spacing_gets_none(ending, tmp_path):
    source = written_file(tmp_path / "before", ending)
    target = tmp_path / f"after{ending}"
    header = re.sub(rb"(?m)^(space|kinds|ElementSpacing).*\n", b"", source.read_bytes())
    source.write_bytes(header)
    before = read_segmentation(SimpleITKIO(), source)
    assert before.spacing is None
    after = before.label_map.copy()
    after[0, 0, 1] = 2
    write_changed(source, SimpleITKIO(), before.label_map, after, target)
    written = read_segmentation(SimpleITKIO(), target)
    assert written.spacing is None
    np.testing.assert_array_equal(written.label_map, after)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_a_fourth_axis_of_1_stays_in_a_changed_file_and_in_another_label_map(ending, tmp_path):
    three = sitk.GetImageFromArray(label_map())
    three.SetSpacing((0.5, 1.0, 3.0))
    source = tmp_path / f"case{ending}"
    sitk.WriteImage(sitk.JoinSeries([three], 4.0, 2.0), str(source))
    reader = SimpleITKIO()
    before = read_segmentation(reader, source).label_map
    after = before.copy()
    after[0, 0, 1] = 2
    colours = {1: (255, 0, 0)}
    for folder, write in (
        ("changed", lambda target: write_changed(source, reader, before, after, target)),
        ("like", lambda t: write_like(source, reader, after.astype(np.uint8), t, colours)),
    ):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / source.name)
        new, old = sitk.ReadImage(str(tmp_path / folder / source.name)), sitk.ReadImage(str(source))
        assert new.GetSize() == old.GetSize() == (*SHAPE[::-1], 1)
        assert new.GetSpacing() == old.GetSpacing()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(new)[0], after)
