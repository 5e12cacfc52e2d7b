"""All metrics of all labels of two label maps, each cut to its box first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Integer
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_topo.metrics.boxes import shift, split_into_boxes
from nnunet_topo.metrics.masks import (
    NSD_TOLERANCE_MM,
    Counts,
    check_options,
    compare_parts,
)
from nnunet_topo.metrics.windows import Windows
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.masks import Box

Label = int | np.integer | tuple[int | np.integer, ...]
_SMALL = 2**16  # labels are looked up in a table; few are larger


def compare_label_maps(
    prediction: NDArray,
    reference: NDArray,
    labels: Sequence[Label],
    *,
    ignore_label: int | np.integer | None = None,
    spacing_mm: Sequence[float | int] | None = None,
    connectivity: Connectivity = "full",
    nsd_tolerance_mm: float | int = NSD_TOLERANCE_MM,
    windows: Windows | None = None,
) -> dict[Label, dict[str, float | int]]:
    """Returns for each label what `compute` returns, and nnU-Net's counts of voxels.

    Dice, IoU, TP, FP, FN, TN, n_pred and n_ref are those of nnU-Net's evaluation, to the last bit.

    Args:
        prediction: label of each voxel, 2D or 3D, of any real type.
        reference: label of each voxel, of the same shape.
        labels: what to compare; several labels in a tuple are a region, taken together.
        ignore_label: voxels that have it in the reference are background in both, and not counted.
        spacing_mm: size of a voxel along each axis; without it distances are in voxels.
        connectivity: of the foreground, "full" (8 / 26) or "face" (4 / 6).
        nsd_tolerance_mm: distance up to which surfaces count as equal.
        windows: that Betti errors are also averaged over, the same ones for all labels.

    Raises:
        ValueError: shapes, spacing or tolerance that do not fit; unknown connectivity.
    """
    pair = np.asarray(prediction), np.asarray(reference)
    if pair[0].shape != pair[1].shape or pair[0].ndim not in (2, 3):
        raise ValueError(
            "prediction and reference must be 2D or 3D and of the same shape, got "
            f"{pair[0].shape} and {pair[1].shape}"
        )
    options = check_options(pair[0].shape, spacing_mm, connectivity, nsd_tolerance_mm, windows)
    members = {
        label: tuple(map(int, label)) if isinstance(label, tuple) else (int(label),)
        for label in labels
    }
    wanted = sorted({value for values in members.values() for value in values})
    voxels = pair[0].size
    ignored = None if ignore_label is None else pair[1] == ignore_label
    if ignored is not None:
        voxels -= int(np.count_nonzero(ignored))
    if _are_small_numbers(pair, wanted):
        numbers = {value: value for value in wanted}
        numbered = [array.copy() for array in pair] if ignored is not None else list(pair)
    else:
        numbers = {value: number for number, value in enumerate(wanted, start=1)}
        numbered = [_number(array, numbers) for array in pair]
    if ignored is not None:
        for array in numbered:
            array[ignored] = 0
    del ignored
    most = max(numbers.values(), default=1)
    boxes = [ndimage.find_objects(array, most) for array in numbered]
    results: dict[Label, dict[str, float | int]] = {}
    for label, values in members.items():
        own = [numbers[value] for value in values]
        box = _box_around(of_map[number - 1] for of_map in boxes for number in own)
        pairs = _pairs(numbered, own, box) if box else []
        metrics, counts = compare_parts(pairs, voxels, options)
        results[label] = {**metrics, **_nnunet_counts(counts)}
    return results


def narrow_label_map(label_map: NDArray) -> NDArray:
    """Returns a label map in as few bytes as its values need, itself if they are not small numbers.

    nnU-Net's readers return 32-bit floats. Without changing any value, labels below 256 take a
    quarter of that memory.
    """
    for kind in (np.uint8, np.uint16):
        if label_map.dtype.itemsize <= np.dtype(kind).itemsize:
            return label_map
        narrow = np.empty(label_map.shape, kind)
        for values, result in zip(label_map, narrow, strict=True):  # slice by slice, to save memory
            with np.errstate(invalid="ignore"):
                result[...] = values.astype(kind)
            if not np.array_equal(result, values):
                break
        else:
            return narrow
    return label_map


def _are_small_numbers(pair: Sequence[NDArray], wanted: Sequence[int]) -> bool:
    """Returns whether labels can be looked up in two label maps as they are."""
    narrow = all(array.dtype in (np.uint8, np.uint16) for array in pair)
    return narrow and all(0 < value < _SMALL for value in wanted)


def _number(array: NDArray, numbers: Mapping[int, int]) -> Integer[np.ndarray, " *space"]:
    """Returns the number of each voxel's value, 0 for values without one."""
    numbered = np.zeros(array.shape, np.uint8 if len(numbers) < 2**8 else np.uint16)
    small = np.zeros(_SMALL, numbered.dtype)
    for value, number in numbers.items():
        if 0 <= value < _SMALL:
            small[value] = number
    for values, result in zip(array, numbered, strict=True):  # slice by slice, to save memory
        with np.errstate(invalid="ignore"):
            narrow = values.astype(np.uint16)
        np.copyto(result, small[narrow], where=narrow == values)
        if not np.array_equal(narrow, values):  # negative, large, broken or not a number
            for value, number in numbers.items():
                if not 0 <= value < _SMALL:
                    result[values == value] = number
    return numbered


def _box_around(boxes: Iterable[Box | None]) -> Box | None:
    """Returns the smallest box around some boxes, None if there is none."""
    found = [box for box in boxes if box is not None]
    if not found:
        return None
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*found, strict=True)
    )


def _pairs(
    numbered: Sequence[Integer[np.ndarray, " *space"]], numbers: Sequence[int], box: Box
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], Box]]:
    """Yields both masks of a label or region, with a margin, in each box that holds some of it."""
    p, r = (array[box] for array in numbered)
    for part in split_into_boxes(_mask(p, numbers) | _mask(r, numbers)):
        padded = [np.pad(_mask(array[part], numbers), 1) for array in (p, r)]
        yield padded[0], padded[1], shift(part, box)


def _mask(array: NDArray, numbers: Sequence[int]) -> NDArray[np.bool_]:
    mask = array == numbers[0]
    for number in numbers[1:]:
        mask |= array == number
    return mask


def _nnunet_counts(counts: Counts) -> dict[str, int]:
    both, either = counts.both, counts.prediction + counts.reference - counts.both
    return {
        "TP": both,
        "FP": counts.prediction - both,
        "FN": counts.reference - both,
        "TN": counts.voxels - either,
        "n_pred": counts.prediction,
        "n_ref": counts.reference,
    }
