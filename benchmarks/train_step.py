"""nnU-Net's whole training step, for every trainer, on a preprocessed data set."""

import contextlib
import io
from collections.abc import Iterator, Mapping

import torch

from benchmarks.timing import Comparison, compare

# Trainer -> its control: the same base loss without a term. The semi-supervised trainer is left
# out, because each of its steps takes twice as many images.
PAIRS = {
    "nnUNetTrainerTAFL": "nnUNetTrainerFocal",
    "nnUNetTrainerTAFLSinkhorn": "nnUNetTrainerFocal",
    "nnUNetTrainerWasserstein": "nnUNetTrainer",
    "nnUNetTrainerBettiMatching": "nnUNetTrainer",
    "nnUNetTrainerTopoLoss": "nnUNetTrainer",
    "nnUNetTrainerBettiPrior": "nnUNetTrainer",
    "nnUNetTrainerProjectedPooling": "nnUNetTrainer",
    "nnUNetTrainerProjectedPoolingDice": "nnUNetTrainerDice",
}


def steps(
    dataset: str,
    configuration: str,
    plans: str,
    device: str,
    warm_up: int,
    runs: int,
    pairs: Mapping[str, str] = PAIRS,
) -> Iterator[Comparison]:
    """Yields each trainer against its control, after some iterations.

    The term is on, with a given weight.

    Args:
        dataset: name or number, preprocessed.
        configuration: of the plans.
        plans: their name.
        device: "cpu" or "cuda".
        warm_up: iterations before timing.
        runs: iterations to time.
        pairs: each trainer with its control.
    """
    for ours, control in pairs.items():
        sides = {}
        for name in (f"{ours}_2epochs_weight0.001_from0", control):
            step = _trainer(name, dataset, configuration, plans, device)
            for _ in range(warm_up):
                step()
            sides[name] = step
        task = f"{dataset} {configuration} {plans} {device}"
        yield compare(task, sides, dict.fromkeys(sides, runs))


def _trainer(name: str, dataset: str, configuration: str, plans: str, device: str):
    from nnunetv2.run.run_training import get_trainer_from_args

    with contextlib.redirect_stdout(io.StringIO()):
        trainer = get_trainer_from_args(
            dataset, configuration, "all", name, plans, False, device=torch.device(device)
        )
        trainer.initialize()
        trainer.on_train_start()
        trainer.on_train_epoch_start()
    batches = [next(trainer.dataloader_train) for _ in range(4)]
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):  # its workers would compete for the cores
            loader._finish()
    turn = iter(range(10**9))

    def step() -> None:
        trainer.train_step(batches[next(turn) % len(batches)])
        if device == "cuda":
            torch.cuda.synchronize()

    return step
