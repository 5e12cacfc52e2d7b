"""Same-class neighbour penalization (SCNP): the logit of the least confident neighbour.

Valverde, Papadopoulos, Larsen, Dahl: Towards High-Quality Image Segmentation: Improving Topology
Accuracy by Penalizing Neighbor Pixels. CVPR 2026.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from nnunet_topo.losses.measure import as_mask, check_shapes

WINDOW = 3


def least_confident_neighbours(
    logits: Float[Tensor, "batch channel *space"],
    target: Shaped[Tensor, "batch channel *space"],
    mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    *,
    window: int = WINDOW,
) -> Float[Tensor, "batch channel *space"]:
    """Returns logits, each replaced by the least confident one among neighbours of its class.

    In the channel of a class, a voxel of the class takes the smallest logit among the voxels of the
    class in its window, and another voxel takes the largest among the others (section 3). Any
    loss of the result cares for the worst voxel of a neighbourhood before all others. Sigmoid and
    softmax come afterwards; probabilities may be given where each channel is a binary problem.

    Gradients pass to the logits that were taken.

    Args:
        logits: finite, 2D or 3D space.
        target: 0 / 1 or boolean, a channel for each channel of the logits, the background included
            where classes exclude one another.
        mask: False or 0 at ignored voxels, which keep their logits and are nobody's neighbours.
        window: side of the neighbourhood, odd.

    Raises:
        ValueError: an even window, shapes that do not fit.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and at least 1, got {window}")
    check_shapes(logits, target)
    mask = as_mask(mask, logits)
    inside = target > 0.5  # True is more, too
    others = ~inside
    if mask is not None:
        inside, others = inside & mask, others & mask
    pool = functional.max_pool2d if logits.ndim == 4 else functional.max_pool3d
    lowest = -pool(torch.where(inside, -logits, -torch.inf), window, stride=1, padding=window // 2)
    highest = pool(torch.where(others, logits, -torch.inf), window, stride=1, padding=window // 2)
    return torch.where(inside, lowest, torch.where(others, highest, logits))
