"""What a training takes from the priors of its data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunetv2.configuration import default_num_processes

from nnunet_topo.dataset import Union
from nnunet_topo.losses.betti_prior import Prior
from nnunet_topo.priors.form import KEY as FORM
from nnunet_topo.priors.form import PriorForm
from nnunet_topo.priors.topology_json import (
    FILE,
    OBJECTS,
    is_edited,
    priors_of,
    read_topology,
    signed,
    write_topology,
)
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.training.context import TrainingContext


@dataclass(frozen=True, slots=True)
class TrainingPriors:
    """The priors of a training.

    Attributes:
        channels: Betti numbers of each class or region, then of each union, counted as the channels
            of the topology term are; channels without a prior are left out.
        unions: the channels that make up each union, those of the trainer's own first.
        plain: Betti numbers or "target" of each channel and union, such as 0+1, for the checkpoint,
            and how the loss is computed if not as by default.
        labels: number of classes or regions.
        form: how the loss is computed.
    """

    channels: Mapping[int, BettiPrior]
    unions: tuple[Union, ...]
    plain: dict[str, Any]
    labels: int
    form: PriorForm = field(default_factory=PriorForm)

    def or_target(self) -> dict[int, Prior]:
        """Returns the priors for labelled patches.

        A class or region without a prior gets the numbers of the target in each patch; a union
        without one is left out.
        """
        targets: dict[int, Prior] = dict.fromkeys(range(self.labels), "target")
        return targets | dict(self.channels)


def priors_of_training(
    context: TrainingContext, own_unions: Sequence[Union] = ()
) -> TrainingPriors:
    """Returns the priors in the topology.json of a data set.

    If there is no such file, the labels of all cases are counted and the file is written. The
    priors are printed to the log, and the file is copied beside the model's plans.json.

    Args:
        context: of the training.
        own_unions: unions of the trainer itself, whose channels come before those of the file.

    Raises:
        ValueError: topology.json is wrong; the message names the place.
    """
    file = context.dataset_folder / FILE
    content = context.ranks.first_finds(lambda: _read_or_make_topology(context))
    priors = priors_of(
        content,
        str(file),
        context.channels,
        space=context.space,
        connectivity=context.connectivity,
    )
    names, own = context.channels.names, len(own_unions)
    channels = {
        channel if channel < len(names) else channel + own: prior
        for channel, prior in priors.channels.items()
    }
    named = dict(enumerate(names))
    keys = dict(enumerate(map(str, range(len(names)))))
    for channel, union in enumerate(priors.unions, len(names) + own):
        named[channel] = context.channels.name_of(union)
        keys[channel] = "+".join(map(str, union))
    plain: dict[str, Any] = {
        key: channels[channel].to_json() if channel in channels else "target"
        for channel, key in keys.items()
    }
    if priors.form.plain:
        plain[FORM] = priors.form.plain
    told = [f"{named[channel]} {channels.get(channel, 'target')}" for channel in keys]
    context.log(
        f"topology: Betti numbers of {OBJECTS[context.space]} at {context.connectivity} "
        f"connectivity, from {file} (target: those of the labels in each patch): {', '.join(told)}"
        + (f"; {priors.form}" if priors.form.plain else "")
    )
    if context.ranks.rank == 0:
        _keep_copy(context, content)
    return TrainingPriors(channels, (*own_unions, *priors.unions), plain, len(names), priors.form)


def _read_or_make_topology(context: TrainingContext) -> dict[str, Any]:
    """Returns the content of topology.json, which is made if there are no priors in it."""
    file = context.dataset_folder / FILE
    content = read_topology(file) if file.exists() else {}
    # A training without priors may have written the decision of earlier versions alone.
    return content if "priors" in content else _make_topology(context)


def _make_topology(context: TrainingContext) -> dict[str, Any]:
    """Returns the topology of all labels, and writes it if the file can be written."""
    # Not at the top: nnU-Net imports all trainers when it looks for one.
    from nnunet_topo.priors.labelled_data import find_labels
    from nnunet_topo.priors.measure import take_fingerprint

    file = context.dataset_folder / FILE
    context.log(
        f"topology: there are no priors in {file}, so the Betti numbers of all labels are counted "
        "now; `nnunet-topo plan` does it beforehand, and measures more"
    )
    data = find_labels(context.plans, context.dataset_json, [])
    unions = context.channels.default_unions()
    taken = take_fingerprint(data, unions=unions, processes=default_num_processes)
    for problem in taken.problems:
        context.log(f"topology: {problem}")
    former = read_topology(file) if file.exists() else {}
    if "priors" in former:  # written by the training of another fold, and perhaps edited since
        return former
    kept = former if former and is_edited(former) else {}
    content = signed(kept | taken.to_json(), edited=bool(kept))
    try:
        write_topology(content, file)
    except OSError as error:
        context.log(f"topology: {file} cannot be written, going on without it: {error}")
    return content


def _keep_copy(context: TrainingContext, content: dict[str, Any]) -> None:
    """Writes the content of topology.json beside the model's plans.json, unless a copy exists."""
    copy = context.model_folder / FILE
    try:
        if not copy.exists():
            write_topology(content, copy)
            return
        former = read_topology(copy)
        if any(former.get(key) != content.get(key) for key in ("priors", FORM)):
            context.log(
                f"topology: {copy} holds other priors, of another fold or edited, and stays as it "
                "is; the priors of this fold are in its checkpoint"
            )
    except (OSError, ValueError) as error:
        context.log(f"topology: no copy of {context.dataset_folder / FILE}: {error}")
