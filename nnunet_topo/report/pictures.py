"""Slices of the cases that changed most, with contours and the topological errors marked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.report.cases import Cases
from nnunet_topo.report.grid import Grid, describe_slice
from nnunet_topo.report.markup import Markup, join, name, tag
from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.slices import gray_picture, gray_window, outline_of, panel
from nnunet_topo.report.words import count
from nnunet_topo.topology import Connectivity, Unmatched, unmatched
from nnunet_topo.topology.error_places import ErrorKind

MARGIN = 8  # voxels around the masks
MOST_MARKS = 40
MARKS = (
    "Blue line: reference. Orange line: prediction. Circle: something false in the prediction, "
    "such as a false component or joint. Square: something missing in it, such as a gap. Solid: "
    "components. Dashed: loops, holes and cavities. Letters are the patient's sides: right and "
    "left, anterior and posterior, superior and inferior."
)
"""What pictures of cases show, for the page that holds them."""


@dataclass(frozen=True, slots=True)
class Change:
    """A case in which a model differs much from the first.

    Attributes:
        case: its name.
        label: of the structure.
        model: that differs.
        metric: in which it differs.
        gain: difference, above zero where the model is better.
    """

    case: str
    label: str
    model: str
    metric: str
    gain: float


def choose_changes(
    values: Mapping[str, Cases],
    labels: Sequence[str],
    metrics: Sequence[str],
    *,
    each_way: int = 2,
) -> list[Change]:
    """Returns for each model the cases that improved most, and as many that got worse.

    The Betti matching error decides; if it differs in no case, the first metric that does. A case
    that two models change most is returned once, because its picture shows all of them.
    """
    first, *others = values
    order = sorted(metrics, key=lambda metric: metric != "topo_betti_matching_error")
    chosen: dict[tuple[str, str], Change] = {}
    for model in others:
        for metric in order:
            sign = 1 if MEASURES[metric].higher_is_better else -1
            changes = [
                Change(case, label, model, metric, sign * (round(b, 12) - round(a, 12)))
                for case in values[first].names
                for label in labels
                for a, b in [(values[name].value(case, label, metric) for name in (first, model))]
            ]
            changes = [change for change in changes if change.gain and not isnan(change.gain)]
            if changes:
                break
        else:
            continue
        changes.sort(key=lambda change: (change.gain, change.case, change.label))
        worse = [change for change in changes if change.gain < 0][:each_way]
        better = [change for change in reversed(changes) if change.gain > 0][:each_way]
        for change in (*better, *worse):
            chosen.setdefault((change.case, change.label), change)
    return list(chosen.values())


def draw_case(
    image: NDArray | None,
    reference: NDArray[np.bool_],
    predictions: Mapping[str, NDArray[np.bool_]],
    grid: Grid,
    connectivity: Connectivity,
    what: str,
    identity: int = 0,
) -> Markup:
    """Returns a row of pictures: reference, then each model, in the slice with most errors.

    Args:
        image: gray values [z, y, x], None to draw on black.
        reference: mask.
        predictions: masks of the models.
        grid: where the slices lie.
        connectivity: of the foreground.
        what: case and label, for readers who cannot see the pictures.
        identity: number of the row in its page.
    """
    flat = reference.shape[0] == 1
    errors = {
        model: _find_errors(mask, reference, connectivity) for model, mask in predictions.items()
    }
    index = _slice_to_show(reference, predictions, errors)
    masks = {"reference": reference} | dict(predictions)
    box = _box([mask[index] for mask in masks.values()])
    # The page contains once what all panels share.
    shared = f"slice-{identity}"
    height, width = (side.stop - side.start for side in box)
    background = tag(
        "g",
        None if image is None else gray_picture(gray_window(image, index, box), height, width),
        outline_of(reference[index][box], "reference"),
        id=shared,
    )
    panels = []
    for model, mask in masks.items():
        is_reference = not panels
        here = [] if is_reference else [e for e in errors[model] if e.voxel[0] == index]
        elsewhere = 0 if is_reference else len(errors[model]) - len(here)
        layers = [background] if is_reference else [tag("use", href=f"#{shared}")]
        if not is_reference:
            layers.append(outline_of(mask[index][box], "prediction"))
        panels.append(
            tag(
                "figure",
                panel(layers, here[:MOST_MARKS], box, grid, f"{what}: {model}"),
                tag("figcaption", name(model), _count(here, elsewhere, is_reference)),
            )
        )
    told = "" if flat else describe_slice(grid, index, len(reference))
    if grid.oblique:
        told += " The grid is oblique: its letters are the nearest."
    return join(
        tag("div", *panels, class_="slices"), tag("p", told, class_="small") if told else None
    )


def _find_errors(
    mask: NDArray[np.bool_], reference: NDArray[np.bool_], connectivity: Connectivity
) -> list[Unmatched]:
    """Returns the topological errors of a prediction; an image has one slice, 0."""
    if len(reference) > 1:
        return unmatched(mask, reference, connectivity=connectivity)
    return [
        replace(error, voxel=(0, *error.voxel))
        for error in unmatched(mask[0], reference[0], connectivity=connectivity)
    ]


def _slice_to_show(
    reference: NDArray[np.bool_],
    predictions: Mapping[str, NDArray[np.bool_]],
    errors: Mapping[str, list[Unmatched]],
) -> int:
    """Returns the slice in which most errors are largest; without any, where most voxels differ."""
    marks = np.zeros(len(reference))
    for error in (error for of_model in errors.values() for error in of_model):
        marks[error.voxel[0]] += 1
    differ = sum((mask != reference).sum(axis=(1, 2)) for mask in predictions.values())
    occupied = reference.sum(axis=(1, 2))
    order = np.stack([marks, differ, occupied], axis=1).tolist()
    return order.index(max(order))


def _box(masks: Sequence[NDArray[np.bool_]]) -> tuple[slice, slice]:
    union = np.logical_or.reduce(masks)
    if not union.any():
        return slice(0, union.shape[0]), slice(0, union.shape[1])
    ends = [np.flatnonzero(union.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    first, second = (
        slice(max(int(low) - MARGIN, 0), min(int(high) + MARGIN + 1, length))
        for (low, high), length in zip(ends, union.shape, strict=True)
    )
    return first, second


def _count(here: Sequence[Unmatched], elsewhere: int, is_reference: bool) -> str:
    if is_reference:
        return ""
    if not here and not elsewhere:
        return ": no topological error"
    found = Counter(error.kind for error in here)
    parts = [count(found[kind], kind) for kind in get_args(ErrorKind) if found[kind]]
    if len(here) > MOST_MARKS:
        parts.append(f"the {MOST_MARKS} largest marked")
    if elsewhere:
        parts.append(f"{count(elsewhere, 'more error')} in other slices")
    return ": " + ", ".join(parts)
