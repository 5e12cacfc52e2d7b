"""Names of labels from the files in which people keep them."""

import codecs
import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_topo.labels.labels import Label
from nnunet_topo.messages import on_one_line

# In the order in which they are taken: an index is often only the number of the row.
_VALUES = ("labelvalue", "value", "label", "labelid", "id", "number", "index", "idx", "key", "no")
_NAMES = ("name", "labelname", "structure", "region", "description", "organ", "text", "class")
_NUMBER = r"\s+[\d.]+(?:[eE][-+]?\d+)?"
_ITK_SNAP = re.compile(rf'\s*(\d+)(?:{_NUMBER}){{6}}\s+"(.*)"\s*')
# Slicer takes everything after the colour as a remark.
_COLOR_TABLE = re.compile(rf'\s*(\d+)\s+("[^"]*"|\S+)(?:{_NUMBER}){{3,4}}(?:\s[^"]*)?')
_SEPARATOR_LINE = re.compile(r'"?sep=.?"?', re.IGNORECASE)  # of Excel, above the heading


def read_label_names(file: Path) -> dict[str, Label]:
    """Returns labels and regions by name, without the background.

    Reads nnU-Net's dataset.json, JSON of names and values in either order, CSV and TSV with a
    column of values and one of names, ITK-SNAP's label descriptions, color tables of 3D Slicer
    and FreeSurfer, and the header of a Slicer segmentation (.seg.nrrd).

    Raises:
        ValueError: the file holds no names of labels, or the same name for two labels.
        OSError: it cannot be read.
    """
    if file.name.lower().endswith((".nrrd", ".nhdr")):
        named = _labels_in_nrrd_header(file)
    else:
        text = read_text(file)
        if file.suffix.lower() == ".json":
            named = _labels_in_json(text, file)
        else:
            named = _labels_in_lines(text) or _labels_in_table(text)
    found: dict[str, Label] = {}
    for name, label in named:
        if label in (0, (0,)) or not name:
            continue
        if found.setdefault(name, label) != label:
            raise ValueError(f"{file}: the labels {found[name]} and {label} are both called {name}")
    if not found:
        raise ValueError(
            f"{file} holds no names of labels: wanted a dataset.json, a CSV file with the columns "
            "label and name, an ITK-SNAP label file, or a color table or segmentation of Slicer"
        )
    return found


def labels_by_name(labels: Mapping[Any, Any], place: str) -> dict[str, Label]:
    """Returns the entry `labels` of a dataset.json with whole numbers, regions as tuples.

    Numbers may be written as text ("1") or with a point (1.0); the names and values of nnU-Net's
    first version, {"1": "liver"}, are exchanged.

    Raises:
        ValueError: a value is not a label.
    """
    if not isinstance(labels, Mapping):
        raise ValueError(f"{place} must be names with values, got {type(labels).__name__}")
    if labels and all(
        _is_number(key) and isinstance(name, str) and not _is_number(name)
        for key, name in labels.items()
    ):
        labels = {name: key for key, name in labels.items()}
    named: dict[str, Label] = {}
    for name, value in labels.items():
        entry = f"{place} > {on_one_line(name)}"
        if isinstance(value, list | tuple):
            region = tuple(_number(one, entry) for one in value)
            if not region:
                raise ValueError(f"{entry}: a region without labels")
            named[str(name)] = region
        else:
            named[str(name)] = _number(value, entry)
    return named


def read_text(file: Path) -> str:
    """Returns the text of a file, also in the encodings of spreadsheets and editors on Windows."""
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_number(value: Any) -> bool:
    try:
        return float(value) == int(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _number(value: Any, place: str) -> int:
    if isinstance(value, bool) or not _is_number(value):
        raise ValueError(f"{place} must be a whole number, got {value!r}")
    return int(float(value))


def _labels_in_json(text: str, file: Path) -> list[tuple[str, Label]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, or brackets in brackets in brackets
        raise ValueError(f"{file} is not JSON: {error}") from None
    if isinstance(content, dict) and "labels" in content:
        content = content["labels"]
    return list(labels_by_name(content, f"{file}: labels").items())


def _labels_in_nrrd_header(file: Path) -> list[tuple[str, Label]]:
    """Returns what Slicer calls the segments of a segmentation."""
    fields: dict[str, str] = {}
    with file.open("rb") as opened:
        for line in opened:
            text = line.decode("utf-8", "replace").strip()
            if not text:
                break
            key, separator, value = text.partition(":=")
            if separator:
                fields[key.strip()] = value.strip()
    return [
        (fields[f"{key.removesuffix('_LabelValue')}_Name"], int(value))
        for key, value in fields.items()
        if re.fullmatch(r"Segment\d+_LabelValue", key)
        and value.isdecimal()
        and f"{key.removesuffix('_LabelValue')}_Name" in fields
    ]


def _labels_in_lines(text: str) -> list[tuple[str, Label]]:
    """Returns the labels of ITK-SNAP's label descriptions or of a color table, else nothing."""
    lines = _lines_of(text)
    for form in (_ITK_SNAP, _COLOR_TABLE):
        found = [form.fullmatch(line) for line in lines]
        if lines and all(found):
            named: list[tuple[str, Label]] = [(m[2], int(m[1])) for m in found if m]
            if form is _COLOR_TABLE:
                return [(name.strip('"'), label) for name, label in named if name != "(none)"]
            return named
    return []


def _lines_of(text: str) -> list[str]:
    """Returns the lines of a text without empty ones and comments."""
    stripped = ((line, line.strip()) for line in text.split("\n"))
    return [line for line, content in stripped if content and not content.startswith("#")]


def tables_in(text: str) -> Iterator[list[list[str]]]:
    """Yields the rows of a text read as a table with tabs, with semicolons and with commas.

    Rows without any content are left out, and a reading without rows is not yielded.
    """
    lines = _lines_of(text)
    if lines and _SEPARATOR_LINE.fullmatch(lines[0].strip()):
        del lines[0]
    for delimiter in "\t;,":
        try:
            rows = list(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter))
        except csv.Error:  # a cell above the limit of csv: not such a table
            continue
        cells = [[" ".join(cell.split()) for cell in row] for row in rows]
        if filled := [row for row in cells if any(row)]:
            yield filled


def _labels_in_table(text: str) -> list[tuple[str, Label]]:
    """Returns the labels of a table with or without a heading."""
    return next(filter(None, map(_labels_in_rows, tables_in(text))), [])


def _labels_in_rows(rows: Sequence[Sequence[str]]) -> list[tuple[str, Label]]:
    """Returns the labels of the rows of a table, with or without a heading."""
    heading = ["".join(c for c in cell.lower() if c.isalnum()) for cell in rows[0]]
    body = rows if any(map(_is_number, rows[0])) else rows[1:]
    columns = range(min((len(row) for row in body), default=0))
    values = [c for c in columns if body and all(_is_number(row[c]) for row in body)]
    names = [c for c in columns if c not in values]
    if not values or not names:
        return []
    value, name = _best(values, heading, _VALUES), _best(names, heading, _NAMES)
    return [(row[name], int(float(row[value]))) for row in body]


def _best(columns: Sequence[int], heading: Sequence[str], words: Sequence[str]) -> int:
    """Returns the column of the first word, else the first one that has a heading."""
    known = [heading.index(word) for word in words if word in heading]
    # pandas numbers the rows in a column without one.
    named = [c for c in columns if any(heading[c : c + 1])]
    return next(c for c in (*known, *named, *columns) if c in columns)
