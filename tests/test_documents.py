"""The README's Python, as printed."""

import re
from pathlib import Path

import numpy as np
import torch

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), flags=re.DOTALL
)


def test_the_library_is_used_as_printed():
    (block,) = [block for block in BLOCKS if "loss.backward()" in block]
    names = {}
    exec(block, names)
    assert torch.isfinite(names["loss"])
    assert names["probability"].grad.any()
    assert names["betti_numbers"](names["target"][0, 0].numpy()) == (1, 0, 0)


def test_a_trainer_of_ones_own_is_found_and_trains_as_printed(make_trainer, tmp_path, monkeypatch):
    (block,) = [block for block in BLOCKS if "class nnUNetTrainerMine" in block]
    body = block[block.index("class nnUNetTrainerMine") :].strip().splitlines()
    assert len(body) == 3
    (tmp_path / "nnUNetTrainerMine.py").write_text(block)
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    trainer = make_trainer("nnUNetTrainerMine")
    trainer.num_iterations_per_epoch, trainer.num_epochs = 3, 2
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    trainer.current_epoch = 1  # the term starts at half of the epochs
    trainer.on_train_epoch_start()
    loader, _ = trainer.get_dataloaders()
    result = trainer.train_step(next(loader))
    assert np.isfinite(result["loss"])
    assert result["topology_term"] > 0
    assert result["topology_weight"] > 0
