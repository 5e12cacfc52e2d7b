"""A loss that compares a prediction with known Betti numbers and needs no labels.

Clough, Byrne, Oksuz, Zimmer, Schnabel, King: A Topological Loss Function for Deep-Learning based
Image Segmentation using Persistent Homology. IEEE Transactions on Pattern Analysis and Machine
Intelligence 2020.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn

from nnunet_topo.losses.diagrams import Bars, begin_bars
from nnunet_topo.losses.measure import BarCounts, Measure, as_mask, prepare
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.betti_range import BettiPrior, BettiRange
from nnunet_topo.topology.persistence import check_connectivity, check_dimensions

Form = Literal["quadratic", "published"]
# beartype does not accept an int as a float
Prior = Sequence[BettiRange | int | Sequence[float | int] | None] | Literal["target"]


class BettiPriorLoss(nn.Module):
    """Returns how far the bars of a prediction are from given Betti numbers.

    The loss pulls the longest beta*_k bars of dimension k to length 1, and all others to length 0
    (eq. 3). A missing bar costs 1 and has no gradient.

    Args:
        priors: Betti numbers (beta0, beta1[, beta2]) of each channel with a prior. A number may be
            a range (low, high) that includes both ends; high may be infinite. Bars between low and
            high cost nothing. None leaves a dimension free. "target" uses the Betti numbers of the
            target, which must then be passed. All zeros mean that the channel is empty.
        form: of the cost of a bar that should have length 1: (1 - length)^2 if "quadratic",
            1 - length^2 if "published".
        dimension_weights: factor of each dimension, default 1.
        connectivity: of the foreground; see `persistence_pairs`.
        clamp: every p below this is raised to it before the filtration; None changes nothing. The
            ends of a bar move by at most this much, and voxels below it get no gradient.
        in_patches: whether samples may be parts of images. A prior then only applies to objects
            that lie completely in the patch. With a target, it applies if the object of the target
            does not touch the border of the patch and agrees with the prior; otherwise the loss
            uses the target's own Betti numbers. Without a target, it applies if the prediction at
            0.5 is not empty and does not touch the border; otherwise the loss skips sample and
            channel. It always skips an object with a prior that touches ignored voxels.

    Raises:
        ValueError: a name is unknown, a prior is wrong, or clamp is outside [0, 1); in a call, the
            shapes of the tensors do not fit, the target is missing, or there are NaN.
    """

    def __init__(
        self,
        priors: Mapping[int, Prior],
        *,
        form: Form = "quadratic",
        dimension_weights: Sequence[float | int] | None = None,
        connectivity: Connectivity = "full",
        clamp: float | None = None,
        in_patches: bool = False,
    ) -> None:
        super().__init__()
        if form not in get_args(Form):
            raise ValueError(f"form must be one of {get_args(Form)}, got {form!r}")
        check_connectivity(connectivity)
        if clamp is not None and not 0 <= clamp < 1:
            raise ValueError(f"clamp must lie in [0, 1), got {clamp}")
        if dimension_weights is not None and not all(w >= 0 for w in dimension_weights):
            raise ValueError(f"dimension_weights must be at least 0, got {dimension_weights}")
        self.priors = dict(priors)
        self._wanted = [_as_prior(prior, channel) for channel, prior in self.priors.items()]
        self.form = form
        self.dimension_weights = None if dimension_weights is None else tuple(dimension_weights)
        self.connectivity: Connectivity = connectivity
        self.clamp = 0.0 if clamp is None else clamp  # probabilities are never below 0
        self.in_patches = in_patches

    @property
    def needs_intact_labels(self) -> bool:
        """Returns whether the loss uses the Betti numbers of the target, if there is one."""
        return self.in_patches or None in self._wanted

    def extra_repr(self) -> str:
        """Returns the settings, for printing a trainer's loss."""
        priors = {
            channel: "target" if wanted is None else str(wanted)
            for channel, wanted in zip(self.priors, self._wanted, strict=True)
        }
        return (
            f"priors={priors}, form={self.form!r}, dimension_weights="
            f"{self.dimension_weights}, connectivity={self.connectivity!r}, clamp={self.clamp}, "
            f"in_patches={self.in_patches}"
        )

    def forward(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"] | None = None,
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the sum over bars and dimensions (eq. 4), averaged over samples and priors.

        Gradients pass to the critical voxels of the probability. If all voxels of a sample are
        ignored, it costs nothing.

        Args:
            probability: foreground probabilities in [0, 1], 2D or 3D space.
            target: one-hot, 0 / 1 or boolean; None for unlabelled data.
            mask: False or 0 at ignored voxels, which count as background and get no gradient.
        """
        return self.begin(probability, target, mask)().loss

    def begin(
        self,
        probability: Float[Tensor, "batch channel *space"],
        target: Shaped[Tensor, "batch channel *space"] | None = None,
        mask: Shaped[Tensor, "batch 1 *space"] | None = None,
    ) -> Callable[[], Measure]:
        """Starts `forward` in other threads and returns a function that waits for the loss."""
        probability, foreground = prepare(probability, target, mask)
        mask = as_mask(mask, probability)
        self._check_call(probability, foreground)
        if not self.priors or not len(probability):
            nothing = 0 * probability.sum()
            return lambda: Measure(nothing)
        channels = list(self.priors)
        probability = probability[:, channels]
        object_ = probability > 0.5 if foreground is None else foreground[:, channels]
        bars = begin_bars(
            probability,
            torch.zeros_like(object_) if foreground is None else object_,
            connectivity=self.connectivity,
            dimensions=check_dimensions(None, probability.ndim - 2),
            clamp=self.clamp,
        )
        ignored = np.zeros(len(object_), bool)
        if mask is not None:
            ignored = ~mask.flatten(1).any(dim=1).cpu().numpy()
        seen = _whole(object_).cpu().numpy(), _skipped(object_, mask).cpu().numpy(), ignored
        labelled = foreground is not None
        return lambda: self._measure(bars(), *seen, labelled)

    def _check_call(self, probability: Tensor, foreground: Tensor | None) -> None:
        space = probability.ndim - 2
        for channel, prior in self.priors.items():
            if not 0 <= channel < probability.shape[1]:
                raise ValueError(
                    f"priors name channel {channel}, but there are {probability.shape[1]} channels"
                )
            if prior == "target" and foreground is None:
                raise ValueError(f"the prior of channel {channel} needs a target, got None")
            if prior != "target" and len(prior) != space:
                raise ValueError(
                    f"the prior of channel {channel} must hold {space} Betti numbers for {space}D "
                    f"space, got {tuple(prior)}"
                )
        weights = self.dimension_weights
        if weights is not None and len(weights) != space:
            raise ValueError(f"dimension_weights must hold {space} numbers, got {weights}")

    def _measure(
        self,
        bars: Bars,
        whole: NDArray[np.bool_],
        skipped: NDArray[np.bool_],
        ignored: NDArray[np.bool_],
        labelled: bool,
    ) -> Measure:
        """Returns the mean over samples and priors of eq. 4.

        Args:
            bars: of all samples and priors.
            whole: whether an object is there and does not touch the border, `[sample, prior]`.
            skipped: whether it touches ignored voxels, `[sample, prior]`.
            ignored: samples whose voxels are all ignored.
            labelled: whether there is a target.
        """
        to_one = np.zeros(len(bars.dimension))  # weight of each bar in the first sum of eq. 3
        to_zero = np.zeros(len(bars.dimension))  # and in the second
        missing, used = 0.0, 0
        counts = BarCounts(0, 0, 0)
        length_value = bars.birth_value - bars.death_value
        ends = np.searchsorted(bars.channel, np.arange(whole.size + 1))
        for i, (sample, entry) in enumerate(np.ndindex(whole.shape)):
            own, wanted = bars.targets[i].betti, self._wanted[entry]
            if ignored[sample]:
                continue
            if wanted is not None and self.in_patches:
                holds = whole[sample, entry]
                if skipped[sample, entry] or not (labelled or holds):
                    continue
                if labelled and not (holds and wanted.allows(own)):
                    wanted = None
            used += wanted is not None
            wanted = wanted or BettiPrior.of(own)
            for k in range(len(own)):
                weight = 1.0 if self.dimension_weights is None else self.dimension_weights[k]
                found = ends[i] + np.flatnonzero(bars.dimension[ends[i] : ends[i + 1]] == k)
                found = found[np.argsort(-length_value[found], kind="stable")]
                drawn, free = wanted[k].low, int(min(wanted[k].high, len(found)))
                to_one[found[:drawn]], to_zero[found[free:]] = weight, weight
                lacking = max(0, drawn - len(found))
                missing += weight * lacking
                counts += BarCounts(drawn - lacking, len(found) - free, lacking)
        length = bars.birth - bars.death
        to_full = (1 - length) ** 2 if self.form == "quadratic" else 1 - length**2
        first, second = (torch.from_numpy(weight).to(length) for weight in (to_one, to_zero))
        cost = first * to_full + second * length**2  # Eq. 3
        return Measure((cost.sum() + missing) / whole.size, used=used / whole.size, bars=counts)


def _as_prior(prior: Prior, channel: int) -> BettiPrior | None:
    """Returns the ranges of a prior, or None for "target".

    Raises:
        ValueError: the prior is wrong. The message names the channel.
    """
    if isinstance(prior, str):
        if prior != "target":
            raise ValueError(f"a prior must be Betti numbers or 'target', got {prior!r}")
        return None
    try:
        return BettiPrior.of(prior)
    except ValueError as error:
        raise ValueError(f"{error} in the prior of channel {channel}") from None


def _whole(object_: Bool[Tensor, "batch entry *space"]) -> Bool[Tensor, "batch entry"]:
    """Returns for which samples and entries there is an object that does not touch the border."""
    whole = object_.flatten(2).any(dim=2)
    for axis in range(2, object_.ndim):
        for side in (0, -1):
            whole &= ~object_.select(axis, side).flatten(2).any(dim=2)
    return whole


def _skipped(
    object_: Bool[Tensor, "batch entry *space"], mask: Bool[Tensor, "batch 1 *space"] | None
) -> Bool[Tensor, "batch entry"]:
    """Returns for which samples and entries an object touches ignored voxels, even at a corner."""
    if mask is None:
        return torch.zeros_like(object_.flatten(2)[..., 0])
    pool = nn.functional.max_pool2d if mask.ndim == 4 else nn.functional.max_pool3d
    near = pool((~mask).float(), 3, stride=1, padding=1) > 0
    return (object_ & near).flatten(2).any(dim=2)
