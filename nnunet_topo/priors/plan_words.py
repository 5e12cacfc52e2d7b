"""What `nnunet-topo plan` prints: a table of topology.json, and warnings."""

from collections import Counter
from collections.abc import Iterator, Sequence

from nnunet_topo.priors.fingerprint import (
    AGREEMENT,
    CONNECTIVITIES,
    RAW,
    Differing,
    Fingerprint,
    Record,
)
from nnunet_topo.priors.topology_json import FILE, NO_PRIOR, OBJECTS, TopologyJson
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.betti_range import BettiPrior

MANY_CHANGED = 0.05  # of the labels, by resampling
FEW = 20  # objects; if fewer all agree, more than 1 in 7 of all others may still differ
_SHOWN = 3  # Betti numbers in a line
_NAMED = 5  # cases in a line
_PRIOR = "nnUNetTrainerBettiPrior"
_HEADS = ("label", "measured on", "objects", "absent", "at border", "", "Betti numbers")


def describe(fingerprint: Fingerprint, topology: TopologyJson) -> list[str]:
    """Returns a table of a topology.json for a terminal, line by line.

    Args:
        fingerprint: that was measured.
        topology: the file, whose priors may have been edited.
    """
    lines = [f"{fingerprint.dataset}: labels of {_plural(fingerprint.cases, 'case')}"]
    for name, labels in fingerprint.unions.items():
        lines.append(f"{name}: union of {', '.join(labels)}")
    for connectivity in CONNECTIVITIES:
        neighbours = "26 / 8" if connectivity == "full" else "6 / 4"
        for space in fingerprint.spaces(connectivity):
            rows = [_HEADS]
            for name, records in fingerprint.records_by_label(connectivity, space).items():
                prior = topology.prior(name, space=space, connectivity=connectivity)
                rows += [_row(record, prior) for record in records]
            dimensions = "components, loops" + (" or handles, cavities" if space == 3 else "")
            lines += [
                "",
                f"{OBJECTS[space]}, connectivity {connectivity} (foreground {neighbours}): "
                f"{dimensions}",
                *_table(rows),
            ]
    return lines


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yields the rows of a table, whose columns are aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS) - 1)]
    for row in rows:
        cells = [
            cell.rjust(width) if 2 <= i <= 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        yield "  " + "  ".join([*cells, row[-1]]).rstrip()


def _row(record: Record, prior: BettiPrior | None) -> tuple[str, ...]:
    """Returns a row of the table: raw labels with their prior, others with their changes."""
    betti = [
        f"({', '.join(map(str, numbers))}) {number / record.objects:.1%}"
        for numbers, number in list(record.betti.items())[:_SHOWN]
    ]
    more = len(record.betti) - _SHOWN
    if more > 0:
        betti.append(f"{more} more")
    if record.changes is None:
        said = f"prior {_prior_in_words(prior)}"
    else:
        said = f"changed by resampling {_percent(record.changes.by_resampling)}"
    counts = (str(number) for number in (record.objects, record.absent, record.at_border))
    name = record.label if record.source == RAW else ""
    return (name, record.source, *counts, said, ", ".join(betti) or "-")


def warn(fingerprint: Fingerprint, topology: TopologyJson) -> list[str]:
    """Returns what the user should know before a training, the most important first.

    The default connectivity comes first. There, warnings about priors come first, and indented
    lines name the cases that contradict. Slices are only counted if the configurations that were
    measured use volumes, and the other way round.

    Args:
        fingerprint: that was measured.
        topology: the file, whose priors may have been edited.
    """
    warned: list[tuple[tuple[int, ...], str]] = []
    unused: Counter[int] = Counter()
    used = {record.space for record in fingerprint.records if record.source != RAW}
    if fingerprint.unreadable:
        told = (
            f"{_plural(len(fingerprint.unreadable), 'case')} could not be read or counted: "
            f"{', '.join(fingerprint.unreadable)}"
        )
        warned.append(((-1,), told))
    for rank, connectivity in enumerate(CONNECTIVITIES):
        for space in fingerprint.spaces(connectivity):
            of_labels = fingerprint.records_by_label(connectivity, space)
            for name, (raw, *preprocessed) in of_labels.items():
                prior = topology.prior(name, space=space, connectivity=connectivity)
                told = (
                    *_warn_of_raw(raw, prior, listed=rank == 0),
                    *_warn_of_preprocessed(preprocessed, prior),
                )
                if used and space not in used:
                    unused[space] += len(told)
                    continue
                for kind, line in told:
                    text = f"{name}, {OBJECTS[space]}, {connectivity}: {line}"
                    warned.append(((rank, kind, name in fingerprint.unions), text))
    warned += [
        ((len(CONNECTIVITIES),), line) for line in _warn_of_connectivity(fingerprint, topology)
    ]
    lines = [line for _, line in sorted(warned, key=lambda of: of[0])]
    return lines + [_of_unused(space, number) for space, number in unused.items() if number]


def _of_unused(space: int, number: int) -> str:
    configuration = "2d" if space == 2 else "3d_fullres"
    return (
        f"{_plural(number, 'more warning')} about {OBJECTS[space]}, which the configurations that "
        f"were measured do not use; -c {configuration} shows them"
    )


def _trainer(connectivity: Connectivity) -> str:
    return _PRIOR if connectivity == CONNECTIVITIES[0] else f"{_PRIOR}_{connectivity}"


def _warn_of_raw(
    record: Record, prior: BettiPrior | None, *, listed: bool
) -> Iterator[tuple[int, str]]:
    """Yields warnings with their rank, 0 being the most important; `listed` names the cases."""
    number, objects = record.objects, OBJECTS[record.space]
    differing = record.differing if listed else ()
    trainer = _trainer(record.connectivity)
    if record.most_frequent is None:
        yield 6, "never there"
        return
    if prior is None:
        fixed = ", ".join(map(str, record.most_frequent))
        others = number - record.betti[record.most_frequent]
        yield (
            1,
            f"no prior, because a fixed ({fixed}) would contradict {others} of {number} {objects}; "
            f"{trainer} uses no prior for it" + _list_cases(differing),
        )
    else:
        others = number - _number_allowed(record, prior)
        if others:
            contradicting = [one for one in differing if not prior.allows(one.betti)]
            yield (
                2,
                f"{others} of {number} {objects} contradict the prior {prior} of {trainer}"
                + _list_cases(contradicting),
            )
        if number < FEW:
            yield 4, f"the prior comes from only {number} {objects}"
    if record.at_border:
        yield 4, f"the border of the image cuts it in {record.at_border} of {number} {objects}"
    if record.beside_ignored:
        yield (
            4,
            f"{record.beside_ignored} that touch ignored voxels may not be whole, and were not "
            "counted",
        )


def _list_cases(differing: Sequence[Differing]) -> str:
    """Returns a line for each of the Betti numbers that differ, with the first few cases."""
    lines = []
    for one in differing[:_SHOWN]:
        named, separator = list(one.cases), ", "
        if one.slices:
            separator = "; "
            named = [
                f"{case} in slice{'' if slices.isdecimal() else 's'} {slices}"
                for case, slices in zip(one.cases, one.slices, strict=True)
            ]
        more = len(named) - _NAMED
        rest = f" and {more} more, see {FILE}" if more > 0 else ""
        lines.append(f"\n    {one}: {separator.join(named[:_NAMED])}{rest}")
    if len(differing) > _SHOWN:
        lines.append(f"\n    {len(differing) - _SHOWN} more Betti numbers, see {FILE}")
    return "".join(lines)


def _warn_of_preprocessed(
    records: Sequence[Record], prior: BettiPrior | None
) -> Iterator[tuple[int, str]]:
    for record in records:
        if not record.objects or record.changes is None:
            continue
        if prior is not None:
            right = _number_allowed(record, prior)
            if right < AGREEMENT * record.objects:
                yield (
                    3,
                    f"only {right} of {record.objects} preprocessed {OBJECTS[record.space]} of "
                    f"{record.source} have the prior {prior}",
                )
        share = record.changes.by_resampling
        if (share or 0) > MANY_CHANGED:
            yield (
                3,
                f"resampling to {record.source} changes the Betti numbers of {_percent(share)}",
            )


def _warn_of_connectivity(fingerprint: Fingerprint, topology: TopologyJson) -> Iterator[str]:
    for space in fingerprint.spaces(CONNECTIVITIES[0]):
        for name in fingerprint.records_by_label(CONNECTIVITIES[0], space):
            full, face = (topology.prior(name, space=space, connectivity=c) for c in CONNECTIVITIES)
            if full != face:
                yield (
                    f"{name}, {OBJECTS[space]}: the prior depends on the connectivity, full "
                    f"{_prior_in_words(full)} and face {_prior_in_words(face)}"
                )


def _number_allowed(record: Record, prior: BettiPrior) -> int:
    """Returns the number of objects that fit a prior."""
    return sum(number for betti, number in record.betti.items() if prior.allows(betti))


def _prior_in_words(prior: BettiPrior | None) -> str:
    return NO_PRIOR if prior is None else str(prior)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
