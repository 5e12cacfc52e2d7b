"""What a training takes from the priors of its data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2.configuration import default_num_processes

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.losses.betti_prior import Prior
from nnunet_topo.priors.decisions import KEY, joined
from nnunet_topo.priors.topology_json import (
    FILE,
    OBJECTS,
    Priors,
    channel_names,
    is_edited,
    priors_of,
    read_topology,
    signed,
    write_topology,
)
from nnunet_topo.training.ranks import of_first_rank

if TYPE_CHECKING:
    from nnunet_topo.training.trainer import TopologyTrainerMixin


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
