"""nnU-Net's summary.json with topology metrics merged in.

Our metrics stand beside nnU-Net's inside each label's metrics, of every case and of the means, and
begin with `topo_`. What nnU-Net wrote keeps its place and value. The entry `nnunet_topo` at the
top records how the metrics were made, how many are undefined, and what went wrong.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from pathlib import Path, PureWindowsPath
from typing import Any

import nibabel
import numpy as np
from nnunetv2.evaluation.evaluate_predictions import (
    key_to_label_or_region,
    label_or_region_to_key,
)
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tqdm import tqdm

import nnunet_topo
from nnunet_topo.metrics import NSD_TOLERANCE_MM, compare_label_maps, narrow_label_map
from nnunet_topo.nnunet.processes import in_processes
from nnunet_topo.topology import Connectivity

OWN_KEY = "nnunet_topo"
PREFIX = "topo_"
NO_SPACING = 999  # what nnU-Net's readers give an image without a third axis
Label = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """How metrics are computed.

    Attributes:
        connectivity: of the foreground.
        nsd_tolerance_mm: distance up to which surfaces count as equal.
    """

    connectivity: Connectivity = "full"
    nsd_tolerance_mm: float = NSD_TOLERANCE_MM


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What became of an evaluation.

    Attributes:
        summary: file that holds the metrics.
        cases: how many were evaluated, now or before.
        computed: how many of them now.
        troubles: what went wrong, one line each.
    """

    summary: Path
    cases: int
    computed: int
    troubles: list[str]


@dataclass(frozen=True, slots=True)
class _Case:
    """A reference and a prediction, and what a process must know to compare them."""

    name: str
    reference: Path
    prediction: Path
    labels: tuple[Label, ...]
    known_labels: tuple[int, ...]
    ignore_label: int | None
    reader: BaseReaderWriter
    settings: Settings


@dataclass(frozen=True, slots=True)
class _Result:
    """What came out of a case; metrics by label, ours and nnU-Net's, empty if there are none."""

    name: str
    digest: str = ""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    of_nnunet: dict[str, dict[str, float]] = field(default_factory=dict)
    voxel_mm3: float = nan
    troubles: list[str] = field(default_factory=list)


def evaluate_folder(
    reference_folder: Path,
    prediction_folder: Path,
    dataset_json: Path,
    plans: Path,
    *,
    output: Path | None = None,
    processes: int = 1,
    chill: bool = False,
    settings: Settings | None = None,
) -> Evaluation:
    """Evaluates a folder of segmentations, with nnU-Net's metrics where there is no summary yet.

    Args:
        reference_folder: reference segmentations.
        prediction_folder: predictions, named alike.
        dataset_json: nnU-Net's description of the data set.
        plans: nnU-Net's plans file, which names the reader.
        output: summary file, default summary.json beside the predictions.
        processes: at most so many.
        chill: references without prediction are no trouble.
        settings: how metrics are computed.

    Raises:
        ValueError: a file that is none of nnU-Net's, a folder without segmentations.
        OSError: what cannot be read or written.
    """
    description, plan = read_json(dataset_json), read_json(plans)
    if "labels" not in description or "file_ending" not in description:
        raise ValueError(f"{dataset_json} is no dataset.json of nnU-Net: no labels or file_ending")
    if "image_reader_writer" not in plan:
        raise ValueError(f"{plans} is no plans file of nnU-Net: no image_reader_writer")
    manager = PlansManager(plan)
    try:
        reader = manager.image_reader_writer_class()
        label_manager = manager.get_label_manager(description)
    except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"nnU-Net does not take {dataset_json} and {plans}: {error}") from None
    return evaluate(
        reference_folder,
        prediction_folder,
        output or prediction_folder / "summary.json",
        reader,
        description["file_ending"],
        label_manager,
        processes=processes,
        chill=chill,
        settings=settings,
    )


