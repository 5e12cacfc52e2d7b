"""The parts of losses.sh that train, measure gradients and print tables."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

# Data set -> identifier, configuration, features per stage, batch size, patch size.
DATASETS = {
    "Dataset004_Hippocampus": ("4", "3d_fullres", [16, 32, 64], 4, [24, 32, 24]),
    "Dataset101_ChaseDB1": ("101", "2d", [16, 32, 64], 6, [128, 128]),
}
PLANS = "nnUNetPlansLosses"
# Trainer -> its control, which trains alike but for the term.
CONTROLS = {
    "TopoLoss": "Stock",
    "ProjectedPooling": "Stock",
    "BettiPrior": "Stock",
    "Wasserstein": "Stock",
    "TAFL": "Focal",
    "TAFLSinkhorn": "Focal",
    "ProjectedPoolingDice": "Dice",
}
# The focal loss hardly learns within 300 steps of nnU-Net's SGD: it gets its paper's optimizer.
# Algorithm 1 to the letter is on from the beginning; elsewhere the term starts at half of the
# epochs, and its ramp takes one of them.
SETTINGS = {
    "Focal": "_lr0.0005_adam",
    "TAFL": "_lr0.0005_adam",
    "TAFLSinkhorn": "_from0_lr0.0005_adam",
}
# As the papers print them; see term_weight.py for weights that are measured.
WEIGHTS = {
    "TopoLoss": "_weight0.01",
    "ProjectedPooling": "_weight1",
    "BettiPrior": "_weight0.01",
    "Wasserstein": "_weight0.001",
    "TAFL": "_weight0.001",
    "TAFLSinkhorn": "_weight0.001",
    "ProjectedPoolingDice": "_weight1",
}
# One training alone says little here: its Dice moves by more than 0.02 with the seed.
REPEATED = {("Dataset101_ChaseDB1", "Dice"), ("Dataset101_ChaseDB1", "ProjectedPoolingDice")}
CLIP = 12  # nnU-Net's
MEASURED = 5  # ratios are measured in each of so many iterations
VALIDATION_CASES = 20
ALLOWED_LOSS = 0.02  # of Dice


def plans() -> None:
    """Writes small plans, and a split that leaves few cases to validate."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from nnunetv2.utilities.crossval_split import generate_crossval_split
    from small_plans import shrink

    for dataset, (_, configuration, features, batch_size, patch_size) in DATASETS.items():
        folder = _preprocessed(dataset)
        written = json.loads((folder / "nnUNetPlans.json").read_text())
        written["plans_name"] = PLANS
        chosen = written["configurations"][configuration]
        shrink(chosen, features)
        chosen |= {"batch_size": batch_size, "patch_size": patch_size}
        norm = f"torch.nn.modules.batchnorm.BatchNorm{len(patch_size)}d"
        chosen["architecture"]["arch_kwargs"]["norm_op"] = norm
        (folder / f"{PLANS}.json").write_text(json.dumps(written, indent=2))
        cases = sorted(f.name.split(".")[0] for f in (folder / "gt_segmentations").iterdir())
        split = generate_crossval_split(cases, seed=12345, n_splits=5)[0]
        fold = {
            "train": [str(case) for case in split["train"]],
            "val": [str(case) for case in split["val"]][:VALIDATION_CASES],
        }
        (folder / "splits_final.json").write_text(json.dumps([fold]))


def train(records: str) -> None:
    """Trains every trainer and control that has no record yet; each writes one when it is done."""
    Path(records).mkdir(exist_ok=True)
    for dataset in DATASETS:
        for stem in [*dict.fromkeys(CONTROLS.values()), *CONTROLS]:
            for seed in _seeds(dataset, stem):
                file = _file(records, dataset, stem, seed)
                if not file.is_file():
                    with Path(f"{file}.log").open("w") as log, redirect_stdout(log):
                        record = _train(dataset, stem, seed)
                    file.write_text(json.dumps(record, default=float))  # NumPy's numbers too
                record = json.loads(file.read_text())
                print(f"{dataset} {stem} seed {seed}: Dice {record['dice']:.4f}", flush=True)


def _seeds(dataset: str, stem: str) -> tuple[int, ...]:
    return (1, 2, 3) if (dataset, stem) in REPEATED else (1,)


def _train(dataset: str, stem: str, seed: int) -> dict:
    """Trains one trainer in this process, and returns what was measured on the way."""
    trainer = _trainer(dataset, stem, seed)
    steps: list[dict] = []
    with _clipping_watched(trainer, steps):
        trainer.run_training()
    trainer.perform_actual_validation()
    summary = json.loads((Path(trainer.output_folder) / "validation/summary.json").read_text())
    logged = trainer.logger.get_checkpoint()
    return {
        "dice": summary["foreground_mean"]["Dice"],
        "per_class": {label: values["Dice"] for label, values in summary["mean"].items()},
        "logged": {k: v for k, v in logged.items() if k.startswith(("topology", "train_losses"))},
        "settings": trainer.topology_settings,
        "steps": steps,
    }


