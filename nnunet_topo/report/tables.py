"""The table of a comparison as text, CSV and LaTeX, and its claims in plain words."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import isnan

from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.statistics import LEVEL, Difference, Row, Spread, fewest_cases

COLUMNS = (
    *("label", "label_name", "metric", "higher_is_better", "model", "cases", "undefined"),
    *("mean", "mean_low", "mean_high", "median", "pairs", "difference_mean", "difference_low"),
    *("difference_high", "difference_median", "wins", "ties", "losses", "p_wilcoxon", "p_holm"),
    "verdict",
)
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}


def printable(name: str) -> str:
    """Returns a name without the characters that would steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Returns a number as the tables have it, a dash for what is undefined."""
    if isnan(value):
        return "-"
    rounded = round(value, digits) + 0.0  # no -0.00
    return f"{rounded:+.{digits}f}" if signed and rounded else f"{rounded:.{digits}f}"


def interval(low: float, high: float, digits: int, *, signed: bool = False) -> str:
    """Returns an interval in brackets, nothing where there is none."""
    if isnan(low):
        return ""
    ends = (number(end, digits, signed=signed) for end in (low, high))
    return f"[{', '.join(ends)}]"


def p_value(p: float) -> str:
    """Returns a p-value, never as zero."""
    if isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def as_text(rows: Sequence[Row], labels: Mapping[str, str]) -> str:
    """Returns the table for a terminal."""
    width = max((len(printable(row.model)) for row in rows), default=0)
    lines = []
    for label, metric, of_metric in _blocks(rows):
        measure = MEASURES[metric]
        name = printable(labels[label])
        lines += ["", f"{name} (label {label}), {measure.title}, {measure.direction}"]
        for row in of_metric:
            spread = row.spread
            mean = number(spread.mean, measure.digits)
            within = interval(spread.low, spread.high, measure.digits)
            median = number(spread.median, measure.digits)
            line = f"  {printable(row.model):<{width}}  mean {mean} {within}  median {median}"
            line += f"  undefined {spread.undefined}" if spread.undefined else ""
            lines.append(line)
            if row.difference is not None:
                lines.append(f"  {'':<{width}}  {_in_words(row.difference, measure.digits)}")
    return "\n".join(lines[1:])


def _in_words(difference: Difference, digits: int) -> str:
    if not difference.pairs:
        return "no case in which both are defined"
    mean = number(difference.mean, digits, signed=True)
    within = interval(difference.low, difference.high, digits, signed=True)
    return (
        f"difference {mean} {within}  p {p_value(difference.p_holm)}  wins {difference.wins}, "
        f"ties {difference.ties}, losses {difference.losses}: {difference.verdict}"
    )


def as_csv(rows: Sequence[Row], labels: Mapping[str, str]) -> str:
    """Returns the table with a line for each label, metric and model; undefined is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(_cell(value) for value in as_record(row, labels).values())
    return out.getvalue()


