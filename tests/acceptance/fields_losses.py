"""Skeleton Recall, clDice and SCNP beside their authors' code, and beside loops over voxels.

Usage: python -m tests.acceptance.fields_losses authors FOLDER | references

FOLDER holds checkouts of Skeleton-Recall, clDice and SCNP-SameClassNeighborPenalization; what is
missing there is not measured.
"""

import importlib.util
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nnunet_topo.losses import ClDiceLoss, SkeletonRecallLoss, least_confident_neighbours
from nnunet_topo.losses.skeleton_recall import tubes_of
from tests.losses import references as slow

INPUTS, TOLERANCE = 200, 1e-5


def drawn(seed: int, *, ignored: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns logits, a target of blocks and a mask of random shape, 2D and 3D in turn."""
    rng = np.random.default_rng(seed)
    sides = (6, 10) if ignored else (9, 24)  # those with ignored voxels are compared with loops
    space = rng.integers(*sides, 2) if seed % 2 else rng.integers(sides[0] // 2, sides[1] // 2, 3)
    shape = (rng.integers(1, 3), rng.integers(1, 3), *space)
    logits = torch.from_numpy(rng.normal(0, 3, shape))
    target = rng.uniform(size=shape) < 0.15
    for axis in range(2, len(shape)):
        target |= np.roll(target, 1, axis)
    mask = torch.from_numpy(rng.uniform(size=(shape[0], 1, *space)) < 0.7) if ignored else None
    return logits, torch.from_numpy(target), mask


def compared(name: str, ours: Callable, theirs: Callable, inputs: int = INPUTS) -> bool:
    """Prints the largest difference of values and of gradients at the logits."""
    worst = {"value": 0.0, "gradient": 0.0}
    for seed in range(inputs):
        results = []
        for loss in (ours, theirs):
            logits = drawn(seed)[0].requires_grad_()
            value = loss(logits, drawn(seed)[1], seed)
            weights = torch.from_numpy(np.random.default_rng(seed).normal(size=value.shape))
            (value * weights).sum().backward()
            results.append((value.detach(), logits.grad))
        for kind, (a, b) in zip(worst, zip(*results, strict=True), strict=True):
            worst[kind] = max(worst[kind], float((a - b).abs().max()))
    equal = max(worst.values()) <= TOLERANCE
    print(
        f"{name}: {inputs} inputs, largest difference of values {worst['value']:.2g}, of "
        f"gradients {worst['gradient']:.2g}{'' if equal else ' TOO LARGE'}"
    )
    return equal


def authors(folder: str) -> bool:
    """Prints how our values and gradients differ from those of the authors' code."""
    checks = {
        "Skeleton-Recall": skeleton_recall_of_its_authors,
        "clDice": cldice_of_its_authors,
        "SCNP-SameClassNeighborPenalization": scnp_of_its_authors,
    }
    equal = True
    for name, check in checks.items():
        if (Path(folder) / name).is_dir():
            equal &= check(Path(folder) / name)
        else:
            print(f"{name}: not measured, there is no checkout in {folder}")
    return equal


def skeleton_recall_of_its_authors(folder: Path) -> bool:
    """The published loss takes softmax outputs and a label map of the tubes, background first."""
    theirs = loaded(folder / "nnunetv2/training/loss/dice.py").SoftSkeletonRecallLoss

    def exclusive(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        labels = torch.where(target.any(1), target.int().argmax(1) + 1, 0)[:, None]
        background = torch.zeros_like(logits[:, :1])
        return torch.cat([background, logits], 1), labels

    def one_hot(labels: Tensor, classes: int) -> Tensor:
        return labels == torch.arange(1, classes + 1).view(1, -1, *[1] * (labels.ndim - 2))

    equal = True
    for over_batch in (False, True):

        def ours_(logits: Tensor, target: Tensor, _: int, over_batch: bool = over_batch) -> Tensor:
            full, labels = exclusive(logits, target)
            tubes = one_hot(labels, target.shape[1])
            probability = torch.softmax(full, 1)[:, 1:]
            loss = SkeletonRecallLoss(over_batch=over_batch)
            return loss(probability, tubes, tube=tubes) - 1

        def theirs_(
            logits: Tensor, target: Tensor, _: int, over_batch: bool = over_batch
        ) -> Tensor:
            full, labels = exclusive(logits, target)
            loss = theirs(
                apply_nonlin=lambda x: torch.softmax(x, 1),
                batch_dice=over_batch,
                do_bg=False,
                smooth=1e-5,
                ddp=False,
            )
            return loss(full, labels)

        title = f"Skeleton Recall - 1, {'over the batch' if over_batch else 'of each sample'}"
        equal &= compared(title, ours_, theirs_)
    transform = loaded(
        folder / "nnunetv2/training/data_augmentation/custom_transforms/skeletonization.py"
    ).SkeletonTransform()
    ours, published, both = 0, 0, 0
    for seed in range(INPUTS):
        union = drawn(seed)[1].any(1, keepdim=True)[:1]
        own = tubes_of(union)[0].bool()
        other = transform.apply({"segmentation": union[0].short()})["skel"].bool()
        ours, published = ours + int(own.sum()), published + int(other.sum())
        both += int((own & other).sum())
    print(
        f"tubes: {ours} voxels by exact thinning, {published} by the published skeletons, "
        f"{both} in both"
    )
    return equal


def cldice_of_its_authors(folder: Path) -> bool:
    """The published loss sums over channels, too: ours, a mean over them, is that of each."""
    package = types.ModuleType("published_cldice")
    package.__path__ = [str(folder / "cldice_loss/pytorch")]  # its files import one another
    sys.modules["published_cldice"] = package
    theirs = importlib.import_module("published_cldice.cldice").soft_cldice()
    loss = ClDiceLoss(over_batch=True)
    return compared(
        "clDice, 10 iterations",
        lambda logits, target, _: loss(torch.sigmoid(logits), target),
        lambda logits, target, _: torch.stack(
            [
                theirs(target[:, [c]].double(), torch.sigmoid(logits[:, [c]]))
                for c in range(target.shape[1])
            ]
        ).mean(),
    )


def scnp_of_its_authors(folder: Path) -> bool:
    """The published class stands before an example that is no code."""
    text = (folder / "SCNP/scnp_example.py").read_text()
    module = types.ModuleType("published_scnp")
    exec(re.split(r"#+ *v+ *Example", text)[0], module.__dict__)

    def windows(seed: int) -> int:
        return 3 if seed % 3 else 5

    return compared(
        "SCNP, windows of 3 and 5",
        lambda logits, target, seed: least_confident_neighbours(
            logits, target, window=windows(seed)
        ),
        lambda logits, target, seed: module.SCNP(f"{logits.ndim - 2}D", windows(seed))(
            logits, target.double()
        ),
    )


def loaded(file: Path) -> types.ModuleType:
    """Returns a module of another project, read from its file."""
    specification = importlib.util.spec_from_file_location(f"published_{file.stem}", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def references() -> bool:
    """Prints the largest difference from loops over voxels, on regions with ignored voxels."""
    worst = dict.fromkeys(("Skeleton Recall", "clDice", "clDice, exact skeleton", "SCNP"), 0.0)
    for seed in range(INPUTS):
        logits, target, mask = drawn(seed, ignored=True)
        assert mask is not None
        probability = torch.sigmoid(logits)
        given, arrays = (
            (probability, target, mask),
            [t.numpy() for t in (probability, target, mask)],
        )
        tubes = np.array([[slow.tube(c) for c in s] for s in (target & mask).numpy()])
        pairs = {
            "Skeleton Recall": (
                SkeletonRecallLoss()(*given),
                slow.skeleton_recall(arrays[0], tubes, arrays[2]),
            ),
            "SCNP": (
                least_confident_neighbours(logits, target, mask),
                slow.least_confident(logits.numpy(), arrays[1], arrays[2]),
            ),
        }
        for name, exact in (("clDice", False), ("clDice, exact skeleton", True)):
            loss = ClDiceLoss(iterations=2, exact=exact)
            pairs[name] = (loss(*given), slow.cldice(*arrays, iterations=2, exact=exact))
        for name, (ours, expected) in pairs.items():
            worst[name] = max(worst[name], float(np.abs(np.asarray(ours) - expected).max()))
    for name, difference in worst.items():
        print(f"{name}: {INPUTS} inputs of regions with ignored voxels, {difference:.2g}")
    return max(worst.values()) <= TOLERANCE


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(not {"authors": authors, "references": references}[sys.argv[1]](*sys.argv[2:]))
