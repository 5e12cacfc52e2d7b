"""A mask with exactly the wanted Betti numbers, at the least cost that several ways find.

Bazin, Pham: Topology-preserving tissue classification of magnetic resonance brain images. IEEE
Transactions on Medical Imaging 2007.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nnunet_topo.correction.components import fewer_components
from nnunet_topo.correction.field import Field, Mask, complement, without_margin
from nnunet_topo.correction.loops import fewer_loops, more_loops
from nnunet_topo.correction.making import more_components
from nnunet_topo.correction.search import exchange, flip_by_flip, wander
from nnunet_topo.correction.seeds import seeds
from nnunet_topo.topology import Connectivity, betti_numbers
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.topology.homotopic import approach
from nnunet_topo.topology.masks import Box, foreground_box
from nnunet_topo.topology.persistence import check_connectivity, check_image

_CERTAIN = 1e-7  # probabilities of 0 and 1 come from rounding
_MARGIN = 3  # voxels
_ROUNDS = 4
_SMALL = 2**12  # voxels; smaller masks are corrected in several ways, and the cheapest is taken


@dataclass(frozen=True, slots=True)
class Correction:
    """A mask that was corrected.

    Attributes:
        mask: as corrected, or as it was if it could not be.
        betti_before: Betti numbers of the mask before.
        betti_after: those after, counted in the result.
        is_right: whether they are those that are wanted.
        cost: sum of |logit p| over the voxels that changed, or their number for a mask alone.
        voxels_changed: number of voxels that changed.
    """

    mask: NDArray[np.bool_]
    betti_before: tuple[int, ...]
    betti_after: tuple[int, ...]
    is_right: bool
    cost: float
    voxels_changed: int


def correct_mask(
    image: ArrayLike,
    prior: Sequence[Any],
    *,
    connectivity: Connectivity = "full",
    locked: NDArray[np.bool_] | None = None,
) -> Correction:
    """Returns a mask with exactly the wanted Betti numbers, and as few changes as it finds.

    A change costs |logit p| at each voxel. Components and enclosed regions that are too many are
    removed or joined, filled or opened, whichever costs less. Loops of volumes are cut by homotopic
    growth or filled by homotopic shrinking. What is missing is made where the longest bar says that
    the mask does not show. The result is counted again: what does not have the wanted numbers is
    never returned as right. The prior (1, 0) in images and (1, 0, 0) in volumes is always reached.

    Args:
        image: 2D or 3D, probabilities from 0 to 1, of which those above 0.5 are the mask; or a
            mask of booleans, whose voxels cost 1 each, those nearest to the border first.
        prior: wanted number or `BettiRange` of components, of holes (2D) or loops (3D), and in 3D
            of cavities, see `BettiPrior.of`.
        connectivity: of the foreground, as for `betti_numbers`.
        locked: voxels that must stay as they are.

    Raises:
        ValueError: wrong shapes, values or names, or another number of priors than dimensions.
    """
    values = np.asarray(image)
    check_image(values)
    if values.dtype != bool and values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"image must hold probabilities from 0 to 1 or booleans, got values from "
            f"{values.min():g} to {values.max():g}"
        )
    if values.dtype == bool:
        return correct_score(
            signed_distance(values),
            prior,
            cost=np.ones(values.shape),
            connectivity=connectivity,
            locked=locked,
        )
    probability = np.clip(values.astype(np.float64), _CERTAIN, 1 - _CERTAIN)
    score = np.log(probability / (1 - probability))
    return correct_score(score, prior, connectivity=connectivity, locked=locked)


def signed_distance(mask: Mask) -> NDArray[np.float64]:
    """Returns distances in voxels to the border, above 0 in the mask and below 0 outside."""
    if not mask.any():
        return np.full(mask.shape, -1.0)
    padded = np.pad(mask, 1)
    inside = ndimage.distance_transform_edt(padded)[(slice(1, -1),) * mask.ndim]
    if mask.all():
        return inside
    return inside - ndimage.distance_transform_edt(~mask)


def correct_score(
    score: NDArray[np.floating],
    prior: Sequence[Any],
    *,
    cost: NDArray[np.floating] | None = None,
    connectivity: Connectivity = "full",
    locked: NDArray[np.bool_] | None = None,
) -> Correction:
    """Returns a corrected mask as `correct_mask` does, by a score instead of a probability.

    Args:
        score: 2D or 3D, finite, above 0 in the mask, the higher the more certain, such as a logit.
        prior: as for `correct_mask`.
        cost: of changing each voxel, from 0; None for the absolute score.
        connectivity: of the foreground.
        locked: voxels that must stay as they are.

    Raises:
        ValueError: as `correct_mask`.
    """
    values = check_image(score)
    check_connectivity(connectivity)
    wanted = BettiPrior.of(prior)
    if len(wanted) != values.ndim:
        raise ValueError(
            f"prior must have {values.ndim} numbers for an image of shape {values.shape}, got "
            f"{len(wanted)}"
        )
    mask = values > 0
    before = betti_numbers(mask, connectivity=connectivity)
    unchanged = Correction(mask, before, before, wanted.allows(before), 0.0, 0)
    if wanted.allows(before) or wanted.is_impossible or not values.size:
        return unchanged
    is_short = any(b < number.low for b, number in zip(before, wanted, strict=True))
    # What is missing may be made anywhere.
    sides = tuple(slice(0, side) for side in mask.shape) if is_short else box_around(mask)
    inside = values[sides].astype(np.float64)
    weight = np.abs(inside) if cost is None else cost[sides].astype(np.float64)
    if locked is not None:
        weight = np.where(locked[sides], np.inf, weight)
    field = Field(inside, weight, connectivity)
    best = _cheapest(field, wanted, is_short=is_short)
    if best is None:
        return unchanged
    corrected = mask.copy()
    corrected[sides] = best
    after = betti_numbers(corrected, connectivity=connectivity)
    if not wanted.allows(after):
        return unchanged
    return Correction(
        corrected,
        before,
        after,
        True,
        field.cost_of(best),
        int(np.count_nonzero(corrected != mask)),
    )


def box_around(mask: Mask) -> Box:
    """Returns the box of a foreground, with a margin for paths outside it."""
    return tuple(
        slice(max(0, side.start - _MARGIN), min(length, side.stop + _MARGIN))
        for side, length in zip(foreground_box(mask), mask.shape, strict=True)
    )


def _cheapest(field: Field, wanted: BettiPrior, *, is_short: bool) -> Mask | None:
    """Returns the cheapest mask of all candidates that has the wanted numbers, None if none has.

    Where something is missing, its place is that of the longest bar, and not the cheapest one.
    """
    best, least = None, np.inf
    is_small = field.score.size <= _SMALL
    is_by_bars = False
    ways = [_by_steps(field, wanted)]
    if not is_short:
        ways.append(iter([lambda: flip_by_flip(field.mask, field, wanted)]))
    ways += [_from_seeds(field, wanted), iter([lambda: wander(field, wanted)])]
    for number, candidates in enumerate(ways):
        if best is not None and number > 0 and (is_short or number == len(ways) - 1):
            break
        is_by_bars = is_short and number == 0
        for candidate in candidates:
            found = candidate()
            if found is None or not _is_right(found, field, wanted):
                continue
            # Some changes have become unnecessary by later ones.
            found = approach(found, field.mask, field.cost, connectivity=field.connectivity)
            cost = field.cost_of(found)
            if cost < least:
                best, least = found, cost
            if not is_small and best is not None:
                return best
    if best is not None and not is_by_bars:
        best = exchange(best, field, wanted)
    return best


def _is_right(mask: Mask, field: Field, wanted: BettiPrior) -> bool:
    return wanted.allows(betti_numbers(mask, connectivity=field.connectivity))


def _by_steps(field: Field, wanted: BettiPrior) -> Iterator[Callable[[], Mask | None]]:
    for components in (_BOTH, _JOIN, _REMOVE):
        for enclosed in (_BOTH, _JOIN, _REMOVE):
            yield lambda c=components, e=enclosed: _in_steps(field, wanted, c, e)


def _from_seeds(field: Field, wanted: BettiPrior) -> Iterator[Callable[[], Mask | None]]:
    for seed in seeds(field, wanted):
        yield lambda s=seed: approach(s, field.mask, field.cost, connectivity=field.connectivity)


_BOTH = {"join": True, "remove": True}
_JOIN = {"join": True, "remove": False}
_REMOVE = {"join": False, "remove": True}


def _in_steps(
    field: Field, wanted: BettiPrior, components: dict[str, bool], enclosed: dict[str, bool]
) -> Mask | None:
    """Returns a mask after one dimension after the other was corrected, as long as it helps."""
    mask = field.mask
    dual = field.complement()
    top = mask.ndim - 1
    least = np.inf

    def error(of: Mask) -> float:
        return wanted.error(_betti(of, field))

    for _ in range(_ROUNDS):
        if wanted[0].high == 0:
            mask = np.zeros_like(mask)
        elif _betti(mask, field)[0] > wanted[0].high:
            mask = fewer_components(mask, field, int(wanted[0].high), **components)
        if _betti(mask, field)[top] > wanted[top].high:
            most = int(wanted[top].high) + 1  # the outside is one
            mask = without_margin(fewer_components(complement(mask), dual, most, **enclosed))
        if top == 2 and _betti(mask, field)[1] > wanted[1].high:
            mask = fewer_loops(mask, field, int(wanted[1].high))
        if _betti(mask, field)[0] < wanted[0].low:
            mask = more_components(mask, field, wanted[0].low, error)
        if _betti(mask, field)[top] < wanted[top].low:
            mask = without_margin(
                more_components(
                    complement(mask),
                    dual,
                    wanted[top].low + 1,
                    lambda outside: error(without_margin(outside)),
                )
            )
        if top == 2 and _betti(mask, field)[1] < wanted[1].low:
            mask = more_loops(mask, field, wanted[1].low)
        off = error(mask)
        if off == 0:
            return mask
        if off >= least:
            return None
        least = off
    return None


def _betti(mask: Mask, field: Field) -> tuple[int, ...]:
    return betti_numbers(mask, connectivity=field.connectivity)
