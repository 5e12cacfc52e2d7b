"""Trainings with Skeleton Recall, clDice and SCNP: each pair of terms, hippocampus, cost, memory.

Usage: python -m tests.acceptance.fields_trainings
           pairs FOLDER | hippocampus | scnp FOLDER | cost | memory

`pairs` makes the tiny data set of the tests in FOLDER. `hippocampus` needs nnU-Net's folders, and
Dataset004_Hippocampus under $NNUNET_TOPO_DATA; `scnp` and `cost` need what losses.sh 0 has planned,
and `scnp` a folder with the authors' checkout.
"""

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import types
from itertools import combinations
from pathlib import Path
from time import process_time

import numpy as np
import torch

from tests.acceptance.fields_losses import loaded

TERMS = ("Stock", "Wasserstein", "TopoLoss", "TAFL", "BettiPrior", "ProjectedPooling")
ADDED = ("skelrecall1", "cldice0.5", "exactcldice0.5", "scnp")
EXCLUSIVE = {"cldice0.5", "exactcldice0.5"}
FIELD = ("SkeletonRecall", "ClDice", "SCNP", "Topology")
REGIONS = "Dataset905_HippocampusRegions"
CASES, BATCHES, RUNS = 20, 4, 9
LENGTH = "10epochs_30iters"
LEAST_DICE = 0.4  # of the whole hippocampus, after as many
AUTHORS_LOSS = "SCNP/experiments/nnUNetv2/compound_losses_scnp.py"
CPU = torch.device("cpu")


def quiet() -> contextlib.AbstractContextManager:
    return contextlib.redirect_stdout(io.StringIO())


def make(dataset: str, configuration: str, name: str, plans: str):
    from nnunetv2.run.run_training import get_trainer_from_args

    with quiet():
        return get_trainer_from_args(dataset, configuration, 0, name, plans, device=CPU)


def pairs(folder: str) -> None:
    """Trains two iterations of each term with each added loss, and with each pair of those."""
    from tests.conftest import make_tiny_dataset
    from tests.trainers import steps_at_the_start_of_the_term

    folders = {
        f"nnUNet_{n}": str(Path(folder).resolve() / n) for n in ("raw", "preprocessed", "results")
    }
    for path in folders.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    os.environ.update(folders)
    with quiet():
        dataset = make_tiny_dataset(folders)
    chosen = [(one,) for one in ADDED]
    chosen += [pair for pair in combinations(ADDED, 2) if set(pair) != EXCLUSIVE]
    print("| trainer | losses | term | added |")
    print("|---" * 4 + "|")
    for stem in TERMS:
        for suffixes in chosen:
            name = f"nnUNetTrainer{stem}_{'_'.join(suffixes)}"
            trainer = make(dataset, "2d", name, "nnUNetPlansTiny")
            with quiet():
                results = steps_at_the_start_of_the_term(trainer)
            losses = [float(r["loss"]) for r in results]
            terms = [float(r["topology_term"]) for r in results if "topology_term" in r]
            added = [f"{k[6:]} {v:.3g}" for k, v in results[-1].items() if k.startswith("added")]
            missing = len(added) != sum(suffix != "scnp" for suffix in suffixes)
            if missing or not np.isfinite([*losses, *terms]).all():
                raise RuntimeError(f"{name}: {results}")
            cells = [
                name[13:],
                *(", ".join(f"{x:.4g}" for x in values) for values in (losses, terms)),
            ]
            print(f"| {' | '.join(cells)} | {', '.join(added)} |", flush=True)
    print(f"{len(TERMS) * len(chosen)} sums, two iterations each, all finite")


def hippocampus() -> None:
    """Trains each of the field's losses on nested regions with an ignore label.

    SCNP starts from the stock model: from scratch it has not begun to learn after so few
    iterations, nor has its authors' trainer (`scnp`).
    """
    plan_regions()
    print("| trainer | train loss, first and last epoch | added | Dice of the regions |")
    print("|---" * 4 + "|")
    for stem in ("Stock", *FIELD):
        settings = f"{LENGTH}_finetune" if stem == "SCNP" else LENGTH
        os.environ["NNUNET_TOPO_FINETUNE_FROM"] = f"nnUNetTrainerStock_{LENGTH}_seed1"
        trainer = make(
            "905", "3d_fullres", f"nnUNetTrainer{stem}_{settings}_seed1", "nnUNetPlansLean"
        )
        losses, of_regions, logged = trained(trainer)
        added = [
            f"{key[6:]} {values[0]:.3f} -> {values[-1]:.3f}"
            for key, values in logged.items()
            if key.startswith("added")
        ]
        if of_regions[0] < LEAST_DICE or losses[-1] >= losses[0]:
            raise RuntimeError(f"{stem} has learned nothing: losses {losses}, Dice {of_regions}")
        dice = ", ".join(f"{value:.3f}" for value in of_regions)
        print(
            f"| {stem}{', from the stock model' if stem == 'SCNP' else ''} | {losses[0]:.3f}, "
            f"{losses[-1]:.3f} | {', '.join(added)} | {dice} |",
            flush=True,
        )


