"""The network that restores digits, and the classifier that reads them."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from experiments.clough_mnist.digits import SEED

FEATURES = (8, 16, 32)  # half of the authors' released code


class UNet(nn.Module):
    """A small U-Net, or several at once that share no weights.

    Takes and returns `[image, copy, y, x]`, sides divisible by 4; values of the output in [0, 1].
    Copies are groups of the convolutions.
    """

    def __init__(self, copies: int = 1, features: tuple[int, int, int] = FEATURES) -> None:
        super().__init__()
        self.copies, self.features = copies, features
        fine, middle, coarse = features
        self.down_fine = self._block(1, fine)
        self.down_middle = self._block(fine, middle)
        self.bottom = self._block(middle, coarse)
        self.up_middle = self._block(coarse + middle, middle)
        self.up_fine = self._block(middle + fine, fine)
        self.head = nn.Conv2d(fine * copies, copies, 1, groups=copies)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def _block(self, inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(
                inputs * self.copies, outputs * self.copies, 3, padding=1, groups=self.copies
            ),
            nn.ReLU(),
            nn.Conv2d(
                outputs * self.copies, outputs * self.copies, 3, padding=1, groups=self.copies
            ),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns the restored images."""
        fine = self.down_fine(images)
        middle = self.down_middle(functional.max_pool2d(fine, 2))
        coarse = self.bottom(functional.max_pool2d(middle, 2))
        middle = self.up_middle(self._joined(coarse, middle))
        fine = self.up_fine(self._joined(middle, fine))
        return torch.sigmoid(self.head(fine))

    def _joined(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Returns the channels of both, copy by copy, the coarse ones on the finer grid."""
        parts = (functional.interpolate(coarse, scale_factor=2), fine)
        return torch.cat([part.unflatten(1, (self.copies, -1)) for part in parts], 2).flatten(1, 2)

    def side_by_side(self, copies: int) -> "UNet":
        """Returns a number of copies of this network in one."""
        many = UNet(copies, self.features)
        many.load_state_dict(
            {
                name: weights.repeat(copies, *[1] * (weights.ndim - 1))
                for name, weights in self.state_dict().items()
            }
        )
        return many


def train_network(
    corrupted: NDArray[np.float32], clean: NDArray[np.float32], *, epochs: int
) -> UNet:
    """Returns a network that restores digits, trained by binary cross-entropy.

    The paper says mean squared error, but its released code uses binary cross-entropy. With mean
    squared error this network learns to return black, because the sigmoid saturates and its
    gradient vanishes.
    """
    torch.manual_seed(SEED)
    network = UNet()
    inputs, targets = torch.from_numpy(corrupted)[:, None], torch.from_numpy(clean)[:, None]

    def loss(batch: Tensor) -> Tensor:
        return functional.binary_cross_entropy(network(inputs[batch]), targets[batch])

    _descend(network, loss, len(inputs), epochs=epochs, batch_size=10)
    return network


def train_classifier(digits: NDArray[np.float32], labels: NDArray[np.int64]) -> nn.Module:
    """Returns a network that classifies digits, as logits, from `[image, 1, y, x]`."""
    torch.manual_seed(SEED)
    classifier = new_classifier()
    inputs, targets = torch.from_numpy(digits)[:, None], torch.from_numpy(labels)

    def loss(batch: Tensor) -> Tensor:
        return functional.cross_entropy(classifier(inputs[batch]), targets[batch])

    _descend(classifier, loss, len(inputs), epochs=8, batch_size=64)
    return classifier.eval()


def new_classifier() -> nn.Module:
    """Returns the classifier, untrained."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 7 * 7, 128), nn.ReLU()),
        *(nn.Dropout(0.3), nn.Linear(128, 10)),
    )


def _descend(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    count: int,
    *,
    epochs: int,
    batch_size: int,
) -> None:
    """Minimises the loss of batches of indices by Adam; the rate falls to zero like a cosine."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(count).split(batch_size):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        schedule.step()
