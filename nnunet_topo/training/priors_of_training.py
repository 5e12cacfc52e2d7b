"""The priors that a training takes from its data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunetv2.configuration import default_num_processes

from nnunet_topo.dataset import Union
from nnunet_topo.losses.betti_prior import Prior
from nnunet_topo.priors.form import KEY as FORM
from nnunet_topo.priors.form import PriorForm
from nnunet_topo.priors.topology_json import FILE, OBJECTS, TopologyJson
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.training.context import TrainingContext


@dataclass(frozen=True, slots=True)
class TrainingPriors:
    """The priors of a training.

    Attributes:
        channels: Betti numbers by channel of the topology term, which has the classes or regions
            first and then the unions. Channels without a prior are left out.
        unions: the channels that make up each union. The trainer's own unions come first.
        plain: the priors for the checkpoint: Betti numbers or "target" of each channel and each
            union, such as 0+1, and the form if it is not the default.
        labels: number of classes or regions.
        form: of the loss.
    """

    channels: Mapping[int, BettiPrior]
    unions: tuple[Union, ...]
    plain: dict[str, Any]
    labels: int
    form: PriorForm = field(default_factory=PriorForm)

    def or_target(self) -> dict[int, Prior]:
        """Returns the priors for labelled patches.

        A class or region without a prior gets "target", the Betti numbers of the target in each
        patch. A union without a prior is left out.
        """
        targets: dict[int, Prior] = dict.fromkeys(range(self.labels), "target")
        return targets | dict(self.channels)


def priors_of_training(
    context: TrainingContext, own_unions: Sequence[Union] = ()
) -> TrainingPriors:
    """Returns the priors in the topology.json of a data set.

    If there are none, it counts the Betti numbers of all labels and writes the file. It prints the
    priors to the log, and copies the file to the folder with the model's plans.json.

    Args:
        context: of the training.
        own_unions: of the trainer itself. Their channels come before those of the file.

    Raises:
        ValueError: topology.json is wrong. The message names the place.
    """
    file = context.dataset_folder / FILE
    topology = context.ranks.first_finds(lambda: _read_or_make_topology(context))
    priors = topology.priors(
        context.channels, space=context.space, connectivity=context.connectivity
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
        _keep_copy(context, topology)
    return TrainingPriors(channels, (*own_unions, *priors.unions), plain, len(names), priors.form)


def _read_or_make_topology(context: TrainingContext) -> TopologyJson:
    """Returns topology.json; counts the Betti numbers if it has no priors."""
    topology = TopologyJson.read_if_there(context.dataset_folder / FILE)
    # A file of one's own may contain only unions, or the form of the loss.
    return topology if topology.has_priors else _make_topology(context)


def _make_topology(context: TrainingContext) -> TopologyJson:
    """Returns the topology of all labels, and writes it to topology.json if that is possible."""
    # Imported here because nnU-Net imports all trainers when it searches for one.
    from nnunet_topo.priors.labelled_data import find_labels
    from nnunet_topo.priors.measure import take_fingerprint

    file = context.dataset_folder / FILE
    context.log(
        f"topology: there are no priors in {file}, so the Betti numbers of all labels are counted "
        "now. `nnunet-topo plan` does this in advance and measures more"
    )
    data = find_labels(context.plans, context.dataset_json, [])
    unions = context.channels.default_unions()
    taken = take_fingerprint(data, unions=unions, processes=default_num_processes)
    for problem in taken.problems:
        context.log(f"topology: {problem}")
    former = TopologyJson.read_if_there(file)
    if former.has_priors:  # the training of another fold has written them in the meantime
        return former
    kept = former.content if former.is_edited else {}
    topology = TopologyJson(file, {**kept, **taken.to_json()}).signed(edited=bool(kept))
    try:
        topology.write()
    except OSError as error:
        context.log(
            f"topology: {file} cannot be written, the training continues without it: {error}"
        )
    return topology


def _keep_copy(context: TrainingContext, topology: TopologyJson) -> None:
    """Writes a copy of topology.json to the folder of the model's plans.json, unless one exists."""
    copy = context.model_folder / FILE
    try:
        if not copy.exists():
            TopologyJson(copy, topology.content).write()
            return
        if not TopologyJson.read(copy).has_priors_of(topology):
            context.log(
                f"topology: {copy} contains other priors, from another fold or edited, and is not "
                "changed. The priors of this fold are in its checkpoint"
            )
    except (OSError, ValueError) as error:
        context.log(f"topology: could not copy {context.dataset_folder / FILE}: {error}")
