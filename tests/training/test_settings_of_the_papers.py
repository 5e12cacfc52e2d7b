"""The trainings of the papers, under the names that docs/losses.md gives them."""

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from ..trainers import (
    SUPERVISED,
    batches,
    names_of_the_papers,
    steps_at_the_start_of_the_term,
    weights,
)

DEMIR = "200epochs_weight0.001_from0_clamp0_lr0.0005_adam_cosine_wd0.0001_nods"
DATTA = "nnUNetTrainerTopoLoss_ce_weight0.01_from0_clamp0_optimal_tile65_nods"
FU = "300epochs_weight1_from150_lr0.001_adam_step_wd0_nods"
FU_ON_DICE = f"nnUNetTrainerProjectedPoolingDice_{FU}"
CLOUGH = "nnUNetTrainerBettiPriorSemiSupervised_dice_weight0.01_from500_clamp0_nods"
NAMES = names_of_the_papers()
EXAMPLES = {"<n>": "7", "<n-n>": "1-2", "<x>": "0.75"}


def test_the_table_has_a_name_for_each_paper():
    named = {f"nnUNetTrainerTAFLSinkhorn_{DEMIR}", DATTA, FU_ON_DICE, CLOUGH}
    assert named <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_trains(make_trainer, unlabelled, name):
    trainer = make_trainer(name)
    results = steps_at_the_start_of_the_term(trainer)
    assert all(np.isfinite(result["loss"]) for result in results)
    assert torch.isfinite(weights(trainer)).all()
    if trainer._schedule is not None:
        given = trainer._schedule.nominal
        assert [result["topology_weight"] for result in results] == [given, given]
        assert all(np.isfinite(result["topology_term"]) for result in results)


def test_dattas_loss_is_cross_entropy_and_the_optimal_matching_on_tiles(started):
    trainer = started(DATTA)
    term = trainer.loss.term
    assert (term.matching, term.tile_size, term.clamp) == ("optimal", 65, 0)
    assert (trainer.base_loss, trainer.control) == ("cross-entropy", "nnUNetTrainerCrossEntropy")
    described = "cross-entropy + weight * Wasserstein distance on tiles, matched optimally"
    assert trainer.describe_loss() == described


def test_planes_of_images_are_refused_before_the_training(make_trainer):
    trainer = make_trainer("nnUNetTrainerProjectedPooling_planes0-1", "2d")
    with pytest.raises(ValueError, match="planes<n-n> chooses projections of volumes, but 2d"):
        trainer.initialize()


def test_fus_learning_rate_falls_to_a_tenth_when_the_term_starts(make_trainer):
    trainer = make_trainer(FU_ON_DICE)
    trainer.initialize()
    rates = []
    for epoch in (0, 1, 149, 150, 299):
        trainer.lr_scheduler.step(epoch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4, 1e-4])
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    assert trainer._schedule.weight(150, 0) == 1
    assert not trainer._schedule.is_due(149, 249)


@pytest.mark.parametrize(("suffix", "stem"), [("ce", "CrossEntropy"), ("dice", "Dice")])
def test_a_named_base_loss_is_that_of_its_control(started, suffix, stem):
    losses = []
    for name in (f"Wasserstein_4epochs_3iters_{suffix}", f"{stem}_4epochs_3iters"):
        trainer = started(f"nnUNetTrainer{name}_nospatial_seed7")
        losses.append(trainer.train_step(batches(trainer, 1)[0])["loss"].item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", SUPERVISED)
def test_every_setting_of_a_term_changes_the_loss(make_trainer, name):
    trainer = make_trainer(name)
    if trainer.build_topology_term() is None:
        return
    before = repr(trainer._build_loss())
    for spelling in trainer.term_settings:
        changed = make_trainer(f"{name}_{example(spelling)}")
        assert repr(changed._build_loss()) != before, spelling


def example(spelling):
    for placeholder, value in EXAMPLES.items():
        spelling = spelling.replace(placeholder, value)
    return spelling


def test_nnunet_averages_logits_over_flips_not_probabilities():
    torch.manual_seed(0)
    image = torch.randn(1, 1, 5, 7)
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    predictor = nnUNetPredictor(use_mirroring=True, device=torch.device("cpu"))
    predictor.network, predictor.allowed_mirroring_axes = network, (0, 1)
    flips = ((), (2,), (3,), (2, 3))
    with torch.no_grad():
        predicted = predictor._internal_maybe_mirror_and_predict(image)
        logits = [network(image.flip(axes)).flip(axes) for axes in flips]
    assert torch.allclose(predicted, torch.stack(logits).mean(dim=0), atol=1e-6)
    of_probabilities = torch.stack([one.softmax(dim=1) for one in logits]).mean(dim=0)
    assert not torch.allclose(predicted.softmax(dim=1), of_probabilities, atol=1e-3)
