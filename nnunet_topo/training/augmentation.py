"""Whether trainers with a topology term rotate and scale: one decision for each data set.

Both tear thin labels. The decision is made once, on the labels of all cases, for each configuration
and connectivity, and kept in topology.json: all folds and `nnunet-topo plan` share it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

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
from nnunet_topo.topology import Connectivity
from nnunet_topo.training.ranks import of_first_rank

if TYPE_CHECKING:
    from nnunet_topo.training.trainer import TopologyTrainerMixin

KEY = "rotation_and_scaling"  # in topology.json
_ABOUT = (
    "Whether trainers with a topology term rotate and scale: edit `used`. `nnunet-topo plan` adds "
    "the priors."
)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether trainers with a topology term rotate and scale.

    Attributes:
        used: they do.
        changed: share of what is rotated or scaled whose Betti numbers change, by label; None for
            a label that was never drawn.
    """

    used: bool
    changed: Mapping[str, float | None]


def decide(names: Sequence[str], shares: Sequence[float]) -> Decision:
    """Returns what follows from how often rotation and scaling change each label's Betti numbers.

    Args:
        names: of classes or regions, unions left out.
        shares: of each, NaN if it is not known.
    """
    known = [None if isnan(share) else share for share in shares]
    used = not any(share is not None and share > TOLERATED_DAMAGE for share in known)
    return Decision(used, dict(zip(names, known, strict=True)))


def as_plain(decision: Decision) -> dict[str, Any]:
    """Returns a decision as topology.json has it."""
    return {"used": decision.used, "changed": dict(decision.changed)}


def recorded_decision(
    content: Mapping[str, Any], file: str, configuration: str, connectivity: Connectivity
) -> Decision | None:
    """Returns the decision in a topology.json, None where there is none.

    Args:
        content: of the file.
        file: its name, for the messages.
        configuration: such as 3d_fullres.
        connectivity: of the foreground.

    Raises:
        ValueError: what is there is no decision; the message names the place.
    """
    section: Any = content
    place = file
    for depth, key in enumerate((KEY, connectivity, configuration)):
        if not isinstance(section, Mapping):
            raise ValueError(f"{place}: wanted an object {{...}}, got {section!r}")
        if key not in section:
            return None
        section, place = section[key], f"{place}{' >' if depth else ':'} {key}"
    used = section.get("used") if isinstance(section, Mapping) else section
    if not isinstance(used, bool):
        raise ValueError(f'{place}: wanted {{"used": true}} or {{"used": false}}, got {section!r}')
    changed = section.get("changed", {}) if isinstance(section, Mapping) else {}
    return Decision(used, changed if isinstance(changed, Mapping) else {})


def check_decisions(content: Mapping[str, Any], file: str) -> None:
    """Checks all decisions of a topology.json.

    Raises:
        ValueError: one of them is wrong; the message names the place.
    """
    sections = content.get(KEY, {})
    for connectivity, of_configurations in sections.items() if isinstance(sections, dict) else ():
        for configuration in of_configurations if isinstance(of_configurations, dict) else ("",):
            recorded_decision(content, file, configuration, connectivity)
    if not isinstance(sections, dict):
        recorded_decision(content, file, "", "full")


def joined(content: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the decisions of two topology.json; where both have one, that of the former."""
    new, old = content.get(KEY, {}), former.get(KEY, {})
    return {
        connectivity: new.get(connectivity, {}) | old.get(connectivity, {})
        for connectivity in dict.fromkeys([*new, *old])
    }


# -- in a training -----------------------------------------------------------------------------


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
