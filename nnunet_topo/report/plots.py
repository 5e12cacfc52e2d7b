"""Figures as inline SVG, coloured by the style sheet of the page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nnunet_topo.report.markup import Markup, join, raw, tag
from nnunet_topo.report.measures import Measure
from nnunet_topo.report.words import shortened

WIDTH = 480
MOST_MARKS = 400  # points or lines in a figure; a thousand would hide each other
DIMENSIONS = ("components", "loops", "cavities")


def box_plot(values: Mapping[str, NDArray[np.float64]], title: str, what: str) -> Markup:
    """Returns a box for each model: quartiles and median, whiskers to 1.5 times their distance.

    The points are cases; of more than `MOST_MARKS` cases some are chosen at random.
    """
    known = {model: of_model[~np.isnan(of_model)] for model, of_model in values.items()}
    together = np.concatenate(list(known.values()))
    if not len(together):
        return tag("p", "Undefined in every case.")
    scale, ticks = axis_of(together, 24, WIDTH - 24)
    rows, height = [], 58
    for index, (model, of_model) in enumerate(known.items()):
        rows.append(_box(model, of_model, scale, 16 + index * height))
    bottom = 16 + len(known) * height
    axis = [
        join(
            line(scale(tick), 10, scale(tick), bottom, "grid"),
            text(scale(tick), bottom + 16, f"{tick:g}", "middle"),
        )
        for tick in ticks
    ]
    below = text(WIDTH / 2, bottom + 36, title, "middle")
    return svg(WIDTH, bottom + 44, f"Box plot: {what}", *axis, *rows, below)


def _box(model: str, values: NDArray[np.float64], scale, top: float) -> Markup:
    name = text(12, top + 10, shortened(model, 58))
    if not len(values):
        return join(name, text(12, top + 36, "undefined in every case"))
    low, middle, high = np.percentile(values, [25, 50, 75])
    reach = 1.5 * (high - low)
    left, right = values[values >= low - reach].min(), values[values <= high + reach].max()
    centre = top + 34
    rng = np.random.default_rng(0)
    shown = _some(values)
    points = "".join(
        f"M{scale(value):.1f} {centre + shift:.1f}h0"
        for value, shift in zip(shown, rng.uniform(-11, 11, len(shown)), strict=True)
    )
    return join(
        name,
        tag("path", d=points, class_="points"),
        line(scale(left), centre, scale(right), centre, "whisker"),
        tag(
            "rect",
            x=scale(low),
            y=centre - 12,
            width=max(scale(high) - scale(low), 1),
            height=24,
            class_="box",
        ),
        line(scale(middle), centre - 12, scale(middle), centre + 12, "median"),
    )


def paired_plot(
    first: NDArray[np.float64], other: NDArray[np.float64], measure: Measure, what: str
) -> Markup:
    """Returns a line per case from the first model's value to the other's; thick for many cases.

    Of more than `MOST_MARKS` cases some are chosen at random.
    """
    defined = ~(np.isnan(first) | np.isnan(other))
    pairs = _some(np.stack([first[defined], other[defined]], axis=1))
    if not len(pairs):
        return tag("p", "No case in which both are defined.")
    width, height, left, right = 300, 240, 58, 282
    scale, ticks = axis_of(pairs.ravel(), height - 12, 12)
    lines = [line(left, scale(tick), right, scale(tick), "grid") for tick in ticks]
    lines += [text(left - 8, scale(tick) + 4, f"{tick:g}", "end") for tick in ticks]
    counts = Counter(map(tuple, np.round(pairs, 12).tolist()))
    paths: dict[tuple[str, int], str] = {}
    for (a, b), count in counts.items():
        gain = (b - a) if measure.higher_is_better else (a - b)
        kind = "better" if gain > 0 else "worse" if gain < 0 else "same"
        thickness = int(np.ceil(6 * np.sqrt(count / len(pairs)))) if count > 1 else 1
        step = f"M{left} {scale(a):.1f}L{right} {scale(b):.1f}"
        paths[kind, thickness] = paths.get((kind, thickness), "") + step
    for (kind, thickness), d in sorted(paths.items(), key=lambda item: item[0][0] != "same"):
        lines.append(tag("path", d=d, class_=f"pair {kind}", stroke_width=thickness))
    lines += [text(left, height + 14, "first", "middle"), text(right, height + 14, "this", "end")]
    return svg(width, height + 22, f"Paired plot: {what}", *lines)


def curves_plot(curves: Mapping[str, Sequence[float]], what: str, axis: str) -> Markup:
    """Returns lines over epochs, distinguished by dashes and colour.

    Epochs without a value stay blank; a name without values has no line, and keeps its colour.
    """
    finite = [v for values in curves.values() for v in values if isfinite(v)]
    if not finite:
        return tag("p", f"{axis}: no values.")
    width, height, left = WIDTH, 220, 64
    y_scale, y_ticks = axis_of(np.array(finite), height - 12, 12)
    last = max(len(values) for values in curves.values()) - 1
    epochs = np.array([0, max(last, 1)])
    x_scale, _ = axis_of(epochs, left, width - 12, locate=False)
    x_ticks = [tick for tick in MaxNLocator(8, integer=True).tick_values(0, last) if tick <= last]
    lines = [
        join(
            line(left, y_scale(tick), width - 12, y_scale(tick), "grid"),
            text(left - 8, y_scale(tick) + 4, f"{tick:g}", "end"),
        )
        for tick in y_ticks
    ]
    lines += [text(x_scale(tick), height + 6, f"{tick:g}", "middle") for tick in x_ticks]
    lines.append(text((left + width) / 2, height + 24, f"epoch; {axis}", "middle"))
    drawn = [(index, *item) for index, item in enumerate(curves.items()) if item[1]]
    for place, (index, name, values) in enumerate(drawn):
        known = [(x_scale(e), y_scale(v)) for e, v in enumerate(values) if isfinite(v)]
        d = "".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(known))
        points = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in known) if len(known) < 60 else ""
        top = height + 44 + 18 * place
        lines += [
            tag("path", d=d, class_=f"curve c{index % 6}"),
            tag("path", d=points, class_=f"dots c{index % 6}") if points else None,
            tag("path", d=f"M{left} {top - 4}h36", class_=f"curve c{index % 6}"),
            text(left + 44, top, shortened(name, 52)),
        ]
    return svg(width, height + 40 + 18 * len(drawn), what, *lines)


def diagram_plot(bars: Sequence[NDArray[np.float64]], what: str) -> Markup:
    """Returns a persistence diagram: a mark for each bar, far from the diagonal the longest.

    Args:
        bars: births and deaths, [n, 2], of each dimension.
        what: description for readers who cannot see it.
    """
    size, low, high = 240, 40, 228
    lines = [
        tag("rect", x=low, y=12, width=high - low, height=high - low, class_="frame"),
        line(low, 12 + high - low, high, 12, "grid"),
        text((low + high) / 2, size + 26, "birth", "middle"),
        text(low - 26, 8 + (high - low) / 2, "death"),
    ]
    span = high - low
    for value in (0, 0.5, 1):
        lines.append(text(low + value * span, size - 24 + 14, f"{value:g}", "middle"))
        lines.append(text(low - 6, 16 + (1 - value) * span, f"{value:g}", "end"))
    for k, of_k in enumerate(bars):
        for birth, death in of_k[np.argsort(of_k[:, 1] - of_k[:, 0])][:MOST_MARKS]:
            x, y = low + birth * span, 12 + (1 - death) * span
            lines.append(tag("path", d=_mark(k, x, y), class_=f"bar b{k}"))
    for k in range(len(bars)):
        x = 20 + 78 * k
        lines.append(tag("path", d=_mark(k, x, size + 46), class_=f"bar b{k}"))
        lines.append(text(x + 9, size + 50, DIMENSIONS[k if len(bars) > 2 or k == 0 else 1]))
    return svg(size + 10, size + 58, what, *lines)


def _mark(k: int, x: float, y: float) -> str:
    """Returns a cross, a diamond, a triangle: shapes distinguish dimensions without colour."""
    shapes = ("m-4-4l8 8m0-8l-8 8", "m0-5l5 5l-5 5l-5-5z", "m0-5l5 9h-10z")
    return f"M{x:.1f} {y:.1f}{shapes[k]}"


def _some(values: NDArray) -> NDArray:
    """Returns at most `MOST_MARKS` of the rows, always the same."""
    if len(values) <= MOST_MARKS:
        return values
    chosen = np.random.default_rng(0).choice(len(values), MOST_MARKS, replace=False)
    return values[np.sort(chosen)]


def axis_of(values: NDArray, begin: float, end: float, *, locate: bool = True):
    """Returns a map from values to the page, and ticks that enclose them."""
    low, high = float(np.min(values)), float(np.max(values))
    if low == high:
        high = low + 1
    ticks = (
        MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        if locate
        else np.array([low, high])
    )
    low, high = float(ticks[0]), float(ticks[-1])

    def scale(value: float) -> float:
        return float(begin + (value - low) / (high - low) * (end - begin))

    return scale, [float(tick) for tick in ticks]


def svg(width: float, height: float, what: str, *children: Markup | None) -> Markup:
    """Returns a figure with a description for readers who cannot see it."""
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=what,
        style=f"max-width:{width:g}px",
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Returns a straight line."""
    return raw(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="{class_}"/>')


def text(
    x: float, y: float, content: str, anchor: str | None = None, class_: str | None = None
) -> Markup:
    """Returns a line of text."""
    return tag("text", content, x=round(x, 1), y=round(y, 1), text_anchor=anchor, class_=class_)
