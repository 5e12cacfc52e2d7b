"""Batches of unlabelled images, augmented by nnU-Net."""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import (
    NonDetMultiThreadedAugmenter,
)
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from numpy.typing import NDArray


class UnlabelledDataLoader(nnUNetDataLoader):
    """nnU-Net's loader for images without labels: patches that are likely to show whole objects.

    A prior only holds for an object that is seen as a whole. We do not know where the objects of
    unlabelled images are, so patches lie where the objects of the labelled images are.

    Args:
        args: of nnU-Net's loader.
        centres: of the labelled objects (in 2D: of their slices), `[object, (z, y, x)]`, as shares
            of the image's size.
        kwargs: of nnU-Net's loader.
    """

    def __init__(self, *args: Any, centres: NDArray[np.float64], **kwargs: Any) -> None:
        self.centres = centres
        super().__init__(*args, **kwargs)

    def get_bbox(self, data_shape, force_fg, class_locations, overwrite_class=None, verbose=False):
        """Returns lower and upper corner of a patch around the centre of a labelled object."""
        shape, patch = np.array(data_shape), np.array(self.patch_size)
        padding = np.maximum(self.need_to_pad, patch - shape)  # as in nnU-Net's loader
        lowest, highest = -padding // 2, shape + (padding + 1) // 2 - patch
        centre = self.centres[np.random.choice(len(self.centres))]  # noqa: NPY002 # nnU-Net's
        lower = np.clip(np.floor(centre * shape).astype(int) - patch // 2, lowest, highest)
        return lower.tolist(), (lower + patch).tolist()


def centres_of_objects(
    dataset: Any, cases: Sequence[str], keys: Iterable[Any], *, in_slices: bool
) -> NDArray[np.float64]:
    """Returns where the objects of labelled images are, see `UnlabelledDataLoader`.

    Args:
        dataset: nnU-Net's, of the labelled cases.
        cases: whose objects are used.
        keys: classes or regions of the objects, as nnU-Net's class_locations names them.
        in_slices: whether each slice of an object counts on its own.
    """
    keys = list(keys)
    centres = []
    for case in cases:
        data, *_, properties = dataset.load_case(case)
        for key in keys:
            voxels = properties["class_locations"].get(key, [])
            for part in _objects(np.asarray(voxels), in_slices):
                centre = (part.min(0) + part.max(0) + 1) / 2
                centres.append(centre / data.shape[1:])
    return np.array(centres or [[0.5, 0.5, 0.5]])


def _objects(voxels: NDArray[np.int64], in_slices: bool) -> list[NDArray[np.int64]]:
    """Returns the voxels, `[voxel, (channel, z, y, x)]`, of an object, or of each slice of it."""
    if len(voxels) == 0:
        return []
    voxels = voxels[:, 1:]
    if not in_slices:
        return [voxels]
    return [voxels[voxels[:, 0] == z] for z in np.unique(voxels[:, 0])]


def endless_batches(loader: nnUNetDataLoader, *, pin_memory: bool) -> Iterator[dict]:
    """Returns the batches of a loader, from worker processes unless nnUNet_n_proc_DA is 0."""
    processes = get_allowed_n_proc_DA()
    if processes == 0:
        return _OwnRandomNumbers(loader)
    # An iteration with unlabelled images takes twice as long, so half of nnU-Net's workers suffice.
    processes = max(1, processes // 2)
    batches = NonDetMultiThreadedAugmenter(
        loader,
        None,
        processes,
        num_cached=max(3, processes // 2),
        pin_memory=pin_memory,
        wait_time=0.002,
    )
    next(batches)  # forks the workers now, before there are other threads
    return batches


def seed_batches(batches: Any) -> None:
    """Makes batches depend on the last seed of torch alone, unless worker processes make them."""
    if isinstance(batches, _OwnRandomNumbers):
        batches.seed()


def end_workers(batches: Any) -> None:
    """Ends the worker processes that `endless_batches` started, if there are any."""
    if isinstance(batches, NonDetMultiThreadedAugmenter):
        batches._finish()


class _OwnRandomNumbers:
    """Batches made in this process, from random numbers of their own.

    So the labelled batches are the same as in a training without unlabelled images.
    """

    def __init__(self, loader: nnUNetDataLoader) -> None:
        self.loader = loader
        self.seed()

    def seed(self) -> None:
        """Makes the random numbers depend on the last seed of torch alone."""
        outer = _random_states()
        seed = (torch.initial_seed() + 1) % 2**32
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 # nnU-Net's augmentation draws from it
        torch.default_generator.manual_seed(seed)
        self.states = _random_states()
        _set_random_states(outer)

    def __iter__(self) -> Iterator[dict]:
        return self

    def __next__(self) -> dict:
        outer = _random_states()
        _set_random_states(self.states)
        try:
            return next(self.loader)
        finally:
            self.states = _random_states()
            _set_random_states(outer)


def _random_states() -> tuple:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def _set_random_states(states: tuple) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
