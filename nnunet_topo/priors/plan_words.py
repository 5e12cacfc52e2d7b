"""What `nnunet-topo plan` prints: a table of topology.json, and what to be careful of."""

from collections.abc import Iterator, Mapping
from typing import Any

from nnunet_topo.priors import decisions
from nnunet_topo.priors.fingerprint import AGREEMENT, CONNECTIVITIES, RAW, parse_betti
from nnunet_topo.priors.topology_json import FILE, NO_PRIOR, OBJECTS, in_words
from nnunet_topo.priors.training_labels import TOLERATED_DAMAGE
from nnunet_topo.topology.betti_range import BettiPrior

FEW = 20  # objects: fewer that all agree leave room for more than 1 in 7 that do not
_SHOWN = 3  # Betti numbers of a line
_NAMED = 5  # cases of a line
_TERM, _PRIOR, _STOCK = "nnUNetTrainerWasserstein", "nnUNetTrainerBettiPrior", "nnUNetTrainerStock"


def describe(content: Mapping[str, Any]) -> list[str]:
    """Returns a table of a topology.json for a terminal, line by line."""
    statistics = content["statistics"]
    lines = [f"{content['dataset']}: labels of {_count(statistics['cases'], 'case')}"]
    for name, labels in content["unions"].items():
        lines.append(f"{name}: union of {', '.join(labels)}")
    heads = ("label", "measured on", "objects", "absent", "at border", "", "Betti numbers")
    for connectivity in CONNECTIVITIES:
        neighbours = "26 / 8" if connectivity == "full" else "6 / 4"
        for objects, of_labels in statistics[connectivity].items():
            rows = [heads]
            for name, records in of_labels.items():
                prior = content["priors"][connectivity][objects].get(name, NO_PRIOR)
                rows += [_row(name, source, record, prior) for source, record in records.items()]
            lines += [
                "",
                f"{objects}, connectivity {connectivity} (foreground {neighbours}): "
                + (
                    "components, loops or handles, cavities"
                    if objects == OBJECTS[3]
                    else "components, loops"
                ),
            ]
            widths = [max(len(row[i]) for row in rows) for i in range(len(heads) - 1)]
            for row in rows:
                cells = [
                    cell.rjust(width) if 2 <= i <= 4 else cell.ljust(width)
                    for i, (cell, width) in enumerate(zip(row, widths, strict=False))
                ]
                lines.append("  " + "  ".join([*cells, row[-1]]).rstrip())
    return lines


def _row(name: str, source: str, record: Mapping[str, Any], prior: Any) -> tuple[str, ...]:
    """Returns a line of the table: the raw labels with their prior, the others with the damage."""
    betti = [
        f"({key.replace(' ', ', ')}) {number / record['objects']:.1%}"
        for key, number in list(record["betti"].items())[:_SHOWN]
    ]
    more = len(record["betti"]) - _SHOWN
    if more > 0:
        betti.append(f"{more} more")
    if source == RAW:
        said = f"prior {in_words(prior)}"
    else:
        said = (
            f"changed by resampling {_percent(record['changed_by_resampling'])}, by augmentation "
            f"{_percent(record['changed_by_augmentation'])}"
        )
    counts = (str(record[key]) for key in ("objects", "absent", "at_border"))
    return (name if source == RAW else "", source, *counts, said, ", ".join(betti) or "-")


def warn(content: Mapping[str, Any]) -> list[str]:
    """Returns what is to be known before a training, the decisive first.

    First what concerns the default connectivity and the volumes or slices of the configurations
    that were measured; there, what changes every trainer with a topology term, then the priors.
    Lines with a margin belong to the one above: cases that contradict, at the default connectivity.
    """
    statistics, priors = content["statistics"], content["priors"]
    warned: list[tuple[tuple[int, ...], str]] = []
    if statistics["unreadable"]:
        told = (
            f"{_count(len(statistics['unreadable']), 'case')} could not be read and did not count: "
            f"{', '.join(statistics['unreadable'])}"
        )
        warned.append(((-1,), told))
    for connectivity in CONNECTIVITIES:
        rank = CONNECTIVITIES.index(connectivity)
        for objects, of_labels in statistics[connectivity].items():
            trained = any(source != RAW for of_label in of_labels.values() for source in of_label)
            place = (rank, not trained)
            for line in _warn_of_augmentation(content, connectivity, objects):
                warned.append(((*place, 0), line))
            for name, records in of_labels.items():
                prior = priors[connectivity][objects].get(name, NO_PRIOR)
                differing = _differing(statistics, connectivity, objects, name) if not rank else {}
                told = (
                    *_warn_of_raw(records[RAW], prior, objects, _trainer(connectivity), differing),
                    *_warn_of_preprocessed(records, prior, objects),
                )
                for kind, line in told:
                    union = name in content["unions"]
                    text = f"{name}, {objects}, {connectivity}: {line}"
                    warned.append(((*place, kind, union), text))
    warned += [((len(CONNECTIVITIES),), line) for line in _warn_of_connectivity(priors)]
    return [line for _, line in sorted(warned, key=lambda of: of[0])]


