"""What is read from a segmentation file: its label map, and where it lies in space."""

import contextlib
import io
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from numpy.typing import NDArray

from nnunet_topo.images.layouts import (
    Layout,
    check_file,
    describe_channels,
    is_colour_image,
    is_grey,
    read_layout,
)
from nnunet_topo.images.nifti import is_nifti, load_nifti, own_voxels, raw_nifti_header
from nnunet_topo.images.text_headers import has_text_header, header_gives_spacing
from nnunet_topo.labels.values import NOT_FINITE

Unit = Literal["mm", "pixels", "voxels"]
_LPS = np.diag([-1.0, -1.0, 1.0])  # from nibabel's axes of the patient to those of SimpleITK
_SAME_SPACING = 1e-3
MM_OF_UNITS = {"meter": 1000.0, "micron": 0.001}


class NotALabelMapError(ValueError):
    """A file can be read, but does not hold one label map."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A label map and its geometry; all lengths in mm.

    Attributes:
        label_map: `[z, y, x]` as nnU-Net's reader turns it, an image with one slice.
        spacing: of the axes z, y, x; None if the file has none.
        direction: columns are the axes x, y, z in SimpleITK's system (left, posterior, superior);
            None if the file has none.
        origin: position of the first voxel in the same system, None if the file has none.
        shape: on disk, in words.
        wrong_spacing: the spacing in the header if it is not valid, else "".
        two_spacings: what is said of a header that gives two, else "".
    """

    label_map: NDArray
    spacing: NDArray[np.float64] | None
    direction: NDArray[np.float64] | None
    origin: NDArray[np.float64] | None
    shape: str
    wrong_spacing: str = ""
    two_spacings: str = ""


def read_segmentation(reader: BaseReaderWriter, file: Path) -> Segmentation:
    """Returns what a file holds.

    Raises:
        NotALabelMapError: it holds several channels, or NaN.
        Exception: whatever the readers raise.
    """
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # it writes a line for each wrong header, which we report
    try:
        return _read(reader, file)
    finally:
        logger.setLevel(level)


def _read(reader: BaseReaderWriter, file: Path) -> Segmentation:
    if file.stat().st_size == 0:
        raise ValueError("the file is empty (0 bytes)")
    layout = read_layout(reader, file)
    if layout is not None and layout.channels > 1 and not is_colour_image(reader, layout):
        raise NotALabelMapError(describe_channels(layout))
    array, properties = read_array(reader, file)
    if is_nifti(file):
        # SimpleITK puts zeros for NaN, and for the rest of a file that was cut short.
        stored = load_nifti(file).dataobj.get_unscaled()
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise NotALabelMapError(f"it {NOT_FINITE}")
    if len(array) > 1:
        layout = layout or Layout(array.shape[:0:-1], len(array))
        if not is_grey(array):
            raise NotALabelMapError(describe_channels(replace(layout, channels=len(array))))
    label_map = array[0]
    shape = str(layout or Layout(label_map.shape[::-1]))
    if not has_spacing(reader, file):
        return Segmentation(label_map, None, None, None, shape)
    spacing = np.asarray(properties["spacing"], dtype=float)
    direction, origin = _placement(properties)
    wrong = two = ""
    if is_nifti(file):
        header = raw_nifti_header(file)
        in_mm = MM_OF_UNITS.get(header.get_xyzt_units()[0], 1.0)
        if "nibabel_stuff" in properties:
            spacing, origin = spacing * in_mm, None if origin is None else origin * in_mm
        if not (header["qform_code"] > 0 or header["sform_code"] > 0):
            direction = origin = None
        wrong = _wrong_spacing(header)
        if wrong and header["sform_code"] > 0:  # whose columns have the lengths, too
            affine = load_nifti(file).affine
            affine = properties.get("nibabel_stuff", {}).get("reoriented_affine", affine)
            spacing = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
            spacing, wrong = spacing * in_mm, ""
        elif not wrong:
            two = _two_spacings(header, spacing, in_mm)
    if file.name.lower().endswith((".nrrd", ".nhdr")) and not nrrd_has_space(file):
        direction = origin = None
    if not wrong and not (np.isfinite(spacing).all() and (spacing > 0).all()):
        wrong = in_words(spacing)
    if wrong:
        return Segmentation(label_map, None, direction, origin, shape, wrong)
    return Segmentation(label_map, spacing, direction, origin, shape, two_spacings=two)


def read_array(reader: BaseReaderWriter, file: Path) -> tuple[NDArray, Any]:
    """Returns the array `[channel, z, y, x]` of a file and the properties of its reader.

    A NIfTI file that the reader refuses is read by another of nnU-Net's, with the same axes.

    Raises:
        Exception: whatever the readers raise.
    """
    try:
        return read_silently(reader, file)
    except (RuntimeError, AssertionError) as error:
        other = _other_reader(reader, file, error)
        if other is None:
            raise
    return read_silently(other, file)


def mm_of_unit(file: Path, properties: Any) -> float:
    """Returns the mm in the unit of the lengths that a reader gives; SimpleITK knows the units."""
    if "nibabel_stuff" not in properties:
        return 1.0
    return MM_OF_UNITS.get(load_nifti(file).header.get_xyzt_units()[0], 1.0)


