"""Repairs of a mask, and its scores."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import closing, disk

from experiments.semi_supervised_sunnybrook.slices import Slices
from experiments.semi_supervised_sunnybrook.training import dice_of
from nnunet_topo.topology import betti_numbers

Masks = NDArray[np.bool_]


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the largest 8-connected component."""
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    return parts == np.bincount(parts.flat)[1:].argmax() + 1 if mask.any() else mask


def closed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the closing by a disk of radius 7, the paper's."""
    return closing(np.pad(mask, 7), disk(7))[7:-7, 7:-7]


def repaired_arms(supervised: Masks, prior: Masks) -> dict[str, Masks]:
    """Returns the arms that repair the masks of another one, without training."""

    def each(repair: Callable[[Masks], Masks], masks: Masks) -> Masks:
        return np.stack([repair(mask) for mask in masks])

    whole = each(closed, supervised)
    return {
        "component": each(largest_component, supervised),
        "closing": whole,
        "closing_component": each(largest_component, whole),
        "prior_component": each(largest_component, prior),
    }


def measure(
    predicted: NDArray[np.bool_], slices: Slices, betti: tuple[int, int]
) -> dict[str, dict[str, float]]:
    """Returns Dice and share of correct topology, over the slices of each group and over all."""
    dice = dice_of(predicted, slices)
    correct = np.array([betti_numbers(mask) == betti for mask in predicted], float)
    groups = {"all": np.ones(len(dice), bool)}
    groups |= {str(name): slices.groups == name for name in np.unique(slices.groups)}
    return {
        "dice": {name: round(float(dice[chosen].mean()), 4) for name, chosen in groups.items()},
        "correct": {
            name: round(float(correct[chosen].mean()), 4) for name, chosen in groups.items()
        },
    }
