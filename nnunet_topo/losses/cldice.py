"""clDice: how far the centre lines of prediction and target lie in one another.

Shit, Paetzold, Sekuboyina, Ezhov, Unger, Zhylka, Pluim, Bauer, Menze: clDice - a Novel Topology-
Preserving Loss Function for Tubular Structure Segmentation. CVPR 2021.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nnunet_topo.losses.measure import each_mask, prepare, sums_of_batch
from nnunet_topo.topology import Connectivity, thin
from nnunet_topo.topology.persistence import check_connectivity

ITERATIONS = 10


class ClDiceLoss(nn.Module):
    """Returns 1 - soft clDice, in [0, 1].

    clDice is the harmonic mean of two shares: that of the predicted skeleton that lies in the
    target, and that of the target's skeleton that is covered by the prediction. The skeletons are
    soft, see `soft_skeleton`.

    Args:
        iterations: of the skeleton; at least half the width of the widest structure, in voxels.
        exact: whether the target's skeleton is its exact centre line, see `topology.thin`. It has
            the target's topology, and soft skeletons of binary masks have gaps.
        over_batch: whether the shares are those of a class in the whole batch, as in the published
            code, or else of each sample.
        smooth: added to the sums of each share.
        gather: returns the sums of all processes of a training, `[process, ...]`, with gradients;
            for `over_batch`. None for a single process.
        connectivity: of the foreground, where an exact skeleton is made from the target.

    Raises:
        ValueError: a negative number of iterations, smooth not above 0, unknown connectivity;
            tensors whose shapes do not fit.
    """

    needs_intact_labels = False  # it asks for lines to be covered, and never counts them

    def __init__(
        self,
        *,
        iterations: int = ITERATIONS,
        exact: bool = False,
        over_batch: bool = False,
        smooth: float = 1.0,
        gather: Callable[[Tensor], Tensor] | None = None,
        connectivity: Connectivity = "full",
    ) -> None:
        super().__init__()
        if iterations < 0:
            raise ValueError(f"iterations must be at least 0, got {iterations}")
        if not smooth > 0:
            raise ValueError(f"smooth must be above 0, got {smooth}")
        check_connectivity(connectivity)
        self.iterations, self.exact, self.over_batch = iterations, exact, over_batch
        self.smooth, self.gather = smooth, gather
        self.connectivity: Connectivity = connectivity

    def extra_repr(self) -> str:
        """Returns the settings, for printing a trainer's loss."""
        return (
            f"iterations={self.iterations}, exact={self.exact}, over_batch={self.over_batch}, "
            f"connectivity={self.connectivity!r}"
        )

    def forward(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"],
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
        *,
        lines: Shaped[Tensor, "batch channel *space"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the mean over channels, and over samples unless the shares are the batch's.

        Gradients pass to all voxels that the skeleton of the prediction depends on, and to those of
        the target's skeleton. One iteration of one channel is kept for the backward pass at a time;
        the others are computed again. Second derivatives raise RuntimeError.

        Args:
            probability: foreground probabilities in [0, 1], 2D or 3D space.
            target: one-hot, 0 / 1 or boolean.
            mask: False or 0 at ignored voxels, which are background in both and get no gradient.
            lines: exact centre line of each channel, within the target, for `exact`. None makes it
                from the target, each channel by itself, on the CPU.
        """
        probability, foreground = prepare(probability, target, mask)
        assert foreground is not None
        if not probability.numel():
            return probability.sum()  # of nothing
        wanted = foreground.to(probability)
        found = torch.cat([soft_skeleton(p, self.iterations) for p in probability.split(1, 1)], 1)
        with torch.no_grad():
            if not self.exact:
                skeleton = soft_skeleton(wanted, self.iterations)
            elif lines is None:
                centre_lines = partial(thin, connectivity=self.connectivity)
                skeleton = each_mask(centre_lines, foreground).to(probability)
            else:
                skeleton = (lines.bool() & foreground).to(probability)
        space = tuple(range(2, probability.ndim))
        sums = torch.stack(
            [
                (found * wanted).sum(space),
                found.sum(space),
                (skeleton * probability).sum(space),
                skeleton.sum(space),
            ]
        )
        if self.over_batch:
            sums = sums_of_batch(sums, self.gather)
        precision = (sums[0] + self.smooth) / (sums[1] + self.smooth)  # Eq. 1
        sensitivity = (sums[2] + self.smooth) / (sums[3] + self.smooth)
        return (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean()  # Eq. 2


def soft_skeleton(
    image: Float[Tensor, "batch channel *space"], iterations: int = ITERATIONS
) -> Float[Tensor, "batch channel *space"]:
    """Returns the soft skeleton of images in [0, 1] (algorithm 1), in [0, 1].

    It joins what each of several erosions loses when it is opened. Beyond the border there is
    nothing that could erode the image. Gradients pass; each iteration is computed again in the
    backward pass, so that one at a time is in memory.

    Args:
        image: 2D or 3D space.
        iterations: number of erosions.
    """
    if image.requires_grad:
        return _SoftSkeleton.apply(image, iterations)
    skeleton = _lost(image)
    for _ in range(iterations):
        if not image.any():  # a target is soon eroded to nothing
            break
        image, skeleton = _joined(image, skeleton)
    return skeleton


class _SoftSkeleton(torch.autograd.Function):
    """The soft skeleton, of which only the result of each iteration is kept.

    PyTorch's own checkpoints keep far more than that until Python collects its garbage.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, iterations: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] # any arguments are allowed
        """Returns the skeleton."""
        skeleton, kept = _lost(image), [image]
        for _ in range(iterations):
            kept += [image, skeleton]
            image, skeleton = _joined(image, skeleton)
        ctx.save_for_backward(*kept)
        return skeleton

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride] # the number of gradients is that of the outputs
        """Returns the gradient of the image, iteration by iteration from the last."""
        first, *kept = ctx.saved_tensors
        of_image = torch.zeros_like(gradient)
        for image, skeleton in zip(kept[-2::-2], kept[::-2], strict=True):
            inputs = [part.detach().requires_grad_() for part in (image, skeleton)]
            with torch.enable_grad():
                outputs = _joined(*inputs)
            of_image, gradient = torch.autograd.grad(outputs, inputs, (of_image, gradient))
        start = first.detach().requires_grad_()
        with torch.enable_grad():
            skeleton = _lost(start)
        (of_start,) = torch.autograd.grad(skeleton, start, gradient)
        return of_image + of_start, None


def _lost(image: Tensor) -> Tensor:
    """Returns what an image loses when it is opened."""
    return functional.relu(image - _dilated(_eroded(image)))


def _joined(image: Tensor, skeleton: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the erosion of an image, and the skeleton with what the erosion's opening loses."""
    image = _eroded(image)
    lost = _lost(image)
    return image, skeleton + functional.relu(lost - skeleton * lost)


def _eroded(image: Tensor) -> Tensor:
    """Returns the minimum over each voxel and its neighbours face to face."""
    along = [-_MaximumAlong.apply(-image, axis)[0] for axis in range(2, image.ndim)]
    return reduce(torch.min, along)


def _dilated(image: Tensor) -> Tensor:
    """Returns the maximum over each voxel and all its neighbours, one axis after the other."""
    for axis in range(2, image.ndim):
        image = _MaximumAlong.apply(image, axis)[0]
    return image


class _MaximumAlong(torch.autograd.Function):
    """The maximum over each voxel and its two neighbours along an axis.

    PyTorch's pooling keeps an index of eight bytes for each voxel; here it is one byte.
    """

    @staticmethod
    def forward(image: Tensor, axis: int) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride] # the form with setup_context
        """Returns the maxima, and from where each came: 0 the voxel, 1 before it, 2 behind it."""
        last = image.shape[axis] - 1
        largest, source = image.clone(), torch.zeros_like(image, dtype=torch.uint8)
        for number, (to, of) in enumerate(((1, 0), (0, 1)), start=1):
            here, there = largest.narrow(axis, to, last), image.narrow(axis, of, last)
            source.narrow(axis, to, last).masked_fill_(there > here, number)
            torch.maximum(here, there, out=here)
        return largest, source

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        """Keeps from where the maxima came."""
        ctx.axis = inputs[1]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride] # the number of gradients is that of the outputs
        """Returns the gradient of the image: each maximum gives its own to where it came from."""
        (source,) = ctx.saved_tensors
        last = gradient.shape[ctx.axis] - 1
        passed = torch.where(source == 0, gradient, 0)
        for number, (to, of) in enumerate(((1, 0), (0, 1)), start=1):
            own = torch.where(source == number, gradient, 0)
            passed.narrow(ctx.axis, of, last).add_(own.narrow(ctx.axis, to, last))
        return passed, None
