"""Persistence diagrams of probabilities: the one place where gradients enter.

An engine names the critical voxels of every bar; the values of these voxels are gathered here, so
a gradient on a birth or a death reaches its voxel and no other.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nnunet_topo.topology import Connectivity, PersistencePairs, persistence_pairs
from nnunet_topo.topology.persistence import NO_VOXEL

_MOST_THREADS = 4  # nnU-Net's augmentation workers want cores too


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars of one channel of one sample.

    Attributes:
        dimension: homology dimension of each bar.
        birth: probability at which the bar begins; carries the gradient of its voxel.
        death: probability at which it ends, likewise; 0 without gradient for the essential class.
        birth_voxel: flat C-order index.
        death_voxel: flat C-order index, -1 where the death names no place: for the essential
            class, and for bars that end on the plateau at the clamp.
    """

    dimension: Int64[np.ndarray, " bars"]
    birth: Float[Tensor, " bars"]
    death: Float[Tensor, " bars"]
    birth_voxel: Int64[np.ndarray, " bars"]
    death_voxel: Int64[np.ndarray, " bars"]


def persistence_bars(
    probability: Float[Tensor, "batch channel *space"],
    *,
    connectivity: Connectivity,
    dimensions: tuple[int, ...] | None,
    clamp: float,
) -> list[list[Bars]]:
    """Returns the bars of the superlevel sets, `[sample][channel]`.

    A channel that never exceeds the clamp has its essential bar (max p, 0) alone. Engine calls run
    in a few threads; the result does not depend on their number.

    Args:
        probability: values in [0, 1], 2D or 3D space.
        connectivity: of the foreground, see `persistence_pairs`.
        dimensions: homology dimensions, None for all.
        clamp: p is raised to at least this before the filtration.

    Raises:
        ValueError: NaN or infinite values.
    """
    batch, channel = probability.shape[:2]
    images = probability.detach().cpu().numpy().reshape(batch * channel, *probability.shape[2:])

    def pairs_of(image: np.ndarray) -> PersistencePairs:
        floor = min(clamp, float(image.max()))
        return persistence_pairs(
            image, connectivity=connectivity, dimensions=dimensions, clamp=floor
        )

    with ThreadPoolExecutor(min(len(images), _MOST_THREADS, os.cpu_count() or 1)) as threads:
        pairs = list(threads.map(pairs_of, images))
    flat = probability.reshape(batch * channel, -1)
    bars = [_gather(values, voxels, clamp) for values, voxels in zip(flat, pairs, strict=True)]
    return [bars[sample * channel : (sample + 1) * channel] for sample in range(batch)]


def _gather(values: Float[Tensor, " voxels"], pairs: PersistencePairs, clamp: float) -> Bars:
    """Gathers births and deaths from the clamped values."""
    birth_voxel = torch.from_numpy(pairs.birth).to(values.device)
    death_voxel = torch.from_numpy(pairs.death).to(values.device)
    dies = death_voxel != NO_VOXEL
    # A birth below the clamp is the essential bar of a channel that lies below it altogether.
    birth = values[birth_voxel]
    death = torch.where(dies, values[death_voxel.clamp(min=0)].clamp(min=clamp), 0)
    on_plateau = (dies & (death <= clamp)).cpu().numpy()
    return Bars(
        pairs.dimension, birth, death, pairs.birth, np.where(on_plateau, NO_VOXEL, pairs.death)
    )
