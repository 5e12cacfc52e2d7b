"""How numbers, counts and names are written."""

from math import isnan


def printable(name: str) -> str:
    """Returns a name without the characters that would control a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Returns a number as in the tables, a dash for NaN."""
    if isnan(value):
        return "-"
    rounded = round(value, digits) + 0.0  # no -0.00
    return f"{rounded:+.{digits}f}" if signed and rounded else f"{rounded:.{digits}f}"


def interval(low: float, high: float, digits: int, *, signed: bool = False) -> str:
    """Returns an interval in brackets, "" if there is none."""
    if isnan(low):
        return ""
    ends = (number(end, digits, signed=signed) for end in (low, high))
    return f"[{', '.join(ends)}]"


def p_value(p: float) -> str:
    """Returns a p-value, never as zero."""
    if isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number_: int, one: str, more: str = "") -> str:
    """Returns a number of things in words, with `more` or an s unless it is one."""
    return f"{number_} {one if number_ == 1 else more or one + 's'}"


def length(value: float, unit: str) -> str:
    """Returns a distance with its unit, one of pixels or voxels in the singular."""
    return f"{value:g} {unit.rstrip('s') if value == 1 else unit}"


def shortened(name: str, most: int) -> str:
    """Returns a name of at most `most` characters, with both of its ends."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"


def some(names: list[str], most: int = 10) -> str:
    """Returns the first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
