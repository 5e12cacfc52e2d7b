"""The labels of a comparison in one figure, sorted by effect."""

from collections.abc import Sequence

import numpy as np

from nnunet_topo.report.claims import size_of_effect
from nnunet_topo.report.markup import Markup, join, raw, tag
from nnunet_topo.report.outcomes import Row
from nnunet_topo.report.plots import axis_of, line, svg, text
from nnunet_topo.report.words import count, number, shortened

MOST_LABELS = 40  # half of them from either end
_WIDTH, _LEFT, _RIGHT, _STEP = 640, 230, 590, 19


def effects_plot(rows: Sequence[Row], names: Sequence[str], axis: str, what: str) -> Markup:
    """Returns a dot for the mean difference of each label with its interval, best effect first.

    Filled dots are differences that the corrected test shows. If there are more than `MOST_LABELS`
    labels, only those with the best and the worst effects are drawn.

    Args:
        rows: of one metric and one model; those without pairs are left out.
        names: of their labels.
        axis: title of the axis, with its unit.
        what: description for readers who cannot see it.
    """
    known = [(row, name) for row, name in zip(rows, names, strict=True) if size_of_effect(row) >= 0]
    if not known:
        return tag("p", "No label has a case in which both are defined.")
    known.sort(key=lambda item: -_effect(item[0]))
    left_out = len(known) - MOST_LABELS
    gap = MOST_LABELS // 2
    if left_out > 0:
        known = [*known[:gap], *known[-(MOST_LABELS - gap) :]]
    ends = [0.0]
    for row, _ in known:
        assert row.difference is not None  # by the choice of rows
        ends += [row.difference.mean, row.difference.low, row.difference.high]
    known_ends = np.array([end for end in ends if not np.isnan(end)])
    scale, ticks = axis_of(known_ends, _LEFT, _RIGHT)
    top = 26
    lines = []
    for index, (row, name) in enumerate(known):
        if left_out > 0 and index == gap:
            middle = f"{count(left_out, 'more label')} between"
            lines.append(text(_LEFT - 8, top + 4, middle, "end", class_="soft"))
            top += _STEP
        lines.append(_dot(row, name, scale, top))
        top += _STEP
    frame = [
        join(
            line(scale(t), 14, scale(t), top - 6, "grid"),
            text(scale(t), top + 10, _tick(t), "middle"),
        )
        for t in ticks
    ]
    frame.append(line(scale(0), 14, scale(0), top - 6, "zero"))
    head = [
        text(_LEFT - 8, 9, "label", "end", class_="soft"),
        text(636, 9, "effect", "end", class_="soft"),
    ]
    title = text((_LEFT + _RIGHT) / 2, top + 30, axis, "middle")
    return svg(_WIDTH, top + 38, f"Differences of labels: {what}", *frame, *head, *lines, title)


def _effect(row: Row) -> float:
    assert row.difference is not None  # by the choice of rows
    return row.difference.effect


def _tick(value: float) -> str:
    return f"{value:+g}" if value else "0"


def _dot(row: Row, name: str, scale, y: float) -> Markup:
    difference = row.difference
    assert difference is not None  # by the choice of rows
    kind = {1: "better", -1: "worse"}.get(int(np.sign(difference.effect)), "same")
    shown = difference.verdict not in ("no difference shown", "not tested")
    at = scale(difference.mean)
    whisker = None
    if not np.isnan(difference.low):
        whisker = line(scale(difference.low), y, scale(difference.high), y, f"reach {kind}")
    return join(
        text(_LEFT - 8, y + 4, shortened(name, 32), "end"),
        whisker,
        raw(
            f'<circle cx="{at:.1f}" cy="{y:.1f}" r="4" class="dot {kind}'
            f'{" shown" if shown else ""}"/>'
        ),
        text(636, y + 4, number(difference.effect, 2, signed=True), "end"),
    )
