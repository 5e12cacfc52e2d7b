"""Where a slice lies in the patient, in words and letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

from nnunet_topo.report.markup import Markup, tag
from nnunet_topo.report.measures import Unit


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the slices [z, y, x] of a case lie.

    Attributes:
        spacing_mm: of the three axes; in voxels if the unit is not mm.
        unit: of the spacing.
        letters: side of the patient to which the index of each axis grows (R, L, A, P, S, I), ""
            if it is unknown.
        first_mm: position of the first slice in the direction of its letter, NaN if unknown.
        oblique: whether the axes are oblique, so that the letters are only the nearest ones.
        file_axis: axis of the file along which the slices lie, 1 the first.
        flipped: whether the file counts its slices from the other end.
    """

    spacing_mm: Sequence[float]
    unit: Unit = "mm"
    letters: tuple[str, str, str] = ("", "", "")
    first_mm: float = nan
    oblique: bool = False
    file_axis: int = 3
    flipped: bool = False


_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S", "": ""}
_PLANES = {"S": "Axial", "I": "Axial", "A": "Coronal", "P": "Coronal", "R": "Sagittal"}
_PLANES |= {"L": "Sagittal", "": ""}
_ORDINALS = ("", "first", "second", "third")


def describe_slice(grid: Grid, index: int, slices: int) -> str:
    """Returns which slice is shown, as viewers count and where in the patient.

    ITK-SNAP counts from 1; 3D Slicer and FSLeyes count voxels from 0.
    """
    on_disk = slices - 1 - index if grid.flipped else index
    plane = _PLANES[grid.letters[0]]
    along = f", along the file's {_ORDINALS[grid.file_axis]} axis" if grid.file_axis else ""
    text = f"{f'{plane} slice' if plane else 'Slice'} {on_disk + 1} of {slices}{along}"
    text += f", counted from 1 as in ITK-SNAP ({on_disk} in 3D Slicer and FSLeyes, from 0)"
    if grid.unit != "mm":
        return f"{text}."
    past = index * abs(grid.spacing_mm[0])
    if isnan(grid.first_mm):
        return f"{text}, {past:.1f} mm from the first slice."
    at = grid.first_mm + past
    letter = grid.letters[0] if at >= 0 else _OPPOSITE[grid.letters[0]]
    return f"{text}, at {letter} {abs(at):.1f} mm."


def sides(grid: Grid, height: float, width: float) -> list[Markup]:
    """Returns the letters of the patient's sides at the four edges, none if they are unknown."""
    _, down, right = grid.letters
    if not (down and right):
        return []
    size = max(height, width) / 17
    places = [
        (_OPPOSITE[down], width / 2, 0.95 * size, "middle"),
        (down, width / 2, height - 0.25 * size, "middle"),
        (_OPPOSITE[right], 0.25 * size, height / 2 + 0.35 * size, "start"),
        (right, width - 0.25 * size, height / 2 + 0.35 * size, "end"),
    ]
    return [
        tag("text", letter, x=x, y=y, text_anchor=anchor, font_size=size, class_="side")
        for letter, x, y, anchor in places
    ]
