"""Checkpoints that stock nnU-Net predicts with, and that only the right trainer resumes from."""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

import torch
from torch import nn

import nnunet_topo
from nnunet_topo.files import OWN_KEY

FINETUNE_FROM = "NNUNET_TOPO_FINETUNE_FROM"
_FINAL = "checkpoint_final.pth"
_CHECKPOINTS = (_FINAL, "checkpoint_latest.pth", "checkpoint_best.pth")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote a checkpoint, in plain types.

    Attributes:
        trainer: full name, settings included.
        settings: what the name sets.
        schedule: state of the topology term's weight, empty without a term.
        prior: Betti numbers of each channel and union, such as 0+1, empty for a trainer that asks
            for none.
        version: of nnunet_topo.
        finetuned_from: checkpoint that the training began from, "" if from nothing.
        spatial: whether patches were rotated and scaled.
    """

    trainer: str
    settings: dict[str, Any]
    schedule: dict[str, float]
    prior: dict[str, Any] = field(default_factory=dict)
    version: str = nnunet_topo.__version__
    finetuned_from: str = ""
    spatial: bool = True


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
    return _origin_of(torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True))


def _origin_of(content: Mapping[str, Any]) -> Origin | None:
    own = content.get(OWN_KEY)
    return None if own is None else Origin(**own)


def check_origin(
    checkpoint: str | Path,
    trainer: str,
    settings: dict[str, Any],
    content: Mapping[str, Any] | None = None,
) -> Origin:
    """Returns who wrote a checkpoint if the trainer may go on from it.

    Args:
        checkpoint: file, or what to call it in messages where its content is given.
        trainer: that wants to go on.
        settings: of that trainer.
        content: of the checkpoint, None to read it.

    Raises:
        RuntimeError: it was written by stock nnU-Net or under another trainer or other settings.
    """
    origin = read_origin(Path(checkpoint)) if content is None else _origin_of(content)
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


def check_prior(checkpoint: str | Path, origin: Origin, prior: dict[str, Any]) -> None:
    """Checks that a training goes on with the prior that it began with.

    Raises:
        RuntimeError: it does not.
    """
    if origin.prior != prior:
        raise RuntimeError(
            f"--c: {checkpoint} was trained with the prior {origin.prior}, but that of the data "
            f"set's topology.json is {prior} now (by channel). Put the former into it to continue, "
            "or leave out --c to train anew"
        )


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


def find_stock_training(fold_folder: Path) -> Path:
    """Returns the final checkpoint of the stock training that a trainer is to be tuned from.

    Of the same plans, configuration and fold: in another fold, cases of this one's validation were
    trained on. nnU-Net's own nnUNetTrainer counts first, then the only one of nnU-Net's variants of
    another length (nnUNetTrainer_250epochs), of those of nnUNetv2_train_pretrained and of
    nnUNetTrainerStock under any settings. The environment variable NNUNET_TOPO_FINETUNE_FROM names
    one, as -tr does.

    Args:
        fold_folder: `.../<trainer>__<plans>__<configuration>/fold_<n>`, of the trainer.

    Raises:
        RuntimeError: there is none, or several without a choice.
    """
    rest = fold_folder.parent.name.partition("__")[2]
    data_set, fold = fold_folder.parent.parent, fold_folder.name
    chosen = os.environ.get(FINETUNE_FROM)
    finished = {
        folder.name.partition("__")[0]: folder / fold / _FINAL
        for folder in sorted(data_set.glob(f"*__{escape(rest)}"))
        if folder.name.partition("__")[2] == rest and (folder / fold / _FINAL).is_file()
    }
    stock = [name for name in finished if chosen in (None, name) and (chosen or _is_stock(name))]
    if "nnUNetTrainer" in stock:
        stock = ["nnUNetTrainer"]
    if len(stock) == 1:
        return finished[stock[0]]
    if stock:
        raise RuntimeError(
            f"finetune: {fold} of {rest} was trained as {', '.join(stock)}: name the one to begin "
            f"from, export {FINETUNE_FROM}={stock[0]}"
        )
    missing = data_set / f"{chosen or 'nnUNetTrainer'}__{rest}" / fold / _FINAL
    raise RuntimeError(
        f"finetune: no finished training to begin from: {missing} is missing. Train it first, with "
        "the same plans, configuration and fold. To begin from a trainer that is not stock, "
        f"export {FINETUNE_FROM}=<its name>; finished there: {', '.join(finished) or 'none'}"
    )


def _is_stock(name: str) -> bool:
    """Returns whether a trainer is nnU-Net's own, of any length."""
    of_nnunet = re.fullmatch(r"nnUNetTrainer(_\d+epochs?)?|(Dynamic)?PretrainedTrainer", name)
    ours = re.fullmatch(r"nnUNetTrainerStock(_.*)?", name)
    return bool(of_nnunet or (ours and "_finetune" not in name))


def load_weights(checkpoint: Path, network: nn.Module) -> None:
    """Loads all weights of a checkpoint, segmentation heads included.

    Raises:
        RuntimeError: the network is another one.
    """
    content = torch.load(checkpoint, map_location="cpu", weights_only=False)
    try:
        network.load_state_dict(content["network_weights"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise RuntimeError(
            f"finetune: {checkpoint} holds another network than the plans describe; were they "
            f"changed since it was trained? {reason}"
        ) from None
