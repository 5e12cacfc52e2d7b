"""One self-contained page of HTML: no script, no font, no picture from elsewhere."""

from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import groupby
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

import nnunet_topo
from nnunet_topo.report.markup import Markup, join, raw, tag
from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.plots import MOST_MARKS, box_plot, curves_plot, paired_plot
from nnunet_topo.report.records import Comparison, Picture
from nnunet_topo.report.statistics import CONFIDENCE, LEVEL, RESAMPLES, Row
from nnunet_topo.report.tables import describe_spread, interval, number, p_value, summarize

MOST_FIGURES = 300  # labels times metrics that are drawn; the table has all
CURVES = {
    "ema_fg_dice": "moving average of the pseudo Dice",
    "train_losses": "training loss",
    "val_losses": "validation loss",
    "topology_term": "topology term",
    "topology_distance": "optimal Wasserstein distance",
    "topology_weight": "weight of the topology term",
}


def render(comparison: Comparison) -> str:
    """Returns the page."""
    sections = [
        ("summary", "In short", _summary(comparison)),
        ("table", "Table", _table(comparison)),
        ("figures", "Figures", _figures(comparison)),
        ("cases", "The cases that changed most", _cases(comparison.pictures)),
        ("reference", "Topology of the reference", _reference(comparison)),
        ("training", "Training", _training(comparison)),
        ("made", "How this was made", _made(comparison)),
    ]
    links = [tag("li", tag("a", title, href=f"#{id_}")) for id_, title, _ in sections]
    title = f"Comparison: {comparison.title}"
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="generator", content=f"nnunet-topo {nnunet_topo.__version__}"),
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            tag("title", title),
            tag("style", raw(files("nnunet_topo.report").joinpath("style.css").read_text("utf-8"))),
        ),
        tag(
            "body",
            tag("a", "Skip to the content", href="#content", class_="skip"),
            tag(
                "header",
                tag("h1", title),
                tag("nav", tag("ul", *links), aria_label="Sections"),
            ),
            tag(
                "main",
                *(
                    tag("section", tag("h2", title, id=id_), content, aria_labelledby=id_)
                    for id_, title, content in sections
                ),
                id="content",
            ),
        ),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{page}\n"


# Whatever a name may hold: the page loads nothing and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def _summary(comparison: Comparison) -> Markup:
    first, *others = comparison.models
    cases = len(comparison.cases)
    claims = summarize(comparison.rows, comparison.labels, cases)
    many = f"{cases} cases" if cases != 1 else "one case"
    return join(
        tag(
            *("p", *_names(others), " compared with ", tag("bdi", first), f" on {many}, "),
            f"each in {_count(len(comparison.labels), 'label or region', 'labels or regions')} and "
            f"{_count(len(comparison.metrics), 'metric', 'metrics')}.",
        ),
        *(
            tag(
                "div",
                tag("p", tag("strong", tag("bdi", model)), ": ", sentence),
                *(_detail(verdict, detail) for verdict, detail in details.items()),
                class_="claim",
            )
            for model, (sentence, details) in claims.items()
        ),
        *(tag("p", tag("strong", "Note: "), note) for note in comparison.notes),
        tag(
            "p",
            "How to read this: a difference is called shown where the p-value of Wilcoxon's "
            f"signed-rank test, corrected for all tests of the table, is below {LEVEL:g}. "
            "“No difference shown” does not mean that the models are equal: the interval of the "
            "difference tells how large it may be. The test speaks of these cases, not of another "
            "training with another seed, nor of other hospitals or scanners, and takes the cases "
            "as independent. Whether a difference matters is not for a test to say.",
            class_="small",
        ),
        tag("p", "The metrics:", class_="small"),
        tag(
            "ul",
            *(
                tag("li", tag("strong", measure.title), f": {measure.meaning}; {measure.direction}")
                for measure in map(MEASURES.__getitem__, comparison.metrics)
            ),
            class_="small",
        ),
    )


def _detail(verdict: str, detail: str) -> Markup:
    """Returns what a claim rests on, folded where it claims nothing."""
    if verdict in {"better", "worse", "mixed"}:
        return tag("p", detail)
    return tag("details", tag("summary", f"{verdict[0].upper()}{verdict[1:]}"), tag("p", detail))


def _names(names: Sequence[str]) -> Iterator[str]:
    for index, name in enumerate(names):
        yield "; " if index else ""
        yield tag("bdi", name)


def _count(number_: int, one: str, more: str) -> str:
    return f"{number_} {one if number_ == 1 else more}"


# -- table -------------------------------------------------------------------------------------


