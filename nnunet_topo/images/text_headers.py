"""Headers of NRRD and MetaImage files, which are text."""

import re
from pathlib import Path

_FORMATS = (".nrrd", ".nhdr", ".mha", ".mhd")
_LENGTHS = ("spacings", "space directions", "elementspacing", "elementsize")
_LINE = 2**16  # bytes at most


def has_text_header(file: Path) -> bool:
    """Returns whether a file's name says that its header is text."""
    return file.name.lower().endswith(_FORMATS)


def header_gives_spacing(file: Path) -> bool:
    """Returns whether a text header gives the size of voxels; if not, SimpleITK takes 1.

    Raises:
        OSError: it cannot be read.
    """
    fields = _header_fields(file)
    return any(letter.isdigit() for name in _LENGTHS for letter in fields.get(name, ""))


def remove_added_geometry(source: Path, target: Path) -> None:
    """Removes the geometry that SimpleITK has written into a copy of a file that has none."""
    added = _header_fields(target).keys() - _header_fields(source).keys()
    content = target.read_bytes()
    for name in added:
        if name.startswith(("space", "elementspacing")):
            line = rb"(?im)^" + name.encode() + rb"\s*[:=][^\n]*\n"
            content = re.sub(line, b"", content, count=1)
    target.write_bytes(content)


def _header_fields(file: Path) -> dict[str, str]:
    """Returns the fields of a header, their names in lower case."""
    fields: dict[str, str] = {}
    with file.open("rb") as opened:
        # A blank line ends that of NRRD, the name of the data file that of MetaImage.
        while (line := opened.readline(_LINE).strip()) and "elementdatafile" not in fields:
            named = re.match(r"([^:=]+?)\s*[:=]\s*(.*)", line.decode("latin-1"))
            if named:
                fields[named[1].lower()] = named[2]
    return fields
