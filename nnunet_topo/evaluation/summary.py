"""nnU-Net's summary.json with topology metrics merged in.

Our metrics stand beside nnU-Net's inside each label's metrics, of every case and of the means, and
begin with `topo_`. What nnU-Net wrote keeps its place and value. The entry `nnunet_topo` at the
top records how the metrics were made, how many are undefined, and what went wrong.
"""

import json
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import (
    key_to_label_or_region,
    label_or_region_to_key,
)

import nnunet_topo
from nnunet_topo.evaluation.case import CaseResult, Settings, prediction_digest, without_ours
from nnunet_topo.evaluation.record import PREFIX, CaseMetrics, Evaluation, file_name, nanmean
from nnunet_topo.files import OWN_KEY, read_json, write_whole
from nnunet_topo.images.segmentation import Unit
from nnunet_topo.labels.labels import Labels, sorted_label_keys


def read_summary(file: Path) -> Evaluation:
    """Returns the content of a summary.json of nnU-Net, with or without topology metrics.

    Raises:
        ValueError: it is not an nnU-Net summary.
        OSError: it cannot be read.
    """
    content = read_json(file)
    try:
        evaluation = _evaluation_in(content, file) if _is_summary(content) else None
    except (KeyError, TypeError, ValueError, AttributeError):
        evaluation = None
    if evaluation is None:
        raise ValueError(f"{file} is not an nnU-Net summary")
    return evaluation


