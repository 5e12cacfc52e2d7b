"""A comparison in at most as many lines as a terminal shows at once or twice."""

from collections.abc import Iterator

from nnunet_topo.report.claims import claims, in_words, reason, secondary_rows, size_of_effect
from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.outcomes import Row
from nnunet_topo.report.processing import processing_lines
from nnunet_topo.report.records import Comparison
from nnunet_topo.report.words import count, number, printable

MOST_LINES = 50  # with the command's other lines at most 60
MOST_NOTES = 12
_MOST_LABELS = 10


def as_text(comparison: Comparison) -> str:
    """Returns the answer, means over labels and the labels with the largest effects."""
    lines = [*_answer(comparison), *processing_lines(comparison)]
    lines += [*_means(comparison), *_labels(comparison)]
    notes = list(comparison.notes)
    shown = [f"note: {note}" for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        shown.append(f"note: {len(notes) - MOST_NOTES} more notes in report.html")
    most = MOST_LINES - len(shown)
    if len(lines) > most:
        lines = [*lines[: most - 1], "... see compare.csv and report.html for the rest"]
    return "\n".join(map(printable, [*lines, *([""] if shown else []), *shown]))


def _answer(comparison: Comparison) -> Iterator[str]:
    first = comparison.models[0]
    yield (
        f"{comparison.size}, {comparison.connectivity} connectivity, "
        f"{count(len(comparison.labels), 'label or region', 'labels or regions')}; "
        f"compared with {first}"
    )
    if comparison.primary is not None:
        yield f"primary outcome, declared before: {comparison.primary_outcome()}"
    for claim in claims(comparison):
        yield f"{claim.model}: {claim.answer}{f'. {claim.evidence}' if claim.evidence else ''}"
        if claim.presence:
            yield f"  {claim.presence}"
        if claim.secondary:
            yield f"  {claim.secondary}"


def _means(comparison: Comparison) -> Iterator[str]:
    """Returns a line for each metric and model: secondary means over labels, or of one label."""
    rows = [
        row
        for row in comparison.rows
        if row.family == "secondary"
        and (row.label not in comparison.labels or len(comparison.labels) == 1)
    ]
    if not rows:
        return
    name = comparison.name_of(rows[0].label)
    yield ""
    yield f"{name}, secondary (difference, 95 % interval, corrected p, effect from -1 to 1):"
    for metric in dict.fromkeys(row.metric for row in rows):
        measure = MEASURES[metric]
        of_metric = [row for row in rows if row.metric == metric]
        mean = number(of_metric[0].spread.mean, measure.digits)
        title = f"{comparison.title_of(metric)}, {measure.direction}"
        yield f"  {title}; {comparison.models[0]} {mean}"
        for row in of_metric[1:]:
            mean = number(row.spread.mean, measure.digits)
            found = f"{in_words(row)}: {_verdict(comparison, row)}"
            yield f"    {row.model} {mean}, {found}"


def _labels(comparison: Comparison) -> Iterator[str]:
    rows = [row for row in secondary_rows(comparison) if row.label in comparison.labels]
    if len(comparison.labels) == 1:
        return
    shown = [row for row in rows[:_MOST_LABELS] if size_of_effect(row) > 0]
    if not shown:
        return
    yield ""
    yield f"largest effects in single labels ({len(shown)} of {len(rows)}; compare.csv lists all):"
    for row in shown:
        label = f"{comparison.name_of(row.label)} (label {row.label})"
        model = f"{row.model}: " if len(comparison.models) > 2 else ""
        yield (
            f"  {model}{label}, {comparison.title_of(row.metric)} {in_words(row)}: "
            f"{_verdict(comparison, row)}"
        )


def _verdict(comparison: Comparison, row: Row) -> str:
    assert row.difference is not None  # of a model that is not the first
    return reason(comparison, row) or row.difference.verdict
