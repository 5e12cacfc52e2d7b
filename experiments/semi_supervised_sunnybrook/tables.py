"""The tables of the experiment, beside Table 2 of the paper."""

import numpy as np
from numpy.typing import NDArray

from experiments.shared import wilcoxon_p

SCORES, OURS = ("dice", "correct"), "prior"
ARMS = {
    "supervised": "Supervised",
    "component": "Supervised + largest component",
    "closing": "Supervised + closing",
    "closing_component": "Supervised + closing + largest component",
    "crf": "Supervised + CRF",
    "self": "Self-training",
    "prior": "Topological prior",
    "prior_component": "Topological prior + largest component",
}
# Dice and share of correct topology, in %, by m and labelled images: Table 2 of the paper.
PAPER = {
    "supervised": {20: ("67.9 / 42.1", "76.3 / 59.8", "82.1 / 74.0"),
                   60: ("62.0 / 25.8", "70.8 / 58.3", "76.9 / 67.6")},
    "closing": {20: ("68.2 / 53.8", "76.2 / 71.3", "81.7 / 81.4"),
                60: ("62.9 / 44.4", "70.8 / 66.9", "76.9 / 76.9")},
    "crf": {20: ("67.4 / 38.1", "76.1 / 52.9", "81.9 / 69.7"),
            60: ("61.7 / 22.0", "70.4 / 52.0", "76.4 / 61.3")},
    "self": {20: ("74.7 / 57.4", "78.6 / 68.1", "83.6 / 80.8"),
             60: ("67.3 / 48.4", "73.3 / 60.9", "78.2 / 71.3")},
    "prior": {20: ("74.3 / 67.1", "79.1 / 80.5", "83.5 / 88.1"),
              60: ("68.6 / 62.0", "74.3 / 75.6", "78.6 / 85.7")},
}  # fmt: skip


def table(record: dict[str, dict]) -> str:
    """Returns Markdown tables of the recorded results, beside the paper's."""
    lines = []
    for removed, of_labelled in _settings(record).items():
        heads = [f"{n} labelled ({len(seeds)} seeds)" for n, seeds in of_labelled.items()]
        lines += [
            f"m = {removed}, Dice / correct topology in %, mean ± standard error over seeds",
            "",
        ]
        lines += ["| arm | " + " | ".join(heads) + " | paper: 10, 20, 40 labelled |"]
        lines += ["|---" * (len(heads) + 2) + "|"]
        for arm, name in _arms(record):
            cells = [_cell(seeds, arm) for seeds in of_labelled.values()]
            theirs = ", ".join(PAPER[arm][removed]) if arm in PAPER else "none"
            lines.append(f"| {name} | " + " | ".join(cells) + f" | {theirs} |")
        lines.append("")
    return "\n".join(lines)


def tests(record: dict[str, dict], group: str) -> str:
    """Returns Wilcoxon's tests of the prior against the other arms.

    Args:
        record: what has been recorded.
        group: what results are kept by: patient or slice.
    """
    lines = [
        f"The {ARMS[OURS].lower()} against the other arms: mean difference in points (p of the "
        f"two-sided Wilcoxon test; a pair is one test {group} of one seed)",
        "",
        "| m, labelled | against | pairs | Dice | correct topology |",
        "|---|---|---|---|---|",
    ]
    for removed, of_labelled in _settings(record).items():
        for labelled, seeds in of_labelled.items():
            for arm, name in _arms(record):
                if arm == OURS:
                    continue
                pairs = [
                    np.subtract(*(_by_group(seeds, a, key) for a in (OURS, arm))) for key in SCORES
                ]
                lines.append(f"| {removed}, {labelled} | {name} | {_tested(pairs)} |")
    for arm, name in _arms(record):
        if arm != OURS:
            lines.append(f"| all, mean of each {group} | {name} | {_tested(_means(record, arm))} |")
    return "\n".join(lines)


def _tested(pairs: list[NDArray]) -> str:
    """Returns the cells of a line of `tests`, for the differences in both scores."""
    cells = [f"{100 * score.mean():+.1f} (p {wilcoxon_p(score):.2g})" for score in pairs]
    return f"{len(pairs[0])} | {' | '.join(cells)}"


def _means(record: dict[str, dict], arm: str) -> list[NDArray]:
    """Returns the differences of both scores, mean of each group over all settings it tests in."""
    differences: list[dict[str, list[float]]] = [{} for _ in SCORES]
    for setting in record.values():
        for key, of_group in zip(SCORES, differences, strict=True):
            ours, theirs = (setting["arms"][a][key] for a in (OURS, arm))
            for group in ours.keys() - {"all"}:
                of_group.setdefault(group, []).append(ours[group] - theirs[group])
    return [np.array([np.mean(v) for _, v in sorted(g.items())]) for g in differences]


def _settings(record: dict[str, dict]) -> dict[int, dict[int, list[dict]]]:
    """Returns the results of all seeds, by removed lines and by labelled slices."""
    found: dict[int, dict[int, list[dict]]] = {}
    for key, setting in record.items():
        _, labelled, removed = (int(words.split()[-1]) for words in key.split(", "))
        found.setdefault(removed, {}).setdefault(labelled, []).append(setting)
    return {removed: dict(sorted(found[removed].items())) for removed in sorted(found)}


def _arms(record: dict[str, dict]) -> list[tuple[str, str]]:
    """Returns key and name of the arms that all settings have."""
    return [
        (arm, name)
        for arm, name in ARMS.items()
        if all(arm in setting["arms"] for setting in record.values())
    ]


def _by_group(seeds: list[dict], arm: str, key: str) -> list[float]:
    return [v for seed in seeds for group, v in seed["arms"][arm][key].items() if group != "all"]


def _cell(seeds: list[dict], arm: str) -> str:
    figures = []
    for key in SCORES:
        values = [100 * seed["arms"][arm][key]["all"] for seed in seeds]
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        figures.append(f"{np.mean(values):.1f} ± {error:.1f}")
    return " / ".join(figures)
