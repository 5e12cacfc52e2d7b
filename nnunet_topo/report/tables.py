"""The table of a comparison as CSV, JSON and LaTeX."""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import isnan

from nnunet_topo.report.claims import reason
from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.outcomes import Row
from nnunet_topo.report.records import Comparison
from nnunet_topo.report.statistics import FEWEST_RESAMPLED, LEVEL, Spread
from nnunet_topo.report.words import count, interval, length, number, p_value, printable

COLUMNS = (
    *("family", "label", "label_name", "metric", "unit", "higher_is_better", "model", "cases"),
    *("undefined", "structures", "missed", "absent", "invented", "mean", "mean_low", "mean_high"),
    *("median", "pairs", "difference_mean", "difference_low", "difference_high"),
    *("difference_median", "wins", "ties", "losses", "effect", "missed_more", "invented_more"),
    *("p_wilcoxon", "p_holm", "verdict"),
)
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}


def as_csv(comparison: Comparison) -> str:
    """Returns the table with a line for each label, metric and model; undefined is left empty.

    The models without post-processing follow those that are compared after it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in [*comparison.rows, *rows_as_predicted(comparison)]:
        writer.writerow(cell(value) for value in as_record(comparison, row).values())
    return out.getvalue()


def rows_as_predicted(comparison: Comparison) -> list[Row]:
    """Returns the table of the models without post-processing, none if nothing was processed."""
    before = comparison.as_predicted
    return [] if before is None else list(before.rows)


def cell(value: object) -> object:
    """Returns a value for a CSV file; a spreadsheet must not read a name as a formula."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return "" if value is None else value


def as_record(comparison: Comparison, row: Row) -> dict[str, object]:
    """Returns a line of the table by column, None where a value is undefined or not used."""
    spread, difference, measure = row.spread, row.difference, MEASURES[row.metric]
    presence = row.presence
    values: list[object] = [
        *(row.family, row.label, comparison.name_of(row.label), row.metric),
        *(comparison.unit if measure.is_distance else "", measure.higher_is_better),
        *(row.model, spread.cases, spread.undefined),
        *(presence.there, presence.missed, presence.absent, presence.invented),
        *(spread.mean, spread.low, spread.high, spread.median),
    ]
    if difference is None:
        values += [None] * (len(COLUMNS) - len(values))
    else:
        values += [difference.pairs, difference.mean, difference.low, difference.high]
        values += [difference.median, difference.wins, difference.ties, difference.losses]
        values += [difference.effect, difference.missed, difference.invented]
        values += [difference.p, difference.p_holm, difference.verdict]
    defined = [None if isinstance(v, float) and isnan(v) else v for v in values]
    return dict(zip(COLUMNS, defined, strict=True))


def as_latex(comparison: Comparison) -> str:
    """Returns the table for LaTeX with booktabs, the primary outcome and means over labels first.

    A second table contains single labels.
    """
    whole = [row for row in comparison.rows if _is_whole(comparison, row)]
    single = [row for row in comparison.rows if not _is_whole(comparison, row)]
    lines = [
        "% Written by nnunet-topo compare. Needs \\usepackage{booktabs}.",
        "% Mean and median; difference to the first model with its interval (bootstrap; of fewer",
        f"% than {FEWEST_RESAMPLED} {comparison.unit_of_test}s Student's t); effect as",
        "% rank-biserial correlation; p of Wilcoxon's signed-rank test, corrected by Holm for the",
        "% number of models in the primary outcome, and for one another in the secondary ones.",
        *_latex_table(comparison, whole, counted=True),
    ]
    if single:
        lines += ["", "% Single labels, secondary.", *_latex_table(comparison, single)]
    return "\n".join([*lines, ""])


def _is_whole(comparison: Comparison, row: Row) -> bool:
    return row.label not in comparison.labels or len(comparison.labels) == 1


def _latex_table(
    comparison: Comparison, rows: Sequence[Row], *, counted: bool = False
) -> list[str]:
    """Returns a table; with `counted`, the structures missed and invented stand below."""
    lines = [
        "\\begin{tabular}{lrrrrrr}",
        "\\toprule",
        "Model & Mean & Median & Difference & Effect & $p$ & Wins/ties/losses \\\\",
    ]
    for (label, metric), block in groupby(rows, key=lambda row: (row.label, row.metric)):
        of_metric = list(block)
        measure = MEASURES[metric]
        arrow = "\\uparrow" if measure.higher_is_better else "\\downarrow"
        family = "primary: " if of_metric[0].family == "primary" else ""
        name = f"{_latex(comparison.name_of(label))}, {_latex(comparison.title_of(metric))}"
        lines += ["\\midrule", _across(f"{family}{name} ${arrow}$")]
        for row in of_metric:
            lines.append(f"{' & '.join(_latex_cells(row, measure.digits))} \\\\")
            told = reason(comparison, row)
            lines += [_across(f"\\quad {_latex(told)}")] if told else []
    if counted:
        lines += ["\\midrule", *(_across(_latex(line)) for line in _counts(comparison))]
    return [*lines, "\\bottomrule", "\\end{tabular}"]


def _across(text: str) -> str:
    return f"\\multicolumn{{7}}{{l}}{{{text}}} \\\\"


def _counts(comparison: Comparison) -> Iterator[str]:
    """Returns how many structures each model missed and invented."""
    for model in comparison.models:
        found = comparison.presence(model)
        text = f"{model}: {found.missed} of {count(found.there, 'structure')} missed"
        yield f"{text}, {found.invented} of {found.absent} invented" if found.absent else text
    if comparison.missing is not None:
        distance = length(comparison.missing, comparison.unit)
        yield f"A missed structure counts as {distance} in distances."


def _latex_cells(row: Row, digits: int) -> Iterator[str]:
    yield _latex(row.model)
    yield _latex_number(number(row.spread.mean, digits))
    yield _latex_number(number(row.spread.median, digits))
    difference = row.difference
    if difference is None:
        yield from ("", "", "", "")
        return
    mean = number(difference.mean, digits, signed=True)
    within = interval(difference.low, difference.high, digits, signed=True)
    yield _latex_number(f"{mean}\\ {within}" if within else mean)
    yield _latex_number(number(difference.effect, 2, signed=True))
    p = p_value(difference.p_holm)
    claimed = difference.p_holm < LEVEL and not difference.verdict.startswith("not called")
    yield _latex_number(f"\\mathbf{{{p}}}" if claimed else p)
    yield f"{difference.wins}/{difference.ties}/{difference.losses}"


def _latex_number(value: str) -> str:
    return "--" if value == "-" else f"${value}$"


def _latex(name: str) -> str:
    return "".join(_LATEX.get(character, character) for character in printable(name))


def describe_spread(spread: Spread, digits: int) -> str:
    """Returns mean and interval."""
    within = interval(spread.low, spread.high, digits)
    return f"{number(spread.mean, digits)} {within}".strip()
