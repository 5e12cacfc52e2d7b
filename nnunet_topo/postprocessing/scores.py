"""How good a mask is: one topology metric, and Dice; many masks against one reference, fast.

The homology of a mask is the sum of that of its components. So the Betti numbers in common with a
reference are added up over the components of the union of both, and a component of the union that
has been seen before is not measured again. Where a step removes an island, only the island changes.
"""

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_topo.files import digest
from nnunet_topo.metrics import compute
from nnunet_topo.postprocessing.masks import Mask, box_around
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.betti_matching import BettiMatching, match_betti_numbers
from nnunet_topo.topology.masks import Box, label_components

DEFAULT_METRIC = "topo_betti_matching_error"
_COUNTED = (
    DEFAULT_METRIC,
    "topo_betti_error",
    "topo_betti_error_0",
    "topo_betti_error_1",
    "topo_betti_error_2",
    "topo_betti_exact",
    "topo_euler_error",
    "topo_cce_3d",
)
_COMPUTED = ("topo_cce_2d", "topo_cldice", "topo_voi", "topo_ari")
_OF_ALL_VOXELS = ("topo_voi", "topo_ari")  # the background is a part like any other
METRICS = _COUNTED + _COMPUTED
HIGHER_IS_BETTER = ("topo_betti_exact", "topo_cldice", "topo_ari")


@dataclass(frozen=True, slots=True)
class Score:
    """A mask compared with its reference.

    Attributes:
        error: the metric; NaN where it is undefined.
        dice: overlap, NaN where both are empty.
    """

    error: float
    dice: float


class Scorer:
    """Scores masks against one reference.

    Args:
        reference: 2D or 3D.
        counted: voxels that count, others are background in both; None for all.
        metric: one of `METRICS`.
        spacing: size of a voxel along each axis.
        connectivity: of the foreground.

    Raises:
        ValueError: the metric is not known, or not defined in 2D.
    """

    def __init__(
        self,
        reference: Mask,
        counted: Mask | None,
        *,
        metric: str,
        spacing: NDArray[np.float64],
        connectivity: Connectivity,
    ) -> None:
        check_metric(metric)
        if metric == "topo_betti_error_2" and reference.ndim == 2:
            raise ValueError(f"{metric} counts cavities, but the images are 2D")
        self._reference = reference if counted is None else reference & counted
        self._counted = counted
        self._metric = metric
        self._spacing = spacing
        self._connectivity: Connectivity = connectivity
        self._voxels = int(np.count_nonzero(self._reference))
        self._of_masks: dict[str, Score] = {}
        self._of_components: dict[tuple[object, str], BettiMatching] = {}
        self.computed = 0  # masks that were not known yet

    def score(self, mask: Mask) -> Score:
        """Returns the score of a mask of the reference's shape."""
        if self._counted is not None:
            mask = mask & self._counted
        identity = digest(np.packbits(mask).tobytes())
        if identity not in self._of_masks:
            self._of_masks[identity] = Score(self._error(mask), self._dice(mask))
            self.computed += 1
        return self._of_masks[identity]

    def _dice(self, mask: Mask) -> float:
        both = int(np.count_nonzero(mask & self._reference))
        total = int(np.count_nonzero(mask)) + self._voxels
        return 2 * both / total if total else nan

    def _error(self, mask: Mask) -> float:
        if self._metric in _COMPUTED:
            measured = compute(
                mask,
                self._reference,
                spacing_mm=self._spacing.tolist(),
                connectivity=self._connectivity,
            )
            return float(measured[self._metric])
        return value_of(self._metric, self.match(mask))

    def match(self, mask: Mask) -> BettiMatching:
        """Returns what `match_betti_numbers` does of a mask and the reference."""
        union, number = label_components(mask | self._reference, self._connectivity)
        sums = np.zeros((3, mask.ndim), np.int64)
        for label, box in enumerate(ndimage.find_objects(union, number), start=1):
            if box is None:  # never: each component has voxels
                continue
            own = union[box] == label
            pair = mask[box] & own, self._reference[box] & own
            place = tuple((side.start, side.stop) for side in box)
            identity = place, digest(b"", *(np.packbits(part).tobytes() for part in pair))
            if identity not in self._of_components:
                self._of_components[identity] = match_betti_numbers(
                    *pair, connectivity=self._connectivity
                )
            found = self._of_components[identity]
            sums += [found.prediction, found.reference, found.matched]
        prediction, reference, matched = (tuple(map(int, row)) for row in sums)
        return BettiMatching(prediction, reference, matched)


def scored_box(metric: str, *masks: Mask) -> Box:
    """Returns the box outside which nothing matters to a metric, if all masks are empty there."""
    if metric in _OF_ALL_VOXELS:
        return tuple(slice(0, side) for side in masks[0].shape)
    return box_around(*masks)


def check_metric(metric: str) -> None:
    """Raises ValueError if steps cannot be chosen by a metric."""
    if metric not in METRICS:
        raise ValueError(f"--metric takes {', '.join(METRICS)}, got {metric!r}")


def value_of(metric: str, matching: BettiMatching) -> float:
    """Returns a metric that only needs Betti numbers, those in common included."""
    errors = [abs(p - r) for p, r in zip(matching.prediction, matching.reference, strict=True)]
    if metric == DEFAULT_METRIC:
        return float(matching.error)
    if metric == "topo_betti_error":
        return float(sum(errors))
    if metric == "topo_betti_exact":
        return float(not any(errors))
    if metric == "topo_euler_error":
        signed = zip(matching.prediction, matching.reference, strict=True)
        return float(abs(sum((-1) ** k * (p - r) for k, (p, r) in enumerate(signed))))
    dimension = 0 if metric == "topo_cce_3d" else int(metric[-1])
    return float(errors[dimension])
