"""The figures of the topology term that a training records in each step and each epoch."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, nan
from typing import Any

import numpy as np

from nnunet_topo.training.added_losses import LABELS, AddedWeights, BaseWithAddedLosses
from nnunet_topo.training.loss import StepRecord
from nnunet_topo.training.ranks import Ranks
from nnunet_topo.training.schedule import WeightSchedule

_BARS = ("topology_matched", "topology_removed", "topology_missing")


def with_term(
    result: dict[str, Any], record: StepRecord, weight: float | None, every: int
) -> dict[str, Any]:
    """Returns nnU-Net's result of a step with the base loss as its loss, and the term's figures.

    Args:
        result: of nnU-Net's step.
        record: what the loss computed.
        weight: of the term, None if the term was not computed or had no weight yet.
        every: n if the term is computed in every n-th iteration, with n times its weight.
    """
    has_gradient = ratio = nan
    if weight is not None:
        base, term = float(record.base_gradient), float(record.term_gradient)
        has_gradient = float(term > 0)  # 0 if the term is NaN, in a step without samples
        if base > 0 and term > 0:
            ratio = term / base / every  # averaged over all iterations
    bars = record.bars
    counts = (nan,) * 3 if bars is None else (bars.matched, bars.removed, bars.missing)
    return result | {
        "loss": np.asarray(record.base, dtype=result["loss"].dtype),
        "topology_term": record.term,
        "topology_distance": record.distance,
        "topology_weight": nan if weight is None else weight,
        "topology_ratio": ratio,
        "topology_gradient": has_gradient,
        **dict(zip(_BARS, counts, strict=True)),
        "topology_ms": record.milliseconds,
        "topology_used": record.used,
        "topology_samples": record.samples,
    }


def with_added(result: dict[str, Any], added: BaseWithAddedLosses | None) -> dict[str, Any]:
    """Returns the result of a step without the added losses in its loss, and them beside it.

    Args:
        result: of a step, with its loss or base loss.
        added: what computed it, None if nothing is added.
    """
    if added is None:
        return result
    loss = np.asarray(result["loss"] - added.added, dtype=result["loss"].dtype)
    return result | {"loss": loss} | added.values


def added_line(figures: Mapping[str, float], weights: AddedWeights) -> str:
    """Returns the line of an epoch that tells the added losses, for nnU-Net's log."""
    losses = [
        f"{LABELS[key]} {figures[key]:.4f} (weight {weight:g})"
        for key, weight in weights.factors.items()
    ]
    return f"topology: {', '.join(losses)}"


def epoch_figures(
    results: Sequence[Mapping[str, Any]], keys: Iterable[str], ranks: Ranks
) -> dict[str, float]:
    """Returns the mean of each figure over an epoch and all processes, NaN if it is not known.

    The weight is the last one of the epoch, 0 if there was none. Numbers of bars are summed over
    the processes and averaged over iterations.

    Args:
        results: of the steps of this process.
        keys: of the figures.
        ranks: processes of the training.
    """
    own = {key: [result[key] for result in results] for key in keys}
    processes = ranks.gathered(own)
    figures: dict[str, float] = {}
    for key in own:
        known = [value for process in processes for value in process[key] if np.isfinite(value)]
        figures[key] = float(np.mean(known)) if known else nan
        if key in _BARS:
            figures[key] *= len(processes)
        if key == "topology_weight":
            figures[key] = known[-1] if known else 0.0
    return figures


def epoch_lines(figures: Mapping[str, float], schedule: WeightSchedule, epoch: int) -> list[str]:
    """Returns the lines of an epoch for nnU-Net's log.

    Args:
        figures: of the epoch.
        schedule: of the term's weight.
        epoch: counted from 0.
    """
    known = {key: value for key, value in figures.items() if isfinite(value)}
    if "topology_term" in known:
        line = "topology: term {topology_term:.4f}, "
        if "topology_distance" in known:
            line += "optimal Wasserstein distance {topology_distance:.4f}, "
        line += "weight {topology_weight:.4g}, {topology_ms:.1f} ms per iteration"
        if "topology_samples" in known:
            line += ", on {topology_samples:.0%} of the samples"
        if "topology_used" in known:
            line += ", prior applied to {topology_used:.0%} of the objects in unlabelled images"
        what_it_did = "the term's weight is being measured"
        if "topology_gradient" in known:
            what_it_did = _what_it_did(known)
        return [line.format(**known), f"topology: {what_it_did}"]
    if not schedule.is_on:
        return ["topology: the term is off, weight 0"]
    if epoch < schedule.start:
        return [f"topology: the term starts in epoch {schedule.start}"]
    if known.get("topology_samples") == 0:
        return ["topology: the term was not computed in this epoch: no label was intact"]
    return ["topology: the term was not computed in this epoch"]


def _what_it_did(known: Mapping[str, float]) -> str:
    """Returns how often the term had a gradient, how large it was, and what happened to bars."""
    line = "the term had a gradient in {topology_gradient:.0%} of the iterations"
    if "topology_ratio" in known:
        line += ", {topology_ratio:.3g} times that of the base loss"
    if all(key in known for key in _BARS):
        line += (
            "; bars per iteration: {topology_matched:.1f} matched, {topology_removed:.1f} removed, "
            "{topology_missing:.1f} missing"
        )
    return line.format(**known)
