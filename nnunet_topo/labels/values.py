"""Values of a label map: which values there are, and whether they are labels."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.labels.labels import Labels, as_ranges

MOST_LABELS = 1000  # a file with more different values is an image
_MOST_UNKNOWN = 256  # the same for values that are not labels of the data set
_FEWEST_GREY = 8  # different values of a mask that has been compressed
_DARK, _BRIGHT = (1, 8), (247, 254)  # what compression makes of black and white in 8 bits
WHITE = 255  # of a mask in black and white
_EXACT = 2**24  # nnU-Net's readers give 32-bit floats, which hold no larger integer for certain
_SHOWN = 5
NOT_FINITE = "contains NaN or infinite values, which are not labels"


def distinct_values(label_map: NDArray) -> NDArray:
    """Returns the values of a label map, each once, in ascending order; NaN last."""
    low, high = label_map.min(initial=0), label_map.max(initial=0)
    if not (np.isfinite(low) and np.isfinite(high) and low > -(2**16) and high < 2**16):
        return np.unique(label_map)
    first, number = int(np.floor(low)), int(high) - int(np.floor(low)) + 1
    there = np.zeros(number, bool)
    for part in label_map:  # counting is faster than sorting, and slices save memory
        whole = part.astype(np.int32)
        if (whole != part).any():
            return np.unique(label_map)
        there |= np.bincount((whole - first).ravel(), minlength=number) > 0
    return np.flatnonzero(there) + first


def describe_fractions(values: NDArray) -> str:
    """Returns what is wrong with values that cannot be labels, and the likely cause, else ""."""
    if not np.isfinite(values).all():
        return NOT_FINITE
    if values.dtype.kind == "f" and np.abs(values).max(initial=0) >= _EXACT:
        return (
            f"holds labels of {_EXACT} or more, which nnU-Net's readers cannot distinguish; give "
            "the structures smaller numbers"
        )
    fractions = values[values != np.round(values)]
    if len(fractions) == 0:
        return ""
    shown = shown_values(fractions)
    if np.abs(fractions - np.round(fractions)).max() < 1e-3:
        nearest = shown_values(np.unique(np.round(fractions)))
        return f"holds {shown}, close to {nearest} but not equal: round the values to whole numbers"
    if values.min() >= 0 and values.max() <= 1:
        return (
            f"holds {shown}, between 0 and 1: probabilities (a soft mask) instead of labels? "
            "Apply a threshold first"
        )
    return (
        f"holds {shown}, which are not whole numbers: resampled with an interpolation? "
        "Labels need nearest neighbour"
    )


def describe_grey_levels(values: NDArray) -> str:
    """Returns a message if a photograph seems to be a compressed mask, else ""."""
    foreground = values[values != 0]
    ends = [int(((foreground >= a) & (foreground <= b)).sum()) for a, b in (_DARK, _BRIGHT)]
    if len(foreground) < _FEWEST_GREY or min(ends) < 2 or foreground.max() > 255:
        return ""
    return (
        f"holds {len(foreground)} different values, {shown_values(foreground)}, up to "
        f"{int(foreground.max())}: grey levels, or a mask of 0 and 255 that was saved as JPEG or "
        "made smaller? Apply a threshold and save it as PNG; if these are labels, -l names them"
    )


def refuse_values(
    values: NDArray, labels: Labels, others: NDArray, *, photograph: bool = False
) -> str:
    """Returns why a case with these values cannot be evaluated, "" if it can be.

    Args:
        values: of the reference or the prediction.
        labels: that are evaluated.
        others: values of the label map that it is compared with, labels too if some were chosen.
        photograph: whether they are of a PNG file or the like.
    """
    wrong = describe_fractions(values)
    if wrong:
        return wrong
    foreground = values[(values != 0) & (values != labels.ignore)]
    if not labels.is_choice:
        unknown = foreground[~np.isin(foreground, list(labels.known))]
        if len(unknown) > _MOST_UNKNOWN:
            return (
                f"holds {len(unknown)} different values that are not labels, from "
                f"{shown_values(unknown[:1])} to {shown_values(unknown[-1:])}: an image instead of "
                "a segmentation?"
            )
        grey = describe_grey_levels(unknown) if photograph else ""
        if grey:
            return grey
    wanted = {value for value in labels.known if value not in (0, labels.ignore)}
    if labels.is_choice:
        # Other labels are there on purpose, but not in a mask whose one value is no label anywhere.
        is_label = np.isin(foreground, [*wanted, *others[others != WHITE]]).any()
        if len(foreground) != 1 or is_label:
            return ""
        chosen = (e if isinstance(e, tuple) else (e,) for e in labels.evaluated)
        wanted = {value for label in chosen for value in label}
    return describe_foreign_labels(foreground, wanted)


def describe_foreign_labels(values: NDArray, wanted: Collection[int]) -> str:
    """Returns a message if a label map has foreground but no wanted label, else "".

    Args:
        values: of the label map, whole numbers.
        wanted: a label map with foreground must hold at least one of these labels.
    """
    foreground = values[values != 0]
    if len(foreground) == 0 or not wanted or np.isin(foreground, list(wanted)).any():
        return ""
    labels = as_ranges(wanted)
    told = f"holds {shown_values(foreground)} but none of the wanted labels ({labels})"
    if len(foreground) > 1:
        return f"{told}: labels of another data set, or grey levels for viewing?"
    value = int(foreground[0])
    if value == WHITE:
        told += ": a binary mask saved in black and white, 0 and 255?"
    else:
        told += ": a binary mask?"
    if len(wanted) == 1:
        told += f" Its foreground must have the value {next(iter(wanted))}"
    return told


def refuse_unknown_labels(values: NDArray, known: Collection[int], source: str) -> str:
    """Returns why a prediction with these values cannot be changed, "" if it can be.

    Args:
        values: of the label map.
        known: the labels, with 0.
        source: what has these labels.
    """
    wrong = describe_fractions(values)
    unknown = values[~np.isin(values, list(known))]
    if wrong or len(unknown) == 0:
        return wrong
    return f"holds {shown_values(unknown)}, which {source} does not have ({as_ranges(known)})"


def describe_unknown_labels(values: NDArray, known: Collection[int]) -> str:
    """Returns what to say of values that are not labels, "" if there are none."""
    unknown = values[~np.isin(values, list(known))]
    if len(unknown) == 0:
        return ""
    return (
        f"holds {shown_values(unknown)}, not among the labels ({as_ranges(known)}); such voxels "
        "count as background"
    )


def shown_values(values: NDArray) -> str:
    """Returns the first few values, each with as many digits as it needs."""
    first = ", ".join(_shown(value) for value in values[:_SHOWN])
    return first + (", ..." if len(values) > _SHOWN else "")


def _shown(value: float) -> str:
    if np.isfinite(value) and value == int(value):
        return str(int(value))
    return np.format_float_positional(value, unique=True, trim="0")
