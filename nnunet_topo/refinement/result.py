"""The result of the refinement of one case, and one line of text about one or all of them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nnunet_topo.own_folder import known_fields

Status = Literal["kept", "refined", "postprocessed", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class LabelTopology:
    """The topology of a label in a case or a slice.

    Attributes:
        label: name; of a union, names joined by +.
        slice: number of the slice that a 2D model has segmented, None for whole images and volumes.
        wanted: Betti numbers, written as in a CSV file; "" if any number is allowed.
        before: Betti numbers of the segmentation as predicted.
        after: Betti numbers of the segmentation as written.
        error_before: how far the numbers are off in sum, None if no numbers are wanted.
        error_after: the same after the refinement.
        note: why the label was not repaired, else "".
    """

    label: str
    slice: int | None
    wanted: list[str]
    before: list[int]
    after: list[int]
    error_before: int | None
    error_after: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of one case.

    Attributes:
        status: kept as predicted, refined, postprocessed by a control, refused or failed.
        reason: why.
        steps: number of steps of Adam, summed over slices.
        voxels_changed: number of voxels of the segmentation that differ from the prediction.
        seconds: time for everything.
        topology: a row for each label with a prior, in each slice of a 2D model.
    """

    status: Status
    reason: str
    steps: int = 0
    voxels_changed: int = 0
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

    @property
    def errors(self) -> tuple[int, int] | None:
        """Returns the topological errors before and after, None if no numbers are wanted."""
        pairs = [(row.error_before, row.error_after) for row in self.topology]
        known = [(b, a) for b, a in pairs if b is not None and a is not None]
        if not known:
            return None
        return sum(before for before, _ in known), sum(after for _, after in known)


def describe(result: CaseResult) -> str:
    """Returns one line about a case."""
    changed = [row for row in result.topology if row.error_before or row.before != row.after]
    rows = [
        row.label
        + ("" if row.slice is None else f" in slice {row.slice}")
        + f" ({', '.join(map(str, row.before))})"
        + (f" -> ({', '.join(map(str, row.after))})" if row.before != row.after else "")
        + (f", {row.note}" if row.note else "")
        for row in changed
    ]
    shown = f": {'; '.join(rows[:4])}{'; ...' if len(rows) > 4 else ''}" if rows else ""
    spent = f"{result.seconds:.1f} s"
    if result.steps or result.voxels_changed:
        spent = f"{result.steps} steps, {result.voxels_changed} voxels changed, {spent}"
    return f"{result.status}, {result.reason}{shown} ({spent})"


def summarize(results: Mapping[str, CaseResult]) -> str:
    """Returns one line about all cases."""
    counts = Counter(result.status for result in results.values())
    line = f"{len(results)} case{'' if len(results) == 1 else 's'}: " + ", ".join(
        f"{n} {status}" for status, n in counts.items()
    )
    errors = [result.errors for result in results.values() if result.errors is not None]
    if errors:
        before, after = (sum(error == 0 for error in of) for of in zip(*errors, strict=True))
        line += f"; topology right in {before} of {len(errors)} cases before, in {after} after"
    return line
