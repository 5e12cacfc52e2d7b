"""The wanted Betti numbers: one number, a range or any number, in each dimension of a structure."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

_MOST = 2**31 - 1  # no image has so many voxels that it could have more
_IN_JSON = (
    "numbers from 0 to 2147483647, for each dimension one (1), a range ([1, 2], or [1, null] for "
    "at least 1) or null if it is free"
)
_IN_CSV = (
    "a number from 0 to 2147483647, a range (1-2, or 1- for at least 1) or nothing if it is free"
)


@dataclass(frozen=True, slots=True)
class BettiRange:
    """The wanted Betti numbers in one dimension.

    Attributes:
        low: the smallest, from 0 to 2147483647.
        high: the largest, infinite if there is no largest one.
    """

    low: int = 0
    high: float = inf

    @classmethod
    def of(cls, value: Any) -> "BettiRange":
        """Returns the range that is given as a number, as (low, high), or as None if it is free.

        Raises:
            ValueError: the value is not one of these.
        """
        if isinstance(value, BettiRange):
            return value
        low, high = (0, inf) if value is None else np.broadcast_to(value, 2).tolist()
        ends_are_whole = float(low).is_integer() and (high == inf or float(high).is_integer())
        is_possible = 0 <= low <= high and low <= _MOST and (high == inf or high <= _MOST)
        if not (is_possible and ends_are_whole):
            raise ValueError(
                f"a Betti number must be a number from 0 to {_MOST}, a range (low, high) or None, "
                f"got {value}"
            )
        return cls(int(low), high if high == inf else int(high))

    @classmethod
    def from_json(cls, value: Any, place: str) -> "BettiRange":
        """Returns the range that topology.json writes as 1, [1, 2], [1, null] or null.

        Raises:
            ValueError: the value is not one of these; the message names the place.
        """
        if value is None:
            return FREE
        ends = value if isinstance(value, list) else [value, value]
        if len(ends) == 2 and _is_count(ends[0]):
            low, high = ends
            if high is None or (_is_count(high) and low <= high):
                return cls(low, inf if high is None else high)
        raise ValueError(f"{place}: wanted {_IN_JSON}, got {as_json(value)}")

    @classmethod
    def from_csv(cls, cell: str, place: str) -> "BettiRange":
        """Returns the range that a table writes as 1, 1-2, 1- or nothing.

        Raises:
            ValueError: the value is not one of these; the message names the place.
        """
        if not cell:
            return FREE
        match = re.fullmatch(r"(\d+)(?:(-)(\d*))?", cell)
        if match is not None:
            low = int(match[1])
            high = low if not match[2] else int(match[3]) if match[3] else inf
            if low <= high and low <= _MOST and (high == inf or high <= _MOST):
                return cls(low, high)
        raise ValueError(f"{place}: wanted {_IN_CSV}, got {cell!r}")

    @property
    def is_free(self) -> bool:
        """Returns whether every number is allowed."""
        return self == FREE

    def allows(self, number: float) -> bool:
        """Returns whether a Betti number lies in the range."""
        return self.low <= number <= self.high

    def error(self, number: float) -> float:
        """Returns the distance of a Betti number from the range."""
        return max(self.low - number, number - self.high, 0)

    def to_json(self) -> Any:
        """Returns what topology.json writes."""
        if self.is_free:
            return None
        high = None if self.high == inf else self.high
        return self.low if self.low == high else [self.low, high]

    def to_csv(self) -> str:
        """Returns what a table writes."""
        if self.is_free:
            return ""
        high = "" if self.high == inf else str(self.high)
        return high if self.low == self.high else f"{self.low}-{high}"

    def __str__(self) -> str:
        if self.is_free:
            return "free"
        if self.low == self.high:
            return str(self.low)
        return f"{self.low} or more" if self.high == inf else f"{self.low} to {self.high}"


FREE = BettiRange()


class BettiPrior(tuple[BettiRange, ...]):
    """The ranges of one structure: components, loops or handles, in a volume also cavities."""

    __slots__ = ()

    @classmethod
    def of(cls, numbers: Sequence[Any]) -> "BettiPrior":
        """Returns the prior of numbers, (low, high) ranges or None; see `BettiRange.of`."""
        return cls(map(BettiRange.of, numbers))

    @classmethod
    def from_json(cls, value: Any, place: str, space: int | None = None) -> "BettiPrior":
        """Returns the prior that topology.json writes as a list.

        Args:
            value: from the file.
            place: for messages.
            space: 2 or 3, as many numbers are wanted; None takes what comes.

        Raises:
            ValueError: it is not a prior, or an impossible one; the message names the place.
        """
        if not isinstance(value, list):
            raise ValueError(
                f'{place}: wanted a list of {_IN_JSON}, or "none", got {as_json(value)}'
            )
        if space is not None and len(value) != space:
            meant = "components, loops" if space == 2 else "components, loops or handles, cavities"
            raise ValueError(f"{place}: wanted {space} numbers ({meant}), got {as_json(value)}")
        prior = cls(
            BettiRange.from_json(number, f"{place} > beta{k}") for k, number in enumerate(value)
        )
        if prior.is_impossible:
            raise ValueError(
                f"{place}: without a component there is no loop and no cavity, got {as_json(value)}"
            )
        return prior

    @property
    def is_free(self) -> bool:
        """Returns whether every number is allowed in every dimension."""
        return all(number.is_free for number in self)

    @property
    def is_impossible(self) -> bool:
        """Returns whether a loop or a cavity is wanted without a component."""
        return self[0].high == 0 and any(number.low > 0 for number in self)

    def allows(self, betti: Sequence[float]) -> bool:
        """Returns whether Betti numbers of as many dimensions lie in the ranges."""
        return all(wanted.allows(number) for wanted, number in zip(self, betti, strict=True))

    def error(self, betti: Sequence[float]) -> float:
        """Returns the summed distance of Betti numbers from the ranges."""
        return sum(wanted.error(number) for wanted, number in zip(self, betti, strict=True))

    def to_json(self) -> list[Any]:
        """Returns what topology.json writes."""
        return [number.to_json() for number in self]

    def to_csv(self) -> list[str]:
        """Returns what a table writes, column by column."""
        return [number.to_csv() for number in self]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self))})"


def as_json(value: Any) -> str:
    """Returns a value as JSON, shortened if it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
