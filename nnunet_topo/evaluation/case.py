"""One case: its files read on one grid, checked, and compared label by label."""

from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import label_or_region_to_key
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

import nnunet_topo
from nnunet_topo.evaluation.record import PREFIX
from nnunet_topo.files import data_files, digest
from nnunet_topo.images.grids import check_grids, check_shapes, slice_first
from nnunet_topo.images.layouts import read_layout, spacing_file
from nnunet_topo.images.segmentation import (
    NotALabelMapError,
    Segmentation,
    read_segmentation,
)
from nnunet_topo.labels.labels import Label, Labels
from nnunet_topo.labels.values import describe_unknown_labels, distinct_values, refuse_values
from nnunet_topo.messages import one_line, reason
from nnunet_topo.metrics import (
    NSD_TOLERANCE_MM,
    Windows,
    compare_label_maps,
    narrow_label_map,
)
from nnunet_topo.topology import Connectivity


@dataclass(frozen=True, slots=True)
class Settings:
    """How metrics are computed.

    Attributes:
        connectivity: of the foreground.
        nsd_tolerance_mm: distance up to which surfaces count as equal.
        windows: that Betti errors are also averaged over.
    """

    connectivity: Connectivity = "full"
    nsd_tolerance_mm: float = NSD_TOLERANCE_MM
    windows: Windows | None = None

    def __post_init__(self) -> None:
        """Raises ValueError on a tolerance that would fail in every case."""
        if self.nsd_tolerance_mm == inf:
            raise ValueError("the NSD tolerance must be a distance, got inf")
        if not self.nsd_tolerance_mm >= 0:
            raise ValueError(f"the NSD tolerance must be at least 0, got {self.nsd_tolerance_mm:g}")


@dataclass(frozen=True, slots=True)
class Case:
    """A reference and a prediction with their readers, and what a process needs to compare them."""

    name: str
    reference: Path
    prediction: Path
    labels: tuple[Label, ...]
    wanted: Labels
    readers: tuple[BaseReaderWriter, BaseReaderWriter]
    settings: Settings

    @property
    def ignore_label(self) -> int | None:
        """Returns the value of ignored voxels."""
        return self.wanted.ignore


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of one case.

    Attributes:
        name: file name of the prediction.
        digest: of both files and the settings, "" if the case could not be evaluated.
        metrics: our metrics by label, empty if the case could not be evaluated.
        nnunet_metrics: nnU-Net's metrics by label, empty in the same case.
        voxel_mm3: volume of a voxel.
        problems: what went wrong, one line each.
    """

    name: str
    digest: str = ""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    nnunet_metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    voxel_mm3: float = nan
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CaseArrays:
    """What the files of a case hold, on one grid.

    Attributes:
        prediction: label map `[z, y, x]`, of one slice `[y, x]`.
        reference: of the same shape.
        spacing_mm: size of a voxel along each axis; 1 in files without spacing.
        problems: one line each.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing_mm: np.ndarray
    problems: list[str]


def evaluate_case(case: Case) -> CaseResult:
    """Returns the metrics of one case; any error becomes a problem of the case."""
    try:
        return compare_case(case)
    except Exception as error:
        return CaseResult(case.name, problems=[f"{case.name}: not evaluated, {reason(error)}"])


def killed_case(case: Case) -> CaseResult:
    """Returns the result of a case whose process was killed."""
    problem = f"{case.name}: its process was killed; too little memory?"
    return CaseResult(case.name, problems=[problem])


def case_digest(case: Case) -> str:
    """Returns a digest of the reference and the settings, a space, and that of the prediction.

    It is "" if a file cannot be read.
    """
    labels = sorted(map(label_or_region_to_key, case.labels))
    readers = [type(reader).__name__ for reader in case.readers]
    values = case.wanted.known, case.wanted.ignore, case.wanted.is_choice
    besides = repr((nnunet_topo.__version__, case.settings, labels, values, readers))
    try:
        parts = [
            digest(part.read_bytes()) for part in (case.reference, *data_files(case.reference))
        ]
        for reader, file in zip(case.readers, (case.reference, case.prediction), strict=True):
            beside = spacing_file(reader, file)
            if beside is not None:
                parts.append(digest(beside.read_bytes()))
        return f"{digest(' '.join([besides, *parts]))} {prediction_digest(case.prediction)}"
    except OSError:
        return ""


def prediction_digest(file: Path) -> str:
    """Returns a digest of a prediction, whatever its reference and the settings.

    Raises:
        OSError: it cannot be read.
    """
    return digest("", *(part.read_bytes() for part in (file, *data_files(file))))


