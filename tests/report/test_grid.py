from dataclasses import astuple

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

from nnunet_topo.images.geometry import read_geometry
from nnunet_topo.report.grid import Grid, describe_slice
from nnunet_topo.report.pictures import draw_case

from .pages import Page


def volume_on_disk(file, order):
    """Writes a volume whose axes grow to three sides of the patient; returns its affine."""
    axes = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.zeros((4, 4))
    affine[:, 3] = (-21.0, 33.0, -40.0, 1.0)
    for column, (letter, spacing) in enumerate(zip(order, (0.7, 1.3, 2.0), strict=True)):
        row, sign = axes[letter]
        affine[row, column] = sign * spacing
    array = np.zeros((5, 6, 7), np.uint8)
    array[2:4, 1:3, 5] = 1
    nibabel.save(nibabel.Nifti1Image(array, affine), file)
    return affine


@pytest.mark.parametrize(
    "reader", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient", "SimpleITKIOWithReorient"]
)
@pytest.mark.parametrize("order", ["RAS", "LPS", "LAS", "PSR", "IRA", "ALI"])
def test_sides_slice_and_position_are_those_of_the_file(tmp_path, reader, order):
    file = tmp_path / "case.nii.gz"
    affine = volume_on_disk(file, order)
    array, properties = recursive_find_reader_writer_by_name(reader)().read_seg(str(file))
    geometry = read_geometry(file, properties)
    turned = reader.endswith("WithReorient")
    assert "".join(geometry.letters) == ("SAR" if turned else order[::-1])
    foreground = np.argwhere(array[0])
    index = int(foreground[-1, 0])  # the last slice of the array with the structure
    grid = Grid(properties["spacing"], "mm", *astuple(geometry))
    told = describe_slice(grid, index, array.shape[1])
    # By hand: the slice of the file in which that voxel lies, and where the patient has it.
    axis = next(k for k, letter in enumerate(order) if letter in "SI") if turned else 2
    on_disk = np.argwhere(np.asarray(nibabel.load(file).dataobj))
    ends = on_disk[:, axis].max(), on_disk[:, axis].min()
    slice_on_disk = int(ends[turned and order[axis] == "I"])
    world = affine @ [*(slice_on_disk if k == axis else 0 for k in range(3)), 1]
    row = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[order[axis]]
    side = ("LR", "PA", "IS")[row][int(world[row] > 0)]
    assert f"slice {slice_on_disk + 1} of {(5, 6, 7)[axis]}, along" in told
    assert f"({slice_on_disk} in 3D Slicer" in told
    assert f"the file's {('first', 'second', 'third')[axis]} axis" in told
    assert told.endswith(f"at {side} {abs(world[row]):.1f} mm.")
    plane = {"R": "Sagittal", "A": "Coronal", "S": "Axial"}[("R", "A", "S")[row]]
    assert told.startswith(f"{plane} slice")


def test_unknown_sides_of_the_patient_are_not_named(tmp_path):
    file = tmp_path / "case.nii"
    volume_on_disk(file, "RAS")
    content = bytearray(file.read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    file.write_bytes(content)
    reader = recursive_find_reader_writer_by_name("SimpleITKIO")()
    assert read_geometry(file, reader.read_seg(str(file))[1]).letters == ("", "", "")
    file = tmp_path / "case.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8)), file)
    told = read_geometry(file, reader.read_seg(str(file))[1])
    assert told.letters == ("S", "P", "L")  # SimpleITK writes the space
    header, _, data = file.read_bytes().partition(b"\n\n")
    kept = [line for line in header.split(b"\n") if not line.startswith((b"space", b"kinds"))]
    file.write_bytes(b"\n".join(kept) + b"\n\n" + data)
    assert read_geometry(file, reader.read_seg(str(file))[1]).letters == ("", "", "")
    file = tmp_path / "case.gipl"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8)), file)
    assert read_geometry(file, reader.read_seg(str(file))[1]).letters == ("", "", "")
    pages = Grid((1, 1, 1), "voxels", *astuple(read_geometry(tmp_path / "a.tif", {})))
    told = (
        "Slice 3 of 9, along the file's first axis, counted from 1 as in ITK-SNAP (2 in 3D Slicer"
    )
    assert describe_slice(pages, 2, 9) == f"{told} and FSLeyes, from 0)."


def test_an_oblique_volume_says_so(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
    c, s = np.cos(0.3), np.sin(0.3)
    image.SetDirection((1, 0, 0, 0, c, -s, 0, s, c))
    sitk.WriteImage(image, tmp_path / "case.nii.gz")
    reader = recursive_find_reader_writer_by_name("SimpleITKIO")()
    _, properties = reader.read_seg(str(tmp_path / "case.nii.gz"))
    geometry = read_geometry(tmp_path / "case.nii.gz", properties)
    assert geometry.letters == ("S", "P", "L")
    assert geometry.oblique
    reference = np.ones((3, 4, 5), bool)
    grid = Grid((1, 1, 1), "mm", *astuple(geometry))
    row = Page(draw_case(None, reference, {"m": reference}, grid, "full", "case"))
    assert "The grid is oblique" in row.text


def test_letters_stand_at_the_edges_of_every_picture():
    reference = np.zeros((3, 20, 30), bool)
    reference[1, 5:12, 6:20] = True
    grid = Grid((2.0, 1.0, 1.0), letters=("S", "P", "L"), first_mm=5.0)
    page = Page(draw_case(None, reference, {"m": reference}, grid, "full", "case"))
    sides = [a for name, a in page.elements if name == "text"]
    assert len(sides) == 8  # four for the reference, four for the model
    # Above, below, left and right: radiologists see the patient's right on the left.
    assert page.text.startswith("APRL")
    tops, bottoms, lefts, rights = (sides[i] for i in range(4))
    assert float(tops["y"]) < float(lefts["y"]) < float(bottoms["y"])
    assert float(lefts["x"]) < float(tops["x"]) < float(rights["x"])
