"""What can be said about one metric of two models on the same cases.

Student: The Probable Error of a Mean. Biometrika 1908 (t interval). Wilcoxon: Individual
Comparisons by Ranking Methods. Biometrics Bulletin 1945. Holm: A Simple
Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of Statistics 1979. Efron:
Bootstrap Methods. Annals of Statistics 1979 (percentile interval). Kerby: The Simple Difference
Formula. Comprehensive Psychology 2014 (rank-biserial correlation). Pratt: Remarks on Zeros and Ties
in the Wilcoxon Signed Rank Procedures. JASA 1959 (ranks of zeros).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf, isnan, nan

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0
MOST_EXACT = 50  # differences, as in SciPy without ties
FEWEST_RESAMPLED = 20  # cases; the bootstrap interval of fewer is too narrow

VERDICTS = (
    *("better", "worse", "not called better", "not called worse", "mixed"),
    *("no difference shown", "not tested"),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """A metric of one model over all cases; NaN where nothing is defined.

    Attributes:
        cases: that have a value; with patients, patients that have one.
        undefined: cases that have none.
        mean: of the values.
        median: of the same.
        low: lower end of the interval of the mean, NaN with fewer than three values.
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
    """A metric of one model minus that of the first, over the cases in which both are defined.

    With patients, it is that of each patient's mean, and cases below are patients.

    Attributes:
        pairs: number of these cases.
        mean: of the differences.
        median: of the same.
        low: lower end of the interval of the mean, NaN with fewer than three pairs.
        high: upper end.
        wins: cases in which the model is better than the first.
        ties: cases in which they are equal.
        losses: cases in which it is worse.
        tendency: 1 if the ranks favour the model, -1 if they favour the first, else 0.
        p: of Wilcoxon's signed-rank test, two-sided; 1 if all pairs are equal, NaN with fewer
            than two.
        p_holm: the same, corrected for all tests of its family.
        improves: 1 if the mean is better than the first's, -1 if it is worse, else 0.
        effect: matched-pairs rank-biserial correlation, from -1 to 1, above 0 if the model is
            better; equal pairs count for neither (Pratt's ranks). NaN without pairs.
        missed: how many more structures than the first the model misses without a worse value of
            this metric; below 0, the first misses more.
        invented: the same for structures that the reference does not have.
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
    effect: float = nan
    missed: int = 0
    invented: int = 0

    @property
    def verdict(self) -> str:
        """Returns what may be claimed, one of `VERDICTS`.

        Mixed: the ranks and the mean of the differences point in opposite directions. Not called
        better: the model misses or invents more structures, and the metric does not count them.
        """
        if isnan(self.p_holm):
            return "not tested"
        if self.p_holm >= LEVEL or not self.tendency:
            return "no difference shown"
        if self.improves == -self.tendency:
            return "mixed"
        if self.tendency > 0:
            return "not called better" if self.missed > 0 or self.invented > 0 else "better"
        return "not called worse" if self.missed < 0 or self.invented < 0 else "worse"


def describe(values: NDArray[np.float64], limits: tuple[float, float] = (-inf, inf)) -> Spread:
    """Returns mean, median and interval of the values that are defined.

    Args:
        values: of all cases, NaN where undefined.
        limits: lowest and highest possible value; the interval ends there.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return Spread(0, len(values), nan, nan, nan, nan)
    low, high = np.clip(interval_of_mean(known), *limits).tolist()
    mean, median = float(np.mean(known)), float(np.median(known))
    return Spread(len(known), len(values) - len(known), mean, median, low, high)


def compare(
    values: NDArray[np.float64],
    of_first: NDArray[np.float64],
    higher_is_better: bool,
    *,
    missed: int = 0,
    invented: int = 0,
) -> Difference:
    """Returns how the values of a model differ from those of the first, case by case.

    `p_holm` is `p` as long as this is the only test; `missed` and `invented` are as in
    `Difference`.
    """
    # Rounded: equal differences must stay equal, or rounding errors break the ties of the ranks.
    differences = np.round(values - of_first, 12)
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        nothing = Difference(0, nan, nan, nan, nan, 0, 0, 0, 0, nan, nan, 0)
        return replace(nothing, missed=missed, invented=invented)
    better = differences if higher_is_better else -differences
    low, high = interval_of_mean(differences)
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
        effect=rank_biserial(better),
        missed=missed,
        invented=invented,
    )


def rank_biserial(differences: NDArray[np.float64]) -> float:
    """Returns the matched-pairs rank-biserial correlation of differences that are all defined.

    The sum of the ranks above zero minus the sum below, divided by the sum of all ranks. Zeros have
    ranks too, and count for neither side: one better case of fifty is a small effect.
    """
    ranks = stats.rankdata(np.abs(differences))
    return float(np.sum(np.sign(differences) * ranks) / np.sum(ranks))


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """Returns the two-sided p-value of Wilcoxon's signed-rank test, without zero differences.

    Exact for up to `MOST_EXACT` differences, also with ties: all signs of the ranks are counted.
    For more differences, SciPy's normal approximation. 1 if all differences are zero, NaN for fewer
    than two.
    """
    if len(differences) < 2:
        return nan
    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 1.0
    if len(nonzero) > MOST_EXACT:
        return float(stats.wilcoxon(nonzero).pvalue)
    doubled = np.rint(2 * stats.rankdata(np.abs(nonzero))).astype(int)  # ties have halves
    chances = np.ones(1)  # of each sum of the ranks above zero
    for rank in doubled:
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    above = int(doubled[nonzero > 0].sum())
    return float(min(1.0, 2 * min(chances[: above + 1].sum(), chances[above:].sum())))


def interval_of_mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of values that are all defined.

    The percentile interval of resampled cases; of fewer than `FEWEST_RESAMPLED` cases Student's t
    interval, because resampling three cases covers the mean of normal values in 75 %, not 95 %. NaN
    for fewer than three: the interval of two is nine times as wide as they lie apart.
    """
    number = len(values)
    if number < 3:
        return nan, nan
    if number < FEWEST_RESAMPLED:
        mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(number)
        reach = stats.t.ppf((1 + CONFIDENCE) / 2, number - 1) * error
        return float(mean - reach), float(mean + reach)
    means = _resamples(number) @ values
    outside = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [outside, 100 - outside])
    return float(low), float(high)


@lru_cache(maxsize=2)  # most metrics of a comparison have the same number of cases
def _resamples(number: int) -> NDArray[np.float64]:
    """Returns how often each case is in each resample, as a share of all cases."""
    drawn = np.random.default_rng(SEED).integers(0, number, (RESAMPLES, number))
    places = drawn + number * np.arange(RESAMPLES)[:, np.newaxis]
    counts = np.bincount(places.ravel(), minlength=RESAMPLES * number)
    return counts.reshape(RESAMPLES, number) / number


def fewest_cases(tests: int) -> int:
    """Returns the smallest number of cases with which one of `tests` tests can show a difference.

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
