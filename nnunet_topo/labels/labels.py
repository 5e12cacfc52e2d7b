"""Labels and regions of a segmentation: their order, their names, and how users write them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

Label = int | tuple[int, ...]
_RANGE = re.compile(r"(\d+)-(\d+)")
_LONGEST_RANGE = 2**16  # a longer one is a typing error, and would take hours


@dataclass(frozen=True, slots=True)
class Labels:
    """What is evaluated in a segmentation.

    Attributes:
        evaluated: labels, and regions as tuples of labels, in the order in which they are shown.
        names: what they are called, by their keys in a summary; only what has a name.
        known: values that a file may contain; others are reported.
        ignore: value of ignored voxels, None if there is none.
        is_choice: whether files contain other labels on purpose, which are then not reported.
        groups: those of the evaluated ones that the user has grouped.
    """

    evaluated: tuple[Label, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    known: tuple[int, ...] = ()
    ignore: int | None = None
    is_choice: bool = False
    groups: tuple[Label, ...] = ()


def sorted_label_keys(keys: Iterable[str]) -> list[str]:
    """Returns keys of a summary in numeric order: labels first, then regions by their labels.

    nnU-Net writes its keys sorted as text: 1, 10, 2. Keys that are not labels come last.
    """
    return sorted(keys, key=_order)


def members(key: str) -> tuple[int, ...]:
    """Returns the labels that a key of a summary means, none if it is not such a key."""
    if not re.fullmatch(r"-?\d+|\((\s*-?\d+\s*,?)+\)", key):
        return ()
    return tuple(map(int, re.findall(r"-?\d+", key)))


def _order(key: str) -> tuple[int, tuple[int, ...], str]:
    labels = members(key)
    return (2 if not labels else int(key.startswith("("))), labels, key


def label_title(key: str, names: Mapping[str, str]) -> str:
    """Returns what to call a label or region in a line of text, as in "label 7 (spleen)"."""
    name = names.get(key, "")
    if not key.startswith("("):
        return f"label {key} ({name})" if name and name != key else f"label {key}"
    labels = f"label{'s' * (len(members(key)) > 1)} {as_ranges(members(key))}"
    return f"{name} ({labels})" if name and name != key else labels


def as_ranges(labels: Iterable[int]) -> str:
    """Returns labels as users write them: 1, 2, 5-7."""
    ordered = sorted(set(labels))
    parts = []
    for _, run in groupby(enumerate(ordered), lambda item: item[1] - item[0]):
        values = [value for _, value in run]
        if len(values) < 3:
            parts += map(str, values)
        else:
            parts.append(f"{values[0]}-{values[-1]}")
    return ", ".join(parts)


def parse_labels(written: Sequence[str], named: Mapping[str, Label], option: str) -> list[Label]:
    """Returns the labels that a user names by value (7), range (10-33) or name (spleen).

    Args:
        written: words; each may hold several separated by commas.
        named: labels and regions by name.
        option: where the words were written, for the message.

    Raises:
        ValueError: a word is not one of these.
    """
    found: list[Label] = []
    for word in written:
        if word in named:
            found.append(named[word])
            continue
        for part in filter(None, (part.strip() for part in word.split(","))):
            found += _parse_part(part, named, option)
    return list(dict.fromkeys(found))


def _parse_part(part: str, named: Mapping[str, Label], option: str) -> list[Label]:
    if part in named:
        return [named[part]]
    if part.isdecimal():
        return [int(part)]
    ends = _RANGE.fullmatch(part)
    if ends and int(ends[2]) - int(ends[1]) >= _LONGEST_RANGE:
        raise ValueError(f"{option} takes ranges of up to {_LONGEST_RANGE} labels, got {part}")
    if ends and int(ends[1]) <= int(ends[2]):
        return list(range(int(ends[1]), int(ends[2]) + 1))
    known = f"; known names are {', '.join(named)}" if 0 < len(named) <= 50 else ""
    raise ValueError(
        f"{option} takes labels such as 7, ranges such as 10-33, and names; got {part!r}{known}"
    )


def parse_groups(written: Sequence[str], named: Mapping[str, Label]) -> dict[str, tuple[int, ...]]:
    """Returns the labels of each group that is written as NAME=LABELS, as in ribs=10-33.

    Raises:
        ValueError: a group without name or labels, or two of the same name.
    """
    groups: dict[str, tuple[int, ...]] = {}
    for group in written:
        name, _, labels = group.partition("=")
        name = name.strip()
        if not name or not labels.strip():
            raise ValueError(f"--group takes NAME=LABELS, as in ribs=10-33, got {group!r}")
        if name in groups:
            raise ValueError(f"--group {name} is given twice")
        parsed = parse_labels([labels], named, f"--group {name}")
        values = {v for label in parsed for v in (label if isinstance(label, tuple) else (label,))}
        if 0 in values:
            raise ValueError(f"--group {name}: 0 is the background")
        groups[name] = tuple(sorted(values))
    return groups
