"""Topology fingerprint of a data set: the Betti numbers of its labels, and their JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from nnunet_topo.priors.topology_json import NO_PRIOR, OBJECTS
from nnunet_topo.topology import Connectivity

Betti = tuple[int, ...]
"""Betti numbers of one structure: components, loops or handles, in a volume also cavities."""

RAW = "raw"
AGREEMENT = 0.95  # of the objects, for Betti numbers to count as a prior
LISTED = 0.5  # of the objects, whose Betti numbers must agree for the others to be listed
CONNECTIVITIES: tuple[Connectivity, ...] = get_args(Connectivity)
_ABOUT = (
    "Betti numbers: components, loops or handles, cavities. Edit `priors`: a number each, "
    '[1, 2] for a range, [1, null] for at least 1, null if it is free; "none" for no prior. '
    "`statistics` > `differing`: cases whose labels have other Betti numbers than most."
)


@dataclass(frozen=True, slots=True)
class Changes:
    """How often preprocessed labels change their Betti numbers.

    Attributes:
        by_resampling: share of the raw labels, None where that is not known.
    """

    by_resampling: float | None = None


@dataclass(frozen=True, slots=True)
class Differing:
    """Cases of which a label has Betti numbers that differ from those of most labels.

    Attributes:
        betti: Betti numbers that the label has there.
        cases: sorted.
        slices: numbers of the slices of each case, such as 12-15, 20; empty for volumes.
    """

    betti: Betti
    cases: tuple[str, ...]
    slices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.betti))})"

    def to_json(self) -> Any:
        """Returns what topology.json lists under the Betti numbers."""
        return dict(zip(self.cases, self.slices, strict=True)) if self.slices else list(self.cases)


@dataclass(frozen=True, slots=True)
class Record:
    """The Betti numbers of one label, counted in all volumes or slices of one source.

    Attributes:
        connectivity: of the foreground.
        space: 3 for volumes, 2 for slices.
        label: name of a class, region or union.
        source: "raw" for the label files, else the configuration that was preprocessed.
        absent: volumes or slices without the label.
        at_border: objects that the border of the image may cut.
        betti: number of objects with these Betti numbers, the most frequent first.
        beside_ignored: objects that touch ignored voxels and are not in `betti`; None for data
            without an ignore label.
        changes: of preprocessed labels, None for raw ones.
        differing: of raw labels, the cases with other Betti numbers than most.
    """

    connectivity: Connectivity
    space: int
    label: str
    source: str
    absent: int
    at_border: int
    betti: Mapping[Betti, int]
    beside_ignored: int | None = None
    changes: Changes | None = None
    differing: tuple[Differing, ...] = ()

    @property
    def objects(self) -> int:
        """Returns the number of objects that were counted."""
        return sum(self.betti.values())

    @property
    def most_frequent(self) -> Betti | None:
        """Returns the Betti numbers that most objects have, None if there is no object."""
        return next(iter(self.betti), None)

    @property
    def agreement(self) -> float | None:
        """Returns the share of objects with the most frequent Betti numbers, None if no object."""
        return next(iter(self.betti.values())) / self.objects if self.betti else None

    @property
    def prior(self) -> Betti | None:
        """Returns the Betti numbers of at least 95 % of the objects, None if they do not agree."""
        if self.agreement is None or self.agreement < AGREEMENT:
            return None
        return self.most_frequent

    def to_json(self) -> dict[str, Any]:
        """Returns the record as topology.json holds it, without the cases that differ."""
        content: dict[str, Any] = {
            "objects": self.objects,
            "absent": self.absent,
            "at_border": self.at_border,
        }
        if self.beside_ignored is not None:
            content["beside_ignored"] = self.beside_ignored
        content["agreement"] = self.agreement
        content["betti"] = {betti_key(betti): number for betti, number in self.betti.items()}
        if self.changes is not None:
            content["changed_by_resampling"] = self.changes.by_resampling
        return content


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What was counted in the labels of a data set.

    Attributes:
        dataset: name.
        unions: names of the labels of each union.
        cases: number of cases whose label file could be read.
        unreadable: names of the others.
        records: by connectivity, then volumes before slices, then by label, then raw labels first.
        problems: what went wrong, one line each; not written.
    """

    dataset: str
    unions: Mapping[str, Sequence[str]]
    cases: int
    unreadable: tuple[str, ...]
    records: tuple[Record, ...]
    problems: tuple[str, ...] = ()

    def spaces(self, connectivity: Connectivity) -> tuple[int, ...]:
        """Returns 3 where volumes were counted and 2 where slices were, in their order."""
        return tuple(dict.fromkeys(r.space for r in self.records if r.connectivity == connectivity))

    def of_labels(self, connectivity: Connectivity, space: int) -> dict[str, list[Record]]:
        """Returns the records of volumes or slices by label, raw labels first."""
        found: dict[str, list[Record]] = {}
        for record in self.records:
            if (record.connectivity, record.space) == (connectivity, space):
                found.setdefault(record.label, []).append(record)
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns the content of a topology.json, without its signature."""
        content: dict[str, Any] = {
            "about": _ABOUT,
            "dataset": self.dataset,
            "unions": {name: list(labels) for name, labels in self.unions.items()},
            "priors": {},
        }
        statistics: dict[str, Any] = {"cases": self.cases, "unreadable": list(self.unreadable)}
        differing: dict[str, Any] = {}
        for record in self.records:
            place = record.connectivity, OBJECTS[record.space]
            of_label = _section(statistics, *place, record.label)
            of_label[record.source] = record.to_json()
            listed = _section(differing, *place)
            if record.source == RAW:
                prior = NO_PRIOR if record.prior is None else list(record.prior)
                _section(content["priors"], *place)[record.label] = prior
                if record.differing:
                    listed[record.label] = {
                        betti_key(one.betti): one.to_json() for one in record.differing
                    }
        content["statistics"] = statistics | {"differing": differing}
        return content


def betti_key(betti: Betti) -> str:
    """Returns Betti numbers as a key of topology.json."""
    return " ".join(map(str, betti))


def _section(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Returns a section of a JSON object, and adds it if it is missing."""
    for key in keys:
        content = content.setdefault(key, {})
    return content
