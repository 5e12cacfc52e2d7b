"""The page of one model: its worst cases, what is wrong in them and where, and all results."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import get_args

from nnunet_topo.report.cases import Cases, Metrics
from nnunet_topo.report.markup import Markup, join, name, tag
from nnunet_topo.report.measures import MEASURES, Unit
from nnunet_topo.report.page import html_page
from nnunet_topo.report.pictures import MARKS
from nnunet_topo.report.tables import cell
from nnunet_topo.report.words import count, number
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.error_places import ErrorKind

KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
MOST_CASES = 30  # in the table of the page; results.csv has all
_COLUMNS = ("Dice", "topo_betti_matching_error", "topo_betti_exact", "topo_cldice", "topo_hd95_mm")


@dataclass(frozen=True, slots=True)
class OneModel:
    """The results of one model.

    Attributes:
        title: of the data.
        values: metrics of each case and label.
        means: of each label, by nnU-Net's key.
        labels: name of each label or region by nnU-Net's key, in order.
        errors: how many of each kind, by case and label; cases without a map are not in it.
        places: the largest error of each case and label in words.
        pictures: title and content, the worst first.
        connectivity: of the foreground.
        unit: of distances.
        problems: what could not be read or evaluated, one line each.
        made: how it was made, by name.
    """

    title: str
    values: Cases
    means: Mapping[str, Metrics]
    labels: Mapping[str, str]
    errors: Mapping[str, Mapping[str, Counter[ErrorKind]]]
    places: Mapping[tuple[str, str], str]
    pictures: Sequence[tuple[str, Markup]]
    connectivity: Connectivity
    unit: Unit
    problems: Sequence[str]
    made: Mapping[str, str]

    def worst(self) -> list[tuple[str, str]]:
        """Returns case and label of all that have errors, most errors first."""
        wrong = [
            (-found.total(), case, place, label)
            for case, of_case in self.errors.items()
            for place, label in enumerate(self.labels)
            if (found := of_case.get(label, Counter())).total()
        ]
        return [(case, label) for _, case, _, label in sorted(wrong)]


def results_csv(results: OneModel) -> str:
    """Returns a line for each case and label: its metrics, and how many errors of each kind.

    What is undefined is left empty, as are the errors of a case without a map.
    """
    every = {key for metrics in results.values.all_metrics() for key in metrics}
    first = [key for key in MEASURES if key in every]
    keys = [*first, *sorted(every - set(first))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["case", "label", "label_name", *keys, *(k.replace(" ", "_") for k in KINDS)])
    for case in results.values.names:
        of_case = results.errors.get(case)
        for label, title in results.labels.items():
            values = [results.values.value(case, label, key) for key in keys]
            found = [None] * len(KINDS)
            if of_case is not None:
                found = [of_case.get(label, Counter())[kind] for kind in KINDS]
            row = [case, label, title, *(None if isnan(v) else v for v in values), *found]
            writer.writerow(map(cell, row))
    return out.getvalue()


def render_one_model(results: OneModel) -> str:
    """Returns the page."""
    return html_page(
        f"Evaluation: {results.title}",
        [
            ("summary", "In short", _summary(results)),
            ("worst", "The worst cases and labels", _worst(results)),
            ("errors", "Errors in the image", _pictures(results)),
            ("made", "How this was made", _made(results)),
        ],
    )


def _summary(results: OneModel) -> Markup:
    right = sum(not any(found.total() for found in of.values()) for of in results.errors.values())
    columns = [key for key in _COLUMNS if any(key in of for of in results.means.values())]
    totals: dict[str, Counter[ErrorKind]] = {label: Counter() for label in results.labels}
    for of_case in results.errors.values():
        for label, found in of_case.items():
            totals[label].update(found)
    used: list[ErrorKind] = [
        kind for kind in KINDS if any(of_label[kind] for of_label in totals.values())
    ]
    heads = ["Label", *(MEASURES[key].title_in(results.unit) for key in columns), *used]
    rows = [
        [
            name(title),
            *(
                number(results.means[label].get(key, float("nan")), MEASURES[key].digits)
                for key in columns
            ),
            *(str(totals[label][kind]) for kind in used),
        ]
        for label, title in results.labels.items()
        if label in results.means
    ]
    return join(
        tag(
            "p",
            f"{count(len(results.values), 'case')}, {results.connectivity} connectivity. "
            f"{right} of {len(results.errors)} have the topology of their reference in all labels.",
        ),
        tag("p", "Means over the cases, and how many topological errors of each kind there are:"),
        _table(heads, rows),
        tag(
            "p",
            "False: the prediction has it and the reference does not. Missing: the reverse. A "
            "joint makes one component of two of the reference, a gap makes two of one. A hole is "
            "enclosed by what is solid in the other, and a loop is closed or open where it should "
            "not be; a wall is the same around a cavity. All errors of a label together are its "
            "Betti matching error.",
            class_="small",
        ),
    )


def _worst(results: OneModel) -> Markup:
    worst = results.worst()
    if not worst:
        return tag("p", "There is no topological error.")
    rows = []
    for case, label in worst[:MOST_CASES]:
        found = results.errors[case][label]
        kinds = ", ".join(count(found[kind], kind) for kind in KINDS if found[kind])
        dice = results.values.value(case, label, "Dice")
        place = results.places.get((case, label), "")
        rows.append(
            [
                name(case),
                name(results.labels[label]),
                str(found.total()),
                number(dice, 4),
                kinds,
                place,
            ]
        )
    more = len(worst) - MOST_CASES
    return join(
        _table(["Case", "Label", "Errors", "Dice", "Kinds", "The largest"], rows),
        tag("p", f"and {more} more in results.csv", class_="small") if more > 0 else None,
    )


def _pictures(results: OneModel) -> Markup:
    if not results.pictures:
        return tag("p", "There is no topological error, or no picture could be read.")
    return join(
        tag("p", f"{MARKS} Pink line: the voxels of the error in this slice.", class_="small"),
        *(part for title, row in results.pictures for part in (tag("h3", title), row)),
    )


def _made(results: OneModel) -> Markup:
    items = (
        part
        for title, value in results.made.items()
        for part in (
            tag("dt", title),
            tag("dd", tag("pre", value) if title == "Command" else value),
        )
    )
    problems = results.problems
    return join(
        tag("dl", *items),
        tag("h3", "Problems") if problems else None,
        tag("ul", *(tag("li", problem) for problem in problems[:200])) if problems else None,
        tag("p", "Metrics are defined in docs/metrics.md of nnunet-topo.", class_="small"),
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """Returns a table whose first column names the rows; numbers are on the right."""

    def cells(row: Sequence[str]) -> Iterator[Markup]:
        yield tag("th", row[0], scope="row")
        for text in row[1:]:
            is_number = text.replace(".", "").replace("-", "").isdigit() or text == "-"
            yield tag("td", text, class_="n" if is_number else None)

    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
            tag("tbody", *(tag("tr", *cells(row)) for row in rows)),
        ),
        class_="scroll",
    )
