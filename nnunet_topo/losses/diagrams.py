"""Persistence diagrams of probabilities. Only this module passes gradients through them.

The engine returns the critical voxels of every bar. This module gathers their values, so the
gradient of a birth or a death reaches its voxel and no other.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist

from nnunet_topo.losses.measure import check_probabilities
from nnunet_topo.topology import (
    Connectivity,
    MatchedPairs,
    PersistencePairs,
    match_betti,
    persistence_pairs,
)
from nnunet_topo.topology.persistence import NO_VOXEL
from nnunet_topo.topology.places import Places, find_places

_Result = TypeVar("_Result")
_MOST_THREADS = 4  # nnU-Net's augmentation workers also need cores


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars of all channels of all samples, one channel after the other.

    Attributes:
        channel: channel and sample of each bar, as `sample * channels + channel`.
        dimension: homology dimension of each bar.
        birth: probability at which each bar starts. Its gradient reaches the voxel of the birth.
        death: probability at which each bar ends. Its gradient reaches the voxel of the death. The
            essential class has death 0 without a gradient.
        birth_value: `birth` in float64, without gradient.
        death_value: `death` in float64, without gradient.
        place: structure of the target at which each bar lies, 0 for none; see `Places.locate`.
        fit: how well each bar fits there; see `Places.locate`. The essential class and bars that
            end on the plateau at the clamp have no place of death.
        targets: structures of each channel of the target.
    """

    channel: Int64[np.ndarray, " bars"]
    dimension: Int64[np.ndarray, " bars"]
    birth: Float[Tensor, " bars"]
    death: Float[Tensor, " bars"]
    birth_value: Float[np.ndarray, " bars"]
    death_value: Float[np.ndarray, " bars"]
    place: Int64[np.ndarray, " bars"]
    fit: Int64[np.ndarray, " bars"]
    targets: Sequence[Places]


@dataclass(frozen=True, slots=True)
class _ChannelBars:
    """What one thread computes for one channel; voxels are those of the whole patch."""

    pairs: PersistencePairs
    birth_value: NDArray[np.float64]
    death_value: NDArray[np.float64]
    place: NDArray[np.int64]
    fit: NDArray[np.int64]
    target: Places


def begin_bars(
    probability: Float[Tensor, "batch channel *space"],
    target: Bool[Tensor, "batch channel *space"],
    *,
    connectivity: Connectivity,
    dimensions: tuple[int, ...],
    clamp: float,
) -> Callable[[], Bars]:
    """Starts to compute the bars of superlevel sets and returns a function that waits for them.

    Each channel of each sample is one job. The jobs run in a few threads without the GIL, so caller
    and device can compute something else meanwhile. A channel that never exceeds the clamp has only
    its essential bar (max p, 0) and takes a single reduction. For any other channel, only the box
    around the voxels above the clamp leaves the device. The number of threads does not change the
    result.

    Args:
        probability: values in [0, 1], 2D or 3D space.
        target: foreground.
        connectivity: of the foreground, see `persistence_pairs`.
        dimensions: homology dimensions.
        clamp: every p below this is raised to it before the filtration.

    Raises:
        ValueError: values are NaN, infinite or above 1. The function that waits raises this.
    """
    boxes = _boxes(probability.detach(), clamp)
    wait = _begin_channels(_channel_bars, boxes, target, connectivity, dimensions, clamp)
    return lambda: _gather(probability, wait(), clamp)


def _channel_bars(
    box: "_Box",
    mask: NDArray[np.bool_] | None,
    connectivity: Connectivity,
    dimensions: tuple[int, ...],
    clamp: float,
) -> _ChannelBars:
    """Computes the bars of one channel and where they lie in its target."""
    values = box.wait()
    pairs = persistence_pairs(values, connectivity=connectivity, dimensions=dimensions, clamp=clamp)
    flat = values.ravel()
    birth_value = flat[pairs.birth].astype(np.float64)
    check_probabilities(0.0, birth_value.max(initial=0.0))
    dies = pairs.death != NO_VOXEL
    death_value = np.where(dies, np.maximum(flat[pairs.death], values.dtype.type(clamp)), 0.0)
    pairs = box.in_patch(pairs)
    target = Places.empty(values.ndim) if mask is None else find_places(mask, connectivity)
    place, fit = target.locate(pairs, dies & (death_value > clamp))
    return _ChannelBars(pairs, birth_value, death_value.astype(np.float64), place, fit, target)


