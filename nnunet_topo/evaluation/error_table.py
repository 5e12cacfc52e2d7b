"""The topological errors of a run: as a table, as markups of 3D Slicer, and in words."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isnan, nan
from typing import Any, get_args

from nnunet_topo.labels.labels import label_title
from nnunet_topo.topology.error_places import ErrorKind

MOST_CYCLE_POINTS = 60  # of a curve in Slicer
WORST = 5  # cases that are printed
_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
COLUMNS = (
    *("case", "label", "label_name", "kind", "i", "j", "k"),
    *("right_mm", "anterior_mm", "superior_mm", "size_voxels", "size_mm3", "size_mm2"),
    *("birth", "death"),
)

Indices = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ErrorPlace:
    """A topological error in a file.

    Attributes:
        label: nnU-Net's key of the label or region.
        kind: of the error.
        voxel: indices i, j, k in the file, along its axes x, y, z, from 0.
        ras_mm: millimetres to the right, anterior and superior; None if the file leaves it open.
        size_voxels: number of voxels in the map.
        size_mm3: their volume, NaN in images and where the files have no spacing.
        size_mm2: of an image their area, otherwise NaN.
        birth: of a loop in a volume, the voxel that closes it, as `voxel`.
        death: of a loop in a volume, the voxel that would fill it last.
        cycle: of a loop in a volume, the voxels of a closed cycle, in order.
    """

    label: str
    kind: ErrorKind
    voxel: Indices
    ras_mm: tuple[float, float, float] | None
    size_voxels: int
    size_mm3: float
    size_mm2: float
    birth: Indices | None = None
    death: Indices | None = None
    cycle: tuple[tuple[float, float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, without the cycle, which the markups keep."""
        values = asdict(self)
        del values["cycle"]
        return {
            key: None if isinstance(value, float) and isnan(value) else value
            for key, value in values.items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "ErrorPlace":
        """Returns what `to_json` gave.

        Raises:
            KeyError: a key is missing.
            TypeError: there is another key.
        """
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in content.items()
        }
        for size in ("size_mm3", "size_mm2"):
            values[size] = nan if values[size] is None else values[size]
        known = {field.name for field in fields(cls)}
        if not values.keys() <= known or values["kind"] not in get_args(ErrorKind):
            raise TypeError(f"not a topological error: {content}")
        return cls(**values)


def as_csv(errors: Mapping[str, Sequence[ErrorPlace]], names: Mapping[str, str]) -> str:
    """Returns a line for each error, cases in order and the largest errors first.

    Args:
        errors: by case.
        names: of the labels, by nnU-Net's key.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in sorted(errors):
        for error in errors[case]:
            place = ("", "", "") if error.ras_mm is None else map("{:.3f}".format, error.ras_mm)
            writer.writerow(
                [
                    *(_text(case), error.label, _text(names.get(error.label, "")), error.kind),
                    *error.voxel,
                    *place,
                    error.size_voxels,
                    *("" if isnan(s) else f"{s:.6g}" for s in (error.size_mm3, error.size_mm2)),
                    *(" ".join(map(str, end or ())) for end in (error.birth, error.death)),
                ]
            )
    return out.getvalue()


def _text(name: str) -> str:
    """Returns a name that no spreadsheet reads as a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def as_markups(errors: Sequence[ErrorPlace], names: Mapping[str, str]) -> str:
    """Returns a .mrk.json of 3D Slicer: a point for each error, a closed curve for each cycle.

    In LPS, Slicer's default for files: left and posterior are positive.
    """
    points = [
        _point(place, f"{error.kind}, {names.get(error.label, error.label)}", error.ras_mm)
        for place, error in enumerate(errors, start=1)
        if error.ras_mm is not None
    ]
    markups: list[dict[str, Any]] = [_markup("Fiducial", "topological errors", points)]
    for place, error in enumerate(errors, start=1):
        step = -(-len(error.cycle) // MOST_CYCLE_POINTS)
        if len(error.cycle) > 2:
            curve = [_point(n, "", at) for n, at in enumerate(error.cycle[::step], start=1)]
            title = f"{error.kind} {place}, {names.get(error.label, error.label)}"
            markups.append(_markup("ClosedCurve", title, curve))
    return json.dumps({"@schema": _SCHEMA, "markups": markups}, indent=1)


def _markup(kind: str, title: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": kind,
        "name": title,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "controlPoints": points,
    }


def _point(number: int, label: str, ras_mm: tuple[float, float, float]) -> dict[str, Any]:
    right, anterior, superior = ras_mm
    return {
        "id": str(number),
        "label": label,
        "position": [-right, -anterior, superior],
        "selected": True,
        "locked": True,
        "visibility": True,
        "positionStatus": "defined",
    }


def worst_cases(errors: Mapping[str, Sequence[ErrorPlace]], names: Mapping[str, str]) -> list[str]:
    """Returns a line for each of the cases with most errors: how many, and where the largest is."""
    wrong = sorted((case for case in errors if errors[case]), key=lambda c: (-len(errors[c]), c))
    lines = []
    for case in wrong[:WORST]:
        largest = errors[case][0]
        lines.append(
            f"{case}: {_counted(errors[case])}; largest: {largest.kind} of "
            f"{label_title(largest.label, names)}, {where(largest)}"
        )
    return lines


def _counted(errors: Iterable[ErrorPlace]) -> str:
    found = Counter(error.kind for error in errors)
    kinds = [kind for kind in get_args(ErrorKind) if found[kind]]
    total = sum(found.values())
    parts = ", ".join(f"{found[kind]} {kind}{'s' * (found[kind] > 1)}" for kind in kinds)
    return parts if len(kinds) == 1 else f"{total} errors ({parts})"


def where(error: ErrorPlace) -> str:
    """Returns the place of an error in words."""
    text = f"voxel {', '.join(map(str, error.voxel))} (i, j, k from 0)"
    if error.ras_mm is not None:
        sides = zip(("RL", "AP", "SI"), error.ras_mm, strict=True)
        text += ", at " + " ".join(f"{side[v < 0]} {abs(v):.1f}" for side, v in sides) + " mm"
    return text
