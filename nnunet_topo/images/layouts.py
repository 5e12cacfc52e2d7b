"""How a segmentation file is laid out on disk: its axes, and the values of each voxel."""

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import tifffile
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from numpy.typing import NDArray
from PIL import Image

from nnunet_topo.files import read_json
from nnunet_topo.images.nifti import is_gzip, is_nifti, load_nifti

_GIPL_HEADER = 256  # bytes
_MOST_VOXELS_PER_BYTE = 1032  # deflate, of one byte each; NIfTI and MetaImage know nothing better


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is laid out: lengths along x, y, z, and the values of each voxel."""

    lengths: tuple[int, ...]
    channels: int = 1
    kind: str = "channels"

    @property
    def voxels(self) -> int:
        """Returns the number of voxels; Python's integers do not overflow."""
        return math.prod(map(int, self.lengths))

    def __str__(self) -> str:
        axes = "x, y, z"[: 3 * len(self.lengths) - 2]
        shape = " x ".join(map(str, self.lengths))
        if self.channels == 1:
            return f"{shape} ({axes})"
        return f"{shape} x {self.channels} ({axes}, {self.kind})"


def read_layout(reader: BaseReaderWriter, file: Path) -> Layout | None:
    """Returns how a file is laid out on disk, None where only its reader knows."""
    name = file.name.lower()
    try:
        check_path(file)
        if is_nifti(file):
            image = load_nifti(file)
            colours = len(image.get_data_dtype().fields or (0,))
            return _layout_of_lengths(image.shape, colours)
        if isinstance(reader, Tiff3DIO) or (
            isinstance(reader, NaturalImage2DIO) and name.endswith((".tif", ".tiff"))
        ):
            return _layout_of_tiff(file, volumes=isinstance(reader, Tiff3DIO))
        if isinstance(reader, NaturalImage2DIO):
            with Image.open(file) as picture:
                channels, kind = len(picture.getbands()), "channels"
                if picture.mode == "P":
                    channels, kind = 3, "colours of a palette"
                return Layout(picture.size, channels, kind)
        header = sitk.ImageFileReader()
        header.SetFileName(str(file))
        header.ReadImageInformation()
        return _layout_of_lengths(header.GetSize(), header.GetNumberOfComponents())
    except Exception:  # the reader says what is wrong with the file
        return None


def spacing_file(reader: BaseReaderWriter, file: Path, *, of_image: bool = False) -> Path | None:
    """Returns the file in which nnU-Net finds the spacing of a TIFF volume, None if there is none.

    Args:
        reader: nnU-Net's.
        file: a segmentation, CASE.tif.
        of_image: whether it is a channel of an image instead, CASE_0000.tif.
    """
    if not isinstance(reader, Tiff3DIO):
        return None
    name = file.stem[: -len("_0000")] if of_image else file.stem
    beside = file.with_name(f"{name}.json")
    return beside if beside.is_file() else None


def with_spacing_file(reader: BaseReaderWriter, channels: Sequence[Path]) -> list[Path]:
    """Returns the files of an image: its channels, and the file of its spacing if there is one."""
    beside = spacing_file(reader, channels[0], of_image=True)
    return [*channels, *([] if beside is None else [beside])]


def check_file(reader: BaseReaderWriter, file: Path, *, of_image: bool = False) -> None:
    """Refuses a file before a reader could end the process or make room for what is not there.

    Args:
        reader: nnU-Net's.
        file: a segmentation.
        of_image: whether it is a channel of an image instead.

    Raises:
        ValueError: its path is not Unicode, its header promises more than it can hold, or the
            file beside a TIFF volume does not hold its spacing.
    """
    check_path(file)
    beside = spacing_file(reader, file, of_image=of_image)
    if beside is not None:
        _check_spacing_file(beside)
    layout = read_layout(reader, file)
    if layout is not None and file.name.lower().endswith((".gipl", ".gipl.gz")):
        _check_gipl(file, layout)
    if layout is None or not file.name.lower().endswith((".nii", ".nii.gz", ".mha")):
        return
    size = file.stat().st_size
    if layout.voxels * layout.channels > _MOST_VOXELS_PER_BYTE * size:
        raise ValueError(
            f"its header promises shape {layout}, which a file of {size} bytes cannot hold: cut "
            "short, or a damaged header?"
        )


