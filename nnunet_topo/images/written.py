"""Label maps written in the format and with the geometry of another file."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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
from nnunet_topo.images.segmentation import read_array, read_segmentation
from nnunet_topo.images.text_headers import (
    has_text_header,
    header_gives_spacing,
    remove_added_geometry,
)

_WITH_TYPES = (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz")
_PICTURES = (".png", ".bmp")
_Fitted = Callable[[NDArray[np.generic]], NDArray[np.generic] | None]  # see _values_in_file


def write_changed(
    source: Path,
    reader: BaseReaderWriter,
    before: NDArray[np.generic],
    after: NDArray[np.generic],
    target: Path,
) -> None:
    """Writes a changed segmentation in the format, data type and geometry of the file before.

    A data type that cannot hold a new label is replaced by the smallest integer type that holds
    all labels. If nothing has changed, the file is copied byte for byte, unless its voxels lie in
    another file whose name its header holds.

    Args:
        source: the file before.
        reader: nnU-Net's, of this file.
        before: its label map `[z, y, x]`, as the reader has turned it.
        after: the label map to be written, of the same shape.
        target: path with the same ending; there is no such file yet.

    Raises:
        ValueError: the format cannot hold the labels.
        Exception: whatever readers and writers raise.
    """
    moved = before != after
    if not moved.any() and not data_files(source):
        shutil.copyfile(source, target)
        spacing = source.with_suffix(".json")
        if isinstance(reader, Tiff3DIO) and spacing.is_file():
            shutil.copyfile(spacing, target.with_suffix(".json"))
        return
    change = _change_nifti if is_nifti(source) else _change_itk
    if not change(source, partial(_values_in_file, source, reader, before, after), target):
        _write_seg(reader, after, source, target)
        _restore_type(source, target)
    if not np.array_equal(read_segmentation(reader, target).label_map, after):
        raise ValueError(f"a file such as {source.name} cannot hold its new labels")


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
        _write_seg(reader, label_map, file, target)


def _write_seg(
    reader: BaseReaderWriter, label_map: NDArray[np.generic], source: Path, target: Path
) -> None:
    """Writes with nnU-Net's writer, without the file of a spacing that the source does not have."""
    properties = read_array(reader, source)[1]
    if len(properties.get("sitk_stuff", {}).get("origin", ())) > 3 and not is_nifti(source):
        kind = _type_for(label_map, np.dtype(np.uint8))
        _write_itk(sitk.ReadImage(str(source)), label_map[None].astype(kind), target)
        return
    if not isinstance(reader, Tiff3DIO) or source.with_suffix(".json").is_file():
        reader.write_seg(label_map, str(target), properties)
        return
    with TemporaryDirectory(dir=target.parent) as folder:
        new = Path(folder) / target.name
        reader.write_seg(label_map, str(new), properties)
        new.replace(target)


def _change_nifti(source: Path, fitted: _Fitted, target: Path) -> bool:
    """Writes with the header of the source if its values are those that were read; else False."""
    image = load_nifti(source)
    values = fitted(np.asanyarray(image.dataobj))
    if values is None:
        return False
    header = image.header.copy()
    header.set_slope_inter(1, 0)
    kind = _type_for(values, image.get_data_dtype())
    _save_nifti(image, values.astype(kind), header, kind, target)
    return True


def _change_itk(source: Path, fitted: _Fitted, target: Path) -> bool:
    """Does the same for formats of SimpleITK with several data types; else returns False."""
    if not source.name.lower().endswith(_WITH_TYPES):
        return False
    image = sitk.ReadImage(str(source))
    stored = sitk.GetArrayViewFromImage(image)
    values = fitted(stored.T)
    if values is None:
        return False
    _write_itk(image, values.T.astype(_type_for(values, stored.dtype)), target)
    if has_text_header(source) and not header_gives_spacing(source):
        remove_added_geometry(source, target)
    return True


def _write_itk(like: sitk.Image, values: NDArray[np.generic], target: Path) -> None:
    """Writes values with the geometry of an image; a fourth axis is not one of channels."""
    changed = sitk.GetImageFromArray(values, isVector=False)
    changed.CopyInformation(like)
    sitk.WriteImage(changed, str(target), True)


def _values_in_file(
    source: Path,
    reader: BaseReaderWriter,
    before: NDArray[np.generic],
    after: NDArray[np.generic],
    stored: NDArray[np.generic],
) -> NDArray[np.generic] | None:
    """Returns a new label map with the axes x, y, z of a file, None if the file holds others."""
    placement = read_placement(reader, source)
    old, new = (placement.turned(array) for array in (before, after))
    if stored.size != old.size or not np.array_equal(stored.reshape(old.shape), old):
        return None
    return new.reshape(stored.shape)


def _type_for(values: NDArray[np.generic], wanted: np.dtype[Any]) -> np.dtype[Any]:
    """Returns a data type if it holds all labels, else the smallest integer type that does."""
    with np.errstate(invalid="ignore"):
        if np.array_equal(values.astype(wanted), values):
            return wanted
    ends = int(values.min()), int(values.max())
    return np.result_type(*map(np.min_scalar_type, ends))


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
        image = load_nifti(target)
        values = np.asarray(image.dataobj)
        kind = _type_for(values, load_nifti(source).get_data_dtype())
        if kind != values.dtype:
            _save_nifti(image, values.astype(kind), image.header.copy(), kind, target)
