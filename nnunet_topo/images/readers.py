"""Which of nnU-Net's readers reads a segmentation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.reader_writer_registry import (
    LIST_OF_IO_CLASSES,
    recursive_find_reader_writer_by_name,
)
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_topo.files import case_files, case_name, split_ending
from nnunet_topo.images.layouts import is_tiff_volume
from nnunet_topo.images.segmentation import read_silently

# What SimpleITK reads beside the endings that nnU-Net lists.
_MORE = {".mhd": SimpleITKIO, ".nhdr": SimpleITKIO, ".gipl.gz": SimpleITKIO}


def known_endings() -> tuple[str, ...]:
    """Returns how the names of segmentations may end, in lower case."""
    listed = (ending for reader in LIST_OF_IO_CLASSES for ending in reader.supported_file_endings)
    # Slicer names its segmentations so; the part before is the name of the case.
    return tuple(dict.fromkeys((*listed, ".seg.nrrd", *_MORE)))


def known_ending(file: Path) -> str:
    """Returns the longest known ending of a file's name, in lower case, "" if it has none."""
    return split_ending(file, known_endings())[1].lower()


def written_ending(file: Path, declared: str = "") -> str:
    """Returns the ending of a file's name as it is written there: a declared one before others."""
    return split_ending(file, [declared])[1] or split_ending(file, known_endings())[1]


def probabilities_file(prediction: Path) -> Path:
    """Returns where the probabilities of a prediction are, if nnU-Net has saved them."""
    return prediction.with_name(f"{split_ending(prediction, known_endings())[0]}.npz")


def segmentations_with(folder: Path, ending: str) -> tuple[list[Path], list[str]]:
    """Returns the segmentations of a folder, one of each case, and what is wrong with others.

    Another file of a case that is there with this ending is a copy or a picture for viewing. One
    of a case that is not there is a problem, as are two files whose names differ in upper and
    lower case of the ending.

    Args:
        folder: none is found if it does not exist.
        ending: of their names, upper or lower case.
    """
    files = [file for file in case_files(folder, "") if file.name.lower() not in known_endings()]
    own = [file for file in files if file.name.lower().endswith(ending.lower())]
    found: dict[str, Path] = {}
    problems = []
    for file in sorted(own, key=lambda file: not file.name.endswith(ending)):
        first = found.setdefault(case_name(file, (*known_endings(), ending)), file)
        if first != file:
            problems.append(f"{file.name}: left out, {first.name} is of the same case")
    for file in files:
        if known_ending(file) and file not in own and case_name(file, known_endings()) not in found:
            problems.append(f"{file.name}: left out, its name does not end in {ending}")
    return sorted(found.values()), problems


class ReadersByEnding:
    """nnU-Net's reader of each file by the ending of its name, as nnU-Net chooses one.

    Where several know an ending, as with TIFF images and volumes, the first that reads an example.
    """

    def __init__(self, files: Sequence[Path], named: type[BaseReaderWriter] | None = None) -> None:
        """Takes the files that will be read, and a reader that a dataset.json asks for."""
        self._readers: dict[tuple[Path, str], BaseReaderWriter] = {}
        for file in files:
            key = self._key(file)
            if key not in self._readers:
                of_key = [other for other in files if self._key(other) == key]
                self._readers[key] = named() if named else _choose(key[1], of_key)

    def __call__(self, file: Path) -> BaseReaderWriter:
        """Returns the reader of a file."""
        return self._readers[self._key(file)]

    @staticmethod
    def _key(file: Path) -> tuple[Path, str]:
        return file.parent, known_ending(file)


def _choose(ending: str, files: Sequence[Path]) -> BaseReaderWriter:
    """Raises ValueError where nnU-Net has no reader for an ending."""
    ending = ".nrrd" if ending == ".seg.nrrd" else ending
    readers = [reader for reader in LIST_OF_IO_CLASSES if ending in reader.supported_file_endings]
    readers += [_MORE[ending]] if ending in _MORE else []
    if not readers:
        raise ValueError(
            f"nnU-Net has no reader for {files[0].name}; it reads {', '.join(known_endings())}"
        )
    if Tiff3DIO in readers and NaturalImage2DIO in readers:
        # Either reads some files of the other, such as volumes of three slices.
        return Tiff3DIO() if any(map(is_tiff_volume, files[:5])) else NaturalImage2DIO()
    if len(readers) > 1:
        for file in files[:5]:  # one of them may be broken
            for reader in readers:
                if _reads(reader(), file):
                    return reader()
    return readers[0]()


def _reads(reader: BaseReaderWriter, file: Path) -> bool:
    try:
        read_silently(reader, file)
    except Exception:  # whatever the readers raise
        return False
    return True


def choose_readers(
    files: Sequence[Path],
    description: Mapping[str, Any],
    dataset_json: Path,
    plan: Mapping[str, Any] | None,
    plans: Path | None,
) -> Callable[[Path], BaseReaderWriter]:
    """Returns what gives nnU-Net's reader of each file.

    Files with the ending of the data set have the reader that the plans name, which is the one
    that nnU-Net predicts with. Without plans, dataset.json and the ending decide.

    Args:
        files: that will be read.
        description: content of dataset.json.
        dataset_json: its file.
        plan: content of nnU-Net's plans, None without plans.
        plans: their file, None without plans.

    Raises:
        ValueError: there is no reader, or that of the plans reads other files.
    """
    ending = description["file_ending"]
    own = [file for file in files if file.name.lower().endswith(ending.lower())]
    if plan is None or plans is None or not own:
        return ReadersByEnding(files, reader_of_dataset(description))
    reader = reader_of_plans(plan, plans, ending, dataset_json, own[0])
    chosen = set(own)
    others = ReadersByEnding([file for file in files if file not in chosen])
    return lambda file: reader if file in chosen else others(file)


def reader_of_plans(
    plan: Mapping[str, Any], plans: Path, ending: str, dataset_json: Path, example: Path
) -> BaseReaderWriter:
    """Returns the reader that nnU-Net's plans name.

    Raises:
        ValueError: there is no such reader, or it reads other files.
    """
    try:
        reader = recursive_find_reader_writer_by_name(plan["image_reader_writer"])()
    except RuntimeError as error:
        raise ValueError(f"nnU-Net does not take {plans}: {error}") from None
    known = [str(e) for e in reader.supported_file_endings]
    if ending.lower() not in known and not _reads(reader, example):
        raise ValueError(
            f"{plans} names the reader {type(reader).__name__} for {', '.join(known)}, but the "
            f"file_ending in {dataset_json} is {ending}: are these the plans of another data set?"
        )
    return reader


def reader_of_dataset(description: Mapping[str, Any]) -> type[BaseReaderWriter] | None:
    """Returns the reader that a dataset.json asks for, None if it asks for none."""
    name = description.get("overwrite_image_reader_writer") or "None"
    if name == "None":
        return None
    try:
        return recursive_find_reader_writer_by_name(name)
    except RuntimeError:  # nnU-Net then goes by the ending
        return None
