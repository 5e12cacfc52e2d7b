"""What can be said about the metrics of several models on the same cases.

Wilcoxon: Individual Comparisons by Ranking Methods. Biometrics Bulletin 1945. Holm: A Simple
Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of Statistics 1979. Efron:
Bootstrap Methods. Annals of Statistics 1979 (percentile interval).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nnunet_topo.report.measures import MEASURES

LEVEL = 0.05
CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0

# Metrics of a model: case -> label -> metric -> value.
Cases = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Spread:
    """A metric of one model over all cases; NaN where nothing is defined.

    Attributes:
        cases: that have a value.
        undefined: that have none.
        mean: of the values.
        median: likewise.
        low: lower end of the bootstrap interval of the mean, NaN with fewer than two values.
        high: upper end.
    """

    cases: int
    undefined: int
    mean: float
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of one model less that of the first, over the cases in which both are defined.

    Attributes:
        pairs: how many cases that are.
        mean: of the differences.
        median: likewise.
        low: lower end of the bootstrap interval of the mean, NaN with fewer than two pairs.
        high: upper end.
        wins: cases in which the model is better than the first.
        ties: cases in which they are equal.
        losses: cases in which it is worse.
        tendency: 1 where the ranks speak for the model, -1 for the first, 0 for neither.
        p: of Wilcoxon's signed-rank test, two-sided; 1 if all pairs are equal, NaN with fewer
            than two.
        p_holm: the same, corrected for all tests of the table.
        improves: 1 where the mean is better than the first's, -1 where it is worse, else 0.
    """

    pairs: int
    mean: float
    median: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int
    tendency: int
    p: float
    p_holm: float
    improves: int

    @property
    def verdict(self) -> str:
        """Returns what may be claimed: better, worse, mixed, no difference shown, not tested.

        Mixed: the ranks and the mean of the differences point in opposite directions.
        """
        if isnan(self.p_holm):
            return "not tested"
        if self.p_holm >= LEVEL or not self.tendency:
            return "no difference shown"
        if self.improves == -self.tendency:
            return "mixed"
        return "better" if self.tendency > 0 else "worse"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: one label, one metric, one model.

    Attributes:
        label: nnU-Net's key of a label or region.
        metric: a key of `MEASURES`.
        model: its name.
        spread: of the values.
        difference: to the first model; None for the first itself.
    """

    label: str
    metric: str
    model: str
    spread: Spread
    difference: Difference | None


def make_table(
    models: Mapping[str, Cases], labels: Sequence[str], metrics: Sequence[str]
) -> list[Row]:
    """Returns the table of all models, p-values corrected over all of it.

    Args:
        models: the metrics of each model on the same cases; the first is compared with.
        labels: which labels, in this order.
        metrics: which metrics, in this order; one that no case has is left out.

    Raises:
        ValueError: an unknown metric, or cases that are not the same.
    """
    for metric in metrics:
        if metric not in MEASURES:
            raise ValueError(f"{metric!r} cannot be compared; choose from {', '.join(MEASURES)}")
    first, *others = models
    cases = list(models[first])
    for model in others:
        if models[model].keys() != models[first].keys():
            raise ValueError(f"{model} and {first} must have the same cases")
    rows = []
    for label in labels:
        for metric in metrics:
            if not any(metric in of[case][label] for of in models.values() for case in cases):
                continue
            values = {
                model: np.array([of[case][label].get(metric, nan) for case in cases], dtype=float)
                for model, of in models.items()
            }
            for model, of_model in values.items():
                difference = (
                    None
                    if model == first
                    else compare(of_model, values[first], MEASURES[metric].higher_is_better)
                )
                rows.append(Row(label, metric, model, describe(of_model), difference))
    return _correct(rows)


def describe(values: NDArray[np.float64]) -> Spread:
    """Returns mean, median and interval of the values that are defined."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Spread(0, len(values), nan, nan, nan, nan)
    low, high = bootstrap_interval(known)
    mean, median = float(np.mean(known)), float(np.median(known))
    return Spread(len(known), len(values) - len(known), mean, median, low, high)


def compare(
    values: NDArray[np.float64], of_first: NDArray[np.float64], higher_is_better: bool
) -> Difference:
    """Returns how the values of a model differ from those of the first, case by case.

    `p_holm` is `p` as long as this is the only test.
    """
    # Rounded: equal differences must stay equal, or rounding errors break the ties of the ranks.
    differences = np.round(values - of_first, 12)
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return Difference(0, nan, nan, nan, nan, 0, 0, 0, 0, nan, nan, 0)
    better = differences if higher_is_better else -differences
    low, high = bootstrap_interval(differences)
    ranks = stats.rankdata(np.abs(better[better != 0]))
    p = signed_rank_p(differences)
    return Difference(
        pairs=len(differences),
        mean=float(np.mean(differences)),
        median=float(np.median(differences)),
        low=low,
        high=high,
        wins=int(np.count_nonzero(better > 0)),
        ties=int(np.count_nonzero(better == 0)),
        losses=int(np.count_nonzero(better < 0)),
        tendency=int(np.sign(np.sum(np.sign(better[better != 0]) * ranks))),
        p=p,
        p_holm=p,
        improves=int(np.sign(np.round(np.mean(better), 12))),
    )


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """Returns the two-sided p-value of Wilcoxon's signed-rank test; zeros take no part in it.

    1 where all differences are zero, NaN where there are fewer than two.
    """
    if len(differences) < 2:
        return nan
    nonzero = differences[differences != 0]
    return float(stats.wilcoxon(nonzero).pvalue) if len(nonzero) else 1.0


def bootstrap_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the percentile interval of the mean, by resampling the cases; NaN for one value."""
    if len(values) < 2:
        return nan, nan
    rng = np.random.default_rng(SEED)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    outside = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [outside, 100 - outside])
    return float(low), float(high)


def fewest_cases(tests: int) -> int:
    """Returns how many cases it takes before one of so many tests can show any difference.

    The smallest p-value of n cases is 2 / 2^n, all of them different in the same direction, and
    Holm's correction multiplies the smallest one by the number of tests.
    """
    cases = 1
    while tests * 2 / 2**cases >= LEVEL:
        cases += 1
    return cases


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected by Holm's step-down procedure."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()


def _correct(rows: list[Row]) -> list[Row]:
    """Corrects over all tests that were made."""
    tested = [
        index
        for index, row in enumerate(rows)
        if row.difference is not None and not isnan(row.difference.p)
    ]
    differences = [rows[index].difference for index in tested]
    corrected = holm([difference.p for difference in differences if difference is not None])
    rows = list(rows)
    for index, difference, p_holm in zip(tested, differences, corrected, strict=True):
        assert difference is not None  # by the choice of `tested`
        rows[index] = replace(rows[index], difference=replace(difference, p_holm=p_holm))
    return rows
