import json
import shutil
from pathlib import Path

import pytest
import torch

STOCK = "nnUNetTrainerStock_1epochs_2iters_seed3"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Returns a folder that keeps the stock training from one test to the next."""
    return tmp_path_factory.mktemp("kept") / "fold_1"


@pytest.fixture
def stock_training(make_trainer, nnunet_folders, kept):
    """Returns the folder of a stock training of fold 1 that ended after an epoch."""
    data_set = Path(nnunet_folders["nnUNet_results"]) / "Dataset901_TinyRings"
    folder = data_set / f"{STOCK}__nnUNetPlansTiny__3d_fullres/fold_1"
    if not kept.exists():
        make_trainer(STOCK, fold=1).run_training()
        shutil.copytree(folder, kept)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    yield folder
    for trained in data_set.glob("*/fold_1"):
        shutil.rmtree(trained)


def weights(trainer_or_file):
    if isinstance(trainer_or_file, Path):
        return torch.load(trainer_or_file, weights_only=False)["network_weights"]
    return trainer_or_file.network.state_dict()


@pytest.mark.parametrize("stem", ["nnUNetTrainerTAFL", "nnUNetTrainerStock"])
def test_finetune_begins_from_all_weights_of_the_stock_training(make_trainer, stock_training, stem):
    final = stock_training / "checkpoint_final.pth"
    trainer = make_trainer(f"{stem}_10epochs_2iters_finetune", fold=1)
    trainer.on_train_start()
    trainer.on_train_end()
    for key, value in weights(final).items():
        assert torch.equal(weights(trainer)[key], value), key
    assert any("seg_layers" in key for key in weights(trainer))
    assert trainer.initial_lr == trainer.optimizer.param_groups[0]["lr"] == 1e-3
    assert make_trainer(f"{stem}_2epochs_finetune_lr0.5", fold=1).initial_lr == 0.5
    debug = json.loads((Path(trainer.output_folder) / "debug.json").read_text())
    assert str(final) in debug["topology_settings"]
    if stem == "nnUNetTrainerTAFL":
        assert trainer._schedule.start == 0
        assert trainer._schedule.ramp > 0


def test_a_finetuned_training_goes_on_from_its_own_checkpoint(make_trainer, stock_training):
    name = "nnUNetTrainerWasserstein_1epochs_2iters_finetune"
    trainer = make_trainer(name, fold=1)
    trainer.run_training()
    final = Path(trainer.output_folder) / "checkpoint_final.pth"
    origin = torch.load(final, weights_only=False)["nnunet_topo"]
    assert origin["finetuned_from"] == str(stock_training / "checkpoint_final.pth")
    shutil.rmtree(stock_training.parent)  # no longer needed
    resumed = make_trainer(name, fold=1, resume=True)
    resumed.initialize()
    resumed.load_checkpoint(str(final))
    resumed.on_train_start()
    resumed.on_train_end()
    for key, value in weights(final).items():
        assert torch.equal(weights(resumed)[key], value), key


def test_continuing_a_finetuned_training_that_never_began_starts_it(make_trainer, stock_training):
    """The training that it starts from is no mistyped name of it."""
    name = "nnUNetTrainerStock_9epochs_finetune"
    assert make_trainer(name, fold=1, resume=True).num_epochs == 9
    other = make_trainer("nnUNetTrainerStock_1epochs_2iters_finetune", fold=1)
    other.run_training()
    with pytest.raises(RuntimeError, match="trained as nnUNetTrainerStock_1epochs_2iters_finetune"):
        make_trainer(name, fold=1, resume=True)


def test_finetune_without_a_finished_stock_training_of_the_fold_is_refused(
    make_trainer, stock_training, monkeypatch
):
    name = "nnUNetTrainerTAFL_1epochs_2iters_finetune"
    with pytest.raises(RuntimeError, match=r"nnUNetTrainer__nnUNetPlansTiny__3d_fullres/fold_2/ch"):
        make_trainer(name, fold=2)
    with pytest.raises(RuntimeError, match="no finished training to start from"):
        make_trainer(name, "2d", fold=1)
    other = stock_training.parent.with_name(
        "nnUNetTrainerStock_9epochs__nnUNetPlansTiny__3d_fullres"
    )
    shutil.copytree(stock_training.parent, other)
    with pytest.raises(RuntimeError, match="trained as nnUNetTrainerStock_1epochs_2iters_seed3, "):
        make_trainer(name, fold=1)
    monkeypatch.setenv("NNUNET_TOPO_FINETUNE_FROM", "")  # as if it were not set
    with pytest.raises(RuntimeError, match="trained as nnUNetTrainerStock_1epochs_2iters_seed3, "):
        make_trainer(name, fold=1)
    monkeypatch.setenv("NNUNET_TOPO_FINETUNE_FROM", "nnUNetTrainerStock_9epochs")
    assert make_trainer(name, fold=1).settings.finetune
    monkeypatch.setenv("NNUNET_TOPO_FINETUNE_FROM", "nnUNetTrainerSomething")
    with pytest.raises(RuntimeError, match=r"nnUNetTrainerSomething__.*is missing"):
        make_trainer(name, fold=1)


def test_finetune_refuses_the_weights_of_another_network(make_trainer, stock_training):
    final = stock_training / "checkpoint_final.pth"
    checkpoint = torch.load(final, weights_only=False)
    checkpoint["network_weights"].popitem()
    torch.save(checkpoint, final)
    trainer = make_trainer("nnUNetTrainerTAFL_1epochs_2iters_finetune", fold=1)
    with pytest.raises(RuntimeError, match="differs from the one in the plans"):
        trainer.on_train_start()
