"""Segmentations written again with some voxels changed, in the format of the file before."""

import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from numpy.typing import NDArray

from nnunet_topo.files import data_files
from nnunet_topo.images.nifti import is_nifti, load_nifti
from nnunet_topo.images.segmentation import read_silently

_WITH_TYPES = (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz")


def write_changed(
    source: Path,
    reader: BaseReaderWriter,
    before: NDArray[np.generic],
    after: NDArray[np.generic],
    target: Path,
) -> None:
    """Writes a changed segmentation in the format, data type and geometry of the file before.

    If nothing has changed, the file is copied byte for byte, unless its voxels lie in another file
    whose name its header holds.

    Args:
        source: the file before.
        reader: nnU-Net's, of this file.
        before: its label map `[z, y, x]`, as the reader has turned it.
        after: the label map to be written, of the same shape.
        target: path with the same ending; there is no such file yet.

    Raises:
        Exception: whatever readers and writers raise.
    """
    moved = before != after
    if not moved.any() and not data_files(source):
        shutil.copyfile(source, target)
        spacing = source.with_suffix(".json")
        if isinstance(reader, Tiff3DIO) and spacing.is_file():
            shutil.copyfile(spacing, target.with_suffix(".json"))
        return
    if is_nifti(source) and _change_nifti(source, before, after, moved, target):
        return
    reader.write_seg(after, str(target), read_silently(reader, source)[1])
    _restore_type(source, target)


def _change_nifti(
    source: Path,
    before: NDArray[np.generic],
    after: NDArray[np.generic],
    moved: NDArray[np.bool_],
    target: Path,
) -> bool:
    """Writes with the header of the source, and returns whether its axes are those of the array."""
    image = load_nifti(source)
    stored = np.asanyarray(image.dataobj)
    if stored.ndim not in (2, 3, 4):
        return False
    turned = stored.reshape(stored.shape[:3])[..., None] if stored.ndim == 2 else stored
    turned = turned.reshape(turned.shape[:3]).T
    if turned.shape != before.shape or not np.array_equal(turned, before):
        return False
    values = turned.copy()
    values[moved] = after[moved]
    header = image.header.copy()
    header.set_slope_inter(1, 0)
    new = type(image)(values.T.reshape(stored.shape), image.affine, header)
    new.set_data_dtype(image.get_data_dtype())
    new.to_filename(target)
    return True


def _restore_type(source: Path, target: Path) -> None:
    """Gives a new file the data type of the old one; nnU-Net writes 8 or 16 bits without sign."""
    if is_nifti(source):
        wanted, image = load_nifti(source).get_data_dtype(), load_nifti(target)
        if image.get_data_dtype() != wanted:
            header = image.header.copy()
            header.set_data_dtype(wanted)
            values = np.asarray(image.dataobj).astype(wanted)
            type(image)(values, image.affine, header).to_filename(target)
    elif target.name.lower().endswith(_WITH_TYPES):
        pixel, image = sitk.ReadImage(str(source)).GetPixelID(), sitk.ReadImage(str(target))
        if image.GetPixelID() != pixel:
            sitk.WriteImage(sitk.Cast(image, pixel), str(target), True)
