"""Small images with masks, and their Betti matching beside that of its authors' code."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from nnunet_topo.topology import match_betti, persistence_pairs


def random_pair(seed, shape=None):
    """Returns a prediction of one of many kinds, and a mask that it has something to do with."""
    rng = np.random.default_rng(seed)
    if shape is None:
        shape = tuple(rng.integers(1, 7, 2)) if rng.random() < 0.5 else tuple(rng.integers(1, 5, 3))
    mask = rng.random(shape) < rng.choice([0.2, 0.5, 0.7, 0.85])
    other = np.where(rng.random(shape) < 0.15, ~mask, mask)
    kinds = [
        lambda: rng.random(shape),
        lambda: 0.5 * rng.random(shape) + 0.5 * other,
        lambda: rng.integers(0, 5, shape) / 4,
        lambda: np.clip(1.4 * rng.random(shape) + 0.7 * other - 0.6, 0, 1),
        lambda: other.astype(float),
    ]
    return kinds[rng.integers(len(kinds))](), mask


def two_images(seed, shape=None):
    """Returns a prediction and a target of many values, of one of many kinds."""
    rng = np.random.default_rng(seed)
    if shape is None:
        shape = tuple(rng.integers(1, 7, 2)) if rng.random() < 0.5 else tuple(rng.integers(1, 5, 3))
    noise = rng.choice([0.1, 0.3, 0.6]) * rng.standard_normal(shape)
    p = rng.random(shape) ** rng.choice([0.2, 1, 3])  # few dark voxels are cavities
    kinds = [
        lambda: (p, np.clip(p + noise, 0, 1)),
        lambda: (p, rng.random(shape)),
        lambda: (np.round(4 * p) / 4, np.round(4 * np.clip(p + noise, 0, 1)) / 4),
        lambda: (np.clip(2 * p - 0.5, 0, 1), np.clip(2 * (p + noise) - 0.5, 0, 1)),
        lambda: (np.full(shape, 0.5), p),
    ]
    return kinds[rng.choice(5, p=[0.3, 0.2, 0.25, 0.2, 0.05])]()


def two_images_without_ties(seed, flat):
    """Returns a prediction and a target, all of whose values differ, of 2 or 3 dimensions."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 9, 2)) if flat else tuple(rng.integers(2, 6, 3))
    p = rng.random(shape) ** rng.choice([0.2, 1, 3])
    of_other = rng.choice([0.1, 0.3, 0.6, 1])
    return p, (1 - of_other) * p + of_other * rng.random(shape) ** rng.choice([0.2, 1, 3])


def found_of_both(p, target, connectivity, k, **options):
    """Returns the bars of both images that end, and matches of these as two births, as voxels."""
    result = match_betti(p, target, connectivity=connectivity, dimensions=[k], **options)
    bars = [
        Counter((int(b), int(d)) for b, d in zip(own.birth, own.death, strict=True) if d >= 0)
        for own in (result.prediction, result.target)
    ]
    matched = Counter(
        (int(result.prediction.birth[a]), int(result.target.birth[b]))
        for a, b in result.matched
        if result.prediction.death[a] >= 0
    )
    return *bars, matched


def values_of_both(matched, p, target):
    """Returns the births that are matched as values."""
    return Counter((p.flat[a], target.flat[b]) for a, b in matched.elements())


def found(p, mask, connectivity, k, **options):
    """Returns bars of the prediction, ends of the target's bars, and matches, as voxels."""
    result = match_betti(p, mask, connectivity=connectivity, dimensions=[k], **options)
    of_p, of_mask = result.prediction, result.target
    finite = of_p.death >= 0
    bars = Counter(zip(of_p.birth[finite].tolist(), of_p.death[finite].tolist(), strict=True))
    ended = Counter(of_mask.death[of_mask.death >= 0].tolist())
    matched = Counter(
        (int(of_p.birth[a]), int(of_mask.death[b]))
        for a, b in result.matched
        if of_mask.death[b] >= 0
    )
    return bars, ended, matched


