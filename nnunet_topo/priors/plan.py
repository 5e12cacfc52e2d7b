"""The command `nnunet-topo plan`: it measures the labels of a data set and writes topology.json."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_topo.dataset import Channels, Dataset
from nnunet_topo.priors import decisions
from nnunet_topo.priors.fingerprint import CONNECTIVITIES, Fingerprint
from nnunet_topo.priors.form import KEY as FORM
from nnunet_topo.priors.labelled_data import find_labels
from nnunet_topo.priors.measure import take_fingerprint
from nnunet_topo.priors.topology_json import (
    FILE,
    OBJECTS,
    is_edited,
    priors_of,
    read_topology,
    read_unions,
    signed,
    write_topology,
)


@dataclass(frozen=True, slots=True)
class Planned:
    """The result of a plan.

    Attributes:
        file: that was written.
        fingerprint: what was measured.
        content: of the file; its priors and decisions may be those of a file that was edited.
        kept: copy of the file that was there before, None if there is none.
        notes: what could not be measured, and how to change that.
    """

    file: Path
    fingerprint: Fingerprint
    content: dict[str, Any]
    kept: Path | None
    notes: list[str]

    @property
    def problems(self) -> tuple[str, ...]:
        """Returns what went wrong, one line each."""
        return self.fingerprint.problems


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

    Nothing is written before everything is measured.

    Args:
        dataset: number or name.
        plans: name of nnU-Net's plans.
        configurations: whose preprocessed labels are measured; all if none is given.
        processes: at most so many.
        update: keep the priors, unions, decisions about augmentation and form of the loss of a file
            that was edited, and measure the rest anew.
        overwrite: replace a file that was edited, and keep a copy of it.

    Raises:
        ValueError: there is no such data set, an edited file is in the way, or there is nothing to
            measure.
        OSError: what cannot be read or written.
    """
    if update and overwrite:
        raise ValueError("--update keeps what was edited and --overwrite does not: give one")
    manager, dataset_json = Dataset.find(dataset).read_plans(plans)
    channels = Channels.of_manager(manager.get_label_manager(dataset_json))
    planned = Dataset(manager.dataset_name)
    file = planned.preprocessed / FILE
    if not os.access(file.parent, os.W_OK):
        raise OSError(f"{file.parent} cannot be written to")
    before = file.read_bytes() if file.exists() else None
    edited = before is not None and _is_edited(file)
    if edited and not (update or overwrite):
        raise ValueError(
            f"{file} was edited, and stays as it is. --update keeps its priors, unions, {FORM} and "
            f"{decisions.KEY} and measures the rest anew; --overwrite writes all anew, and "
            "keeps it under another name"
        )
    unions: Mapping[str, Sequence[str]] = channels.default_unions()
    former = read_topology(file) if edited and update else {}
    if former:
        _check(former, file, channels)
        unions = former.get("unions", unions)
    data = find_labels(manager, dataset_json, configurations or manager.available_configurations)
    taken = take_fingerprint(data, unions=unions, processes=processes)
    content = signed(_with_former_priors(taken.to_json(), former), edited=bool(former))
    now = file.read_bytes() if file.exists() else None
    if now != before:
        raise ValueError(f"{file} was changed while the labels were measured, and stays as it is")
    kept = _keep(file) if edited and overwrite else None
    write_topology(content, file)
    notes = [
        f"{name}: no preprocessed labels in {folder}, so nothing is known of resampling and "
        f"augmentation; nnUNetv2_preprocess -d {planned.number} -plans_name {plans} -c {name} "
        "makes them"
        for name, folder in data.missing.items()
    ]
    return Planned(file, taken, content, kept, notes)


def _is_edited(file: Path) -> bool:
    try:
        return is_edited(read_topology(file))
    except ValueError:  # not even JSON
        return True


def _check(content: Mapping[str, Any], file: Path, channels: Channels) -> None:
    """Checks all priors, unions and decisions of a file.

    Raises:
        ValueError: one of them is wrong; the message names the place.
    """
    read_unions(content, str(file), channels)
    decisions.check_decisions(content, str(file))
    for connectivity in CONNECTIVITIES:
        for space, objects in OBJECTS.items():
            if not _lacks(content, "priors", connectivity, objects):
                priors_of(content, str(file), channels, space=space, connectivity=connectivity)


def _lacks(content: Any, *keys: str) -> bool:
    """Returns whether a section is missing; a section of the wrong type is not missing."""
    for key in keys:
        if not isinstance(content, dict):
            return False
        if key not in content:
            return True
        content = content[key]
    return False


def _with_former_priors(content: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    """Returns new content with priors, decisions and form of a former file, where it has some."""
    priors = {
        connectivity: {
            objects: measured | former.get("priors", {}).get(connectivity, {}).get(objects, {})
            for objects, measured in sections.items()
        }
        for connectivity, sections in content["priors"].items()
    }
    joined = decisions.joined(content, former)
    kept = {FORM: former[FORM]} if FORM in former else {}
    return {**content, "priors": priors} | ({decisions.KEY: joined} if joined else {}) | kept


def _keep(file: Path) -> Path:
    """Copies a file under a name that is free, and returns the copy."""
    number, copy = 0, file.with_suffix(".json.bak")
    while copy.exists():
        number += 1
        copy = file.with_suffix(f".json.bak{number}")
    shutil.copy2(file, copy)
    return copy
