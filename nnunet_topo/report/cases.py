"""The metrics of one model, case by case and label by label."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

Metrics = Mapping[str, float]
"""Values by the name of the metric, NaN where one is undefined."""


@dataclass(frozen=True, slots=True)
class Cases:
    """The metrics of one model.

    Attributes:
        by_name: metrics of each case by the case's name, and in it by nnU-Net's key of the label.
    """

    by_name: Mapping[str, Mapping[str, Metrics]]

    def __len__(self) -> int:
        return len(self.by_name)

    @property
    def names(self) -> list[str]:
        """Returns the names of the cases, in their order."""
        return list(self.by_name)

    def metrics(self, case: str, label: str) -> Metrics:
        """Returns the metrics of a label in a case."""
        return self.by_name[case][label]

    def value(self, case: str, label: str, metric: str) -> float:
        """Returns one value, NaN where it is undefined or was not computed."""
        return self.by_name[case][label].get(metric, nan)

    def values(self, labels: Sequence[str], metric: str) -> NDArray[np.float64]:
        """Returns a metric `[label, case]`, NaN where it is undefined or was not computed."""
        rows = [
            [case[label].get(metric, nan) for case in self.by_name.values()] for label in labels
        ]
        return np.array(rows, dtype=float).reshape(len(labels), len(self))

    def metrics_of_label(self, label: str) -> list[Metrics]:
        """Returns the metrics of a label in each case."""
        return [case[label] for case in self.by_name.values()]

    def all_metrics(self) -> Iterator[Metrics]:
        """Yields the metrics of each label in each case."""
        for case in self.by_name.values():
            yield from case.values()

    def only(self, names: Iterable[str]) -> "Cases":
        """Returns some of the cases, in the given order."""
        return Cases({name: self.by_name[name] for name in names})
