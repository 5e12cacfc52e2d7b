"""The parts of main_job.sh that check arrays, checkpoints and gradients."""

import json
import os
import random
import sys
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

DATASET = "Dataset004_Hippocampus"


def report(line: str) -> None:
    """Prints a figure; the output of nnU-Net is dropped."""
    print(line, file=sys.__stdout__, flush=True)


def splits() -> None:
    """Writes nnU-Net's own five splits and a sixth with two validation cases."""
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    folder = Path(os.environ["nnUNet_preprocessed"]) / DATASET  # noqa: SIM112 # nnU-Net spells it so
    cases = sorted(f.name.removesuffix(".nii.gz") for f in (folder / "gt_segmentations").iterdir())
    five = generate_crossval_split(cases, seed=12345, n_splits=5)
    few = {"train": list(five[0]["train"]), "val": list(five[0]["val"])[:2]}
    plain = [
        {key: list(map(str, split[key])) for key in ("train", "val")} for split in [*five, few]
    ]
    (folder / "splits_final.json").write_text(json.dumps(plain))


def trained(fold: str) -> None:
    """Prints Dice, foreground and logged figures of a finished training; both must be there."""
    import SimpleITK as sitk

    logging = _checkpoint(Path(fold) / "checkpoint_final.pth")["logging"]
    summary = json.loads((Path(fold) / "validation/summary.json").read_text())
    segmentations = sorted(Path(fold).glob("validation/*.nii.gz"))
    filled = sum(bool(sitk.GetArrayFromImage(sitk.ReadImage(f)).any()) for f in segmentations)
    dice = summary["foreground_mean"]["Dice"]
    classes = {label: round(m["Dice"], 3) for label, m in summary["mean"].items()}
    report(f"mean validation Dice {dice:.3f}, per class {classes}")
    report(f"{filled} of {len(segmentations)} predictions are not empty")
    for key in ("train_losses", *(key for key in logging if key.startswith("topology"))):
        report(f"{key}: {[float(f'{value:.4g}') for value in logging[key]]}")
    assert dice > 0.5
    assert filled == len(segmentations)
    assert all(value > 0 for value in logging["topology_term"][1:])


def is_tafl(fold: str) -> None:
    """Prints how often the term reaches the logits, and how weight 0 compares with Focal."""
    import torch

    name = Path(fold).parent.name.partition("__")[0]
    trainer = _trainer(name, "nnUNetPlansSmall")
    trainer.initialize()
    trainer.load_checkpoint(str(Path(fold) / "checkpoint_final.pth"))
    trainer.set_deep_supervision_enabled(True)
    with_foreground = reached = 0
    norms = []
    for batch in _batches(trainer, 30):
        with torch.no_grad():
            logits = trainer.network(batch["data"])[0]
        logits.requires_grad_()
        trainer.loss.measure_term(logits, batch["target"][0]).loss.backward()
        for sample in range(len(logits)):
            if (batch["target"][0][sample] > 0).any():
                with_foreground += 1
                norms.append(float(logits.grad[sample].norm()))
                reached += norms[-1] > 0
    share = reached / with_foreground
    report(f"gradient of the term at the logits > 0 in {reached} of {with_foreground} patches with")
    report(f"foreground ({share:.0%}), median norm {np.median(norms):.3g}")
    assert share >= 0.9

    losses, weights = {}, {}
    for trainer_name in ("TAFL_9epochs_9iters_weight0_seed1", "Focal_9epochs_9iters_seed1"):
        losses[trainer_name], weights[trainer_name] = _steps(trainer_name, 8)
    first, second = losses
    report(f"losses of 8 iterations, weight0: {losses[first]}")
    report(f"the same, Focal:                 {losses[second]}")
    report(f"bit-equal losses: {losses[first] == losses[second]}, weights: "
          f"{torch.equal(weights[first], weights[second])}")  # fmt: skip
    assert losses[first] == losses[second]
    assert torch.equal(weights[first], weights[second])
    _, with_term = _steps("TAFL_9epochs_9iters_weight0.001_from0_seed1", 1)
    _, without = _steps("Focal_9epochs_9iters_seed1", 1)
    difference = float((with_term - without).abs().max())
    report(f"largest difference of a weight after one step with weight 0.001: {difference:.3g}")
    assert difference > 0


