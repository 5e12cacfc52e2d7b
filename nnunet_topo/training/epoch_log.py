"""What a training records of its topology term, step by step and epoch by epoch."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, nan
from typing import Any

import numpy as np

from nnunet_topo.training.loss import StepRecord
from nnunet_topo.training.ranks import Ranks
from nnunet_topo.training.schedule import WeightSchedule


def with_term(result: dict[str, Any], record: StepRecord, weight: float | None) -> dict[str, Any]:
    """Returns nnU-Net's result of a step with the base loss as its loss, and the term beside it.

    Args:
        result: of nnU-Net's step.
        record: what the loss computed.
        weight: of the term, None if the term was not computed.
    """
    return result | {
        "loss": np.asarray(record.base, dtype=result["loss"].dtype),
        "topology_term": record.term,
        "topology_distance": record.distance,
        "topology_weight": nan if weight is None else weight,
        "topology_ms": record.milliseconds,
        "topology_used": record.used,
        "topology_samples": record.samples,
    }


def epoch_figures(
    results: Sequence[Mapping[str, Any]], keys: Iterable[str], ranks: Ranks
) -> dict[str, float]:
    """Returns the mean of each figure over an epoch and all processes, NaN if it is not known.

    The weight is the one in force at the end, 0 before the term starts.

    Args:
        results: of this process's steps.
        keys: of the figures.
        ranks: processes of the training.
    """
    own = {key: [result[key] for result in results] for key in keys}
    processes = ranks.gathered(own)
    figures: dict[str, float] = {}
    for key in own:
        known = [value for process in processes for value in process[key] if np.isfinite(value)]
        figures[key] = float(np.mean(known)) if known else nan
        if key == "topology_weight":
            figures[key] = known[-1] if known else 0.0
    return figures


def epoch_line(figures: Mapping[str, float], schedule: WeightSchedule, epoch: int) -> str:
    """Returns the line of an epoch for nnU-Net's log.

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
        return line.format(**known)
    if not schedule.is_on:
        return "topology: the term is off, weight 0"
    if epoch < schedule.start:
        return f"topology: the term starts in epoch {schedule.start}"
    if known.get("topology_samples") == 0:
        return "topology: the term was not computed in this epoch, in which no label was intact"
    return "topology: the term was not computed in this epoch"
