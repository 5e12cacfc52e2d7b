"""topology.json: the known Betti numbers of the labels of a data set."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nnunet_topo
from nnunet_topo import files
from nnunet_topo.dataset import Channels, Union
from nnunet_topo.files import OWN_KEY, read_json, write_whole
from nnunet_topo.priors.form import OBJECTS, PriorForm, read_form
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.betti_range import BettiPrior, as_json

FILE = "topology.json"
NO_PRIOR = "none"
FORMER_DECISION = "rotation_and_scaling"  # of earlier versions; it is no longer read
_DEEPEST = 4  # level at which each key still gets its own line


@dataclass(frozen=True, slots=True)
class Priors:
    """Betti numbers that are known beforehand.

    Attributes:
        channels: Betti numbers of each class or region, counted from 0 as foreground classes or
            regions are, then of each union; channels without a prior are left out.
        unions: the channels that make up each union.
        form: how the loss is computed.
    """

    channels: Mapping[int, BettiPrior]
    unions: tuple[Union, ...] = ()
    form: PriorForm = field(default_factory=PriorForm)


def read_priors(
    file: Path, channels: Channels, *, space: int, connectivity: Connectivity
) -> Priors:
    """Returns the priors of a topology.json for the labels of a data set.

    Unions without a prior are left out, and so are labels that the file does not name.

    Args:
        file: as `nnunet-topo plan` writes it; priors stand under the labels' names.
        channels: classes or regions of the data set that the priors are for.
        space: 3 for the priors of volumes, 2 for the priors of slices.
        connectivity: of the foreground.

    Raises:
        ValueError: the file is wrong; the message names the place, what was wanted and what came.
        OSError: the file cannot be read.
    """
    content = read_topology(file)
    return priors_of(content, str(file), channels, space=space, connectivity=connectivity)


def priors_of(
    content: Mapping[str, Any],
    file: str,
    channels: Channels,
    *,
    space: int,
    connectivity: Connectivity,
) -> Priors:
    """Returns the priors of a topology.json that has been read, as `read_priors` does.

    Args:
        content: of the file.
        file: its name, for the messages.
        channels: classes or regions of the data set that the priors are for.
        space: 3 for the priors of volumes, 2 for the priors of slices.
        connectivity: of the foreground.

    Raises:
        ValueError: the content is wrong; the message names the place.
    """
    labels = channels.names
    members = read_unions(content, file, channels)
    keys = ("priors", connectivity, OBJECTS[space])
    section: Any = content
    place = str(file)
    for depth, key in enumerate(keys):
        section = _object(section, place)
        place += f"{' >' if depth else ':'} {key}"
        if key not in section:
            raise ValueError(f"{place}: missing; `nnunet-topo plan` writes it")
        section = section[key]
    found: dict[int, BettiPrior] = {}
    used: list[Union] = []
    given = _object(section, place)
    for name in given:
        if name not in labels and name not in members:
            raise ValueError(f"{place}: {_unknown(name, (*labels, *members), content)}")
    for name in (*labels, *members):
        if given.get(name, NO_PRIOR) == NO_PRIOR:
            continue
        prior = BettiPrior.from_json(given[name], f"{place} > {name}", space)
        if name in members:
            found[len(labels) + len(used)] = prior
            used.append(members[name])
        else:
            found[labels.index(name)] = prior
    return Priors(found, tuple(used), read_form(content, file, space))


def recorded_prior(
    content: Mapping[str, Any], connectivity: str, space: int, label: str
) -> BettiPrior | None:
    """Returns the prior of a label in a topology.json without mistakes, None if it has none."""
    plain = content["priors"][connectivity][OBJECTS[space]].get(label, NO_PRIOR)
    return None if plain == NO_PRIOR else BettiPrior.from_json(plain, FILE, space)


def read_unions(content: Mapping[str, Any], file: str, channels: Channels) -> dict[str, Union]:
    """Returns the channels of each union of a topology.json, by its name.

    Raises:
        ValueError: what is there is not a union of labels; the message names the place.
    """
    labels = channels.names
    members: dict[str, Union] = {}
    for name, union in _object(content.get("unions", {}), f"{file}: unions").items():
        place = f"{file}: unions > {name}"
        if name in labels:
            raise ValueError(f"{place}: wanted a name of its own, but a label of the data has it")
        if not (isinstance(union, list) and len(set(map(str, union))) > 1):
            raise ValueError(f"{place}: wanted a list of two labels or more, got {as_json(union)}")
        for label in union:
            if label not in labels:
                raise ValueError(f"{place}: {_unknown(label, labels, content)}")
        members[name] = channels.union(union)
    return members


def forbids_rotation(
    content: Mapping[str, Any], configuration: str, connectivity: Connectivity
) -> bool:
    """Returns whether a topology.json of an earlier version says not to rotate and scale."""
    section: Any = content.get(FORMER_DECISION)
    for key in (connectivity, configuration):
        section = section.get(key) if isinstance(section, Mapping) else None
    return (section.get("used") if isinstance(section, Mapping) else section) is False


def read_topology(file: Path) -> dict[str, Any]:
    """Returns the content of a topology.json; only that it is a JSON object is checked.

    Raises:
        ValueError: it is not a JSON object, or has a key twice in the same place.
        OSError: it cannot be read.
    """
    return read_json(file, object_pairs_hook=_each_key_once)


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


def _unknown(name: Any, known: Sequence[str], content: Mapping[str, Any]) -> str:
    """Returns the message about a name that the data set does not have."""
    made_for = f" (the file was made for {content['dataset']})" if "dataset" in content else ""
    return f"wanted one of {', '.join(known)}, got {as_json(name)}{made_for}"


# -- writing -----------------------------------------------------------------------------------


def signed(content: Mapping[str, Any], *, edited: bool = False) -> dict[str, Any]:
    """Returns the content of a topology.json with a digest, by which edits are found later.

    Args:
        content: of the file; an earlier signature is replaced.
        edited: whether somebody edited the content, so that it must be treated as edited.
    """
    rest = {key: value for key, value in content.items() if key != "written_by"}
    written_by = {OWN_KEY: nnunet_topo.__version__, "digest": _digest(rest)}
    return rest | {"written_by": written_by | ({"edited": True} if edited else {})}


def is_edited(content: Mapping[str, Any]) -> bool:
    """Returns whether a topology.json was changed after it was signed, or signed as edited."""
    written_by = content.get("written_by")
    if not isinstance(written_by, dict) or written_by.get("edited"):
        return True
    rest = {key: value for key, value in content.items() if key != "written_by"}
    return written_by.get("digest") != _digest(rest)


def write_topology(content: Mapping[str, Any], file: Path) -> None:
    """Writes a topology.json in one step; the file is replaced if it exists."""
    write_whole(file, f"{_as_text(content)}\n")


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
