"""What `nnunet-topo plan` does: topology.json, a table of it, and what to be careful of."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_topo.nnunet.evaluation import read_json
from nnunet_topo.nnunet.fingerprint import (
    AGREEMENT,
    CONNECTIVITIES,
    RAW,
    default_unions,
    find_labels,
    parse_betti,
    take_fingerprint,
)
from nnunet_topo.nnunet.priors import (
    FILE,
    NO_PRIOR,
    OBJECTS,
    in_words,
    is_edited,
    priors_of,
    read_topology,
    signed,
    unions_of,
    write_topology,
)
from nnunet_topo.nnunet.results import dataset_name, dataset_number
from nnunet_topo.nnunet.training_labels import TOLERATED_DAMAGE

FEW = 20  # objects: fewer that all agree leave room for more than 1 in 7 that do not
_SHOWN = 3  # Betti numbers of a line


@dataclass(frozen=True, slots=True)
class Planned:
    """What became of a plan.

    Attributes:
        file: that was written.
        content: of the file.
        kept: where the file that was there before is now, None if it was not kept.
        notes: what the file does not say.
        troubles: what went wrong, one line each.
    """

    file: Path
    content: dict[str, Any]
    kept: Path | None
    notes: list[str]
    troubles: list[str]


def plan(
    dataset: str,
    plans: str,
    configurations: Sequence[str] = (),
    *,
    processes: int = 1,
    update: bool = False,
    overwrite: bool = False,
) -> Planned:
    """Measures the topology of the labels of a data set, and writes it beside nnU-Net's plans.

    Nothing is written before the end.

    Args:
        dataset: number or name.
        plans: name of nnU-Net's plans.
        configurations: whose preprocessed labels are measured, default all.
        processes: at most so many.
        update: keep the priors and unions of a file that was edited, and measure the rest anew.
        overwrite: replace a file that was edited, and keep it under another name.

    Raises:
        ValueError: no such data set, an edited file in the way, nothing to measure.
        OSError: what cannot be read or written.
    """
    if update and overwrite:
        raise ValueError("--update keeps what was edited and --overwrite does not: give one")
    manager, dataset_json = _find_plans(dataset, plans)
    labels = manager.get_label_manager(dataset_json)
    file = Path(str(nnUNet_preprocessed)) / manager.dataset_name / FILE
    if not os.access(file.parent, os.W_OK):
        raise OSError(f"{file.parent} cannot be written to")
    before = file.read_bytes() if file.exists() else None
    edited = before is not None and _is_edited(file)
    if edited and not (update or overwrite):
        raise ValueError(
            f"{file} was edited, and stays as it is. --update keeps its priors and unions and "
            "measures the rest anew; --overwrite writes all anew, and keeps it under another name"
        )
    unions: Mapping[str, Sequence[str]] = default_unions(labels)
    former = read_topology(file) if edited and update else {}
    if former:
        _check(former, file, labels)
        unions = former.get("unions", unions)
    data = find_labels(manager, dataset_json, configurations or manager.available_configurations)
    taken = take_fingerprint(data, unions=unions, processes=processes)
    content = signed(_with_former_priors(taken.content, former), edited=bool(former))
    now = file.read_bytes() if file.exists() else None
    if now != before:
        raise ValueError(f"{file} was changed while the labels were measured, and stays as it is")
    kept = _keep(file) if edited and overwrite else None
    write_topology(content, file)
    number = dataset_number(manager.dataset_name)
    notes = [
        f"{name}: no preprocessed labels in {folder}, so nothing is known of resampling and "
        f"augmentation; nnUNetv2_preprocess -d {number} -plans_name {plans} -c {name} makes them"
        for name, folder in data.missing.items()
    ]
    return Planned(file, content, kept, notes, taken.troubles)


def _find_plans(dataset: str, plans: str) -> tuple[PlansManager, dict[str, Any]]:
    name = dataset_name(dataset)
    if not nnUNet_preprocessed.get():
        raise ValueError("nnUNet_preprocessed must be set, as for nnU-Net")
    folder = Path(str(nnUNet_preprocessed)) / name
    file = folder / f"{plans}.json"
    if not file.is_file():
        there = sorted(f.stem for f in folder.glob("*lans*.json"))
        raise ValueError(
            f"no plans {file}; there are: {', '.join(there) or 'none'}. nnU-Net plans first: "
            f"nnUNetv2_plan_and_preprocess -d {dataset_number(name)}"
        )
    content, dataset_json = read_json(file), read_json(folder / "dataset.json")
    manager = PlansManager(content)
    try:
        manager.get_label_manager(dataset_json)
        manager.image_reader_writer_class()
    except (RuntimeError, AssertionError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"nnU-Net does not take {file} and its dataset.json: {error}") from None
    return manager, dataset_json


def _is_edited(file: Path) -> bool:
    try:
        return is_edited(read_topology(file))
    except ValueError:  # not even JSON
        return True


def _check(content: Mapping[str, Any], file: Path, labels: LabelManager) -> None:
    """Checks all priors of a file that is there, before anything is measured.

    Raises:
        ValueError: one of them is wrong; the message names the place.
    """
    unions_of(content, str(file), labels)
    for connectivity in CONNECTIVITIES:
        for space, objects in OBJECTS.items():
            if not _lacks(content, "priors", connectivity, objects):
                priors_of(content, str(file), labels, space=space, connectivity=connectivity)


def _lacks(content: Any, *keys: str) -> bool:
    """Returns whether a section is just not there, and not something wrong."""
    for key in keys:
        if not isinstance(content, dict):
            return False
        if key not in content:
            return True
        content = content[key]
    return False


def _with_former_priors(content: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    """Returns new content with the priors of an edited file; those that it has not are new."""
    priors = {
        connectivity: {
            objects: measured | former.get("priors", {}).get(connectivity, {}).get(objects, {})
            for objects, measured in sections.items()
        }
        for connectivity, sections in content["priors"].items()
    }
    return {**content, "priors": priors}


def _keep(file: Path) -> Path:
    """Copies a file to a name that is free."""
    number, copy = 0, file.with_suffix(".json.bak")
    while copy.exists():
        number += 1
        copy = file.with_suffix(f".json.bak{number}")
    shutil.copy2(file, copy)
    return copy


# -- in words ----------------------------------------------------------------------------------


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
    """Returns what is to be known before a prior is trusted, a line each."""
    statistics, priors = content["statistics"], content["priors"]
    lines = []
    if statistics["unreadable"]:
        lines.append(
            f"{_count(len(statistics['unreadable']), 'case')} could not be read and did not count: "
            f"{', '.join(statistics['unreadable'])}"
        )
    for connectivity in CONNECTIVITIES:
        for objects, of_labels in statistics[connectivity].items():
            for name, records in of_labels.items():
                prior = priors[connectivity][objects].get(name, NO_PRIOR)
                told = [
                    *_warn_of_raw(records[RAW], prior, objects),
                    *_warn_of_preprocessed(records, prior, objects),
                ]
                lines += [f"{name}, {objects}, {connectivity}: {line}" for line in told]
    return [*lines, *_warn_of_augmentation(content), *_warn_of_connectivity(priors)]


def _warn_of_raw(record: Mapping[str, Any], prior: Any, objects: str) -> Iterator[str]:
    number = record["objects"]
    if not number:
        yield "never there"
        return
    if prior == NO_PRIOR:
        most, largest = next(iter(record["betti"].items()))
        yield (
            f"no prior, because a fixed ({most.replace(' ', ', ')}) would contradict "
            f"{number - largest} of {number} {objects}"
        )
    else:
        others = number - sum(n for key, n in record["betti"].items() if agrees(key, prior))
        if others:
            yield f"{others} of {number} {objects} contradict the prior {in_words(prior)}"
        if number < FEW:
            yield f"a prior from {number} {objects} alone"
    if record["at_border"]:
        yield f"cut by the border of the image in {record['at_border']} of {number} {objects}"
    if record.get("beside_ignored"):
        yield (
            f"{record['beside_ignored']} that touch ignored voxels are not known to be whole, and "
            "did not count"
        )


def _warn_of_preprocessed(
    records: Mapping[str, Mapping[str, Any]], prior: Any, objects: str
) -> Iterator[str]:
    for source, record in records.items():
        if source == RAW or not record["objects"]:
            continue
        number = record["objects"]
        if prior != NO_PRIOR:
            right = sum(n for key, n in record["betti"].items() if agrees(key, prior))
            if right < AGREEMENT * number:
                yield (
                    f"only {right} of {number} preprocessed {objects} of {source} have the prior "
                    f"{in_words(prior)}"
                )
        if (record["changed_by_resampling"] or 0) > TOLERATED_DAMAGE:
            share = _percent(record["changed_by_resampling"])
            yield f"resampling to {source} changes the Betti numbers of {share}"


def _warn_of_augmentation(content: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line for each configuration in which trainers leave out rotation and scaling."""
    for connectivity in CONNECTIVITIES:
        damaged: dict[str, list[str]] = {}
        for of_labels in content["statistics"][connectivity].values():
            for name, records in of_labels.items():
                for source, record in records.items():
                    share = record.get("changed_by_augmentation") or 0
                    if name not in content["unions"] and share > TOLERATED_DAMAGE:
                        damaged.setdefault(source, []).append(f"{name} in {_percent(share)}")
        for source, names in damaged.items():
            yield (
                f"{source}, {connectivity}: rotation and scaling change the Betti numbers of "
                f"{', '.join(names)}, so trainers with a topology term leave both out"
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


def agrees(betti: str, prior: Sequence[Any]) -> bool:
    """Returns whether Betti numbers, as records have them, fit a prior, as the file has it."""
    for number, wanted in zip(parse_betti(betti), prior, strict=True):
        low, high = wanted if isinstance(wanted, list) else (wanted or 0, wanted)
        if number < low or (high is not None and number > high):
            return False
    return True


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
