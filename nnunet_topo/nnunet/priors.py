"""Betti numbers that are known beforehand: topology.json, and what a training takes from it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.losses.betti_prior import BettiRange, Prior
from nnunet_topo.nnunet.loss import Union
from nnunet_topo.nnunet.training_labels import AGREEMENT, agreed_betti_numbers
from nnunet_topo.topology import Connectivity

if TYPE_CHECKING:
    from nnunet_topo.nnunet.trainer import TopologyTrainerMixin

NO_PRIOR = "none"
OBJECTS = {3: "volumes", 2: "slices"}  # by the axes of a patch
_WANTED = (
    "numbers from 0, for each dimension one (1), a range ([1, 2], or [1, null] for at least 1) or "
    "null if it is free"
)


@dataclass(frozen=True, slots=True)
class Priors:
    """Betti numbers that are known beforehand.

    Attributes:
        channels: Betti numbers (numbers, (low, high) ranges or None = free, per dimension) of each
            class or region, counted from 0 as foreground classes or regions are, then of each
            union; channels without a prior are left out.
        unions: the channels that make up each union.
    """

    channels: Mapping[int, Sequence[BettiRange]]
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
    content = _read_json(file)
    labels = channel_names(label_manager)
    unions = _object(content.get("unions", {}), f"{file}: unions")
    members: dict[str, Union] = {}
    for name, union in unions.items():
        place = f"{file}: unions > {name}"
        if name in labels:
            raise ValueError(f"{place}: wanted a name of its own, but a label of the data has it")
        if not (isinstance(union, list) and len(union) > 1 and len(set(map(str, union))) > 1):
            raise ValueError(f"{place}: wanted a list of two labels or more, got {_shown(union)}")
        for label in union:
            if label not in labels:
                raise ValueError(f"{place}: {_unknown(label, labels, content)}")
        members[name] = tuple(sorted({labels.index(label) for label in union}))
    keys = ("priors", connectivity, OBJECTS[space])
    section: Any = content
    place = str(file)
    for depth, key in enumerate(keys):
        section = _object(section, place)
        place += f"{' >' if depth else ':'} {key}"
        if key not in section:
            raise ValueError(f"{place}: missing; `nnunet-topo plan` writes it")
        section = section[key]
    channels: dict[int, Sequence[BettiRange]] = {}
    used: list[Union] = []
    given = _object(section, place)
    for name in given:
        if name not in labels and name not in members:
            raise ValueError(f"{place}: {_unknown(name, (*labels, *members), content)}")
    for name in (*labels, *members):
        if given.get(name, NO_PRIOR) == NO_PRIOR:
            continue
        prior = _prior(given[name], space, f"{place} > {name}")
        if name in members:
            channels[len(labels) + len(used)] = prior
            used.append(members[name])
        else:
            channels[labels.index(name)] = prior
    return Priors(channels, tuple(used))


def channel_names(label_manager: LabelManager) -> tuple[str, ...]:
    """Returns the names of foreground classes or regions in the order of their channels."""
    named = {
        name: set(labels) if isinstance(labels, Iterable) else {labels}
        for name, labels in label_manager.label_dict.items()
        if name != "ignore"
    }
    if label_manager.has_regions:
        return tuple(name for name, labels in named.items() if labels != {0})
    return tuple(
        next((name for name, labels in named.items() if labels == {label}), str(label))
        for label in label_manager.foreground_labels
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_each_key_once)
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
        raise ValueError(f"{place}: wanted an object {{...}}, got {_shown(value)}")
    return value


def _unknown(name: Any, known: Sequence[str], content: Mapping[str, Any]) -> str:
    """Returns what to say of a name that the data set has not."""
    made_for = f" (the file was made for {content['dataset']})" if "dataset" in content else ""
    return f"wanted one of {', '.join(known)}, got {_shown(name)}{made_for}"


def _prior(value: Any, space: int, place: str) -> tuple[BettiRange, ...]:
    """Returns the prior of one label, checked."""
    if not isinstance(value, list):
        raise ValueError(
            f'{place}: wanted a list of {_WANTED}, or "{NO_PRIOR}", got {_shown(value)}'
        )
    if len(value) != space:
        meant = "components, loops" if space == 2 else "components, loops or handles, cavities"
        raise ValueError(f"{place}: wanted {space} numbers ({meant}), got {_shown(value)}")
    betti: list[BettiRange] = []
    for k, number in enumerate(value):
        low, high = number if isinstance(number, list) and len(number) == 2 else (number, number)
        is_range = isinstance(number, list)
        right = number is None or (_is_count(low) and (high is None or _is_count(high)))
        if not right or (is_range and high is not None and low > high):
            raise ValueError(f"{place} > beta{k}: wanted {_WANTED}, got {_shown(number)}")
        betti.append((low, inf if high is None else high) if is_range else number)
    if betti[0] in (0, (0, 0)) and any(least(number) > 0 for number in betti):
        raise ValueError(
            f"{place}: without a component there is no loop and no cavity, got {_shown(value)}"
        )
    return tuple(betti)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def least(betti: BettiRange) -> float:
    """Returns the smallest number that a prior of one dimension allows."""
    if betti is None:
        return 0
    return betti if isinstance(betti, int) else betti[0]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def prior_of_labels(trainer: "TopologyTrainerMixin") -> BettiPriorLoss:
    """Returns the loss for the Betti numbers that 95 % of the training labels have, class by class.

    A class without such agreement gets the numbers of the target in each patch. The priors are
    printed to the log and kept in the checkpoint.
    """
    priors: dict[int, Prior] = {}
    for channel, betti in enumerate(agreed_betti_numbers(trainer.training_labels())):
        priors[channel] = "target" if betti is None else betti
        trainer.prior[str(channel)] = "target" if betti is None else list(betti)
    trainer.print_to_log_file(
        f"topology: Betti numbers that at least {AGREEMENT:.0%} of the training labels have, for "
        f"each class or region (else those of the target): {list(priors.values())}"
    )
    return BettiPriorLoss(
        priors,
        connectivity=trainer.settings.connectivity,
        clamp=trainer.clamp,
        in_patches=True,
    )
