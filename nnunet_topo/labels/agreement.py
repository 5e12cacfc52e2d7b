"""Whether probabilities are those of a label map."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def check_agreement(
    probabilities: NDArray[np.floating],
    label_map: NDArray[np.generic],
    members: Mapping[int, Sequence[int]],
) -> None:
    """Refuses probabilities that choose other labels than the label map has.

    A label map may have lost structures since, or gained some below a lower threshold, so half of
    its labelled voxels need not agree.

    Args:
        probabilities: `[channel, *space]`.
        label_map: of the same space.
        members: labels of each channel. Channel 0 is the background unless it is among them, as
            it is with regions, which may overlap.

    Raises:
        ValueError: most labelled voxels are in channels that are not chosen there.
    """
    best = None if 0 in members else probabilities.argmax(axis=0)
    labelled = agreeing = 0
    for channel, labels in members.items():
        chosen = probabilities[channel] > 0.5 if best is None else best == channel
        has_label = np.isin(label_map, labels)
        labelled += np.count_nonzero(has_label)
        agreeing += np.count_nonzero(has_label & chosen)
    if 2 * agreeing < labelled:
        raise ValueError(
            f"the probabilities choose the label of the segmentation in only {agreeing} of "
            f"{labelled} labelled voxels: are they of another prediction, or does plans.json, "
            "which names the reader, not lie with the predictions?"
        )