def compare_case(case: Case) -> CaseResult:
    """Returns the metrics of one case.

    Raises:
        ValueError: the files cannot be compared.
    """
    files_digest = case_digest(case)
    arrays = read_case(case)
    compared = compare_label_maps(
        arrays.prediction,
        arrays.reference,
        case.labels,
        ignore_label=case.ignore_label,
        spacing_mm=arrays.spacing_mm.tolist(),
        connectivity=case.settings.connectivity,
        nsd_tolerance_mm=case.settings.nsd_tolerance_mm,
        windows=case.settings.windows,
    )
    metrics: dict[str, dict[str, float]] = {}
    nnunet_metrics: dict[str, dict[str, float]] = {}
    for label, values in compared.items():
        key = label_or_region_to_key(label)
        nnunet_metrics[key] = without_ours(values)
        metrics[key] = {name: value for name, value in values.items() if name.startswith(PREFIX)}
    return CaseResult(
        case.name,
        files_digest,
        metrics=metrics,
        nnunet_metrics=nnunet_metrics,
        voxel_mm3=float(np.prod(arrays.spacing_mm)),
        problems=arrays.problems,
    )


def read_case(case: Case) -> CaseArrays:
    """Returns what the files of a case hold, in as few bytes as the labels need.

    Raises:
        ValueError: the files cannot be compared.
    """
    segmentations, spacings_mm, problems = _read_on_one_grid(case)
    reference, prediction = segmentations
    # nnU-Net reads a 2D image as a volume of one slice.
    space = 0 if reference.shape[1] > 1 else 1
    narrow = [narrow_label_map(array[(0,) * (space + 1)]) for array in (prediction, reference)]
    segmentations.clear()
    del reference, prediction  # the readers' floats take four times the memory
    return CaseArrays(narrow[0], narrow[1], spacings_mm[0][space:], problems)


def without_ours(metrics: dict[str, float]) -> dict[str, float]:
    """Returns nnU-Net's metrics among those of a label."""
    return {key: value for key, value in metrics.items() if not key.startswith(PREFIX)}


def _read_on_one_grid(case: Case) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Returns reference and prediction as nnU-Net reads them, their spacings, and the problems.

    A volume of one slice has that slice first. Without spacing in the files it is one voxel.

    Raises:
        ValueError: they cannot be compared.
    """
    read = _read(case)
    problems = _check_values(case, *read) + check_grids(*read)
    # Distances of files without spacing are in voxels.
    spacing_mm = next((s.spacing for s in read if s.spacing is not None), np.ones(3))
    turned = [slice_first(s.label_map, spacing_mm) for s in read]
    return (
        [label_map[None] for label_map, _ in turned],
        [spacing for _, spacing in turned],
        [f"{case.name}: {problem}" for problem in problems],
    )


def _read(case: Case) -> tuple[Segmentation, Segmentation]:
    """Returns reference and prediction.

    Raises:
        ValueError: one cannot be read, or they differ in size.
    """
    read = []
    check_shapes(*map(read_layout, case.readers, (case.reference, case.prediction)))
    files = ("reference", case.reference), ("prediction", case.prediction)
    for reader, (role, file) in zip(case.readers, files, strict=True):
        try:
            read.append(read_segmentation(reader, file))
        except NotALabelMapError as error:
            raise ValueError(f"the {role} {file} is not a label map: {error}") from None
        except Exception as error:
            raise ValueError(f"the {role} {file} cannot be read: {one_line(error)}") from None
    return read[0], read[1]


def _check_values(case: Case, reference: Segmentation, prediction: Segmentation) -> list[str]:
    """Returns a line for each file with values that are not labels.

    Raises:
        ValueError: they leave nothing to evaluate.
    """
    problems = []
    values = [distinct_values(read.label_map) for read in (reference, prediction)]
    for role, reader, of_role, others in zip(
        ("reference", "prediction"), case.readers, values, reversed(values), strict=True
    ):
        photograph = isinstance(reader, NaturalImage2DIO)
        refused = refuse_values(of_role, case.wanted, others, photograph=photograph)
        if refused:
            raise ValueError(f"the {role} {refused}")
        ignored = () if case.ignore_label is None else (case.ignore_label,)
        unknown = describe_unknown_labels(of_role, (*case.wanted.known, *ignored))
        if unknown and not case.wanted.is_choice:
            problems.append(f"the {role} {unknown}")
    return problems
