"""NIfTI files in nibabel's form, also those that only SimpleITK can read."""

import gzip
from pathlib import Path
from typing import Any

import nibabel
from nibabel.filebasedimages import ImageFileError

_GZIP = b"\x1f\x8b"
_SIZES_OF_NIFTI2 = ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))


def is_nifti(file: Path) -> bool:
    """Returns whether a file's name says that it is NIfTI."""
    return file.name.lower().endswith((".nii", ".nii.gz"))


def load_nifti(file: Path) -> Any:
    """Returns nibabel's image of a file.

    Files of some data sets are called .nii.gz and are not compressed. SimpleITK reads them.

    Raises:
        ImageFileError: it is not NIfTI.
        OSError: it cannot be read.
    """
    try:
        return nibabel.load(file)
    except ImageFileError:
        content = file.read_bytes()
        if not content or content.startswith(_GZIP):
            raise
        second = content.startswith(_SIZES_OF_NIFTI2)
        return (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_bytes(content)


def is_gzip(file: Path) -> bool:
    """Returns whether a file is compressed, whatever its name says."""
    with file.open("rb") as opened:
        return opened.read(len(_GZIP)) == _GZIP


def raw_nifti_header(file: Path) -> Any:
    """Returns the header as it is on disk; nibabel, like SimpleITK, puts 1 for a spacing of 0."""
    header_class = type(load_nifti(file).header)
    with gzip.open(file) if is_gzip(file) else file.open("rb") as opened:
        return header_class(opened.read(header_class.sizeof_hdr), check=False)