def _table(comparison: Comparison) -> Markup:
    heads = ("Model", "Mean", "Median", "Undefined", "Difference", "p", "Wins / ties / losses", "")
    lines = []
    for (label, metric), block in groupby(comparison.rows, key=lambda r: (r.label, r.metric)):
        measure = MEASURES[metric]
        name = f"{comparison.labels[label]}: {measure.title}, {measure.direction}"
        head = tag("th", name, colspan=len(heads), scope="rowgroup")
        rows = [_line(row, measure.digits) for row in block]
        lines.append(tag("tbody", tag("tr", head, class_="block"), *rows))
    columns = [
        tag("th", head or "What is shown", scope="col", class_="n" if 0 < i < 7 else None)
        for i, head in enumerate(heads)
    ]
    explained = tag(
        "p",
        f"Means with {CONFIDENCE:.0%} bootstrap intervals ({RESAMPLES} resamples of the cases); "
        "mean difference to the first model over the cases in which both are defined; p-values of "
        "Wilcoxon's signed-rank test after Holm's correction over this table.",
        class_="small",
    )
    return join(
        explained,
        tag(
            "div",
            tag("table", tag("thead", tag("tr", *columns)), *lines),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Table of all comparisons",
        ),
    )


def _line(row: Row, digits: int) -> Markup:
    spread, difference = row.spread, row.difference
    cells = [
        describe_spread(spread, digits),
        number(spread.median, digits),
        str(spread.undefined),
    ]
    verdict = None
    if difference is not None:
        within = interval(difference.low, difference.high, digits, signed=True)
        cells += [
            f"{number(difference.mean, digits, signed=True)} {within}",
            p_value(difference.p_holm),
            f"{difference.wins} / {difference.ties} / {difference.losses}",
        ]
        verdict = difference.verdict
    else:
        cells += ["", "", ""]
    return tag(
        "tr",
        tag("th", tag("bdi", row.model), scope="row"),
        *(tag("td", cell, class_="n") for cell in cells),
        tag("td", verdict or "", class_=f"verdict {verdict.split()[0]}" if verdict else None),
    )


# -- figures -----------------------------------------------------------------------------------


def _figures(comparison: Comparison) -> Markup:
    wanted = list(dict.fromkeys((row.label, row.metric) for row in comparison.rows))
    first, *others = comparison.models
    found = {(row.label, row.metric, row.model): row for row in comparison.rows}
    blocks = [
        tag(
            "p",
            "Boxes hold the middle half of the cases, the thick line is the median. In the paired "
            "figures each line is a case, from the first model to this one: ",
            tag("strong", "solid"),
            " where it became better, ",
            tag("strong", "dashed"),
            " where it became worse, dotted where it is equal; equal lines of many cases are one "
            "thick line.",
            f" Points and lines are {MOST_MARKS} cases drawn by chance, boxes are made of all."
            if len(comparison.cases) > MOST_MARKS
            else None,
            class_="small",
        )
    ]
    for label, metric in wanted[:MOST_FIGURES]:
        measure = MEASURES[metric]
        values = {model: _values(comparison, model, label, metric) for model in comparison.models}
        what = f"{comparison.labels[label]}, {measure.title}"
        box = box_plot(values, measure, f"{what}; the table has the numbers")
        figures = [tag("figure", box, class_="wide")]
        for model in others:
            difference = found[label, metric, model].difference
            assert difference is not None  # of a model that is not the first
            counts = (
                f"better in {difference.wins}, equal in {difference.ties}, worse in "
                f"{difference.losses} cases; {difference.verdict}"
            )
            plot = paired_plot(values[first], values[model], measure, f"{what}, {model}: {counts}")
            caption = tag("figcaption", tag("bdi", model), ": ", counts)
            figures.append(tag("figure", plot, caption))
        blocks += [tag("h3", what), tag("div", *figures, class_="row")]
    if len(wanted) > MOST_FIGURES:
        blocks.append(
            tag("p", f"Drawn are the first {MOST_FIGURES} of {len(wanted)}; the table has all.")
        )
    return join(*blocks)


def _values(comparison: Comparison, model: str, label: str, metric: str) -> NDArray[np.float64]:
    of_model = comparison.values[model]
    values = [of_model[case][label].get(metric) for case in comparison.cases]
    return np.array([nan if value is None else value for value in values], dtype=float)


# -- cases -------------------------------------------------------------------------------------


def _cases(pictures: Sequence[Picture]) -> Markup:
    if not pictures:
        return tag("p", "No case differs in any of the metrics, or no picture could be read.")
    key = tag(
        "p",
        "Blue line: reference. Orange line: prediction. Circle: a component or an enclosed region "
        "too many. Square: one missed. Dashed: an enclosed region, solid: a component. Of a "
        "structure that fell apart the smaller parts are marked. Handles of volumes have no place "
        "of their own and are in the numbers alone. Cases that became better and worse are shown "
        "alike; they are extremes, not typical.",
        class_="small",
    )
    return join(
        key,
        *(
            join(
                tag("h3", picture.title),
                picture.slices,
                _diagrams(picture) if picture.diagrams else None,
            )
            for picture in pictures
        ),
        None
        if any(picture.diagrams for picture in pictures)
        else tag(
            "p",
            "No persistence diagrams: no probabilities were saved (nnUNetv2_train --npz, "
            "nnUNetv2_predict --save_probabilities), and the bars of a mask are its Betti numbers.",
            class_="small",
        ),
    )


