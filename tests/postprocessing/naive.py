"""Steps, scores and the search written as plainly as possible, to compare with."""

from itertools import product

import numpy as np
from scipy import ndimage

from nnunet_topo.metrics import compute

FULL, FACE = "full", "face"


def components(mask, connectivity):
    reach = mask.ndim if connectivity == FULL else 1
    return ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, reach))


def distance(one, other, spacing):
    return np.sqrt((((np.array(one) - np.array(other)) * spacing) ** 2).sum())


def closing(mask, radius, spacing):
    """Returns the closing by a ball, voxel by voxel, as in an unlimited image of background."""
    width = [int(np.ceil(radius / side)) + 1 for side in spacing]
    padded = np.pad(mask, [(2 * w, 2 * w) for w in width])
    steps = [
        step
        for step in product(*(range(-w, w + 1) for w in width))
        if distance(step, np.zeros(len(step)), spacing) <= radius + 1e-9
    ]
    grown = np.zeros_like(padded)
    for step in steps:
        grown |= np.roll(padded, step, range(mask.ndim))
    closed = np.ones_like(padded)
    for step in steps:
        closed &= np.roll(grown, step, range(mask.ndim))
    return closed[tuple(slice(2 * w, -2 * w) for w in width)]


def close_gaps(mask, may_take, radius, spacing, connectivity):
    labels, _ = components(mask, connectivity)
    added = closing(mask, radius, np.asarray(spacing)) & ~mask & may_take
    parts, number = components(added, connectivity)
    result = mask.copy()
    reach = mask.ndim if connectivity == FULL else 1
    cross = ndimage.generate_binary_structure(mask.ndim, reach)
    for part in range(1, number + 1):
        touched = labels[ndimage.binary_dilation(parts == part, cross)]
        if len(set(touched.tolist()) - {0}) > 1:
            result |= parts == part
    return result


def fill_holes(mask, may_take, largest, spacing, connectivity):
    other = FACE if connectivity == FULL else FULL
    regions, number = components(np.pad(~mask, 1, constant_values=True), other)
    result = mask.copy()
    for region in range(1, number + 1):
        hole = regions == region
        inside = hole[(slice(1, -1),) * mask.ndim]
        if hole.sum() == inside.sum() and hole.sum() * np.prod(spacing) <= largest + 1e-9:
            result |= inside & may_take
    return result


def change(mask, may_take, steps, spacing, connectivity, probability=None):
    if steps.threshold is not None:
        mask = mask | (may_take & (probability >= steps.threshold))
    if steps.close_gaps is not None:
        mask = close_gaps(mask, may_take, steps.close_gaps, spacing, connectivity)
    if steps.fill_holes is not None:
        mask = fill_holes(mask, may_take, steps.fill_holes, spacing, connectivity)
    labels, number = components(mask, connectivity)
    sizes = [(labels == label).sum() * np.prod(spacing) for label in range(1, number + 1)]
    kept = set(range(1, number + 1))
    if steps.remove_below is not None:
        kept = {label for label in kept if sizes[label - 1] >= steps.remove_below - 1e-9}
    if steps.keep_largest is not None:
        largest = sorted(range(1, number + 1), key=lambda label: -sizes[label - 1])
        kept &= set(largest[: steps.keep_largest])
    return np.isin(labels, list(kept)) & mask


def score(mask, reference, connectivity, metric="topo_betti_matching_error"):
    metrics = compute(mask, reference, connectivity=connectivity)
    return metrics[metric], metrics["Dice"]


def search(errors, dice, candidates, max_dice_loss):
    """Returns the candidate of the lowest mean error; on a tie that with fewer steps, and so on."""
    best = None
    for index, steps in enumerate(candidates):
        losses = []
        for case in range(len(dice)):
            before, after = dice[case][0], dice[case][index]
            if np.isnan(after):
                losses.append(0.0)
            else:
                losses.append((1.0 if np.isnan(before) else before) - after)
        if np.mean(losses) > max_dice_loss + 1e-9:
            continue
        mean = np.mean([errors[case][index] for case in range(len(errors))])
        rank = (round(mean, 9), len(steps), round(np.mean(losses), 9), index)
        if best is None or rank < best:
            best = rank
    return best[-1]
