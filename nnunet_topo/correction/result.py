"""The result of one case, and lines of text about one or all of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nnunet_topo.own_folder import known_fields

Status = Literal["unchanged", "corrected", "partly corrected", "not corrected", "failed"]
_SHOWN = 4  # labels in a line


@dataclass(frozen=True, slots=True)
class LabelTopology:
    """What was done to a label, a region or a union.

    Attributes:
        label: its name.
        wanted: Betti numbers, written as in a table; "" if any number is allowed.
        before: Betti numbers in the prediction.
        after: Betti numbers in the file that was written.
        was_right: whether the first ones are wanted.
        is_right: whether the others are.
        voxels_changed: number of voxels that it gained or lost.
        mm3_changed: their volume; mm2 in images, and pixels or voxels where their size is unknown.
        largest_change_mm: how far they lie from its old surface at most, between centres of voxels;
            None if there was no surface.
        note: why it is not right, else "".
    """

    label: str
    wanted: list[str]
    before: list[int]
    after: list[int]
    was_right: bool
    is_right: bool
    voxels_changed: int
    mm3_changed: float
    largest_change_mm: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of one case.

    Attributes:
        case: its name.
        status: what was done.
        reason: why, where that needs saying.
        needs_review: whether a change lies further from an old surface than was declared.
        voxels_changed: number of voxels with another label than in the prediction.
        mm3_changed: their volume, as in `LabelTopology`.
        unit: of lengths: mm, or pixels or voxels where their size is unknown.
        seconds: time for everything.
        topology: a row for each label with a prior.
    """

    case: str
    status: Status
    reason: str = ""
    needs_review: bool = False
    voxels_changed: int = 0
    mm3_changed: float = 0.0
    unit: str = "mm"
    seconds: float = 0.0
    topology: list[LabelTopology] = field(default_factory=list)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "CaseResult":
        """Returns the result whose `asdict` went into a record.

        Raises:
            KeyError: a key is missing.
            TypeError: a key of the record is missing, or has another type.
        """
        rows = [LabelTopology(**known_fields(LabelTopology, row)) for row in content["topology"]]
        known: dict[str, Any] = {**known_fields(cls, content), "topology": rows}
        return cls(**known)


def describe(result: CaseResult) -> str:
    """Returns one line about a case."""
    if result.status == "failed":
        return f"{result.case}: failed, {result.reason}"
    told = [result.status + (f", {result.reason}" if result.reason else "")]
    rows = [row for row in result.topology if row.voxels_changed or not row.is_right]
    shown = "; ".join(_describe_label(row, result.unit) for row in rows[:_SHOWN])
    told += [shown + ("; ..." if len(rows) > _SHOWN else "")] if rows else []
    told += ["review this case"] if result.needs_review else []
    return f"{result.case}: {': '.join(told[:2])}{''.join(f'; {more}' for more in told[2:])}"


def _describe_label(row: LabelTopology, unit: str) -> str:
    numbers = f"{row.label} ({', '.join(map(str, row.before))})"
    if row.after != row.before:
        numbers += f" -> ({', '.join(map(str, row.after))})"
    if not row.voxels_changed:
        return f"{numbers}, {row.note}"
    far = (
        "where there was none before"
        if row.largest_change_mm is None
        else f"up to {row.largest_change_mm:.3g} {unit} from the old surface"
    )
    size = _count(row.voxels_changed, "voxel")
    volume = f" ({row.mm3_changed:.3g} {_power(unit, len(row.before))})" if unit == "mm" else ""
    return f"{numbers}, {size}{volume} {far}{f', {row.note}' if row.note else ''}"


def _count(number: int, one: str) -> str:
    return f"{number} {one}{'s' * (number != 1)}"


def _power(unit: str, dimensions: int) -> str:
    return f"{unit}{dimensions}"


def summarize(results: Sequence[CaseResult], review_distance: float) -> list[str]:
    """Returns lines about all cases.

    Args:
        results: of all cases.
        review_distance: beyond which a change was marked.
    """
    counts = Counter(result.status for result in results)
    lines = [
        f"{_count(len(results), 'case')}: "
        + ", ".join(f"{number} {status}" for status, number in counts.items())
    ]
    by_label: dict[str, list[LabelTopology]] = {}
    for result in results:
        for row in result.topology:
            by_label.setdefault(row.label, []).append(row)
    for label, rows in by_label.items():
        before = sum(row.was_right for row in rows)
        after = sum(row.is_right for row in rows)
        notes = Counter(row.note for row in rows if row.note)
        told = "".join(f"; {number} not: {note}" for note, number in notes.items())
        of = f"{before} of {_count(len(rows), 'case')} before, in {after} after"
        lines.append(f"{label}: topology right in {of}{told}")
    far = [result for result in results if result.needs_review]
    if far:
        lines.append(
            f"to be reviewed, with a change further than {review_distance:g} "
            f"{far[0].unit} from an old surface or of a label that was missing: "
            f"{', '.join(result.case for result in far)}"
        )
    return lines
