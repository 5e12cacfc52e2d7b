"""Input and output that all topology losses share."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class BarCounts:
    """How many bars of all samples and channels a loss keeps, removes and misses.

    Attributes:
        matched: bars that are pulled to a bar of the target, or to length 1 by a prior.
        removed: bars that are shortened.
        missing: bars of the target, or of the prior, for which the prediction has no bar.
    """

    matched: int
    removed: int
    missing: int

    def __add__(self, other: "BarCounts") -> "BarCounts":
        return BarCounts(
            self.matched + other.matched,
            self.removed + other.removed,
            self.missing + other.missing,
        )


@dataclass(frozen=True, slots=True)
class Measure:
    """A loss and the figures that a training logs with it.

    Attributes:
        loss: with its gradient.
        distance: exact Wasserstein distance under the optimal matching: squares are summed over
            bars and dimensions, and averaged over samples and channels (and tiles). NaN for a loss
            without such a distance.
        used: share of all pairs of sample and prior in which the prior was applied; NaN for a loss
            without priors.
        bars: numbers of bars; None for a loss without bars.
    """

    loss: Float[Tensor, ""]
    distance: float = nan
    used: float = nan
    bars: BarCounts | None = None


def prepare(
    probability: Float[Tensor, "batch channel *space"],
    target: Shaped[Tensor, "batch channel *space"] | None,
    mask: Shaped[Tensor, "batch 1 *space"] | None,
) -> tuple[Tensor, Tensor | None]:
    """Returns the probability in float32 or float64, and the target as booleans; ignored is 0.

    Args:
        probability: foreground probabilities in [0, 1], 2D or 3D space, of any precision.
        target: one-hot, 0 / 1 or boolean; it is not changed. None gives None.
        mask: False or 0 at ignored voxels, which are background in both and get no gradient.

    Raises:
        ValueError: the shapes do not fit, or the probabilities are not finite and in [0, 1].
    """
    check_shapes(probability, target)
    mask = as_mask(mask, probability)
    if probability.dtype != torch.float64:
        probability = probability.float()
    foreground = target
    if target is not None and target.dtype != torch.bool:
        foreground = target > 0.5
    if mask is not None:
        probability = torch.where(mask, probability, 0)
        foreground = None if foreground is None else foreground & mask
    if not probability.is_cuda and probability.numel():  # a GPU would have to wait for the answer
        check_probabilities(*probability.detach().aminmax())
    return probability, foreground


def sums_of_batch(
    sums: Float[Tensor, "sum batch channel"], gather: Callable[[Tensor], Tensor] | None
) -> Float[Tensor, "sum channel"]:
    """Returns sums of each sample as those of the whole batch.

    Args:
        sums: of each sample and channel.
        gather: returns the sums of all processes of a training, `[process, ...]`, with gradients;
            None for a single process.
    """
    sums = sums.sum(dim=1)
    return sums if gather is None else gather(sums).sum(dim=0)


def each_mask(
    function: Callable[[NDArray[np.bool_]], NDArray[np.bool_]],
    masks: Bool[Tensor, "batch channel *space"],
) -> Bool[Tensor, "batch channel *space"]:
    """Returns what a function makes of the mask of each sample and channel, on the CPU."""
    made = [function(mask) for mask in masks.flatten(0, 1).cpu().numpy()]
    return torch.from_numpy(np.stack(made)).view_as(masks).to(masks.device)


def as_mask(mask: Tensor | None, values: Tensor) -> Bool[Tensor, "batch 1 *space"] | None:
    """Returns a mask as booleans, whatever its type.

    Raises:
        ValueError: its shape is not that of the values with one channel.
    """
    if mask is None:
        return None
    wanted = (len(values), 1, *values.shape[2:])
    if mask.shape != wanted:
        raise ValueError(f"mask must have the shape {wanted}, got {tuple(mask.shape)}")
    return mask if mask.dtype == torch.bool else mask > 0.5


def check_probabilities(least: Tensor | float, largest: Tensor | float) -> None:
    """Checks the bounds of values that are given as probabilities.

    Raises:
        ValueError: they are NaN, infinite, or not in [0, 1], but for rounding.
    """
    if not (-inf < least and largest < inf):
        raise ValueError("probability must be finite, got NaN or infinite values")
    if least < -_ROUNDING or largest > 1 + _ROUNDING:
        raise ValueError(
            f"probability must lie in [0, 1], got values from {float(least):.4g} to "
            f"{float(largest):.4g}; of logits take the sigmoid or softmax first"
        )


def check_shapes(probability: Tensor, target: Tensor | None) -> None:
    """Checks probabilities, or logits, and their target.

    Raises:
        ValueError: they have no batch, channel and 2 or 3 axes of space, or differ in shape.
    """
    if probability.ndim not in (4, 5) or (target is not None and probability.shape != target.shape):
        raise ValueError(
            "probability and target must have the same shape, [batch, channel] and 2 or 3 axes of "
            f"space, got {tuple(probability.shape)}"
            + ("" if target is None else f" and {tuple(target.shape)}")
        )
