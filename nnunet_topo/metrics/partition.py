"""Information and pairs shared by the components of two masks."""

from math import nan

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.betti import label_components


def compare_components(
    p: Bool[np.ndarray, " *space"],
    r: Bool[np.ndarray, " *space"],
    connectivity: Connectivity,
    voxels: int,
) -> dict[str, float]:
    """Returns how far two images are alike as partitions into components and background.

    - `topo_voi`: variation of information H(P | R) + H(R | P), in bits; 0 where they are equal.
      Meila: Comparing Clusterings. COLT 2003.
    - `topo_ari`: adjusted Rand index, 1 where they are equal, 0 by chance; NaN where both have one
      part alone. Hubert, Arabie: Comparing Partitions. J. Classification 1985.

    Args:
        p: mask, cropped.
        r: mask, likewise.
        connectivity: of the foreground.
        voxels: of the image; those that were cropped count as background in both.
    """
    (of_p, _), (of_r, parts) = (label_components(mask, connectivity) for mask in (p, r))
    either = p | r
    pair, number = np.unique(of_p[either] * np.int64(parts + 1) + of_r[either], return_counts=True)
    number = np.append(number, voxels - number.sum())  # background in both
    sizes = [np.bincount(np.append(of_one, 0), number) for of_one in np.divmod(pair, parts + 1)]
    same, (same_p, same_r) = _pairs(number), map(_pairs, sizes)
    by_chance = same_p * same_r / max(_pairs(np.array(voxels)), 1.0)
    best = (same_p + same_r) / 2
    return {
        "topo_voi": max(0.0, 2 * _entropy(number) - sum(map(_entropy, sizes))),
        "topo_ari": (same - by_chance) / (best - by_chance) if best > by_chance else nan,
    }


def _entropy(sizes: NDArray) -> float:
    share = sizes[sizes > 0] / max(float(sizes.sum()), 1.0)
    return float(-np.sum(share * np.log2(share)))


def _pairs(sizes: NDArray) -> float:
    sizes = sizes.astype(np.float64)
    return float(np.sum(sizes * (sizes - 1) / 2))