def trained(trainer) -> tuple[list[float], list[float], dict]:
    """Returns the training losses, the last Dice per label, and all that nnU-Net's logger holds."""
    with quiet():
        trainer.run_training()
    logged = trainer.logger.get_checkpoint()
    if not np.isfinite(logged["train_losses"] + logged["val_losses"]).all():
        raise RuntimeError(f"{type(trainer).__name__}: {logged['train_losses']}")
    return logged["train_losses"], logged["dice_per_class_or_region"][-1], logged


def scnp(folder: str) -> None:
    """Prints how far SCNP and its authors' trainer come from scratch, beside stock."""
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

    from tests.acceptance.losses import DATASETS, PLANS

    identifier, configuration, *_ = DATASETS["Dataset004_Hippocampus"]
    file = Path(folder) / "SCNP-SameClassNeighborPenalization" / AUTHORS_LOSS
    print("| loss | train loss, first and last epoch | Dice of the labels |")
    print("|---" * 3 + "|")
    for name, stem in (("stock", "Stock"), ("SCNP", "SCNP"), ("the authors' SCNP", "Stock")):
        trainer = make(identifier, configuration, f"nnUNetTrainer{stem}_{LENGTH}_seed2", PLANS)
        if name == "the authors' SCNP":
            if not file.is_file():
                print(f"{name}: not measured, {file} does not exist")
                return
            trainer.output_folder = str(Path(trainer.output_folder).with_name("fold_0_authors"))
            Path(trainer.output_folder).mkdir(exist_ok=True)
            with quiet():
                trainer.initialize()
            authors_loss = authors_class(file)({}, {})
            trainer.loss = DeepSupervisionWrapper(authors_loss, trainer.loss.weight_factors)
        losses, dice, _ = trained(trainer)
        print(f"| {name} | {losses[0]:.3f}, {losses[-1]:.3f} | "
              f"{', '.join(f'{value:.3f}' for value in dice)} |", flush=True)  # fmt: skip


def authors_class(file: Path):
    """Returns the loss of the authors' nnU-Net trainer; of MONAI it takes one function."""

    def one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
        shape = (len(labels), num_classes, *labels.shape[2:])
        return torch.zeros(shape, device=labels.device).scatter_(1, labels.long(), 1)

    networks = types.ModuleType("monai.networks")
    networks.__dict__["one_hot"] = one_hot
    sys.modules |= {"monai": types.ModuleType("monai"), "monai.networks": networks}
    return loaded(file).SCNPCEDice


