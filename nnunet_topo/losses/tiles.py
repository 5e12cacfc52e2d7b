"""Cuts patches into tiles, so that a loss only compares structures that are close to each other.

Hu, Li, Samaras, Chen: Topology-Preserving Deep Image Segmentation. NeurIPS 2019; "Random Sampling"
in Datta: Preservation of Topology using Deep Image Segmentation. 2024.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional


def cut_into_tiles(
    probability: Float[Tensor, "batch channel *space"],
    target: Bool[Tensor, "batch channel *space"],
    size: int,
) -> tuple[
    Float[Tensor, "tiles 1 *side"], Bool[Tensor, "tiles 1 *side"], Int64[np.ndarray, " tiles"]
]:
    """Returns the tiles with foreground, and the channel and sample of each tile.

    The grid starts at a random voxel, which PyTorch's CPU generator draws. It is padded with
    background, which changes no bar. An axis that is no longer than a tile is not cut. Tiles
    without p > 0.5 and without target are left out. Gradients pass.

    Returns:
        Probability and target of the tiles, and `sample * channels + channel` of each, ascending.
    """
    padding: list[int] = []
    sides: list[int] = []
    for axis in reversed(range(2, probability.ndim)):  # the order of functional.pad
        length = probability.shape[axis]
        if length <= size:
            before, side = 0, length
        else:
            before, side = int(torch.randint(size, ())), size
        padding += [before, -(length + before) % side]
        sides.insert(0, side)
    channel_tiles = [_as_tiles(functional.pad(t, padding), sides) for t in (probability, target)]
    tiles, masks = (tiles.flatten(0, 1) for tiles in channel_tiles)
    occupied = ((tiles.detach() > 0.5) | masks).flatten(1).any(dim=1)
    per_channel = channel_tiles[0].shape[1]
    chosen = occupied.nonzero().flatten()
    return tiles[chosen][:, None], masks[chosen][:, None], (chosen // per_channel).cpu().numpy()


def _as_tiles(values: Tensor, sides: list[int]) -> Tensor:
    """Returns tiles, `[batch * channel, tile, *side]`. The sides must divide the space."""
    blocks = values.flatten(0, 1)
    for axis, side in enumerate(sides):
        blocks = blocks.unflatten(1 + 2 * axis, (-1, side))
    space = len(sides)
    order = [0, *range(1, 2 * space, 2), *range(2, 2 * space + 1, 2)]
    return blocks.permute(order).flatten(1, space)
