"""Strict readers of the formats that ITK-SNAP and 3D Slicer read, written from their sources."""

import json
import re
from pathlib import Path

ITK_SNAP_LINE = re.compile(
    r' +(\d+) +(\d+) +(\d+) +(\d+) +([01](?:\.\d+)?)  ([01])  ([01])    "([^"]+)"'
)


def read_itk_snap_labels(file: Path) -> dict[int, tuple[str, tuple[int, int, int]]]:
    """Returns name and colour of each label; ITK-SNAP starts with label 0, which it clears."""
    lines = file.read_text("ascii").split("\n")
    assert lines.pop() == ""  # ends with a line break
    header = [line for line in lines if line.startswith("#")]
    assert "# ITK-SnAP Label Description File" in header
    assert "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL" in header
    assert lines[: len(header)] == header
    found = {}
    for line in lines[len(header) :]:
        fields = ITK_SNAP_LINE.fullmatch(line)
        assert fields, line
        index, *colour = map(int, fields.groups()[:4])
        assert max(colour) < 256
        assert index not in found
        if index:
            assert (float(fields[5]), fields[6], fields[7]) == (1, "1", "1")
        found[index] = fields[8], tuple(colour)
    assert found.pop(0) == ("Clear Label", (0, 0, 0))
    return found


def read_slicer_colours(file: Path) -> dict[int, tuple[str, tuple[int, int, int]]]:
    """Returns name and colour of each label; Slicer separates by spaces, so names have none."""
    lines = file.read_text("ascii").split("\n")
    assert lines.pop() == ""
    assert lines[0] == f"# Color table file {file.name}"
    assert lines[1] == f"# {len(lines) - 2} values"
    found = {}
    for line in lines[2:]:
        index, name, *colour, opacity = line.split(" ")
        assert len(colour) == 3
        assert all(0 <= int(value) < 256 for value in colour)
        assert int(opacity) == (255 if int(index) else 0)
        assert int(index) == len(found)
        found[int(index)] = name, tuple(map(int, colour))
    assert found.pop(0) == ("background", (0, 0, 0))
    return found


def read_markups(file: Path) -> list[dict]:
    """Returns the markups of a file after a check of what Slicer's schema asks for."""
    content = json.loads(file.read_text("utf-8"))
    assert re.search(r"/markups-schema-v1\.0\.\d\.json#$", content["@schema"])
    for markup in content["markups"]:
        assert markup["type"] in ("Fiducial", "ClosedCurve")
        assert markup["coordinateSystem"] == "LPS"
        assert markup["coordinateUnits"] == "mm"
        numbers = [point["id"] for point in markup["controlPoints"]]
        assert len(set(numbers)) == len(numbers)
        assert all(isinstance(number, str) for number in numbers)
        for point in markup["controlPoints"]:
            assert len(point["position"]) == 3
            assert all(isinstance(value, float) for value in point["position"])
            assert point["positionStatus"] == "defined"
    return content["markups"]
