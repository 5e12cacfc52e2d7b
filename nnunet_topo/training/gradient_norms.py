"""Gradient norms of base loss and topology term at the logits of a network."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from nnunetv2.utilities.helpers import dummy_context
from torch import Tensor, nn

from nnunet_topo.training.loss import TopologyAwareLoss
from nnunet_topo.training.scales import all_scales


def gradient_norms(
    loss: TopologyAwareLoss,
    network: nn.Module,
    batch: Mapping[str, Any],
    *,
    weight: float,
    device: torch.device,
    unlabelled: Tensor | None = None,
) -> tuple[float, float]:
    """Returns the gradient norms of the base loss and of weight * topology term.

    They are taken at the logits of the finest scale, in float32. A norm is 0 if there is no
    gradient or if it is not finite.

    At the weights of the last layer, or of the whole network, the gradients of many voxels cancel,
    and the more so for a term whose bars pull neighbouring voxels in opposite directions. There the
    ratio of the norms falls by a factor of ten and more within a training, and doubles or halves
    from one iteration to the next.

    Args:
        loss: of the training.
        network: without the wrappers of DDP and torch.compile.
        batch: nnU-Net's.
        weight: of the term.
        device: of the network.
        unlabelled: images that the term works on, None for those of the batch.
    """
    scales = [scale.to(device) for scale in all_scales(batch["target"])]
    logits, *others = _run(network, batch["data"].to(device))

    def base_loss(logits: Tensor) -> Tensor | None:
        if isinstance(batch["target"], Tensor):
            base = loss.base(logits, scales[0])
        else:
            base = loss.base([logits, *others], scales)
        return base if isinstance(base, Tensor) else None  # nnU-Net's may be the number 0

    def weighted_term(logits: Tensor) -> Tensor | None:
        term = loss.measure_term(logits, scales[0] if unlabelled is None else None)
        return None if term is None else weight * term.loss

    shown = logits if unlabelled is None else _run(network, unlabelled)[0]
    return _gradient_norm(base_loss, logits), _gradient_norm(weighted_term, shown)


def _gradient_norm(compute_loss: Callable[[Tensor], Tensor | None], logits: Tensor) -> float:
    leaf = logits.detach().requires_grad_()
    loss = compute_loss(leaf)
    if loss is None or not loss.requires_grad:
        return 0.0
    (gradient,) = torch.autograd.grad(loss, leaf)
    norm = float(gradient.norm())
    return norm if norm < float("inf") else 0.0  # NaN is not less, either


def _run(network: nn.Module, data: Tensor) -> list[Tensor]:
    """Returns the logits of all scales, in float32 and without a graph.

    The training does not notice: running means of a normalisation and random numbers stay as they
    were, and a compiled network is not touched.
    """
    on_cuda = data.device.type == "cuda"
    autocast = torch.autocast("cuda") if on_cuda else dummy_context()
    with torch.no_grad(), _without_traces(network, data.device), autocast:
        return [scale.float() for scale in all_scales(network(data))]


@contextmanager
def _without_traces(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Restores what a forward pass changes: buffers of the network and random numbers."""
    kept = [buffer.clone() for buffer in network.buffers()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    for buffer, value in zip(network.buffers(), kept, strict=True):
        buffer.copy_(value)
