"""The measured weight of the topology term, on real data: prints every figure of its acceptance.

Usage: python tests/acceptance/term_weight.py SECTION    after tests/acceptance/losses.sh FOLDER 0

Run it in the environment that losses.sh makes, with nnU-Net's folders in FOLDER, OMP_NUM_THREADS=1
and nnUNet_n_proc_DA=0. Patches and batches are those of losses.sh, on one core, with thinner nets
(8 / 16 / 32 features). Sections:

plans   writes the plans of these nets
ratio   3 seeds on both data sets: the ratio in the 40 iterations after each measurement
places  ratios at the logits and at the last layer, on the same steps, with the nets of losses.sh
harm DATASET STEM [SETTINGS]    Dice and topology of one trainer, weight and ratio at the end
resume  weights and ratios of interrupted trainings and of one without interruption
time    milliseconds of a step, of stock and of a term that is measured or in force
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from time import perf_counter

import numpy as np
from losses import DATASETS
from losses import PLANS as WIDER_PLANS

PLANS = "nnUNetPlansThin"
FEATURES = [8, 16, 32]
PLACES = ("logits", "last layer")  # where gradients are compared
WITHIN = 0.2
AFTER = 40  # iterations in which a new weight is checked


def plans() -> None:
    """Writes plans of thinner nets beside those of losses.sh."""
    for dataset, (_, configuration, *_) in DATASETS.items():
        folder = Path(os.environ["nnUNet_preprocessed"]) / dataset  # noqa: SIM112 # nnU-Net's name
        written = json.loads((folder / f"{WIDER_PLANS}.json").read_text())
        written["plans_name"] = PLANS
        architecture = written["configurations"][configuration]["architecture"]["arch_kwargs"]
        architecture["features_per_stage"] = FEATURES
        (folder / f"{PLANS}.json").write_text(json.dumps(written, indent=2))


def ratio() -> None:
    """Checks the ratio right after each measurement, on fresh batches."""
    print("| data set | seed | iteration | weight | ratio in the next 40 iterations |")
    print("|---|---|---|---|---|")
    worst = 0.0
    for dataset in DATASETS:
        for seed in (1, 2, 3):
            trainer = make(dataset, "Wasserstein", f"10epochs_80iters_nospatial_seed{seed}")
            found, steps = _measurements(trainer)
            for at, weight in found:
                after = np.array(steps[at : at + AFTER])
                if len(after) < AFTER:
                    continue
                base, per_weight = after.sum(axis=0)
                now = weight * per_weight / base
                worst = max(worst, abs(now / 10 - 1))
                print(f"| {dataset[11:]} | {seed} | {at} | {weight:.4g} | {now:.3g} |", flush=True)
    print(f"wanted 10; largest deviation {worst:.1%}")
    assert worst < WITHIN


def _measurements(trainer) -> tuple[list[tuple[int, float]], list[tuple[float, float]]]:
    """Trains; returns the new weights with their iterations since the term's start, and norms."""
    found: list[tuple[int, float]] = []
    steps: list[tuple[float, float]] = []  # of the base loss, and of the term at weight 1

    def watch(_: dict) -> None:
        record, schedule = trainer._topology.record, trainer._schedule
        weight = trainer._topology.weight
        if weight is None:
            return
        steps.append((float(record.base_gradient), float(record.term_gradient) / weight))
        known = schedule.is_known and schedule.measured.weight
        if known and (not found or known != found[-1][1]):
            found.append((len(steps), known))

    train(trainer, watch)
    return found, steps


