"""Betti numbers of single cases and slices, from a CSV file."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.dataset import Union
from nnunet_topo.priors.topology_json import channel_names
from nnunet_topo.topology.betti_range import BettiPrior, BettiRange

_NEEDED = ("case", "label", "betti0", "betti1")


@dataclass(frozen=True, slots=True)
class CasePrior:
    """Betti numbers of a label in one case.

    Attributes:
        channels: of the class or region, counted from 0; of several, their union.
        betti: that are wanted.
        slice: slice that they are of, None for the whole of an image or volume.
    """

    channels: Union
    betti: BettiPrior
    slice: int | None


def read_case_priors(
    file: Path, label_manager: LabelManager, *, space: int
) -> dict[str, list[CasePrior]]:
    """Returns the priors of each case that a CSV file names.

    Columns are `case`, `label`, `betti0`, `betti1`, in volumes `betti2`, and for 2D models
    `slice`, if wanted. A label is given by its name in dataset.json or by its number; names joined
    by + mean the union. Commas or semicolons separate.

    Args:
        file: with a header.
        label_manager: nnU-Net's.
        space: 3 for a model of volumes, 2 for one of images or slices.

    Raises:
        ValueError: what is no such file; the message names line and column.
        OSError: the file cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets write the mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: wanted a CSV file in UTF-8, got {error}") from None
    header = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if ";" in header else ",")
    columns = [(name or "").strip() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    numbers = [f"betti{k}" for k in range(space)]
    needed = dict.fromkeys((*_NEEDED, *numbers))
    optional = {2: ("slice",), 3: ()}[space]
    missing = [name for name in needed if name not in columns]
    other = [name for name in columns if name not in (*needed, *optional)]
    if missing or other or len(set(columns)) < len(columns):
        raise ValueError(
            f"{file}, line 1: wanted the columns {', '.join(needed)} of a {space}D model"
            f"{''.join(f', and {name} if needed' for name in optional)}, got "
            f"{', '.join(columns) or 'none'}"
        )
    labels = channel_names(label_manager)
    priors: dict[str, list[CasePrior]] = {}
    for row in reader:
        place = f"{file}, line {reader.line_num}"
        if len(row) > len(columns) or None in row.values():
            raise ValueError(f"{place}: wanted {len(columns)} columns, as in the header")
        cells = {name: value.strip() for name, value in row.items()}
        if not any(cells.values()):
            continue
        if not cells["case"]:
            raise ValueError(f"{place}, column case: wanted the name of a case, got nothing")
        channels = _channels(cells["label"], labels, label_manager, place)
        betti = BettiPrior(
            BettiRange.from_csv(cells[name], f"{place}, column {name}") for name in numbers
        )
        if betti.is_impossible:
            raise ValueError(f"{place}, column betti0: without a component there is no loop")
        slice_ = cells.get("slice", "")
        if not re.fullmatch(r"\d*", slice_):
            raise ValueError(
                f"{place}, column slice: wanted a number, the first slice is 0, got {slice_!r}"
            )
        prior = CasePrior(channels, betti, int(slice_) if slice_ else None)
        of_case = priors.setdefault(cells["case"], [])
        if any((p.channels, p.slice) == (channels, prior.slice) for p in of_case):
            raise ValueError(
                f"{place}: case {cells['case']}, label {cells['label']} stands there twice"
            )
        of_case.append(prior)
    if not priors:
        raise ValueError(f"{file}: wanted a line for each case and label, got the header alone")
    return priors


def _channels(
    label: str, labels: tuple[str, ...], label_manager: LabelManager, place: str
) -> Union:
    """Returns the channels of a label, or of a union."""
    known = {name: channel for channel, name in enumerate(labels)}
    if not label_manager.has_regions:
        by_number = {str(int(n)): c for c, n in enumerate(label_manager.foreground_labels)}
        known = by_number | known
    names = [label] if label in known else [name.strip() for name in label.split("+")]
    for name in names:
        if name not in known:
            raise ValueError(
                f"{place}, column label: wanted one of {', '.join(labels)}, got {name!r}"
            )
    return tuple(sorted({known[name] for name in names}))


def wanted(
    of_labels: Mapping[Union, BettiPrior],
    of_case: Sequence[CasePrior],
    slice_: int | None,
) -> dict[Union, tuple[BettiPrior, bool]]:
    """Returns what is wanted of each label in an image or slice, and whether the label is there.

    Priors of all cases, and those of a case in whichever slice, hold where the label is
    predicted; what is said of one image or slice is known: False is for the former.

    Args:
        of_labels: priors of all cases.
        of_case: those of the case, which replace them.
        slice_: of a volume that a 2D model takes slice by slice, else None.
    """
    chosen = {channels: (betti, False) for channels, betti in of_labels.items()}
    for which in (None, slice_):  # what is said of the slice replaces the rest
        chosen |= {
            prior.channels: (prior.betti, prior.slice == slice_)
            for prior in of_case
            if prior.slice == which
        }
    return {key: found for key, found in chosen.items() if not found[0].is_free}
