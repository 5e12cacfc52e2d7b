"""What may be said of each model in plain words; no sentence claims more than a corrected test."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan

from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.outcomes import Family, Row
from nnunet_topo.report.records import Comparison
from nnunet_topo.report.statistics import LEVEL, VERDICTS, Difference, fewest_cases
from nnunet_topo.report.words import count, interval, length, number, p_value

MOST_NAMED = 12  # secondary outcomes in a sentence; the table lists all
_ANSWERS = {
    "better": "better than {0}",
    "worse": "worse than {0}",
    "not called better": "not called better than {0}",
    "not called worse": "not called worse than {0}",
    "mixed": "different from {0}, but most {1}s and the mean point in opposite directions",
    "no difference shown": "no difference to {0} shown",
    "not tested": "not tested against {0}, because fewer than two {1}s are defined in both",
}


@dataclass(frozen=True, slots=True)
class Claim:
    """The statements about a model that is compared with the first.

    Attributes:
        model: its name.
        verdict: on the primary outcome, "" without one.
        answer: better or not, in a few words.
        evidence: size and certainty of the difference.
        presence: structures missed and invented.
        secondary: number of secondary outcomes with each verdict.
        named: by verdict, in words, the secondary outcomes that show a difference, those with the
            largest effects.
    """

    model: str
    verdict: str
    answer: str
    evidence: str
    presence: str
    secondary: str
    named: dict[str, str]


def claims(comparison: Comparison) -> list[Claim]:
    """Returns a claim for each model but the first."""
    return [_claim(comparison, model) for model in comparison.models[1:]]


def secondary_rows(comparison: Comparison) -> list[Row]:
    """Returns the lines of all secondary tests, the largest effects first."""
    rows = [r for r in comparison.rows if r.family == "secondary" and r.difference is not None]
    return sorted(rows, key=size_of_effect, reverse=True)


def size_of_effect(row: Row) -> float:
    """Returns the absolute effect, -1 if there is none."""
    effect = row.difference.effect if row.difference is not None else float("nan")
    return -1.0 if isnan(effect) else abs(effect)


def reason(comparison: Comparison, row: Row) -> str:
    """Returns why a difference is not called better or worse, "" if it may be."""
    difference = row.difference
    if difference is None or not difference.verdict.startswith("not called"):
        return ""
    measure = MEASURES[row.metric]
    better = difference.verdict.endswith("better")
    low, high = ("smaller", "larger") if measure.is_distance else ("lower", "higher")
    direction = high if better == measure.higher_is_better else low
    penalty = comparison.missing if measure.is_distance else None
    where = " where both found it" if row.spread.undefined or penalty is None else ""
    if penalty is not None:
        where = f" (a missed structure counts as {length(penalty, comparison.unit)})"
    comparative = "more" if better else "fewer"
    counts = [
        f"{verb} {count(abs(excess), f'{comparative} structure')}"
        for verb, excess in (("missed", difference.missed), ("invented", difference.invented))
        if excess and (excess > 0) == better
    ]
    title = comparison.title_of(row.metric)
    return f"{direction} {title}{where}, but {' and '.join(counts)}: {difference.verdict}"


def in_words(row: Row) -> str:
    """Returns the difference of a line with interval, p-value and effect."""
    difference, digits = row.difference, MEASURES[row.metric].digits
    if difference is None or not difference.pairs:
        return "no case in which both are defined"
    mean = number(difference.mean, digits, signed=True)
    within = interval(difference.low, difference.high, digits, signed=True)
    return f"{mean} {within}".strip() + _sure(difference)


def _sure(difference: Difference) -> str:
    """Returns p-value and effect in words."""
    p = p_value(difference.p_holm)
    sure = "" if p == "-" else f", p {p}" if p.startswith("<") else f", p = {p}"
    return f"{sure}, effect {number(difference.effect, 2, signed=True)}"


def _claim(comparison: Comparison, model: str) -> Claim:
    first = comparison.models[0]
    primary = _line(comparison.rows, model)
    of_first = _line(comparison.rows, first)
    verdict, answer, evidence = "", "no primary outcome was declared", ""
    if primary is not None and primary.difference is not None and of_first is not None:
        verdict = primary.difference.verdict
        answer = _ANSWERS[verdict].format(first, comparison.unit_of_test)
        told = reason(comparison, primary)
        answer += f": {told.rpartition(': ')[0]}" if told else _despite(primary, of_first)
        evidence = _evidence(comparison, primary, of_first)
    rows = [row for row in secondary_rows(comparison) if row.model == model]
    by_verdict = {
        known: [row for row in rows if row.difference and row.difference.verdict == known]
        for known in VERDICTS
    }
    counts = [f"{known} in {len(of)}" for known, of in by_verdict.items() if of]
    secondary = f"{count(len(rows), 'secondary comparison')}: {', '.join(counts)}" if rows else ""
    secondary += _too_few(comparison, "secondary") if rows else ""
    shown = {known: of for known, of in by_verdict.items() if known not in VERDICTS[-2:]}
    named = {known: _named(comparison, of) for known, of in shown.items() if of}
    presence = _presence(comparison, model)
    return Claim(model, verdict, answer, evidence, presence, secondary, named)


def _line(rows: Iterable[Row], model: str) -> Row | None:
    return next((row for row in rows if row.family == "primary" and row.model == model), None)


def _evidence(comparison: Comparison, row: Row, of_first: Row) -> str:
    """Returns size and certainty of the difference in the primary outcome."""
    difference, digits = row.difference, MEASURES[row.metric].digits
    assert difference is not None  # of a model that is not the first
    means = " instead of ".join(number(of.spread.mean, digits) for of in (row, of_first))
    text = f"{comparison.title_of(row.metric)} {means}"
    if difference.pairs:
        ends = (number(end, digits, signed=True) for end in (difference.low, difference.high))
        within = "" if isnan(difference.low) else f" (95 % interval {' to '.join(ends)})"
        mean = number(difference.mean, digits, signed=True)
        text += f", difference {mean}{within}{_sure(difference)}; {tally(comparison, difference)}"
    return text + _too_few(comparison, "primary")


def _too_few(comparison: Comparison, family: Family) -> str:
    """Returns a note if a family has too few cases for any test to show a difference, else ""."""
    rows = [row for row in comparison.rows if row.family == family]
    fewest = fewest_cases(sum(r.difference is not None and not isnan(r.difference.p) for r in rows))
    tested = comparison.number_tested
    if tested >= fewest or len(comparison.cases) == 1:
        return ""
    return (
        f"; with {count(tested, comparison.unit_of_test)} no difference could be shown, however "
        f"large (it takes at least {fewest})"
    )


def tally(comparison: Comparison, difference: Difference) -> str:
    """Returns in how many cases or patients a model is better, equal and worse."""
    return (
        f"better in {count(difference.wins, comparison.unit_of_test)}, equal in {difference.ties}, "
        f"worse in {difference.losses}"
    )


def _despite(row: Row, of_first: Row) -> str:
    """Returns what a better outcome does not show: more structures missed or invented."""
    if row.difference is None or row.difference.verdict != "better":
        return ""
    more = [
        f"{verb} {count(own - other, 'more structure')}"
        for verb, own, other in (
            ("missed", row.presence.missed, of_first.presence.missed),
            ("invented", row.presence.invented, of_first.presence.invented),
        )
        if own > other
    ]
    return f", but it {' and '.join(more)}, which this outcome counts" if more else ""


def _presence(comparison: Comparison, model: str) -> str:
    first = comparison.models[0]
    own, other = comparison.presence(model), comparison.presence(first)
    parts = []
    if own.there:
        there = count(own.there, "structure")
        parts.append(f"missed {own.missed} of {there} ({first}: {other.missed})")
    if own.absent:
        absent = f"{own.absent} that {'is' if own.absent == 1 else 'are'} not there"
        parts.append(f"invented {own.invented} of {absent} ({first}: {other.invented})")
    return ", ".join(parts)


def _named(comparison: Comparison, rows: Sequence[Row]) -> str:
    parts = []
    for row in rows[:MOST_NAMED]:
        told = reason(comparison, row)
        what = told or f"{comparison.title_of(row.metric)} {in_words(row)}"
        parts.append(f"{comparison.name_of(row.label)}: {what}")
    left = len(rows) - MOST_NAMED
    return "; ".join([*parts, f"and {left} more in the table"] if left > 0 else parts)


def how_to_read(comparison: Comparison) -> str:
    """Returns what the numbers mean and what they do not show."""
    primary = (
        "The primary outcome was declared before anything was measured and is tested on its own"
        f"{', corrected by Holm for the number of models' if len(comparison.models) > 2 else ''}; "
        "all other tests are secondary and corrected by Holm for one another. "
        if comparison.primary is not None
        else "No primary outcome was declared: all tests are corrected by Holm for one another. "
    )
    return (
        f"{primary}A difference is called shown if the p-value of Wilcoxon's signed-rank test, "
        f"with this correction, is below {LEVEL:g}. “No difference shown” does not mean that the "
        "models are equal: the interval of the difference shows how large it may be. The effect "
        "is the matched-pairs rank-biserial correlation, from -1 (worse in all cases) to 1 (better "
        "in all). A structure is a label of a case. If a model misses one, distances and precision "
        "are undefined and such cases cannot be paired; a model that misses more is therefore not "
        f"called better in them. The test only applies to these {comparison.unit_of_test}s, which "
        "it takes as independent, not to another training with another seed, and not to other "
        "hospitals or scanners. It cannot show whether a difference matters in practice."
    )