def places() -> None:
    """Compares the ratios at the logits and at the last layer, on the same steps."""
    print("| data set | epoch | logits | last layer | spread of single iterations: logits | "
          "last layer |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    for dataset, weight in (("Dataset004_Hippocampus", "3"), ("Dataset101_ChaseDB1", "0.2")):
        settings = f"10epochs_30iters_weight{weight}_nomirror_nospatial_seed1"
        trainer = make(dataset, "Wasserstein", settings, plans=WIDER_PLANS)
        epochs: dict[int, list[np.ndarray]] = {}
        step = trainer.train_step

        def train_step(batch: dict, trainer=trainer, epochs=epochs, step=step) -> dict:
            epochs.setdefault(trainer.current_epoch, []).append(norms(trainer, batch))
            return step(batch)

        trainer.train_step = train_step
        train(trainer)
        for epoch, measured in epochs.items():
            base, term = np.sum(measured, axis=0)
            ratios = np.array([term / base for base, term in measured])
            cells = [f"{value:.3g}" for value in (*(term / base), *np.log(ratios).std(axis=0))]
            print(f"| {dataset[11:]} | {epoch} | {' | '.join(cells)} |", flush=True)
        late = np.concatenate([epochs[epoch] for epoch in range(6, 10)])
        for length in (20, 40):
            windows = [late[i : i + length].sum(axis=0) for i in range(len(late) - length + 1)]
            logs = np.log([term / base for base, term in windows])
            change = np.sqrt(np.mean((logs[length:] - logs[:-length])[::3] ** 2, axis=0))
            print(f"{dataset[11:]}: {length} iterations and the next {length} differ by "
                  f"{change[0]:.1%} at the logits, {change[1]:.1%} at the last layer")  # fmt: skip


def norms(trainer, batch: dict) -> np.ndarray:
    """Returns the gradient norms of base loss and of the term at weight 1: `[loss, place]`."""
    import torch

    buffers = [buffer.clone() for buffer in trainer.network.buffers()]
    record, trainer._topology.muted = trainer._topology.record, False
    output = trainer.network(batch["data"])
    losses = (
        trainer._topology.base(output, batch["target"]),
        trainer._topology.measure_term(output[0], batch["target"][0]).loss,
    )
    last = list(trainer.network.decoder.seg_layers[-1].parameters())
    found = np.zeros((2, len(PLACES)))
    for i, loss in enumerate(losses):
        for j, inputs in enumerate(([output[0]], last)):
            gradients = torch.autograd.grad(loss, inputs, retain_graph=True)
            found[i, j] = torch.stack([gradient.norm() for gradient in gradients]).norm()
    for buffer, value in zip(trainer.network.buffers(), buffers, strict=True):
        buffer.data.copy_(value)
    trainer._topology.record = record
    return found


def harm(dataset: str, stem: str, settings: str = "") -> None:
    """Prints Dice and topology of a trainer, weight and ratio of its last epoch."""
    (full,) = [name for name in DATASETS if dataset in name]
    trainer = make(full, stem, f"10epochs_30iters{settings}_nospatial_seed1")
    clipped = []
    clip = _watch_clipping(clipped)
    train(trainer)
    clip()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        trainer.perform_actual_validation()
    file = Path(trainer.output_folder) / "validation/summary.json"
    mean = json.loads(file.read_text())["foreground_mean"]
    logged = trainer.logger.get_checkpoint()
    keys = ("topology_weight", "topology_ratio", "topology_gradient")
    last = {key: logged[key][-1] for key in keys if key in logged}
    print(f"| {dataset} | {stem}{settings} | {mean['Dice']:.4f} | "
          f"{mean['topo_betti_matching_error']:.1f} | {mean['topo_betti_error']:.1f} | "
          f"{mean['topo_cldice']:.4f} | " + " | ".join(f"{value:.4g}" for value in last.values()) +
          f" | {sum(norm > 12 for norm in clipped)} of {len(clipped)}, largest "
          f"{max(clipped):.1f} |", flush=True)  # fmt: skip


def _watch_clipping(norms: list[float]) -> Callable[[], None]:
    """Collects the gradient norms that nnU-Net clips; returns what ends it."""
    import torch

    clip = torch.nn.utils.clip_grad_norm_

    def watched(*arguments, **options):
        norms.append(float(clip(*arguments, **options)))

    torch.nn.utils.clip_grad_norm_ = watched
    return lambda: setattr(torch.nn.utils, "clip_grad_norm_", clip)


def resume() -> None:
    """Compares interrupted trainings with one that only restarts its random numbers there."""
    from nnunetv2.run.run_training import maybe_load_checkpoint

    # The term starts in iteration 40; measurements start in iterations 40, 52, 64, ...
    name = "15epochs_8iters_from5_nospatial_seed1"
    for dataset in DATASETS:
        for stop in (6, 8, 9):  # within the first measurement, between two, and within another
            whole = _fresh(dataset, name)
            train(whole, restart_at=stop)
            expected = _weights(whole)
            first = _fresh(dataset, name)
            first.save_every = 1
            train(first, end_at=stop)
            again = make(dataset, "Wasserstein", name, resume=True)
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                maybe_load_checkpoint(again, continue_training=True, validation_only=False)
            assert again.current_epoch == stop
            train(again)
            found = _weights(again)
            equal = np.array_equal(found, expected, equal_nan=True)
            print(f"{dataset[11:]}: interrupted after {stop} of 15 epochs: weights and ratios "
                  f"{'equal bit for bit' if equal else 'DIFFER'}; weights from then on "
                  f"{[float(f'{weight:.4g}') for weight in expected[0][stop:]]}",
                  flush=True)  # fmt: skip
            assert equal


def _fresh(dataset: str, name: str):
    trainer = make(dataset, "Wasserstein", name)
    shutil.rmtree(trainer.output_folder, ignore_errors=True)
    return make(dataset, "Wasserstein", name)


def _weights(trainer) -> list[list[float]]:
    logged = trainer.logger.get_checkpoint()
    return [logged["topology_weight"], logged["topology_ratio"]]


def time() -> None:
    """Prints the time of a step, each trainer's turn by turn on the same batches."""
    print("| data set | step | ms, median of 45 | of stock |")
    print("|---|---|---|---|")
    kinds = {
        "stock": ("Stock", "1000epochs_nospatial"),
        "term in force, weight given": ("Wasserstein", "1000epochs_weight0.1_from0_nospatial"),
        "term is measured": ("Wasserstein", "1000epochs_from0_nospatial"),
    }
    for dataset in DATASETS:
        steps = {}
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            for kind, (stem, settings) in kinds.items():
                trainer = make(dataset, stem, settings)
                trainer.on_train_start()
                trainer.on_train_epoch_start()
                steps[kind] = trainer.train_step
            batches = [next(trainer.dataloader_train) for _ in range(48)]
        times: dict[str, list[float]] = {kind: [] for kind in steps}
        for batch in batches:
            for kind, step in steps.items():
                began = perf_counter()
                step(batch)
                times[kind].append(1000 * (perf_counter() - began))
        medians = {kind: float(np.median(each[3:])) for kind, each in times.items()}
        for kind, ms in medians.items():
            print(f"| {dataset[11:]} | {kind} | {ms:.0f} | {ms / medians['stock']:.2f} |")


class _EndOfTrainingError(Exception):
    """Ends a training as an interruption does."""


def make(dataset: str, stem: str, settings: str, *, resume: bool = False, plans: str = PLANS):
    """Returns a trainer on one core."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    identifier, configuration, *_ = DATASETS[dataset]
    name, device = f"nnUNetTrainer{stem}_{settings}", torch.device("cpu")
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        return get_trainer_from_args(
            identifier, configuration, 0, name, plans, resume, device=device
        )


def train(
    trainer,
    after_step: Callable[[dict], None] | None = None,
    *,
    restart_at: int | None = None,
    end_at: int | None = None,
) -> None:
    """Trains with hardly any validation between the epochs.

    Args:
        trainer: to run.
        after_step: called with the result of each step.
        restart_at: epoch before which random numbers start as they do in a resumed training.
        end_at: number of epochs after which the training is interrupted.
    """
    trainer.num_val_iterations_per_epoch = 1
    step, start, end = trainer.train_step, trainer.on_epoch_start, trainer.on_epoch_end

    def train_step(batch: dict) -> dict:
        result = step(batch)
        if after_step is not None:
            after_step(result)
        return result

    def on_epoch_start() -> None:
        if trainer.current_epoch == restart_at:
            trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
        start()

    def on_epoch_end() -> None:
        end()
        if trainer.current_epoch == end_at:
            raise _EndOfTrainingError

    trainer.train_step, trainer.on_epoch_start = train_step, on_epoch_start
    trainer.on_epoch_end = on_epoch_end
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        suppress(_EndOfTrainingError),
    ):
        trainer.run_training()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
