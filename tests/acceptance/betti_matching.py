"""The parts of betti_matching.sh: python -m tests.acceptance.betti_matching PART [JSON]."""

import contextlib
import io
import json
import sys
from pathlib import Path
from time import process_time

import numpy as np

from nnunet_topo.topology import match_betti
from nnunet_topo.topology.betti_matching import match_betti_numbers
from tests.image_persistence import match, match_values
from tests.matching_cases import (
    against_authors,
    authors_module,
    both_against_authors,
    found,
    found_of_both,
    pair_without_ties,
    random_pair,
    two_images,
    two_images_without_ties,
    values,
    values_of_both,
)

CASES = 2000  # of each dimension
DIMENSIONS = [(ndim, k) for ndim in (2, 3) for k in range(ndim)]
CONNECTIVITIES = ("full", "face")
LIMIT_MB = 120
# Data set -> identifier, configuration, batch size, patch size.
DATASETS = {
    "Dataset004_Hippocampus": ("4", "3d_fullres", 4, [24, 32, 24]),
    "Dataset101_ChaseDB1": ("101", "2d", 6, [128, 128]),
    "Dataset103_TopoMortar": ("103", "2d", 6, [128, 128]),
}
PLANS = "nnUNetPlansBettiMatching"
TRAINING = "12epochs_20iters_nospatial_seed1"


def authors() -> None:
    """The same bars, and all of our matches, as the authors' code has."""
    module = authors_module()
    if module is None:
        print("not measured: the authors' code is not installed")
        return
    for target, images, compare in (
        ("mask", pair_without_ties, against_authors),
        ("grey target", two_images_without_ties, both_against_authors),
    ):
        for ndim, k in DIMENSIONS:
            compared, seed = [], 0
            while len(compared) < CASES:
                result = compare(module, *images(seed, ndim == 2), k)
                compared += [] if result is None else [result]
                seed += 1
            equal = sum(c.equal for c in compared)
            print(
                f"        {sum(c.matched for c in compared)} matches; the authors' code has "
                f"{sum(c.further for c in compared)} more, of classes that die in C before their "
                "birth in F or G"
            )
            text = f"{target}, {ndim}D, dimension {k}: equal in {equal} of {CASES} images"
            verdict(f"{text} without ties", equal == CASES, "all")


def algebra() -> None:
    """The same as image persistence by linear algebra over F2, in images with many ties."""
    for target, images, is_equal in (
        ("mask", random_pair, _equal_to_algebra),
        ("grey target", two_images, _both_equal_to_algebra),
    ):
        for ndim, k in DIMENSIONS:
            equal = 0
            for seed in range(CASES):
                shape = tuple(np.random.default_rng(seed).integers(2, 7 - ndim, ndim))
                equal += is_equal(*images(seed, shape), CONNECTIVITIES[seed % 2], k)
            text = f"{target}, {ndim}D, dimension {k}: equal in {equal} of {CASES} images"
            verdict(f"{text} with ties", equal == CASES, "all")


def _equal_to_algebra(p: np.ndarray, mask: np.ndarray, connectivity: str, k: int) -> bool:
    expected = match(p, mask, connectivity, k)
    bars, ended, matched = found(p, mask, connectivity, k)
    wanted = expected.by_birth if (p.ndim, k) == (3, 1) else expected.by_place
    return (
        values(bars, p) == values(expected.bars, p)
        and ended == expected.ended
        and values(matched, p) == values(wanted, p)
    )


def _both_equal_to_algebra(p: np.ndarray, target: np.ndarray, connectivity: str, k: int) -> bool:
    of_p, of_target, wanted = match_values(p, target, connectivity, k)
    bars, ended, matched = found_of_both(p, target, connectivity, k)
    return (
        values(bars, p) == values(of_p, p)
        and values(ended, target) == values(of_target, target)
        and values_of_both(matched, p, target) == values_of_both(wanted, p, target)
    )


