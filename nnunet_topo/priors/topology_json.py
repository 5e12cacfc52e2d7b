"""Betti numbers that are known beforehand: topology.json, and what a training takes from it."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager

import nnunet_topo
from nnunet_topo.dataset import Union
from nnunet_topo.labels.name_files import labels_by_name
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.betti_range import BettiPrior, as_json

if TYPE_CHECKING:
    pass

FILE = "topology.json"
NO_PRIOR = "none"
OBJECTS = {3: "volumes", 2: "slices"}  # by the axes of a patch
_DEEPEST = 4  # of what gets a line for each key


@dataclass(frozen=True, slots=True)
class Priors:
    """Betti numbers that are known beforehand.

    Attributes:
        channels: Betti numbers of each class or region, counted from 0 as foreground classes or
            regions are, then of each union; channels without a prior are left out.
        unions: the channels that make up each union.
    """

    channels: Mapping[int, BettiPrior]
    unions: tuple[Union, ...] = ()


def read_priors(
    file: Path, label_manager: LabelManager, *, space: int, connectivity: Connectivity
) -> Priors:
    """Returns the priors of a topology.json for the labels of a data set.

    Unions without a prior are left out, and so are labels that the file does not name.

    Args:
        file: as `nnunet-topo plan` writes it; priors stand under the labels' names.
        label_manager: nnU-Net's, of the data set that the priors are for.
        space: 3 for the priors of volumes, 2 for those of slices.
        connectivity: of the foreground.

    Raises:
        ValueError: what is no such file; the message names the place, what was wanted, what came.
        OSError: the file cannot be read.
    """
    return priors_of(
        read_topology(file), str(file), label_manager, space=space, connectivity=connectivity
    )


def priors_of(
    content: Mapping[str, Any],
    file: str,
    label_manager: LabelManager,
    *,
    space: int,
    connectivity: Connectivity,
) -> Priors:
    """Does what `read_priors` does, for a file that has been read; its name is for the messages."""
    labels = channel_names(label_manager)
    members = unions_of(content, file, label_manager)
    keys = ("priors", connectivity, OBJECTS[space])
    section: Any = content
    place = str(file)
    for depth, key in enumerate(keys):
        section = _object(section, place)
        place += f"{' >' if depth else ':'} {key}"
        if key not in section:
            raise ValueError(f"{place}: missing; `nnunet-topo plan` writes it")
        section = section[key]
    channels: dict[int, BettiPrior] = {}
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
            channels[len(labels) + len(used)] = prior
            used.append(members[name])
        else:
            channels[labels.index(name)] = prior
    return Priors(channels, tuple(used))


def unions_of(
    content: Mapping[str, Any], file: str, label_manager: LabelManager
) -> dict[str, Union]:
    """Returns the channels of each union of a topology.json, by its name.

    Raises:
        ValueError: what is no union of labels.
    """
    labels = channel_names(label_manager)
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
        members[name] = tuple(sorted({labels.index(label) for label in union}))
    return members


def channel_names(label_manager: LabelManager) -> tuple[str, ...]:
    """Returns the names of foreground classes or regions in the order of their channels."""
    named = {
        name: set(label) if isinstance(label, tuple) else {label}
        for name, label in labels_by_name(label_manager.label_dict, "dataset.json: labels").items()
        if name != "ignore"
    }
    if label_manager.has_regions:
        return tuple(name for name, labels in named.items() if labels != {0})
    return tuple(
        next((name for name, labels in named.items() if labels == {label}), str(label))
        for label in label_manager.foreground_labels
    )


def channel_labels(label_manager: LabelManager) -> tuple[tuple[int, ...], ...]:
    """Returns the labels of each foreground class or region."""
    manager = label_manager
    classes = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    return tuple(
        tuple(map(int, c)) if isinstance(c, Iterable) else (int(c),)
        for c in classes  # pyright: ignore[reportOptionalIterable] # has_regions says so
    )


def read_topology(file: Path) -> dict[str, Any]:
    """Returns the content of a topology.json, of which no more is known than that it is JSON.

    Raises:
        ValueError: it is not, or a key stands twice in one place.
        OSError: it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # editors on Windows mark it
        content = json.loads(text, object_pairs_hook=_each_key_once)
    except ValueError as error:
        raise ValueError(f"{file}: wanted a JSON file, got: {error}") from None
    return _object(content, str(file))


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of JSON, of which Python would keep the last of two equal keys."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"{twice!r} stands twice in the same place")
    return content


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: wanted an object {{...}}, got {as_json(value)}")
    return value


def _unknown(name: Any, known: Sequence[str], content: Mapping[str, Any]) -> str:
    """Returns what to say of a name that the data set has not."""
    made_for = f" (the file was made for {content['dataset']})" if "dataset" in content else ""
    return f"wanted one of {', '.join(known)}, got {as_json(name)}{made_for}"


# -- writing -----------------------------------------------------------------------------------


def signed(content: Mapping[str, Any], *, edited: bool = False) -> dict[str, Any]:
    """Returns the content of a topology.json with what tells later whether it was edited.

    Args:
        content: all but that.
        edited: whether it holds what was edited by hand already, and is to be kept as such.
    """
    rest = {key: value for key, value in content.items() if key != "written_by"}
    written_by = {"nnunet_topo": nnunet_topo.__version__, "digest": _digest(rest)}
    return rest | {"written_by": written_by | ({"edited": True} if edited else {})}


def is_edited(content: Mapping[str, Any]) -> bool:
    """Returns whether a topology.json holds anything that `signed` has not seen, or was told of."""
    written_by = content.get("written_by")
    if not isinstance(written_by, dict) or written_by.get("edited"):
        return True
    rest = {key: value for key, value in content.items() if key != "written_by"}
    return written_by.get("digest") != _digest(rest)


def write_topology(content: Mapping[str, Any], file: Path) -> None:
    """Writes a topology.json in one step; the file is replaced if it exists."""
    written = file.with_name(f"{file.name}.topo-new")
    try:
        written.write_text(f"{_as_text(content)}\n", encoding="utf-8")
        written.replace(file)
    except OSError:
        written.unlink(missing_ok=True)
        raise


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


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


def in_words(prior: list[Any] | str) -> str:
    """Returns a prior, as the file has it, for people."""
    return prior if isinstance(prior, str) else str(BettiPrior.from_json(prior, FILE))
