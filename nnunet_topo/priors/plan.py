"""The command `nnunet-topo plan` measures the labels of a data set and writes topology.json."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_topo.dataset import Channels, Dataset
from nnunet_topo.priors.fingerprint import CONNECTIVITIES, Fingerprint
from nnunet_topo.priors.form import KEY as FORM
from nnunet_topo.priors.labelled_data import find_labels
from nnunet_topo.priors.measure import take_fingerprint
from nnunet_topo.priors.topology_json import (
    FILE,
    FORMER_DECISION,
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
        content: of the file; its priors may be those of a file that was edited.
        kept: copy of the file that was there before, None if there is none.
        notes: what could not be measured and how to change that, and what was left out.
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
        processes: maximum number.
        update: keep the priors, the unions and the form of the loss of a file that was edited, and
            measure the rest again.
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
            f"{file} was edited, so it is not replaced. --update keeps its priors, unions and "
            f"{FORM} and measures the rest again; --overwrite replaces all of it, and keeps a copy "
            "under another name"
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
        raise ValueError(
            f"{file} was changed while the labels were measured, so it is not replaced"
        )
    kept = _keep(file) if edited and overwrite else None
    write_topology(content, file)
    notes = [
        f"{name}: no preprocessed labels in {folder}, so the effects of resampling are not known; "
        f"nnUNetv2_preprocess -d {planned.number} -plans_name {plans} -c {name} makes them"
        for name, folder in data.missing.items()
    ]
    if FORMER_DECISION in former:
        notes.append(
            f"{FORMER_DECISION} of the former file is left out, because trainers no longer read "
            "it: the suffix nospatial trains without rotation and scaling"
        )
    return Planned(file, taken, content, kept, notes)


def _is_edited(file: Path) -> bool:
    try:
        return is_edited(read_topology(file))
    except ValueError:  # not even JSON
        return True


def _check(content: Mapping[str, Any], file: Path, channels: Channels) -> None:
    """Checks all priors and unions of a file.

    Raises:
        ValueError: one of them is wrong; the message names the place.
    """
    read_unions(content, str(file), channels)
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
    """Returns new content with the priors and the form of an earlier file, if it has any."""
    priors = {
        connectivity: {
            objects: measured | former.get("priors", {}).get(connectivity, {}).get(objects, {})
            for objects, measured in sections.items()
        }
        for connectivity, sections in content["priors"].items()
    }
    kept = {FORM: former[FORM]} if FORM in former else {}
    return {**content, "priors": priors} | kept


def _keep(file: Path) -> Path:
    """Copies a file under a name that is free, and returns the copy."""
    number, copy = 0, file.with_suffix(".json.bak")
    while copy.exists():
        number += 1
        copy = file.with_suffix(f".json.bak{number}")
    shutil.copy2(file, copy)
    return copy