def _gather(probability: Tensor, channels: list[_ChannelBars], clamp: float) -> Bars:
    """Gathers births and deaths of all bars at once from the clamped probability."""
    channel = np.repeat(np.arange(len(channels)), [len(found.place) for found in channels])
    birth = np.concatenate([found.pairs.birth for found in channels])
    death = np.concatenate([found.pairs.death for found in channels])
    births, deaths = gather_ends(probability, channel, birth, death, clamp)
    return Bars(
        channel=channel,
        dimension=np.concatenate([found.pairs.dimension for found in channels]),
        birth=births,
        death=deaths,
        birth_value=np.concatenate([found.birth_value for found in channels]),
        death_value=np.concatenate([found.death_value for found in channels]),
        place=np.concatenate([found.place for found in channels]),
        fit=np.concatenate([found.fit for found in channels]),
        targets=[found.target for found in channels],
    )


def gather_ends(
    probability: Float[Tensor, "batch channel *space"],
    channel: Int64[np.ndarray, " bars"],
    birth: Int64[np.ndarray, " bars"],
    death: Int64[np.ndarray, " bars"],
    clamp: float,
) -> tuple[Float[Tensor, " bars"], Float[Tensor, " bars"]]:
    """Returns the probabilities at which bars are born and die, which carry the gradient.

    Args:
        probability: values in [0, 1], 2D or 3D space.
        channel: channel and sample of each bar, as `sample * channels + channel`.
        birth: voxel of each birth.
        death: voxel of each death; NO_VOXEL gives 0 without gradient.
        clamp: deaths are raised to it. Only a channel that lies completely below it has a birth
            below it, that of its essential bar.
    """
    dies = death != NO_VOXEL
    sample, of_sample = np.divmod(np.concatenate([channel, channel]), probability.shape[1])
    voxel = np.concatenate([birth, np.where(dies, death, 0)])
    where = [torch.from_numpy(index).to(probability.device) for index in (sample, of_sample, voxel)]
    births, deaths = _values(probability, where).chunk(2)
    return births, torch.where(torch.from_numpy(dies).to(deaths.device), deaths.clamp(min=clamp), 0)


def _values(probability: Tensor, where: list[Tensor]) -> Tensor:
    """Returns the values at (sample, channel, voxel).

    Several bars may share a voxel. PyTorch adds their gradients in an order that changes from run
    to run, on a CPU behind `tensor[index]` and on a GPU behind `index_select`.
    """
    if probability.is_cuda:
        return probability.flatten(2)[tuple(where)]
    sample, channel, voxel = where
    of_channel = probability[0, 0].numel()
    first = (sample * probability.shape[1] + channel) * of_channel
    return probability.flatten().index_select(0, first + voxel)


def begin_matches(
    probability: Float[Tensor, "batch channel *space"],
    target: Bool[Tensor, "batch channel *space"],
    *,
    connectivity: Connectivity,
    dimensions: tuple[int, ...],
    clamp: float,
) -> Callable[[], list[MatchedPairs]]:
    """Starts the Betti matching of each channel, and returns a function that waits for them.

    Arguments and threads are those of `begin_bars`. The pairs have voxels of the whole patch.
    """
    boxes = _boxes(probability.detach(), clamp, target)
    return _begin_channels(_channel_matches, boxes, target, connectivity, dimensions, clamp)


def _begin_channels(
    compute: Callable[
        ["_Box", NDArray[np.bool_] | None, Connectivity, tuple[int, ...], float], _Result
    ],
    boxes: "list[_Box]",
    target: Tensor,
    connectivity: Connectivity,
    dimensions: tuple[int, ...],
    clamp: float,
) -> Callable[[], list[_Result]]:
    """Starts a computation of each channel, and returns a function that waits for all of them."""
    threads = _threads(os.getpid(), thread_count())
    jobs = [
        threads.submit(compute, box, mask, connectivity, dimensions, clamp)
        for box, mask in zip(boxes, _host_masks(target), strict=True)
    ]
    return lambda: [job.result() for job in jobs]


def _channel_matches(
    box: "_Box",
    mask: NDArray[np.bool_] | None,
    connectivity: Connectivity,
    dimensions: tuple[int, ...],
    clamp: float,
) -> MatchedPairs:
    """Matches the bars of one channel."""
    values = box.wait()
    check_probabilities(float(values.min(initial=0.0)), float(values.max(initial=0.0)))
    found = match_betti(
        np.clip(values, 0, 1),  # they may exceed 1 by rounding
        np.zeros(values.shape, bool) if mask is None else mask[box.place()],
        connectivity=connectivity,
        dimensions=dimensions,
        clamp=clamp,
    )
    return MatchedPairs(box.in_patch(found.prediction), box.in_patch(found.target), found.matched)


