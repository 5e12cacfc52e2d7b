"""Small masks that have exactly the wanted Betti numbers, from which others grow."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage, signal

from nnunet_topo.correction.field import Field, Mask
from nnunet_topo.topology.betti_range import BettiPrior


def seeds(field: Field, wanted: BettiPrior) -> Iterator[Mask]:
    """Yields masks from which homotopic growth towards the mask ends with the wanted numbers.

    A voxel and the whole image have one component and nothing else. For other numbers, a plate with
    a hole for each loop and a block with a place for each cavity lie where the score is highest,
    and single voxels around them.

    Args:
        field: what changes cost.
        wanted: Betti numbers.
    """
    if wanted[0].allows(1) and all(number.allows(0) for number in wanted[1:]):
        yield _highest(field, 1, np.zeros(field.score.shape, bool))
        yield np.ones(field.score.shape, bool)
    numbers = [number.low for number in wanted]
    if max(1, numbers[0]) <= wanted[0].high:
        for columns in dict.fromkeys((*numbers[1:2], 1, int(np.ceil(numbers[1] ** 0.5)))):
            pattern = _pattern(numbers, max(1, columns))
            for turned in (pattern, np.swapaxes(pattern, -1, -2)):
                placed = _placed(field, turned)
                if placed is not None:
                    yield _highest(field, max(1, numbers[0]) - 1, placed)


def _highest(field: Field, number: int, mask: Mask) -> Mask:
    """Returns a mask with single voxels added where the score is highest, which touch nothing."""
    mask = mask.copy()
    around = np.ones((3,) * mask.ndim, bool)
    is_free = (np.isfinite(field.cost) | field.mask) & ~ndimage.binary_dilation(mask, around)
    for _ in range(number):
        if not is_free.any():
            break
        voxel = np.unravel_index(np.where(is_free, field.score, -np.inf).argmax(), mask.shape)
        mask[voxel] = True
        is_free[tuple(slice(max(0, v - 1), v + 2) for v in voxel)] = False
    return mask


def _pattern(numbers: list[int], columns: int) -> Mask:
    """Returns a component with as many loops and, in 3D, cavities."""
    loops = numbers[1]
    rows = -(-loops // columns)
    plate = np.ones((2 * rows + 1, 2 * columns + 1) if loops else (1, 1), bool)
    for hole in range(loops):
        plate[2 * (hole // columns) + 1, 2 * (hole % columns) + 1] = False
    if len(numbers) == 2:
        return plate
    cavities = numbers[2]
    if not cavities:
        return plate[None]
    block = np.ones((3, 3, 2 * cavities + 1), bool)
    block[1, 1, 1::2] = False
    width = max(block.shape[2], plate.shape[1])
    whole = np.zeros((3, 2 + len(plate), width), bool)
    whole[1, 2:, : plate.shape[1]] = plate
    whole[:, :3, : block.shape[2]] |= block
    return whole


def _placed(field: Field, pattern: Mask) -> Mask | None:
    """Returns a pattern where it agrees best with the score, None if it does not fit."""
    if any(p > s for p, s in zip(pattern.shape, field.score.shape, strict=True)):
        return None
    signs = np.where(pattern, 1.0, -1.0)
    fit = signal.correlate(np.clip(field.score, -50, 50), signs, mode="valid")
    begin = np.unravel_index(fit.argmax(), fit.shape)
    placed = np.zeros(field.score.shape, bool)
    placed[tuple(slice(b, b + p) for b, p in zip(begin, pattern.shape, strict=True))] = pattern
    return placed
