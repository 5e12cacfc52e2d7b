"""Training steps of all trainers, in nnU-Net's own planning, loading and training."""

import numpy as np
import pytest
import torch

from nnunet_topo.training.loss import StepRecord
from nnunet_topo.training.ranks import Ranks

from ..trainers import SUPERVISED, WITHOUT_TERM, all_intact, batches, weights


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
@pytest.mark.parametrize("name", SUPERVISED)
def test_every_trainer_steps_with_a_finite_loss_and_moves_the_weights(started, name, configuration):
    has_term = name.removeprefix("nnUNetTrainer") not in WITHOUT_TERM
    trainer = started(f"{name}_2epochs_2iters" + "_from0" * has_term, configuration)
    before = weights(trainer)
    result = [trainer.train_step(batch) for batch in batches(trainer)]
    assert all(np.isfinite(r["loss"]) for r in result)
    assert not torch.equal(weights(trainer), before)
    if has_term:
        assert all(r["topology_term"] > 0 for r in result)


def test_weight_0_trains_like_the_focal_loss_to_the_last_bit(started):
    pair = [
        started(f"nnUNetTrainer{name}_2epochs_3iters{weight}_seed7")
        for name, weight in (("TAFL", "_weight0"), ("Focal", ""))
    ]
    losses = [[t.train_step(b)["loss"].item() for b in batches(t, 3)] for t in pair]
    assert losses[0] == losses[1]
    assert torch.equal(weights(pair[0]), weights(pair[1]))


def test_with_a_weight_the_first_step_already_differs(started):
    pair = [
        started(f"nnUNetTrainer{name}_2epochs_3iters{term}_nospatial_seed7")
        for name, term in (("TAFL", "_weight0.001_from0"), ("Focal", ""))
    ]
    losses = [t.train_step(batches(t, 1)[0])["loss"].item() for t in pair]
    assert losses[0] == losses[1]  # the base loss is reported alone
    assert not torch.equal(weights(pair[0]), weights(pair[1]))


def test_the_sinkhorn_trainer_differs_from_the_spatial_one(started):
    terms = []
    for name in ("TAFL", "TAFLSinkhorn"):
        trainer = started(f"nnUNetTrainer{name}_2epochs_3iters_from0_seed7")
        terms.append(trainer.train_step(batches(trainer, 1)[0])["topology_term"])
    assert terms[0] != pytest.approx(terms[1])


