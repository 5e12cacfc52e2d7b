"""What `nnunet-topo plan` does: topology.json, a table of it, and what to be careful of."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.dataset import Dataset
from nnunet_topo.priors import decisions
from nnunet_topo.priors.fingerprint import (
    CONNECTIVITIES,
    default_unions,
    find_labels,
    take_fingerprint,
)
from nnunet_topo.priors.topology_json import (
    FILE,
    OBJECTS,
    is_edited,
    priors_of,
    read_topology,
    signed,
    unions_of,
    write_topology,
)


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
        update: keep priors, unions and decisions about augmentation of a file that was edited, and
            measure the rest anew.
        overwrite: replace a file that was edited, and keep it under another name.

    Raises:
        ValueError: no such data set, an edited file in the way, nothing to measure.
        OSError: what cannot be read or written.
    """
    if update and overwrite:
        raise ValueError("--update keeps what was edited and --overwrite does not: give one")
    manager, dataset_json = Dataset.find(dataset).read_plans(plans)
    labels = manager.get_label_manager(dataset_json)
    file = Path(str(nnUNet_preprocessed)) / manager.dataset_name / FILE
    if not os.access(file.parent, os.W_OK):
        raise OSError(f"{file.parent} cannot be written to")
    before = file.read_bytes() if file.exists() else None
    edited = before is not None and _is_edited(file)
    if edited and not (update or overwrite):
        raise ValueError(
            f"{file} was edited, and stays as it is. --update keeps its priors, unions and "
            f"{decisions.KEY} and measures the rest anew; --overwrite writes all anew, and "
            "keeps it under another name"
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
    number = Dataset(manager.dataset_name).number
    notes = [
        f"{name}: no preprocessed labels in {folder}, so nothing is known of resampling and "
        f"augmentation; nnUNetv2_preprocess -d {number} -plans_name {plans} -c {name} makes them"
        for name, folder in data.missing.items()
    ]
    return Planned(file, content, kept, notes, taken.troubles)


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
    decisions.check_decisions(content, str(file))
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
    """Returns new content with what was edited in a file; what it has not is new."""
    priors = {
        connectivity: {
            objects: measured | former.get("priors", {}).get(connectivity, {}).get(objects, {})
            for objects, measured in sections.items()
        }
        for connectivity, sections in content["priors"].items()
    }
    joined = decisions.joined(content, former)
    return {**content, "priors": priors} | ({decisions.KEY: joined} if joined else {})


def _keep(file: Path) -> Path:
    """Copies a file to a name that is free."""
    number, copy = 0, file.with_suffix(".json.bak")
    while copy.exists():
        number += 1
        copy = file.with_suffix(f".json.bak{number}")
    shutil.copy2(file, copy)
    return copy
