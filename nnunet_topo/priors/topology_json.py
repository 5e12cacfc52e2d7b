"""Betti numbers that are known beforehand: topology.json, and what a training takes from it."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2.configuration import default_num_processes
from nnunetv2.utilities.label_handling.label_handling import LabelManager

import nnunet_topo
from nnunet_topo.labels.name_files import labels_by_name
from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.losses.betti_prior import Prior
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.betti_range import BettiPrior, as_json
from nnunet_topo.training.loss import Union
from nnunet_topo.training.ranks import of_first_rank

if TYPE_CHECKING:
    from nnunet_topo.training.trainer import TopologyTrainerMixin

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


# -- in a training -----------------------------------------------------------------------------


def prior_of_labels(trainer: "TopologyTrainerMixin") -> BettiPriorLoss:
    """Returns the loss for the priors of a data set, on labelled patches.

    A class or region without a prior gets the numbers of the target in each patch, a union without
    one is left out. See `priors_of_training`.
    """
    chosen: dict[int, Prior] = dict.fromkeys(
        range(len(channel_names(trainer.label_manager))), "target"
    )
    return BettiPriorLoss(
        chosen | dict(priors_of_training(trainer).channels),
        connectivity=trainer.settings.connectivity,
        clamp=trainer.clamp,
        in_patches=True,
    )


def priors_of_training(trainer: "TopologyTrainerMixin") -> Priors:
    """Returns the priors in the topology.json of a data set, and lets the trainer know of them.

    Where there is no such file it is made of all labels and written. The priors are printed to the
    log and kept in the checkpoint, the file is copied beside the model's plans.json, and the
    trainer gets the unions.
    """
    content, file = _topology_of_training(trainer)
    space = len(trainer.configuration_manager.patch_size)
    connectivity = trainer.settings.connectivity
    priors = priors_of(
        content, str(file), trainer.label_manager, space=space, connectivity=connectivity
    )
    names = channel_names(trainer.label_manager)
    # A trainer may have unions of its own, whose channels come first.
    own = tuple(type(trainer).topology_unions)
    trainer.topology_unions = (*own, *priors.unions)
    channels = {
        channel if channel < len(names) else channel + len(own): prior
        for channel, prior in priors.channels.items()
    }
    named = dict(enumerate(names))
    keys = dict(enumerate(map(str, range(len(names)))))
    for channel, union in enumerate(priors.unions, len(names) + len(own)):
        named[channel] = " + ".join(names[member] for member in union)
        keys[channel] = "+".join(map(str, union))
    trainer.prior = {
        key: channels[channel].to_json() if channel in channels else "target"
        for channel, key in keys.items()
    }
    told = [f"{named[channel]} {channels.get(channel, 'target')}" for channel in keys]
    trainer.print_to_log_file(
        f"topology: Betti numbers of {OBJECTS[space]} at {connectivity} connectivity, from {file} "
        f"(target: as the labels of each patch have them): {', '.join(told)}"
    )
    if trainer.local_rank == 0:
        _keep_copy(trainer, content, file)
    return Priors(channels, trainer.topology_unions)


def _topology_of_training(trainer: "TopologyTrainerMixin") -> tuple[dict[str, Any], Path]:
    """Returns what all ranks of a training take for the content of topology.json, and the file."""
    file = Path(str(trainer.preprocessed_dataset_folder_base)) / FILE

    def find() -> dict[str, Any]:
        content = read_topology(file) if file.exists() else {}
        # A training without priors may have written its decision about augmentation alone.
        return content if "priors" in content else _make_topology(trainer, file)

    return of_first_rank(trainer, find), file


def _make_topology(trainer: "TopologyTrainerMixin", file: Path) -> dict[str, Any]:
    """Returns the topology of all labels, and writes it if that can be done."""
    # Not at the top: nnU-Net imports all trainers when it looks for one.
    from nnunet_topo.priors.fingerprint import default_unions, find_labels, take_fingerprint
    from nnunet_topo.training.augmentation import KEY, joined

    trainer.print_to_log_file(
        f"topology: there are no priors in {file}, so the Betti numbers of all labels are counted "
        "now; `nnunet-topo plan` does it beforehand, and measures more"
    )
    data = find_labels(trainer.plans_manager, trainer.dataset_json, [])
    unions = default_unions(trainer.label_manager)
    taken = take_fingerprint(data, unions=unions, processes=default_num_processes)
    for trouble in taken.troubles:
        trainer.print_to_log_file(f"topology: {trouble}")
    former = read_topology(file) if file.exists() else {}
    if "priors" in former:  # of another fold's training, and perhaps edited since
        return former
    decisions = joined(taken.content, former)
    content = signed(
        taken.content | ({KEY: decisions} if decisions else {}),
        edited=bool(former) and is_edited(former),
    )
    try:
        write_topology(content, file)
    except OSError as error:
        trainer.print_to_log_file(f"topology: {file} cannot be written, going on without: {error}")
    return content


def _keep_copy(trainer: "TopologyTrainerMixin", content: dict[str, Any], file: Path) -> None:
    """Writes the file's content beside plans.json of the model, unless there is one already."""
    copy = Path(str(trainer.output_folder_base)) / FILE
    try:
        if not copy.exists():
            write_topology(content, copy)
        elif read_topology(copy).get("priors") != content.get("priors"):
            trainer.print_to_log_file(
                f"topology: {copy} holds other priors, of another fold or edited, and stays as it "
                "is; those of this fold are in its checkpoint"
            )
    except (OSError, ValueError) as error:
        trainer.print_to_log_file(f"topology: no copy of {file}: {error}")


def in_words(prior: list[Any] | str) -> str:
    """Returns a prior, as the file has it, for people."""
    return prior if isinstance(prior, str) else str(BettiPrior.from_json(prior, FILE))
