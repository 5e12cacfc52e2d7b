"""Information and pairs shared by the components of two masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

_MOST_CELLS = 10_000  # of a table that is counted at once


@dataclass(frozen=True, slots=True)
class Overlaps:
    """How many voxels the components of two masks share, or those of a part of them.

    Attributes:
        shared: voxels of each pair of a component or the background of either, where there are any;
            not of the background of both.
        prediction: voxels of each component of the prediction.
        reference: voxels of each component of the reference.
    """

    shared: Int[np.ndarray, " pairs"]
    prediction: Int[np.ndarray, " components"]
    reference: Int[np.ndarray, " others"]


def count_overlaps(
    p: Int[np.ndarray, " *space"], r: Int[np.ndarray, " *space"], components: tuple[int, int]
) -> Overlaps:
    """Returns the overlaps of two label maps, with labels from 1 up to a number for each."""
    of_p, of_r = (number + 1 for number in components)
    either = np.flatnonzero((p | r).ravel())
    pairs = p.ravel()[either].astype(np.int64) * of_r + r.ravel()[either]
    if of_p * of_r <= _MOST_CELLS:
        table = np.bincount(pairs, minlength=of_p * of_r).reshape(of_p, of_r)
        return Overlaps(table[table > 0], table.sum(axis=1)[1:], table.sum(axis=0)[1:])
    pairs, shared = np.unique(pairs, return_counts=True)
    sizes = [
        np.bincount(part, shared, number).astype(np.int64)[1:]
        for part, number in zip(np.divmod(pairs, of_r), (of_p, of_r), strict=True)
    ]
    return Overlaps(shared, *sizes)


def compare_partitions(overlaps: Sequence[Overlaps], voxels: int) -> dict[str, float]:
    """Returns the similarity of two images as partitions into components and background.

    - `topo_voi`: variation of information H(P | R) + H(R | P), in bits; 0 where they are equal.
      Meila: Comparing Clusterings. COLT 2003.
    - `topo_ari`: adjusted Rand index, 1 where they are equal, 0 by chance. Hubert, Arabie:
      Comparing Partitions. J. Classification 1985. A partition with only one part, or into single
      voxels, only has 1 with itself, as in scikit-learn.

    Args:
        overlaps: of all components.
        voxels: of the image; those in no component are background in both.
    """
    shared, p, r = (
        np.concatenate([np.zeros(0, np.int64), *(getattr(part, name) for part in overlaps)])
        for name in ("shared", "prediction", "reference")
    )
    joint, p, r = (np.append(sizes, voxels - sizes.sum()) for sizes in (shared, p, r))
    same, same_p, same_r = map(_pairs, (joint, p, r))
    by_chance = same_p * same_r / max(_pairs(np.array(voxels)), 1.0)
    best = (same_p + same_r) / 2
    return {
        "topo_voi": max(0.0, 2 * _entropy(joint) - _entropy(p) - _entropy(r)),
        "topo_ari": (same - by_chance) / (best - by_chance) if best > by_chance else 1.0,
    }


def _entropy(sizes: NDArray) -> float:
    share = sizes[sizes > 0] / max(float(sizes.sum()), 1.0)
    return float(-np.sum(share * np.log2(share)))


def _pairs(sizes: NDArray) -> float:
    sizes = sizes.astype(np.float64)
    return float(np.sum(sizes * (sizes - 1) / 2))
