"""Whether a training rotates and scales: as topology.json says, or as its labels bear it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_topo.priors.decisions import KEY, Decision, as_plain, decide, joined, recorded_decision
from nnunet_topo.priors.topology_json import (
    FILE,
    channel_labels,
    channel_names,
    is_edited,
    read_topology,
    signed,
    write_topology,
)
from nnunet_topo.priors.training_labels import (
    TOLERATED_DAMAGE,
    TrainingLabels,
    damage_by_augmentation,
)
from nnunet_topo.training.ranks import of_first_rank

if TYPE_CHECKING:
    from nnunet_topo.training.trainer import TopologyTrainerMixin

_ABOUT = (
    "Whether trainers with a topology term rotate and scale: edit `used`. `nnunet-topo plan` adds "
    "the priors."
)


def rotates_and_scales(
    trainer: "TopologyTrainerMixin", rotation: tuple[float, float], in_slices: bool
) -> bool:
    """Returns whether a trainer with a topology term rotates and scales, and says why in the log.

    The decision is that of the data set's topology.json. Where it has none, it is made of the
    labels of all cases and written, unless the file was edited by hand. The first process decides
    for all.

    Args:
        trainer: with a topology term.
        rotation: range of the angles, as nnU-Net chose it.
        in_slices: whether a volume is augmented slice by slice.

    Raises:
        ValueError: topology.json is wrong; the message names the place.
    """
    file = Path(str(trainer.preprocessed_dataset_folder_base)) / FILE
    decision: Decision = of_first_rank(trainer, lambda: _decide(trainer, file, rotation, in_slices))
    shares = ", ".join(
        f"{name} {'unknown' if share is None else f'{share:.1%}'}"
        for name, share in decision.changed.items()
    )
    by_itself = decide([*decision.changed], [_or_nan(s) for s in decision.changed.values()])
    why = f"{'up to' if by_itself.used else 'above'} {TOLERATED_DAMAGE:.0%}"
    if not shares or by_itself.used != decision.used:
        why = f"{file.name} was edited"
    subject, counted = "rotation and scaling", ""
    if shares:
        counted = f"{subject} change the Betti numbers of {shares} of what they are applied to; "
        subject = "both"
    told = f"{subject} are used"
    if not decision.used:
        control = f"{trainer.control}{trainer.settings.of_control().suffixes()}"
        told = f"{subject} are left out: compare with a control without them, such as {control}"
    trainer.print_to_log_file(f"topology: {counted}{why}, so {told}; for all folds, in {file}")
    return decision.used


def _decide(
    trainer: "TopologyTrainerMixin", file: Path, rotation: tuple[float, float], in_slices: bool
) -> Decision:
    asked = (str(file), trainer.configuration_name, trainer.settings.connectivity)
    found = recorded_decision(read_topology(file), *asked) if file.exists() else None
    if found is not None:
        return found
    trainer.print_to_log_file(
        f"topology: {file} does not say whether to rotate and scale, so it is measured how often "
        "both change Betti numbers in the labels of all cases, about a minute; `nnunet-topo plan` "
        "does it beforehand"
    )
    shares = damage_by_augmentation(all_labels(trainer), tuple(rotation), in_slices)
    decision = decide(channel_names(trainer.label_manager), shares)
    content = read_topology(file) if file.exists() else {}
    found = recorded_decision(content, *asked)  # of another fold's training, meanwhile
    if found is not None:
        return found
    if content and is_edited(content):
        trainer.print_to_log_file(f"topology: {file} was edited, so the decision is not put there")
        return decision
    of_training = {KEY: {asked[2]: {asked[1]: as_plain(decision)}}}
    dataset = trainer.plans_manager.dataset_name
    content = {"about": _ABOUT, "dataset": dataset} | content | {KEY: joined(of_training, content)}
    try:
        write_topology(signed(content), file)
    except OSError as error:
        trainer.print_to_log_file(f"topology: {file} cannot be written: {error}")
    return decision


def all_labels(trainer: "TopologyTrainerMixin") -> TrainingLabels:
    """Returns the preprocessed labels of all cases, whatever the fold."""
    folder = str(trainer.preprocessed_dataset_folder)
    dataset_class = infer_dataset_class(folder)
    cases = dataset_class.get_identifiers(folder)
    return TrainingLabels(
        dataset_class=dataset_class,
        folder=folder,
        cases=tuple(sorted(case for case in cases if not case.startswith("."))),  # as plan does
        classes=channel_labels(trainer.label_manager),
        space=len(trainer.configuration_manager.patch_size),
        connectivity=trainer.settings.connectivity,
    )


def _or_nan(share: Any) -> float:
    return float(share) if isinstance(share, (int, float)) else float("nan")
