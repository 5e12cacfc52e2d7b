"""The output of a finished training: log, figures, and checkpoints that can be resumed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.training import checkpoints
from nnunet_topo.training.checks import check_bases
from nnunet_topo.training.progress import LOGGED


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
    last = finished._schedule.measured.weight  # measured after every iteration
    assert logging["topology_weight"][1] == pytest.approx(last, rel=0.5)
    assert 1 < logging["topology_ratio"][1] < 100
    assert logging["topology_gradient"][1] == 1
    assert logging["topology_matched"][1] > 0
    assert logging["topology_removed"][1] > 0
    assert logging["topology_missing"][1] >= 0
    assert logging["topology_ms"][1] > 0
    folder = Path(finished.output_folder)
    assert (folder / "topology.png").stat().st_size > 0
    assert (folder / "progress.png").stat().st_size > 0


def test_a_checkpoint_loaded_for_a_validation_is_not_trained_on_without_the_term(
    make_trainer, finished, tmp_path
):
    trainer = make_trainer(type(finished).__name__)
    trainer.output_folder = str(tmp_path)
    trainer.load_checkpoint(str(Path(finished.output_folder) / "checkpoint_final.pth"))
    with pytest.raises(RuntimeError, match="for a validation only; make it with that to train on"):
        trainer.run_training()


def test_the_train_loss_of_the_plot_is_the_base_loss(make_trainer, finished):
    focal = make_trainer("nnUNetTrainerFocal_2epochs_4iters_nospatial_seed5")
    focal.run_training()
    theirs, ours = (t.logger.get_checkpoint() for t in (focal, finished))
    assert theirs["train_losses"][0] == ours["train_losses"][0]
    assert theirs["val_losses"][0] == ours["val_losses"][0]


def test_debug_json_tells_all_settings(finished):
    debug = json.loads((Path(finished.output_folder) / "debug.json").read_text())
    for told in (
        *("'weight': 0.001", "'wanted_ratio': 10.0", "'start_epoch': 1", "'ramp_iterations': 1"),
        *("'connectivity': 'full'", "'clamp': 0.01", "matching='spatial'", "'seed': 5"),
    ):
        assert told in debug["topology_settings"]


def test_the_log_names_the_terms_figures(finished):
    log = Path(finished.log_file).read_text()
    assert "topology: the term starts in epoch 1" in log
    assert "optimal Wasserstein distance" in log
    for words in (
        r"topology: gradient norm \S+ times that of the base loss at weight 0\.001, over 1 iter",
        r"; wanted 10 times, so the weight is now \d",
        r"topology: the term had a gradient in 100% of the iterations, \S+ times that of the base",
        r"; bars per iteration: \S+ matched, \S+ removed, \S+ missing",
    ):
        assert re.search(words, log)


def test_a_checkpoint_bears_nnunets_trainer_and_our_key_of_plain_types(finished):
    file = Path(finished.output_folder) / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    own = checkpoint["nnunet_topo"]
    assert own["trainer"] == "nnUNetTrainerTAFL_2epochs_4iters_from1_nospatial_seed5"
    assert own["settings"] == {"epochs": 2, "iters": 4, "start": 1, "nospatial": True, "seed": 5}
    assert own["schedule"]["weight"] == finished._schedule.measured.weight > 0
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


def test_a_checkpoint_with_fewer_figures_resumes_with_its_weight(make_trainer, finished, tmp_path):
    checkpoint = torch.load(
        Path(finished.output_folder) / "checkpoint_final.pth", weights_only=False
    )
    for key in ("topology_ratio", "topology_gradient", "topology_matched"):
        del checkpoint["logging"][key]
    torch.save(checkpoint, tmp_path / "checkpoint_final.pth")
    again = make_trainer(type(finished).__name__, resume=True)
    again.load_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    assert again._schedule == finished._schedule
    logging = again.logger.get_checkpoint()
    assert len(logging["topology_weight"]) == len(logging["topology_ratio"]) == 2
    assert np.isnan(logging["topology_ratio"]).all()


def test_continuing_without_a_checkpoint_beside_other_settings_is_refused(make_trainer, finished):
    results = Path(finished.output_folder).parents[1]
    before = sorted(results.rglob("*"))
    with pytest.raises(RuntimeError, match=f"trained as {type(finished).__name__}"):
        make_trainer("nnUNetTrainerTAFL_9epochs", resume=True)
    assert sorted(results.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("checkpoint_latest.pth", "To start a new training, leave out --c"),
        ("checkpoint_final.pth", "This training is finished: --val in place of --c validates it"),
    ],
)
def test_nobody_is_told_to_replace_a_finished_training(name, told):
    origin = checkpoints.Origin("nnUNetTrainerX", {}, {}, prior={"1": [1, 0]}, made_of={"a": 1.0})
    with pytest.raises(RuntimeError, match=f"write the former prior into topology.json. {told}"):
        checkpoints.check_prior(f"/fold_0/{name}", origin, {})
    with pytest.raises(RuntimeError, match=f"Resume with the former version. {told}"):
        checkpoints.check_losses(f"/fold_0/{name}", origin, {"a": 2.0})


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
    with pytest.raises(RuntimeError, match="has no key 'nnunet_topo'"):
        make_trainer(type(finished).__name__).load_checkpoint(
            str(tmp_path / "checkpoint_final.pth")
        )


@pytest.mark.parametrize(
    ("changes", "readable"),
    [({"of_newer": {"a": 1}}, True), ({"settings": None}, False), ({"schedule": []}, False)],
)
def test_what_a_newer_version_adds_to_a_checkpoint_is_left_out(
    make_trainer, finished, changes, readable
):
    file = Path(finished.output_folder) / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    content[checkpoints.OWN_KEY] |= changes
    given = finished.settings.given()
    if readable:
        origin = checkpoints.check_origin("newer.pth", type(finished).__name__, given, content)
        assert origin.settings == given
    else:
        with pytest.raises(RuntimeError, match=r"newer\.pth has a key 'nnunet_topo' that"):
            checkpoints.check_origin("newer.pth", type(finished).__name__, given, content)
    content[checkpoints.OWN_KEY] = [1]
    with pytest.raises(RuntimeError, match="Did another version write it"):
        checkpoints.check_origin("newer.pth", type(finished).__name__, given, content)


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
    for own in (Mine, WithOwnNetwork):  # in nnU-Net's folder, where many people put theirs
        own.__module__ = f"nnunetv2.training.nnUNetTrainer.variants.{own.__name__}"
        check_bases(own, TopologyTrainerMixin)
    assert checkpoints.portable_trainer_name(Mine) == "nnUNetTrainerNoMirroring"
    assert checkpoints.portable_trainer_name(WithOwnNetwork) == "WithOwnNetwork"

    class Turned(nnUNetTrainerNoMirroring.nnUNetTrainerNoMirroring, TopologyTrainerMixin):
        pass

    Turned.__module__ = Mine.__module__
    with pytest.raises(TypeError, match="derives from nnUNetTrainerNoMirroring before TopologyTr"):
        check_bases(Turned, TopologyTrainerMixin)


@pytest.mark.parametrize("added", [0.0, 1.0])
def test_a_step_of_ones_own_that_leaves_ours_out_is_named(make_trainer, monkeypatch, added):
    name = "nnUNetTrainerTAFL_1epochs_2iters_from0" + "_skelrecall1" * bool(added)

    def own_step(self, batch):
        return nnUNetTrainer.train_step(self, batch)

    trainer = make_trainer(name)
    monkeypatch.setattr(type(trainer), "train_step", own_step, raising=False)
    with pytest.raises(TypeError, match=r"super\(\)\.train_step\(batch\), or .*behind the mixin"):
        trainer.run_training()
