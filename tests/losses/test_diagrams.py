"""How probabilities reach the engine: boxes, threads, one gather."""

import os

import numpy as np
import pytest
import torch

from nnunet_topo.losses import WassersteinLoss, diagrams

from ..shapes import ring, two_blobs


@pytest.fixture
def batch():
    """Returns probabilities and targets: structures, noise, and a channel of nothing."""
    rng = np.random.default_rng(0)
    masks = np.stack([ring((11, 15, 17), 4.0), two_blobs((11, 15, 17)), np.zeros((11, 15, 17))])
    near = np.where(masks > 0, 0.8, 0.0) + np.where(rng.random(masks.shape) < 0.05, 0.3, 0.0)
    probability = np.stack([near, np.clip(near[::-1] + 0.1 * rng.random(masks.shape), 0, 1)])
    probability = probability.clip(0, 1)
    probability[0, 2] = 0.005 * rng.random(masks.shape[1:])
    return torch.from_numpy(probability), torch.from_numpy(np.stack([masks, masks])) > 0


def value_and_gradient(loss, probability, target):
    p = probability.clone().requires_grad_()
    value = loss(p, target)
    value.backward()
    return value.item(), p.grad


@pytest.mark.parametrize("clamp", [0.0, 0.01, 0.35])
def test_a_box_sent_from_a_device_gives_what_the_whole_channel_gives(batch, clamp, monkeypatch):
    loss = WassersteinLoss(clamp=clamp)
    value, gradient = value_and_gradient(loss, *batch)
    sent = []

    def send(values, clamp):
        boxes = diagrams._occupied_boxes(values, clamp)
        sent.extend(box.values.numel() for box in boxes)
        return boxes

    monkeypatch.setattr(diagrams, "_boxes", send)
    boxed_value, boxed_gradient = value_and_gradient(loss, *batch)
    assert boxed_value == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(boxed_gradient, gradient)
    assert gradient.any()
    assert len(sent) == 6
    if clamp > 0:
        assert sent[2] == 1  # below the clamp: its maximum alone
    if clamp > 0.3:
        assert sent[0] < batch[0][0, 0].numel() / 2


def test_the_number_of_threads_changes_nothing(batch, monkeypatch):
    results = []
    for count in (1, 3):
        monkeypatch.setattr(diagrams, "thread_count", lambda count=count: count)
        results.append(value_and_gradient(WassersteinLoss(clamp=0.01), *batch))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_ranks_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    assert diagrams.thread_count() == 4
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for ranks, threads in ((1, 4), (2, 3), (4, 1), (8, 1)):
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda ranks=ranks: ranks)
        assert diagrams.thread_count() == threads


def test_channels_that_are_no_view_of_their_own_memory_are_gathered_in_place(batch):
    probability, target = batch
    wide = torch.cat([torch.rand(2, 1, 11, 15, 17, dtype=torch.float64), probability], dim=1)
    p = wide.requires_grad_()
    value = WassersteinLoss(clamp=0.01)(p[:, 1:], target)
    value.backward()
    expected, gradient = value_and_gradient(WassersteinLoss(clamp=0.01), probability, target)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert not p.grad[:, 0].any()
    torch.testing.assert_close(p.grad[:, 1:], gradient)


def test_what_is_not_finite_is_refused_wherever_it_hides(batch):
    probability, target = batch
    for value in (float("nan"), float("inf")):
        wrong = probability.clone()
        wrong[1, 2, 3, 4, 5] = value
        with pytest.raises(ValueError, match="finite, got NaN"):
            WassersteinLoss(clamp=0.01)(wrong, target)


def test_bars_that_share_voxels_give_the_same_gradient_every_time():
    rng = np.random.default_rng(5)
    bars = 200_000  # so many that PyTorch uses several threads
    channel, birth, death = (rng.integers(0, most, bars) for most in (4, 30, 30))
    weights = torch.from_numpy(rng.normal(size=2 * bars).astype(np.float32))

    def gradient():
        p = torch.full((2, 2, 5, 6), 0.5, requires_grad=True)
        ends = diagrams.gather_ends(p, channel, birth, death, 0.0)
        (torch.cat(ends) * weights).sum().backward()
        assert p.grad is not None
        return p.grad

    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        first = gradient()
        assert all(torch.equal(gradient(), first) for _ in range(20))
    finally:
        torch.set_num_threads(threads)
    sums = np.zeros(2 * 2 * 30)
    for voxel, part in zip((birth, death), weights.numpy().reshape(2, -1), strict=True):
        np.add.at(sums, channel * 30 + voxel, part.astype(np.float64))
    np.testing.assert_allclose(first.numpy().ravel(), sums, atol=0.05)
