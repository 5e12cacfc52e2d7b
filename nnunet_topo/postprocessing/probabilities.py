"""The probabilities of a prediction, checked against it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.images.grids import slice_first
from nnunet_topo.images.probabilities import saved_probabilities
from nnunet_topo.labels.agreement import check_agreement
from nnunet_topo.postprocessing.targets import Target


def read_probabilities(
    file: Path, channels: int, label_map: NDArray[np.generic], targets: Sequence[Target]
) -> NDArray[np.floating]:
    """Returns the probabilities `[channel, *space]` of a prediction.

    Args:
        file: nnU-Net's .npz.
        channels: wanted number, with the background if the labels have one.
        label_map: 2D or 3D; of a volume of one slice that slice.
        targets: its labels or regions.

    Raises:
        ValueError: they are not those of this prediction.
        OSError: the file cannot be read.
    """
    shape = label_map.shape
    turned = found = saved_probabilities(file)
    if found.ndim == 4 and 1 in found.shape[1:]:
        turned = np.stack([slice_first(channel, np.ones(3))[0] for channel in found])
        turned = turned[:, 0] if len(shape) == 2 else turned
    if turned.shape != (channels, *shape):
        raise ValueError(
            f"{file} holds probabilities of shape {found.shape}, wanted {channels} channels of "
            f"the shape {shape} of the prediction: are they of another data set?"
        )
    check_agreement(turned, label_map, {target.channel: target.members for target in targets})
    return turned
