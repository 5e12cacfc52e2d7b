"""The figures of the page: the primary outcome, then all others, folded."""

from collections.abc import Iterator

from nnunet_topo.report.claims import size_of_effect, tally
from nnunet_topo.report.effects import effects_plot
from nnunet_topo.report.markup import Markup, join, name, tag
from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.outcomes import ALL_LABELS, mean_over_labels, values_by_label
from nnunet_topo.report.plots import MOST_MARKS, box_plot, paired_plot
from nnunet_topo.report.records import Comparison

MOST_BLOCKS = 24  # pairs of label and metric that are drawn; the table lists all


def figures(comparison: Comparison) -> Markup:
    """Returns the figures of the primary outcome, and those of the secondary outcomes, folded."""
    metrics = comparison.tested
    if not metrics:
        return tag("p", "Nothing was measured.")
    shown = comparison.primary or metrics[0]
    several = len(comparison.labels) > 1
    key = ALL_LABELS if several else next(iter(comparison.labels))
    others = [metric for metric in metrics if metric != shown]
    return join(
        _key(comparison),
        *_outcome(comparison, key, shown),
        *(_effects(comparison, shown) if several else ()),
        tag(
            "details",
            tag("summary", "Figures of the secondary outcomes"),
            *(block for metric in others for block in _outcome(comparison, key, metric)),
        )
        if others
        else None,
        tag(
            "details",
            tag("summary", "Figures of the labels in other metrics"),
            *(block for metric in others for block in _effects(comparison, metric)),
        )
        if several and any(True for metric in others for _ in _effects(comparison, metric))
        else None,
        _single(comparison) if several else None,
    )


def _key(comparison: Comparison) -> Markup:
    return tag(
        "p",
        "Boxes contain the middle half of the cases, and the thick line is the median. In the "
        "paired figures each line is a case, from the first model to this one: ",
        tag("strong", "solid"),
        " if it became better,  ",
        tag("strong", "dashed"),
        " if it became worse, dotted if it is equal; equal lines of many cases are drawn as one "
        "thick line.",
        f" Points and lines show {MOST_MARKS} random cases, boxes show all cases."
        if len(comparison.cases) > MOST_MARKS
        else None,
        class_="small",
    )


def _outcome(comparison: Comparison, key: str, metric: str) -> Iterator[Markup]:
    """Returns a heading, a box plot of all models, and a paired plot of each but the first."""
    measure, first = MEASURES[metric], comparison.models[0]
    labels = list(comparison.labels) if key == ALL_LABELS else [key]
    values = {
        model: mean_over_labels(values_by_label(of_model, labels, metric, comparison.missing))
        for model, of_model in comparison.values.items()
    }
    title = comparison.title_of(metric)
    what = f"{comparison.name_of(key)}, {title}"
    box = box_plot(values, f"{title}, {measure.direction}", f"{what}; the table has the numbers")
    plots = [tag("figure", box, class_="wide")]
    for row in comparison.rows:
        difference = row.difference
        if (row.label, row.metric) != (key, metric) or difference is None:
            continue
        told = f"{tally(comparison, difference)}; {difference.verdict}"
        pair = values[first], values[row.model]
        plot = paired_plot(*pair, measure, f"{what}, {row.model}: {told}")
        plots.append(tag("figure", plot, tag("figcaption", name(row.model), ": ", told)))
    whole = key == ALL_LABELS or len(comparison.labels) == 1
    primary = "Primary outcome: " if whole and metric == comparison.primary else ""
    yield tag("h3", f"{primary}{what}")
    yield tag("div", *plots, class_="row")


def _effects(comparison: Comparison, metric: str) -> Iterator[Markup]:
    """Returns a figure with a dot for each label, for each model but the first."""
    title = comparison.title_of(metric)
    direction = MEASURES[metric].direction
    for model in comparison.models[1:]:
        rows = [
            row
            for row in comparison.rows
            if (row.metric, row.model) == (metric, model) and row.label in comparison.labels
        ]
        if not rows:
            continue
        axis = f"difference to the first model in {title}, {direction}"
        names = [comparison.name_of(row.label) for row in rows]
        what = f"{title}, {model}; the table has the numbers"
        yield tag("h3", f"{title}, label by label: ", name(model))
        yield tag(
            "figure",
            effects_plot(rows, names, axis, what),
            tag(
                "figcaption",
                "Mean difference with its interval, labels sorted by effect, the best first. "
                "Filled: a difference is shown after correction.",
            ),
            class_="labels",
        )


def _single(comparison: Comparison) -> Markup | None:
    """Returns the figures of single labels, those with the largest effects."""
    sizes: dict[tuple[str, str], float] = {}
    for row in (row for row in comparison.rows if row.label in comparison.labels):
        pair = row.label, row.metric
        sizes[pair] = max(sizes.get(pair, -1.0), size_of_effect(row))
    wanted = sorted(sizes, key=lambda pair: -sizes[pair])
    blocks = [b for pair in wanted[:MOST_BLOCKS] for b in _outcome(comparison, *pair)]
    if not blocks:
        return None
    more = (
        tag("p", f"The {MOST_BLOCKS} of {len(wanted)} figures with the largest effects are shown.")
        if len(wanted) > MOST_BLOCKS
        else None
    )
    return tag("details", tag("summary", "Figures of single labels"), more, *blocks)