def _cell(value: object) -> object:
    """Returns a value for a CSV file; a spreadsheet must not take a name for a formula."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return "" if value is None else value


def as_record(row: Row, labels: Mapping[str, str]) -> dict[str, object]:
    """Returns a line of the table by column; what is undefined or does not apply is None."""
    spread, difference = row.spread, row.difference
    values: list[object] = [
        *(row.label, labels[row.label], row.metric, MEASURES[row.metric].higher_is_better),
        *(row.model, spread.cases, spread.undefined),
        *(spread.mean, spread.low, spread.high, spread.median),
    ]
    if difference is None:
        values += [None] * (len(COLUMNS) - len(values))
    else:
        values += [difference.pairs, difference.mean, difference.low, difference.high]
        values += [difference.median, difference.wins, difference.ties, difference.losses]
        values += [difference.p, difference.p_holm, difference.verdict]
    defined = [None if isinstance(v, float) and isnan(v) else v for v in values]
    return dict(zip(COLUMNS, defined, strict=True))


def as_latex(rows: Sequence[Row], labels: Mapping[str, str]) -> str:
    """Returns the table for LaTeX with booktabs."""
    lines = [
        "% Written by nnunet-topo compare. Needs \\usepackage{booktabs}.",
        "% Mean and median; difference to the first model with its bootstrap interval;",
        "% p of Wilcoxon's signed-rank test after Holm's correction over this table.",
        "\\begin{tabular}{lrrrrr}",
        "\\toprule",
        "Model & Mean & Median & Difference & $p$ & Wins/ties/losses \\\\",
    ]
    for label, metric, of_metric in _blocks(rows):
        measure = MEASURES[metric]
        arrow = "\\uparrow" if measure.higher_is_better else "\\downarrow"
        name = f"{_latex(labels[label])}, {_latex(measure.title)} ${arrow}$"
        lines += ["\\midrule", f"\\multicolumn{{6}}{{l}}{{{name}}} \\\\"]
        lines += [f"{' & '.join(_latex_cells(row, measure.digits))} \\\\" for row in of_metric]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _latex_cells(row: Row, digits: int) -> Iterator[str]:
    yield _latex(row.model)
    yield _latex_number(number(row.spread.mean, digits))
    yield _latex_number(number(row.spread.median, digits))
    difference = row.difference
    if difference is None:
        yield from ("", "", "")
        return
    mean = number(difference.mean, digits, signed=True)
    within = interval(difference.low, difference.high, digits, signed=True)
    yield _latex_number(f"{mean}\\ {within}" if within else mean)
    p = p_value(difference.p_holm)
    yield _latex_number(f"\\mathbf{{{p}}}" if difference.p_holm < LEVEL else p)
    yield f"{difference.wins}/{difference.ties}/{difference.losses}"


def _latex_number(value: str) -> str:
    return "--" if value == "-" else f"${value}$"


def _latex(name: str) -> str:
    return "".join(_LATEX.get(character, character) for character in printable(name))


def _blocks(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    for (label, metric), block in groupby(rows, key=lambda row: (row.label, row.metric)):
        yield label, metric, list(block)


# -- claims ------------------------------------------------------------------------------------

_MEANING = {
    "better": "Better",
    "worse": "Worse",
    "mixed": "Different, but most cases and the mean point in opposite directions",
    "no difference shown": "No difference shown",
    "not tested": "Not tested, for want of two cases in which both models are defined",
}


def summarize(
    rows: Sequence[Row], labels: Mapping[str, str], cases: int
) -> dict[str, tuple[str, dict[str, str]]]:
    """Returns for each model but the first one sentence, and what it rests on by verdict.

    No sentence says more than a corrected test: where none shows a difference, that is said, and
    where some do, those that show none are counted and named.
    """
    tests = sum(row.difference is not None and not isnan(row.difference.p) for row in rows)
    fewest = fewest_cases(tests)
    claims = {}
    for model in dict.fromkeys(row.model for row in rows if row.difference is not None):
        of_model = [row for row in rows if row.model == model]
        found = {
            verdict: [r for r in of_model if r.difference and r.difference.verdict == verdict]
            for verdict in _MEANING
        }
        counts = [f"{verdict} in {len(of)}" for verdict, of in found.items() if of]
        total = len(of_model)
        if len(found["no difference shown"]) == total:
            sentence = f"no difference shown in any of {total} comparisons with the first model"
        elif len(found["not tested"]) == total:
            sentence = "not tested, for want of two cases in which both models are defined"
        else:
            sentence = f"of {total} comparisons with the first model: {', '.join(counts)}"
        if 1 < cases < fewest:
            sentence += (
                f"; with {cases} cases no difference could be shown, however large "
                f"(for {tests} tests it takes at least {fewest})"
            )
        details = {
            verdict: f"{meaning}: {_claims(found[verdict], labels)}."
            for verdict, meaning in _MEANING.items()
            if found[verdict]
        }
        claims[model] = (sentence + ".", details)
    return claims


def _claims(rows: Sequence[Row], labels: Mapping[str, str]) -> str:
    return "; ".join(
        f"{labels[label]}: {', '.join(_claim(row) for row in of_label)}"
        for label, of_label in groupby(rows, key=lambda row: row.label)
    )


def _claim(row: Row) -> str:
    difference, measure = row.difference, MEASURES[row.metric]
    assert difference is not None  # by the choice of rows
    mean = number(difference.mean, measure.digits, signed=True)
    within = interval(difference.low, difference.high, measure.digits, signed=True)
    return f"{measure.title} {mean} {within}".strip()


def describe_spread(spread: Spread, digits: int) -> str:
    """Returns mean and interval."""
    within = interval(spread.low, spread.high, digits)
    return f"{number(spread.mean, digits)} {within}".strip()
