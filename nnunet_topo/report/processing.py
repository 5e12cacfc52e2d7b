"""What post-processing changed, and the answer without it."""

from collections.abc import Iterator

from nnunet_topo.report.claims import claims
from nnunet_topo.report.markup import Markup, join, name, tag
from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.outcomes import mean_over_labels, values_by_label
from nnunet_topo.report.records import Comparison
from nnunet_topo.report.statistics import Spread, describe
from nnunet_topo.report.tables import describe_spread
from nnunet_topo.report.words import number

_EXPLAINED = (
    "Each model is compared after its own post-processing. The steps for a case were chosen on "
    "other cases: for each fold on the other folds, in a single folder for each part on the other "
    "parts. So these figures are not better than those of new cases. The steps that are named were "
    "chosen on all cases in the same way, and may differ from those of a fold."
)


def processing(comparison: Comparison) -> Markup | None:
    """Returns the figures of all models without and with their steps, None if there are none."""
    before = comparison.as_predicted
    if before is None:
        return None
    metrics = _metrics(comparison)
    heads = [f"{comparison.title_of(m)}, {when}" for m in metrics for when in ("before", "after")]
    columns = [tag("th", "Model", scope="col")]
    columns += [tag("th", head, scope="col", class_="n") for head in heads]
    columns.append(tag("th", "Steps of all cases", scope="col"))
    rows = []
    for predicted, model in _pairs(comparison):
        cells = [
            tag("td", describe_spread(spread, MEASURES[metric].digits), class_="n")
            for metric in metrics
            for spread in _spreads(comparison, predicted, model, metric)
        ]
        steps = tag("td", comparison.steps.get(model, "the control itself"))
        rows.append(tag("tr", tag("th", name(predicted), scope="row"), *cells, steps))
    answers = [
        tag("p", tag("strong", name(claim.model), ": "), f"{claim.answer}. {claim.evidence}.")
        for claim in claims(before)
    ]
    return join(
        tag("p", _EXPLAINED, class_="small"),
        tag(
            "div",
            tag("table", tag("thead", tag("tr", *columns)), tag("tbody", *rows)),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Table of all models before and after post-processing",
        ),
        tag("h3", "The answer without post-processing") if answers else None,
        *answers,
    )


def processing_lines(comparison: Comparison) -> Iterator[str]:
    """Yields the same as lines of text."""
    before = comparison.as_predicted
    if before is None:
        return
    yield ""
    yield "post-processing of each model, chosen on other cases (before -> after):"
    for predicted, model in _pairs(comparison):
        if model not in comparison.steps:
            continue
        figures = [
            f"{comparison.title_of(metric)} "
            + " -> ".join(
                number(spread.mean, MEASURES[metric].digits)
                for spread in _spreads(comparison, predicted, model, metric)
            )
            for metric in _metrics(comparison)
        ]
        yield f"  {predicted}: {', '.join(figures)}; {comparison.steps[model]}"
    for claim in claims(before):
        yield f"  without it, {claim.model}: {claim.answer}"


def _metrics(comparison: Comparison) -> list[str]:
    """Returns the primary outcome and Dice, as far as they were measured."""
    wanted = ["Dice"] if comparison.primary in (None, "Dice") else [comparison.primary, "Dice"]
    first = comparison.values[comparison.models[0]]
    found = {key for of_label in first.all_metrics() for key in of_label}
    return [metric for metric in wanted if metric in found]


def _pairs(comparison: Comparison) -> list[tuple[str, str]]:
    """Returns the name of each model as predicted and as compared."""
    before = comparison.as_predicted
    return [] if before is None else list(zip(before.models, comparison.models, strict=True))


def _spreads(comparison: Comparison, predicted: str, model: str, metric: str) -> list[Spread]:
    """Returns the means over labels before and after."""
    before = comparison.as_predicted
    if before is None:
        return []
    return [
        describe(
            mean_over_labels(
                values_by_label(cases, list(comparison.labels), metric, comparison.missing)
            ),
            MEASURES[metric].limits,
        )
        for cases in (before.values[predicted], comparison.values[model])
    ]
