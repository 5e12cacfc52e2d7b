"""The metrics of an evaluation, as the rest of this package uses them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path, PureWindowsPath

import numpy as np

from nnunet_topo.images.segmentation import Unit
from nnunet_topo.topology import Connectivity

PREFIX = "topo_"
"""Begins the names of our metrics; the others are nnU-Net's."""

Metrics = Mapping[str, float]
"""Values by the name of the metric, NaN where one is undefined."""


@dataclass(frozen=True, slots=True)
class CaseMetrics:
    """The metrics of one case.

    Attributes:
        reference: file, as the summary names it.
        prediction: file, as the summary names it; perhaps from another system.
        labels: metrics of each label or region, by nnU-Net's key.
    """

    reference: str
    prediction: str
    labels: Mapping[str, Metrics]

    @property
    def name(self) -> str:
        """Returns the file name of the prediction, which identifies the case in a summary."""
        return file_name(self.prediction)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a summary.json holds, and how the evaluation went.

    Attributes:
        summary: the file; there is none if no case could be evaluated.
        cases: all cases in the file.
        evaluated: names of the cases that have topology metrics.
        means: metrics of each label or region over the cases, by nnU-Net's key.
        foreground_mean: mean of these over the labels.
        undefined: number of cases in which a metric is undefined, by label and metric.
        problems: what went wrong, one line each.
        refused: names of the cases that could not be evaluated; they are in no mean.
        unit: of distances, None if the summary does not record it.
        label_names: by nnU-Net's key, of the labels that have a name.
        connectivity: of the foreground.
        whole: nnunet-topo wrote all of the file; otherwise nnU-Net did, and we added our metrics.
        computed: number of cases that this evaluation computed, the others were computed before.
    """

    summary: Path
    cases: tuple[CaseMetrics, ...]
    evaluated: tuple[str, ...]
    means: Mapping[str, Metrics]
    foreground_mean: Metrics
    undefined: Mapping[str, Mapping[str, int]]
    problems: tuple[str, ...]
    refused: tuple[str, ...]
    unit: Unit | None
    label_names: Mapping[str, str]
    connectivity: Connectivity
    whole: bool
    computed: int = 0

    @property
    def evaluated_means(self) -> Mapping[str, Metrics]:
        """Returns the means over the cases that have topology metrics, by nnU-Net's key.

        Means that nnU-Net wrote go over all of its cases, also those that have changed since.
        """
        names = set(self.evaluated)
        cases = [case.labels for case in self.cases if case.name in names]
        if len(cases) in (0, len(self.cases)):
            return self.means
        return {
            key: {
                name: mean
                if name.startswith(PREFIX)
                else nanmean([of_case[key][name] for of_case in cases])
                for name, mean in means.items()
            }
            for key, means in self.means.items()
        }


def file_name(file: str) -> str:
    """Returns the name of a file that may have been evaluated on another system.

    A Windows path may mix both separators; on other systems a backslash may be part of a name.
    """
    of_windows = PureWindowsPath(file)
    if os.name == "nt" or of_windows.drive or "/" not in file:
        return of_windows.name
    return file.rpartition("/")[2]


def nanmean(values: Sequence[float]) -> float:
    """Returns the mean of the values that are defined, NaN where none is."""
    known = [value for value in values if not isnan(value)]
    return float(np.mean(known)) if known else nan
