"""A label map in which one structure after the other gets its wanted topology."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from nnunet_topo.correction.field import HIGHEST
from nnunet_topo.correction.mask import Correction, box_around, correct_score, signed_distance
from nnunet_topo.correction.structures import BACKGROUND, Moves, Structure, strongest_first
from nnunet_topo.labels.values import distinct_values
from nnunet_topo.topology import Connectivity, betti_numbers
from nnunet_topo.topology.masks import label_components

LabelMap = NDArray[np.integer]
_UNDECIDED = 1e-6  # score of a voxel whose label an earlier correction or a region's order changed
NOT_REACHED = "not reached"
NO_TRACE = "nothing in the prediction shows where it is"
NEIGHBOURS = "only at the cost of another structure's topology"


@dataclass(frozen=True, slots=True)
class StructureCorrection:
    """What was done to a structure.

    Attributes:
        name: of the structure.
        wanted: Betti numbers, written as in a table.
        before: Betti numbers in the label map as it was.
        after: those in the result.
        was_right: whether the first ones are wanted.
        is_right: whether the others are.
        voxels_changed: number of its voxels that were added or removed.
        largest_change_mm: largest distance of these from its old surface, 0 without a change,
            infinite if there was no surface; in voxels if their size is unknown.
        note: why it is not right, else "".
    """

    name: str
    wanted: list[str]
    before: list[int]
    after: list[int]
    was_right: bool
    is_right: bool
    voxels_changed: int
    largest_change_mm: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class LabelMapCorrection:
    """A label map that was corrected.

    Attributes:
        label_map: as corrected; the one that was given if nothing changed.
        structures: what was done to each structure with a prior, in the order of correction.
        voxels_changed: number of voxels with another label.
    """

    label_map: LabelMap
    structures: list[StructureCorrection]
    voxels_changed: int


def correct_label_map(
    label_map: LabelMap,
    structures: Sequence[Structure],
    *,
    scores: Mapping[tuple[int, ...], NDArray[np.floating]] | None = None,
    spacing_mm: Sequence[float] | None = None,
    connectivity: Connectivity = "full",
    ignore: int | None = None,
    nested: bool = False,
) -> LabelMapCorrection:
    """Returns a label map in which structures have their wanted Betti numbers.

    Structures are corrected from the strongest prior down, each as `correct_mask` does. A voxel is
    taken from another structure, or given to it, only where that one's topology does not get worse:
    it keeps its Betti numbers, or comes no further from its prior. Where that fails, a structure is
    corrected with what others leave to it, and otherwise stays as it was.

    Args:
        label_map: 2D or 3D, whole numbers.
        structures: labels, regions or unions. Those without a prior only keep their topology.
        scores: signed score of each structure by its labels, above 0 where it is most likely, such
            as a logit; None if only the label map is known.
        spacing_mm: of the axes, 1 if unknown.
        connectivity: of the foreground.
        ignore: label of voxels that stay as they are.
        nested: whether structures lie within one another, as regions do; the outer ones go first.

    Raises:
        ValueError: wrong shapes or values.
    """
    spacing = np.ones(label_map.ndim) if spacing_mm is None else np.asarray(spacing_mm, float)
    labels = {BACKGROUND, *(label for s in structures for label in s.labels)}
    labels |= {int(value) for value in distinct_values(label_map)} - {ignore}
    current = label_map
    notes: dict[str, str] = {}
    ordered = strongest_first(structures, nested=nested)
    for structure in ordered:
        others = [other for other in structures if other is not structure]
        work = _Work(structure, others, labels, connectivity, ignore)
        current, notes[structure.name] = work.corrected(current, scores)
    rows = [
        _row(structure, label_map, current, notes[structure.name], spacing, connectivity)
        for structure in ordered
    ]
    return LabelMapCorrection(current, rows, int(np.count_nonzero(current != label_map)))


class _Work:
    """The correction of one structure beside others."""

    def __init__(
        self,
        structure: Structure,
        others: Sequence[Structure],
        labels: set[int],
        connectivity: Connectivity,
        ignore: int | None,
    ) -> None:
        self._structure, self._others = structure, others
        self._connectivity: Connectivity = connectivity
        self._ignore = ignore
        self._moves = Moves.of(structure, others, labels)

    def corrected(
        self,
        label_map: LabelMap,
        scores: Mapping[tuple[int, ...], NDArray[np.floating]] | None,
    ) -> tuple[LabelMap, str]:
        """Returns the label map with the structure as wanted, and "", or as it was, and why."""
        structure, prior = self._structure, self._structure.prior
        assert prior is not None
        mask = structure.mask(label_map)
        if prior.allows(self._betti(mask)):
            return label_map, ""
        if scores is None:
            if prior[0].low and not mask.any():
                return label_map, NO_TRACE
            box = box_around(mask)
            score, cost = np.full(mask.shape, -HIGHEST), np.ones(mask.shape)
            score[box] = signed_distance(mask[box])
        else:
            score = _agreeing(scores[structure.labels], mask)
            cost = np.abs(score)
        note = NOT_REACHED
        for locked in self._locks(label_map):
            found = correct_score(
                score, prior, cost=cost, connectivity=self._connectivity, locked=locked
            )
            if not found.is_right:
                continue
            for changed in self._relabelled(label_map, mask, found, scores):
                if self._is_allowed(label_map, changed):
                    return changed, ""
            note = NEIGHBOURS
        return label_map, note

    def _locks(self, label_map: LabelMap) -> Iterator[NDArray[np.bool_] | None]:
        """Yields the voxels that must stay: first the ignored ones, then those of others too."""
        ignored = None if self._ignore is None else label_map == self._ignore
        yield ignored
        locked = np.isin(label_map, self._moves.locked)
        if locked.any():
            yield locked if ignored is None else locked | ignored

    def _relabelled(
        self,
        label_map: LabelMap,
        mask: NDArray[np.bool_],
        found: Correction,
        scores: Mapping[tuple[int, ...], NDArray[np.floating]] | None,
    ) -> Iterator[LabelMap]:
        """Yields the label map with the corrected mask: by what is likely, then with least harm."""
        changed = found.mask != mask
        least = self._with_least_harm(label_map, changed)
        likely = least.copy()
        groups, _ = label_components(changed, "full")
        for index, box in enumerate(ndimage.find_objects(groups)):
            box = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
            group = groups[box] == index + 1
            label = self._likely_label(label_map[box], group, scores, box)
            if label is not None:
                likely[box][group] = label
        if (likely != least).any():
            yield likely
        yield least

    def _with_least_harm(self, label_map: LabelMap, changed: NDArray[np.bool_]) -> LabelMap:
        """Returns the label map with labels that change the fewest other structures."""
        result = label_map.copy()
        for label, choices in self._moves.choices.items():
            moved = changed & (label_map == label)
            if moved.any():
                result[moved] = choices[0]
        return result

    def _likely_label(
        self,
        label_map: LabelMap,
        group: NDArray[np.bool_],
        scores: Mapping[tuple[int, ...], NDArray[np.floating]] | None,
        box: tuple[slice, ...],
    ) -> int | None:
        """Returns the label that a group of voxels most likely has instead, None if unknown."""
        before = np.unique(label_map[group])
        choices = self._moves.choices[int(before[0])]
        if any(set(self._moves.choices[int(label)]) != set(choices) for label in before):
            return None  # voxels that enter and voxels that leave
        if scores is not None and all((c,) in scores for c in choices if c != BACKGROUND):
            mean = {
                choice: float(scores[(choice,)][box][group].mean())
                for choice in choices
                if choice != BACKGROUND
            }
            best = max(mean, key=lambda choice: mean[choice], default=BACKGROUND)
            if BACKGROUND in choices and (BACKGROUND,) in scores:
                background = float(scores[(BACKGROUND,)][box][group].mean())
                return BACKGROUND if background >= mean.get(best, -inf) else best
            return best
        around = ndimage.binary_dilation(group, np.ones((3,) * group.ndim, bool)) & ~group
        beside = label_map[around]
        beside = beside[np.isin(beside, choices)]
        values, counts = np.unique(beside, return_counts=True)
        return int(values[counts.argmax()]) if len(values) else None

    def _is_allowed(self, before: LabelMap, after: LabelMap) -> bool:
        """Returns whether the structure is right and no other one is worse."""
        prior = self._structure.prior
        assert prior is not None
        if not prior.allows(self._betti(self._structure.mask(after))):
            return False
        for other in self._others:
            old, new = other.mask(before), other.mask(after)
            if other.prior is None and not (old & ~new).any():
                continue  # it may gain voxels
            if (old != new).any() and other.worse(self._betti(old), self._betti(new)):
                return False
        return True

    def _betti(self, mask: NDArray[np.bool_]) -> tuple[int, ...]:
        return betti_numbers(mask, connectivity=self._connectivity)


def _agreeing(score: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns a score whose sign is that of the mask."""
    score = score.astype(np.float64)
    return np.where(mask, np.maximum(score, _UNDECIDED), np.minimum(score, -_UNDECIDED))