def evaluate(
    reference_folder: Path,
    prediction_folder: Path,
    output: Path,
    reader: BaseReaderWriter,
    file_ending: str,
    label_manager: LabelManager,
    *,
    processes: int = 1,
    chill: bool = False,
    settings: Settings | None = None,
) -> Evaluation:
    """Does what `evaluate_folder` does, for what nnU-Net has in memory.

    What is done is kept as it goes in a file beside the summary, so that an interrupted
    evaluation goes on where it was, and the summary is replaced in one step at the end. Cases whose
    files have not changed since are not computed again.
    """
    settings = settings or Settings()
    if output.suffix != ".json":
        raise ValueError(f"the summary must be a .json file, got {output}")
    references = _files(reference_folder, file_ending)
    predictions = _files(prediction_folder, file_ending)
    if not references or not predictions:
        empty = prediction_folder if references else reference_folder
        raise ValueError(f"{empty} holds no segmentation that ends in {file_ending}")
    names = predictions & references
    troubles = [f"{name}: no reference in {reference_folder}" for name in predictions - names]
    if not chill:
        missing = references - names
        troubles += [f"{name}: no prediction in {prediction_folder}" for name in missing]
    summary = _Summary(output, _labels(label_manager))
    troubles += summary.limit(names)
    with _Journal(output.with_name(f"{output.name}.topo-part")) as journal:
        done = {result.name: result for result in journal.read()}
        changed = []
        for name in sorted(names & summary.names(names)):
            case = _Case(
                name,
                reference_folder / name,
                prediction_folder / name,
                summary.labels,
                tuple(label_manager.all_labels),
                label_manager.ignore_label,
                reader,
                settings,
            )
            if name in done and done[name].digest == _digest(case):
                summary.put(done[name], reference_folder, prediction_folder)
            elif not summary.digest(name) or summary.digest(name) != _digest(case):
                changed.append(case)
        computed = 0
        for result in tqdm(
            in_processes(_evaluate_case, changed, processes, killed=_killed),
            total=len(changed),
            desc="topology metrics",
            unit="case",
            disable=None,  # without a terminal
        ):
            computed += bool(result.metrics)
            journal.append(result)
            summary.put(result, reference_folder, prediction_folder)
        summary.write(settings, sorted(troubles))
        journal.remove()
    return Evaluation(output, len(summary.evaluated), computed, summary.troubles)


def _labels(label_manager: LabelManager) -> tuple[Label, ...]:
    """Returns nnU-Net's choice of labels or regions."""
    if label_manager.has_regions:
        return tuple(label_manager.foreground_regions)
    return tuple(label_manager.foreground_labels)


def _files(folder: Path, ending: str) -> set[str]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    return {file.name for file in folder.iterdir() if file.name.endswith(ending)}


