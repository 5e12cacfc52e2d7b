"""Betti errors in random windows of an image, which tell of many small structures one by one.

Hu, Li, Samaras, Chen: Topology-Preserving Deep Image Segmentation. NeurIPS 2019; "Metrics used" and
"Random Sampling" in Datta: Preservation of Topology using Deep Image Segmentation. 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from nnunet_topo.topology import Connectivity, betti_numbers
from nnunet_topo.topology.masks import Box

_SEED = 0


@dataclass(frozen=True, slots=True)
class Windows:
    """Which windows Betti numbers are counted in.

    Attributes:
        side: of the square or cube, in voxels; an axis that is shorter is taken whole.
        number: of windows in each image.
    """

    side: int = 65
    number: int = 100

    def __post_init__(self) -> None:
        """Raises ValueError on a side or a number that is no window."""
        if self.side < 1 or self.number < 1:
            raise ValueError(
                f"windows must have a side of at least 1 and be at least 1, got a side of "
                f"{self.side}, {self.number} of them"
            )

    def __str__(self) -> str:
        return f"{self.number} of {self.side} voxels a side"

    def corners(self, shape: Sequence[int]) -> Int64[np.ndarray, "windows 2 axes"]:
        """Returns first and last corner of each window, the last one excluded.

        Windows lie inside the image, at any position with the same probability. They depend on the
        shape alone: all labels and all predictions of an image are compared in the same windows.
        """
        lengths = np.array(shape)
        sides = np.minimum(self.side, lengths)
        free = lengths - sides + 1
        rng = np.random.default_rng(_SEED)
        first = (rng.random((self.number, len(lengths))) * free).astype(np.int64)
        return np.stack([first, first + sides], axis=1)


def betti_in_windows(
    p: Bool[np.ndarray, " *space"],
    r: Bool[np.ndarray, " *space"],
    box: Box,
    corners: Int64[np.ndarray, "windows 2 axes"],
    connectivity: Connectivity,
) -> Int64[np.ndarray, "masks windows dimensions"]:
    """Returns the Betti numbers of prediction and reference in each window.

    What a window cuts ends there: outside of it there is background.

    Args:
        p: prediction, in a box that holds its foreground.
        r: reference, in the same box.
        box: where in the image.
        corners: first and last corner of each window, in the image.
        connectivity: of the foreground.
    """
    start, stop = np.array([(side.start, side.stop) for side in box]).T
    first = np.maximum(corners[:, 0], start) - start
    last = np.minimum(corners[:, 1], stop) - start
    betti = np.zeros((2, len(corners), p.ndim), np.int64)
    for window in np.flatnonzero((first < last).all(axis=1)):
        inside = tuple(map(slice, first[window], last[window]))
        of_p, of_r = p[inside], r[inside]
        if of_p.any():
            betti[0, window] = betti_numbers(of_p, connectivity=connectivity)
        if np.array_equal(of_p, of_r):
            betti[1, window] = betti[0, window]
        elif of_r.any():
            betti[1, window] = betti_numbers(of_r, connectivity=connectivity)
    return betti


def window_errors(
    betti: Sequence[Int64[np.ndarray, "masks windows dimensions"]],
    shape: Sequence[int],
) -> dict[str, float]:
    """Returns the mean absolute differences over all windows, in each dimension and in sum.

    Args:
        betti: Betti numbers in each box that holds foreground, between which there is background.
        shape: windows and dimensions.
    """
    total = sum(betti, np.zeros((2, *shape), np.int64))
    errors = np.abs(total[0] - total[1]).mean(axis=0)
    of_dimensions = {f"topo_betti_error_windows_{k}": float(e) for k, e in enumerate(errors)}
    return of_dimensions | {"topo_betti_error_windows": float(errors.sum())}
