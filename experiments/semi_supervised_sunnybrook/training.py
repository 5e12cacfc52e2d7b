"""The network and how each arm trains it."""

from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.semi_supervised_sunnybrook.slices import Slices
from nnunet_topo.losses import BettiPriorLoss

CHECKED, BATCH = 50, 4
ROUNDS = 3  # of self-training
WEIGHT, LEARNING_RATE = 0.01, 1e-3
CLAMP = 0.01  # of the prior


class UNet(nn.Module):
    """A U-Net with four scales, 8 to 64 features; gives logits."""

    def __init__(self, features: tuple[int, ...] = (8, 16, 32, 64)) -> None:
        super().__init__()
        pairs = list(zip((1, *features), features, strict=False))
        self.down = nn.ModuleList(_block(*pair) for pair in pairs)
        self.up = nn.ModuleList(_block(low + high, low) for low, high in pairs[:0:-1])
        self.last = nn.Conv2d(features[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits of `[batch, 1, y, x]`."""
        skips = []
        for scale, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if scale else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([skip, nn.functional.interpolate(x, scale_factor=2.0)], 1))
        return self.last(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    def layer(inputs: int) -> tuple[nn.Module, ...]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU(inplace=True)

    return nn.Sequential(*layer(inputs), *layer(outputs))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Returns 1 - soft Dice, mean over samples."""
    p = torch.sigmoid(logits)
    axes = (1, 2, 3)
    return (1 - (2 * (p * target).sum(axes) + 1) / (p.sum(axes) + target.sum(axes) + 1)).mean()


def batches(slices: Slices, rng: np.random.Generator) -> Iterator[Slices]:
    """Yields random batches of different slices, without end."""
    size = min(BATCH, len(slices.groups))
    while True:
        order = rng.permutation(len(slices.groups))
        for start in range(0, len(order) - size + 1, size):
            yield slices.of(order[start : start + size])


def train(
    network: nn.Module, validation: Slices, iterations: int, step: Callable[[int], None]
) -> nn.Module:
    """Returns the network with the best validation Dice among the checked iterations.

    Args:
        network: to train, in place.
        validation: labelled slices.
        iterations: how many.
        step: runs one iteration, counted from 0.
    """
    best, best_dice = network, -1.0
    for iteration in range(iterations):
        step(iteration)
        if (iteration + 1) % CHECKED == 0:
            dice = float(np.mean(dice_of(predict(network, validation), validation)))
            if dice > best_dice:
                best, best_dice = deepcopy(network), dice
    return best


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Takes an optimizer step on a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train_arm(
    arm: str,
    begun: nn.Module,
    data: dict[str, Slices],
    betti: tuple[int, int],
    seed: int,
    iterations: int,
) -> nn.Module:
    """Returns a copy of a network that an arm has trained."""
    prior_loss = BettiPriorLoss({0: betti}, clamp=CLAMP)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = deepcopy(begun)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    labelled, unlabelled = batches(data["labelled"], rng), batches(data["unlabelled"], rng)
    pseudo = unlabelled

    def supervised(batch: Slices) -> Tensor:
        return dice_loss(network(batch.images), batch.masks)

    def prior(batch: Slices) -> Tensor:
        return WEIGHT * prior_loss(torch.sigmoid(network(batch.images)))

    def step(iteration: int) -> None:
        nonlocal pseudo
        descend(optimizer, supervised(next(labelled)))
        if arm == "prior":  # alternating steps, as in the paper
            descend(optimizer, prior(next(unlabelled)))
        elif arm == "self":
            if iteration % (iterations // ROUNDS) == 0:
                masks = torch.from_numpy(predict(network, data["unlabelled"]))[:, None].float()
                guessed = Slices(data["unlabelled"].images, masks, data["unlabelled"].groups)
                pseudo = batches(guessed, rng)
            descend(optimizer, supervised(next(pseudo)))

    return train(network, data["validate"], iterations, step)


def predict(network: nn.Module, slices: Slices) -> NDArray[np.bool_]:
    """Returns masks at p > 0.5, `[slice, y, x]`."""
    return (_logits(network, slices) > 0).numpy()


def probabilities(network: nn.Module, slices: Slices) -> NDArray[np.float32]:
    """Returns the probabilities of the foreground, `[slice, y, x]`."""
    return torch.sigmoid(_logits(network, slices)).numpy()


def _logits(network: nn.Module, slices: Slices) -> Tensor:
    with torch.no_grad():
        logits = [network(part) for part in slices.images.split(32)]
    return torch.cat(logits)[:, 0]


def dice_of(predicted: NDArray[np.bool_], slices: Slices) -> NDArray[np.float64]:
    """Returns the Dice of each slice."""
    masks = slices.masks[:, 0].numpy() > 0
    axes = (1, 2)
    return 2 * (predicted & masks).sum(axes) / (predicted.sum(axes) + masks.sum(axes))
