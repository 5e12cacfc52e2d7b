"""Where the voxels of nnU-Net's arrays lie in their file and in the patient.

nnU-Net's arrays are [z, y, x]. Some of its readers turn the axes of a file first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

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

from nnunet_topo.images.geometry import array_affine, has_orientation
from nnunet_topo.images.nifti import is_nifti, load_nifti
from nnunet_topo.images.segmentation import MM_OF_UNITS, read_array

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from ITK's axes of the patient: left, posterior
Scalar = TypeVar("Scalar", bound=np.generic)


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

    def turned(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """Returns an array `[z, y, x]` with the axes i, j, k of the file."""
        rotation = self.to_file[:3, :3]
        axes = np.argmax(np.abs(rotation), axis=0)
        orientation = [[axis, rotation[axis, place]] for place, axis in enumerate(axes)]
        return nibabel.apply_orientation(array.transpose(2, 1, 0), np.array(orientation))


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
        of_array = array_affine(read_array(reader, file)[1])
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
