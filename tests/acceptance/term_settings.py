"""The papers' settings: two iterations of each name in docs/losses.md, and Betti errors in windows.

Usage: python -m tests.acceptance.term_settings FOLDER [names] [windows]    about 10 minutes

FOLDER is empty, or holds the tiny data set of the tests from a former run. `windows` needs
Dataset101_ChaseDB1 under $NNUNET_TOPO_DATA. Without a part both are run.
"""

import contextlib
import io
import os
import sys
from pathlib import Path
from time import process_time

import numpy as np
import torch
from nnunetv2.run.run_training import get_trainer_from_args

from benchmarks.evaluation import LABELS, disturbed, trunk
from nnunet_topo.metrics import Windows, compare_label_maps, windows
from tests.conftest import (
    make_tiny_dataset,
    make_unlabelled_images,
    preprocess_unlabelled,
)
from tests.trainers import names_of_the_papers, steps_at_the_start_of_the_term, weights

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = ("3d_fullres", "2d")
SEEDS = 10


def main(folder: Path, parts: list[str]) -> None:
    """Prints the parts that are asked for."""
    torch.set_num_threads(1)
    if "names" in parts:
        train_each_name(folder)
    if "windows" in parts:
        measure_windows(Path(os.environ.get("NNUNET_TOPO_DATA", ROOT.parent / "shared/data")))


def train_each_name(folder: Path) -> None:
    """Prints a row for each name and configuration, and fails if a loss is not finite."""
    folders = {f"nnUNet_{n}": str(folder / n) for n in ("raw", "preprocessed", "results")}
    for path in folders.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    os.environ.update(folders)
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = make_tiny_dataset(folders)
        preprocess_unlabelled(make_unlabelled_images(folders))
    names = names_of_the_papers()
    print("| name | configuration | epoch | losses | term | weight | optimizer, learning rate |")
    print("|---" * 7 + "|")
    for name in names:
        for configuration in CONFIGURATIONS:
            if "planes" not in name or configuration != "2d":  # an image is its own projection
                print(
                    f"| {name} | {configuration} | {two_iterations(dataset, name, configuration)} |"
                )
    print(f"{len(names)} names, each for two iterations, all losses and weights finite")


def two_iterations(dataset: str, name: str, configuration: str) -> str:
    """Returns the other cells of a row."""
    device = torch.device("cpu")
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = get_trainer_from_args(
            dataset, configuration, 0, name, "nnUNetPlansTiny", False, device=device
        )
        results = steps_at_the_start_of_the_term(trainer)
    losses = [float(result["loss"]) for result in results]
    terms = [float(r["topology_term"]) for r in results if "topology_term" in r]
    if not (np.isfinite([*losses, *terms]).all() and torch.isfinite(weights(trainer)).all()):
        raise RuntimeError(f"{name}: the loss or a weight is not finite: {losses}, {terms}")
    has_term = trainer._schedule is not None
    if has_term and not len(terms) == 2:
        raise RuntimeError(f"{name}: the term was not computed")
    optimizer = trainer.optimizer
    cells = [
        str(trainer.current_epoch),
        ", ".join(f"{loss:.4g}" for loss in losses),
        ", ".join(f"{term:.4g}" for term in terms),
        f"{results[-1]['topology_weight']:g}" if has_term else "",
        f"{type(optimizer).__name__}, {optimizer.param_groups[0]['lr']:.3g}",
    ]
    return " | ".join(cells)


def measure_windows(data: Path) -> None:
    """Prints value, spread over seeds and CPU time of Betti errors in windows."""
    from skimage.io import imread

    references = sorted((data / "Dataset101_ChaseDB1/labelsTr").glob("*.png"))
    photographs = [
        (imread(file.parents[1] / "labels2ndTr" / file.name), imread(file)) for file in references
    ]
    reference = trunk(np.random.default_rng(0))
    ct = [(disturbed(reference, np.random.default_rng(1)), reference)]
    compare_label_maps(*photographs[0], [1], windows=Windows(9, 1))
    compare_label_maps(*ct[0], [1], windows=Windows(9, 1))  # which compiles
    for title, pairs, labels in (
        (f"ChaseDB1, {len(photographs)} images", photographs, [1]),
        (f"drawn CT, {LABELS} labels", ct, list(range(1, LABELS + 1))),
    ):
        without = timed(pairs, labels, None)[1]
        for number in (100, 1000):
            values, seconds = timed(pairs, labels, Windows(65, number))
            of_seeds = [values]
            for seed in range(1, SEEDS if pairs is photographs else 1):
                windows._SEED = seed
                of_seeds.append(timed(pairs, labels, Windows(65, number))[0])
            windows._SEED = 0
            spread = ""
            if len(of_seeds) > 1:
                of_mean = np.std(np.mean(of_seeds, axis=1), ddof=1)
                spread = f"{of_mean:.3f}; {np.std(of_seeds, axis=0, ddof=1).mean():.3f}"
            print(
                f"| {title} | {number} | {np.mean(values):.3f} | {spread} | "
                f"{without:.2f} s; {seconds:.2f} s |"
            )


def timed(
    pairs: list[tuple[np.ndarray, np.ndarray]], labels: list[int], chosen: Windows | None
) -> tuple[list[float], float]:
    """Returns the value of each image, mean over labels, and the CPU seconds of an image."""
    began, values = process_time(), []
    for prediction, reference in pairs:
        metrics = compare_label_maps(prediction, reference, labels, windows=chosen)
        of_labels = [of.get("topo_betti_error_windows", np.nan) for of in metrics.values()]
        values.append(float(np.mean(of_labels)))
    return values, (process_time() - began) / len(pairs)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:] or ["names", "windows"])
