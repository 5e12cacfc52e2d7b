"""Label maps written in the format and with the geometry of another file."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from nnunet_topo.files import data_files
from nnunet_topo.images.nifti import is_nifti, load_nifti
from nnunet_topo.images.placement import read_placement
from nnunet_topo.images.segmentation import read_silently

_WITH_TYPES = (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz")
_PICTURES = (".png", ".bmp")


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
    if is_nifti(source) and _change_nifti(source, reader, before, after, target):
        return
    reader.write_seg(after, str(target), read_silently(reader, source)[1])
    _restore_type(source, target)


def write_like(
    file: Path,
    reader: BaseReaderWriter,
    label_map: NDArray[np.uint8],
    target: Path,
    colours: Mapping[int, tuple[int, int, int]],
) -> None:
    """Writes another label map in the format, on the grid and with the geometry of a file.

    The affine matrix of a NIfTI file stays the same to the last bit, with the codes of its header.
    PNG and BMP files have the colours as a palette, whose indices are the labels.

    Args:
        file: that the reader has read.
        reader: nnU-Net's.
        label_map: `[z, y, x]`, as the reader has turned the file.
        target: path with the ending of the format.
        colours: by label.

    Raises:
        Exception: whatever readers and writers raise.
    """
    if is_nifti(target):
        like = load_nifti(file)
        values = read_placement(reader, file).turned(label_map).reshape(like.shape)
        header = like.header.copy()
        header.extensions.clear()
        header["cal_max"] = header["cal_min"] = 0  # viewers take their window from these
        _save_nifti(like, values, header, np.uint8, target)
    elif target.name.lower().endswith(_PICTURES):
        picture = Image.fromarray(label_map[0], mode="P")
        palette = np.zeros((256, 3), np.uint8)
        for label, colour in colours.items():
            palette[label] = colour
        picture.putpalette(palette.tobytes())
        picture.save(target)
    else:
        reader.write_seg(label_map, str(target), read_silently(reader, file)[1])


def _change_nifti(
    source: Path,
    reader: BaseReaderWriter,
    before: NDArray[np.generic],
    after: NDArray[np.generic],
    target: Path,
) -> bool:
    """Writes with the header of the source if its values are those that were read; else False."""
    image = load_nifti(source)
    stored = np.asanyarray(image.dataobj)
    placement = read_placement(reader, source)
    old, new = (placement.turned(array) for array in (before, after))
    if stored.size != old.size or not np.array_equal(stored.reshape(old.shape), old):
        return False
    header = image.header.copy()
    header.set_slope_inter(1, 0)
    kind = image.get_data_dtype()
    _save_nifti(image, new.reshape(stored.shape).astype(kind), header, kind, target)
    return True


def _save_nifti(
    like: nibabel.Nifti1Image,
    values: NDArray[np.generic],
    header: nibabel.Nifti1Header,
    kind: DTypeLike,
    target: Path,
) -> None:
    header.set_data_dtype(kind)
    type(like)(values, like.affine, header).to_filename(target)


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
