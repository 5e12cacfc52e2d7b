"""The losses of the field and their sum on ChaseDB1, by nnU-Net trainings of small nets.

Usage: python -m tests.acceptance.fields_vessels RECORDS [-s SEED ...] [-a ARM ...] [-e EPOCHS]

One base is trained for each seed, as nnU-Net does, and each arm is fine-tuned from it, for as long.
An arm with a record in RECORDS is not trained again, so an interrupted run resumes. The table shows
all records. nnU-Net's folders must be set, and losses.sh 0 must have planned Dataset101_ChaseDB1.
By default an epoch has 30 iterations, the base takes 20 epochs and each arm 20: three to five
minutes for each training on one idle core.
"""

import argparse
import json
import os
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from tests.acceptance.losses import PLANS

DATASET, ITERATIONS, SMALLEST = "Dataset101_ChaseDB1", 30, 200  # SMALLEST: pixels of a component
ARMS = {
    "stock": ("Stock", ""),
    "Wasserstein": ("Wasserstein", ""),
    "Skeleton Recall": ("SkeletonRecall", ""),
    "clDice": ("ClDice", ""),
    "SCNP": ("SCNP", ""),
    "the sum": ("Topology", ""),
    "the sum, ratio 3": ("Topology", "_ratio3"),
}
FIGURES = {
    "Dice": ("topo_dice", 1),
    "clDice": ("topo_cldice", 1),
    "BME": ("topo_betti_matching_error", -1),
}


def split() -> None:
    """Leaves eight images to validate."""
    folder = Path(os.environ["nnUNet_preprocessed"]) / DATASET  # noqa: SIM112 # nnU-Net spells it so
    cases = sorted(f.name.split(".")[0] for f in (folder / "gt_segmentations").iterdir())
    parts = {"train": cases[:12], "val": cases[12:]}
    (folder / "splits_final.json").write_text(json.dumps([parts]))


def trainer_named(name: str):
    """Returns a trainer on one core."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    return get_trainer_from_args("101", "2d", 0, name, PLANS, device=torch.device("cpu"))


def train_arm(arm: str, seed: int, epochs: int) -> dict:
    """Trains the base of a seed, if there is none, and one arm; returns its figures."""
    length = f"{epochs}epochs_{ITERATIONS}iters"
    base = f"nnUNetTrainerStock_{length}_nomirror_seed{seed}"
    stem, settings = ARMS[arm]
    trainer = trainer_named(base)
    if not (Path(trainer.output_folder) / "checkpoint_final.pth").is_file():
        trainer.run_training()
    os.environ["NNUNET_TOPO_FINETUNE_FROM"] = base
    trainer = trainer_named(f"nnUNetTrainer{stem}_{length}{settings}_finetune_nomirror_seed{seed}")
    trainer.run_training()
    trainer.perform_actual_validation()
    folder = Path(trainer.output_folder)
    logged = trainer.logger.get_checkpoint()
    return {
        "trainer": type(trainer).__name__,
        "loss": trainer.describe_loss(),
        "images": measured(folder / "validation"),
        "weight": [float(w) for w in logged.get("topology_weight", [])],
        "ratio": [float(r) for r in logged.get("topology_ratio", [])],
    }


def measured(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Returns the metrics of each image, as predicted and without small components."""
    from skimage.io import imread
    from skimage.measure import label

    from nnunet_topo.metrics import compute

    references = Path(os.environ["nnUNet_preprocessed"]) / DATASET / "gt_segmentations"  # noqa: SIM112
    result: dict[str, list[dict[str, float]]] = {"raw": [], "cleaned": []}
    for file in sorted(folder.glob("*.png")):
        reference = imread(references / file.name) > 0
        prediction = imread(file) > 0
        components = label(prediction, connectivity=2)
        large = np.bincount(components.ravel()) >= SMALLEST
        for kind, mask in {"raw": prediction, "cleaned": prediction & large[components]}.items():
            metrics = compute(mask, reference)
            metrics["topo_dice"] = 2 * (mask & reference).sum() / (mask.sum() + reference.sum())
            result[kind].append({key: float(metrics[key]) for key, _ in FIGURES.values()})
    return result


def table(records: Path) -> None:
    """Prints means per seed, and in how many images each arm is better than stock.

    There is no test: the images are both eyes of four children.
    """
    found = {
        (record["arm"], record["seed"]): record
        for record in map(json.loads, (f.read_text() for f in sorted(records.glob("*.json"))))
    }
    seeds = sorted({seed for _, seed in found})
    print("| arm | seed | " + " | ".join(f"{f}, raw" for f in FIGURES) + " | "
          + " | ".join(f"{f}, cleaned" for f in FIGURES) + " |")  # fmt: skip
    print("|---" * (2 + 2 * len(FIGURES)) + "|")
    for arm in ARMS:
        for seed in seeds:
            if (arm, seed) in found:
                images = found[arm, seed]["images"]
                means = [
                    f"{np.mean([image[key] for image in images[kind]]):.4g}"
                    for kind in ("raw", "cleaned")
                    for key, _ in FIGURES.values()
                ]
                print(f"| {arm} | {seed} | " + " | ".join(means) + " |")
    for arm in ARMS:
        common = [s for s in seeds if (arm, s) in found and ("stock", s) in found]
        if arm == "stock" or not common:
            continue
        for kind in ("raw", "cleaned"):
            for figure, (key, sign) in FIGURES.items():
                # Mean over seeds of each image.
                ours, stock = (
                    np.mean([[i[key] for i in found[a, s]["images"][kind]] for s in common], axis=0)
                    for a in (arm, "stock")
                )
                better = int((sign * (ours - stock) > 0).sum())
                print(
                    f"{arm} against stock, {kind}, seeds {common}: {figure} {stock.mean():.4g} -> "
                    f"{ours.mean():.4g}, better in {better} of {len(ours)} images"
                )


def main() -> None:
    """Trains what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("records", type=Path)
    parser.add_argument("-s", "--seeds", type=int, nargs="*", default=[1, 2])
    parser.add_argument("-a", "--arms", choices=ARMS, nargs="*", default=list(ARMS))
    parser.add_argument("-e", "--epochs", type=int, default=20)
    asked = parser.parse_args()
    asked.records.mkdir(parents=True, exist_ok=True)
    split()
    for seed in asked.seeds:
        for arm in asked.arms:
            file = asked.records / f"{arm.replace(' ', '_')}_{seed}.json"
            if not file.is_file():
                with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                    record = train_arm(arm, seed, asked.epochs)
                file.write_text(json.dumps({"arm": arm, "seed": seed, **record}))
    table(asked.records)


if __name__ == "__main__":
    main()