@dataclass(frozen=True, slots=True)
class _Box:
    """A part of one channel in main memory, or one that is being copied there.

    Attributes:
        values: of the part.
        start: first voxel of the part in the patch.
        patch: shape of the patch.
        copied: CUDA's event at the end of the copy, None if there is nothing to wait for.
    """

    values: Tensor
    start: tuple[int, ...]
    patch: tuple[int, ...]
    copied: "torch.cuda.Event | None" = None

    def wait(self) -> np.ndarray:
        if self.copied is not None:
            self.copied.synchronize()
        return self.values.numpy()

    def place(self) -> tuple[slice, ...]:
        """Returns where the part lies in the patch."""
        sides = zip(self.start, self.values.shape, strict=True)
        return tuple(slice(start, start + side) for start, side in sides)

    def in_patch(self, pairs: PersistencePairs) -> PersistencePairs:
        """Returns the pairs with voxels of the whole patch."""
        shape = tuple(self.values.shape)
        if shape == self.patch:
            return pairs

        def translate(voxel: NDArray[np.int64]) -> NDArray[np.int64]:
            inside = np.unravel_index(np.maximum(voxel, 0), shape)
            whole = tuple(index + start for index, start in zip(inside, self.start, strict=True))
            return np.where(voxel == NO_VOXEL, NO_VOXEL, np.ravel_multi_index(whole, self.patch))

        return PersistencePairs(pairs.dimension, translate(pairs.birth), translate(pairs.death))


def _boxes(values: Tensor, clamp: float, target: Tensor | None = None) -> list[_Box]:
    """Returns the part of each channel that the engine needs."""
    if values.device.type != "cpu":
        return _occupied_boxes(values, clamp, target)
    patch = tuple(values.shape[2:])  # no copy is needed, and the engine finds the box itself
    return [_Box(channel, (0,) * len(patch), patch) for channel in _each_channel(values)]


def _occupied_boxes(values: Tensor, clamp: float, target: Tensor | None = None) -> list[_Box]:
    """Returns copies of the boxes of all voxels above the clamp or in the target.

    The box of a channel without any is its maximum.
    """
    patch = tuple(values.shape[2:])
    peaks = values.flatten(2).max(dim=2).indices.flatten().cpu().numpy()
    above = values > clamp if target is None else target | (values > clamp)
    axes = range(2, values.ndim)
    occupied = [
        above.amax(dim=[other for other in axes if other != axis]).flatten(0, 1).cpu().numpy()
        for axis in axes
    ]
    boxes: list[_Box] = []
    for i, channel in enumerate(_each_channel(values)):
        sides = [np.flatnonzero(axis[i]) for axis in occupied]
        if len(sides[0]) == 0:
            sides = [np.array([index]) for index in np.unravel_index(peaks[i], patch)]
        box = tuple(slice(int(side[0]), int(side[-1]) + 1) for side in sides)
        copy, copied = _copy_to_host(channel[box])
        boxes.append(_Box(copy, tuple(side.start for side in box), patch, copied))
    return boxes


def _copy_to_host(values: Tensor) -> "tuple[Tensor, torch.cuda.Event | None]":
    """Returns a copy in main memory and the event at the end of the copy.

    On CUDA the copy goes to pinned memory in a stream of its own, so the current stream does not
    wait for it. Other devices wait for the copy and have no event.
    """
    if values.device.type != "cuda":
        return values.cpu(), None
    stream = _side_stream(values.device)
    stream.wait_stream(torch.cuda.current_stream(values.device))
    with torch.cuda.stream(stream):
        copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        copy.copy_(values, non_blocking=True)
        values.record_stream(stream)
        copied = torch.cuda.Event()
        copied.record(stream)
    return copy, copied


@cache
def _side_stream(device: torch.device) -> "torch.cuda.Stream":
    return torch.cuda.Stream(device)


def _host_masks(target: Tensor) -> list[NDArray[np.bool_] | None]:
    """Returns the target of each channel in main memory, None for an empty one on a GPU."""
    if target.device.type == "cpu":
        return [channel.numpy() for channel in _each_channel(target)]
    there = target.flatten(2).any(dim=2).flatten().cpu().tolist()
    channels = _each_channel(target)
    return [
        channel.cpu().numpy() if occupied else None
        for channel, occupied in zip(channels, there, strict=True)
    ]


def _each_channel(values: Tensor) -> list[Tensor]:
    """Returns the channels of all samples as views. Reshaping could copy them."""
    return [channel for sample in values for channel in sample]


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Returns the threads of a process; a forked process cannot use those of its parent."""
    return ThreadPoolExecutor(count, thread_name_prefix=f"nnunet-topo-{process}")


def thread_count() -> int:
    """Returns how many threads compute diagrams: one per core of this process, at most 4.

    The processes of a DDP training share the cores, because nnU-Net runs them on one machine.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    return max(1, min(_MOST_THREADS, cores // ranks))
