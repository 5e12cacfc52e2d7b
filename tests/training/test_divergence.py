"""Trainings whose loss or gradient is NaN or infinite stop in time and name the cause."""

import numpy as np
import pytest
import torch

from nnunet_topo.training.divergence import describe_cause
from nnunet_topo.training.progress import LOGGED

from ..trainers import batches, weights


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["TAFL", "Stock"])
def test_an_image_with_nan_or_infinity_never_reaches_the_weights(started, name, value):
    trainer = started(f"nnUNetTrainer{name}_2epochs_3iters_seed1")
    batch = batches(trainer, 1)[0]
    batch["data"][0, 0, 3, 3, 3] = value
    before = weights(trainer)
    with pytest.raises(
        FloatingPointError, match=r"epoch 0, iteration 0.*weights and the checkpoints"
    ) as told:
        trainer.train_step(batch)
    assert f": channel 0 of the image of {batch['keys'][0]}. Repair" in str(told.value)
    assert torch.equal(weights(trainer), before)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("TAFL_3iters", "", r"The network itself .* such as encoder.*: train it again"),
        ("Stock_3iters", "weights", r"It started from the file of -pretrained_weights: check"),
    ],
)
def test_weights_that_hold_nan_are_told_from_images_that_do(started, name, given, told):
    trainer = started(f"nnUNetTrainer{name}")
    state = trainer.network.state_dict()
    next(iter(state.values())).view(-1)[0] = np.nan
    if given:
        trainer.network.load_state_dict(state)  # as nnU-Net does for -pretrained_weights
    with pytest.raises(FloatingPointError, match=told):
        trainer.train_step(batches(trainer, 1)[0])


@pytest.mark.parametrize("given", [False, True])
def test_a_training_that_diverged_is_told_to_be_slower(started, given):
    trainer = started("nnUNetTrainerStock_3iters")
    if given:
        trainer.network.load_state_dict(trainer.network.state_dict())
    with torch.no_grad():
        trainer.network.decoder.seg_layers[-1].bias.fill_(torch.finfo(torch.float32).max)
        trainer.network.decoder.seg_layers[-1].weight.fill_(1e38)
    with pytest.raises(FloatingPointError, match="Images and weights are finite, so") as error:
        trainer.train_step(batches(trainer, 1)[0])
    assert "with the suffix lr0.001" in str(error.value)
    assert (
        "(the file of -pretrained_weights) need a smaller learning rate" in str(error.value)
    ) == given


def test_a_loss_that_is_lost_under_a_gradient_scaler_is_explained_at_the_end_of_the_epoch(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_3iters")
    trainer.optimizer, trainer.grad_scaler = None, torch.GradScaler("cpu")
    trainer.optimizer, _ = trainer.configure_optimizers()  # no hook: nnU-Net leaves out the step
    batch = batches(trainer, 1)[0]
    batch["data"][1, 0, 3, 3, 3] = np.nan
    outputs = [trainer.train_step(batch)]
    with pytest.raises(FloatingPointError, match="in every iteration") as told:
        trainer.on_train_epoch_end(outputs)
    assert f"channel 0 of the image of {batch['keys'][1]}" in str(told.value)


def test_the_segmentation_of_a_previous_stage_is_told_from_the_image():
    data = torch.zeros(2, 3, 4, 4)
    data[1, 2, 0, 0] = torch.nan
    told = describe_cause(
        torch.nn.Linear(1, 1),
        {"data": data, "keys": ["a", "b"]},
        image_channels=1,
        previous_stage="3d_lowres",
        lr=0.01,
    )
    assert "contains NaN or infinite values: the segmentation of 3d_lowres for b." in told


def test_a_whole_epoch_of_lost_losses_is_an_error(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_3iters")
    lost = {"loss": np.array(np.nan), **dict.fromkeys(LOGGED, np.nan)}
    trainer._iteration = 2  # as after two steps
    with pytest.raises(FloatingPointError, match="in every iteration"):
        trainer.on_train_epoch_end([lost, lost])


@pytest.mark.parametrize("lost", ["weight", "buffer"])
def test_a_network_that_is_not_finite_gets_no_checkpoint(started, lost, tmp_path):
    trainer = started("nnUNetTrainerStock_3iters")
    file = tmp_path / "checkpoint_final.pth"
    trainer.save_checkpoint(str(file))
    whole = file.read_bytes()
    if lost == "buffer":
        trainer.network.register_buffer("running_mean", torch.full((2,), torch.inf))
        name = "running_mean"
    else:
        name = "decoder.seg_layers.0.bias"
        with torch.no_grad():
            trainer.network.decoder.seg_layers[0].bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match=f"such as {name}, contain .* was not written"):
        trainer.save_checkpoint(str(file))
    assert file.read_bytes() == whole
    assert [f.name for f in tmp_path.iterdir()] == [file.name]
