"""Where the voxels of nnU-Net's arrays lie in their file and in the patient, and maps like a file.

nnU-Net's arrays are [z, y, x]. Some of its readers turn the axes of a file first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from jaxtyping import Float
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from numpy.typing import NDArray
from PIL import Image

from nnunet_topo.images.geometry import array_affine, has_orientation
from nnunet_topo.images.nifti import is_nifti, load_nifti
from nnunet_topo.images.segmentation import MM_OF_UNITS, read_silently

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from ITK's axes of the patient: left, posterior
_PICTURES = (".png", ".bmp")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the voxels of an array lie.

    Attributes:
        to_file: from indices x, y, z of the array to those i, j, k of the file, homogeneous.
        to_ras: from indices of the file to millimetres to the right, anterior and superior,
            homogeneous; None if the file leaves that open.
    """

    to_file: Float[np.ndarray, "4 4"]
    to_ras: Float[np.ndarray, "4 4"] | None

    def in_file(self, voxel: Sequence[int]) -> tuple[int, int, int]:
        """Returns the indices i, j, k in the file, from 0, of a voxel [z, y, x] of the array."""
        i, j, k = np.rint(self.to_file @ [*voxel[::-1], 1])[:3]
        return int(i), int(j), int(k)

    def in_patient(self, in_file: Sequence[int]) -> tuple[float, float, float] | None:
        """Returns millimetres to the right, anterior and superior of indices i, j, k."""
        if self.to_ras is None:
            return None
        right, anterior, superior = (self.to_ras @ [*in_file, 1])[:3]
        return float(right), float(anterior), float(superior)


def read_placement(reader: BaseReaderWriter, file: Path) -> Placement:
    """Returns where the voxels of a file lie that a reader of nnU-Net's has read.

    Raises:
        Exception: whatever the readers raise.
    """
    if isinstance(reader, NaturalImage2DIO | Tiff3DIO):
        return Placement(np.eye(4), None)
    on_disk, in_mm = _affine_on_disk(file), np.eye(4)
    if is_nifti(file):
        units = load_nifti(file).header.get_xyzt_units()[0]
        in_mm[:3, :3] *= MM_OF_UNITS.get(units, 1.0)
    to_file = np.eye(4)
    if isinstance(reader, NibabelIOWithReorient | SimpleITKIOWithReorient):
        of_array = array_affine(read_silently(reader, file)[1])
        known = on_disk if isinstance(reader, NibabelIOWithReorient) else in_mm @ on_disk
        if of_array is not None:
            to_file = np.rint(np.linalg.inv(known) @ of_array)
    return Placement(to_file, in_mm @ on_disk if has_orientation(file) else None)


def _affine_on_disk(file: Path) -> Float[np.ndarray, "4 4"]:
    """Returns the matrix from a file's indices to its unit, right, anterior and superior."""
    if is_nifti(file):
        return np.asarray(load_nifti(file).affine, dtype=float)
    header = sitk.ImageFileReader()
    header.SetFileName(str(file))
    header.ReadImageInformation()
    axes = min(header.GetDimension(), 3)
    direction = np.reshape(header.GetDirection(), (header.GetDimension(),) * 2)
    affine = np.eye(4)
    affine[:axes, :axes] = direction[:axes, :axes] * np.array(header.GetSpacing()[:axes])
    affine[:axes, 3] = header.GetOrigin()[:axes]
    return _TO_RAS @ affine


def write_like(
    file: Path,
    reader: BaseReaderWriter,
    label_map: NDArray[np.uint8],
    new: Path,
    colours: Mapping[int, tuple[int, int, int]],
) -> None:
    """Writes a label map in the format, on the grid and with the geometry of a file.

    The affine matrix of a NIfTI file stays the same to the last bit, with the codes of its header.
    PNG and BMP files have the colours as a palette, whose indices are the labels.

    Args:
        file: that the reader has read.
        reader: nnU-Net's.
        label_map: `[z, y, x]`, as the reader has turned the file.
        new: path with the ending of the format.
        colours: by label.

    Raises:
        Exception: whatever the writers raise.
    """
    if is_nifti(new):
        _write_nifti(file, label_map, read_placement(reader, file), new)
    elif new.name.lower().endswith(_PICTURES):
        picture = Image.fromarray(label_map[0], mode="P")
        palette = np.zeros((256, 3), np.uint8)
        for label, colour in colours.items():
            palette[label] = colour
        picture.putpalette(palette.tobytes())
        picture.save(new)
    else:
        properties: dict[str, Any] = read_silently(reader, file)[1]
        reader.write_seg(label_map, str(new), properties)


def _write_nifti(file: Path, label_map: NDArray[np.uint8], placement: Placement, new: Path) -> None:
    like = load_nifti(file)
    turned = placement.to_file[:3, :3]
    axes = np.argmax(np.abs(turned), axis=0)
    orientation = [[axis, turned[axis, place]] for place, axis in enumerate(axes)]
    data = nibabel.apply_orientation(label_map.transpose(2, 1, 0), np.array(orientation))
    header = like.header.copy()
    header.extensions.clear()
    header.set_data_dtype(np.uint8)
    header["cal_max"] = header["cal_min"] = 0  # viewers take their window from these
    nibabel.save(type(like)(data.reshape(like.shape), like.affine, header), new)
