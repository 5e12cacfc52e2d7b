"""Which samples of nnU-Net's augmented batches a topology term takes, and whether they are intact.

Usage: python term_augmentation.py [STEPS]    after losses.sh, section 0; about 2 minutes

Trains STEPS steps (default 100) on each data set. Whatever enters the term is compared with the
label map of the case, cut out at the place that nnU-Net's loader drew: the Betti numbers must be
equal. What is left out is shown beside it.
"""

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from losses import DATASETS, PLANS, _preprocessed

P_SPATIAL = 1 - 0.8 * 0.8  # nnU-Net rotates with probability 0.2, and scales with 0.2


def main(steps: int) -> None:
    for dataset in DATASETS:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            seen = watched_training(dataset, steps)
        report(dataset, steps, *seen)


def watched_training(dataset: str, steps: int):
    """Returns labels of each step, Betti numbers of what entered the term, left out, and crops."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    identifier, configuration, *_ = DATASETS[dataset]
    name = f"nnUNetTrainerWasserstein_1epochs_{steps}iters_weight0.1_from0_seed1"
    device = torch.device("cpu")
    trainer = get_trainer_from_args(identifier, configuration, 0, name, PLANS, False, device=device)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    places, entered = [], []
    loader = trainer.dataloader_train.data_loader
    get_bbox = loader.get_bbox
    loader.get_bbox = lambda *args: places.append(get_bbox(*args)) or places[-1]
    begin = trainer.loss.term.begin
    trainer.loss.term.begin = lambda probability, target, mask=None: (
        entered.append(target) or begin(probability, target, mask)
    )
    kept, left_out, kept_crops, left_out_crops, taken = [], [], [], [], []
    classes = trainer.label_manager.foreground_labels
    for _ in range(steps):
        places.clear()
        entered.clear()
        batch = next(trainer.dataloader_train)
        trainer.train_step(batch)
        *labels, notes = batch["target"]
        crops = [
            betti(crop(loader, key, place, labels[0].shape[2:]), classes)
            for key, place in zip(batch["keys"], places, strict=True)
        ]
        taken.append(int(notes.sum()))
        for target in entered:
            assert len(target) == taken[-1]
            kept += [[numbers(part.numpy()) for part in sample] for sample in target]
        intact = notes.flatten().tolist()
        kept_crops += [b for b, whole in zip(crops, intact, strict=True) if whole]
        left_out_crops += [b for b, whole in zip(crops, intact, strict=True) if not whole]
        left_out += [betti(map_[0].numpy(), classes) for map_ in labels[0][~notes.flatten()]]
    return taken, kept, kept_crops, left_out, left_out_crops


def crop(loader, case, place, shape):
    """Returns the label map of a case in the middle of the place that was drawn, 0 outside."""
    label_map = np.asarray(loader._data.load_case(case)[1])[0]
    lower, upper = (np.array(corner) for corner in place)
    if len(shape) == 2:
        label_map, lower, upper = label_map[0], lower[1:], upper[1:]
    # As SpatialTransform crops where it does nothing else.
    lower = lower + (upper - lower) // 2 - np.array(shape) // 2
    margin = max(shape) * 2
    padded = np.pad(label_map, margin)
    return padded[
        tuple(slice(a + margin, a + margin + n) for a, n in zip(lower, shape, strict=True))
    ]


def betti(label_map, classes):
    return [numbers(label_map == label) for label in classes]


def numbers(mask):
    from nnunet_topo.topology import betti_numbers

    return betti_numbers(np.ascontiguousarray(mask), connectivity="full")


def report(dataset, steps, taken, kept, kept_crops, left_out, left_out_crops) -> None:
    drawn = len(kept) + len(left_out)
    equal = sum(a == b for a, b in zip(kept, kept_crops, strict=True))
    batch = drawn // steps
    print(
        f"{dataset}: {drawn} samples in {steps} steps of {batch}; the term took {len(kept)} "
        f"({len(kept) / drawn:.1%}, expected {1 - P_SPATIAL:.0%})"
    )
    print(f"    with the Betti numbers of the original at the same place: {equal} of {len(kept)}")
    changed = sum(a != b for a, b in zip(left_out, left_out_crops, strict=True))
    means = [np.mean([sum(b[0] for b in sample) for sample in of]) for of in (
        kept, kept_crops, left_out, left_out_crops)]  # fmt: skip
    print(
        f"    components: taken {means[0]:.1f}, originals there {means[1]:.1f}; left out "
        f"{means[2]:.1f}, originals there {means[3]:.1f} ({changed} of {len(left_out)} differ)"
    )
    none = taken.count(0)
    own = json.loads((_preprocessed(dataset) / "nnUNetPlans.json").read_text())["configurations"]
    size = own[DATASETS[dataset][1]]["batch_size"]
    print(
        f"    steps without any sample: {none} of {steps}; with nnU-Net's own batch of {size} one "
        f"of {1 / P_SPATIAL**size:,.0f}"
    )
    assert equal == len(kept) == len(kept_crops)
    assert abs(len(kept) / drawn - (1 - P_SPATIAL)) < 4 * np.sqrt(P_SPATIAL / drawn)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
