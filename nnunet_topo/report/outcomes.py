"""The primary outcome, tested on its own, and the secondary outcomes, corrected as a family."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.report.cases import Cases, Metrics
from nnunet_topo.report.measures import MEASURES, PRESENCE_METRICS
from nnunet_topo.report.statistics import Difference, Spread, compare, describe, holm

Family = Literal["primary", "secondary"]
ALL_LABELS = "mean"  # stands in a row where the key of a label would be
_ByLabel = NDArray[np.float64]  # [label, case]
_Numbers = NDArray[np.intp]  # [case], of the patient


@dataclass(frozen=True, slots=True)
class Presence:
    """How often a model segments a structure that is absent, or misses one that is present.

    A structure is a label or region of a case.

    Attributes:
        there: structures in the references.
        missed: those among them without a voxel in the prediction.
        absent: structures that the references do not have.
        invented: those among them with voxels in the prediction.
    """

    there: int
    missed: int
    absent: int
    invented: int


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: one label or the mean over all, one metric, one model.

    Attributes:
        label: nnU-Net's key of a label or region, or `ALL_LABELS`.
        metric: a key of `MEASURES`.
        model: its name.
        spread: of the values.
        difference: to the first model; None for the first itself.
        family: of tests that are corrected together.
        presence: counts of the structures of these labels, the same for all metrics.
    """

    label: str
    metric: str
    model: str
    spread: Spread
    difference: Difference | None
    family: Family
    presence: Presence


def make_table(
    models: Mapping[str, Cases],
    labels: Sequence[str],
    metrics: Sequence[str],
    *,
    primary: str | None = None,
    missing: float | None = None,
    patients: Sequence[str] | None = None,
) -> list[Row]:
    """Returns the table of all models: the primary outcome, means over labels, single labels.

    The primary outcome is the mean of one metric over labels. Its p-values are corrected for the
    number of models only, all others for one another. A single label has no separate mean.

    With patients, each has one value, the mean of the patient's cases: their spread is described,
    and they are tested and counted as better, equal and worse.

    Args:
        models: the metrics of each model on the same cases; the first is compared with.
        labels: which labels, in this order.
        metrics: which metrics, in this order; one that no case has is left out. Those of
            `PRESENCE_METRICS` have no lines for single labels, and need `add_presence`.
        primary: metric of the primary outcome, None for none.
        missing: distance that counts where a model misses a structure, None to leave it undefined.
        patients: of the cases in the first model's order; None if each case is one.

    Raises:
        ValueError: an unknown metric, cases that are not the same, a primary outcome that no case
            has.
    """
    order = [] if primary is None else [primary]
    for metric in metrics:
        order += [metric] if metric not in order else []
    for metric in order:
        check_metric(metric)
    first, *others = models
    for model in others:
        if set(models[model].names) != set(models[first].names):
            raise ValueError(f"{model} and {first} must have the same cases")
    models = {model: of.only(models[first].names) for model, of in models.items()}
    numbers = _numbers(range(len(models[first])) if patients is None else patients)
    found = [metric for metric in order if any(_has(of, metric) for of in models.values())]
    if primary is not None and primary not in found:
        raise ValueError(f"no case has {primary}, so it cannot be the primary outcome")
    rows = []
    for metric in found:
        lines = _lines(models, labels, metric, missing, numbers)
        rows += [replace(row, family="primary") if metric == primary else row for row in lines]
    for label in labels if len(labels) > 1 else ():
        for metric in found:
            if metric not in PRESENCE_METRICS:
                rows += _lines(models, [label], metric, missing, numbers, key=label)
    return _correct(_correct(rows, "primary"), "secondary")


def check_metric(metric: str) -> None:
    """Raises ValueError if a metric cannot be compared."""
    if metric not in MEASURES:
        raise ValueError(f"{metric!r} cannot be compared; choose from {', '.join(MEASURES)}")


def add_presence(cases: Cases) -> Cases:
    """Returns the metrics with `topo_missed` and `topo_invented` added.

    Each is 1 or 0 if it could happen, else NaN.
    """
    return Cases(
        {
            case: {label: {**values, **_presence(values)} for label, values in labels.items()}
            for case, labels in cases.by_name.items()
        }
    )


def _presence(values: Metrics) -> dict[str, float]:
    in_reference, in_prediction = (values.get(key, nan) for key in ("n_ref", "n_pred"))
    if isnan(in_reference) or isnan(in_prediction):
        return dict.fromkeys(PRESENCE_METRICS, nan)
    if in_reference:
        return {"topo_missed": float(not in_prediction), "topo_invented": nan}
    return {"topo_missed": nan, "topo_invented": float(in_prediction > 0)}


def count_presence(cases: Cases, labels: Sequence[str]) -> Presence:
    """Returns the counts of a model over some labels; the cases are those of `add_presence`."""
    missed, invented = (cases.values(labels, key) for key in PRESENCE_METRICS)
    return Presence(
        int(np.count_nonzero(~np.isnan(missed))),
        int(np.nansum(missed)),
        int(np.count_nonzero(~np.isnan(invented))),
        int(np.nansum(invented)),
    )


