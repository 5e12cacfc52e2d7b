"""The trainers inside an nnU-Net that plans, loads, trains and saves for real."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_topo._register import trainers_folder
from nnunet_topo.training import checkpoints
from nnunet_topo.training.divergence import describe_cause
from nnunet_topo.training.named_trainers import trainer_with_settings
from nnunet_topo.training.progress import LOGGED

from ..test_registration import TRAINERS

SUPERVISED = [name for name in TRAINERS if "SemiSupervised" not in name]
WITHOUT_TERM = ("Stock", "Focal", "CrossEntropy", "Dice")


def batches(trainer, number=2):
    """Returns training batches, the same ones each time."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 # nnU-Net's loader draws from it
    torch.manual_seed(0)
    loader, _ = trainer.get_dataloaders()
    return [next(loader) for _ in range(number)]


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


@pytest.fixture
def started(make_trainer):
    """Returns a function that makes a trainer ready for its first iteration."""

    def start(name, configuration="3d_fullres"):
        trainer = make_trainer(name, configuration)
        trainer.initialize()
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        return trainer

    return start


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


def test_settings_reach_nnunet(make_trainer):
    trainer = make_trainer("nnUNetTrainerStock_7epochs_12iters_lr0.02_adam_cosine_wd0.001_nods")
    trainer.initialize()
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (7, 12)
    assert trainer.num_val_iterations_per_epoch == 2
    group = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.001)
    trainer.lr_scheduler.step(7)
    assert group["lr"] == pytest.approx(0, abs=1e-9)
    assert not trainer.enable_deep_supervision
    adam = make_trainer("nnUNetTrainerStock_7epochs_lr0.02_adam")
    adam.initialize()
    adam.lr_scheduler.step(3)
    assert adam.optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * (1 - 3 / 7) ** 0.9)


def test_nomirror_switches_mirroring_off_in_training_and_inference(make_trainer):
    trainer = make_trainer("nnUNetTrainerStock_nomirror")
    *_, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert axes is None
    assert trainer.inference_allowed_mirroring_axes is None


def spatial_transform(trainer):
    trainer.get_dataloaders()
    rotation, in_slices, size, axes = (
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    )
    patch = trainer.configuration_manager.patch_size
    transforms = trainer.get_training_transforms(patch, rotation, None, axes, in_slices)
    (spatial,) = [t for t in transforms.transforms if isinstance(t, SpatialTransform)]
    mirrors = any(isinstance(t, MirrorTransform) for t in transforms.transforms)
    return spatial.p_rotation, spatial.p_scaling, list(size) == list(patch), mirrors


def test_nospatial_leaves_rotation_and_scaling_out_and_mirroring_in(started):
    assert spatial_transform(started("nnUNetTrainerStock_2epochs")) == (0.2, 0.2, False, True)
    changed = started("nnUNetTrainerStock_2epochs_nospatial")
    assert spatial_transform(changed) == (0, 0, True, True)


def test_weight_0_rotates_and_scales(started):
    off = started("nnUNetTrainerTAFL_2epochs_3iters_weight0")
    assert spatial_transform(off) == (0.2, 0.2, False, True)


def test_tiles_are_those_of_the_paper_in_2d_and_smaller_in_3d(make_trainer):
    for configuration, size in (("2d", 65), ("3d_fullres", 33)):
        trainer = make_trainer("nnUNetTrainerTopoLoss", configuration)
        assert trainer.build_topology_term().tile_size == size


@pytest.mark.parametrize(
    ("stem", "weight"),
    [
        ("TopoLoss", 0.01),
        ("ProjectedPooling", 1),
        ("ProjectedPoolingDice", 1),
        ("BettiPrior", 0.01),
    ],
)
def test_terms_start_at_half_of_the_epochs_with_their_weight(make_trainer, stem, weight):
    trainer = make_trainer(f"nnUNetTrainer{stem}_300epochs")
    trainer.initialize()
    assert (trainer._schedule.start, trainer._schedule.nominal) == (150, weight)
    assert not trainer._schedule.is_due(149, 0)
    assert trainer._schedule.is_due(150, 0)


@pytest.mark.parametrize("setting", ["clamp0.1", "face"])
def test_settings_of_a_filtration_are_refused_where_there_is_none(setting):
    with pytest.raises(ValueError, match="mean nothing to the term of nnUNetTrainerProjectedPool"):
        trainer_with_settings(f"nnUNetTrainerProjectedPooling_{setting}", Path(trainers_folder()))
    trainer_with_settings(f"nnUNetTrainerBettiPrior_{setting}", Path(trainers_folder()))


