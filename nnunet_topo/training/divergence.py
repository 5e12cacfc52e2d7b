"""Stops trainings whose loss or gradient is NaN or infinite, and names the cause."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class DivergenceGuard:
    """Stops a training before a step that is not finite, and names the cause.

    Args:
        describe: returns the cause; takes nnU-Net's batch of the current step, or None.
        folder: of the training's checkpoints.
    """

    def __init__(self, describe: Callable[[Mapping[str, Any] | None], str], folder: str) -> None:
        self._describe = describe
        self._folder = folder
        self._batch: Mapping[str, Any] | None = None
        self._cause = ""  # of the first loss that was not finite
        self._guarded: Optimizer | None = None

    @contextmanager
    def step(self, batch: Mapping[str, Any]) -> Iterator[None]:
        """Keeps the batch of a step while the step runs."""
        self._batch = batch
        try:
            yield
        finally:
            self._batch = None

    def guard(self, optimizer: Optimizer, where: Callable[[], str]) -> None:
        """Makes an optimizer raise before a step whose gradients are not finite.

        An optimizer that several stages of a training share is only guarded once.

        Args:
            optimizer: of the training.
            where: returns epoch, iteration and base loss, for the message.
        """
        if optimizer is self._guarded:
            return
        self._guarded = optimizer

        def refuse_non_finite_gradients(optimizer: Optimizer, *_: Any) -> None:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
            if all(g is None or bool(torch.isfinite(g).all()) for g in gradients):
                return
            raise FloatingPointError(
                f"{where()}: the gradient contains NaN or infinite values. "
                f"{self._describe(self._batch)}. The weights and the checkpoints in "
                f"{self._folder} were not changed"
            )

        optimizer.register_step_pre_hook(refuse_non_finite_gradients)

    def check_loss(self, loss: Any) -> None:
        """Finds the cause of the first loss that is not finite, and keeps it."""
        if not (self._cause or np.isfinite(loss).all()):
            self._cause = self._describe(self._batch)

    def check_weights(self, network: nn.Module, checkpoint: str) -> None:
        """Refuses a checkpoint of weights that are not finite.

        A network that is not finite predicts background, and its validation would end well.

        Raises:
            FloatingPointError: a weight or a buffer is NaN or infinite.
        """
        broken = _broken_tensors(network)
        if broken:
            raise FloatingPointError(
                f"{len(broken)} tensors of the network, such as {broken[0]}, contain NaN or "
                f"infinite values, so {checkpoint} was not written. "
                f"{self._cause or self._describe(None)}. The checkpoints in {self._folder} were "
                "not changed"
            )

    def check_epoch(self, epoch: int, losses: Sequence[float]) -> int:
        """Returns how many losses of an epoch are not finite.

        Raises:
            FloatingPointError: all losses are NaN or infinite.
        """
        lost = int(np.count_nonzero(~np.isfinite(losses)))
        if lost == len(losses):
            raise FloatingPointError(
                f"epoch {epoch}: the loss was NaN or infinite in every iteration. "
                f"{self._cause or self._describe(None)}. The checkpoints in {self._folder} were "
                "not changed"
            )
        return lost


def describe_cause(
    network: nn.Module,
    batch: Mapping[str, Any] | None,
    *,
    image_channels: int,
    previous_stage: str | None = None,
    started_from: str = "",
    lr: float,
) -> str:
    """Returns why a training step was not finite, and what the user can do about it.

    Args:
        network: whose weights are checked.
        batch: nnU-Net's, None if it is not known.
        image_channels: number of image channels of a case; the other channels are the segmentation
            of the previous stage.
        previous_stage: of a cascade, None if there is none.
        started_from: where the weights came from, "" if they were random.
        lr: initial learning rate.
    """
    broken = _broken_tensors(network)
    if broken:
        where = f"{len(broken)} of its tensors, such as {broken[0]}"
        if started_from:
            return (
                f"The network itself contains NaN or infinite values, in {where}. It started from "
                f"{started_from}: check whether those weights are finite. If they are not, start "
                "from others"
            )
        return f"The network itself contains NaN or infinite values, in {where}: train it again"
    found = None if batch is None else _describe_batch(batch, image_channels, previous_stage)
    if found:
        return found
    looked_at = "The weights are finite" if batch is None else "Images and weights are finite"
    cures = [f"lower the learning rate, which started at {lr:g}, with the suffix lr{lr / 10:g}"]
    if started_from:
        cures.append(
            f"trained weights ({started_from}) need a smaller learning rate than random weights"
        )
    if batch is None:
        cures.append("check the images for NaN, too")
    return f"{looked_at}, so the training diverged: {'; '.join(cures)}"


def _broken_tensors(network: nn.Module) -> list[str]:
    """Returns the names of weights and buffers that are not finite."""
    return [
        name
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]


def _describe_batch(
    batch: Mapping[str, Any], image_channels: int, previous_stage: str | None
) -> str:
    """Returns a description of the cases in a batch that are not finite, "" if all are finite."""
    data: Tensor = batch["data"]
    spatial = tuple(range(2, data.ndim))
    broken = (~torch.isfinite(data)).sum(spatial).cpu().nonzero().tolist()
    if not broken:
        return ""
    names: Sequence[Any] = batch.get("keys", ())
    told: dict[str, None] = {}
    for sample, channel in broken:
        case = str(names[sample]) if sample < len(names) else f"sample {sample} of the batch"
        if channel < image_channels:
            told[f"channel {channel} of the image of {case}"] = None
        else:
            told[f"the segmentation of {previous_stage} for {case}"] = None
    listed = ", ".join([*told][:5]) + (f" and {len(told) - 5} more" if len(told) > 5 else "")
    return (
        f"The data contains NaN or infinite values: {listed}. Repair or remove the file, then "
        "preprocess the data set again"
    )