class _clipping_watched:  # used as a with statement's function
    """Records ratios of gradient norms, and what of each clipped gradient was the term's."""

    def __init__(self, trainer, steps: list[dict]) -> None:
        self.trainer, self.steps = trainer, steps

    def __enter__(self) -> None:
        import torch

        self.clip: Callable = torch.nn.utils.clip_grad_norm_
        self.step: Callable = self.trainer.train_step
        torch.nn.utils.clip_grad_norm_ = self._clip
        self.trainer.train_step = self._train_step

    def __exit__(self, *_) -> None:
        import torch

        torch.nn.utils.clip_grad_norm_ = self.clip
        self.trainer.train_step = self.step

    def _train_step(self, batch: dict) -> dict:
        self.batch, figures = batch, {"epoch": self.trainer.current_epoch}
        if self.trainer._topology is not None and len(self.steps) % MEASURED == 0:
            from term_weight import PLACES, norms

            base, term = norms(self.trainer, batch)[:, PLACES.index("last layer")]
            figures |= {"base": base, "term": self.trainer._schedule.nominal * term}
        self.steps.append(figures)
        result = self.step(batch)
        figures |= {
            "weight": result.get("topology_weight"),
            "term_value": result.get("topology_term"),
            "distance": result.get("topology_distance"),
            "ms": result.get("topology_ms"),
        }
        return result

    def _clip(self, parameters, limit: float):
        total = float(self.clip(parameters, limit))
        self.steps[-1]["norm"] = total
        topology = self.trainer._topology
        if total > CLIP and topology is not None and topology.weight is not None:
            self.steps[-1]["norm_of_term"] = self._norm_of_term(topology)
        return total

    def _norm_of_term(self, topology) -> float:
        """Returns the gradient norm of the weighted term alone, over the whole network."""
        import torch

        buffers, record = self._buffers(), topology.record
        output = self.trainer.network(self.batch["data"])[0]
        term = topology.measure_term(output, self.batch["target"][0])
        parameters = [p for p in self.trainer.network.parameters() if p.requires_grad]
        loss = topology.weight * term.loss
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        self._restore(buffers)
        topology.record = record
        return float(torch.stack([g.norm() for g in gradients if g is not None]).norm())

    def _buffers(self) -> list:
        return [b.clone() for b in self.trainer.network.buffers()]

    def _restore(self, buffers: list) -> None:
        for buffer, value in zip(self.trainer.network.buffers(), buffers, strict=True):
            buffer.data.copy_(value)


