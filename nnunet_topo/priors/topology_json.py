"""topology.json: the known Betti numbers of the labels of a data set."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import nnunet_topo
from nnunet_topo import files
from nnunet_topo.dataset import Channels, Union
from nnunet_topo.files import OWN_KEY, read_json, write_whole
from nnunet_topo.messages import on_one_line
from nnunet_topo.priors.form import KEY as FORM
from nnunet_topo.priors.form import OBJECTS, PriorForm, read_form
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.betti_range import BettiPrior, as_json

FILE = "topology.json"
NO_PRIOR = "none"
_DEEPEST = 4  # level at which each key still gets its own line


@dataclass(frozen=True, slots=True)
class Priors:
    """Betti numbers that are known beforehand.

    Attributes:
        channels: Betti numbers by channel: the classes or regions first, counted from 0, then the
            unions. Channels without a prior are left out.
        unions: the channels that make up each union.
        form: of the loss.
    """

    channels: Mapping[int, BettiPrior]
    unions: tuple[Union, ...] = ()
    form: PriorForm = field(default_factory=PriorForm)


@dataclass(frozen=True, slots=True)
class TopologyJson:
    """The content of a topology.json, which users may have edited.

    The content is kept as it is in the file, including entries that this package does not know.
    Each method checks what it returns and nothing else. If that is wrong, it raises a ValueError
    with the place in the file, what was wanted and what came.

    Attributes:
        file: that the content comes from, or is written to.
        content: the JSON object; empty if the file does not exist yet.
    """

    file: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> "TopologyJson":
        """Returns the content of a file; only that it is a JSON object is checked.

        Raises:
            ValueError: it is not a JSON object, or has a key twice in the same place.
            OSError: it cannot be read.
        """
        return cls(file, read_json(file, object_pairs_hook=_each_key_once))

    @classmethod
    def read_if_there(cls, file: Path) -> "TopologyJson":
        """Returns the content of a file as `read` does, empty if it does not exist."""
        return cls.read(file) if file.exists() else cls(file, {})

    @property
    def is_empty(self) -> bool:
        """Returns whether there is no content."""
        return not self.content

    @property
    def has_priors(self) -> bool:
        """Returns whether there are priors; a file of one's own may have none."""
        return "priors" in self.content

    def has_priors_of(self, other: "TopologyJson") -> bool:
        """Returns whether priors and form of the loss are written as in another file."""
        return all(self.content.get(key) == other.content.get(key) for key in ("priors", FORM))

    def priors(self, channels: Channels, *, space: int, connectivity: Connectivity) -> Priors:
        """Returns the priors for the labels of a data set.

        Unions without a prior are left out, and so are labels that the file does not name.

        Args:
            channels: classes or regions of the data set, whose names the file uses.
            space: 3 for the priors of volumes, 2 for the priors of slices.
            connectivity: of the foreground.
        """
        labels = channels.names
        members = self.unions(channels)
        section: Any = self.content
        place = str(self.file)
        for depth, key in enumerate(("priors", connectivity, OBJECTS[space])):
            section = _object(section, place)
            place += f"{' >' if depth else ':'} {key}"
            if key not in section:
                raise ValueError(f"{place}: missing; `nnunet-topo plan` writes it")
            section = section[key]
        given = _object(section, place)
        for name in given:
            if name not in labels and name not in members:
                raise ValueError(f"{place}: {self._unknown(name, (*labels, *members))}")
        found: dict[int, BettiPrior] = {}
        used: list[Union] = []
        for name in (*labels, *members):
            if given.get(name, NO_PRIOR) == NO_PRIOR:
                continue
            prior = BettiPrior.from_json(given[name], f"{place} > {name}", space)
            if name in members:
                found[len(labels) + len(used)] = prior
                used.append(members[name])
            else:
                found[labels.index(name)] = prior
        return Priors(found, tuple(used), self.form(space))

    def prior(self, label: str, *, space: int, connectivity: Connectivity) -> BettiPrior | None:
        """Returns the prior of a label in a file without mistakes, None if it has none."""
        plain = self.content["priors"][connectivity][OBJECTS[space]].get(label, NO_PRIOR)
        return None if plain == NO_PRIOR else BettiPrior.from_json(plain, str(self.file), space)

    def unions(self, channels: Channels) -> dict[str, Union]:
        """Returns the channels of each union, by its name."""
        labels = channels.names
        members: dict[str, Union] = {}
        for name, union in _object(self.content.get("unions", {}), f"{self.file}: unions").items():
            place = f"{self.file}: unions > {on_one_line(name)}"
            if name in labels:
                raise ValueError(
                    f"{place}: wanted a name of its own, but a label of the data has it"
                )
            if not (isinstance(union, list) and len(set(map(str, union))) > 1):
                raise ValueError(
                    f"{place}: wanted a list of two labels or more, got {as_json(union)}"
                )
            for label in union:
                if label not in labels:
                    raise ValueError(f"{place}: {self._unknown(label, labels)}")
            members[name] = channels.union(union)
        return members

    def union_labels(self, default: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
        """Returns the labels of each union by name, or the default if the file has no unions."""
        return self.content.get("unions", default)

    def form(self, space: int) -> PriorForm:
        """Returns the form of the loss, with the weights for volumes (3) or slices (2)."""
        return read_form(self.content, str(self.file), space)

    def check(self, channels: Channels) -> None:
        """Checks all unions and priors for the labels of a data set."""
        self.unions(channels)
        for connectivity in get_args(Connectivity):
            for space, objects in OBJECTS.items():
                if not self._lacks("priors", connectivity, objects):
                    self.priors(channels, space=space, connectivity=connectivity)

    def with_priors_of(self, former: "TopologyJson") -> "TopologyJson":
        """Returns this content with the priors and the form of an earlier file, if it has any."""
        own, kept = self.content["priors"], former.content.get("priors", {})
        priors = {
            connectivity: {
                objects: measured | kept.get(connectivity, {}).get(objects, {})
                for objects, measured in sections.items()
            }
            for connectivity, sections in own.items()
        }
        form = {FORM: former.content[FORM]} if FORM in former.content else {}
        return TopologyJson(self.file, {**self.content, "priors": priors, **form})

    # -- writing -------------------------------------------------------------------------------

    @property
    def is_edited(self) -> bool:
        """Returns whether the content was changed after it was signed, or signed as edited."""
        written_by = self.content.get("written_by")
        if not isinstance(written_by, dict) or written_by.get("edited"):
            return True
        return written_by.get("digest") != _digest(self._unsigned())

    def signed(self, *, edited: bool = False) -> "TopologyJson":
        """Returns the content with a digest, by which edits are found later.

        Args:
            edited: whether the content contains edits, so that it must be treated as edited.
        """
        rest = self._unsigned()
        written_by = {OWN_KEY: nnunet_topo.__version__, "digest": _digest(rest)}
        written_by |= {"edited": True} if edited else {}
        return TopologyJson(self.file, rest | {"written_by": written_by})

    def write(self) -> None:
        """Writes the file in one step; it is replaced if it exists.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(self.file, f"{_as_text(self.content)}\n")

    # -- used by the methods above -------------------------------------------------------------

    def _unsigned(self) -> dict[str, Any]:
        return {key: value for key, value in self.content.items() if key != "written_by"}

    def _lacks(self, *keys: str) -> bool:
        """Returns whether a section is missing; a section of the wrong type is not missing."""
        section: Any = self.content
        for key in keys:
            if not isinstance(section, dict):
                return False
            if key not in section:
                return True
            section = section[key]
        return False

    def _unknown(self, name: Any, known: Sequence[str]) -> str:
        """Returns the message about a name that the data set does not have."""
        dataset = self.content.get("dataset")
        made_for = f" (the file was made for {dataset})" if "dataset" in self.content else ""
        return f"wanted one of {', '.join(known)}, got {as_json(name)}{made_for}"


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of JSON, and refuses equal keys, of which Python would keep the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"{twice!r} appears twice in the same place")
    return content


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: wanted an object {{...}}, got {as_json(value)}")
    return value


def _digest(content: Mapping[str, Any]) -> str:
    return files.digest(json.dumps(content, sort_keys=True))


def _as_text(value: Any, depth: int = 0) -> str:
    """Returns JSON with a line for each prior and each record of the statistics."""
    if not isinstance(value, Mapping) or not value or depth > _DEEPEST:
        return json.dumps(value, ensure_ascii=False)
    margin = "  " * (depth + 1)
    lines = [
        f"{margin}{json.dumps(key, ensure_ascii=False)}: {_as_text(of_key, depth + 1)}"
        for key, of_key in value.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n" + "  " * depth + "}"
