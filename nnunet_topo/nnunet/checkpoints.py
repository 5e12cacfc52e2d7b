"""Checkpoints that stock nnU-Net predicts with, and that only the right trainer resumes from."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import nnunet_topo

OWN_KEY = "nnunet_topo"
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote a checkpoint, in plain types.

    Attributes:
        trainer: full name, settings included.
        settings: what the name sets.
        schedule: state of the topology term's weight, empty without a term.
        prior: Betti numbers that the labels agree on, empty for a trainer that asks for none.
        version: of nnunet_topo.
    """

    trainer: str
    settings: dict[str, Any]
    schedule: dict[str, float]
    prior: dict[str, Any] = field(default_factory=dict)
    version: str = nnunet_topo.__version__


def portable_trainer_name(trainer: type) -> str:
    """Returns the name under which stock nnU-Net rebuilds the network of a trainer.

    It is the first class of the MRO inside nnunetv2, or the trainer's own name where the
    architecture is made outside nnunetv2.
    """
    for class_ in trainer.__mro__:
        inside = class_.__module__.partition(".")[0] == "nnunetv2"
        if inside:
            return class_.__name__
        if "build_network_architecture" in vars(class_):
            break
    return trainer.__name__


def rewrite(written: Path, destination: Path, trainer_name: str, origin: Origin) -> None:
    """Moves a checkpoint that nnU-Net wrote to its place, in one step, with our own key in it."""
    checkpoint = torch.load(written, map_location="cpu", weights_only=False)
    checkpoint["trainer_name"] = trainer_name
    checkpoint[OWN_KEY] = asdict(origin)
    torch.save(checkpoint, written)
    written.replace(destination)


def read_origin(checkpoint: Path) -> Origin | None:
    """Returns who wrote a checkpoint, None if it was not a trainer of ours."""
    own = torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True).get(OWN_KEY)
    return None if own is None else Origin(**own)


def check_origin(checkpoint: Path, trainer: str, settings: dict[str, Any]) -> Origin:
    """Returns who wrote a checkpoint if the trainer may go on from it.

    Raises:
        RuntimeError: it was written by stock nnU-Net or under another trainer or other settings.
    """
    origin = read_origin(checkpoint)
    if origin is None:
        raise RuntimeError(
            f"{checkpoint} was not written by {trainer}: it lacks the key {OWN_KEY!r}, so it comes "
            "from stock nnU-Net or another trainer. Continue it with the trainer that wrote it, or "
            "use it as a start with -pretrained_weights"
        )
    if (origin.trainer, origin.settings) != (trainer, settings):
        raise RuntimeError(
            f"{checkpoint} was written by {origin.trainer} with settings {origin.settings}, but "
            f"this is {trainer} with {settings}. Continue it with -tr {origin.trainer}, "
            "from the folder of that name"
        )
    return origin


def has_checkpoint(folder: Path) -> bool:
    """Returns whether nnU-Net could continue from the folder of a fold."""
    return any((folder / name).is_file() for name in _CHECKPOINTS)


def sibling_trainings(fold_folder: Path, stem: str) -> list[str]:
    """Returns the names under which the same fold was trained with other settings.

    Args:
        fold_folder: `.../<trainer>__<plans>__<configuration>/fold_<n>`.
        stem: the trainer's name without settings.
    """
    trainer, _, rest = fold_folder.parent.name.partition("__")
    siblings = []
    for folder in sorted(fold_folder.parent.parent.glob(f"{stem}*__{rest}")):
        name = folder.name.partition("__")[0]
        related = name == stem or name.startswith(f"{stem}_")
        if related and name != trainer and has_checkpoint(folder / fold_folder.name):
            siblings.append(name)
    return siblings
