"""The tables of the experiment, beside Table 2 of the paper."""

import numpy as np

from experiments.shared import wilcoxon_p

LABELLED, REMOVED = (10, 20, 40), (20, 60)
ARMS = {
    "supervised": "Supervised",
    "component": "Supervised + largest component",
    "closing": "Supervised + closing",
    "self": "Self-training",
    "prior": "Topological prior",
}
# Dice and share of correct topology, in %, by m and labelled images: Table 2 of the paper.
PAPER = {
    "supervised": {20: ("67.9 / 42.1", "76.3 / 59.8", "82.1 / 74.0"),
                   60: ("62.0 / 25.8", "70.8 / 58.3", "76.9 / 67.6")},
    "closing": {20: ("68.2 / 53.8", "76.2 / 71.3", "81.7 / 81.4"),
                60: ("62.9 / 44.4", "70.8 / 66.9", "76.9 / 76.9")},
    "self": {20: ("74.7 / 57.4", "78.6 / 68.1", "83.6 / 80.8"),
             60: ("67.3 / 48.4", "73.3 / 60.9", "78.2 / 71.3")},
    "prior": {20: ("74.3 / 67.1", "79.1 / 80.5", "83.5 / 88.1"),
              60: ("68.6 / 62.0", "74.3 / 75.6", "78.6 / 85.7")},
}  # fmt: skip  # fmt: skip


def table(record: dict[str, dict]) -> str:
    """Returns Markdown tables of the recorded results, beside the paper's."""
    lines = []
    for removed in REMOVED:
        settings = {n: _seeds(record, n, removed) for n in LABELLED}
        heads = [f"{n} labelled ({len(seeds)} seeds)" for n, seeds in settings.items()]
        lines += [
            f"m = {removed}, Dice / correct topology in %, mean ± standard error over seeds",
            "",
        ]
        lines += ["| arm | " + " | ".join(heads) + " | paper: 10, 20, 40 labelled |"]
        lines += ["|---" * (len(heads) + 2) + "|"]
        for arm, name in ARMS.items():
            cells = [_cell(seeds, arm) for seeds in settings.values()]
            theirs = ", ".join(PAPER[arm][removed]) if arm in PAPER else "none"
            lines.append(f"| {name} | " + " | ".join(cells) + f" | {theirs} |")
        lines.append("")
    return "\n".join(lines)


def tests(record: dict[str, dict]) -> str:
    """Returns Wilcoxon's tests of the prior against the other arms, patients paired."""
    ours = "prior"
    lines = [
        f"The {ARMS[ours].lower()} against the other arms: mean difference in points (p of the "
        "two-sided Wilcoxon test; a pair is one test patient of one seed)",
        "",
        "| m, labelled | against | pairs | Dice | correct topology |",
        "|---|---|---|---|---|",
    ]
    for removed in REMOVED:
        for labelled in LABELLED:
            seeds = _seeds(record, labelled, removed)
            for arm, name in ARMS.items():
                if arm == ours or not seeds:
                    continue
                cells, pairs = [], 0
                for key in ("dice", "correct"):
                    values = [
                        [v for s in seeds for p, v in s["arms"][a][key].items() if p != "all"]
                        for a in (ours, arm)
                    ]
                    difference = np.subtract(*values)
                    pairs = len(difference)
                    p = wilcoxon_p(difference)
                    cells.append(f"{100 * difference.mean():+.1f} (p {p:.2g})")
                lines.append(f"| {removed}, {labelled} | {name} | {pairs} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _seeds(record: dict[str, dict], labelled: int, removed: int) -> list[dict]:
    ending = f"labelled {labelled}, removed {removed}"
    return [setting for key, setting in record.items() if key.endswith(ending)]


def _cell(seeds: list[dict], arm: str) -> str:
    if not seeds:
        return "not run"
    figures = []
    for key in ("dice", "correct"):
        values = [100 * seed["arms"][arm][key]["all"] for seed in seeds]
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        figures.append(f"{np.mean(values):.1f} ± {error:.1f}")
    return " / ".join(figures)