def _row(
    structure: Structure,
    before: LabelMap,
    after: LabelMap,
    note: str,
    spacing: NDArray[np.float64],
    connectivity: Connectivity,
) -> StructureCorrection:
    old, new = structure.mask(before), structure.mask(after)
    prior = structure.prior
    assert prior is not None
    numbers = [betti_numbers(mask, connectivity=connectivity) for mask in (old, new)]
    is_right = prior.allows(numbers[1])
    return StructureCorrection(
        structure.name,
        prior.to_csv(),
        list(numbers[0]),
        list(numbers[1]),
        prior.allows(numbers[0]),
        is_right,
        int(np.count_nonzero(old != new)),
        largest_change(old, new, spacing),
        "" if is_right else note or NOT_REACHED,
    )


def largest_change(
    old: NDArray[np.bool_], new: NDArray[np.bool_], spacing_mm: NDArray[np.float64]
) -> float:
    """Returns how far the voxels that changed lie from the old surface at most.

    An added voxel is as far away as the nearest voxel of the old mask, a removed one as the nearest
    voxel that was not in it, the outside of the image included; between centres of voxels.

    Args:
        old: mask.
        new: mask of the same shape.
        spacing_mm: of the axes.
    """
    largest = 0.0
    box = box_around(old | new)
    padded, changed = np.pad(old[box], 1), np.pad(new[box], 1)
    for inside in (padded, ~padded):
        moved = np.argwhere(~inside & (changed != padded))
        if not len(moved):
            continue
        border = np.argwhere(inside & ndimage.binary_dilation(~inside))
        if not len(border):
            return inf
        distance, _ = KDTree(border * spacing_mm).query(moved * spacing_mm)
        largest = max(largest, float(distance.max()))
    return largest
