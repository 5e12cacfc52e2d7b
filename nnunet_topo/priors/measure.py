"""The fingerprint of a data set, taken from the labels of all its cases."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from nnunet_topo.priors.count import (
    Case,
    CountedCase,
    LabelObjects,
    case_of_killed_process,
    count_case,
    counted_spaces,
)
from nnunet_topo.priors.fingerprint import (
    CONNECTIVITIES,
    LISTED,
    RAW,
    Betti,
    Changes,
    Differing,
    Fingerprint,
    Record,
    betti_key,
)
from nnunet_topo.priors.labelled_data import LabelledData
from nnunet_topo.processes import in_processes
from nnunet_topo.topology import Connectivity


def take_fingerprint(
    data: LabelledData, *, unions: Mapping[str, Sequence[str]], processes: int = 1
) -> Fingerprint:
    """Returns the Betti numbers of all labels, and how resampling changes them.

    A label that touches voxels of the ignore label may not be whole, and is not counted.

    Args:
        data: where the labels lie.
        unions: labels of each union, by its name.
        processes: maximum number.

    Raises:
        ValueError: no label could be read.
    """
    if not len(data.channels):
        raise ValueError(f"dataset.json of {data.name} has no label besides the background")
    names = (*data.channels.names, *unions)
    united = (data.channels.labels_of(data.channels.union(labels)) for labels in unions.values())
    members = (*data.channels.members, *united)
    counted = _count_cases(data, members, processes)
    problems = [problem for case in counted for problem in case.problems]
    readable = {case.name for case in counted if any(source == RAW for source, _ in case.objects)}
    if not readable:
        raise ValueError("; ".join(["no label could be read", *problems[:3]]))
    records = [
        _record(data, counted, source, (channel, name), connectivity)
        for connectivity in CONNECTIVITIES
        for space in counted_spaces(data, RAW)
        for channel, name in enumerate(names)
        for source in ((source, space) for source in (RAW, *data.preprocessed))
        if space in counted_spaces(data, source[0])
    ]
    return Fingerprint(
        dataset=data.name,
        unions=unions,
        cases=len(readable),
        unreadable=tuple(case.name for case in counted if case.name not in readable),
        records=tuple(records),
        problems=tuple(problems),
    )


def _count_cases(
    data: LabelledData, members: tuple[tuple[int, ...], ...], processes: int
) -> list[CountedCase]:
    """Returns all cases by name: those with a label file, and those that were preprocessed."""
    cases: dict[str, Path | None] = dict(data.files)
    for preprocessed in data.preprocessed.values():
        for case in preprocessed.dataset_class.get_identifiers(preprocessed.folder):
            if not case.startswith("."):
                cases.setdefault(case, None)
    jobs = [Case(name, cases[name], data, members) for name in sorted(cases)]
    counted = tqdm(
        in_processes(count_case, jobs, processes, killed=case_of_killed_process),
        total=len(jobs),
        desc="labels",
        unit="case",
        disable=None,  # without a terminal
    )
    return sorted(counted, key=lambda case: case.name)


def _record(
    data: LabelledData,
    counted: Sequence[CountedCase],
    source: tuple[str, int],
    label: tuple[int, str],
    connectivity: Connectivity,
) -> Record:
    """Returns what was counted of one label in the volumes or slices of one source.

    Args:
        data: where the labels lie.
        counted: all cases.
        source: "raw" or a configuration, and 3 for volumes or 2 for slices.
        label: its channel and name.
        connectivity: of the foreground.
    """
    channel, name = label
    parts = [case.objects[source] for case in counted if source in case.objects]
    objects = [o for of_case in parts for o in of_case.channels[channel].values()]
    whole = [o for o in objects if not o.beside_ignored]
    numbers = Counter(o.betti[connectivity] for o in whole)
    betti = dict(sorted(numbers.items(), key=lambda item: (-item[1], betti_key(item[0]))))
    has_ignore = data.labels.ignore is not None
    changes, differing = None, ()
    if source[0] == RAW:
        differing = _differing(counted, source, channel, connectivity, betti)
    else:
        changes = Changes(_share_changed_by_resampling(counted, source, channel, connectivity))
    return Record(
        connectivity=connectivity,
        space=source[1],
        label=name,
        source=source[0],
        absent=sum(of_case.parts for of_case in parts) - len(objects),
        at_border=sum(o.at_border for o in whole),
        betti=betti,
        beside_ignored=len(objects) - len(whole) if has_ignore else None,
        changes=changes,
        differing=differing,
    )


def _differing(
    counted: Sequence[CountedCase],
    source: tuple[str, int],
    channel: int,
    connectivity: Connectivity,
    betti: Mapping[Betti, int],
) -> tuple[Differing, ...]:
    """Returns the cases of which a raw label has other Betti numbers than most labels.

    Empty if less than half of the objects agree: then we cannot tell which number is right.
    """
    if not betti or max(betti.values()) < LISTED * sum(betti.values()):
        return ()
    most, *others = betti
    slices: dict[Betti, dict[str, list[int]]] = {numbers: {} for numbers in others}
    for case in counted:
        for index, found in _objects(case.objects.get(source), channel).items():
            numbers = found.betti[connectivity]
            if numbers != most and not found.beside_ignored:
                slices[numbers].setdefault(case.name, []).append(index)
    return tuple(
        Differing(
            numbers,
            tuple(sorted(of_cases)),
            tuple(_ranges(sorted(of_cases[case])) for case in sorted(of_cases))
            if source[1] == 2
            else (),
        )
        for numbers, of_cases in slices.items()
    )


def _objects(found: LabelObjects | None, channel: int):
    return {} if found is None else found.channels[channel]


def _ranges(numbers: Sequence[int]) -> str:
    """Returns numbers in ascending order as 12-15, 20."""
    parts = []
    for _, run in groupby(enumerate(numbers), lambda item: item[1] - item[0]):
        values = [value for _, value in run]
        parts.append(str(values[0]) if len(values) == 1 else f"{values[0]}-{values[-1]}")
    return ", ".join(parts)


def _share_changed_by_resampling(
    counted: Sequence[CountedCase],
    source: tuple[str, int],
    channel: int,
    connectivity: Connectivity,
) -> float | None:
    """Returns how often preprocessed labels have other Betti numbers than the raw ones."""
    changed = pairs = 0
    for case in counted:
        before, after = (case.objects.get((s, source[1])) for s in (RAW, source[0]))
        if before is None or after is None:
            continue
        for index, raw in before.channels[channel].items():
            resampled = after.channels[channel].get(index)
            pairs += 1
            changed += resampled is None or resampled.betti[connectivity] != raw.betti[connectivity]
    return changed / pairs if pairs else None
