"""Skeleton Recall: how much of the target's centre lines a prediction covers.

Kirchhoff, Rokuss, Roy, Kovacs, Ulrich, Wald, Zenk, Vollmuth, Kleesiek, Isensee, Maier-Hein:
Skeleton Recall Loss for Connectivity Conserving and Resource Efficient Segmentation of Thin Tubular
Structures. ECCV 2024.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from nnunet_topo.losses.measure import each_mask, prepare, sums_of_batch
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.persistence import check_connectivity
from nnunet_topo.topology.tubes import tube_around_lines


class SkeletonRecallLoss(nn.Module):
    """Returns 1 - soft recall of the target's tubed skeleton, in [0, 1].

    Voxels of the target beside its tube, and all voxels of the background, count nowhere: what is
    faint is drawn out, and an island costs nothing. So the loss is added to one that sees false
    positives. The published code returns minus the recall, which has the same gradient.

    Args:
        over_batch: whether recall is that of a class in the whole batch, or else of each sample.
        smooth: added to the sums of each recall. A class without a skeleton has recall 1.
        gather: returns the sums of all processes of a training, `[process, ...]`, with gradients;
            for `over_batch`. None for a single process.
        connectivity: of the foreground, where a tube is made from the target.

    Raises:
        ValueError: smooth not above 0, unknown connectivity; tensors whose shapes do not fit.
    """

    needs_intact_labels = False  # it asks for lines to be covered, and never counts them

    def __init__(
        self,
        *,
        over_batch: bool = False,
        smooth: float = 1e-5,
        gather: Callable[[Tensor], Tensor] | None = None,
        connectivity: Connectivity = "full",
    ) -> None:
        super().__init__()
        if not smooth > 0:
            raise ValueError(f"smooth must be above 0, got {smooth}")
        check_connectivity(connectivity)
        self.over_batch, self.smooth, self.gather = over_batch, smooth, gather
        self.connectivity: Connectivity = connectivity

    def extra_repr(self) -> str:
        """Returns the settings, for printing a trainer's loss."""
        return f"over_batch={self.over_batch}, connectivity={self.connectivity!r}"

    def forward(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
        *,
        tube: Shaped[Tensor, "batch channel *space"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the mean over channels, and over samples unless recall is that of the batch.

        Gradients pass to the voxels of the tube alone, all of a channel's with the same size.

        Args:
            probability: foreground probabilities in [0, 1], 2D or 3D space.
            target: one-hot, 0 / 1 or boolean.
            mask: False or 0 at ignored voxels, which are background in both and get no gradient.
            tube: tubed skeleton of each channel, within the target. None makes it from the target,
                each channel by itself, see `tube_around_lines`, on the CPU.
        """
        given = target if tube is None else tube
        probability, foreground = prepare(probability, given, mask)
        assert foreground is not None
        if not probability.numel():
            return probability.sum()  # of nothing
        if tube is None:
            foreground = tubes_of(foreground, self.connectivity)
        space = tuple(range(2, probability.ndim))
        covered = torch.where(foreground, probability, 0).sum(space)
        lines = foreground.sum(space).to(covered)
        sums = torch.stack([covered, lines])
        if self.over_batch:
            sums = sums_of_batch(sums, self.gather)
        recall = (sums[0] + self.smooth) / (sums[1] + self.smooth)
        return 1 - recall.mean()  # 1 + L_SkelRecall


def tubes_of(
    target: Bool[Tensor, "batch channel *space"], connectivity: Connectivity = "full"
) -> Bool[Tensor, "batch channel *space"]:
    """Returns the tubed skeleton of each sample and channel, made on the CPU."""
    return each_mask(partial(tube_around_lines, connectivity=connectivity), target)
