"""Gradient norms of base loss and topology term at the last layer of a network."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.helpers import dummy_context
from torch import Tensor, nn

from nnunet_topo.training.augmentation import INTACT
from nnunet_topo.training.loss import TopologyAwareLoss
from nnunet_topo.training.scales import all_scales


@dataclass(frozen=True, slots=True)
class LastLayer:
    """What the last layer of a network makes of a batch.

    Attributes:
        parameters: of the layer; none for an architecture without nnU-Net's decoder, whose norms
            are taken at the logits.
        logits: finest scale, float32, with a graph to the parameters.
        others: the other scales, without a graph.
    """

    parameters: list[Tensor]
    logits: Tensor
    others: list[Tensor]

    def gradient_norm(self, compute_loss: Callable[[Tensor], Tensor | None]) -> float:
        """Returns the gradient norm of a loss of the logits, 0 if it is not finite or None."""
        leaf = self.logits.detach().requires_grad_()
        loss = compute_loss(leaf)
        if loss is None:
            return 0.0
        (at_logits,) = torch.autograd.grad(loss, leaf)
        gradients: Iterable[Tensor] = [at_logits]
        if self.parameters:
            gradients = torch.autograd.grad(
                self.logits, self.parameters, at_logits, retain_graph=True
            )
        norm = float(np.linalg.norm([float(g.norm()) for g in gradients]))  # mps knows no float64
        return norm if np.isfinite(norm) else 0.0


def run_last_layer(network: nn.Module, data: Tensor) -> LastLayer:
    """Returns what the last layer makes of a batch.

    The layer runs once more on its own, in float32. No graph of the whole network is kept, half
    precision rounds no gradient to zero, and a compiled network is not touched.

    Args:
        network: without the wrappers of DDP and torch.compile.
        data: images of the batch, on the network's device.
    """
    layers = getattr(getattr(network, "decoder", None), "seg_layers", None)
    inputs: list[Tensor] = []
    hooks = []
    if layers is not None:
        hooks.append(layers[-1].register_forward_pre_hook(lambda _, args: inputs.append(*args)))
    on_cuda = data.device.type == "cuda"
    with torch.no_grad(), torch.autocast("cuda") if on_cuda else dummy_context():
        output = all_scales(network(data))
    for hook in hooks:
        hook.remove()
    others = [scale.float() for scale in output[1:]]
    if layers is None or not inputs:
        return LastLayer([], output[0].float(), others)
    return LastLayer(list(layers[-1].parameters()), layers[-1](inputs[-1].float()), others)


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

    Args:
        loss: of the training.
        network: without the wrappers of DDP and torch.compile.
        batch: nnU-Net's, with the note which labels are intact.
        weight: of the term.
        device: of the network.
        unlabelled: images that the term works on, None for those of the batch.
    """
    scales = [scale.to(device) for scale in all_scales(batch["target"])]
    layer = run_last_layer(network, batch["data"].to(device))

    def base_loss(logits: Tensor) -> Tensor | None:
        if isinstance(batch["target"], Tensor):
            base = loss.base(logits, scales[0])
        else:
            base = loss.base([logits, *layer.others], scales)
        return base if isinstance(base, Tensor) else None  # nnU-Net's may be the number 0

    def weighted_term(logits: Tensor) -> Tensor | None:
        of_labels = (scales[0], batch.get(INTACT)) if unlabelled is None else (None, None)
        term = loss.measure_term(logits, *of_labels)
        return None if term is None else weight * term.loss

    norm_of_base = layer.gradient_norm(base_loss)
    shown = layer if unlabelled is None else run_last_layer(network, unlabelled)
    return norm_of_base, shown.gradient_norm(weighted_term)