class Summary:
    """nnU-Net's summary.json, in memory.

    Attributes:
        file: its path.
        labels: the labels or regions in it.
        label_names: by nnU-Net's key.
        unit: of distances.
        whole: we wrote all of the file; otherwise nnU-Net's cases and means stay as they are.
        entries: nnU-Net's entry of each case, by file name.
        cases: our record of each case, by file name.
    """

    def __init__(self, file: Path, wanted: Labels, unit: Unit) -> None:
        self.file, self.label_names, self.unit = file, dict(wanted.names), unit
        self.content = _empty()
        self.labels = wanted.evaluated
        self.whole = not file.exists()
        if not self.whole:
            self._read(wanted)
        self.keys = [label_or_region_to_key(label) for label in self.labels]
        self.entries = {
            file_name(entry["prediction_file"]): entry for entry in self.content["metric_per_case"]
        }
        self.cases: dict[str, dict[str, Any]] = self.content.get(OWN_KEY, {}).get("cases", {})
        self._earlier = {name: self.digest(name) for name in self.evaluated}

    def _read(self, wanted: Labels) -> None:
        """Reads the file; one that we wrote for other labels will be replaced."""
        self.content = read_json(self.file)
        if not _is_summary(self.content):
            raise ValueError(f"{self.file} is not an nnU-Net summary and is not replaced")
        keys = self.content["mean"].keys()
        self.whole = self.content.get(OWN_KEY, {}).get("whole", False)
        if keys == set(map(label_or_region_to_key, wanted.evaluated)):
            return
        if self.whole:
            self.content = _empty()
            return
        self.labels = tuple(map(key_to_label_or_region, sorted_label_keys(keys)))
        if wanted.is_choice or not keys >= set(map(label_or_region_to_key, wanted.groups)):
            raise ValueError(
                f"{self.file} was written by nnU-Net for the labels {', '.join(keys)}; "
                "-o names another file for others"
            )

    @property
    def evaluated(self) -> list[str]:
        """Returns the cases that have topology metrics."""
        return [name for name, of_case in self.cases.items() if of_case["digest"]]

    @property
    def refused(self) -> list[str]:
        """Returns the cases that could not be evaluated."""
        return sorted(name for name, of_case in self.cases.items() if not of_case["digest"])

    def names(self, names: Set[str]) -> Set[str]:
        """Returns the cases that the file may contain."""
        return names if self.whole else names & self.entries.keys()

    def limit(self, names: Set[str]) -> list[str]:
        """Removes cases without files, and returns a line for each case that does not fit."""
        self.cases = {name: self.cases[name] for name in self.cases if name in names}
        if self.whole:
            self.entries = {name: self.entries[name] for name in self.entries if name in names}
            return []
        gone = self.entries.keys() - names
        for metrics in (self.entries[name]["metrics"] for name in gone):
            metrics |= {key: without_ours(of_label) for key, of_label in metrics.items()}
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

    def put(self, result: CaseResult, reference: Path, prediction: Path) -> None:
        """Records the metrics of a case, or that it has none.

        A case of which nnU-Net's metrics are of other files gets none of ours: values of two
        predictions must not stand side by side.
        """
        if result.metrics and not self.whole and self._is_of_other_files(result):
            result = CaseResult(
                result.name,
                problems=[
                    f"{result.name}: not evaluated, nnU-Net's metrics in {self.file} are of other "
                    "files or another ignore label (TP, FP and FN differ); remove that file, or -o "
                    "names another file"
                ],
            )
        self.cases[result.name] = {
            "digest": result.digest,
            "voxel_mm3": result.voxel_mm3,
            "troubles": result.problems,
        }
        if self.whole:
            self.entries.pop(result.name, None)
            if not result.metrics:
                return
            self.entries[result.name] = {
                "reference_file": str(reference),
                "prediction_file": str(prediction),
                "metrics": result.nnunet_metrics,
            }
        metrics = self.entries[result.name]["metrics"]
        for key in self.keys:
            metrics[key] = without_ours(metrics[key]) | result.metrics.get(key, {})

    def _is_of_other_files(self, result: CaseResult) -> bool:
        """Returns whether nnU-Net counted other voxels in a case than there are now."""
        recorded = self.entries[result.name]["metrics"]
        return any(
            recorded[key].get(count, of_label[count]) != of_label[count]
            for key, of_label in result.nnunet_metrics.items()
            for count in ("TP", "FP", "FN")
        )

    def write(
        self,
        settings: Settings,
        problems: list[str],
        computed: int = 0,
        predictions: Mapping[str, Path] | None = None,
    ) -> Evaluation:
        """Computes the means, replaces the file in one step, and returns its content.

        Without a case that could be evaluated the file stays as it is if the predictions are those
        of its metrics, because then the call is wrong; otherwise none of our metrics stay in it.

        Args:
            settings: of the metrics.
            problems: what went wrong, one line each.
            computed: number of cases that were computed now.
            predictions: all that there are, by file name, also those without a reference.
        """
        problems = problems + [
            problem for name in sorted(self.cases) for problem in self.cases[name]["troubles"]
        ]
        if self.evaluated:
            self._merge(settings, problems)
        else:
            keeps = self._has_metrics_of(predictions or {})
            if keeps:
                problems.append(
                    f"{self.file} keeps its metrics: nothing could be evaluated, and the "
                    "predictions have not changed since"
                )
            self._remove_own(keep_file=keeps)
        return replace(
            _evaluation_in(self.content, self.file),
            problems=tuple(problems),
            refused=tuple(self.refused),
            computed=computed,
        )

    def _merge(self, settings: Settings, problems: list[str]) -> None:
        """Computes the means over the cases, and replaces the file."""
        entries = [self.entries[name] for name in sorted(self.entries)]
        if self.whole:
            self.content["metric_per_case"] = entries
            nnunet_metrics = without_ours(entries[0]["metrics"][self.keys[0]])
            self._average(entries, list(nnunet_metrics), np.mean)
        metrics = [entry["metrics"][key] for entry in entries for key in self.keys]
        ours = sorted({key for of_label in metrics for key in of_label if key.startswith(PREFIX)})
        for of_label in metrics:  # every label carries every key
            of_label |= {key: of_label.get(key, nan) for key in ours}
        for means in (*self.content["mean"].values(), self.content["foreground_mean"]):
            for key in [key for key in means if key.startswith(PREFIX)]:
                del means[key]
        self._average(entries, ours, nanmean)
        pearson = {key: self._volume_correlation(key) for key in self.keys}
        for key in self.keys:
            self.content["mean"][key][f"{PREFIX}volume_pearson"] = pearson[key]
        foreground = nanmean([pearson[key] for key in self.keys if key != "0"])
        self.content["foreground_mean"][f"{PREFIX}volume_pearson"] = foreground
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
                key: self.label_names[key] for key in self.keys if key in self.label_names
            },
            "refused": self.refused,
            "cases": self.cases,
            "undefined": undefined,
            "troubles": problems,
        }
        self._replace_file()

    def _has_metrics_of(self, predictions: Mapping[str, Path]) -> bool:
        """Returns whether the file has metrics, and of these predictions as they are now."""
        there = {name: predictions[name] for name in self._earlier if name in predictions}
        try:
            return bool(there) and all(
                # A digest of an older version does not tell; what it recorded is kept.
                self._earlier[name].partition(" ")[2] in ("", prediction_digest(file))
                for name, file in there.items()
            )
        except OSError:
            return False

    def _remove_own(self, *, keep_file: bool) -> None:
        """Removes metrics of files that can no longer be evaluated."""
        if self.whole:
            self.content = _empty()
            if not keep_file:
                self.file.unlink(missing_ok=True)
        elif self.content.pop(OWN_KEY, None) is not None:
            means = [*self.content["mean"].values(), self.content["foreground_mean"]]
            for metrics in (
                *means,
                *(m for e in self.entries.values() for m in e["metrics"].values()),
            ):
                for key in [key for key in metrics if key.startswith(PREFIX)]:
                    del metrics[key]
            if not keep_file:
                self._replace_file()

    def _replace_file(self) -> None:
        write_whole(self.file, json.dumps(self.content, indent=4, sort_keys=True))

    def _average(
        self, entries: list[dict[str, Any]], names: list[str], over_labels: Callable[..., float]
    ) -> None:
        """Puts the means over cases, without undefined ones, and over the labels of foreground."""
        for key in self.keys:
            means = self.content["mean"].setdefault(key, {})
            means |= {
                name: nanmean([entry["metrics"][key][name] for entry in entries]) for name in names
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
            for name in sorted(self.evaluated)  # in their order the last bits differ
        ]
        predicted, reference = np.array(volumes, dtype=float).reshape(-1, 2).T
        if len(predicted) < 2 or np.ptp(predicted) == 0 or np.ptp(reference) == 0:
            return nan
        return float(np.corrcoef(predicted, reference)[0, 1])


