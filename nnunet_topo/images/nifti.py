"""NIfTI files in nibabel's form, also those that only SimpleITK can read."""

import gzip
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
from nibabel.filebasedimages import ImageFileError

_GZIP = b"\x1f\x8b"
_SIZES_OF_NIFTI2 = ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))


def is_nifti(file: Path) -> bool:
    """Returns whether a file's name says that it is NIfTI."""
    return file.name.lower().endswith((".nii", ".nii.gz"))


@contextmanager
def own_voxels(files: Sequence[Path]) -> Iterator[list[str]]:
    """Yields the paths at which nnU-Net's readers find the voxels of these very files.

    Where CASE.nii lies beside CASE.nii.gz, SimpleITK takes its voxels when it is asked for
    CASE.nii.gz. Such a file is read in a folder without the other.

    Raises:
        OSError: there is no room for that folder.
    """
    with ExitStack() as stack:
        yield [str(_without_twin(file, stack)) for file in files]


def _without_twin(file: Path, stack: ExitStack) -> Path:
    if not file.name.lower().endswith(".nii.gz"):
        return file
    if not os.path.lexists(file.with_name(file.name[: -len(".gz")])):
        return file
    alone = Path(stack.enter_context(TemporaryDirectory())) / file.name
    try:
        alone.symlink_to(file.absolute())
    except OSError:  # Windows allows links to administrators only
        shutil.copyfile(file, alone)
    return alone


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
