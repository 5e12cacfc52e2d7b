"""Checkpoints that stock nnU-Net can predict with, and that only the same trainer can resume."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

import nnunet_topo
from nnunet_topo.files import OWN_KEY, put_in_place

FINAL = "checkpoint_final.pth"
BEST = "checkpoint_best.pth"
_CHECKPOINTS = (FINAL, "checkpoint_latest.pth", BEST)
UNFINISHED = ".part"
"""Ending of a checkpoint that is being written."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The training that wrote a checkpoint, in plain types.

    Attributes:
        trainer: name with settings.
        settings: that the name contains.
        schedule: state of the topology term's weight, empty without a term.
        prior: Betti numbers of each channel and each union, such as 0+1; empty for a trainer
            without priors.
        version: of nnunet_topo.
        finetuned_from: checkpoint of the finished training that this one started from, "" if there
            was none.
        spatial: whether patches were rotated and scaled.
        made_of: weights of the losses that stand beside the base loss, and the wanted ratio of the
            term, which another version may set otherwise; empty if an older one did not say.
        loss: that was minimised, in words.
    """

    trainer: str
    settings: dict[str, Any]
    schedule: dict[str, float]
    prior: dict[str, Any] = field(default_factory=dict)
    version: str = nnunet_topo.__version__
    finetuned_from: str = ""
    spatial: bool = True
    made_of: dict[str, float] = field(default_factory=dict)
    loss: str = ""


_EXAMPLE = Origin("", {}, {})


def portable_trainer_name(trainer: type) -> str:
    """Returns the name of a trainer with which stock nnU-Net can rebuild the network.

    This is the first class of the MRO that belongs to nnunetv2, without those that people have put
    there and that are made of ours. If a class before it builds the architecture, it is the
    trainer's own name.
    """
    for class_ in trainer.__mro__:
        packages = {base.__module__.partition(".")[0] for base in class_.__mro__}
        if class_.__module__.partition(".")[0] == "nnunetv2" and "nnunet_topo" not in packages:
            return class_.__name__
        if "build_network_architecture" in vars(class_):
            break
    return trainer.__name__


def rewrite(written: Path, destination: Path, trainer_name: str, origin: Origin) -> None:
    """Adds name and origin to a checkpoint of nnU-Net and moves it to its place in one step."""
    checkpoint = torch.load(written, map_location="cpu", weights_only=False)
    checkpoint["trainer_name"] = trainer_name
    checkpoint[OWN_KEY] = asdict(origin)
    torch.save(checkpoint, written)
    put_in_place(written, destination)


def remove_unfinished(folder: Path) -> None:
    """Removes what a training of this fold that was killed has left of its last checkpoint."""
    for file in folder.glob(f"checkpoint_*.pth{UNFINISHED}"):
        file.unlink(missing_ok=True)


def best_of(averages: Sequence[float]) -> float | None:
    """Returns the best of the moving averages of Dice, as nnU-Net chooses it; None of none."""
    best = None
    for average in averages:
        if best is None or average > best:
            best = average
    return best


def read_origin(checkpoint: Path) -> Origin | None:
    """Returns the training that wrote a checkpoint, None if none of our trainers did."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True)
    return _recorded_origin(checkpoint, content)


def _recorded_origin(checkpoint: str | Path, content: Mapping[str, Any]) -> Origin | None:
    """Returns what a checkpoint records; entries of a newer version are left out.

    Raises:
        RuntimeError: it records something else.
    """
    own = content.get(OWN_KEY)
    if own is None:
        return None
    try:
        known = {f.name: own[f.name] for f in fields(Origin) if f.name in own}
        origin = Origin(**known)
        as_declared = all(
            isinstance(value, type(getattr(_EXAMPLE, name))) for name, value in known.items()
        )
    except (TypeError, AttributeError):
        origin, as_declared = None, False
    if origin is None or not as_declared:
        raise RuntimeError(
            f"{checkpoint} has a key {OWN_KEY!r} that nnunet-topo {nnunet_topo.__version__} cannot "
            f"read. Did another version write it?"
        )
    return origin


def check_origin(
    checkpoint: str | Path,
    trainer: str,
    settings: dict[str, Any],
    content: Mapping[str, Any] | None = None,
) -> Origin:
    """Returns the training that wrote a checkpoint, after checking that a trainer may resume it.

    Args:
        checkpoint: file, or its name in messages if the content is given.
        trainer: name of the trainer that wants to resume.
        settings: of that trainer.
        content: of the checkpoint, None to read it.

    Raises:
        RuntimeError: stock nnU-Net, another trainer, or the same one with other settings wrote it.
    """
    origin = (
        read_origin(Path(checkpoint)) if content is None else _recorded_origin(checkpoint, content)
    )
    if origin is None:
        raise RuntimeError(
            f"{checkpoint} was not written by {trainer}: it has no key {OWN_KEY!r}, so it comes "
            "from stock nnU-Net or another trainer. Resume with the trainer that wrote it, or "
            "start from its weights with -pretrained_weights"
        )
    if (origin.trainer, origin.settings) != (trainer, settings):
        raise RuntimeError(
            f"{checkpoint} was written by {origin.trainer} with settings {origin.settings}, but "
            f"this is {trainer} with {settings}. Resume with -tr {origin.trainer}, from the folder "
            "of that name"
        )
    return origin


def check_prior(checkpoint: str | Path, origin: Origin, prior: dict[str, Any]) -> None:
    """Checks that a training resumes with the prior that it started with.

    Raises:
        RuntimeError: the prior has changed.
    """
    if origin.prior != prior:
        raise RuntimeError(
            f"--c: {checkpoint} was trained with the prior {origin.prior}, but the data set's "
            f"topology.json now says {prior} (by channel). To resume, write the former prior into "
            f"topology.json. {_instead_of_resuming(checkpoint)}"
        )


def check_losses(checkpoint: str | Path, origin: Origin, made_of: dict[str, float]) -> None:
    """Checks that a training resumes with the losses that it started with.

    Raises:
        RuntimeError: the trainer is made of others in this version of the package.
    """
    if origin.made_of and origin.made_of != made_of:
        raise RuntimeError(
            f"--c: {checkpoint} was trained with {origin.made_of} by nnunet-topo {origin.version}, "
            f"and {origin.trainer} of version {nnunet_topo.__version__} is made of {made_of}. "
            f"Resume with the former version. {_instead_of_resuming(checkpoint)}"
        )


def _instead_of_resuming(checkpoint: str | Path) -> str:
    """Returns what else to do, in words; a new training would replace the finished one."""
    if Path(checkpoint).name == FINAL:
        return "This training is finished: --val in place of --c validates it as it is"
    return "To start a new training, leave out --c"


def has_checkpoint(folder: Path) -> bool:
    """Returns whether the folder of a fold contains a checkpoint that nnU-Net can resume from."""
    return any((folder / name).is_file() for name in _CHECKPOINTS)


def sibling_trainings(fold_folder: Path, stem: str) -> list[str]:
    """Returns the names of trainings of the same trainer and fold with other settings.

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
