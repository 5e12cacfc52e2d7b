"""Projected pooling: a cheap, approximate comparison of shapes in projections.

Fu, El Jurdi, Chougar, Dormont, Valabregue, Lehéricy, Colliot: Introducing Soft Topology Constraints
in Deep Learning-based Segmentation using Projected Pooling Loss. SPIE Medical Imaging 2023.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from nnunet_topo.losses.measure import Measure, prepare

KERNEL_SIZES = (4, 5, 8, 10, 20)  # section 3.1


class ProjectedPoolingLoss(nn.Module):
    """Returns the mean absolute difference of pooled maximum projections, in [0, 1].

    A maximum projection turns a volume into three planes; an image is its own projection. Each
    plane is max-pooled with several square kernels, stride = kernel, and compared cell by cell.

    The loss sees whatever changes the pooled silhouettes: islands, and missing parts at a border.
    It does not see what is hidden in all three projections, such as a cavity.

    Args:
        kernel_sizes: of the pooling. A kernel that is wider than a plane is cut to the plane. Cells
            at the far border may be smaller than the kernel, so all voxels are used.
        planes: axes along which a volume is projected, None for all three. 0 gives the plane of the
            other two axes, and so on.
        reduce_before_difference: compares the means of the planes instead of their cells, as the
            published code compares sums. The position of a structure then does not matter.

    Raises:
        ValueError: there is no kernel, or one below 1; there is no plane, or one other than 0, 1
            and 2; in a call, the shapes of the tensors do not fit, or planes are given for images.
    """

    # It compares silhouettes cell by cell, as Dice compares voxels: a torn line changes few cells.
    needs_intact_labels = False

    def __init__(
        self,
        kernel_sizes: Sequence[int] = KERNEL_SIZES,
        *,
        planes: Sequence[int] | None = None,
        reduce_before_difference: bool = False,
    ) -> None:
        super().__init__()
        if not kernel_sizes or min(kernel_sizes) < 1:
            raise ValueError(f"kernel_sizes must be one or more, at least 1, got {kernel_sizes}")
        if planes is not None and not (planes and {*planes} <= {0, 1, 2}):
            raise ValueError(f"planes must be one or more of 0, 1 and 2, got {planes}")
        self.kernel_sizes = tuple(kernel_sizes)
        self.planes = None if planes is None else tuple(planes)
        self.reduce_before_difference = reduce_before_difference

    def extra_repr(self) -> str:
        """Returns the settings, for printing a trainer's loss."""
        return (
            f"kernel_sizes={self.kernel_sizes}, planes={self.planes}, "
            f"reduce_before_difference={self.reduce_before_difference}"
        )

    def forward(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the mean over kernels, planes, channels, samples and the cells of each plane.

        Gradients pass to the voxel with the maximum of a cell. If several voxels of a projection
        are equally large, they share the gradient.

        Args:
            probability: foreground probabilities in [0, 1], 2D or 3D space.
            target: one-hot, 0 / 1 or boolean.
            mask: False or 0 at ignored voxels, which are background in both and get no gradient.
        """
        probability, foreground = prepare(probability, target, mask)
        assert foreground is not None
        if not probability.numel():
            return probability.sum()  # of nothing
        losses = [
            self._difference(predicted, wanted, size)
            for predicted, wanted in zip(
                self._projections(probability),
                self._projections(foreground.to(probability)),
                strict=True,
            )
            for size in self.kernel_sizes
        ]
        return torch.stack(losses).mean()  # Eq. 3

    def begin(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    ) -> Callable[[], Measure]:
        """Computes the loss at once on the device and returns a function that returns it."""
        loss = self(probability, target, mask)
        return lambda: Measure(loss)

    def _projections(self, values: Float[Tensor, "batch channel *space"]) -> list[Tensor]:
        """Returns the maximum projections of a volume along the axes, or an image as it is."""
        if values.ndim == 4:
            if self.planes is not None:
                raise ValueError(
                    f"planes need a volume, got an image with shape {tuple(values.shape)}"
                )
            return [values]
        return [values.amax(dim=2 + axis) for axis in self.planes or (0, 1, 2)]  # Eq. 1

    def _difference(self, predicted: Tensor, wanted: Tensor, size: int) -> Tensor:
        predicted, wanted = _pool(predicted, size), _pool(wanted, size)  # Eq. 2
        if self.reduce_before_difference:
            predicted, wanted = (plane.mean(dim=(2, 3)) for plane in (predicted, wanted))
        return (predicted - wanted).abs().mean()


def _pool(plane: Tensor, size: int) -> Tensor:
    return functional.max_pool2d(plane, size, ceil_mode=True)  # the plane may be smaller