def _diagrams(picture: Picture) -> Markup:
    return join(
        tag("p", "Persistence diagrams of the predicted probability (superlevel sets):"),
        tag(
            "div",
            *(
                tag("figure", diagram, tag("figcaption", tag("bdi", model)))
                for model, diagram in picture.diagrams.items()
            ),
            class_="row",
        ),
    )


# -- reference ---------------------------------------------------------------------------------


def _reference(comparison: Comparison) -> Markup:
    names = ("Components", "Loops or handles", "Cavities")
    rows, mixed = [], []
    for label, name in comparison.labels.items():
        cells = []
        for k in range(3):
            counts = _reference_numbers(comparison, label, k)
            if counts is None:
                cells.append("-")
                continue
            common = counts.most_common(4)
            parts = [f"{value}: {_count(count, 'case', 'cases')}" for value, count in common]
            if len(counts) > 4:
                parts.append(f"{len(counts) - 4} other numbers, up to {max(counts)}")
            cells.append("; ".join(parts))
            there = _reference_numbers(comparison, label, k, absent=False)
            if there and there.most_common(1)[0][1] < 0.95 * there.total():
                mixed.append(f"{name} ({names[k].lower()})")
        head = tag("th", f"{name} (label {label})", scope="row")
        rows.append(tag("tr", head, *(tag("td", cell) for cell in cells)))
    heads = [tag("th", text, scope="col") for text in ("Label", *names)]
    return join(
        tag(
            "p",
            f"Betti numbers of the reference segmentations, {comparison.connectivity} connectivity "
            f"({_CONNECTIVITY[comparison.connectivity]}).",
        ),
        tag(
            "div",
            tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows)),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Betti numbers of the reference",
        ),
        tag(
            "p",
            tag("strong", "Warning: "),
            f"the references do not agree on one number in {'; '.join(mixed)}: less than 95 % of "
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
    """Returns how many references have each number; `absent`: also those without the label."""
    of_first = comparison.values[comparison.models[0]]
    of_cases = [of_first[case][label] for case in comparison.cases]
    values = [
        of_case.get(f"topo_betti_ref_{k}")
        for of_case in of_cases
        if absent or of_case.get("topo_betti_ref_0") != 0
    ]
    known = [int(value) for value in values if value is not None and not isnan(value)]
    return Counter(known) if known else None


# -- training, origin --------------------------------------------------------------------------


def _training(comparison: Comparison) -> Markup:
    folds = list(dict.fromkeys(fold for of in comparison.curves.values() for fold in of))
    if not folds:
        return tag("p", "No training was compared, or its checkpoints are gone.")
    return join(
        tag(
            "p",
            "As logged by nnU-Net, from checkpoint_final.pth. Losses of different trainers are "
            "different functions: their heights cannot be compared. The topology term is not part "
            "of the losses of our trainers.",
            class_="small",
        ),
        *(block for fold in folds for block in _curves_of_fold(comparison, fold)),
    )


def _curves_of_fold(comparison: Comparison, fold: str) -> Iterator[Markup]:
    yield tag("h3", f"Fold {fold}")
    figures = []
    for key, axis in CURVES.items():
        curves = {
            model: of_folds.get(fold, {}).get(key, [])
            for model, of_folds in comparison.curves.items()
        }
        if any(curves.values()):
            plot = curves_plot(curves, f"{axis} over the epochs of fold {fold}", axis)
            figures.append(tag("figure", plot, class_="wide"))
    yield tag("div", *figures, class_="row")


def _made(comparison: Comparison) -> Markup:
    items = [
        part
        for name, value in comparison.made.items()
        for part in (tag("dt", name), tag("dd", tag("pre", value) if name == "Command" else value))
    ]
    troubles = comparison.troubles
    return join(
        tag("dl", *items),
        tag("h3", "Troubles") if troubles else None,
        tag("ul", *(tag("li", trouble) for trouble in troubles[:200])) if troubles else None,
        tag("p", f"and {len(troubles) - 200} more") if len(troubles) > 200 else None,
        tag(
            "p",
            "Metrics are defined in docs/metrics.md of nnunet-topo. Sources: Wilcoxon, Biometrics "
            "Bulletin 1945; Holm, Scandinavian Journal of Statistics 1979; Efron, Annals of "
            "Statistics 1979; Isensee et al. (nnU-Net), Nature Methods 2021.",
            class_="small",
        ),
    )