def plan_regions() -> None:
    """Makes hippocampus data of two nested regions, whole and posterior, with an ignored slab."""
    import SimpleITK as sitk

    from tests.small_plans import main as write_small_plans

    raw = Path(os.environ["nnUNet_raw"]) / REGIONS  # noqa: SIM112 # nnU-Net spells it so
    preprocessed = Path(os.environ["nnUNet_preprocessed"]) / REGIONS  # noqa: SIM112
    if (preprocessed / "nnUNetPlansLean.json").is_file():
        return
    source = Path(os.environ["NNUNET_TOPO_DATA"]) / "Dataset004_Hippocampus"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    for label in sorted((source / "labelsTr").glob("*.nii.gz"))[:CASES]:
        read = sitk.ReadImage(str(label))
        labels = sitk.GetArrayFromImage(read).astype(np.uint8)
        labels[: len(labels) // 4] = 3
        written = sitk.GetImageFromArray(labels)
        written.CopyInformation(read)
        sitk.WriteImage(written, str(raw / "labelsTr" / label.name))
        image = label.name.replace(".nii.gz", "_0000.nii.gz")
        (raw / "imagesTr" / image).unlink(missing_ok=True)
        (raw / "imagesTr" / image).symlink_to(source / "imagesTr" / image)
    description = json.loads((source / "dataset.json").read_text())
    description |= {
        "labels": {"background": 0, "whole": [1, 2], "posterior": [2], "ignore": 3},
        "regions_class_order": [1, 2],
        "numTraining": CASES,
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    command = ["nnUNetv2_plan_and_preprocess", "-d", "905", "-c", "3d_fullres"]
    command += ["-np", "1", "-npfp", "1"]
    environment = os.environ | {"nnUNet_n_proc_DA": "1"}
    executable = str(Path(sys.executable).parent / command[0])
    subprocess.run(
        [executable, *command[1:]], check=True, stdout=subprocess.DEVNULL, env=environment
    )
    write_small_plans(preprocessed)


def cost() -> None:
    """Prints the CPU time of a whole step beside stock's, in turn, and of a batch's skeletons."""
    from tests.acceptance.losses import DATASETS, PLANS

    torch.set_num_threads(1)
    print("| data set | trainer | ms per step, median of stock and trainer in turn | overhead |")
    print("|---" * 4 + "|")
    for dataset, (identifier, configuration, *_) in DATASETS.items():
        stock, batches = started(identifier, configuration, "Stock", PLANS)
        for stem in (*FIELD, "Stock_exactcldice1"):
            trainer, own = started(identifier, configuration, stem, PLANS)
            ms: dict[str, list[float]] = {"stock": [], stem: []}
            for run in range(RUNS):
                for name, one, given in (("stock", stock, batches), (stem, trainer, own)):
                    began = process_time()
                    one.train_step(given[run % BATCHES])
                    ms[name].append(1000 * (process_time() - began))
            medians = {name: float(np.median(times[1:])) for name, times in ms.items()}
            share = medians[stem] / medians["stock"] - 1
            print(f"| {dataset[11:]} | {stem} | {medians['stock']:.0f}, {medians[stem]:.0f} | "
                  f"{100 * share:.1f} % |", flush=True)  # fmt: skip
            packed = own[0].get("skeletons")
            if packed is not None:
                target = own[0]["target"][0]
                skeletons = (trainer.loss if stem != "Topology" else trainer.loss.base).skeletons
                began = process_time()
                for sample in target:
                    skeletons.pack(sample)
                spent = 1000 * (process_time() - began) / len(target)
                voxels = target[:, 0].numel()
                print(f"  skeletons, in the workers: {spent:.1f} ms a sample, "
                      f"{packed.numel() / voxels:g} byte a voxel", flush=True)  # fmt: skip


def started(identifier: str, configuration: str, stem: str, plans: str):
    """Returns a trainer at its first step, with the term on if it has one, and batches."""
    from nnunet_topo.training.augmentation import note_apart

    term = "_weight0.1_from0" if stem == "Topology" else ""
    trainer = make(identifier, configuration, f"nnUNetTrainer{stem}{term}", plans)
    with quiet():
        trainer.initialize()
        trainer.set_deep_supervision_enabled(True)
        trainer.on_train_epoch_start()
        loader, _ = trainer.get_dataloaders()
        return trainer, [note_apart(next(loader)) for _ in range(BATCHES)]


def memory() -> None:
    """Prints the peak of clDice and Skeleton Recall in bytes per voxel and class."""
    from nnunet_topo.losses import ClDiceLoss, SkeletonRecallLoss

    torch.set_num_threads(1)
    side, classes, samples = 64, 3, 2
    shape = (samples, classes, side, side, side)
    cells = samples * classes * side**3
    probability = torch.rand(shape, requires_grad=True)
    target = torch.zeros(shape, dtype=torch.bool)
    target[..., 20:40, 20:40] = True
    for name, loss in (
        ("Skeleton Recall", lambda: SkeletonRecallLoss()(probability, target, tube=target)),
        ("clDice, 10 iterations", lambda: ClDiceLoss()(probability, target)),
    ):
        kept: list[int] = []

        def keep(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.numel() * tensor.element_size())
            return tensor

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            value = loss()
        value.backward()
        peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        probability.grad = None
        at_128 = 128**3 * classes * samples * peak / cells / 2**30
        print(
            f"{name}: kept for the backward pass {sum(kept) / cells:.0f}, peak "
            f"{peak / cells:.0f} bytes per voxel and class; 2 samples, 3 classes of 128^3: "
            f"{at_128:.2f} GiB"
        )


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