def test_projected_pooling_on_dice_has_the_base_loss_of_dice(started):
    losses = []
    for stem in ("ProjectedPoolingDice", "Dice"):
        trainer = started(f"nnUNetTrainer{stem}_4epochs_3iters_nospatial_seed7")
        losses.append(trainer.train_step(batches(trainer, 1)[0])["loss"].item())
    assert losses[0] == losses[1]


def test_without_settings_nothing_of_nnunet_is_changed(make_trainer):
    ours, theirs = make_trainer("nnUNetTrainerTAFL"), make_trainer("nnUNetTrainer")
    for attribute in (
        *("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch"),
        *("initial_lr", "weight_decay", "enable_deep_supervision", "save_every"),
    ):
        assert getattr(ours, attribute) == getattr(theirs, attribute)


def test_the_gradient_norms_are_those_of_the_networks_last_layer(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_30iters_from0_seed3")
    batch = batches(trainer, 1)[0]
    last = list(trainer.network.decoder.seg_layers[-1].parameters())
    expected = []
    for part in ("base", "term"):
        output = trainer.network(batch["data"])
        if part == "base":
            loss = trainer.loss.base(output, batch["target"])
        else:
            loss = 0.001 * trainer.loss.measure_term(output[0], batch["target"][0]).loss
        gradients = torch.autograd.grad(loss, last)
        expected.append(torch.cat([g.flatten() for g in gradients]).norm().item())
    trainer._measure_gradients(batch)
    schedule = trainer._schedule
    assert schedule.base_norm == pytest.approx(expected[0], rel=1e-4)
    assert schedule.topology_norm == pytest.approx(expected[1], rel=1e-4)


def test_a_heavy_term_is_lowered_unless_its_weight_was_given(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_30iters_from0_seed3")
    trainer._schedule.nominal = 1000.0
    result = [trainer.train_step(batch) for batch in batches(trainer, 2)]
    assert all(0 < r["topology_weight"] < 1000 for r in result)
    given = started("nnUNetTrainerTAFL_2epochs_30iters_weight1000_from0_seed3")
    assert given.train_step(batches(given, 1)[0])["topology_weight"] == 1000


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["TAFL", "Stock"])
def test_an_image_with_nan_or_infinity_never_reaches_the_weights(started, name, value):
    trainer = started(f"nnUNetTrainer{name}_2epochs_3iters_seed1")
    batch = batches(trainer, 1)[0]
    batch["data"][0, 0, 3, 3, 3] = value
    before = weights(trainer)
    with pytest.raises(FloatingPointError, match=r"epoch 0, iteration 0.*weights were not") as told:
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
    assert ("(the file of -pretrained_weights) need a smaller one" in str(error.value)) == given


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
    assert "holds NaN or infinite values: the segmentation of 3d_lowres for b." in told


def test_a_patch_without_foreground_is_trained_on(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_3iters_from0")
    batch = batches(trainer, 1)[0]
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


def test_a_whole_epoch_of_lost_losses_is_an_error(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_3iters")
    lost = {"loss": np.array(np.nan), **dict.fromkeys(LOGGED, np.nan)}
    with pytest.raises(FloatingPointError, match="in every iteration"):
        trainer.on_train_epoch_end([lost, lost])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Collects what a finished training left, once for all tests below."""
    return {}


@pytest.fixture
def finished(make_trainer, trained):
    """Returns a training of two epochs whose term starts in the second."""
    if "trainer" not in trained:
        trainer = make_trainer("nnUNetTrainerTAFL_2epochs_4iters_from1_nospatial_seed5")
        trainer.run_training()
        trained["trainer"] = trainer
    return trained["trainer"]


def test_each_figure_is_logged_on_its_own(finished):
    logging = finished.logger.get_checkpoint()
    assert len(logging["train_losses"]) == len(logging["val_losses"]) == 2
    for key in LOGGED:
        assert len(logging[key]) == 2
    assert np.isnan(logging["topology_term"][0])
    assert logging["topology_weight"][0] == 0
    assert logging["topology_term"][1] > 0
    assert logging["topology_distance"][1] > 0
    assert 0 < logging["topology_weight"][1] <= 0.001
    assert logging["topology_ms"][1] > 0
    folder = Path(finished.output_folder)
    assert (folder / "topology.png").stat().st_size > 0
    assert (folder / "progress.png").stat().st_size > 0


def test_the_train_loss_of_the_plot_is_the_base_loss(make_trainer, finished):
    focal = make_trainer("nnUNetTrainerFocal_2epochs_4iters_nospatial_seed5")
    focal.run_training()
    theirs, ours = (t.logger.get_checkpoint() for t in (focal, finished))
    assert theirs["train_losses"][0] == ours["train_losses"][0]
    assert theirs["val_losses"][0] == ours["val_losses"][0]


def test_debug_json_tells_all_settings(finished):
    debug = json.loads((Path(finished.output_folder) / "debug.json").read_text())
    for told in (
        *("'weight': 0.001", "'weight_given': False", "'start_epoch': 1", "'ramp_iterations': 1"),
        *("'connectivity': 'full'", "'clamp': 0.01", "matching='spatial'", "'seed': 5"),
    ):
        assert told in debug["topology_settings"]


def test_the_log_names_the_terms_figures(finished):
    log = Path(finished.log_file).read_text()
    assert "topology: the term starts in epoch 1" in log
    assert "optimal Wasserstein distance" in log


def test_a_checkpoint_bears_nnunets_trainer_and_our_key_of_plain_types(finished):
    file = Path(finished.output_folder) / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    own = checkpoint["nnunet_topo"]
    assert own["trainer"] == "nnUNetTrainerTAFL_2epochs_4iters_from1_nospatial_seed5"
    assert own["settings"] == {"epochs": 2, "iters": 4, "start": 1, "nospatial": True, "seed": 5}
    assert own["schedule"]["measured"] == 4
    assert json.loads(json.dumps(own)) == own
    assert not list(file.parent.glob("*.part"))


def test_a_finished_training_is_resumed_with_its_history_and_its_measurements(
    make_trainer, finished
):
    again = make_trainer(type(finished).__name__, resume=True)
    maybe_load_checkpoint(again, continue_training=True, validation_only=False)
    assert again.current_epoch == 2
    np.testing.assert_equal(again.logger.get_checkpoint(), finished.logger.get_checkpoint())
    assert again._schedule == finished._schedule


def test_continuing_without_a_checkpoint_beside_other_settings_is_refused(make_trainer, finished):
    results = Path(finished.output_folder).parents[1]
    before = sorted(results.rglob("*"))
    with pytest.raises(RuntimeError, match=f"trained as {type(finished).__name__}"):
        make_trainer("nnUNetTrainerTAFL_9epochs", resume=True)
    assert sorted(results.rglob("*")) == before


def test_continuing_without_any_checkpoint_is_nnunets_affair(make_trainer):
    trainer = make_trainer("nnUNetTrainerDice_9epochs", resume=True)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    assert trainer.current_epoch == 0


def test_a_checkpoint_of_other_settings_is_refused(make_trainer, finished):
    file = Path(finished.output_folder) / "checkpoint_final.pth"
    with pytest.raises(RuntimeError, match=f"written by {type(finished).__name__} with settings"):
        make_trainer("nnUNetTrainerTAFL_9epochs_4iters").load_checkpoint(str(file))


def test_a_checkpoint_of_stock_nnunet_is_refused(make_trainer, finished, tmp_path):
    checkpoint = torch.load(
        Path(finished.output_folder) / "checkpoint_final.pth", weights_only=False
    )
    del checkpoint[checkpoints.OWN_KEY]
    torch.save(checkpoint, tmp_path / "checkpoint_final.pth")
    with pytest.raises(RuntimeError, match="lacks the key 'nnunet_topo'"):
        make_trainer(type(finished).__name__).load_checkpoint(
            str(tmp_path / "checkpoint_final.pth")
        )


def test_an_interrupted_save_leaves_the_old_checkpoint(finished, tmp_path, monkeypatch):
    file = tmp_path / "checkpoint_best.pth"
    finished.save_checkpoint(str(file))
    sound = file.read_bytes()
    real_save, calls = torch.save, []

    def dies_in_the_second(checkpoint, path):
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt
        real_save(checkpoint, path)

    monkeypatch.setattr(torch, "save", dies_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        finished.save_checkpoint(str(file))
    assert file.read_bytes() == sound


def test_missing_results_folder_is_named(make_trainer, monkeypatch):
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(RuntimeError, match=r"nnUNet_results is not set.*export nnUNet_results="):
        make_trainer("nnUNetTrainerTAFL")


def test_the_portable_name_is_that_of_the_nearest_nnunet_trainer():
    from nnunetv2.training.nnUNetTrainer.variants.data_augmentation import nnUNetTrainerNoMirroring

    from nnunet_topo.training.trainer import TopologyTrainerMixin

    class Mine(TopologyTrainerMixin, nnUNetTrainerNoMirroring.nnUNetTrainerNoMirroring):
        pass

    class WithOwnNetwork(Mine):
        @staticmethod
        def build_network_architecture(*_):
            raise NotImplementedError

    assert checkpoints.portable_trainer_name(Mine) == "nnUNetTrainerNoMirroring"
    assert checkpoints.portable_trainer_name(WithOwnNetwork) == "WithOwnNetwork"
