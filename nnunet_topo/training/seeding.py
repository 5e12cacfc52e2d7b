"""The random numbers of a training with the setting seed<n>."""

import random

import numpy as np
import torch


def seed_training(seed: int | None, *, epoch: int, rank: int) -> None:
    """Seeds all random numbers of this process; does nothing without a seed.

    Args:
        seed: of the training, None for no seed.
        epoch: in which the training starts or resumes.
        rank: of the process. Each process of a training must augment differently.
    """
    if seed is None:
        return
    of_process = (seed + epoch + 7919 * rank) % 2**32
    random.seed(of_process)
    np.random.seed(of_process)  # noqa: NPY002 # nnU-Net's augmentation uses it
    torch.manual_seed(of_process)
