"""The tables of the experiment, ours beside the paper's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar

from experiments.clough_mnist.experiment import MSE_UNIT, unpacked
from experiments.clough_mnist.refinement import FORMS
from experiments.shared import wilcoxon_p

# Table 1 of the paper: m -> accuracy before and after, mean squared error before and after.
PAPER = {
    2: (0.957, 0.962, 0.008, 0.008),
    4: (0.929, 0.937, 0.014, 0.013),
    6: (0.876, 0.908, 0.023, 0.023),
    8: (0.804, 0.860, 0.037, 0.028),
    10: (0.704, 0.750, 0.032, 0.033),
    12: (0.569, 0.630, 0.043, 0.042),
}


def tables(results: dict[str, Any]) -> str:
    """Returns the tables in Markdown, ours beside the paper's; * marks p < 0.05, uncorrected."""
    of_lines = [(int(lines), found) for lines, found in results["lines"].items()]
    head = "| m | digits | restored |" + "".join(f" {form} | p |" for form in FORMS)
    rule = "|---" * (3 + 2 * len(FORMS))
    accuracy = [f"{head} paper, restored | paper, refined |", f"{rule}|---|---|"]
    error = [accuracy[0], accuracy[1]]
    names = ["before", *FORMS, *(f"{form}, stopped" for form in FORMS)]
    titles = ["restored", *FORMS, *(f"{form}, stopped" for form in FORMS)]
    right = ["| m | " + " | ".join(titles) + " |", "|---" * (1 + len(titles)) + "|"]
    stopped = list(right)
    told = [right[0].replace("| m |", "| m | corrupted |"), right[1] + "---|"]
    for lines, found in of_lines:
        labels = unpacked(found["label"])
        correct = {name: unpacked(found[name]["digit"]) == labels for name in names}
        mse = {name: np.array(found[name]["mse"]) * MSE_UNIT for name in names}
        paper = PAPER[lines]
        accuracy.append(
            f"| {lines} | {len(labels)} | {_percent(correct['before'])} |"
            + "".join(
                f" {_percent(correct[form])}{_p(mcnemar_p(correct['before'], correct[form]))} |"
                for form in FORMS
            )
            + f" {paper[0]:.1%} | {paper[1]:.1%} |"
        )
        error.append(
            f"| {lines} | {len(labels)} | {mse['before'].mean():.4f} |"
            + "".join(
                f" {mse[form].mean():.4f}{_p(wilcoxon_p(mse[form] - mse['before']))} |"
                for form in FORMS
            )
            + f" {paper[2]:.3f} | {paper[3]:.3f} |"
        )
        right.append(_row(lines, [unpacked(found[name]["right"]) for name in names]))
        stopped.append(_row(lines, [correct[name] for name in names]))
        told.append(
            _row(
                lines,
                [
                    unpacked(found[name]["digit_of_topology"]) == labels
                    for name in ("corrupted", *names)
                ],
            )
        )
    return "\n".join(
        [
            "Accuracy, McNemar's exact test against restored:\n",
            *accuracy,
            "\nMean squared error, Wilcoxon's signed-rank test against restored:\n",
            *error,
            "\nBetti numbers right at 0.5:\n",
            *right,
            "\nAccuracy, also when stopped as soon as the Betti numbers are right:\n",
            *stopped,
            "\nAccuracy among the digits of the true topology:\n",
            *told,
            "",
            *(_together(results["lines"], form) for form in FORMS),
        ]
    )


def _together(of_lines: dict[str, Any], form: str) -> str:
    """Returns the tests over all numbers of lines, paired by digit."""
    shared = min(len(found["label"]) for found in of_lines.values())
    before, after = (
        np.mean(
            [
                unpacked(found[name]["digit"][:shared]) == unpacked(found["label"][:shared])
                for found in of_lines.values()
            ],
            axis=0,
        )
        for name in ("before", form)
    )
    return (
        f"All m, the first {shared} digits, {form}: accuracy {_percent(before)} restored, "
        f"{_percent(after)} refined, p = {wilcoxon_p(after - before):.2g} (Wilcoxon over digits)"
    )


def mcnemar_p(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """Returns the two-sided p-value of McNemar's exact test, 1 if nothing differs."""
    counts = [[np.sum(before & after), np.sum(before & ~after)],
              [np.sum(~before & after), np.sum(~before & ~after)]]  # fmt: skip
    return float(mcnemar(counts, exact=True).pvalue)


def _percent(shares: NDArray[Any]) -> str:
    return f"{np.mean(shares):.1%}"


def _p(p: float) -> str:
    return f"{'*' if p < 0.05 else ''} | {p:.2g}"


def _row(lines: int, columns: Sequence[NDArray[Any]]) -> str:
    return f"| {lines} | " + " | ".join(_percent(column) for column in columns) + " |"
