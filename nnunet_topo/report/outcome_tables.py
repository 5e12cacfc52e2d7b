"""The tables of the page: means over labels first, single labels folded and sorted by effect."""

from collections.abc import Sequence
from itertools import groupby

from nnunet_topo.report.claims import reason, size_of_effect
from nnunet_topo.report.markup import Markup, join, name, tag
from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.outcomes import Row
from nnunet_topo.report.records import Comparison
from nnunet_topo.report.statistics import CONFIDENCE, FEWEST_RESAMPLED, RESAMPLES
from nnunet_topo.report.tables import describe_spread
from nnunet_topo.report.words import count, interval, length, number, p_value

_HEADS = (
    *("Model", "Mean", "Median", "Undefined", "Difference", "Effect", "p"),
    *("Better / equal / worse", "Verdict"),
)
_NUMBERS = range(1, 8)


def outcome_tables(comparison: Comparison) -> Markup:
    """Returns the table of means over labels, and below it the table of all labels."""
    labels = comparison.labels
    whole = [row for row in comparison.rows if row.label not in labels or len(labels) == 1]
    single = [row for row in comparison.rows if row.label in labels and len(labels) > 1]
    blocks = _blocks(single)
    blocks.sort(key=lambda block: -max(map(size_of_effect, block)))
    penalty = (
        f" A missed structure counts as {length(comparison.missing, comparison.unit)} in distances."
        if comparison.missing is not None
        else ""
    )
    explained = (
        f"Means with {CONFIDENCE:.0%} bootstrap intervals ({RESAMPLES} resamples of the "
        f"{comparison.unit_of_test}s; of fewer than {FEWEST_RESAMPLED} t intervals, of fewer than "
        "three none); "
        "cases in which a metric is undefined; mean difference to the first model over what is "
        "defined in both; effect (rank-biserial correlation, above 0 is better); p-values of "
        f"Wilcoxon's signed-rank test, corrected within their family.{penalty}"
    )
    return join(
        tag("p", explained, class_="small"),
        _table(comparison, _blocks(whole), "Table of the outcomes over all labels"),
        tag(
            "details",
            tag(
                "summary",
                f"Single labels: {count(len(blocks), 'pair', 'pairs')} of label and metric, "
                "secondary, the largest effects first",
            ),
            _table(comparison, blocks, "Table of all labels"),
        )
        if blocks
        else None,
    )


def presence_table(comparison: Comparison) -> Markup | None:
    """Returns how many structures each model missed and invented, None if nothing is known."""
    counts = {model: comparison.presence(model) for model in comparison.models}
    first = counts[comparison.models[0]]
    if not first.there and not first.absent:
        return None
    heads = ("Model", "Structures missed", "Structures invented")
    rows = [
        tag(
            "tr",
            tag("th", name(model), scope="row"),
            tag("td", f"{found.missed} of {found.there}", class_="n"),
            tag("td", f"{found.invented} of {found.absent}" if found.absent else "-", class_="n"),
        )
        for model, found in counts.items()
    ]
    columns = [
        tag("th", head, scope="col", class_="n" if i else None) for i, head in enumerate(heads)
    ]
    return tag("table", tag("thead", tag("tr", *columns)), tag("tbody", *rows), class_="presence")


def _blocks(rows: Sequence[Row]) -> list[list[Row]]:
    return [list(block) for _, block in groupby(rows, key=lambda row: (row.label, row.metric))]


def _table(comparison: Comparison, blocks: Sequence[Sequence[Row]], what: str) -> Markup:
    bodies = []
    for block in blocks:
        measure = MEASURES[block[0].metric]
        title = f"{comparison.title_of(block[0].metric)}, {measure.direction}"
        of_label = comparison.name_of(block[0].label)
        family = "Primary outcome: " if block[0].family == "primary" else ""
        head = tag(
            *("th", family, name(of_label), f", {title}"), colspan=len(_HEADS), scope="rowgroup"
        )
        rows = [_line(comparison, row, measure.digits) for row in block]
        bodies.append(tag("tbody", tag("tr", head, class_="block"), *rows))
    columns = [
        tag("th", head, scope="col", class_="n" if i in _NUMBERS else None)
        for i, head in enumerate(_HEADS)
    ]
    return tag(
        "div",
        tag("table", tag("thead", tag("tr", *columns)), *bodies),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=what,
    )


def _line(comparison: Comparison, row: Row, digits: int) -> Markup:
    spread, difference = row.spread, row.difference
    cells = [describe_spread(spread, digits), number(spread.median, digits), str(spread.undefined)]
    verdict, told = "", ""
    if difference is None:
        cells += ["", "", "", ""]
    else:
        within = interval(difference.low, difference.high, digits, signed=True)
        cells += [
            f"{number(difference.mean, digits, signed=True)} {within}",
            number(difference.effect, 2, signed=True),
            p_value(difference.p_holm),
            f"{difference.wins} / {difference.ties} / {difference.losses}",
        ]
        verdict, told = difference.verdict, reason(comparison, row)
    kind = f"verdict {verdict.split()[0]}" if verdict else None
    return tag(
        "tr",
        tag("th", name(row.model), scope="row"),
        *(tag("td", cell, class_="n") for cell in cells),
        tag("td", told or verdict, class_=kind),
    )
