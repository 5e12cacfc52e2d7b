"""nnU-Net's summary.json with topology metrics merged in.

Our metrics stand beside nnU-Net's inside each label's metrics, of every case and of the means, and
begin with `topo_`. What nnU-Net wrote keeps its place and value. The entry `nnunet_topo` at the
top records how the metrics were made, how many are undefined, and what went wrong.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import (
    key_to_label_or_region,
    label_or_region_to_key,
)
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from tqdm import tqdm

import nnunet_topo
from nnunet_topo.evaluation.label_choice import LabelChoice
from nnunet_topo.evaluation.segmentations import (
    Segmentations,
    find_segmentations,
    wanted_labels,
)
from nnunet_topo.files import OWN_KEY, data_files, pair_files, read_json
from nnunet_topo.images.grids import check_grids, slice_first
from nnunet_topo.images.segmentation import (
    NotALabelMapError,
    Segmentation,
    Unit,
    has_spacing,
    read_segmentation,
)
from nnunet_topo.labels.declared import labels_of_manager
from nnunet_topo.labels.labels import Label, Labels, label_title, sorted_label_keys
from nnunet_topo.labels.values import describe_unknown_labels, distinct_values, refuse_values
from nnunet_topo.metrics import NSD_TOLERANCE_MM, compare_label_maps, narrow_label_map
from nnunet_topo.processes import in_processes
from nnunet_topo.topology import Connectivity

PREFIX = "topo_"


@dataclass(frozen=True, slots=True)
class Settings:
    """How metrics are computed.

    Attributes:
        connectivity: of the foreground.
        nsd_tolerance_mm: distance up to which surfaces count as equal.
    """

    connectivity: Connectivity = "full"
    nsd_tolerance_mm: float = NSD_TOLERANCE_MM

    def __post_init__(self) -> None:
        """Raises ValueError on a tolerance that would fail in every case."""
        if not self.nsd_tolerance_mm >= 0:
            raise ValueError(f"the NSD tolerance must be at least 0, got {self.nsd_tolerance_mm:g}")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What became of an evaluation.

    Attributes:
        summary: file that holds the metrics.
        cases: how many were evaluated, now or before.
        computed: how many of them now.
        troubles: what went wrong, one line each.
        refused: names of the cases that could not be evaluated, and are in no mean.
    """

    summary: Path
    cases: int
    computed: int
    troubles: list[str]
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Case:
    """A reference and a prediction with their readers, and what a process must know of them."""

    name: str
    reference: Path
    prediction: Path
    labels: tuple[Label, ...]
    wanted: Labels
    readers: tuple[BaseReaderWriter, BaseReaderWriter]
    settings: Settings

    @property
    def ignore_label(self) -> int | None:
        """Returns the value of voxels that do not count."""
        return self.wanted.ignore


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
    references: Path,
    predictions: Path,
    dataset_json: Path | None = None,
    plans: Path | None = None,
    *,
    choice: LabelChoice | None = None,
    labels: Labels | None = None,
    output: Path | None = None,
    processes: int = 1,
    chill: bool = False,
    settings: Settings | None = None,
) -> Evaluation:
    """Evaluates segmentations, with nnU-Net's metrics where there is no summary yet.

    Args:
        references: folder of reference segmentations, or one file.
        predictions: folder of predictions of the same names, or one file.
        dataset_json: nnU-Net's description of the data set; without it the labels are those that
            the files hold.
        plans: nnU-Net's plans file, which names the reader; without it the files' ending says it.
        choice: what the user says of the labels.
        labels: what is evaluated, if that has been chosen already.
        output: summary file, default summary.json beside the predictions.
        processes: at most so many.
        chill: references without prediction are not reported.
        settings: how metrics are computed.

    Raises:
        ValueError: a file that is not nnU-Net's, a folder without segmentations.
        OSError: what cannot be read or written.
    """
    output = (
        output or (predictions if predictions.is_dir() else predictions.parent) / "summary.json"
    )
    _check_output(output)
    found = find_segmentations(references, predictions, dataset_json, plans)
    return _evaluate(
        found,
        labels or wanted_labels([found], choice or LabelChoice(), processes=processes),
        (references, predictions),
        output,
        processes=processes,
        chill=chill,
        settings=settings or Settings(),
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
    """Does what `evaluate_folder` does, for what nnU-Net has in memory."""
    _check_output(output)
    pairs, troubles = pair_files(reference_folder, prediction_folder, [file_ending])
    labels = labels_of_manager(label_manager)
    return _evaluate(
        Segmentations(pairs, lambda _: reader, labels, troubles),
        labels,
        (reference_folder, prediction_folder),
        output,
        processes=processes,
        chill=chill,
        settings=settings or Settings(),
    )


def _check_output(output: Path) -> None:
    if output.suffix != ".json":
        raise ValueError(f"the summary must be a .json file, got {output}")


def _evaluate(
    found: Segmentations,
    labels: Labels,
    places: tuple[Path, Path],
    output: Path,
    *,
    processes: int,
    chill: bool,
    settings: Settings,
) -> Evaluation:
    """Evaluates the cases of two folders or files.

    What is done is kept as it goes in a file beside the summary, so that an interrupted
    evaluation resumes where it stopped, and the summary is replaced in one step at the end. Cases
    whose files have not changed since are not computed again.
    """
    troubles = list(found.troubles)
    pairs: dict[str, tuple[Path, Path]] = {}
    for pair in found.pairs:
        if pair.reference and pair.prediction:
            pairs[pair.prediction.name] = pair.reference, pair.prediction
        elif pair.prediction:
            troubles.append(f"{pair.prediction.name}: no reference in {places[0]}")
        elif pair.reference and not chill:
            troubles.append(f"{pair.reference.name}: no prediction in {places[1]}")
    unit, of_other_unit = found.unit()
    troubles += of_other_unit
    summary = _Summary(output, labels, unit)
    troubles += summary.limit(pairs.keys())
    with _Journal(output.with_name(f"{output.name}.topo-part")) as journal:
        done = {result.name: result for result in journal.read()}
        changed = []
        for name in sorted(pairs.keys() & summary.names(pairs.keys())):
            readers = found.reader(pairs[name][0]), found.reader(pairs[name][1])
            case = _Case(name, *pairs[name], summary.labels, labels, readers, settings)
            if name in done and done[name].digest == _digest(case):
                summary.put(done[name], *pairs[name])
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
            summary.put(result, *pairs[result.name])
        summary.write(settings, sorted(troubles))
        journal.remove()
    return Evaluation(output, len(summary.evaluated), computed, summary.troubles, summary.refused)


def recorded_connectivity(summary: Path) -> Connectivity:
    """Returns the connectivity of the metrics that a summary holds already, else "full"."""
    try:
        recorded = json.loads(summary.read_text(encoding="utf-8"))[OWN_KEY]["connectivity"]
    except (OSError, ValueError, KeyError, TypeError):
        return "full"
    return "face" if recorded == "face" else "full"


def describe(summary: Path, *, place: bool = True) -> list[str]:
    """Returns a summary in words, a line for each label, and what is undefined.

    Args:
        summary: with our metrics.
        place: whether to say which file it is.
    """
    content = read_json(summary)
    record = content[OWN_KEY]
    names, unit = record.get("label_names", {}), record.get("unit", "mm")
    lines, present = [], []
    for key in sorted_label_keys(content["mean"]):
        means, title = content["mean"][key], label_title(key, names)
        if not means["n_ref"] and not means["n_pred"]:
            lines.append(f"{title}: in no reference and no prediction")
            continue
        present.append(means)
        undefined = record["undefined"].get(key, {})
        lines.append(f"{title}: {_means_in_words(means, unit, ' of cases', undefined)}")
    if len(present) > 1:
        # Without labels that are nowhere: nothing was right or wrong in them.
        means = {key: _nanmean([of[key] for of in present]) for key in present[0]}
        lines.append(f"foreground mean: {_means_in_words(means, unit)}")
    return [*lines, f"{record['connectivity']} connectivity" + (f", in {summary}" if place else "")]


def _means_in_words(
    means: Mapping[str, float], unit: str, of: str = "", undefined: Mapping[str, int] | None = None
) -> str:
    """Returns the most important means, without those that are undefined in all cases."""
    exact = f"right in {100 * means['topo_betti_exact']:.0f}%{of}"
    notes = {
        key: f" ({count} case{'s' * (count != 1)} undefined)"
        for key, count in (undefined or {}).items()
    }
    parts = [
        ("Dice {:.4f}", means["Dice"], ""),
        ("Betti error {:.3g}", means["topo_betti_error"], ""),
        ("Betti matching error {:.3g}", means["topo_betti_matching_error"], f", {exact}"),
        ("clDice {:.4f}", means["topo_cldice"], notes.get("topo_cldice", "")),
        (f"HD95 {{:.3g}} {unit}", means["topo_hd95_mm"], notes.get("topo_hd95_mm", "")),
    ]
    return ", ".join(form.format(value) + more for form, value, more in parts if not isnan(value))


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
    readers = [type(reader).__name__ for reader in case.readers]
    values = case.wanted.known, case.wanted.ignore, case.wanted.is_choice
    digest.update(repr((nnunet_topo.__version__, case.settings, labels, values, readers)).encode())
    try:
        for reader, file in zip(case.readers, (case.reference, case.prediction), strict=True):
            for part in (file, *data_files(file)):
                digest.update(hashlib.blake2b(part.read_bytes()).digest())
            if isinstance(reader, Tiff3DIO) and has_spacing(reader, file):
                digest.update(file.with_suffix(".json").read_bytes())
    except OSError:
        return ""
    return digest.hexdigest()


def _compare(case: _Case) -> _Result:
    digest = _digest(case)
    segmentations, spacings, troubles = _read_on_one_grid(case)
    reference, prediction = segmentations
    # nnU-Net has no 2D files: it reads an image as one slice.
    space = 0 if reference.shape[1] > 1 else 1
    spacing = spacings[0][space:]
    of_case = [narrow_label_map(array[(0,) * (space + 1)]) for array in (prediction, reference)]
    segmentations.clear()
    del reference, prediction  # the readers' floats take four times the memory
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


def _read_on_one_grid(case: _Case) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Returns reference and prediction as nnU-Net has them, their spacings, and what to say.

    A volume of one slice has that slice first.

    Raises:
        ValueError: they cannot be compared.
    """
    read = _read(case)
    told = _check_values(case, *read) + check_grids(*read)
    # Distances of files without spacing are in voxels.
    spacing = next((s.spacing for s in read if s.spacing is not None), np.ones(3))
    turned = [slice_first(s.label_map, spacing) for s in read]
    return (
        [label_map[None] for label_map, _ in turned],
        [spacing for _, spacing in turned],
        [f"{case.name}: {trouble}" for trouble in told],
    )


def _read(case: _Case) -> tuple[Segmentation, Segmentation]:
    """Returns reference and prediction.

    Raises:
        ValueError: one cannot be read.
    """
    read = []
    files = ("reference", case.reference), ("prediction", case.prediction)
    for reader, (role, file) in zip(case.readers, files, strict=True):
        try:
            read.append(read_segmentation(reader, file))
        except NotALabelMapError as error:
            raise ValueError(f"the {role} {file} is not a label map: {error}") from None
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"the {role} {file} cannot be read: {reason}") from None
    return read[0], read[1]


def _check_values(case: _Case, reference: Segmentation, prediction: Segmentation) -> list[str]:
    """Returns what to say of values that are no label.

    Raises:
        ValueError: they leave nothing to evaluate.
    """
    told = []
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
            told.append(f"the {role} {unknown}")
    return told


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
        names_of_labels: by nnU-Net's key.
        unit: of distances.
        whole: we wrote all of the file; else nnU-Net's cases and means stay as they are.
        entries: nnU-Net's entry of each case, by file name.
        cases: our record of each case, by file name.
        troubles: of all cases, once it is written.
    """

    def __init__(self, file: Path, wanted: Labels, unit: Unit) -> None:
        self.file, self.names_of_labels, self.unit = file, dict(wanted.names), unit
        self.content: dict[str, Any] = {"metric_per_case": [], "mean": {}, "foreground_mean": {}}
        self.labels = wanted.evaluated
        self.whole = not file.exists()
        if not self.whole:
            self._read(wanted)
        self.keys = [label_or_region_to_key(label) for label in self.labels]
        self.entries = {
            file_name(entry["prediction_file"]): entry for entry in self.content["metric_per_case"]
        }
        self.cases: dict[str, dict[str, Any]] = self.content.get(OWN_KEY, {}).get("cases", {})
        self.troubles: list[str] = []

    def _read(self, wanted: Labels) -> None:
        """Takes the content of the file; one that we wrote for other labels is written anew."""
        before, self.content = self.content, read_json(self.file)
        self._check()
        keys = self.content["mean"].keys()
        self.whole = self.content.get(OWN_KEY, {}).get("whole", False)
        if keys == set(map(label_or_region_to_key, wanted.evaluated)):
            return
        if self.whole:
            self.content = before
            return
        self.labels = tuple(map(key_to_label_or_region, sorted_label_keys(keys)))
        if wanted.is_choice:
            raise ValueError(
                f"{self.file} was written by nnU-Net for the labels {', '.join(keys)}; "
                "-o names another file for others"
            )

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

    @property
    def refused(self) -> list[str]:
        """Returns the cases that could not be evaluated."""
        return sorted(name for name, of_case in self.cases.items() if not of_case["digest"])

    def names(self, names: Set[str]) -> Set[str]:
        """Returns which of these cases may stand in the file."""
        return names if self.whole else names & self.entries.keys()

    def limit(self, names: Set[str]) -> list[str]:
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

    def put(self, result: _Result, reference: Path, prediction: Path) -> None:
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
                "reference_file": str(reference),
                "prediction_file": str(prediction),
                "metrics": result.of_nnunet,
            }
        metrics = self.entries[result.name]["metrics"]
        for key in self.keys:
            metrics[key] = _of_nnunet(metrics[key]) | result.metrics.get(key, {})

    def write(self, settings: Settings, troubles: list[str]) -> None:
        """Computes means and replaces the file in one step; without a case it has none of ours."""
        self.troubles = troubles + [
            trouble for name in sorted(self.cases) for trouble in self.cases[name]["troubles"]
        ]
        if not self.evaluated:
            self._remove_own()
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
            "unit": self.unit,
            "label_names": {
                key: self.names_of_labels[key] for key in self.keys if key in self.names_of_labels
            },
            "refused": self.refused,
            "cases": self.cases,
            "undefined": undefined,
            "troubles": self.troubles,
        }
        self._replace_file()

    def _remove_own(self) -> None:
        """Removes metrics of files that have changed since, and cannot be evaluated any more."""
        if self.whole:
            self.file.unlink(missing_ok=True)
        elif self.content.pop(OWN_KEY, None) is not None:
            means = [*self.content["mean"].values(), self.content["foreground_mean"]]
            for metrics in (
                *means,
                *(m for e in self.entries.values() for m in e["metrics"].values()),
            ):
                for key in [key for key in metrics if key.startswith(PREFIX)]:
                    del metrics[key]
            self._replace_file()

    def _replace_file(self) -> None:
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