def ratios(records: str, picture: str) -> None:
    """Prints and plots the ratios of gradient norms topology : base over the trainings."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    print("| data set | trainer | at printed weight, first and second half | in force after the "
          "ramp, mean and largest | clipped after the ramp | by the term alone |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    for axis, dataset in zip(np.ravel(figure.subplots(1, len(DATASETS))), DATASETS, strict=True):
        for stem in _trained(records, dataset):
            record = _record(records, dataset, stem)
            printed = record["settings"]["weight"]
            start = record["settings"]["start_epoch"]
            steps = record["steps"]
            measured = [(i, s) for i, s in enumerate(steps) if "base" in s and s["base"] > 0]
            ratio = np.array([s["term"] / s["base"] for _, s in measured])
            epoch = np.array([s["epoch"] for _, s in measured])
            weight = np.array([_number(s["weight"]) for _, s in measured])
            in_force = ratio * np.nan_to_num(weight) / printed
            late = [s for s in steps if s["epoch"] > start]
            clipped = [s for s in late if s["norm"] > CLIP]
            alone = [s for s in clipped if s["norm_of_term"] > CLIP]
            after = in_force[epoch > start]
            late_half = epoch > epoch.max() // 2
            print(f"| {dataset[7:]} | {stem} | {ratio[~late_half].mean():.3g}, "
                  f"{ratio[late_half].mean():.3g} | {after.mean():.3g}, {after.max():.3g} | "
                  f"{len(clipped)} of {len(late)} | {len(alone)} |")  # fmt: skip
            axis.plot([i for i, _ in measured], ratio, ":", color=f"C{list(CONTROLS).index(stem)}")
            started = epoch >= start
            axis.plot(np.array([i for i, _ in measured])[started], in_force[started],
                      color=f"C{list(CONTROLS).index(stem)}", label=stem)  # fmt: skip
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(yscale="log", xlabel="iteration", title=dataset[11:],
                 ylabel="gradient norm, topology : base")  # fmt: skip
        axis.grid(alpha=0.3)
    handles = {
        label: handle
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4)
    figure.savefig(picture)


def dice(records: str) -> None:
    """Prints Dice of each trainer beside its control's, and the term over its epochs."""
    print("| data set | trainer | Dice | control | its Dice | term, first and last epoch |"
          " ms per iteration |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    worse, rising = [], []
    for dataset in DATASETS:
        for stem in _trained(records, dataset):
            control = CONTROLS[stem]
            record = _record(records, dataset, stem)
            own, other = (_mean_dice(records, dataset, s) for s in (stem, control))
            start = record["settings"]["start_epoch"]
            term = record["logged"]["topology_term"]
            ms = np.median([s["ms"] for s in record["steps"] if np.isfinite(_number(s["ms"]))])
            print(f"| {dataset[7:]} | {stem} | {own:.4f} | {control} | {other:.4f} | "
                  f"{term[start]:.4g}, {term[-1]:.4g} | {ms:.0f} |")  # fmt: skip
            if own < other - ALLOWED_LOSS:
                worse.append((dataset, stem))
            if not term[-1] < term[start]:
                rising.append((dataset, stem))
    for dataset, stem in sorted(REPEATED):
        each = [_record(records, dataset, stem, s)["dice"] for s in _seeds(dataset, stem)]
        print(f"{dataset[7:]} {stem}: the mean of " + ", ".join(f"{dice:.4f}" for dice in each))
    print(f"Dice below its control by more than {ALLOWED_LOSS}: {worse or 'none'}")
    print(f"term not falling: {rising or 'none'}")
    missing = [(d, stem) for d in DATASETS for stem in CONTROLS if stem not in _trained(records, d)]
    print(f"not trained yet: {missing or 'none'}")
    assert not worse
    assert not rising
    assert not missing


def cost() -> None:
    """Prints how long each term takes on a batch, for the network of the finished stock training.

    Of one thread, forward pass, nothing beside it; in training it runs beside the base loss.
    """
    import torch

    from nnunet_topo.training.starting_weights import load_weights

    print("| data set | trainer | ms per iteration, median of 20 | least | most |")
    print("|---|---|---|---|---|")
    for dataset in DATASETS:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            stock = Path(_trainer(dataset, "Stock", 1).output_folder) / "checkpoint_final.pth"
        for stem in CONTROLS:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                trainer = _trainer(dataset, stem, 1)
                trainer.initialize()
                load_weights(stock, trainer.network)
                loader, _ = trainer.get_dataloaders()
            assert trainer._topology is not None
            times = []
            for _ in range(21):
                batch = next(loader)
                with torch.no_grad():
                    logits = trainer.network(batch["data"])[0]
                trainer._topology.measure_term(logits.requires_grad_(), batch["target"][0])
                times.append(trainer._topology.record.milliseconds)
            first, *later = times  # the first compiles
            assert first > 0
            print(f"| {dataset[7:]} | {stem} | {np.median(later):.1f} | {min(later):.1f} | "
                  f"{max(later):.1f} |", flush=True)  # fmt: skip


def _trainer(dataset: str, stem: str, seed: int):
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    identifier, configuration, *_ = DATASETS[dataset]
    settings = f"{WEIGHTS.get(stem, '')}{SETTINGS.get(stem, '')}_nomirror_nospatial_seed{seed}"
    name, device = f"nnUNetTrainer{stem}_10epochs_30iters{settings}", torch.device("cpu")
    return get_trainer_from_args(identifier, configuration, 0, name, PLANS, False, device=device)


def _trained(records: str, dataset: str) -> list[str]:
    """Returns the trainers that have a record beside that of their control."""

    def is_there(stem: str) -> bool:
        seeds = _seeds(dataset, stem)
        return all(_file(records, dataset, stem, seed).is_file() for seed in seeds)

    return [stem for stem, control in CONTROLS.items() if is_there(stem) and is_there(control)]


def _record(records: str, dataset: str, stem: str, seed: int = 1) -> dict:
    return json.loads(_file(records, dataset, stem, seed).read_text())


def _mean_dice(records: str, dataset: str, stem: str) -> float:
    seeds = _seeds(dataset, stem)
    return float(np.mean([_record(records, dataset, stem, seed)["dice"] for seed in seeds]))


def _file(records: str, dataset: str, stem: str, seed: int) -> Path:
    return Path(records) / f"{dataset}_{stem}_seed{seed}.json"


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _preprocessed(dataset: str) -> Path:
    return Path(os.environ["nnUNet_preprocessed"]) / dataset  # noqa: SIM112 # nnU-Net spells it so


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