def same_predictions(*folders: str) -> None:
    """Prints whether all folders hold the same probabilities, and how much is foreground."""
    for file in sorted(Path(folders[0]).glob("*.npz")):
        arrays = [np.load(Path(folder) / file.name)["probabilities"] for folder in folders]
        equal = all(np.array_equal(arrays[0], array) for array in arrays)
        foreground = int((arrays[0].argmax(0) > 0).sum())
        report(
            f"{file.stem}: equal in {len(arrays)} folders: {equal}, foreground {foreground} voxels"
        )
        assert equal
        assert foreground > 0


def history(before: str, after: str) -> None:
    """Prints the loss history of two checkpoints; the first must begin the second."""
    first, second = (_checkpoint(Path(file))["logging"] for file in (before, after))
    for key in ("train_losses", "topology_term"):
        report(f"{key} at the kill {_short(first[key])}, at the end {_short(second[key])}")
        np.testing.assert_equal(second[key][: len(first[key])], first[key])


def lookup(*names: str) -> None:
    """Prints what nnU-Net finds under each name."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    found = [recursive_find_trainer_class_by_name(name).__name__ for name in names]
    report(f"found: {', '.join(found)}")
    assert found == list(names)


def seeded_stock() -> None:
    """Trains nnU-Net's own nnUNetTrainer_1epoch from a fixed seed, in this process.

    One change makes it repeatable: blurring does not choose its algorithm by timing.
    """
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from nnunetv2.run.run_training import run_training_entry

    apply = GaussianBlurTransform.apply

    def apply_steadily(self, *arguments, **parameters):
        self.benchmark = False
        return apply(self, *arguments, **parameters)

    GaussianBlurTransform.apply = apply_steadily
    _seed()
    arguments = ["4", "3d_fullres", "5", "-tr", "nnUNetTrainer_1epoch", "-p", "nnUNetPlansTiny"]
    sys.argv = ["nnUNetv2_train", *arguments, "-device", "cpu"]
    run_training_entry()


def same_stock(losses1: str, losses2: str, debug1: str, debug2: str) -> None:
    """Prints whether two stock trainings printed the same, and left the same debug.json."""
    first, second = Path(losses1).read_text(), Path(losses2).read_text()
    report(f"stock with the plugin: {' | '.join(first.split(chr(10)))}")
    report(f"stock without it:      {' | '.join(second.split(chr(10)))}")
    assert first == second
    dumps = []
    for file in (debug1, debug2):
        debug = json.loads(Path(file).read_text())
        kept = {k: v for k, v in debug.items() if k not in ("log_file", "hostname")}
        dumps.append({k: v for k, v in kept.items() if " at 0x" not in str(v)})
    report(f"debug.json equal: {dumps[0] == dumps[1]} ({len(dumps[0])} entries without addresses)")
    assert dumps[0] == dumps[1]


def numbers() -> None:
    """Prints the numbers that are worked by hand."""
    from nnunet_topo.topology import persistence_distance, wasserstein_distance

    pair = [[1, 2], [3, 4], [5, 6]], [[2, 3], [4, 5], [6, 7]]
    report(f"Algorithm 1, printed example: {persistence_distance(*pair):.6f} (6.0)")
    spurious = [(1, 0), (0.8, 0.5), (0.6, 0.55)]
    report(f"Algorithm 1, spurious bars: {persistence_distance(spurious, [(1, 0)]):.6f} (0.00036)")
    exact = wasserstein_distance([(1, 0), (0.8, 0.5)], [(1, 0)])
    report(f"exact distance: {exact:.6f} (0.045)")


def _checkpoint(file: Path):
    import torch

    return torch.load(file, map_location="cpu", weights_only=False)


def _short(values) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _seed() -> None:
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 # nnU-Net's loader draws from it
    torch.manual_seed(0)


def _trainer(name: str, plans: str):
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    return get_trainer_from_args(
        "4", "3d_fullres", 0, name, plans, False, device=torch.device("cpu")
    )


def _batches(trainer, number: int) -> list[dict]:
    _seed()
    loader, _ = trainer.get_dataloaders()
    return [next(loader) for _ in range(number)]


def _steps(name: str, number: int):
    """Returns losses and weights after some iterations of a fresh trainer."""
    import torch

    trainer = _trainer(f"nnUNetTrainer{name}", "nnUNetPlansTiny")
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    losses = [float(trainer.train_step(b)["loss"]) for b in _batches(trainer, number)]
    return losses, torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


if __name__ == "__main__":
    part = globals()[sys.argv[1]]
    with nullcontext() if part is seeded_stock else redirect_stdout(StringIO()):
        part(*sys.argv[2:])
