"""Skeleton Recall and clDice beside the base loss, with weights that are used as they are."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn

from nnunet_topo.losses import ClDiceLoss, SkeletonRecallLoss
from nnunet_topo.training.channels import topology_channels
from nnunet_topo.training.loss import full_precision
from nnunet_topo.training.scales import as_tensor
from nnunet_topo.training.settings import Settings
from nnunet_topo.training.skeletons import Skeletons, TargetSkeletons

NONE = Skeletons(None, None)
LABELS = {"added_skelrecall": "Skeleton Recall loss", "added_cldice": "clDice loss"}


@dataclass(frozen=True, slots=True)
class AddedWeights:
    """What stands beside the base loss of a training, or before it.

    Attributes:
        skelrecall: weight of Skeleton Recall, 0 for none.
        cldice: weight of clDice, 0 for none.
        exact: whether the target's skeleton of clDice is exact.
        scnp: whether the base loss sees the least confident neighbours.
    """

    skelrecall: float = 0.0
    cldice: float = 0.0
    exact: bool = False
    scnp: bool = False

    @classmethod
    def chosen(cls, settings: Settings, trainer: Any) -> "AddedWeights":
        """Returns the weights that the name of a trainer sets, and else those of its class."""
        exact = settings.exactcldice is not None
        cldice = settings.exactcldice if exact else settings.cldice
        return cls(
            trainer.skelrecall if settings.skelrecall is None else settings.skelrecall,
            trainer.cldice if cldice is None else cldice,
            exact,
            trainer.scnp or settings.scnp,
        )

    @property
    def factors(self) -> dict[str, float]:
        """Returns the weights of the losses that are added, by their names in the log."""
        weights = {"added_skelrecall": self.skelrecall, "added_cldice": self.cldice}
        return {key: weight for key, weight in weights.items() if weight > 0}

    @property
    def logged(self) -> dict[str, str]:
        """Returns the figures of an epoch -> labels of the plot."""
        return {key: LABELS[key] for key in self.factors}

    def numbers(self) -> dict[str, float]:
        """Returns the weights as plain numbers, for a checkpoint."""
        return {name: float(value) for name, value in asdict(self).items()}

    def in_words(self) -> str:
        """Returns the sum without the base loss, such as " + 1 * Skeleton Recall"."""
        words = f" + {self.skelrecall:g} * Skeleton Recall" if self.skelrecall > 0 else ""
        if self.cldice > 0:
            with_exact = " with the exact skeleton of the target" if self.exact else ""
            words += f" + {self.cldice:g} * clDice{with_exact}"
        return words


class BaseWithAddedLosses(nn.Module):
    """Returns base loss + weight * Skeleton Recall + weight * clDice, for nnU-Net's outputs.

    Skeleton Recall is that of each scale of the deep supervision, weighted as the base loss, as it
    was published; clDice is that of the finest scale. Both are computed in float32. Without
    gradients, as in validation, the loss is the base loss alone.

    Args:
        base: nnU-Net's loss, or one that takes the same.
        label_manager: nnU-Net's.
        weights: of the added losses.
        skeletons: that the batches carry.
        over_batch: as in nnU-Net's Dice of the configuration.
        gather: see `SkeletonRecallLoss`.

    Attributes:
        packed: skeletons of the next call, `[batch, bytes, *space]`; None makes them here.
        values: of the last call with gradients, without weights, by the names in the log.
    """

    def __init__(
        self,
        base: nn.Module,
        label_manager: LabelManager,
        weights: AddedWeights,
        skeletons: TargetSkeletons,
        *,
        over_batch: bool = False,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.base, self.label_manager = base, label_manager
        self.weights, self.skeletons = weights, skeletons
        common: dict[str, Any] = {"over_batch": over_batch, "gather": gather}
        common["connectivity"] = skeletons.connectivity
        self.recall = SkeletonRecallLoss(**common) if weights.skelrecall > 0 else None
        self.cldice = ClDiceLoss(exact=weights.exact, **common) if weights.cldice > 0 else None
        self.packed: Tensor | None = None
        self.values: dict[str, float] = {}

    @property
    def added(self) -> float:
        """Returns what the last call with gradients has added to the base loss."""
        factors = self.weights.factors
        return sum(factors[key] * value for key, value in self.values.items())

    def extra_repr(self) -> str:
        """Returns the weights, for printing a trainer's loss."""
        return str(self.weights)

    def forward(self, output: Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        """Returns the loss; output and target are lists, finest first, under deep supervision."""
        loss = as_tensor(self.base(output, target), output)
        if not torch.is_grad_enabled():
            return loss
        outputs, targets = (
            [scales] if isinstance(scales, Tensor) else scales for scales in (output, target)
        )
        if len(outputs) != len(targets):
            raise TypeError(
                f"got {len(outputs)} outputs and {len(targets)} targets: a train_step of your own "
                "must call super().train_step(batch), or be in a trainer behind the mixin"
            )
        packed = self._packed(targets[0])
        factors = self._factors(len(outputs))
        recall, self.values = torch.zeros_like(loss), {}
        for scale, (factor, logits, of_scale) in enumerate(
            zip(factors, outputs, targets, strict=True)
        ):
            with full_precision(logits):
                if factor == 0 or (scale and self.recall is None):
                    continue
                channels = topology_channels(logits, of_scale, self.label_manager)
                probability, one_hot, mask = channels
                assert one_hot is not None
                made = self.skeletons.unpack(packed, one_hot) if packed is not None else NONE
                if self.recall is not None:
                    recall = recall + factor * self.recall(
                        probability, one_hot, mask, tube=made.tube
                    )
                if self.cldice is not None and scale == 0:
                    cldice = self.cldice(probability, one_hot, mask, lines=made.lines)
                    loss = loss + self.weights.cldice * cldice
                    self.values["added_cldice"] = float(cldice.detach())
        if self.recall is not None:
            loss = loss + self.weights.skelrecall * recall
            self.values["added_skelrecall"] = float(recall.detach())
        return loss

    def _factors(self, scales: int) -> tuple[float, ...]:
        """Returns the weight of each scale, that of nnU-Net's loss."""
        if isinstance(self.base, DeepSupervisionWrapper):
            return tuple(cast("tuple[float, ...]", self.base.weight_factors))
        return (1.0,) + (0.0,) * (scales - 1)

    def _packed(self, target: Tensor) -> Tensor | None:
        """Returns the skeletons of the batch, on its device, None if there are none to be made."""
        if self.skeletons.or_none() is None:
            return None
        packed, self.packed = self.packed, None
        if packed is None:
            packed = torch.stack([self.skeletons.pack(sample) for sample in target.cpu()])
        return packed.to(target.device, non_blocking=True)
