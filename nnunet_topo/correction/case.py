"""One case: its files read, corrected and written."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from numpy.typing import NDArray

from nnunet_topo.correction.label_map import StructureCorrection, correct_label_map
from nnunet_topo.correction.result import CaseResult, LabelTopology
from nnunet_topo.correction.structures import Structure
from nnunet_topo.images.probabilities import saved_probabilities
from nnunet_topo.images.segmentation import read_segmentation, unit_of
from nnunet_topo.images.written import write_changed
from nnunet_topo.labels.agreement import check_agreement
from nnunet_topo.labels.values import distinct_values, refuse_unknown_labels
from nnunet_topo.messages import reason
from nnunet_topo.topology import Connectivity

_CERTAIN = 1e-7  # probabilities of 0 and 1 come from rounding


@dataclass(frozen=True, slots=True)
class Wanted:
    """The wanted topology of a data set.

    Attributes:
        structures: for images (2) and volumes (3), those with a prior and those that must keep
            their topology; a message where topology.json has no prior for them.
        channels: labels of each channel of the probabilities, without the background.
        has_regions: whether the channels may overlap.
        ignore: label of voxels that stay as they are, None if there is none.
    """

    structures: Mapping[int, tuple[Structure, ...] | str]
    channels: tuple[tuple[int, ...], ...]
    has_regions: bool
    ignore: int | None


@dataclass(frozen=True, slots=True)
class Case:
    """What a process needs to correct a case.

    Attributes:
        name: of the case.
        file: its segmentation.
        probabilities: nnU-Net's .npz beside it, None for the segmentation alone.
        reader: of the segmentation.
        wanted: topology.
        connectivity: of the foreground.
        review_mm: changes further from the old surface mark the case for review.
        folder: where the corrected segmentation is put; made and emptied first.
    """

    name: str
    file: Path
    probabilities: Path | None
    reader: BaseReaderWriter
    wanted: Wanted
    connectivity: Connectivity
    review_mm: float
    folder: Path


def correct_case(case: Case) -> CaseResult:
    """Returns the result of a case, whose file lies in its folder then; any error is a result."""
    began = perf_counter()
    shutil.rmtree(case.folder, ignore_errors=True)
    try:
        case.folder.mkdir(parents=True)
        return _correct(case, began)
    except Exception as error:  # of readers and writers; memory may run out
        return CaseResult(case.name, "failed", reason(error), seconds=_since(began))


def killed_case(case: Case) -> CaseResult:
    """Returns the result of a case whose process was killed."""
    return CaseResult(case.name, "failed", "its process was killed; too little memory?")


def _since(began: float) -> float:
    return round(perf_counter() - began, 2)


def _correct(case: Case, began: float) -> CaseResult:
    read = read_segmentation(case.reader, case.file)
    known = {0, *(label for labels in case.wanted.channels for label in labels)}
    known |= set() if case.wanted.ignore is None else {case.wanted.ignore}
    wrong = refuse_unknown_labels(distinct_values(read.label_map), known, "dataset.json")
    if wrong:
        raise ValueError(f"{case.file} {wrong}")
    whole = read.label_map.astype(np.int32)
    flat = next((axis for axis, length in enumerate(whole.shape) if length == 1), None)
    space = 3 if flat is None else 2
    structures = case.wanted.structures[space]
    if isinstance(structures, str):
        raise ValueError(structures)
    spacing = np.ones(3) if read.spacing is None else read.spacing
    lengths = spacing if flat is None else np.delete(spacing, flat)
    scores = None
    if case.probabilities is not None:
        channels = _read_probabilities(case.probabilities, whole.shape, case.wanted)
        first = 0 if case.wanted.has_regions else 1  # after the background
        check_agreement(channels, whole, dict(enumerate(case.wanted.channels, first)))
        if flat is not None:
            channels = np.squeeze(channels, flat + 1)
        scores = scores_of(channels, structures, case.wanted)
    label_map = whole if flat is None else np.squeeze(whole, flat)
    found = correct_label_map(
        label_map,
        structures,
        scores=scores,
        spacing_mm=lengths.tolist(),
        connectivity=case.connectivity,
        ignore=case.wanted.ignore,
        nested=case.wanted.has_regions,
    )
    result = found.label_map if flat is None else np.expand_dims(found.label_map, flat)
    write_changed(case.file, case.reader, whole, result, case.folder / case.file.name)
    unit = "mm" if read.spacing is not None else unit_of(case.reader, case.file)
    unit = unit if read.spacing is not None or unit != "mm" else "voxels"
    volume = float(np.prod(lengths))
    result = _result(case, found.structures, found.voxels_changed, volume, unit, _since(began))
    if read.two_spacings:
        doubt = f"its header has spacing {read.two_spacings}"
        result = replace(result, reason="; ".join(filter(None, (result.reason, doubt))))
    return result


def _result(
    case: Case,
    structures: Sequence[StructureCorrection],
    changed: int,
    voxel: float,
    unit: str,
    seconds: float,
) -> CaseResult:
    rows = [
        LabelTopology(
            label=row.name,
            wanted=row.wanted,
            before=row.before,
            after=row.after,
            was_right=row.was_right,
            is_right=row.is_right,
            voxels_changed=row.voxels_changed,
            mm3_changed=row.voxels_changed * voxel,
            largest_change_mm=row.largest_change_mm if isfinite(row.largest_change_mm) else None,
            note=row.note,
        )
        for row in structures
    ]
    is_far = any(row.largest_change_mm > case.review_mm for row in structures)
    is_right = all(row.is_right for row in structures)
    if not changed:
        status = "unchanged" if is_right else "not corrected"
        reason = "the topology is right" if is_right else ""
    else:
        status, reason = ("corrected" if is_right else "partly corrected"), ""
    return CaseResult(
        case.name,
        status,
        reason,
        needs_review=is_far,
        voxels_changed=changed,
        mm3_changed=changed * voxel,
        unit=unit,
        seconds=seconds,
        topology=rows,
    )


def _read_probabilities(file: Path, shape: tuple[int, ...], wanted: Wanted) -> NDArray[Any]:
    """Returns nnU-Net's probabilities `[channel, z, y, x]`, the background first if it is one."""
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no {file.name}; nnUNetv2_predict writes it with --save_probabilities"
        )
    channels = saved_probabilities(file)
    number = len(wanted.channels) + (not wanted.has_regions)
    if channels.shape != (number, *shape):
        raise ValueError(
            f"{file}: wanted probabilities of shape {(number, *shape)}, got {channels.shape}"
        )
    if not (np.isfinite(channels).all() and channels.min() >= 0 and channels.max() <= 1.001):
        raise ValueError(f"{file}: wanted probabilities from 0 to 1, got other values")
    return channels