def read_json(file: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        ValueError: it holds none.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON file: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object, got {type(content).__name__}")
    return content


def recorded_connectivity(summary: Path) -> Connectivity:
    """Returns the connectivity of the metrics that a summary holds already, else "full"."""
    try:
        recorded = json.loads(summary.read_text(encoding="utf-8"))[OWN_KEY]["connectivity"]
    except (OSError, ValueError, KeyError, TypeError):
        return "full"
    return "face" if recorded == "face" else "full"


def describe(summary: Path) -> list[str]:
    """Returns the topology of a summary in words, a line for each label, and what is undefined."""
    content = read_json(summary)
    record = content[OWN_KEY]
    lines = []
    for key, means in content["mean"].items():
        undefined = record["undefined"].get(key, {}).get(f"{PREFIX}cldice", 0)
        note = f" ({undefined} cases undefined)" if undefined else ""
        lines.append(
            f"label {key}: Betti error {means['topo_betti_error']:.3g}, Betti matching error "
            f"{means['topo_betti_matching_error']:.3g}, right in "
            f"{100 * means['topo_betti_exact']:.0f}% of cases, clDice "
            f"{means['topo_cldice']:.4f}{note}, HD95 {means['topo_hd95_mm']:.3g} mm"
        )
    return [*lines, f"{record['connectivity']} connectivity, in {summary}"]


# -- one case ----------------------------------------------------------------------------------


def _evaluate_case(case: _Case) -> _Result:
    """Returns the metrics of one case; whatever fails becomes a trouble."""
    try:
        return _compare(case)
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        reason = kind + " ".join(str(error).split())[:300]
        return _Result(case.name, troubles=[f"{case.name}: not evaluated, {reason}"])


def _killed(case: _Case) -> _Result:
    return _Result(case.name, troubles=[f"{case.name}: its process was killed; too little memory?"])


def _digest(case: _Case) -> str:
    """Returns a digest of both files and of what else the metrics depend on; "" if unreadable."""
    digest = hashlib.blake2b(digest_size=16)
    labels = sorted(map(label_or_region_to_key, case.labels))
    reader = type(case.reader).__name__
    besides = (nnunet_topo.__version__, case.settings, labels, case.ignore_label, reader)
    digest.update(repr(besides).encode())
    try:
        for file in (case.reference, case.prediction):
            digest.update(hashlib.blake2b(file.read_bytes()).digest())
    except OSError:
        return ""
    return digest.hexdigest()


def _compare(case: _Case) -> _Result:
    digest = _digest(case)
    troubles = []
    segmentations, spacings = [], []
    has_spacing = [_has_spacing(case.reader, file) for file in (case.reference, case.prediction)]
    for role, file in (("reference", case.reference), ("prediction", case.prediction)):
        try:
            segmentation, properties = read_segmentation(case.reader, file)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"the {role} {file} cannot be read: {reason}") from None
        segmentations.append(segmentation)
        spacings.append(np.asarray(properties["spacing"], dtype=float))
        unknown = describe_unknown_values(segmentation, case.known_labels, case.ignore_label)
        if unknown:
            troubles.append(f"{case.name}: the {role} holds {unknown}")
    reference, prediction = segmentations
    if reference.shape != prediction.shape:
        raise ValueError(
            f"the reference has shape {reference.shape[1:]}, the prediction {prediction.shape[1:]}"
        )
    if has_spacing == [False, True]:
        spacings.reverse()
    if all(has_spacing) and not np.allclose(*spacings, rtol=1e-3):
        troubles.append(
            f"{case.name}: the reference has spacing {_numbers(spacings[0])}, the prediction "
            f"{_numbers(spacings[1])}; distances are by the reference's"
        )
    # nnU-Net has no 2D files: it reads an image as one slice.
    space = 0 if reference.shape[1] > 1 else 1
    spacing = spacings[0][space:]
    of_case = [narrow_label_map(array[(0,) * (space + 1)]) for array in (prediction, reference)]
    segmentations.clear()
    del reference, prediction, segmentation  # the readers' floats take four times the memory
    compared = compare_label_maps(
        of_case[0],
        of_case[1],
        case.labels,
        ignore_label=case.ignore_label,
        spacing_mm=spacing.tolist(),
        connectivity=case.settings.connectivity,
        nsd_tolerance_mm=case.settings.nsd_tolerance_mm,
    )
    metrics: dict[str, dict[str, float]] = {}
    of_nnunet: dict[str, dict[str, float]] = {}
    for label, values in compared.items():
        key = label_or_region_to_key(label)
        of_nnunet[key] = _of_nnunet(values)
        metrics[key] = {name: value for name, value in values.items() if name.startswith(PREFIX)}
    return _Result(
        case.name,
        digest,
        metrics=metrics,
        of_nnunet=of_nnunet,
        voxel_mm3=float(np.prod(spacing)),
        troubles=troubles,
    )


def read_segmentation(reader: BaseReaderWriter, file: Path) -> tuple[np.ndarray, Mapping[str, Any]]:
    """Returns the label map of a file, `[1, z, y, x]`, and what nnU-Net's reader says of it.

    Raises:
        Exception: whatever the readers raise.
    """
    segmentation, properties = reader.read_seg(str(file))
    if file.name.endswith((".nii", ".nii.gz")):
        # SimpleITK reads a file that was cut short, with zeros for the rest.
        nibabel.load(file).dataobj.get_unscaled()  # pyright: ignore[reportAttributeAccessIssue]
    return segmentation, properties


def _has_spacing(reader: BaseReaderWriter, file: Path) -> bool:
    """Returns whether the spacing that the reader gives is known.

    That of a TIFF volume is in a file beside it, which nnU-Net does not copy with the labels when
    it preprocesses: it reads them with a spacing of 1.
    """
    return not isinstance(reader, Tiff3DIO) or file.with_suffix(".json").is_file()


def describe_unknown_values(
    segmentation: np.ndarray, labels: Sequence[int], ignore_label: int | None
) -> str:
    """Returns what to say of values that are no label, "" if there are none."""
    known = [*labels] if ignore_label is None else [*labels, ignore_label]
    # To count is far quicker than to sort the values of a volume.
    if sum(np.count_nonzero(segmentation == label) for label in known) == segmentation.size:
        return ""
    unknown = np.setdiff1d(np.unique(segmentation), known)
    values = ", ".join(f"{value:g}" for value in unknown[:5])
    return (
        f"{values}{', ...' if len(unknown) > 5 else ''}, no label of dataset.json; such voxels "
        "count as background"
    )


