"""How the arrays of nnU-Net's readers lie in the patient, and the unit of their distances."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from numpy.typing import NDArray

from nnunet_topo.images.nifti import is_nifti, load_nifti
from nnunet_topo.images.segmentation import Unit, mm_of_unit, nrrd_has_space

_OBLIQUE = 0.9999  # cosine to the nearest axis of the patient
_LETTERS = ("LR", "PA", "IS")  # of the axes of NIfTI: below and above zero


@dataclass(frozen=True, slots=True)
class Geometry:
    """An array [z, y, x] in the patient.

    Attributes:
        letters: side of the patient (R, L, A, P, S, I) to which the index of each axis grows, ""
            if that is unknown.
        first_mm: position of the first slice in the direction of its letter, NaN if unknown.
        oblique: whether the axes point between the sides, so that the letters are the nearest ones.
        file_axis: axis of the file along which the slices lie, counted from 1; 0 if it is not an
            axis of the file.
        flipped: whether the file counts its slices from the other end.
    """

    letters: tuple[str, str, str] = ("", "", "")
    first_mm: float = float("nan")
    oblique: bool = False
    file_axis: int = 3
    flipped: bool = False

    def moved_to_front(self, axis: int) -> "Geometry":
        """Returns the geometry after an axis of one slice was moved to the front."""
        order = [axis, *(other for other in range(3) if other != axis)]
        first, second, third = (self.letters[other] for other in order)
        return Geometry((first, second, third), oblique=self.oblique, file_axis=0)


def read_geometry(file: Path, properties: Mapping[str, Any]) -> Geometry:
    """Returns how an array lies in the patient, as far as its file records it.

    Args:
        file: the file that nnU-Net's reader has read.
        properties: the properties that the reader returned.
    """
    affine = array_affine(properties)
    if affine is not None:
        affine[:3] *= mm_of_unit(file, properties)
    if affine is None or not has_orientation(file):
        return Geometry(file_axis=1 if file.suffix.lower() in (".tif", ".tiff") else 3)
    columns = affine[:3, 2::-1]  # of the array's axes
    directions = columns / np.linalg.norm(columns, axis=0)
    nearest = np.argmax(np.abs(directions), axis=0)
    signs = [directions[axis, k] for k, axis in enumerate(nearest)]
    first, second, third = (
        _LETTERS[axis][int(sign > 0)] for axis, sign in zip(nearest, signs, strict=True)
    )
    on_disk = _letters_on_disk(properties)
    file_axis, flipped = 3, False
    if on_disk:
        pair = next(pair for pair in _LETTERS if first in pair)
        axis = next(k for k, letter in enumerate(on_disk) if letter in pair)
        file_axis, flipped = axis + 1, on_disk[axis] != first
    return Geometry(
        (first, second, third),
        first_mm=float(directions[:, 0] @ affine[:3, 3]),
        oblique=bool(np.min(np.abs(signs)) < _OBLIQUE),
        file_axis=file_axis,
        flipped=flipped,
    )


def array_affine(properties: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Returns the matrix from voxels [x, y, z] to the reader's unit, as in NIfTI, None if unknown.

    The unit is mm, of nibabel's readers that of the file, see `mm_of_unit`.
    """
    of_nibabel = properties.get("nibabel_stuff", {})
    affine = of_nibabel.get("reoriented_affine", of_nibabel.get("original_affine"))
    if affine is not None:
        return np.array(affine, dtype=float)
    of_itk = properties.get("sitk_stuff", {})
    if len(of_itk.get("direction", ())) != 9:
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(of_itk["direction"], (3, 3)) * np.asarray(of_itk["spacing"])
    affine[:3, 3] = of_itk["origin"]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK counts to the left and to the back


def _letters_on_disk(properties: Mapping[str, Any]) -> str:
    """Returns the letters of the file's own axes if a reader has reoriented it, else ""."""
    of_nibabel = properties.get("nibabel_stuff", {})
    if "reoriented_affine" in of_nibabel:
        return "".join(map(str, nibabel.aff2axcodes(of_nibabel["original_affine"])))
    return properties.get("sitk_stuff", {}).get("original_orientation", "")


def has_orientation(file: Path) -> bool:
    """Returns whether a file says how it lies in the patient; if not, its reader has guessed."""
    name = file.name.lower()
    if is_nifti(file):
        header = load_nifti(file).header
        return bool(header["qform_code"] or header["sform_code"])
    if name.endswith((".nrrd", ".nhdr")):
        return nrrd_has_space(file)
    return not name.endswith((".gipl", ".gipl.gz"))  # which ITK reads without directions


def find_unit(
    recorded: Iterable[Unit | None], reader: BaseReaderWriter, folders: Sequence[Path]
) -> Unit:
    """Returns the unit of the distances in summaries: as recorded, otherwise by the reader.

    Args:
        recorded: unit of each summary, None where it is not recorded.
        reader: nnU-Net's.
        folders: of the segmentations; those of TIFF volumes may hold files with their spacing.

    Raises:
        ValueError: the summaries do not agree.
    """
    found: list[Unit] = [unit for unit in recorded if unit is not None]
    if len(set(found)) > 1:
        units = " and in ".join(sorted(set(found)))
        raise ValueError(f"distances are in {units}: some segmentations lack their spacing")
    if found:
        return found[0]
    if isinstance(reader, NaturalImage2DIO):
        return "pixels"
    if isinstance(reader, Tiff3DIO):
        spacings = (
            file.with_suffix(".json").is_file()
            for folder in folders
            for file in folder.glob("*.tif*")
        )
        return "mm" if any(spacings) else "voxels"
    return "mm"