def _check_spacing_file(beside: Path) -> None:
    """Raises ValueError if the JSON file beside a TIFF volume does not hold its spacing."""
    try:
        lengths = np.asarray(read_json(beside)["spacing"])
        valid = lengths.shape == (3,) and lengths.dtype.kind in "iuf" and (lengths > 0).all()
        valid = valid and np.isfinite(lengths).all()
    except (KeyError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f"{beside} must hold spacing, three numbers above 0 for z, y and x")


def _check_gipl(file: Path, layout: Layout) -> None:
    """Raises ValueError if a file ends early, which SimpleITK does not notice."""
    header = sitk.ImageFileReader()
    header.SetFileName(str(file))
    header.ReadImageInformation()
    one = sitk.GetArrayViewFromImage(sitk.Image([1, 1], header.GetPixelID()))
    wanted = _GIPL_HEADER + layout.voxels * layout.channels * one.itemsize
    size = 0
    try:
        with gzip.open(file) if is_gzip(file) else file.open("rb") as opened:
            while part := opened.read(2**20):
                size += len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"it cannot be unpacked to its end ({error}): cut short?") from None
    if size < wanted:
        raise ValueError(
            f"its header promises shape {layout} in {wanted} bytes, it holds {size}: cut short, or "
            "a damaged header?"
        )


def check_path(file: Path) -> None:
    """Refuses a path that is not Unicode, on which SimpleITK ends the process.

    Raises:
        ValueError: it is not.
    """
    try:
        str(file).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            "its path is not valid UTF-8, and the readers cannot open it: rename it"
        ) from None


def _layout_of_lengths(lengths: tuple[int, ...], channels: int) -> Layout:
    return Layout(tuple(lengths[:3]), channels * int(np.prod(lengths[3:])))


def _layout_of_tiff(file: Path, *, volumes: bool) -> Layout:
    with tifffile.TiffFile(file) as tiff:
        series = tiff.series[0]
        shape, axes = series.shape, series.axes
    channels = 1
    # nnU-Net's reader itself writes a volume of three or four slices with the axes SYX.
    if axes.endswith("S") or (axes.startswith("S") and not volumes):
        place = axes.index("S")
        channels = shape[place]
        shape = shape[:place] + shape[place + 1 :]
    if not volumes and len(shape) > 2:
        return Layout(shape[:-3:-1], channels * int(np.prod(shape[:-2])), "pages")
    return Layout(shape[:-4:-1], channels * int(np.prod(shape[:-3])))


def is_tiff_volume(file: Path) -> bool:
    """Returns whether a TIFF file has several pages, which are slices, and not an image."""
    try:
        return len(_layout_of_tiff(file, volumes=True).lengths) > 2
    except Exception:  # the reader says what is wrong with the file
        return False


def is_colour_image(reader: BaseReaderWriter, layout: Layout) -> bool:
    """Returns whether a file is an RGB or RGBA photograph, whose channels may be equal."""
    photograph = isinstance(reader, NaturalImage2DIO)
    return photograph and layout.channels in (3, 4) and layout.kind != "pages"


def is_grey(array: NDArray) -> bool:
    """Returns whether all colours of a photograph are equal and its opacity is constant."""
    if len(array) not in (3, 4) or array.shape[1] != 1:
        return False
    return bool((array[1:3] == array[0]).all() and (array[3:] == array.flat[-1]).all())


def describe_channels(layout: Layout) -> str:
    """Returns what to say of a file of several channels, and the likely cause."""
    causes = {
        "colours of a palette": "nnU-Net reads the colours of its palette instead of labels; save "
        "the labels as a grey image",
        "pages": "an image has one; for volumes nnU-Net has Tiff3DIO",
    }
    if len(layout.lengths) == 2:
        cause = "colours for viewing? Save the labels as a grey image"
    else:
        cause = "several label maps in one file, or probabilities? Save one label map"
    return f"it has shape {layout}: {causes.get(layout.kind, cause)}"