def metric() -> None:
    """Two masks: how often the metric, which knows no order, has fewer matches."""
    fewer = more = compared = 0
    for seed in range(1500):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(4, 9, 2) if seed % 2 == 0 else rng.integers(3, 6, 3))
        mask = rng.random(shape) < rng.choice([0.3, 0.6, 0.8])
        other = np.where(rng.random(shape) < 0.15, ~mask, mask)
        for connectivity in CONNECTIVITIES:
            expected = match_betti_numbers(other, mask, connectivity=connectivity).matched
            result = match_betti(other.astype(float), mask, connectivity=connectivity)
            dimension = result.prediction.dimension[result.matched[:, 0]]
            difference = np.bincount(dimension, minlength=len(shape)) - expected
            fewer, more = fewer + (difference > 0).sum(), more + (difference < 0).sum()
            compared += len(shape)
    print(f"        the metric has fewer matches in {fewer} of {compared} comparisons")
    verdict(f"and more in {more}", more == 0, "none")


def descent() -> None:
    """Displaced rings, cut bars and noisy broken rings that descent repairs."""
    import torch

    from nnunet_topo.losses import BettiMatchingLoss, WassersteinLoss
    from tests.acceptance.term_matching import PEAKS, SHAPES, WIDTHS, _ring_repaired
    from tests.descent import PLANE, SPACE, broken_ring, cut_bar, repaired

    torch.set_num_threads(1)
    losses = {
        "matching in space": WassersteinLoss(clamp=0.01),
        "Betti matching": BettiMatchingLoss(clamp=0.01),
    }
    for name, loss in losses.items():
        counts = {}
        for peak in PEAKS:
            for width in WIDTHS:
                counts[f"displaced ring, width {width:g}, p {peak:g}"] = (
                    sum(
                        _ring_repaired("ring", SHAPES["ring"], width, peak, seed, loss)
                        for seed in range(10)
                    ),
                    10,
                    10,
                )
        for shape in (PLANE, SPACE):
            for error, trials, least in ((cut_bar, 10, 10), (broken_ring, 20, 18)):
                good = sum(repaired(error, shape, seed, loss) for seed in range(trials))
                counts[f"{error.__name__} {len(shape)}D"] = good, trials, least
        for what, (good, trials, least) in counts.items():
            text = f"{name}, {what}: repaired {good} of {trials}"
            if name == "Betti matching":
                verdict(text, good >= least, f"at least {least}")
            else:
                print(f"        {text}")


def speed(file: str) -> None:
    """What the benchmark took, beside plain persistence and the authors' code."""
    for comparison in _figures(file, "matching"):
        task, ratios = comparison["task"], comparison["ratios"]
        plain = 1 / ratios["plain persistence"]
        text = f"{task}: {comparison['timings'][0]['minimum'] * 1e3:.0f} ms, {plain:.2f} x plain"
        if task.endswith("clamp 0") and task.startswith(("128x128x128", "512x512")):
            verdict(text, plain <= 2, "at most 2")
        else:
            print(f"        {text}")
        if "authors" in ratios and task.startswith("128x128x128"):
            least = 15 if task.endswith("clamp 0") else 60
            text = f"{task}: the authors' code takes {ratios['authors']:.0f} times as long"
            verdict(text, ratios["authors"] >= least, f"at least {least}")


def memory(file: str) -> None:
    """Extra memory at 128^3."""
    for connectivity, peak in _figures(file, "matching_memory").items():
        verdict(f"{connectivity}: {peak:.0f} MB", peak < LIMIT_MB, f"under {LIMIT_MB} MB")


def cost() -> None:
    """Processor time of the term for maps in mid-training, beside matching in space."""
    import torch

    from benchmarks.inputs import probabilities, structures
    from nnunet_topo.losses import BettiMatchingLoss, WassersteinLoss

    torch.set_num_threads(1)
    for shape, samples, channels in (((24, 32, 24), 4, 2), ((128, 128), 6, 1)):
        seeds = range(samples * channels)
        maps = np.stack([probabilities(shape, "b", seed) for seed in seeds])
        masks = np.stack([structures(np.random.default_rng(seed), shape) for seed in seeds])
        p = torch.from_numpy(maps).unflatten(0, (samples, channels)).requires_grad_()
        target = torch.from_numpy(masks).unflatten(0, (samples, channels))
        least = {}
        for loss in (WassersteinLoss(clamp=0.01), BettiMatchingLoss(clamp=0.01)):
            times = []
            for _ in range(10):
                began = process_time()
                loss(p, target)
                times.append(1e3 * (process_time() - began))
            least[type(loss).__name__] = min(times)
        told = ", ".join(f"{name} {time:.1f} ms" for name, time in least.items())
        print(f"        {samples} x {channels} x {'x'.join(map(str, shape))}: {told}")


