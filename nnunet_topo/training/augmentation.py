"""Whether a training rotates and scales, as topology.json says or as its labels tolerate it."""

from typing import Any

from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_topo.priors.decisions import KEY, Decision, as_plain, decide, joined, recorded_decision
from nnunet_topo.priors.topology_json import (
    FILE,
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
from nnunet_topo.training.context import TrainingContext

_ABOUT = (
    "Whether trainers with a topology term rotate and scale: edit `used`. `nnunet-topo plan` adds "
    "the priors."
)


def rotates_and_scales(
    context: TrainingContext, rotation: tuple[float, float], in_slices: bool, *, control: str
) -> bool:
    """Returns whether a trainer with a topology term rotates and scales, and logs the reason.

    The data set's topology.json says so. If it does not, the labels of all cases decide, and the
    decision is written there unless the file was edited by hand. The first process decides for all.

    Args:
        context: of the training.
        rotation: range of the angles, as nnU-Net chose it.
        in_slices: whether a volume is augmented slice by slice.
        control: trainer without rotation and scaling to compare with.

    Raises:
        ValueError: topology.json is wrong; the message names the place.
    """
    file = context.dataset_folder / FILE
    decision = context.ranks.first_finds(lambda: _find_decision(context, rotation, in_slices))
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
        told = f"{subject} are left out: compare with a control without them, such as {control}"
    context.log(f"topology: {counted}{why}, so {told}; for all folds, in {file}")
    return decision.used


def _find_decision(
    context: TrainingContext, rotation: tuple[float, float], in_slices: bool
) -> Decision:
    """Returns the decision that topology.json records, or else makes and records it."""
    file = context.dataset_folder / FILE
    asked = (str(file), context.configuration, context.connectivity)
    found = recorded_decision(read_topology(file), *asked) if file.exists() else None
    if found is not None:
        return found
    context.log(
        f"topology: {file} does not say whether to rotate and scale, so it is measured how often "
        "both change Betti numbers in the labels of all cases, which takes about a minute; "
        "`nnunet-topo plan` does it beforehand"
    )
    shares = damage_by_augmentation(all_labels(context), rotation, in_slices)
    decision = decide(context.channels.names, shares)
    content = read_topology(file) if file.exists() else {}
    found = recorded_decision(content, *asked)  # recorded meanwhile by another fold's training
    if found is not None:
        return found
    if content and is_edited(content):
        context.log(f"topology: {file} was edited, so the decision is not written there")
        return decision
    made = {KEY: {context.connectivity: {context.configuration: as_plain(decision)}}}
    content = (
        {"about": _ABOUT, "dataset": context.plans.dataset_name}
        | content
        | {KEY: joined(made, content)}
    )
    try:
        write_topology(signed(content), file)
    except OSError as error:
        context.log(f"topology: {file} cannot be written: {error}")
    return decision


def all_labels(context: TrainingContext) -> TrainingLabels:
    """Returns the preprocessed labels of all cases, whatever the fold."""
    folder = str(context.cases_folder)
    dataset_class = infer_dataset_class(folder)
    cases = dataset_class.get_identifiers(folder)
    return TrainingLabels(
        dataset_class=dataset_class,
        folder=folder,
        cases=tuple(sorted(case for case in cases if not case.startswith("."))),  # as plan does
        classes=context.channels.members,
        space=context.space,
        connectivity=context.connectivity,
    )


def restrict_transforms(transforms: ComposeTransforms, *, spatial: bool, seeded: bool) -> None:
    """Changes nnU-Net's augmentation to what settings, topology and seed allow.

    Args:
        transforms: nnU-Net's.
        spatial: whether patches are rotated and scaled.
        seeded: whether the training has a seed.
    """
    for transform in transforms.transforms:
        if isinstance(transform, SpatialTransform) and not spatial:
            transform.p_rotation = transform.p_scaling = 0
        blur = getattr(transform, "transform", transform)
        if isinstance(blur, GaussianBlurTransform) and seeded:
            blur.benchmark = False  # otherwise its algorithm depends on timings


def _or_nan(share: Any) -> float:
    return float(share) if isinstance(share, (int, float)) else float("nan")
