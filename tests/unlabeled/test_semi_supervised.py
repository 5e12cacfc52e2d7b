"""Labelled and unlabelled batches in nnU-Net with its real loading, training and saving."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.unlabeled.batches import UnlabelledDataLoader

from ..conftest import run
from ..test_end_to_end import fold_folder
from ..trainers import batches, weights

STEM = "nnUNetTrainerBettiPriorSemiSupervised"


@pytest.fixture
def start(started, unlabelled):
    """Returns a function that makes a trainer ready for its first iteration."""
    trainers = []

    def begin(settings, configuration="3d_fullres", stem=STEM):
        trainers.append(started(f"{stem}_{settings}", configuration))
        return trainers[-1]

    yield begin
    for trainer in trainers:
        if hasattr(trainer, "end_unlabelled"):
            trainer.end_unlabelled()


def gradient(trainer):
    gradients = [p.grad for p in trainer.network.parameters()]  # none at the coarsest scale
    return torch.cat([g.flatten() for g in gradients if g is not None])


def everywhere(trainer):
    """Applies the prior to all objects, because an untrained network shows no whole one."""
    trainer._topology.term.in_patches = False


def make_unsure(trainer):
    """Lets the network give all classes the same probability, so that it shows no object."""
    with torch.no_grad():
        for parameter in trainer.network.decoder.seg_layers[-1].parameters():
            parameter.zero_()


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_a_step_has_the_gradient_of_labelled_loss_and_weighted_term_of_unlabelled(
    start, configuration
):
    trainer = start("2epochs_3iters_weight0.5_from0_nospatial_seed1", configuration)
    everywhere(trainer)
    batch = batches(trainer, 1)[0]
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    result = trainer.train_step(batch)
    found = gradient(trainer)
    trainer.network.load_state_dict(before)
    trainer.optimizer.zero_grad()
    images = trainer.unlabelled_images
    assert images.shape == batch["data"].shape
    assert not torch.equal(images, batch["data"])
    base = trainer.loss.base(trainer.network(batch["data"]), batch["target"])
    probability = torch.softmax(trainer.network(images)[0], 1)[:, 1:]
    priors = trainer._topology.term.priors
    assert str(priors[0]).startswith("(1, 1")
    assert str(priors[1]).startswith("(1, 0")
    assert 2 not in priors  # the class that never occurs
    if trainer.topology_unions:
        union = probability[:, list(trainer.topology_unions[0])].sum(1, keepdim=True).clamp(max=1)
        probability = torch.cat([probability, union], 1)
    term = BettiPriorLoss(priors, clamp=0.01)(probability)
    (base + 0.5 * term).backward()  # Eq. 6
    torch.nn.utils.clip_grad_norm_(trainer.network.parameters(), 12)
    torch.testing.assert_close(found, gradient(trainer), rtol=1e-3, atol=1e-5)
    assert result["loss"] == pytest.approx(base.item(), rel=1e-5)
    assert result["topology_term"] == pytest.approx(term.item(), rel=1e-4)
    assert result["topology_weight"] == 0.5
    trainer.optimizer.zero_grad()
    base = trainer.loss.base(trainer.network(batch["data"]), batch["target"])
    base.backward()
    assert not torch.allclose(found, gradient(trainer), rtol=1e-3, atol=1e-5)


def test_a_term_whose_gradient_overflows_skips_the_step_and_lowers_the_scale(start):
    trainer = start("2epochs_9iters_weight1_from0_nospatial_seed1")
    everywhere(trainer)
    largest = torch.finfo(torch.float16).max
    for parameter in trainer.network.parameters():  # what half precision does on a GPU
        parameter.register_hook(lambda g: torch.where(g.abs() > largest, torch.inf, g))
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    batch, before = batches(trainer, 1)[0], weights(trainer)
    scales = []
    while torch.equal(weights(trainer), before):
        scales.append(trainer.grad_scaler.get_scale())
        result = trainer.train_step(batch)
    assert len(scales) > 2  # the base loss alone does not overflow at any of them
    assert scales[-1] == trainer.grad_scaler.get_scale() == scales[0] / 2 ** (len(scales) - 1)
    assert np.isfinite(result["loss"])


def test_a_labelled_batch_alone_does_not_overflow_at_that_scale(start):
    trainer = start("2epochs_9iters_weight0_from0_nospatial_seed1")
    largest = torch.finfo(torch.float16).max
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    for parameter in trainer.network.parameters():
        parameter.register_hook(lambda g: torch.where(g.abs() > largest, torch.inf, g))
    trainer.grad_scaler = scaler
    trainer.train_step(batches(trainer, 1)[0])
    assert scaler.get_scale() == 2.0**16


def test_the_supervised_phase_is_stock_nnunet_to_the_last_bit(start):
    pair = [
        start("4epochs_2iters_nospatial_seed7", stem=stem) for stem in (STEM, "nnUNetTrainerStock")
    ]
    losses = [[t.train_step(b)["loss"].item() for b in batches(t, 2)] for t in pair]
    assert losses[0] == losses[1]
    assert torch.equal(*map(weights, pair))
    assert (pair[0]._schedule.start, pair[0]._schedule.nominal) == (2, 0.01)


def test_labelled_batches_are_those_of_the_control_while_unlabelled_ones_are_drawn(start):
    trainer = start("2epochs_3iters_from0_nospatial_seed7")
    alone = batches(trainer, 2)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 # as in batches
    torch.manual_seed(0)
    loader, _ = trainer.get_dataloaders()
    for batch in alone:
        assert torch.equal(next(loader)["data"], batch["data"])
        trainer.train_step(batch)


def test_where_no_object_is_seen_as_a_whole_the_step_is_that_of_labelled_images(start):
    trainer = start("2epochs_3iters_weight1_from0_nospatial_seed7")
    stock = start("2epochs_3iters_nospatial_seed7", stem="nnUNetTrainerStock")
    make_unsure(trainer)
    make_unsure(stock)
    result = trainer.train_step(batches(trainer, 1)[0])
    stock.train_step(batches(stock, 1)[0])
    assert result["topology_used"] == 0
    assert torch.equal(weights(trainer), weights(stock))


def test_the_share_of_objects_that_a_prior_was_applied_to_is_told():
    probability = torch.full((2, 2, 9, 8), 0.1)
    probability[0, 0, 3:6, 3:6] = 0.9  # whole
    probability[0, 1, :4, 3:6] = 0.9  # cut by the border
    probability[1, 0, 3:5, 2:6] = 0.9  # the fourth is absent
    loss = BettiPriorLoss({0: (1, 0), 1: (1, 0)}, in_patches=True)
    assert loss.begin(probability)().used == 0.5
    free = BettiPriorLoss({0: (1, 0)}, in_patches=False)
    assert free.begin(probability)().used == 1


def test_the_weight_is_set_by_the_gradient_at_the_unlabelled_images(start):
    trainer = start("10epochs_2iters_from0_nospatial_seed3")
    batch = batches(trainer, 1)[0]
    measured = trainer._schedule.measured
    make_unsure(trainer)
    trainer.train_step(batch)
    assert (measured.measured, measured.looked_at) == (0, 1)  # no object, so nothing is known
    everywhere(trainer)
    output = trainer.network(batch["data"])
    loss = trainer.loss.base(output, batch["target"])
    base = torch.autograd.grad(loss, output[0])[0].norm().item()
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    result = trainer.train_step(batch)
    assert measured.measured == 1
    assert np.isnan(result["topology_weight"])  # measured, but not in force
    assert measured.base_norm == pytest.approx(base, rel=1e-4)
    after = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    trainer.network.load_state_dict(before)
    logits = trainer.network(trainer.unlabelled_images)[0]
    trainer._topology.muted = False
    term = 0.01 * trainer._topology.measure_term(logits, None).loss
    expected = torch.autograd.grad(term, logits)[0].norm().item()
    assert measured.term_norm == pytest.approx(expected, rel=1e-4)
    trainer.network.load_state_dict(after)
    trainer.train_step(batch)
    full = measured.weight
    results = [trainer.train_step(batch) for _ in range(2)]  # a ramp of two iterations
    assert [result["topology_weight"] for result in results] == [full / 2, full]
    assert results[1]["topology_ratio"] == pytest.approx(10, rel=0.5)


def test_a_step_that_measures_the_weight_is_that_of_labelled_images(start):
    trainer = start("10epochs_2iters_from0_nospatial_seed7")
    stock = start("10epochs_2iters_nospatial_seed7", stem="nnUNetTrainerStock")
    everywhere(trainer)
    result = trainer.train_step(batches(trainer, 1)[0])
    stock.train_step(batches(stock, 1)[0])
    assert result["topology_term"] > 0
    assert torch.equal(weights(trainer), weights(stock))


def test_patches_lie_where_the_labelled_objects_are(start, unlabelled):
    trainer = start("2epochs_3iters_from0_nospatial")
    batches(trainer, 1)
    centres = trainer._unlabelled.loader.centres
    cases, _ = trainer.do_split()
    assert len(centres) == 2 * len(cases)  # of ring and blob
    ring, blob = np.array([9, 12, 11]) + 0.5, np.array([15, 14, 23]) + 0.5
    distances = [np.abs(centres * [22, 26, 30] - middle).max(1) for middle in (ring, blob)]
    assert (np.minimum(*distances) < 2).all()

    def loader(patch_size, *centres):
        dataset = nnUNetDatasetBlosc2(str(unlabelled))
        manager = trainer.label_manager
        centres = np.array(centres)
        return UnlabelledDataLoader(dataset, 2, patch_size, patch_size, manager, centres=centres)

    small = loader((8, 10, 12), [0.5, 0.5, 0.5])
    assert small.get_bbox((22, 26, 30), False, {}) == ([7, 8, 9], [15, 18, 21])
    corner = loader((8, 10, 12), [0.0, 0.5, 1.0])
    assert corner.get_bbox((22, 26, 30), False, {}) == ([0, 8, 18], [8, 18, 30])
    large = loader((40, 10, 12), [0.9, 0.5, 0.5])
    lower, upper = large.get_bbox((22, 26, 30), False, {})
    assert (lower[0], upper[0]) == (-9, 31)  # all of the image
    flat = loader((10, 12), [9.5 / 22, 0.5, 0.5])
    assert flat.get_bbox((22, 26, 30), False, {}) == ([9, 8, 9], [10, 18, 21])
    assert next(flat)["data"].shape == (2, 1, 10, 12)


def test_in_2d_slices_are_those_that_show_an_object(start):
    trainer = start("2epochs_3iters_from0_nospatial", "2d")
    batches(trainer, 1)
    slices = np.floor(trainer._unlabelled.loader.centres[:, 0] * 22)
    assert set(slices) <= set(range(5, 21))
    assert len(set(slices)) > 8


def test_without_any_prior_the_command_that_shows_them_is_named(make_trainer, tmp_path):
    trainer = make_trainer(f"{STEM}_2epochs")
    content = {"priors": {"full": {"volumes": {"ring": "none", "blob": "none"}}}}
    (tmp_path / "topology.json").write_text(json.dumps(content))
    trainer.preprocessed_dataset_folder_base = str(tmp_path)
    with pytest.raises(RuntimeError, match=r"no class has a topological prior.*nnunet-topo plan"):
        trainer.initialize()


@pytest.mark.parametrize("away", ["folder", "cases"])
def test_without_unlabelled_images_the_command_that_makes_them_is_named(start, unlabelled, away):
    trainer = start("2epochs_3iters_from0_nospatial")
    aside = unlabelled.with_name("aside")
    unlabelled.rename(aside)
    try:
        if away == "cases":
            unlabelled.mkdir()
        with pytest.raises(RuntimeError, match="`nnunet-topo preprocess-unlabeled -d ID -i"):
            trainer.on_train_start()
        start("2epochs_3iters_weight0_nospatial").on_train_start()  # needs none
    finally:
        if away == "cases":
            unlabelled.rmdir()
        aside.rename(unlabelled)


def test_an_unlabelled_case_that_is_now_labelled_stops_the_training_before_it_begins(
    start, unlabelled
):
    trainer = start("2epochs_3iters_from0_nospatial")
    leaked = [shutil.copy(f, f.with_name(f"tiny_1{f.name.removeprefix('unlabelled_1')}"))
              for f in unlabelled.glob("unlabelled_1*")]  # fmt: skip
    try:
        with pytest.raises(RuntimeError, match=r"tiny_1 in .* now labelled"):
            trainer.on_train_start()
    finally:
        for file in leaked:
            file.unlink()


def test_the_second_stage_of_a_cascade_is_refused(make_trainer):
    trainer = make_trainer(f"{STEM}_2epochs")
    trainer.is_cascaded = True
    with pytest.raises(NotImplementedError, match="no segmentation of a previous stage"):
        trainer.initialize()


def test_regions_are_trained_on(make_trainer, unlabelled, tmp_path):
    made = make_trainer(f"{STEM}_2epochs_3iters_weight1_from0_nospatial_seed1")
    description = made.dataset_json | {
        "labels": {"background": 0, "both": [1, 2], "blob": 2},
        "regions_class_order": [1, 2],
    }
    plans = made.plans_manager.plans | {"continue_training": False}
    class_ = recursive_find_trainer_class_by_name(type(made).__name__)
    trainer = class_(plans, "3d_fullres", 0, description, torch.device("cpu"))
    priors = {"both": [[1, 2], 1, 0], "blob": "none"}
    content = {"priors": {"full": {"volumes": priors}}}
    (tmp_path / "topology.json").write_text(json.dumps(content))
    shutil.copy(Path(made.preprocessed_dataset_folder_base) / "splits_final.json", tmp_path)
    trainer.preprocessed_dataset_folder_base = str(tmp_path)
    trainer.initialize()
    assert list(trainer._topology.term.priors) == [0]
    trainer.set_deep_supervision_enabled(True)
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    everywhere(trainer)
    batch = batches(trainer, 1)[0]
    assert batch["target"][0].shape[1] == 2
    before = weights(trainer)
    result = trainer.train_step(batch)
    assert result["topology_used"] == 1
    assert result["topology_term"] > 0
    assert not torch.equal(weights(trainer), before)


@pytest.mark.parametrize("fails", [False, True])
def test_worker_processes_end_with_the_training(make_trainer, unlabelled, monkeypatch, fails):
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    trainer = make_trainer(f"{STEM}_1epochs_1iters_from0_nospatial")
    seen = []

    def look(*_):
        seen.extend(trainer._unlabelled._processes)
        assert all(process.is_alive() for process in seen)
        if fails:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "on_validation_epoch_start", look)
    if fails:
        with pytest.raises(KeyboardInterrupt):
            trainer.run_training()
        for loader in (trainer.dataloader_train, trainer.dataloader_val):
            loader._finish()  # nnU-Net leaves its own to the end of Python
    else:
        trainer.run_training()
    assert seen
    assert not any(process.is_alive() for process in seen)
    assert trainer._unlabelled is None


def test_a_training_resumes_with_its_history_and_predicts_on_stock_nnunet(
    make_trainer, unlabelled, monkeypatch
):
    name = f"{STEM}_3epochs_3iters_from1_nospatial_seed5"
    trainer = make_trainer(name)
    ends = type(trainer).on_epoch_end

    def ends_after_two(self):
        ends(self)
        if self.current_epoch == 2:
            self.current_epoch -= 1  # as nnU-Net's own checkpoints are written
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
            raise KeyboardInterrupt

    monkeypatch.setattr(type(trainer), "on_epoch_end", ends_after_two)
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    monkeypatch.undo()
    again = make_trainer(name, resume=True)
    maybe_load_checkpoint(again, continue_training=True, validation_only=False)
    assert again.current_epoch == 2
    again.run_training()
    logging = again.logger.get_checkpoint()
    assert [np.isnan(share) for share in logging["topology_used"]] == [True, False, False]
    assert logging["topology_ms"][1] > 0
    log = "".join(file.read_text() for file in Path(again.output_folder).glob("training_log*"))
    assert "topology: the term starts in epoch 1" in log
    assert "of the objects in unlabelled images" in log
    assert "3 unlabelled images in" in log
    checkpoint = torch.load(Path(again.output_folder) / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert checkpoint["nnunet_topo"]["prior"]["0"] == [1, 1, 0]
    stock = make_trainer("nnUNetTrainer")
    stock.initialize()
    stock.network.load_state_dict(checkpoint["network_weights"])


@pytest.mark.slow
def test_two_processes_take_unlabelled_batches_of_their_own(unlabelled, nnunet_folders):
    name = f"{STEM}_2epochs_4iters_from1_nospatial"
    script = str(Path(__file__).parents[1] / "two_processes.py")
    run("python", script, "901", "3d_fullres", "0", "nnUNetPlansTiny", name)
    folder = fold_folder(nnunet_folders["nnUNet_results"], name)
    logging = torch.load(folder / "checkpoint_final.pth", weights_only=False)["logging"]
    assert np.isnan(logging["topology_used"][0])
    assert logging["topology_used"][1] >= 0
    assert logging["topology_ms"][1] > 0
