"""Topology losses, forward and backward, against those of other packages."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.inputs import probabilities, structures
from benchmarks.timing import Comparison, compare
from nnunet_topo.losses import BettiMatchingLoss, WassersteinLoss

PRESENT = 6


def against_others(shapes: list[tuple[int, ...]]) -> Iterator[Comparison]:
    """Yields one channel of one sample, in mid-training, exact and clamped.

    Sides that fail on a shape are left out, and the task says so.
    """
    for shape in shapes:
        probability = torch.from_numpy(probabilities(shape, "b"))[None, None]
        mask = structures(np.random.default_rng(0), shape)
        target = torch.from_numpy(mask.astype(np.float32))[None, None]
        sides: dict[str, Callable[[], object]] = {}
        failed = []
        ours = {
            "ours": WassersteinLoss(),
            "ours, clamp 0.01": WassersteinLoss(clamp=0.01),
            "ours, Betti matching": BettiMatchingLoss(),
            "ours, Betti matching, clamp 0.01": BettiMatchingLoss(clamp=0.01),
        }
        for name, loss in (ours | _other_losses()).items():
            call = _step(loss, probability, target)
            try:
                call()
            except Exception as error:
                failed.append(f"{name}: {type(error).__name__}")
            else:
                sides[name] = call
        task = f"{'x'.join(map(str, shape))}" + (
            f" (failed: {'; '.join(failed)})" if failed else ""
        )
        yield compare(task, sides, dict.fromkeys(sides, 3))


def many_classes(shape: tuple[int, ...], classes: int = 100) -> Comparison:
    """Times a softmax of many classes, few of them present, against one without the absent classes.

    It also times the least that any loss of so many classes does: it reads each class once, and
    autograd writes a gradient for each.
    """
    images = [probabilities(shape, "b", seed) for seed in range(PRESENT)]
    few = torch.from_numpy(np.stack(images))[None] / PRESENT
    absent = 1e-6 * torch.rand(1, classes - PRESENT, *shape)
    many = torch.cat([few, absent], dim=1)
    sides = {}
    for name, probability in {
        f"{classes} classes": many,
        f"{PRESENT} classes": few,
    }.items():
        sides[name] = _step(WassersteinLoss(clamp=0.01), probability, probability > 0.5 / PRESENT)
    sides["memory alone"] = _memory_alone(many, many > 0.5 / PRESENT)
    return compare("x".join(map(str, shape)), sides, dict.fromkeys(sides, 5))


def _memory_alone(probability: Tensor, target: Tensor) -> Callable[[], object]:
    gradient = None

    def step() -> None:
        nonlocal gradient
        gradient = None
        probability.flatten(2).amax(2)
        target.flatten(2).any(2)
        gradient = torch.zeros_like(probability)

    return step


def _step(loss: Callable, probability: Tensor, target: Tensor) -> Callable[[], object]:
    leaf = probability.clone().requires_grad_()

    def step() -> None:
        leaf.grad = None
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            loss(leaf, target).backward()

    return step


def _other_losses() -> dict[str, Callable]:
    """Returns the losses of other packages as documented there, without a base loss."""
    from topolosses.losses import BettiMatchingLoss, HutopoLoss
    from torch_topological.nn import CubicalComplex, WassersteinDistance

    alone = {"alpha": 1.0, "use_base_loss": False, "include_background": True}
    distance = WassersteinDistance(q=2)

    def torch_topological(probability: Tensor, target: Tensor) -> Tensor:
        cubical = CubicalComplex(superlevel=True, dim=probability.ndim - 2)
        found, wanted = cubical(probability), cubical(target)
        return sum(distance(f, w) for f, w in zip(found[0][0], wanted[0][0], strict=True))

    return {
        "topolosses Hu": HutopoLoss(**alone),
        "topolosses Betti matching": BettiMatchingLoss(**alone),
        "torch-topological": torch_topological,
    }
