"""Files: read as JSON, written whole or not at all, compared by digest, paired by case."""

import hashlib
import json
import os
import re
import socket
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from math import isfinite
from pathlib import Path
from typing import Any

OWN_KEY = "nnunet_topo"
"""Key of what this package adds to files of nnU-Net."""
_NEW = ".topo-new"


def read_json(
    file: Path, *, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        ValueError: it does not hold one; the message is one line that names the file.
        OSError: it cannot be read.
    """
    content = read_json_value(file, object_pairs_hook=object_pairs_hook)
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object, got {type(content).__name__}")
    return content


def read_json_value(
    file: Path, *, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """Returns the content of a JSON file, whatever its type.

    Raises:
        ValueError: it is not a JSON file; the message is one line that names the file.
        OSError: it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # editors on Windows mark it
        return json.loads(text, object_pairs_hook=object_pairs_hook)
    except (ValueError, RecursionError) as error:  # not JSON, or brackets in brackets in brackets
        raise ValueError(f"{file} is not a JSON file: {error}") from None


def read_json_if_whole(file: Path) -> dict[str, Any]:
    """Returns the object in a JSON file of ours, {} if the file is missing, cut short or not JSON.

    For files that can be written again, such as the record of interrupted work.
    """
    try:
        return read_json(file)
    except (OSError, ValueError):
        return {}


def nan_as_null(content: Any) -> Any:
    """Returns what JSON stands for without the numbers that it does not have, NaN and infinity."""
    if isinstance(content, dict):
        return {key: nan_as_null(value) for key, value in content.items()}
    if isinstance(content, list):
        return [nan_as_null(value) for value in content]
    return None if isinstance(content, float) and not isfinite(content) else content


def write_whole(file: Path, content: str | bytes) -> None:
    """Writes a file in one step: if that fails, the earlier file stays unchanged.

    Args:
        file: replaced if it exists.
        content: text is written in UTF-8; file names in it need not be Unicode.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(file) as new:
        new.write_bytes(
            content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
        )


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yields a path for the new content of a file, which replaces the file if nothing is raised.

    The path has the ending of the file, by which writers choose the format. It is removed if
    anything is raised.
    """
    new = new_content(file)
    _remove_unfinished(new)
    try:
        with naming(new):
            yield new
        put_in_place(new, file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def new_content(file: Path) -> Path:
    """Returns the path at which this process writes the new content of a file."""
    ending = "".join(file.suffixes[-2:])
    process = f"{socket.gethostname()}-{os.getpid()}"
    return file.with_name(f".{file.name.removesuffix(ending)}.{process}{_NEW}{ending}")


def _remove_unfinished(new: Path) -> None:
    """Removes what processes of this machine that were killed have left of the same file.

    It also removes a link in the place of the new content, which would be written to elsewhere.
    """
    remove_link(new)
    if os.name == "nt":  # a process cannot be looked for there without ending it
        return
    before, _, after = new.name.rpartition(f"{os.getpid()}{_NEW}")
    for other in new.parent.glob(f"{escape(before)}*{_NEW}{escape(after)}"):
        process = other.name.removeprefix(before).removesuffix(f"{_NEW}{after}")
        if not process.isdecimal() or int(process) == os.getpid():
            continue
        with suppress(OSError, OverflowError):
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                other.unlink()


def remove_link(path: Path) -> None:
    """Removes a link from a place that is ours; what it points to stays as it is."""
    if path.is_symlink():
        path.unlink()


def put_in_place(new: Path, file: Path) -> None:
    """Replaces a file by a finished one beside it, which is first written to the disk.

    Otherwise a power failure soon after could leave an empty file under the final name.
    """
    with naming(new):
        _flush(new)
    new.replace(file)
    with suppress(OSError):  # not all systems can do this
        _flush(file.parent)


def _flush(path: Path) -> None:
    # Windows only flushes what can be written.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_if_missing(file: Path, content: str) -> None:
    """Writes a file in one step, unless there is one, which stays as it is.

    Raises:
        OSError: it cannot be written.
    """
    new = new_content(file)
    _remove_unfinished(new)
    try:
        with naming(new):
            new.write_text(content, encoding="utf-8")
            _flush(new)
        try:
            os.link(new, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not file.exists():
                put_in_place(new, file)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Names a file in errors of the system that do not, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error


def digest(content: bytes | str, *files: bytes) -> str:
    """Returns 32 hexadecimal digits that depend on the content, and on the bytes of some files."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    whole = hashlib.blake2b(content, digest_size=16)
    for file in files:
        whole.update(hashlib.blake2b(file).digest())
    return whole.hexdigest()


def is_case_file(file: Path) -> bool:
    """Returns whether a file may be one of a case: not a folder, and not hidden.

    macOS puts a hidden file such as `._case.nii.gz` beside each file on drives of other systems.
    A link to a missing file counts: it is a file of a case that cannot be read.
    """
    return not file.name.startswith(".") and not file.is_dir()


def case_files(folder: Path, ending: str) -> list[Path]:
    """Returns the files with an ending, sorted, without hidden ones; none without the folder."""
    if not folder.is_dir():
        return []
    found = (file for file in folder.iterdir() if file.name.endswith(ending))
    return sorted(file for file in found if is_case_file(file))


def data_files(file: Path) -> list[Path]:
    """Returns the files that hold the voxels of a detached header (.mhd, .nhdr), else none.

    Raises:
        OSError: the header cannot be read.
    """
    if not file.name.lower().endswith((".mhd", ".nhdr")):
        return []
    header = file.read_text(encoding="latin-1")
    named = re.search(r"(?im)^(?:ElementDataFile\s*=|data ?file:)[ \t]*(.*)$", header)
    names = [] if named is None else [named[1].strip()]
    if named is not None and names[0].upper().startswith("LIST"):
        names = [line.strip() for line in header[named.end() :].splitlines()]
    found: list[Path] = []
    for name in filter(None, names):
        if "%" in name:  # a pattern of slices, and their numbers
            found += sorted(file.parent.glob(re.sub(r"%\d*d", "*", name.split()[0])))
        else:
            found.append(file.parent / name)
    return [one for one in found if one.is_file()]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prediction and its reference; one is None where it is missing."""

    name: str
    reference: Path | None
    prediction: Path | None


def pair_files(
    references: Path, predictions: Path, endings: Sequence[str]
) -> tuple[list[Pair], list[str]]:
    """Returns the segmentations of two folders or files by case, and the ambiguous cases.

    The files of a case have the same name, apart from the ending. If a folder holds a case in
    several formats, the format that both folders have is taken.

    Args:
        references: folder of references, or one reference.
        predictions: folder of predictions, or one prediction; two files are always a pair.
        endings: of segmentations, upper or lower case.

    Raises:
        ValueError: there is no such folder or file, or no segmentation in it.
    """
    found = [_segmentations(place, endings) for place in (references, predictions)]
    for place, of_place in zip((references, predictions), found, strict=True):
        if not of_place:
            raise ValueError(
                f"{place} holds no segmentation that ends in {' or '.join(endings)}"
                if place.is_dir()
                else f"{place} is not a file that ends in {' or '.join(endings)}"
            )
    of_references, of_predictions = found
    if references.is_file() and predictions.is_file():
        name = next(iter(of_predictions))
        return [Pair(name, references, predictions)], []
    if references.is_file() or predictions.is_file():
        one = of_references if references.is_file() else of_predictions
        other = of_predictions if references.is_file() else of_references
        for name in other.keys() - one.keys():
            del other[name]
    pairs, ambiguous, used = [], {}, set()
    for name in sorted(of_references.keys() | of_predictions.keys()):
        options = of_references.get(name, {}), of_predictions.get(name, {})
        chosen: list[Path | None] = [next(iter(of.values()), None) for of in options]
        if all(options) and max(map(len, options)) > 1:
            common = [ending for ending in options[0] if ending in options[1]]
            if len(common) == 1:
                chosen = [of[common[0]] for of in options]
            else:
                ambiguous[name] = options
                continue
        pairs.append(Pair(name, *chosen))
        if None not in chosen:
            used |= {_ending(file, endings) for file in chosen if file is not None}
    problems = []
    for name, options in ambiguous.items():
        # A picture for viewing beside a prediction has no part in the pairs of the other cases.
        likely = [
            [file for ending, file in of.items() if ending in used or len(of) == 1]
            for of in options
        ]
        if options[0].keys().isdisjoint(options[1]) and all(len(of) == 1 for of in likely):
            pairs.append(Pair(name, *(file for (file,) in likely)))
            continue
        files = ", ".join(f.name for of in options if len(of) > 1 for f in of.values())
        problems.append(
            f"{name}: not evaluated, there are several files of it: {files}. Leave one of them in "
            "the folder, or name the ending with -djfile dataset.json"
        )
    pairs.sort(key=lambda pair: pair.name)
    # Pictures for viewing beside the predictions are not predictions without a reference.
    complete = any(pair.reference and pair.prediction for pair in pairs)
    pairs = [
        pair
        for pair in pairs
        if pair.reference
        or not complete
        or (pair.prediction and _ending(pair.prediction, endings) in used)
    ]
    return pairs, problems


def case_name(file: Path, endings: Sequence[str]) -> str:
    """Returns the name of a segmentation's case: that of its file without the ending.

    With letters such as é as one character: macOS writes some of them as two.
    """
    return unicodedata.normalize("NFC", split_ending(file, endings)[0])


def split_ending(file: Path, endings: Sequence[str]) -> tuple[str, str]:
    """Returns the name of a file without the longest of some endings, and that ending.

    Both are written as in the file's name, the ending is "" if it has none of them.
    """
    length = len(file.name) - len(_ending(file, endings))
    return file.name[:length], file.name[length:]


def _ending(file: Path, endings: Sequence[str]) -> str:
    """Returns the longest of some endings that a file has, "" if it has none."""
    lower = file.name.lower()
    return max((e for e in endings if lower.endswith(e.lower())), key=len, default="")


def _segmentations(place: Path, endings: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Returns the segmentations of a folder, by name and ending; of a file that one."""
    if not place.exists():
        raise ValueError(f"{place}: there is no such file or folder")
    files = sorted(filter(is_case_file, place.iterdir())) if place.is_dir() else [place]
    found: dict[str, dict[str, Path]] = {}
    for file in files:
        ending = _ending(file, endings)
        if ending and file.name != ending:
            of_name = found.setdefault(case_name(file, endings), {})
            if ending not in of_name or file.name.endswith(ending):
                of_name[ending] = file
    return found
