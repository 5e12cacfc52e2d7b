"""The random numbers of a training with the setting seed<n>."""

import random

import numpy as np
import torch


def seed_training(seed: int | None, *, epoch: int | None, rank: int) -> None:
    """Seeds all random numbers of this process; does nothing without a seed.

    Each epoch has random numbers of its own, which depend on nothing before it. So a training that
    resumes at an epoch takes the same steps as one that was not interrupted.

    Args:
        seed: of the training, None for no seed.
        epoch: that begins, None for the weights that the training starts from.
        rank: of the process. Each process of a training must augment differently.
    """
    if seed is None:
        return
    place = 0 if epoch is None else epoch + 1
    numbers = np.random.SeedSequence((seed, place, rank)).generate_state(1)
    random.seed(int(numbers[0]))
    np.random.seed(int(numbers[0]))  # noqa: NPY002 # nnU-Net's augmentation uses it
    torch.manual_seed(int(numbers[0]))
