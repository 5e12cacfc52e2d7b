"""The command `nnunet-topo plan` measures the labels of a data set and writes topology.json."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_topo.dataset import Channels, Dataset
from nnunet_topo.priors.fingerprint import Fingerprint
from nnunet_topo.priors.form import KEY as FORM
from nnunet_topo.priors.labelled_data import find_labels
from nnunet_topo.priors.measure import take_fingerprint
from nnunet_topo.priors.topology_json import FILE, TopologyJson


@dataclass(frozen=True, slots=True)
class Planned:
    """The result of a plan.

    Attributes:
        fingerprint: what was measured.
        written: the file; its priors may be those of a file that was edited.
        kept: copy of the file that was there before, None if there is none.
        notes: what could not be measured and how to change that, and what was left out.
    """

    fingerprint: Fingerprint
    written: TopologyJson
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
    former = TopologyJson.read(file) if edited and update else TopologyJson(file, {})
    former.check(channels)
    unions = former.union_labels(channels.default_unions())
    data = find_labels(manager, dataset_json, configurations or manager.available_configurations)
    taken = take_fingerprint(data, unions=unions, processes=processes)
    joined = TopologyJson(file, taken.to_json()).with_priors_of(former)
    written = joined.signed(edited=not former.is_empty)
    now = file.read_bytes() if file.exists() else None
    if now != before:
        raise ValueError(
            f"{file} was changed while the labels were measured, so it is not replaced"
        )
    kept = _keep(file) if edited and overwrite else None
    written.write()
    notes = _notes_on_missing(data.missing, planned.number, plans)
    return Planned(taken, written, kept, notes)


def _notes_on_missing(missing: Mapping[str, Path], number: int, plans: str) -> list[str]:
    """Returns a note on each configuration without preprocessed labels."""
    return [
        f"{name}: no preprocessed labels in {folder}, so the effects of resampling are not known; "
        f"nnUNetv2_preprocess -d {number} -plans_name {plans} -c {name} makes them"
        for name, folder in missing.items()
    ]


def _is_edited(file: Path) -> bool:
    try:
        return TopologyJson.read(file).is_edited
    except ValueError:  # not even JSON
        return True


def _keep(file: Path) -> Path:
    """Copies a file under a name that is free, and returns the copy."""
    number, copy = 0, file.with_suffix(".json.bak")
    while copy.exists():
        number += 1
        copy = file.with_suffix(f".json.bak{number}")
    shutil.copy2(file, copy)
    return copy