def _trainer(connectivity: str, stem: str = _PRIOR) -> str:
    return stem if connectivity == CONNECTIVITIES[0] else f"{stem}_{connectivity}"


def _differing(
    statistics: Mapping[str, Any], connectivity: str, objects: str, name: str
) -> Mapping[str, Any]:
    sections = statistics.get("differing", {})
    return sections.get(connectivity, {}).get(objects, {}).get(name, {})


def _warn_of_raw(
    record: Mapping[str, Any],
    prior: Any,
    objects: str,
    trainer: str,
    differing: Mapping[str, Any],
) -> Iterator[tuple[int, str]]:
    """Yields warnings, the smaller the number the more they change."""
    number = record["objects"]
    if not number:
        yield 6, "never there"
        return
    if prior == NO_PRIOR:
        most, largest = next(iter(record["betti"].items()))
        yield (
            1,
            f"no prior, because a fixed ({most.replace(' ', ', ')}) would contradict "
            f"{number - largest} of {number} {objects}; {trainer} has none for it"
            + _list(differing),
        )
    else:
        others = {key: n for key, n in record["betti"].items() if not _is_allowed(key, prior)}
        if others:
            listed = {key: differing[key] for key in others if key in differing}
            yield (
                2,
                f"{sum(others.values())} of {number} {objects} contradict the prior "
                f"{in_words(prior)} of {trainer}" + _list(listed),
            )
        if number < FEW:
            yield 4, f"a prior from {number} {objects} alone"
    if record["at_border"]:
        yield 4, f"cut by the border of the image in {record['at_border']} of {number} {objects}"
    if record.get("beside_ignored"):
        yield (
            4,
            f"{record['beside_ignored']} that touch ignored voxels are not known to be whole, and "
            "did not count",
        )


def _list(differing: Mapping[str, Any]) -> str:
    """Returns a line for each of the Betti numbers that differ, with the first cases that do."""
    lines = []
    for key, of_cases in list(differing.items())[:_SHOWN]:
        if isinstance(of_cases, Mapping):
            named = [
                f"{case} in slice{'' if slices.isdecimal() else 's'} {slices}"
                for case, slices in of_cases.items()
            ]
        else:
            named = list(of_cases)
        shown = ("; " if isinstance(of_cases, Mapping) else ", ").join(named[:_NAMED])
        more = len(named) - _NAMED
        rest = f" and {more} more, see {FILE}" if more > 0 else ""
        lines.append(f"\n    ({key.replace(' ', ', ')}): {shown}{rest}")
    if len(differing) > _SHOWN:
        lines.append(f"\n    {len(differing) - _SHOWN} more Betti numbers, see {FILE}")
    return "".join(lines)


def _warn_of_preprocessed(
    records: Mapping[str, Mapping[str, Any]], prior: Any, objects: str
) -> Iterator[tuple[int, str]]:
    for source, record in records.items():
        if source == RAW or not record["objects"]:
            continue
        number = record["objects"]
        if prior != NO_PRIOR:
            right = sum(n for key, n in record["betti"].items() if _is_allowed(key, prior))
            if right < AGREEMENT * number:
                yield (
                    3,
                    f"only {right} of {number} preprocessed {objects} of {source} have the prior "
                    f"{in_words(prior)}",
                )
        if (record["changed_by_resampling"] or 0) > TOLERATED_DAMAGE:
            share = _percent(record["changed_by_resampling"])
            yield 3, f"resampling to {source} changes the Betti numbers of {share}"


def _warn_of_augmentation(
    content: Mapping[str, Any], connectivity: Any, objects: str
) -> Iterator[str]:
    """Yields a line for each configuration in which trainers leave out rotation and scaling."""
    records = content["statistics"][connectivity][objects]
    for source in dict.fromkeys(key for of_label in records.values() for key in of_label):
        decision = decisions.recorded_decision(content, FILE, source, connectivity)
        if source == RAW or decision is None or decision.used:
            continue
        damaged = [
            f"{name} in {_percent(share)}"
            for name, share in decision.changed.items()
            if (share or 0) > TOLERATED_DAMAGE
        ]
        why = f"rotation and scaling change the Betti numbers of {', '.join(damaged)}, so"
        yield (
            f"{source}, {connectivity}: {why if damaged else f'{FILE} was edited:'} "
            f"{_trainer(connectivity, _TERM)} and all other trainers with a topology term leave "
            f"rotation and scaling out, and their control is {_STOCK}_nospatial"
        )


def _warn_of_connectivity(priors: Mapping[str, Any]) -> Iterator[str]:
    full, face = (priors[connectivity] for connectivity in CONNECTIVITIES)
    for objects, of_full in full.items():
        for name, prior in of_full.items():
            other = face[objects].get(name, NO_PRIOR)
            if other != prior:
                yield (
                    f"{name}, {objects}: the prior depends on the connectivity, full "
                    f"{in_words(prior)} and face {in_words(other)}"
                )


def _is_allowed(key: str, prior: list[Any]) -> bool:
    """Returns whether Betti numbers, as records count them, fit a prior, as the file has it."""
    return BettiPrior.from_json(prior, FILE).allows(parse_betti(key))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
