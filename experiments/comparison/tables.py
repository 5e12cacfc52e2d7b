"""The tables of the comparison, from the records alone.

A figure of a case is the mean over its labels. Over seeds it is averaged case by case, so that the
test, Wilcoxon's signed-rank test, sees each case once; the cases of a subject are averaged too. An
arm is compared with the control over the seeds that both have. Holm's correction is over all arms
of a data set, finished or not, of the primary outcome only: the Betti matching error after
post-processing of both.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.comparison.arms import ARMS, CONTROL, STAGES
from experiments.comparison.code import UNKNOWN
from experiments.comparison.data_sets import DATA_SETS
from experiments.comparison.training import PRIMARY
from nnunet_topo.evaluation.record import nanmean
from nnunet_topo.report.statistics import Difference, compare, fewest_cases, holm

KINDS = {
    "predicted": "predicted",
    "processed": "post-processed",
    "corrected": "`correct`",
    "refined": "`refine`",
}
REPAIRS = {"corrected", "refined"}  # by a known prior
HIGHER = {"Dice", "topo_cldice"}
TESTED = ("Dice", "topo_cldice", PRIMARY)
Records = Sequence[dict[str, Any]]
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
            arm: found
            for arm in ARMS
            if (found := [r for r in done if (r["data_set"], r["arm"]) == (data_set, arm)])
        }
        if of_arms:
            _check_cases(of_arms, data_set)
            lines += ["", f"### {data_set}", "", *_means(of_arms, data_set), ""]
            lines += [*_repaired(of_arms, data_set), *_tests(of_arms, data_set), *_codes(of_arms)]
    return "\n".join(lines)


def _check_cases(of_arms: Mapping[str, Records], data_set: str) -> None:
    """Raises ValueError if runs were tested on different cases."""
    runs = [record for records in of_arms.values() for record in records]
    for run in runs:
        if run["cases"].keys() != runs[0]["cases"].keys():
            raise ValueError(
                f"{data_set}: {run['arm']}, seed {run['seed']}, was tested on other cases than "
                f"{runs[0]['arm']}, seed {runs[0]['seed']}"
            )


def outcome(records: Records, data_set: str) -> Outcome:
    """Returns what the runs of an arm have given."""
    subject = DATA_SETS[data_set].subject
    values = {}
    first = next(iter(records[0]["cases"].values()))
    for kind in [kind for kind in KINDS if kind in first]:
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


def _means(of_arms: Mapping[str, Records], data_set: str) -> list[str]:
    outcomes = {arm: outcome(records, data_set) for arm, records in of_arms.items()}
    first = next(iter(outcomes.values()))
    metrics = [m for m in TITLES if ("predicted", m) in first.values]
    heads = [
        *(TITLES[m] for m in metrics),
        *(f"{TITLES[m]}, post-processed" for m in metrics if m != "topo_hd95_mm"),
    ]
    lines = [f"| arm | seeds | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for arm, of_arm in outcomes.items():
        cells = [_number(m, of_arm.values["predicted", m]) for m in metrics]
        cells += [_number(m, of_arm.values["processed", m]) for m in metrics if m != "topo_hd95_mm"]
        lines.append(f"| {arm} | {len(of_arm.seeds)} | {' | '.join(cells)} |")
    return lines


def _repaired(of_arms: Mapping[str, Records], data_set: str) -> list[str]:
    """Returns what a known prior gives to the predictions of each arm; nothing without one."""
    outcomes = {arm: outcome(records, data_set).values for arm, records in of_arms.items()}
    if not any(kind in REPAIRS for values in outcomes.values() for kind, _ in values):
        return []
    keys = [(kind, metric) for metric in TESTED for kind in KINDS]
    heads = [f"{TITLES[metric]}, {KINDS[kind]}" for kind, metric in keys]
    lines = [f"| arm | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for arm, values in outcomes.items():
        cells = [_number(key[1], values[key]) if key in values else "" for key in keys]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return [*lines, ""]


def _number(metric: str, values: NDArray[np.float64]) -> str:
    mean = nanmean(values.tolist())
    return f"{mean:.3f}" if metric in HIGHER else f"{mean:.3g}"


def _tests(of_arms: Mapping[str, Records], data_set: str) -> list[str]:
    """Returns the differences from the control over the seeds that both have."""
    rows: dict[str, tuple[list[int], dict[str, Difference]]] = {}
    left_out: dict[str, list[str]] = {}
    family = _planned(data_set) | (of_arms.keys() - {CONTROL})
    for arm in [arm for arm in ARMS if arm in family]:
        seeds, of_control = (_seeds(of_arms.get(name, [])) for name in (arm, CONTROL))
        if shared := sorted(seeds & of_control):
            rows[arm] = shared, _compare(of_arms, arm, shared, data_set)
        else:
            why = f"no seed that {CONTROL} has" if seeds else "no finished run"
            left_out.setdefault(why, []).append(arm)
    number = len(family)
    p_values = [row[PRIMARY].p for _, row in rows.values()]
    corrected = holm(p_values + [1.0] * (number - len(rows)))[: len(rows)]
    lines = [
        f"| arm against {CONTROL}, both post-processed | seeds | subjects | Betti matching error: "
        "difference, 95 % interval | better, worse | p | p, Holm | Dice: difference (p) | "
        "clDice: difference (p) |",
        "|---" * 9 + "|",
    ]
    for (arm, (seeds, row)), p_holm in zip(rows.items(), corrected, strict=True):
        primary = row[PRIMARY]
        others = [f"{row[m].mean:+.4f} ({row[m].p:.2g})" for m in ("Dice", "topo_cldice")]
        lines.append(
            f"| {arm} | {', '.join(map(str, seeds))} | {primary.pairs} | {primary.mean:+.3g} "
            f"({primary.low:.3g} to {primary.high:.3g}) | {primary.wins}, {primary.losses} | "
            f"{primary.p:.2g} | {p_holm:.2g} | {' | '.join(others)} |"
        )
    told = f"{len(rows)} of {number} arms are tested. Holm's correction is over all {number}."
    subjects = max((row[PRIMARY].pairs for _, row in rows.values()), default=0)
    if 0 < subjects < (fewest := fewest_cases(number)):
        told += (
            f" No difference can be shown, however large: that takes {fewest} subjects, and here "
            f"are {subjects}."
        )
    not_tested = [f"- not tested, {why}: {'; '.join(arms)}" for why, arms in left_out.items()]
    return [*(lines if rows else []), "", told, *not_tested]


def _planned(data_set: str) -> set[str]:
    runs = [run for stage in STAGES.values() for run in stage]
    return {run.arm for run in runs if run.data_set == data_set} - {CONTROL}


def _seeds(records: Records) -> set[int]:
    return {record["seed"] for record in records}


def _compare(
    of_arms: Mapping[str, Records], arm: str, seeds: Sequence[int], data_set: str
) -> dict[str, Difference]:
    own, control = (
        outcome([r for r in of_arms[name] if r["seed"] in seeds], data_set)
        for name in (arm, CONTROL)
    )
    kind = "processed"
    return {
        metric: compare(own.values[kind, metric], control.values[kind, metric], metric in HIGHER)
        for metric in TESTED
    }


def _codes(of_arms: Mapping[str, Records]) -> list[str]:
    """Names the runs by the code that made them."""
    runs: dict[str, list[str]] = {}
    for arm, records in of_arms.items():
        for record in records:
            code = " and ".join(record.get("code", [UNKNOWN]))
            runs.setdefault(code, []).append(f"{arm} (seed {record['seed']})")
    if len(runs) == 1:
        return ["", f"Code of all runs: {next(iter(runs))}."]
    named = [f"- {code}: {', '.join(of_code)}" for code, of_code in sorted(runs.items())]
    return ["", "These runs were made with different code:", *named]
