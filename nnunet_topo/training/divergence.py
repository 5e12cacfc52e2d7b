"""Why a loss or a gradient is NaN or infinite: what can be seen of it in weights and batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def describe_cause(
    network: nn.Module,
    batch: Mapping[str, Any] | None,
    *,
    image_channels: int,
    previous_stage: str | None = None,
    began_from: str = "",
    lr: float,
) -> str:
    """Returns why a training step was not finite, and what to do about it.

    Args:
        network: whose weights are looked at.
        batch: nnU-Net's, None if it is not known.
        image_channels: of a case; further ones are the segmentation of the previous stage.
        previous_stage: of a cascade, None if there is none.
        began_from: where weights came from that were not random, "" if nowhere.
        lr: initial learning rate.
    """
    broken = [
        name
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if broken:
        where = f"{len(broken)} of its tensors, such as {broken[0]}"
        if began_from:
            return (
                f"The network itself holds NaN or infinite values, in {where}. It began from "
                f"{began_from}: look whether the weights there are finite, and begin from others "
                "if they are not"
            )
        return f"The network itself holds NaN or infinite values, in {where}: train it anew"
    found = None if batch is None else _describe_batch(batch, image_channels, previous_stage)
    if found:
        return found
    looked_at = "The weights are finite" if batch is None else "Images and weights are finite"
    cures = [f"lower the learning rate, which began at {lr:g}, by the suffix lr{lr / 10:g}"]
    if began_from:
        cures.append(
            f"weights that were trained before ({began_from}) take a smaller one than random ones"
        )
    if batch is None:
        cures.append("and look for NaN in the images")
    return f"{looked_at}, so the training diverged: {'; '.join(cures)}"


def _describe_batch(
    batch: Mapping[str, Any], image_channels: int, previous_stage: str | None
) -> str:
    """Returns which cases of a batch are not finite, "" if all are."""
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
        f"The data holds NaN or infinite values: {listed}. Mend or remove the file, and preprocess "
        "the data set again"
    )