def _other_reader(
    reader: BaseReaderWriter, file: Path, error: Exception
) -> BaseReaderWriter | None:
    """Returns which reader of nnU-Net's gives the array of a NIfTI file that one refuses.

    SimpleITK refuses axes that are not quite at right angles, nnU-Net's NibabelIO a fourth axis,
    even of length 1, and images.
    """
    if not is_nifti(file):
        return None
    if type(reader) is SimpleITKIO and "orthonormal" in str(error):
        return NibabelIO()
    if type(reader) is NibabelIO and "only 3d images" in str(error):
        return SimpleITKIO()
    return None


def read_silently(reader: BaseReaderWriter, file: Path) -> tuple[NDArray, Any]:
    """Returns what nnU-Net's reader gives, without what it prints of each TIFF without spacing.

    Raises:
        ValueError: the path is not Unicode, or the header promises more than the file can hold.
        Exception: whatever the reader raises.
    """
    check_file(reader, file)
    with contextlib.redirect_stdout(io.StringIO()), own_voxels([file]) as (path,):
        return reader.read_seg(path)


def unit_of(reader: BaseReaderWriter, file: Path) -> Unit:
    """Returns the unit of distances in a file."""
    if isinstance(reader, NaturalImage2DIO):
        return "pixels"
    return "mm" if has_spacing(reader, file) else "voxels"


def has_spacing(reader: BaseReaderWriter, file: Path) -> bool:
    """Returns whether the spacing that the reader gives is known.

    That of a TIFF volume is in a file beside it, which nnU-Net does not copy with the labels when
    it preprocesses: it reads them with a spacing of 1. Photographs have none, and headers of NRRD
    and MetaImage files may leave it out.
    """
    if isinstance(reader, NaturalImage2DIO):
        return False
    if isinstance(reader, Tiff3DIO):
        return file.with_suffix(".json").is_file()
    try:
        return not has_text_header(file) or header_gives_spacing(file)
    except OSError:  # the reader says what is wrong with the file
        return True


def _placement(
    properties: Any,
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Returns direction and origin as nnU-Net's readers leave them, after they have reoriented."""
    if "sitk_stuff" in properties:
        of_sitk = properties["sitk_stuff"]
        axes = len(of_sitk["origin"])
        direction = np.asarray(of_sitk["direction"], dtype=float).reshape(axes, axes)
        origin = np.asarray(of_sitk["origin"], dtype=float)
        return direction[:3, :3], origin[:3]
    if "nibabel_stuff" in properties:
        of_nibabel = properties["nibabel_stuff"]
        affine = of_nibabel.get("reoriented_affine", of_nibabel["original_affine"])
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            direction = _LPS @ affine[:3, :3] / lengths
        if not np.isfinite(direction).all():
            return None, None
        return direction, _LPS @ affine[:3, 3]
    return None, None


def nrrd_has_space(file: Path) -> bool:
    """Returns whether a NRRD file says how it lies in the patient; if not, SimpleITK guesses."""
    header = sitk.ImageFileReader()
    header.SetFileName(str(file))
    header.ReadImageInformation()
    return header.HasMetaDataKey("NRRD_space")


def _wrong_spacing(header: Any) -> str:
    """Returns the spacing of a NIfTI header if it is wrong, "" if it is valid."""
    lengths = np.asarray(header["pixdim"][1 : 1 + min(3, int(header["dim"][0]))], dtype=float)
    several = header["dim"][1 : 1 + len(lengths)] > 1  # a single slice's thickness does not matter
    valid = np.isfinite(lengths[several]).all() and (lengths[several] != 0).all()
    return "" if valid else in_words(lengths[::-1])


def _two_spacings(header: Any, taken: NDArray[np.float64], in_mm: float) -> str:
    """Returns what to say of a NIfTI header whose sform has other lengths than pixdim, else ""."""
    if header["sform_code"] <= 0:
        return ""
    axes = min(3, int(header["dim"][0]))
    pixdim = np.abs(np.asarray(header["pixdim"][1 : 1 + axes], dtype=float)) * in_mm
    sform = np.linalg.norm(header.get_sform()[:3, :axes], axis=0) * in_mm
    several = header["dim"][1 : 1 + axes] > 1
    if np.allclose(pixdim[several], sform[several], rtol=_SAME_SPACING, atol=0):
        return ""
    # A reader that turns the axes lets nibabel take the lengths from the matrix.
    is_pixdim, is_sform = (
        np.allclose(np.sort(taken)[-axes:], np.sort(lengths), rtol=_SAME_SPACING, atol=0)
        for lengths in (pixdim, sform)
    )
    which = "sform" if is_sform and not is_pixdim else "pixdim"
    return (
        f"{in_words(pixdim[::-1])} mm (x, y, z) in pixdim and {in_words(sform[::-1])} mm in its "
        f"sform; nnU-Net's reader takes {which}"
    )


def in_words(values: NDArray[np.float64]) -> str:
    """Returns lengths along z, y, x in the order of viewers, x x y x z."""
    return " x ".join(f"{round(float(value), 6):.6g}" for value in values[::-1])