def _empty() -> dict[str, Any]:
    return {"metric_per_case": [], "mean": {}, "foreground_mean": {}}


def _is_summary(content: dict[str, Any]) -> bool:
    try:
        keys = content["mean"].keys()
        list(map(key_to_label_or_region, keys))
        complete = all(
            file_name(entry["prediction_file"]) and keys <= entry["metrics"].keys()
            for entry in content["metric_per_case"]
        )
        return complete and isinstance(content["foreground_mean"], dict)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _evaluation_in(content: dict[str, Any], file: Path) -> Evaluation:
    """Returns the content of a summary as a record, in the order in which it is written."""
    own = content.get(OWN_KEY, {})
    of_cases = own.get("cases", {})
    units: tuple[Unit, ...] = ("mm", "pixels", "voxels")
    return Evaluation(
        summary=file,
        cases=tuple(
            CaseMetrics(
                entry.get("reference_file", ""),
                entry["prediction_file"],
                _sorted({key: _sorted(of_label) for key, of_label in entry["metrics"].items()}),
            )
            for entry in content["metric_per_case"]
        ),
        evaluated=tuple(sorted(name for name, of_case in of_cases.items() if of_case["digest"])),
        means=_sorted({key: _sorted(means) for key, means in content["mean"].items()}),
        foreground_mean=_sorted(content["foreground_mean"]),
        undefined=own.get("undefined", {}),
        problems=tuple(own.get("troubles", ())),
        refused=tuple(own.get("refused", ())),
        unit=next((unit for unit in units if unit == own.get("unit")), None),
        label_names=own.get("label_names", {}),
        connectivity="face" if own.get("connectivity") == "face" else "full",
        whole=bool(own.get("whole", False)),
    )


def _sorted(values: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(values.items()))
