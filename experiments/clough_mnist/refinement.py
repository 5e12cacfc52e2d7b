"""Refinement of restored digits by eq. 5: each network is adapted to one digit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from experiments.clough_mnist.networks import UNet
from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.losses.betti_prior import Form
from nnunet_topo.topology import betti_numbers

WEIGHT = 0.02  # lambda of eq. 5, the paper's
THRESHOLD = 0.5  # of a restored digit, to count its Betti numbers
NEVER = -1

FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True, slots=True)
class Refined:
    """Digits after a refinement, `[digit, y, x]`.

    Attributes:
        last: after all steps.
        stopped: after the first step that gave the right Betti numbers, else after all.
        steps: number of steps; 0 if they were right before, `NEVER` if they never were.
        objective: eq. 5 after all steps, mean over digits.
    """

    last: NDArray[np.float32]
    stopped: NDArray[np.float32]
    steps: NDArray[np.int64]
    objective: float


def refine(
    network: UNet,
    corrupted: NDArray[np.float32],
    priors: Sequence[tuple[int, int]],
    *,
    form: Form,
    learning_rate: float,
    steps: int,
) -> Refined:
    """Returns the digits restored by copies of the network, each adapted to one (eq. 5).

    Adam couples no weights, so minimising the sum over digits refines each independently.
    """
    copies = network.side_by_side(len(corrupted))
    images = torch.from_numpy(corrupted)[None]
    with torch.no_grad():
        before = copies(images)
    topology = BettiPriorLoss(dict(enumerate(priors)), form=form)  # digits are its channels
    optimizer = torch.optim.Adam(copies.parameters(), lr=learning_rate)
    found = np.full(len(priors), NEVER)
    stopped = np.empty_like(corrupted)
    for step in range(steps + 1):
        restored = copies(images)
        last = restored.detach().numpy()[0]
        pending = np.flatnonzero(found == NEVER)
        stopped[pending] = last[pending]
        found[pending[are_right(last[pending], [priors[i] for i in pending])]] = step
        objective = functional.mse_loss(restored, before) + WEIGHT * topology(restored)  # Eq. 5
        if step < steps:
            optimizer.zero_grad()
            (len(priors) * objective).backward()
            optimizer.step()
    return Refined(last, stopped, found, objective.item())


def are_right(images: NDArray[np.float32], priors: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Returns which images have the Betti numbers they should have, thresholded at 0.5."""
    return np.array(
        [
            betti_numbers(image > THRESHOLD) == prior
            for image, prior in zip(images, priors, strict=True)
        ],
        dtype=bool,
    )
