"""Labels and regions that are given steps, and how their masks go back into the label map.

Steps look at the prediction as it is. A voxel is only added to a label or region if it stays in all
others that it is in: to labels, that is background. A voxel that is removed becomes background, or,
in nested regions, what nnU-Net's order of regions makes of the regions around it. It leaves the
regions inside with the one that it is removed from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.labels.labels import Label
from nnunet_topo.postprocessing.masks import Mask
from nnunet_topo.postprocessing.steps import Steps, change_mask
from nnunet_topo.topology import Connectivity


@dataclass(frozen=True, slots=True)
class Target:
    """A label or region.

    Attributes:
        label: as nnU-Net evaluates it.
        channel: of nnU-Net's probabilities; in those of plain labels the background is channel 0.
        members: values that belong to it.
        value: what an added voxel becomes.
        takes: values of voxels that may be added.
        leaves: what a removed voxel becomes, by its value.
    """

    label: Label
    channel: int
    members: tuple[int, ...]
    value: int
    takes: tuple[int, ...]
    leaves: Mapping[int, int]

    @property
    def key(self) -> str:
        """Returns nnU-Net's key of the label or region."""
        return str(self.label)

    @property
    def leaves_background(self) -> bool:
        """Returns whether every voxel that is removed becomes background."""
        return not any(self.leaves.values())


def find_targets(labels: Sequence[Label], order: Sequence[int] | None) -> list[Target]:
    """Returns the labels or regions that can be given steps.

    Args:
        labels: in nnU-Net's order.
        order: nnU-Net's regions_class_order, the value of each region; None for plain labels. A
            group of labels has no value of its own and is left out.

    Raises:
        ValueError: the value of a region is not one of its labels.
    """
    if order is None:
        return [
            Target(label, channel, (label,), label, (0,), {label: 0})
            for channel, label in enumerate(labels, start=1)
            if isinstance(label, int)
        ]
    regions = [label if isinstance(label, tuple) else (label,) for label in labels]
    if len(order) != len(regions):
        raise ValueError(
            f"regions_class_order must have a value for each of {len(regions)} regions, got "
            f"{list(order)}"
        )
    values = sorted({value for region in regions for value in region})
    targets = []
    for channel, (label, region, value) in enumerate(zip(labels, regions, order, strict=True)):
        if value not in region:
            raise ValueError(
                f"regions_class_order gives region {label} the value {value}, which is not one of "
                "its labels, so nothing can be added to it"
            )
        holders = {v: [other for other in regions if v in other] for v in values}
        stays = [v for v in values if v not in region and all(value in of for of in holders[v])]
        leaves = {v: _without(v, region, regions, order) for v in region}
        targets.append(Target(label, channel, region, value, (0, *stays), leaves))
    return targets


def _without(
    value: int,
    region: tuple[int, ...],
    regions: Sequence[tuple[int, ...]],
    order: Sequence[int],
) -> int:
    """Returns what a voxel becomes that leaves a region and all regions inside of it."""
    left = 0
    for other, painted in zip(regions, order, strict=True):
        if value in other and not set(other) <= set(region) and painted not in region:
            left = painted
    return left


def mask_of(label_map: NDArray, values: Sequence[int]) -> Mask:
    """Returns where a label map has one of some values."""
    mask = np.zeros(label_map.shape, bool)
    for value in values:
        mask |= label_map == value
    return mask


def apply_steps(
    label_map: NDArray,
    targets: Sequence[Target],
    steps: Mapping[str, Steps],
    *,
    probability: Callable[[Target], NDArray[np.floating] | None],
    spacing: NDArray[np.float64],
    connectivity: Connectivity,
) -> NDArray:
    """Returns a label map after the steps of all labels or regions.

    Each is changed by its own steps, all from the label map as it is. If two labels would add the
    same voxel, the first one does; of nested regions all of them do.

    Args:
        label_map: 2D or 3D.
        targets: labels or regions.
        steps: of each by its key; without any it stays as it is.
        probability: gives that of a label or region in each voxel, None if it is not known.
        spacing: size of a voxel along each axis.
        connectivity: of the foreground.

    Raises:
        ValueError: a threshold without probabilities.
    """
    removed: list[tuple[Target, Mask]] = []
    added: list[tuple[Target, Mask]] = []
    for target in targets:
        of_target = steps.get(target.key, Steps())
        if not of_target:
            continue
        mask = mask_of(label_map, target.members)
        changed = change_mask(
            mask,
            mask_of(label_map, target.takes),
            of_target,
            probability=probability(target) if of_target.threshold is not None else None,
            spacing=spacing,
            connectivity=connectivity,
        )
        removed.append((target, mask & ~changed))
        added.append((target, changed & ~mask))
    written = [value for t in targets for value in (t.value, *t.leaves.values())]
    result = label_map.astype(np.result_type(label_map, *map(np.min_scalar_type, written)))
    for target, voxels in removed:
        before = result[voxels]
        after = before.copy()
        for value, left in target.leaves.items():
            after[before == value] = left
        result[voxels] = after
    stayed = result == label_map
    for target, voxels in added:  # of nested regions, the inner ones come later
        result[voxels & stayed & mask_of(result, target.takes)] = target.value
    return result