def scores_of(
    channels: NDArray[Any], structures: Sequence[Structure], wanted: Wanted
) -> dict[tuple[int, ...], NDArray[np.float32]]:
    """Returns the score of each structure, and of each label, by its labels.

    Without regions, the score is the logarithm of the ratio of two probabilities: of the most
    likely label of the structure, and of the most likely other one. It is above 0 where nnU-Net
    chooses the structure, and the logit of a single label. A region has the logit of its channel.

    Args:
        channels: probabilities, the background first if there are no regions.
        structures: to be scored.
        wanted: says which labels the channels have.
    """
    clipped = np.clip(channels.astype(np.float32), _CERTAIN, 1 - _CERTAIN)
    if wanted.has_regions:
        logits = np.log(clipped / (1 - clipped))
        of_region = dict(zip(wanted.channels, logits, strict=True))
        for structure in structures:
            if structure.labels not in of_region:
                parts = [s for of, s in of_region.items() if set(of) <= set(structure.labels)]
                of_region[structure.labels] = np.maximum.reduce(parts)
        return of_region
    logarithms = np.log(clipped)
    singles = [(0,), *wanted.channels]
    found: dict[tuple[int, ...], NDArray[np.float32]] = {}
    for labels in dict.fromkeys([*singles, *(structure.labels for structure in structures)]):
        own = [index for index, (label,) in enumerate(singles) if label in labels]
        other = [index for index in range(len(singles)) if index not in own]
        found[labels] = logarithms[own].max(axis=0) - logarithms[other].max(axis=0)
    return found
