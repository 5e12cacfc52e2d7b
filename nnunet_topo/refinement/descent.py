"""Changes the weights of trained networks for one image until its prediction has a topology.

Clough, Byrne, Oksuz, Zimmer, Schnabel, King: A Topological Loss Function for Deep-Learning based
Image Segmentation using Persistent Homology. IEEE Transactions on Pattern Analysis and Machine
Intelligence 2020.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from math import inf, isfinite
from typing import cast

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import (
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from torch import Tensor, nn

from nnunet_topo.dataset import Union
from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.priors.form import PriorForm
from nnunet_topo.topology import Connectivity, persistence_pairs
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.training.channels import topology_probability
from nnunet_topo.training.scales import finest

TRACE = 0.05  # length of a bar in probability; a shorter bar does not count as a structure
_CLAMP = 0.01
_PATIENCE = 30  # steps
_LEAST_DECREASE = 1e-3  # of the loss, within so many steps


@dataclass(frozen=True, slots=True)
class Options:
    """How the weights are changed.

    Attributes:
        weight: lambda of eq. 5.
        steps: maximum number of steps.
        lr: learning rate of Adam.
        form: how the topology term is computed.
    """

    weight: float = 0.02
    steps: int = 100
    lr: float = 1e-5
    form: PriorForm = field(default_factory=PriorForm)


@dataclass(frozen=True, slots=True)
class _Windows:
    """What the networks see: patches that cover all objects.

    Attributes:
        image: the box that contains the windows, padded at least to the size of a window, on the
            device, `[channel, *space]`.
        size: of a window.
        windows: in the box; like `inside` and `place` these start with a slice for all channels.
        inside: the part of the box that is not padding.
        place: the same part in the whole image.
    """

    image: Tensor
    size: tuple[int, ...]
    windows: list[tuple[slice, ...]]
    inside: tuple[slice, ...]
    place: tuple[slice, ...]


class WeightsDescent:
    """Minimises eq. 5 for one image at a time, each time from the trained weights.

    The logits change by as much as the changed weights change them, starting from nnU-Net's
    prediction. That prediction may come from sliding windows, mirrored images and several folds.
    If the weights do not change, the prediction does not change either. The change is computed
    without mirroring and in single precision. One window covers everything that is predicted if it
    is at most as large as a batch of the training. Otherwise several windows overlap, with
    nnU-Net's own weights. With several folds the change is the mean over the folds. The loss sees
    all windows at once, so an object may be larger than a window. The gradient reaches one window
    of one network at a time, so memory holds only a single window.

    Args:
        predictor: nnU-Net's, with a model.
        options: how the weights are changed.
        connectivity: of the foreground.
    """

    def __init__(
        self, predictor: nnUNetPredictor, options: Options, connectivity: Connectivity
    ) -> None:
        self.predictor = predictor
        self.options = options
        self.connectivity: Connectivity = connectivity
        network = predictor.network
        network = cast(nn.Module, getattr(network, "_orig_mod", network))
        # Copies, because nnU-Net moves its own networks under torch.inference_mode.
        self.networks = [deepcopy(network) for _ in predictor.list_of_parameters]

    def probability(self, logits: Tensor, unions: Sequence[Union]) -> Tensor:
        """Returns the probability of each class or region, then of each union."""
        manager = self.predictor.label_manager
        return topology_probability(logits[None], manager, unions)[0]

    def term(self, priors: Mapping[int, BettiPrior]) -> BettiPriorLoss:
        """Returns the topology term of eq. 5."""
        return BettiPriorLoss(
            priors,
            form=self.options.form.form,
            dimension_weights=self.options.form.dimension_weights,
            connectivity=self.connectivity,
            clamp=_CLAMP,
        )

    def has_trace(
        self, logits: Tensor, channel: int, unions: Sequence[Union], least: Sequence[float]
    ) -> bool:
        """Returns whether a prediction shows at least as many structures as are wanted.

        A bar shorter than 0.05 does not count: the descent could not complete such a structure, it
        would invent one.
        """
        image = self.probability(logits, unions)[channel].numpy()
        pairs = persistence_pairs(image, connectivity=self.connectivity, clamp=_CLAMP)
        for k, number in enumerate(least):
            bars = pairs.diagram(np.maximum(image, _CLAMP), k)
            if np.count_nonzero(bars[:, 0] - bars[:, 1] >= TRACE) < number:
                return False
        return True

    def changed_logits(
        self,
        image: Tensor,
        logits: Tensor,
        priors: Mapping[int, BettiPrior],
        unions: Sequence[Union],
    ) -> Iterator[Tensor]:
        """Yields the logits of an image after each step of Adam.

        It stops after the last step, when the loss has hardly decreased for 30 steps, or when the
        loss is no longer finite.

        Args:
            image: preprocessed, `[channel, *space]`, the space that of a patch.
            logits: predicted, `[head, *space]`.
            priors: Betti numbers of each class or region, then of each union.
            unions: the channels that make up each union.
        """
        device = self.predictor.device
        term = self.term(priors)
        classes = len(self.probability(logits[:, :1], ()))
        chosen = {c for i in priors for c in (unions[i - classes] if i >= classes else (i,))}
        seen = self.probability(logits, ())[sorted(chosen)].amax(dim=0) >= TRACE
        views = self._windows(image, seen.numpy())
        if not views.windows:
            return
        weights = [parameter for network in self._restored() for parameter in network.parameters()]
        optimizer = torch.optim.Adam(weights, lr=self.options.lr)
        predicted = logits[views.place].to(device)
        before = self.probability(predicted, ())
        start: Tensor | None = None
        lowest, lowest_step = inf, 0
        for step in range(self.options.steps + 1):
            output, graph = self._forward(views)
            start = output if start is None else start
            change = (output - start)[views.inside]
            if step:
                changed = logits.clone()
                changed[views.place] += change.cpu()
                yield changed
            if step == self.options.steps:
                return
            change.requires_grad_()
            probability = self.probability(predicted + change, unions)
            squares = (probability[:classes] - before).square().sum() / image[0].numel()
            loss = squares + self.options.weight * term(probability[None])  # Eq. 5
            if not isfinite(value := float(loss.detach())):
                return
            if value < lowest * (1 - _LEAST_DECREASE):
                lowest, lowest_step = value, step
            elif step - lowest_step >= _PATIENCE:
                return
            gradient = torch.zeros_like(output)
            (gradient[views.inside],) = torch.autograd.grad(loss, change)
            optimizer.zero_grad()
            self._backward(views, gradient, graph)
            optimizer.step()

    def _restored(self) -> list[nn.Module]:
        """Returns the networks with the trained weights, ready for gradients."""
        for network, parameters in zip(
            self.networks, self.predictor.list_of_parameters, strict=True
        ):
            network.load_state_dict(parameters)
            network.to(self.predictor.device).eval()  # batch norms keep their statistics
        return self.networks

    def _windows(self, image: Tensor, seen: np.ndarray) -> _Windows:
        """Returns windows that cover all that is seen: one if it fits, else several."""
        found = np.argwhere(seen)
        if len(found) == 0:
            return _Windows(image, (), [], (), ())
        size = self._window_size(np.ptp(found, axis=0) + 1)
        padded, outer = pad_nd_image(image, size, "constant", {"value": 0}, True, None)
        everything = slice(None)
        box, inside, place = [everything], [everything], [everything]
        bounds = zip(found.min(0), found.max(0) + 1, size, padded.shape[1:], outer[1:], strict=True)
        for low, high, side, end, margin in bounds:
            low, high = int(low) + margin.start, int(high) + margin.start
            length = max(high - low, side)
            begin = min(max((low + high - length) // 2, 0), end - length)
            box.append(slice(begin, begin + length))
            first, last = max(begin, margin.start), min(begin + length, margin.stop)
            inside.append(slice(first - begin, last - begin))
            place.append(slice(first - margin.start, last - margin.start))
        boxed = padded[tuple(box)].to(self.predictor.device)
        seen_in_box = np.zeros(boxed.shape[1:], bool)
        seen_in_box[tuple(inside[1:])] = seen[tuple(place[1:])]
        step_size = self.predictor.tile_step_size
        starts = compute_steps_for_sliding_window(boxed.shape[1:], size, step_size)
        windows = [
            (everything, *(slice(s, s + side) for s, side in zip(corner, size, strict=True)))
            for corner in product(*starts)
        ]
        windows = [window for window in windows if seen_in_box[window[1:]].any()]
        return _Windows(boxed, size, windows, tuple(inside), tuple(place))

    def _window_size(self, extent: np.ndarray) -> tuple[int, ...]:
        """Returns the size of a patch, enlarged to as many whole sides as a batch has voxels for.

        It then fits into the memory of a machine that has trained the model, and few windows
        overlap. U-Nets accept any size that their strides divide; other networks may not.
        """
        configuration = self.predictor.configuration_manager
        patch = tuple(configuration.patch_size)
        strides = configuration.network_arch_init_kwargs.get("strides")
        is_unet = "unet" in configuration.network_arch_class_name.lower()
        if all(extent <= patch) or strides is None or not is_unet:
            return patch
        step = np.prod([np.broadcast_to(stride, len(patch)) for stride in strides], axis=0)
        whole = np.maximum(patch, -(-extent // step) * step)
        size = np.array(patch)
        for axis in np.argsort(size / whole):  # first the axis along which a patch is shortest
            longer = np.where(np.arange(len(patch)) == axis, whole, size)
            if np.prod(longer) <= configuration.batch_size * np.prod(patch):
                size = longer
        return tuple(size.tolist())

    def _shares(self, views: _Windows) -> Iterator[tuple[Tensor, tuple[slice, ...], Tensor]]:
        """Yields the input of each window, its place in the box, and its share in each voxel."""
        share = compute_gaussian(views.size, 1 / 8, 10, torch.float32, self.predictor.device)
        total = torch.zeros_like(views.image[0])
        for window in views.windows:
            total[window[1:]] += share
        for window in views.windows:
            part = share / total[window[1:]] / len(self.networks)
            yield views.image[window][None].contiguous(), window, part

    def _forward(self, views: _Windows) -> tuple[Tensor, Tensor | None]:
        """Returns the logits of the box, and those of the only window with their graph."""
        heads = self.predictor.label_manager.num_segmentation_heads
        output = torch.zeros((heads, *views.image.shape[1:]), device=self.predictor.device)
        alone = len(views.windows) * len(self.networks) == 1
        graph = None
        for patch, window, share in self._shares(views):
            for network in self.networks:
                with torch.set_grad_enabled(alone):
                    logits = finest(network(patch))[0]
                output[window] += share * logits.detach()
                graph = logits if alone else None
        return output, graph

    def _backward(self, views: _Windows, gradient: Tensor, graph: Tensor | None) -> None:
        """Back-propagates the gradient at the logits of the box to all weights."""
        for patch, window, share in self._shares(views):
            of_window = share * gradient[window]
            for network in self.networks:
                logits = finest(network(patch))[0] if graph is None else graph
                logits.backward(of_window)
