"""One topological error of each kind, planted by hand, with the voxels at which it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Planted:
    """A prediction with one error.

    Attributes:
        kind: of the error.
        prediction: mask.
        reference: mask.
        where: voxels that are the place of the error.
        all_marked: all of these voxels are marked, and no others.
    """

    kind: str
    prediction: Mask
    reference: Mask
    where: Mask
    all_marked: bool = True

    def __str__(self) -> str:
        return f"{self.kind}, {self.prediction.ndim}D"


def planted() -> list[Planted]:
    """Returns an error of each kind in 2D and in 3D."""
    return [*_pairs((15, 22)), *_pairs((9, 15, 22)), *_of_volumes()]


def _pairs(shape: tuple[int, ...]) -> list[Planted]:
    """Returns errors in the plane of the last two axes, in the middle slices of a volume."""

    def drawn(*boxes: tuple[tuple[int, int], tuple[int, int]]) -> Mask:
        mask = np.zeros(shape, bool)
        for rows, columns in boxes:
            mask[..., slice(*rows), slice(*columns)] = True
        if len(shape) == 3:
            mask[:3] = mask[6:] = False
        return mask

    block, island = drawn(((2, 9), (2, 8))), drawn(((11, 13), (14, 18)))
    apart = drawn(((2, 9), (2, 8)), ((4, 11), (14, 20)))
    bar = drawn(((6, 7), (8, 14)))
    ring = drawn(((2, 13), (3, 17))) & ~drawn(((5, 10), (6, 14)))
    opening = drawn(((6, 8), (3, 6)))
    found = [
        Planted("component", block | island, block, island),
        Planted("joint", apart | bar, apart, bar, len(shape) == 2),
        Planted("loop", ring, ring & ~opening, opening, len(shape) == 2),
    ]
    if len(shape) == 2:
        solid, hole = drawn(((2, 13), (3, 17))), drawn(((5, 7), (9, 12)))
        found.append(Planted("hole", solid & ~hole, solid, hole))
    return [both for error in found for both in _both_ways(error)]


def _of_volumes() -> list[Planted]:
    shape = 11, 13, 16
    solid, hollow = np.zeros((2, *shape), bool)
    solid[2:9, 2:11, 2:14] = hollow[4:7, 4:9, 4:12] = True
    tunnel, lid, void = np.zeros((3, *shape), bool)
    tunnel[:, 5:7, 7:9] = True
    tunnel &= solid
    lid[7:9, 5:7, 6:9] = True  # to the void of the shell
    void[5, 6:8, 7:10] = True
    shell = solid & ~hollow
    found = [
        Planted("hole", solid & ~tunnel, solid, tunnel, False),
        Planted("wall", shell, shell & ~lid, lid),
        Planted("cavity", solid & ~void, solid, void),
    ]
    return [both for error in found for both in _both_ways(error)]


def _both_ways(error: Planted) -> list[Planted]:
    """Returns an error that is false in the prediction, and the same one missing."""
    missing = "gap" if error.kind == "joint" else f"missing {error.kind}"
    pair = error.prediction, error.reference
    return [
        Planted(f"false {error.kind}", *pair, error.where, error.all_marked),
        Planted(missing, *reversed(pair), error.where, error.all_marked),
    ]
