"""The Betti numbers of the reference segmentations."""

from collections import Counter
from math import isnan, nan

from nnunet_topo.report.markup import Markup, join, name, tag
from nnunet_topo.report.records import Comparison
from nnunet_topo.report.words import count, some

MOST_LABELS = 8  # that are not folded


def reference(comparison: Comparison) -> Markup:
    """Returns a table of the numbers, and a warning if the references do not agree."""
    names = ("Components", "Loops or handles", "Cavities")
    rows, mixed = [], []
    for label, title in comparison.labels.items():
        cells = []
        for k in range(3):
            counts = _reference_numbers(comparison, label, k)
            if counts is None:
                cells.append("-")
                continue
            common = counts.most_common(4)
            parts = [f"{value}: {count(of, 'case')}" for value, of in common]
            if len(counts) > 4:
                parts.append(f"{len(counts) - 4} other numbers, up to {max(counts)}")
            cells.append("; ".join(parts))
            there = _reference_numbers(comparison, label, k, absent=False)
            if there and there.most_common(1)[0][1] < 0.95 * there.total():
                mixed.append(f"{title} ({names[k].lower()})")
        head = tag("th", name(title), f" (label {label})", scope="row")
        rows.append(tag("tr", head, *(tag("td", cell) for cell in cells)))
    heads = [tag("th", text, scope="col") for text in ("Label", *names)]
    table = tag(
        "div",
        tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows)),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="Betti numbers of the reference",
    )
    return join(
        tag(
            "p",
            f"Betti numbers of the reference segmentations, {comparison.connectivity} connectivity "
            f"({_CONNECTIVITY[comparison.connectivity]}).",
        ),
        table
        if len(rows) <= MOST_LABELS
        else tag("details", tag("summary", f"Table of {len(rows)} labels"), table),
        tag(
            "p",
            tag("strong", "Warning: "),
            f"the references do not agree on one number in {some(mixed)}: less than 95 % of "
            "the cases share it. A fixed Betti prior would contradict some of them.",
        )
        if mixed
        else None,
    )


_CONNECTIVITY = {
    "full": "foreground 26-connected in volumes, 8-connected in images",
    "face": "foreground 6-connected in volumes, 4-connected in images",
}


def _reference_numbers(
    comparison: Comparison, label: str, k: int, *, absent: bool = True
) -> Counter[int] | None:
    """Returns how many references have each number; with `absent`, also those without the label."""
    values = [
        metrics.get(f"topo_betti_ref_{k}", nan)
        for metrics in comparison.values[comparison.models[0]].metrics_of_label(label)
        if absent or metrics.get("topo_betti_ref_0") != 0
    ]
    known = [int(value) for value in values if not isnan(value)]
    return Counter(known) if known else None