def _numbers(values: np.ndarray) -> str:
    return " x ".join(f"{value:g}" for value in values)


# -- the files ---------------------------------------------------------------------------------


class _Journal:
    """Results as they come, a line each, in a file that goes when all is merged."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> "_Journal":
        try:
            self.handle = self.file.open("a+", encoding="utf-8")
        except OSError as error:
            raise OSError(
                f"cannot write beside the summary, {error}; -o names a file elsewhere"
            ) from None
        return self

    def __exit__(self, *_) -> None:
        self.handle.close()
        if self.file.is_file() and self.file.stat().st_size == 0:
            self.file.unlink()

    def read(self) -> Iterator[_Result]:
        """Yields what an interrupted run left; a line cut short is left out."""
        self.handle.seek(0)
        for line in self.handle:
            try:
                yield _Result(**json.loads(line))
            except (ValueError, TypeError):
                continue

    def append(self, result: _Result) -> None:
        if result.metrics:
            self.handle.write(json.dumps(asdict(result)) + "\n")
            self.handle.flush()

    def remove(self) -> None:
        self.handle.close()
        self.file.unlink(missing_ok=True)


class _Summary:
    """nnU-Net's summary.json, in memory.

    Attributes:
        file: where it lies.
        labels: labels or regions that it is about.
        whole: we wrote all of the file; else nnU-Net's cases and means stay as they are.
        entries: nnU-Net's entry of each case, by file name.
        cases: our record of each case, by file name.
        troubles: of all cases, once it is written.
    """

    def __init__(self, file: Path, labels: tuple[Label, ...]) -> None:
        self.file = file
        self.content: dict[str, Any] = {"metric_per_case": [], "mean": {}, "foreground_mean": {}}
        self.labels = labels
        self.whole = not file.exists()
        if not self.whole:
            self.content = read_json(file)
            self._check()
            self.labels = tuple(key_to_label_or_region(key) for key in self.content["mean"])
            self.whole = self.content.get(OWN_KEY, {}).get("whole", False)
        self.keys = [label_or_region_to_key(label) for label in self.labels]
        self.entries = {
            file_name(entry["prediction_file"]): entry for entry in self.content["metric_per_case"]
        }
        self.cases: dict[str, dict[str, Any]] = self.content.get(OWN_KEY, {}).get("cases", {})
        self.troubles: list[str] = []

    def _check(self) -> None:
        try:
            keys = self.content["mean"].keys()
            list(map(key_to_label_or_region, keys))
            right = all(
                file_name(entry["prediction_file"]) and keys <= entry["metrics"].keys()
                for entry in self.content["metric_per_case"]
            )
            right = right and isinstance(self.content["foreground_mean"], dict)
        except (KeyError, TypeError, ValueError, AttributeError):
            right = False
        if not right:
            raise ValueError(f"{self.file} is no summary of nnU-Net, and is left as it is")

    @property
    def evaluated(self) -> list[str]:
        """Returns the cases that have topology metrics."""
        return [name for name, of_case in self.cases.items() if of_case["digest"]]

    def names(self, names: set[str]) -> set[str]:
        """Returns which of these cases may stand in the file."""
        return names if self.whole else names & self.entries.keys()

    def limit(self, names: set[str]) -> list[str]:
        """Forgets what is no longer there, and returns what does not fit the file."""
        self.cases = {name: self.cases[name] for name in self.cases if name in names}
        if self.whole:
            self.entries = {name: self.entries[name] for name in self.entries if name in names}
            return []
        gone = self.entries.keys() - names
        for metrics in (self.entries[name]["metrics"] for name in gone):
            metrics |= {key: _of_nnunet(of_label) for key, of_label in metrics.items()}
        return [
            f"{name}: not in {self.file}, which nnU-Net wrote without it; -o names another file"
            for name in names - self.entries.keys()
        ] + [
            f"{name}: in {self.file}, but there is no such prediction and reference"
            for name in gone
        ]

    def digest(self, name: str) -> str:
        """Returns the digest of the files from which the metrics of a case were made."""
        return self.cases.get(name, {}).get("digest", "")

    def put(self, result: _Result, reference_folder: Path, prediction_folder: Path) -> None:
        """Takes the metrics of a case, or that there are none."""
        self.cases[result.name] = {
            "digest": result.digest,
            "voxel_mm3": result.voxel_mm3,
            "troubles": result.troubles,
        }
        if self.whole:
            self.entries.pop(result.name, None)
            if not result.metrics:
                return
            self.entries[result.name] = {
                "reference_file": str(reference_folder / result.name),
                "prediction_file": str(prediction_folder / result.name),
                "metrics": result.of_nnunet,
            }
        metrics = self.entries[result.name]["metrics"]
        for key in self.keys:
            metrics[key] = _of_nnunet(metrics[key]) | result.metrics.get(key, {})

    def write(self, settings: Settings, troubles: list[str]) -> None:
        """Computes means and replaces the file in one step; without a case it stays as it is."""
        self.troubles = troubles + [
            trouble for name in sorted(self.cases) for trouble in self.cases[name]["troubles"]
        ]
        if not self.evaluated:
            return
        entries = [self.entries[name] for name in sorted(self.entries)]
        if self.whole:
            self.content["metric_per_case"] = entries
            of_nnunet = _of_nnunet(entries[0]["metrics"][self.keys[0]])
            self._average(entries, list(of_nnunet), np.mean)
        metrics = [entry["metrics"][key] for entry in entries for key in self.keys]
        ours = sorted({key for of_label in metrics for key in of_label if key.startswith(PREFIX)})
        for of_label in metrics:  # every label carries every key
            of_label |= {key: of_label.get(key, nan) for key in ours}
        for means in (*self.content["mean"].values(), self.content["foreground_mean"]):
            for key in [key for key in means if key.startswith(PREFIX)]:
                del means[key]
        self._average(entries, ours, _nanmean)
        pearson = {key: self._volume_correlation(key) for key in self.keys}
        for key in self.keys:
            self.content["mean"][key][f"{PREFIX}volume_pearson"] = pearson[key]
        of_foreground = _nanmean([pearson[key] for key in self.keys if key != "0"])
        self.content["foreground_mean"][f"{PREFIX}volume_pearson"] = of_foreground
        undefined = {
            key: {
                name: count
                for name in ours
                if (count := sum(isnan(entry["metrics"][key][name]) for entry in entries))
            }
            for key in self.keys
        }
        self.content[OWN_KEY] = asdict(settings) | {
            "version": nnunet_topo.__version__,
            "whole": self.whole,
            "cases": self.cases,
            "undefined": undefined,
            "troubles": self.troubles,
        }
        written = self.file.with_name(f"{self.file.name}.topo-new")
        written.write_text(json.dumps(self.content, indent=4, sort_keys=True), encoding="utf-8")
        written.replace(self.file)

    def _average(
        self, entries: list[dict[str, Any]], names: list[str], over_labels: Callable[..., float]
    ) -> None:
        """Puts the means over cases, without undefined ones, and over the labels of foreground."""
        for key in self.keys:
            means = self.content["mean"].setdefault(key, {})
            means |= {
                name: _nanmean([entry["metrics"][key][name] for entry in entries]) for name in names
            }
        for name in names:
            of_labels = [self.content["mean"][key][name] for key in self.keys if key != "0"]
            self.content["foreground_mean"][name] = float(over_labels(of_labels))

    def _volume_correlation(self, key: str) -> float:
        """Returns Pearson's r of predicted and reference volumes; NaN where one is constant."""
        volumes = [
            [
                self.entries[name]["metrics"][key][count] * self.cases[name]["voxel_mm3"]
                for count in ("n_pred", "n_ref")
            ]
            for name in self.evaluated
        ]
        predicted, reference = np.array(volumes, dtype=float).reshape(-1, 2).T
        if len(predicted) < 2 or np.ptp(predicted) == 0 or np.ptp(reference) == 0:
            return nan
        return float(np.corrcoef(predicted, reference)[0, 1])


def file_name(file: str) -> str:
    """Returns the name of a file that may have been evaluated on another system.

    A path of Windows may mix both separators; elsewhere a backslash may be part of a name.
    """
    of_windows = PureWindowsPath(file)
    if os.name == "nt" or of_windows.drive or "/" not in file:
        return of_windows.name
    return file.rpartition("/")[2]


def _of_nnunet(metrics: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if not key.startswith(PREFIX)}


def _nanmean(values: Sequence[float]) -> float:
    known = [value for value in values if not isnan(value)]
    return float(np.mean(known)) if known else nan
