"""Trainings that are interrupted and resumed, beside undisturbed ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.commands.trainings import Training
from nnunet_topo.training import checkpoints, splits
from nnunet_topo.training.seeding import seed_training

TIMES = ("epoch_start_timestamps", "epoch_end_timestamps", "topology_ms")
TRAININGS = {
    "random tiles": "nnUNetTrainerTopoLoss_3epochs_2iters_from1_tile9_seed5",
    "without labels": "nnUNetTrainerBettiPriorSemiSupervised_3epochs_2iters_from1_seed5",
}
LONGER = {
    "focal": "nnUNetTrainerTAFL_4epochs_3iters_from1_seed5",
    "added losses": "nnUNetTrainerTopology_4epochs_3iters_from1_cosine_seed5",
}


class Killed(BaseException):
    pass


def train(trainer, *, until=None):
    """Trains with a checkpoint of each epoch, until an (epoch, iteration)."""
    trainer.save_every = 1
    step = trainer.train_step

    def train_step(batch):
        if (trainer.current_epoch, trainer._iteration) == until:
            raise Killed
        return step(batch)

    trainer.train_step = train_step
    trainer.run_training()
    return Path(trainer.output_folder)


def resumed(make_trainer, name):
    trainer = make_trainer(name, resume=True)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    return trainer


def content(checkpoint):
    """Returns what is in a checkpoint, apart from times."""
    found = torch.load(checkpoint, weights_only=False)
    for key in TIMES:
        found["logging"].pop(key, None)
    return found


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
    if isinstance(one, dict | list | tuple):
        pairs = zip(one.values(), other.values(), strict=True) if isinstance(one, dict) else None
        for pair in pairs or zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        np.testing.assert_equal(one, other)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, id=key) for key, name in TRAININGS.items()]
    + [pytest.param(name, id=key, marks=pytest.mark.slow) for key, name in LONGER.items()],
)
def test_a_seeded_training_resumes_bit_for_bit(name, make_trainer, unlabelled, tmp_path):
    folder = train(make_trainer(name))
    undisturbed = shutil.move(folder, tmp_path / "undisturbed")
    with pytest.raises(Killed):
        train(make_trainer(name), until=(2, 1))
    trainer = resumed(make_trainer, name)
    assert trainer.current_epoch == 2
    np.random.seed(12)  # noqa: NPY002 # what the process has drawn before must not matter
    train(trainer)
    for file in ("checkpoint_final.pth", "checkpoint_best.pth"):
        assert_same(content(undisturbed / file), content(folder / file))


def test_each_epoch_seed_and_process_has_random_numbers_of_its_own():
    def drawn(seed, epoch, rank):
        seed_training(seed, epoch=epoch, rank=rank)
        return float(torch.rand(())), float(np.random.random())  # noqa: NPY002

    places = [(s, e, r) for s in range(4) for e in (None, 0, 1, 2) for r in range(2)]
    assert len({drawn(*place) for place in places}) == len(places)
    assert drawn(3, 1, 0) == drawn(3, 1, 0)


def test_the_best_checkpoint_that_a_kill_has_prevented_is_written(make_trainer):
    name = "nnUNetTrainerStock_3epochs_2iters_seed6"
    with pytest.raises(Killed):
        train(make_trainer(name), until=(1, 1))
    trainer = resumed(make_trainer, name)
    folder = Path(trainer.output_folder)
    best, latest = (folder / f"checkpoint_{kind}.pth" for kind in ("best", "latest"))
    expected = content(best)
    assert content(latest)["_best_ema"] is None  # nnU-Net writes it first
    best.unlink()  # as if it had been killed between the two
    trainer.on_train_start()
    assert_same(content(best), expected)
    assert trainer.current_epoch == 1


def test_a_best_checkpoint_that_is_there_is_not_written_again(make_trainer, monkeypatch):
    name = "nnUNetTrainerStock_3epochs_2iters_seed6"
    trainer = make_trainer(name, resume=True)
    saved = []
    monkeypatch.setattr(trainer, "save_checkpoint", saved.append)
    for average, best in (([], None), ([0.4, 0.3], 0.4), ([np.nan], np.nan)):
        trainer.logger.local_logger.my_fantastic_logging["ema_fg_dice"] = average
        trainer._best_ema = best
        trainer._save_missing_best()
    assert not saved


def test_what_a_killed_save_has_left_is_removed_at_the_next_start(make_trainer):
    trainer = make_trainer("nnUNetTrainerStock_1epochs_2iters_seed8")
    folder = Path(trainer.output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"checkpoint_best.pth{checkpoints.UNFINISHED}").write_bytes(b"half")
    (folder / "notes.part").write_text("mine")
    trainer.on_train_start()
    assert not list(folder.glob("*.pth.part"))
    assert (folder / "notes.part").is_file()


def test_a_validation_that_is_killed_before_its_metrics_is_not_finished(make_trainer, monkeypatch):
    name = "nnUNetTrainerStock_1epochs_2iters_seed9"
    trainer = make_trainer(name)
    training = Training(name, "0", train(trainer), ())

    def killed(*_):
        raise Killed

    monkeypatch.setattr("nnunet_topo.training.trainer.add_topology_metrics", killed)
    with pytest.raises(Killed):
        trainer.perform_actual_validation()
    assert training.summary.is_file()
    assert training.dice() is None
    monkeypatch.undo()
    trainer.perform_actual_validation()
    assert training.dice() is not None


# -- splits_final.json ---------------------------------------------------------------------------


@pytest.fixture
def splits_file(make_trainer):
    """Returns a trainer and the file of its folds, which is removed before and after."""
    trainer = make_trainer("nnUNetTrainerStock_1epochs_2iters")
    file = Path(trainer.preprocessed_dataset_folder_base) / splits.FILE
    file.unlink(missing_ok=True)
    yield trainer, file
    file.unlink(missing_ok=True)


def test_folds_are_those_of_nnunet_to_the_last_byte(splits_file):
    trainer, file = splits_file
    expected = nnUNetTrainer.do_split(trainer)
    of_nnunet = file.read_bytes()
    file.unlink()
    assert trainer.do_split() == expected
    assert file.read_bytes() == of_nnunet
    assert not [f for f in file.parent.iterdir() if "topo-new" in f.name]


def test_folds_of_yours_stay(splits_file):
    trainer, file = splits_file
    own = [{"train": ["tiny_0", "tiny_1"], "val": ["tiny_2"]}]
    file.write_text(json.dumps(own))
    assert trainer.do_split() == (own[0]["train"], own[0]["val"])
    assert json.loads(file.read_text()) == own


def test_folds_that_another_process_is_writing_are_waited_for(splits_file, monkeypatch):
    trainer, file = splits_file
    nnUNetTrainer.do_split(trainer)
    whole = file.read_bytes()
    file.write_bytes(whole[:50])
    monkeypatch.setattr(splits.time, "sleep", lambda _: file.write_bytes(whole))
    trainer.do_split()


def test_damaged_folds_are_named(splits_file, monkeypatch):
    trainer, file = splits_file
    file.write_bytes(b'[{"train": ["ti')
    monkeypatch.setattr(splits, "_PATIENCE", 0)
    with pytest.raises(ValueError, match=r"splits_final\.json is not a JSON file.*remove it: "):
        trainer.do_split()


def test_a_fold_of_all_cases_needs_no_folds(splits_file, make_trainer):
    _, file = splits_file
    make_trainer("nnUNetTrainerStock_1epochs_2iters", fold="all").do_split()
    assert not file.exists()
