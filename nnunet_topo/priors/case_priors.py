"""Betti numbers of single cases and slices, from a CSV file."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_topo.dataset import Channels, Union
from nnunet_topo.topology.betti_range import BettiPrior, BettiRange

_NEEDED = ("case", "label", "betti0", "betti1")


@dataclass(frozen=True, slots=True)
class CasePrior:
    """Betti numbers that a label has in one case.

    Attributes:
        channels: of the class or region, counted from 0; several channels mean their union.
        betti: Betti numbers.
        slice: number of the slice, None for the whole image or volume.
    """

    channels: Union
    betti: BettiPrior
    slice: int | None


def read_case_priors(file: Path, channels: Channels, *, space: int) -> dict[str, list[CasePrior]]:
    """Returns the priors of each case that a CSV file names.

    The columns are `case`, `label`, `betti0`, `betti1`, for 3D models also `betti2`; 2D models may
    have a column `slice`. A label is given by its name in dataset.json or by its number; names
    joined by + mean the union. Columns are separated by commas or semicolons.

    Args:
        file: with a header.
        channels: classes or regions of the model.
        space: 3 for a model of volumes, 2 for one of images or slices.

    Raises:
        ValueError: the file is wrong; the message names line and column.
        OSError: the file cannot be read.
    """
    priors: dict[str, list[CasePrior]] = {}
    for place, cells in _read_rows(file, space):
        if not cells["case"]:
            raise ValueError(f"{place}, column case: wanted the name of a case, got nothing")
        prior = _read_prior(cells, channels, space, place)
        of_case = priors.setdefault(cells["case"], [])
        if any((p.channels, p.slice) == (prior.channels, prior.slice) for p in of_case):
            raise ValueError(f"{place}: case {cells['case']}, label {cells['label']} appears twice")
        of_case.append(prior)
    if not priors:
        raise ValueError(f"{file}: wanted a line for each case and label, got only the header")
    return priors


def _read_rows(file: Path, space: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the place and the cells of each row that is not empty.

    Raises:
        ValueError: the file is not a CSV file with the columns of the model.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets write the mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: wanted a CSV file in UTF-8, got {error}") from None
    header = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if ";" in header else ",")
    columns = [(name or "").strip() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    needed = dict.fromkeys((*_NEEDED, *_numbers(space)))
    optional = {2: ("slice",), 3: ()}[space]
    missing = [name for name in needed if name not in columns]
    other = [name for name in columns if name not in (*needed, *optional)]
    if missing or other or len(set(columns)) < len(columns):
        raise ValueError(
            f"{file}, line 1: wanted the columns {', '.join(needed)} of a {space}D model"
            f"{''.join(f', and {name} if needed' for name in optional)}, got "
            f"{', '.join(columns) or 'none'}"
        )
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:  # a cell above the limit of csv, for example
        raise ValueError(f"{file}, line {reader.line_num + 1}: not a CSV file, {error}") from None
    for number, row in rows:
        place = f"{file}, line {number}"
        if len(row) > len(columns) or None in row.values():
            raise ValueError(f"{place}: wanted {len(columns)} columns, as in the header")
        cells = {name: value.strip() for name, value in row.items()}
        if any(cells.values()):
            yield place, cells


def _numbers(space: int) -> list[str]:
    """Returns the columns of the Betti numbers."""
    return [f"betti{k}" for k in range(space)]


def _read_prior(cells: Mapping[str, str], channels: Channels, space: int, place: str) -> CasePrior:
    """Returns the prior of a row.

    Raises:
        ValueError: a cell is wrong; the message names the column.
    """
    union = _union(cells["label"], channels, place)
    betti = BettiPrior(
        BettiRange.from_csv(cells[name], f"{place}, column {name}") for name in _numbers(space)
    )
    if betti.is_impossible:
        raise ValueError(f"{place}, column betti0: without a component there is no loop")
    slice_ = cells.get("slice", "")
    if not re.fullmatch(r"\d*", slice_):
        raise ValueError(
            f"{place}, column slice: wanted a number, the first slice is 0, got {slice_!r}"
        )
    return CasePrior(union, betti, int(slice_) if slice_ else None)


def _union(label: str, channels: Channels, place: str) -> Union:
    """Returns the channels of a label, or of a union.

    Raises:
        ValueError: the model has no such label.
    """
    known = {name: name for name in channels.names}
    if not channels.has_regions:
        numbers = (str(number) for (number,) in channels.members)
        known = dict(zip(numbers, channels.names, strict=True)) | known
    given = [label] if label in known else [part.strip() for part in label.split("+")]
    for name in given:
        if name not in known:
            raise ValueError(
                f"{place}, column label: wanted one of {', '.join(channels.names)}, got {name!r}"
            )
    return channels.union(known[name] for name in given)


def wanted(
    of_labels: Mapping[Union, BettiPrior],
    of_case: Sequence[CasePrior],
    slice_: int | None,
) -> dict[Union, tuple[BettiPrior, bool]]:
    """Returns the prior of each label in an image or slice, and whether the label must be there.

    A prior of all cases, or of all slices of a case, only applies if the label is predicted: False.
    A prior of this very image or slice also says that the label is there: True.

    Args:
        of_labels: priors of all cases.
        of_case: priors of the case, which replace the priors of all cases.
        slice_: number of the slice if a 2D model takes a volume slice by slice, else None.
    """
    chosen = {channels: (betti, False) for channels, betti in of_labels.items()}
    for which in (None, slice_):  # the prior of the slice replaces the rest
        chosen |= {
            prior.channels: (prior.betti, prior.slice == slice_)
            for prior in of_case
            if prior.slice == which
        }
    return {key: found for key, found in chosen.items() if not found[0].is_free}
