"""nnU-Net's logits and targets as the channels that topology terms work on."""

from collections.abc import Sequence

import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor

from nnunet_topo.dataset import Union


def topology_channels(
    logits: Tensor,
    target: Tensor | None,
    label_manager: LabelManager,
    unions: Sequence[Union] = (),
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Returns probability, one-hot target and mask of the channels of topology terms.

    Each foreground label (softmax) or region has a channel, followed by one for each union. The
    background has none. Classes exclude one another, so the probability of their union is the sum.
    Regions may overlap, so the probability of their union is the maximum. Tensors are `[batch,
    channel, *space]`. Probabilities are float32, even if logits are half precision. The mask is
    False at the ignore label; without such a label it is None.

    Args:
        logits: nnU-Net's output.
        target: nnU-Net's, which is not changed. None for unlabelled images; one-hot target and mask
            are then also None.
        label_manager: nnU-Net's.
        unions: the channels that make up each union.

    Raises:
        ValueError: a union names a channel that does not exist.
    """
    probability = topology_probability(logits, label_manager, unions)
    if target is None:
        return probability, None, None
    target, mask = split_ignored(target, label_manager)
    if label_manager.has_regions:
        one_hot = target.bool()
    else:
        one_hot = one_hot_of(target, label_manager.foreground_labels)
    if unions:
        joint = [one_hot[:, list(union)].any(dim=1, keepdim=True) for union in unions]
        one_hot = torch.cat([one_hot, *joint], dim=1)
    return probability, one_hot, mask


def topology_probability(
    logits: Tensor, label_manager: LabelManager, unions: Sequence[Union] = ()
) -> Tensor:
    """Returns only the probabilities of `topology_channels`.

    Raises:
        ValueError: a union names a channel that does not exist.
    """
    if label_manager.has_regions:
        probability = torch.sigmoid(logits.float())
    else:
        probability = torch.softmax(logits.float(), dim=1)[:, 1:]
    joint = []
    for union in map(list, unions):
        if not union or min(union) < 0 or max(union) >= probability.shape[1]:
            raise ValueError(
                f"a union must name channels from 0 to {probability.shape[1] - 1}, got "
                f"{tuple(union)}"
            )
        parts = probability[:, union]
        of_union = parts.amax(dim=1) if label_manager.has_regions else parts.sum(dim=1).clamp(max=1)
        joint.append(of_union[:, None])
    return torch.cat([probability, *joint], dim=1) if joint else probability


def one_hot_of(target: Tensor, labels: Sequence[int]) -> Tensor:
    """Returns where a label map has each label, `[batch, label, *space]`."""
    wanted = torch.tensor(labels, device=target.device)
    return target == wanted.view(1, -1, *(1,) * (target.ndim - 2))


def split_ignored(target: Tensor, label_manager: LabelManager) -> tuple[Tensor, Tensor | None]:
    """Returns the target without nnU-Net's ignore channel, and a mask that is False where ignored.

    Only targets of regions have such a channel. A label map keeps its ignore label. If the data set
    has no ignore label, the mask is None.
    """
    if not label_manager.has_ignore_label:
        return target, None
    if label_manager.has_regions:
        return target[:, :-1], ~target[:, -1:].bool()
    return target, target != label_manager.ignore_label
