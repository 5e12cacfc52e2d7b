"""Maps of topological errors: a label map per case on the grid of its reference, and a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import (
    key_to_label_or_region,
    label_or_region_to_key,
    region_or_label_to_mask,
)
from numpy.typing import NDArray
from tqdm import tqdm

from nnunet_topo.evaluation.case import Case, Settings, case_digest, read_case
from nnunet_topo.evaluation.error_kinds import (
    ITK_SNAP_FILE,
    LABELS,
    SLICER_FILE,
    colours_by_label,
    itk_snap_labels,
    slicer_colours,
)
from nnunet_topo.evaluation.error_table import ErrorPlace, as_csv, as_markups
from nnunet_topo.evaluation.record import Evaluation
from nnunet_topo.evaluation.segmentations import Segmentations
from nnunet_topo.files import case_name, split_ending
from nnunet_topo.images.placement import Placement, read_placement
from nnunet_topo.images.readers import known_endings
from nnunet_topo.images.segmentation import has_spacing, read_array
from nnunet_topo.images.written import write_like
from nnunet_topo.labels.labels import Labels, sorted_label_keys
from nnunet_topo.messages import reason
from nnunet_topo.own_folder import OwnFolder
from nnunet_topo.processes import in_processes
from nnunet_topo.topology import Connectivity, Unmatched, unmatched

AUTHOR = "nnunet-topo evaluate"
RECORD, TABLE = "written.json", "errors.csv"
_MATCHING_ERROR = "topo_betti_matching_error"


@dataclass(frozen=True, slots=True)
class ErrorMaps:
    """The topological errors of an evaluation.

    Attributes:
        folder: where they were written.
        errors: by case, the largest first.
        problems: what went wrong, one line each.
        computed: number of cases that this run computed, the others were computed before.
    """

    folder: Path
    errors: Mapping[str, Sequence[ErrorPlace]]
    problems: tuple[str, ...]
    computed: int


@dataclass(frozen=True, slots=True)
class _Work:
    """A case, and the folder for its files."""

    case: Case
    names: Mapping[str, str]
    folder: Path


@dataclass(frozen=True, slots=True)
class _Done:
    """The errors of a case, or why there are none."""

    name: str
    digest: str = ""
    errors: Sequence[ErrorPlace] = ()
    files: Sequence[Path] = ()
    problems: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _VoxelSize:
    """Volume of a voxel in mm3 or area of a pixel in mm2, NaN without spacing."""

    size: float
    is_area: bool


def default_folder(output: Path) -> Path:
    """Returns the folder of the maps beside a summary."""
    return output.with_name(f"{output.stem}_errors")


def open_folder(folder: Path) -> OwnFolder:
    """Returns the folder of the maps, which is not made yet.

    Raises:
        ValueError: it has files of others.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD).exists():
        raise ValueError(f"{folder} was not written by {AUTHOR} and is left as it is")
    return OwnFolder(folder, RECORD, AUTHOR)


def write_error_maps(
    found: Segmentations,
    labels: Labels,
    evaluation: Evaluation,
    folder: Path,
    settings: Settings,
    *,
    processes: int = 1,
) -> ErrorMaps:
    """Writes a map, and markups for 3D Slicer, for each case that was evaluated, and one table.

    A map has the voxels of each error; where several lie on each other, the smallest is on top.
    Cases whose files and maps have not changed are not computed again. A case that fails is
    reported, and the others are written.

    Args:
        found: the cases.
        labels: as they were evaluated.
        evaluation: of these cases.
        folder: made if there is none.
        settings: of the metrics.
        processes: maximum number.

    Raises:
        ValueError: the folder was not written by us.
        OSError: a file cannot be written.
    """
    out = open_folder(folder)
    out.begin()
    keys = sorted_label_keys(evaluation.means)
    metrics = {case.name: case.labels for case in evaluation.cases}
    errors: dict[str, Sequence[ErrorPlace]] = {}
    problems: list[str] = []
    work: list[_Work] = []
    for case in _cases(found, labels, keys, settings):
        if case.name not in evaluation.evaluated:
            continue
        earlier = _earlier(out, case)
        if earlier is not None:
            errors[case.name] = earlier
        else:
            work.append(_Work(case, evaluation.label_names, out.new / str(len(work))))
    computed = 0
    for done in tqdm(
        in_processes(_map_case, work, processes, killed=_killed, heavy=True),
        total=len(work),
        desc="error maps",
        unit="case",
        disable=None,  # without a terminal
    ):
        problems += done.problems
        if not done.digest:
            continue
        content = {"errors": [error.to_json() for error in done.errors]}
        try:
            out.put(done.name, done.digest, content, done.files)
        except (ValueError, OSError) as error:
            problems.append(f"{done.name}: no error map, {error}")
            continue
        errors[done.name] = done.errors
        computed += 1
    problems += _differences(errors, metrics)
    out.write(ITK_SNAP_FILE, itk_snap_labels())
    out.write(SLICER_FILE, slicer_colours())
    out.write(TABLE, as_csv(errors, evaluation.label_names))
    out.close()
    return ErrorMaps(folder, errors, tuple(sorted(problems)), computed)


def _earlier(out: OwnFolder, case: Case) -> list[ErrorPlace] | None:
    """Returns the errors of an earlier run on the same files, None if there are none."""
    content = out.finished(case.name, case_digest(case))
    if content is None:
        return None
    try:
        return [ErrorPlace.from_json(error) for error in content["errors"]]
    except (KeyError, TypeError):  # of another version
        return None


