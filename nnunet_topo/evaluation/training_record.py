"""What the final checkpoint records about a training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_topo.files import OWN_KEY
from nnunet_topo.messages import with_type

CHECKPOINT = "checkpoint_final.pth"
NNUNET_ITERATIONS = 250  # of an epoch
_KINDS = "?bBhHiIlLqQefd"  # types of numpy


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What the final checkpoint of a fold records.

    Attributes:
        curves: what nnU-Net logged at every epoch; epochs without a value are NaN.
        prior: Betti prior of one of our trainers, by channel, as in topology.json.
        finetuned_from: checkpoint that it started from, "" if it started from scratch.
        spatial: whether patches were rotated and scaled.
        epochs: number trained, 0 if unknown.
        iterations: of each epoch.
    """

    curves: dict[str, list[float]]
    prior: dict[int, list[Any]]
    finetuned_from: str
    spatial: bool
    epochs: int = 0
    iterations: int = NNUNET_ITERATIONS


def read_training(folder: Path) -> TrainingRecord | None:
    """Returns what the final checkpoint of a fold records, None without one.

    Nothing in the checkpoint is executed: comparing the results of others runs no code of theirs.
    Curves that are lists of lists, such as the Dice of every class, are left out, and so are
    priors of unions.

    Raises:
        ValueError: the checkpoint is damaged, or has objects that only code could restore.
    """
    import numpy as np
    import torch

    file = folder / CHECKPOINT
    if not file.is_file():
        return None
    # Numbers of numpy, which nnU-Net logs.
    safe = [np.float64(0).__reduce__()[0], np.dtype, *{type(np.dtype(kind)) for kind in _KINDS}]
    try:
        with torch.serialization.safe_globals(safe):
            checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(checkpoint, dict):
            raise TypeError(f"it holds a {type(checkpoint).__name__}")
        return _from_checkpoint(checkpoint)
    except Exception as error:  # of whatever damaged bytes are taken for
        raise ValueError(
            f"{file} cannot be read without running code from it: {with_type(error)}"
        ) from None


def _from_checkpoint(checkpoint: dict[str, Any]) -> TrainingRecord:
    curves = {}
    for key, values in checkpoint.get("logging", {}).items():
        try:
            curves[key] = [float(value) for value in values]
        except (TypeError, ValueError):
            continue
    own = checkpoint.get(OWN_KEY) or {}
    prior = {
        int(channel): numbers
        for channel, numbers in own.get("prior", {}).items()
        if channel.isdigit() and isinstance(numbers, list)
    }
    iterations = (own.get("settings") or {}).get("iters") or NNUNET_ITERATIONS
    epochs = int(checkpoint.get("current_epoch") or len(curves.get("train_losses", ())))
    origin = own.get("finetuned_from", "")
    return TrainingRecord(curves, prior, origin, own.get("spatial", True), epochs, iterations)