def mean_over_labels(values: _ByLabel) -> NDArray[np.float64]:
    """Returns the mean of the labels that are defined, for each case; NaN where none is."""
    known = np.count_nonzero(~np.isnan(values), axis=0)
    return np.where(known, np.nansum(values, axis=0) / np.maximum(known, 1), nan)


def _numbers(patients: Iterable[Hashable]) -> _Numbers:
    """Returns the number of each case's patient, in the order in which they appear."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(p, len(numbers)) for p in patients], dtype=np.intp)


def _mean_over_cases(values: NDArray[np.float64], patients: _Numbers) -> NDArray[np.float64]:
    """Returns the mean of each patient's cases that are defined, NaN where none is."""
    known = ~np.isnan(values)
    counts = np.bincount(patients, known)
    sums = np.bincount(patients, np.where(known, values, 0))
    return np.where(counts, sums / np.maximum(counts, 1), nan)


def values_by_label(
    cases: Cases, labels: Sequence[str], metric: str, missing: float | None = None
) -> _ByLabel:
    """Returns a metric `[label, case]`, NaN where it is undefined.

    Args:
        cases: those of `add_presence`.
        labels: which labels.
        metric: a key of `MEASURES`.
        missing: distance that counts where a structure is missed, None to leave it undefined.
    """
    values = cases.values(labels, metric)
    if missing is not None and MEASURES[metric].is_distance:
        values[cases.values(labels, "topo_missed") == 1] = missing
    return values


def _has(cases: Cases, metric: str) -> bool:
    """Returns whether a metric exists; for `PRESENCE_METRICS` a value must be defined."""
    found = [values[metric] for values in cases.all_metrics() if metric in values]
    return bool(found) and (metric not in PRESENCE_METRICS or not all(map(isnan, found)))


def _lines(
    models: Mapping[str, Cases],
    labels: Sequence[str],
    metric: str,
    missing: float | None,
    patients: _Numbers,
    *,
    key: str | None = None,
) -> list[Row]:
    """Returns a secondary line for each model, of one label or of the mean over several."""
    key = key or (labels[0] if len(labels) == 1 else ALL_LABELS)
    first = next(iter(models))
    values = {m: values_by_label(of, labels, metric, missing) for m, of in models.items()}
    presence = {m: count_presence(of, labels) for m, of in models.items()}
    rows = []
    for model, of_model in values.items():
        difference = None
        if model != first:
            unpaid = [
                _unpaid(metric, [values[m] for m in (model, first)], wrong)
                for wrong in (
                    [models[m].values(labels, kind) == 1 for m in (model, first)]
                    for kind in PRESENCE_METRICS
                )
            ]
            difference = _compare(metric, of_model, values[first], patients, *unpaid)
        of_cases = mean_over_labels(of_model)
        spread = describe(_mean_over_cases(of_cases, patients), MEASURES[metric].limits)
        spread = replace(spread, undefined=int(np.count_nonzero(np.isnan(of_cases))))
        rows.append(Row(key, metric, model, spread, difference, "secondary", presence[model]))
    return rows


def _compare(
    metric: str,
    of_model: _ByLabel,
    of_first: _ByLabel,
    patients: _Numbers,
    missed: int,
    invented: int,
) -> Difference:
    """Returns the difference of the means over the labels that both models have defined."""
    both = ~(np.isnan(of_model) | np.isnan(of_first))
    of_cases = (mean_over_labels(np.where(both, of, nan)) for of in (of_model, of_first))
    own, other = (_mean_over_cases(of, patients) for of in of_cases)
    better = MEASURES[metric].higher_is_better
    return compare(own, other, better, missed=missed, invented=invented)


def _unpaid(metric: str, values: Sequence[_ByLabel], wrong: Sequence[NDArray[np.bool_]]) -> int:
    """Returns how many more structures than the first a model gets wrong without a worse value.

    A value is worse if the metric is worse than the first's in that case, or as bad as it can be. A
    distance is never worse enough: its value is undefined, and `--missing-mm` is the user's choice.

    Args:
        metric: a key of `MEASURES`.
        values: of the model and of the first.
        wrong: where each has missed, or has invented, a structure.
    """
    measure = MEASURES[metric]
    sign = 1 if measure.higher_is_better else -1
    counts = []
    for (own, other), (of_own, of_other) in ((values, wrong), (values[::-1], wrong[::-1])):
        alone = of_own & ~of_other
        worst = own == measure.limits[0 if measure.higher_is_better else 1]
        pays = (sign * np.round(own - other, 12) < 0) | worst  # False if either is undefined
        counts.append(np.count_nonzero((alone & ~pays) | (alone & measure.is_distance)))
    return int(counts[0] - counts[1])


def _correct(rows: Sequence[Row], family: Family) -> list[Row]:
    """Corrects over all tests of a family that were made."""
    corrected = list(rows)
    tested = [
        index
        for index, row in enumerate(rows)
        if row.family == family and row.difference is not None and not isnan(row.difference.p)
    ]
    differences = [row.difference for row in (rows[index] for index in tested) if row.difference]
    p_values = holm([difference.p for difference in differences])
    for index, difference, p_holm in zip(tested, differences, p_values, strict=True):
        corrected[index] = replace(rows[index], difference=replace(difference, p_holm=p_holm))
    return corrected