def _cases(
    found: Segmentations, labels: Labels, keys: Sequence[str], settings: Settings
) -> list[Case]:
    evaluated = tuple(map(key_to_label_or_region, keys))
    return [
        Case(
            pair.prediction.name,
            pair.reference,
            pair.prediction,
            evaluated,
            labels,
            (found.reader(pair.reference), found.reader(pair.prediction)),
            replace(settings, windows=None),
        )
        for pair in found.pairs
        if pair.reference and pair.prediction
    ]


def _differences(
    errors: Mapping[str, Sequence[ErrorPlace]],
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> list[str]:
    """Returns a line for each case whose errors are not as many as its metrics say."""
    lines = []
    for name, of_case in errors.items():
        for key, values in metrics[name].items():
            places = sum(error.label == key for error in of_case)
            counted = values.get(_MATCHING_ERROR, nan)
            if places != counted:
                lines.append(
                    f"{name}: label {key} has {places} places of errors, but Betti matching error "
                    f"{counted:g}"
                )
    return lines


def _killed(work: _Work) -> _Done:
    name = work.case.name
    return _Done(
        name, problems=[f"{name}: no error map, its process was killed; too little memory?"]
    )


def _map_case(work: _Work) -> _Done:
    """Returns the errors of a case after its files were written; an exception is a problem."""
    name = work.case.name
    try:
        digest = case_digest(work.case)
        errors, files = _write_case(work)
        return _Done(name, digest, errors, files)
    except Exception as error:  # readers and writers raise any kind of error
        return _Done(name, problems=[f"{name}: no error map, {reason(error)}"])


def _write_case(work: _Work) -> tuple[list[ErrorPlace], list[Path]]:
    """Writes the files of a case into a folder of its own, and returns its errors and the files."""
    case = work.case
    read = read_case(case)
    reference, prediction, slice_axis = read.reference, read.prediction, 0
    is_image = reference.ndim == 2  # whose slice has no thickness
    if is_image:
        shape = read_array(case.readers[0], case.reference)[0][0].shape
        reference, prediction, slice_axis = reference[None], prediction[None], shape.index(1)
    placement = read_placement(case.readers[0], case.reference)
    counted = None if case.ignore_label is None else reference != case.ignore_label
    known = any(
        has_spacing(reader, file)
        for reader, file in zip(case.readers, (case.reference, case.prediction), strict=True)
    )
    voxel_size = _VoxelSize(float(np.prod(read.spacing_mm)) if known else nan, is_image)
    found: list[tuple[str, Unmatched]] = []
    for label in case.labels:
        p, r = (region_or_label_to_mask(array, label) for array in (prediction, reference))
        if counted is not None:
            p, r = p & counted, r & counted
        key = label_or_region_to_key(label)
        found += [(key, error) for error in find_errors(p, r, case.settings.connectivity)]
    found.sort(key=lambda error: -error[1].size)
    label_map = np.zeros(reference.shape, np.uint8)
    for _, error in found:
        label_map[tuple(error.voxels.T)] = LABELS[error.kind]
    for _, error in found:  # its place is visible even if larger errors surround it
        label_map[error.voxel] = LABELS[error.kind]
    label_map = np.moveaxis(label_map, 0, slice_axis)
    errors = [_place(key, error, placement, slice_axis, voxel_size) for key, error in found]
    work.folder.mkdir(parents=True, exist_ok=True)
    stem = case_name(case.prediction, known_endings())
    ending = split_ending(case.reference, known_endings())[1]
    new = work.folder / f"{stem}{'.nrrd' if ending.lower() == '.seg.nrrd' else ending}"
    write_like(case.reference, case.readers[0], label_map, new, colours_by_label())
    if placement.to_ras is not None:
        (work.folder / f"{stem}.mrk.json").write_text(as_markups(errors, work.names), "utf-8")
    return errors, sorted(work.folder.iterdir())


def find_errors(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], connectivity: Connectivity
) -> list[Unmatched]:
    """Returns the topological errors of volumes [z, y, x]; one slice is an image."""
    if len(reference) > 1:
        return unmatched(prediction, reference, connectivity=connectivity)
    return [
        replace(
            error,
            voxel=(0, *error.voxel),
            voxels=np.pad(error.voxels, ((0, 0), (1, 0))),
        )
        for error in unmatched(prediction[0], reference[0], connectivity=connectivity)
    ]


def _place(
    key: str, error: Unmatched, placement: Placement, slice_axis: int, voxel: _VoxelSize
) -> ErrorPlace:
    """Returns an error of an array, whose slices may have been put first, in its file."""

    def in_file(voxel: Sequence[int]) -> tuple[int, int, int]:
        rest = [int(c) for c in voxel[1:]]
        return placement.in_file([*rest[:slice_axis], int(voxel[0]), *rest[slice_axis:]])

    birth, death = (None if v is None else in_file(v) for v in (error.birth, error.death))
    place = in_file(error.voxel)
    curve = [placement.in_patient(in_file(v)) for v in error.voxels] if error.is_cycle else []
    return ErrorPlace(
        key,
        error.kind,
        place,
        placement.in_patient(place),
        error.size,
        nan if voxel.is_area else error.size * voxel.size,
        error.size * voxel.size if voxel.is_area else nan,
        birth,
        death,
        tuple(at for at in curve if at is not None),
    )