def step() -> None:
    """A training step of hippocampus at full size, in nnU-Net's own plans, with the term."""
    from benchmarks.train_step import steps

    pair = {"nnUNetTrainerBettiMatching": "nnUNetTrainer"}
    for comparison in steps("4", "3d_fullres", "nnUNetPlans", "cpu", 2, 5, pair):
        ours, control = comparison.timings
        ratio = ours.minimum / control.minimum
        text = f"step {ours.minimum:.2f} s, {ratio:.3f} times that of the stock trainer"
        verdict(text, ratio <= 1.06, "at most 1.06")


def trainings() -> None:
    """Small nets on three data sets: the term falls, and nothing is NaN."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    for dataset, (identifier, configuration, batch_size, patch_size) in DATASETS.items():
        _small_plans(dataset, configuration, batch_size, patch_size)
        for stem in ("BettiMatching", "Stock"):
            with contextlib.redirect_stdout(io.StringIO()):
                trainer = get_trainer_from_args(
                    identifier,
                    configuration,
                    0,
                    f"nnUNetTrainer{stem}_{TRAINING}",
                    PLANS,
                    False,
                    device=torch.device("cpu"),
                )
                trainer.run_training()
                trainer.perform_actual_validation()
            logged = trainer.logger.get_checkpoint()
            losses = logged["train_losses"]
            summary = Path(trainer.output_folder) / "validation/summary.json"
            means = json.loads(summary.read_text())["foreground_mean"]
            error = means.get("topo_betti_matching_error", np.nan)
            print(f"        {dataset[7:]} {stem}: Dice {means['Dice']:.4f}, Betti matching error "
                  f"{error:.2f}, loss {losses[0]:.3f} to {losses[-1]:.3f}")  # fmt: skip
            if stem == "BettiMatching":
                term = [t for t in logged["topology_term"] if np.isfinite(t)]
                text = f"{dataset[7:]}: term {term[0]:.3g} to {term[-1]:.3g}"
                text += f", weight {logged['topology_weight'][-1]:.3g}"
                text += f", {logged['topology_ms'][-1]:.0f} ms per iteration"
                good = np.isfinite(losses).all() and term[-1] < term[0] and losses[-1] < losses[0]
                verdict(text, good, "both fall")


def _small_plans(dataset: str, configuration: str, batch_size: int, patch_size: list[int]) -> None:
    """Writes plans of a small net, and a split with five cases to validate."""
    from nnunetv2.paths import nnUNet_preprocessed

    from tests.small_plans import shrink

    assert nnUNet_preprocessed is not None
    folder = Path(nnUNet_preprocessed) / dataset
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["plans_name"] = PLANS
    chosen = plans["configurations"][configuration]
    shrink(chosen, [16, 32, 64])
    chosen |= {"batch_size": batch_size, "patch_size": patch_size}
    norm = f"torch.nn.modules.batchnorm.BatchNorm{len(patch_size)}d"
    chosen["architecture"]["arch_kwargs"]["norm_op"] = norm
    (folder / f"{PLANS}.json").write_text(json.dumps(plans, indent=2))
    cases = sorted(f.name.split(".")[0] for f in (folder / "gt_segmentations").iterdir())
    fold = {"train": cases[:-5], "val": cases[-5:]}
    (folder / "splits_final.json").write_text(json.dumps([fold]))


def _figures(file: str, name: str):
    return json.loads(Path(file).read_text())["benchmarks"][name]


def verdict(text: str, good: bool, wanted: str) -> None:
    """Prints a figure and whether it is what was wanted."""
    global failed
    failed = failed or not good
    print(f"{'good  ' if good else 'MISSED'}  {text} (wanted: {wanted})", flush=True)


if __name__ == "__main__":
    failed = False
    PARTS = (authors, algebra, metric, descent, speed, memory, cost, step, trainings)
    {f.__name__: f for f in PARTS}[sys.argv[1]](*sys.argv[2:])
    sys.exit(1 if failed else 0)