def values(bars, image):
    flat = image.ravel()
    return Counter({(flat[a], flat[b]): 0 for a, b in bars}) + Counter(
        (flat[a], flat[b]) for a, b in bars.elements()
    )


@dataclass(frozen=True)
class Compared:
    """What the authors' code matches in one dimension.

    `equal`: all bars are the same, and all of our matches are among theirs. `further`: how many
    more they match; they also match a class that is born in F only after it has died in C.
    """

    equal: bool
    further: int
    matched: int


def pair_without_ties(seed, flat):
    """Returns a prediction of distinct values and a mask, of 2 or 3 dimensions."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 9, 2)) if flat else tuple(rng.integers(2, 7, 3))
    mask = rng.random(shape) < rng.choice([0.3, 0.6, 0.8] if flat else [0.3, 0.6, 0.8, 0.97])
    voxels = np.prod(shape)
    p = (rng.permutation(voxels).reshape(shape) + 1) / (voxels + 2)
    return 0.45 * p + 0.5 * np.where(rng.random(shape) < 0.15, ~mask, mask), mask


def against_authors(authors, p, mask, k):
    """Compares one dimension; returns None where several bars of C meet at one voxel."""
    at = (comparison := persistence_pairs(p + 2 * mask, connectivity="face")).dimension == k
    for ends in (comparison.death[at], comparison.birth[at]):
        if max(Counter(ends.tolist()).values(), default=0) > 1:
            return None
    result = authors.compute_matching([1 - p], [1.0 - mask])[0]
    bars, ended, matched = found(p, mask, "face", k)
    theirs = _voxels(result.input1_matched_birth_coordinates[k], p.shape)
    others = _voxels(result.input1_unmatched_birth_coordinates[k], p.shape)
    births = Counter(birth for birth, _ in matched.elements())
    equal = (
        births <= Counter(theirs)
        and Counter(birth for birth, _ in bars.elements()) == Counter(theirs + others)
        and ended.total() == result.num_unmatched_input2[k] + len(theirs)
    )
    return Compared(equal, len(theirs) - births.total(), births.total())


def both_against_authors(authors, p, target, k):
    """Compares one dimension of two images; None where several bars of C meet at one voxel."""
    comparison = persistence_pairs(np.maximum(p, target), connectivity="face")
    at = comparison.dimension == k
    for ends in (comparison.death[at], comparison.birth[at]):
        if max(Counter(ends.tolist()).values(), default=0) > 1:
            return None
    result = authors.compute_matching([1 - p], [1 - target])[0]
    of_p, of_target, matched = found_of_both(p, target, "face", k)
    sides = []
    theirs = []
    for side, bars in ((1, of_p), (2, of_target)):
        paired, alone = (
            _voxels(getattr(result, f"input{side}_{kind}_birth_coordinates")[k], p.shape)
            for kind in ("matched", "unmatched")
        )
        sides.append(Counter(birth for birth, _ in bars.elements()) == Counter(paired + alone))
        theirs.append(paired)
    pairs = Counter(zip(*theirs, strict=True))
    equal = all(sides) and matched <= pairs
    return Compared(equal, pairs.total() - matched.total(), matched.total())


def _voxels(coordinates, shape):
    coordinates = np.asarray(coordinates, int).reshape(-1, len(shape))
    return np.ravel_multi_index(tuple(coordinates.T), shape).tolist() if len(coordinates) else []


def authors_module():
    """Returns the authors' C++ extension, alone or in topolosses, or None."""
    try:
        import betti_matching  # pyright: ignore[reportMissingImports]
    except ImportError:
        try:
            from topolosses.losses.betti_matching.src.betti_matching_loss import (  # pyright: ignore[reportMissingImports]
                betti_matching,
            )
        except ImportError:
            return None
    return betti_matching
