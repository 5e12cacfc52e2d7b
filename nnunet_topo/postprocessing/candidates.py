"""All candidates of the grid on one mask, each scored, none computed twice."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.files import digest
from nnunet_topo.postprocessing.masks import (
    Mask,
    close_gaps,
    fill_holes,
    is_kept,
    measure_components,
)
from nnunet_topo.postprocessing.scores import Score, Scorer, scored_box
from nnunet_topo.postprocessing.steps import Grid
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.masks import Box


def score_candidates(
    prediction: Mask,
    reference: Mask,
    may_take: Mask,
    grid: Grid,
    *,
    counted: Mask | None,
    probability: NDArray[np.floating] | None,
    spacing: NDArray[np.float64],
    connectivity: Connectivity,
    metric: str,
) -> list[Score]:
    """Returns the score of each candidate, in the order of `Grid.candidates`.

    Args:
        prediction: mask of the label, 2D or 3D.
        reference: of the same shape.
        may_take: voxels that may be added to the prediction.
        grid: candidates.
        counted: voxels that count in a score, None for all.
        probability: of the label, needed if the grid has thresholds.
        spacing: size of a voxel along each axis.
        connectivity: of the foreground.
        metric: one of `METRICS`.

    Raises:
        ValueError: unknown metric, or no probabilities for the thresholds.
    """
    if grid.thresholds and probability is None:
        raise ValueError("the grid has thresholds, so the probabilities are needed")
    # What no candidate can change is left out: all added voxels lie in the box of what remains.
    taken = may_take & (probability >= min(grid.thresholds)) if grid.thresholds else None  # pyright: ignore[reportOptionalOperand] # checked above
    box = scored_box(metric, *(mask for mask in (prediction, reference, taken) if mask is not None))
    prediction, reference, may_take = prediction[box], reference[box], may_take[box]
    scorer = Scorer(
        reference,
        None if counted is None else counted[box],
        metric=metric,
        spacing=spacing,
        connectivity=connectivity,
    )
    voxel = float(np.prod(spacing))
    components: dict[str, list[Score]] = {}
    scores: list[Score] = []
    for wider in _with_thresholds(prediction, may_take, grid, probability, box):
        for joined in _with_radii(wider, may_take, grid, spacing, connectivity):
            for filled in _with_holes(joined, may_take, grid, voxel, connectivity):
                identity = digest(np.packbits(filled).tobytes())
                if identity not in components:
                    components[identity] = _without_components(
                        filled, grid, scorer, voxel, connectivity
                    )
                scores += components[identity]
    return scores


def _with_thresholds(
    mask: Mask, may_take: Mask, grid: Grid, probability: NDArray[np.floating] | None, box: Box
) -> Iterator[Mask]:
    yield mask
    for threshold in grid.thresholds:
        yield mask | (may_take & (probability[box] >= threshold))  # pyright: ignore[reportOptionalSubscript] # checked before


def _with_radii(
    mask: Mask,
    may_take: Mask,
    grid: Grid,
    spacing: NDArray[np.float64],
    connectivity: Connectivity,
) -> Iterator[Mask]:
    yield mask
    for radius in grid.radii:
        yield close_gaps(mask, may_take, radius, spacing, connectivity)


def _with_holes(
    mask: Mask, may_take: Mask, grid: Grid, voxel: float, connectivity: Connectivity
) -> Iterator[Mask]:
    yield mask
    for largest in grid.holes:
        yield fill_holes(mask, may_take, largest, voxel, connectivity)


def _without_components(
    mask: Mask, grid: Grid, scorer: Scorer, voxel: float, connectivity: Connectivity
) -> list[Score]:
    """Returns the scores of all choices of components; a sweep only scores what differs."""
    labels, sizes = measure_components(mask, voxel, connectivity)
    known: dict[bytes, Score] = {}
    scores = []
    for remove_below, keep_largest in grid.of_components():
        kept = is_kept(sizes, remove_below, keep_largest)
        if kept.tobytes() not in known:
            chosen = mask if kept.all() else np.append(False, kept)[labels]
            known[kept.tobytes()] = scorer.score(chosen)
        scores.append(known[kept.tobytes()])
    return scores
