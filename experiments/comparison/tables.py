"""The tables of the comparison, from the records alone.

A figure of a case is the mean over its labels. Over seeds it is averaged case by case, so that the
test, Wilcoxon's signed-rank test, sees each case once; the cases of a subject are averaged too.
Holm's correction is over the arms of a data set, of the primary outcome only: the Betti matching
error after post-processing of both.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.comparison.arms import ARMS, CONTROL
from experiments.comparison.data_sets import DATA_SETS
from experiments.comparison.training import PRIMARY
from nnunet_topo.evaluation.record import nanmean
from nnunet_topo.report.statistics import compare, holm

KINDS = ("predicted", "processed")
HIGHER = {"Dice", "topo_cldice"}
TITLES = {
    "Dice": "Dice",
    "topo_cldice": "clDice",
    PRIMARY: "Betti matching error",
    "topo_betti_error_0": "Betti error 0",
    "topo_betti_error_1": "Betti error 1",
    "topo_betti_error_2": "Betti error 2",
    "topo_hd95_mm": "HD95",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """An arm on a data set.

    Attributes:
        seeds: of its runs.
        values: by kind and metric, one of each subject.
    """

    seeds: tuple[int, ...]
    values: dict[tuple[str, str], NDArray[np.float64]]


def tables(results: Path) -> str:
    """Returns all tables."""
    records = [json.loads(file.read_text()) for file in sorted(results.glob("*.json"))]
    failed = [record for record in records if "failed" in record]
    done = [record for record in records if "failed" not in record]
    seconds = sum(sum(record["seconds"]) for record in done)
    lines = [
        f"{len(records)} runs, {len(failed)} failed, {seconds / 3600:.1f} hours of one core",
        "",
    ]
    lines += [
        f"- failed: {r['data_set']}, {r['arm']}, seed {r['seed']}: {r['failed']}" for r in failed
    ]
    for data_set in DATA_SETS:
        of_arms = {
            arm: outcome(
                [r for r in done if (r["data_set"], r["arm"]) == (data_set, arm)], data_set
            )
            for arm in ARMS
            if any((r["data_set"], r["arm"]) == (data_set, arm) for r in done)
        }
        if of_arms:
            lines += ["", f"### {data_set}", "", *_means(of_arms), "", *_tests(of_arms)]
    return "\n".join(lines)


def outcome(records: Sequence[dict[str, Any]], data_set: str) -> Outcome:
    """Returns what the runs of an arm have given."""
    subject = DATA_SETS[data_set].subject
    values = {}
    for kind in KINDS:
        for metric in records[0]["metrics"]:
            of_seeds = [_of_subjects(record, kind, metric, subject) for record in records]
            values[kind, metric] = np.apply_along_axis(nanmean, 0, np.asarray(of_seeds, float))
    return Outcome(tuple(record["seed"] for record in records), values)


def _of_subjects(record: dict[str, Any], kind: str, metric: str, subject) -> list[float]:
    index = record["metrics"].index(metric)
    found: dict[str, list[float]] = {}
    for case, of_kinds in sorted(record["cases"].items()):
        of_labels = [nan if of[index] is None else of[index] for of in of_kinds[kind].values()]
        found.setdefault(subject(case), []).append(nanmean(of_labels))
    return [nanmean(values) for values in found.values()]


def _means(of_arms: dict[str, Outcome]) -> list[str]:
    first = next(iter(of_arms.values()))
    metrics = [m for m in TITLES if ("predicted", m) in first.values]
    heads = [
        *(TITLES[m] for m in metrics),
        *(f"{TITLES[m]}, post-processed" for m in metrics if m != "topo_hd95_mm"),
    ]
    lines = [f"| arm | seeds | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for arm, of_arm in of_arms.items():
        cells = [_number(m, of_arm.values["predicted", m]) for m in metrics]
        cells += [_number(m, of_arm.values["processed", m]) for m in metrics if m != "topo_hd95_mm"]
        lines.append(f"| {arm} | {len(of_arm.seeds)} | {' | '.join(cells)} |")
    return lines


def _number(metric: str, values: NDArray[np.float64]) -> str:
    mean = nanmean(values.tolist())
    return f"{mean:.3f}" if metric in HIGHER else f"{mean:.3g}"


def _tests(of_arms: dict[str, Outcome]) -> list[str]:
    """Returns the differences from the control over the seeds that both have."""
    if CONTROL not in of_arms:
        return []
    control = of_arms[CONTROL]
    rows = {}
    for arm, of_arm in of_arms.items():
        if arm == CONTROL or of_arm.seeds != control.seeds:
            continue
        rows[arm] = {
            metric: compare(
                of_arm.values["processed", metric],
                control.values["processed", metric],
                metric in HIGHER,
            )
            for metric in ("Dice", "topo_cldice", PRIMARY)
        }
    corrected = holm([row[PRIMARY].p for row in rows.values()])
    lines = [
        f"| arm against {CONTROL}, both post-processed | subjects | Betti matching error: "
        "difference, 95 % interval | better, worse | p | p, Holm | Dice: difference (p) | "
        "clDice: difference (p) |",
        "|---" * 8 + "|",
    ]
    for (arm, row), p_holm in zip(rows.items(), corrected, strict=True):
        primary = row[PRIMARY]
        others = [f"{row[m].mean:+.4f} ({row[m].p:.2g})" for m in ("Dice", "topo_cldice")]
        lines.append(
            f"| {arm} | {primary.pairs} | {primary.mean:+.3g} ({primary.low:.3g} to "
            f"{primary.high:.3g}) | {primary.wins}, {primary.losses} | {primary.p:.2g} | "
            f"{p_holm:.2g} | {' | '.join(others)} |"
        )
    return lines
