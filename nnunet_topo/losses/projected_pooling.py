"""Projected pooling: a cheap, approximate comparison of shapes in projections.

Fu, El Jurdi, Chougar, Dormont, Valabregue, Lehéricy, Colliot: Introducing Soft Topology Constraints
in Deep Learning-based Segmentation using Projected Pooling Loss. SPIE Medical Imaging 2023.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from nnunet_topo.losses.measure import Measure, prepare


class ProjectedPoolingLoss(nn.Module):
    """Returns the mean absolute difference of pooled maximum projections, in [0, 1].

    A volume is projected onto its three planes by the maximum; an image is its own projection. Each
    plane is max-pooled with several square kernels, stride = kernel, and compared cell by cell.

    The loss sees what changes the pooled silhouettes: islands, and parts that are missing at a
    border. It does not see what is hidden in all three projections, such as a cavity.

    Args:
        kernel_sizes: of the pooling. A kernel that is wider than a plane is cut to the plane, and
            cells at the far border may be smaller than the kernel, so nothing is left out.
        reduce_before_difference: compares the means of the planes instead of their cells, as the
            published code compares sums. The position of a structure then does not matter.

    Raises:
        ValueError: no kernel, or one below 1; tensors whose shapes do not fit.
    """

    # It compares silhouettes cell by cell, as Dice compares voxels: a torn line changes few cells.
    needs_intact_labels = False

    def __init__(
        self,
        kernel_sizes: Sequence[int] = (4, 5, 8, 10, 20),
        *,
        reduce_before_difference: bool = False,
    ) -> None:
        super().__init__()
        if not kernel_sizes or min(kernel_sizes) < 1:
            raise ValueError(f"kernel_sizes must be one or more, at least 1, got {kernel_sizes}")
        self.kernel_sizes = tuple(kernel_sizes)
        self.reduce_before_difference = reduce_before_difference

    def extra_repr(self) -> str:
        """Returns the settings, for printing a trainer's loss."""
        return (
            f"kernel_sizes={self.kernel_sizes}, "
            f"reduce_before_difference={self.reduce_before_difference}"
        )

    def forward(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Bool[Tensor, "batch 1 *space"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the mean over kernels, planes, channels, samples and the cells of each plane.

        Gradients pass to the voxel with the maximum of a cell; equal maxima of a projection share
        them.

        Args:
            probability: foreground probabilities in [0, 1], 2D or 3D space.
            target: one-hot, 0 / 1 or boolean.
            mask: False at ignored voxels, which count as background in both and get no gradient.
        """
        probability, foreground = prepare(probability, target, mask)
        assert foreground is not None
        losses = [
            self._difference(predicted, wanted, size)
            for predicted, wanted in zip(
                _planes(probability), _planes(foreground.to(probability)), strict=True
            )
            for size in self.kernel_sizes
        ]
        return torch.stack(losses).mean()  # Eq. 3

    def begin(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Bool[Tensor, "batch 1 *space"] | None = None,
    ) -> Callable[[], Measure]:
        """Returns a function that returns the loss, which is computed at once on the device."""
        loss = self(probability, target, mask)
        return lambda: Measure(loss)

    def _difference(self, predicted: Tensor, wanted: Tensor, size: int) -> Tensor:
        predicted, wanted = _pool(predicted, size), _pool(wanted, size)  # Eq. 2
        if self.reduce_before_difference:
            predicted, wanted = (plane.mean(dim=(2, 3)) for plane in (predicted, wanted))
        return (predicted - wanted).abs().mean()


def _planes(values: Float[Tensor, "batch channel *space"]) -> list[Tensor]:
    """Returns the maximum projections of a volume along each axis; for an image, the image."""
    if values.ndim == 4:
        return [values]
    return [values.amax(dim=axis) for axis in (2, 3, 4)]  # Eq. 1


def _pool(plane: Tensor, size: int) -> Tensor:
    return functional.max_pool2d(plane, size, ceil_mode=True)  # the plane may be smaller