def test_the_term_has_a_gradient_at_the_logits_of_patches_with_foreground(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_9iters_from0_seed1")
    with_foreground = reached = 0
    for batch in batches(trainer, 5):
        target = batch["target"][0]
        logits = trainer.network(batch["data"])[0].detach().requires_grad_()
        trainer.loss.measure_term(logits, target).loss.backward()
        for sample in range(len(target)):
            if (target[sample] > 0).any():
                with_foreground += 1
                reached += bool(logits.grad[sample].any())
    assert with_foreground > 5
    assert reached >= 0.9 * with_foreground


@pytest.mark.parametrize("stem", ["CrossEntropy", "Dice"])
def test_the_parts_of_nnunets_loss_add_up_to_it(started, stem):
    values = {}
    for name in ("CrossEntropy", "Dice", "Stock"):
        trainer = started(f"nnUNetTrainer{name}_2epochs_3iters_seed7")
        values[name] = trainer.train_step(batches(trainer, 1)[0])["loss"].item()
    assert values["CrossEntropy"] + values["Dice"] == pytest.approx(values["Stock"], rel=1e-5)
    assert values[stem] != pytest.approx(values["Stock"])


def test_projected_pooling_on_dice_has_the_base_loss_of_dice(started):
    losses = []
    for stem in ("ProjectedPoolingDice", "Dice"):
        trainer = started(f"nnUNetTrainer{stem}_4epochs_3iters_nospatial_seed7")
        losses.append(trainer.train_step(batches(trainer, 1)[0])["loss"].item())
    assert losses[0] == losses[1]


def test_gradient_norms_are_those_at_the_finest_logits(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_30iters_weight0.02_from0_seed3")
    batch = all_intact(batches(trainer, 1)[0])
    expected = []
    for part in ("base", "term"):
        output = trainer.network(batch["data"])
        if part == "base":
            loss = trainer.loss.base(output, batch["target"])
        else:
            loss = 0.02 * trainer.loss.measure_term(output[0], batch["target"][0]).loss
        expected.append(torch.autograd.grad(loss, output[0])[0].norm().item())
    result = trainer.train_step(batch)
    record = trainer._topology.record
    assert float(record.base_gradient) == pytest.approx(expected[0], rel=1e-4)
    assert float(record.term_gradient) == pytest.approx(expected[1], rel=1e-4)
    assert result["topology_ratio"] == pytest.approx(expected[1] / expected[0], rel=1e-4)
    assert result["topology_gradient"] == 1


def test_a_step_that_measures_the_first_weight_is_that_of_the_control(started):
    pair = [
        started(f"nnUNetTrainer{name}_10epochs_4iters{term}_nospatial_seed7")
        for name, term in (("Wasserstein", "_from0"), ("Stock", ""))
    ]
    results = [[t.train_step(b) for b in batches(t, 4)] for t in pair]
    assert [r["topology_term"] > 0 for r in results[0]] == [True] * 4
    assert np.isnan([r["topology_weight"] for r in results[0]]).all()
    assert pair[0]._schedule.is_known
    assert torch.equal(*map(weights, pair))


@pytest.mark.parametrize(
    ("stem", "settings", "wanted"),
    [("TAFL", "", 10), ("Wasserstein", "_ratio0.2", 0.2), ("TAFLSinkhorn", "_ratio3", 3)],
)
def test_the_gradient_of_the_term_is_as_large_as_wanted(started, stem, settings, wanted):
    trainer = started(f"nnUNetTrainer{stem}_10epochs_3iters{settings}_from0_nospatial_seed3")
    # Three iterations are measured without the term, and three more while it ramps up. One batch
    # again and again, because the ratio of another may be half or twice as large.
    (batch,) = batches(trainer, 1)
    results = [trainer.train_step(batch) for _ in range(7)]
    assert results[6]["topology_ratio"] == pytest.approx(wanted, rel=0.3)


def test_the_gradient_stays_as_large_as_wanted(started):
    trainer = started("nnUNetTrainerTAFL_10epochs_2iters_ratio5_from0_nospatial_seed3")
    (batch,) = batches(trainer, 1)
    for _ in range(6):
        trainer.train_step(batch)
        trainer._iteration = trainer._iteration % 2
        trainer.current_epoch += trainer._iteration == 0
    assert trainer.current_epoch == 3
    # One batch again and again changes the ratio by a third from one measurement to the next.
    assert trainer.train_step(batch)["topology_ratio"] == pytest.approx(5, rel=0.4)


def test_norms_are_summed_over_the_processes_in_which_both_are_finite(started, monkeypatch):
    told = []

    def total(_, numbers, device):
        told.append(list(numbers))
        return [numbers[0] + 3.0, numbers[1] + 6.0]  # of another process

    monkeypatch.setattr(Ranks, "total", total)
    trainer = started("nnUNetTrainerTAFL_10epochs_20iters_from0_seed3")
    trainer.train_step(batches(trainer, 1)[0])
    measured, record = trainer._schedule.measured, trainer._topology.record
    assert told == [[float(record.base_gradient), float(record.term_gradient)]]
    assert measured.base_norm == told[0][0] + 3
    assert measured.term_norm == told[0][1] + 6
    trainer._measure(StepRecord(base_gradient=1.0, term_gradient=np.inf), 1.0)
    trainer._measure(StepRecord(base_gradient=0.0, term_gradient=2.0), 1.0)
    trainer._measure(StepRecord(base_gradient=2.0, term_gradient=2.0), 4.0)
    assert told[1:] == [[0, 0], [0, 0], [2, 0.5]]


def test_printed_and_given_weights_are_used_as_they_are(started):
    for name, weight in (
        ("TAFLSinkhorn", 0.001),
        ("ProjectedPoolingDice", 1),
        ("TAFL_2epochs_30iters_weight1000", 1000),
    ):
        trainer = started(f"nnUNetTrainer{name}_from0_seed3")
        results = [trainer.train_step(all_intact(batch)) for batch in batches(trainer, 2)]
        assert [r["topology_weight"] for r in results] == [weight] * 2
        assert all(r["topology_ratio"] > 0 for r in results)


def test_the_bars_of_a_step_are_told(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_3iters_from0_seed7")
    result = trainer.train_step(batches(trainer, 1)[0])
    bars = trainer._topology.record.bars
    told = [result[f"topology_{what}"] for what in ("matched", "removed", "missing")]
    assert told == [bars.matched, bars.removed, bars.missing]
    assert bars.removed > 0


def test_a_patch_without_foreground_is_trained_on(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_3iters_from0")
    batch = all_intact(batches(trainer, 1)[0])
    batch["target"] = [torch.zeros_like(scale) for scale in batch["target"]]
    result = trainer.train_step(batch)
    assert np.isfinite(result["loss"])
    assert result["topology_term"] > 0
    assert torch.isfinite(weights(trainer)).all()


def test_a_class_that_never_occurs_is_trained_on_and_emptied(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_3iters_from0")
    batch = batches(trainer, 1)[0]
    assert trainer.label_manager.foreground_labels == [1, 2, 3]
    assert not (batch["target"][0] == 3).any()
    logits = trainer.network(batch["data"])[0].detach()
    probability = torch.softmax(logits, 1)[:, 3].requires_grad_()
    trainer.loss.term(probability[:, None], torch.zeros_like(probability[:, None])).backward()
    peaks = probability.detach().flatten(1).argmax(1)
    assert probability.grad is not None
    assert (probability.grad.flatten(1).gather(1, peaks[:, None]) > 0).all()
    assert np.isfinite(trainer.train_step(batch)["loss"])
