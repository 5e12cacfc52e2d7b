"""The weights that a training starts from: random, pretrained, or of a finished training."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnunet_topo.messages import one_line
from nnunet_topo.training.checkpoints import FINAL

FINETUNE_FROM = "NNUNET_TOPO_FINETUNE_FROM"


@dataclass(slots=True)
class StartingWeights:
    """The origin of the weights that a training started with.

    Attributes:
        given: whether weights were loaded into the network, as with -pretrained_weights.
        finetuned_from: checkpoint of the finished training that this one started from, "" if there
            was none.
        resumed: whether a checkpoint of this training was loaded.
    """

    given: bool = False
    finetuned_from: str = ""
    resumed: bool = False

    def note_loading(self, *_: object) -> None:
        """Notes that weights were loaded; a hook for `load_state_dict`."""
        self.given = True

    def load_stock_training(self, fold_folder: Path, network: nn.Module) -> str:
        """Loads all weights of the finished stock training and returns its checkpoint.

        Raises:
            RuntimeError: other weights were already loaded, or there is not exactly one such
                training.
        """
        if self.given:
            raise RuntimeError(
                "finetune starts from the finished stock training, but -pretrained_weights "
                "names another one: leave out one of the two. To start from another training "
                "with the same plans, configuration and fold, export "
                f"{FINETUNE_FROM}=<its trainer>"
            )
        source = find_stock_training(fold_folder)
        load_weights(source, network)
        self.finetuned_from = str(source)
        return self.finetuned_from

    def in_words(self, output_folder: str, adaptation: Mapping[str, Any] | None) -> str:
        """Returns the origin of the weights for messages, "" if they were random.

        Args:
            output_folder: of the training.
            adaptation: nnU-Net's description of pretrained weights (after 2.8), None without them.
        """
        if self.finetuned_from:
            return self.finetuned_from
        if self.resumed:
            return f"its checkpoint in {output_folder}"
        if adaptation is not None:
            return f"{adaptation.get('checkpoint_path')}, which the plans name"
        return "the file of -pretrained_weights" if self.given else ""


def find_stock_training(fold_folder: Path, planned: Iterable[str] = ()) -> Path:
    """Returns the final checkpoint of the stock training from which fine-tuning starts.

    It must have the same plans, configuration and fold, because a training of another fold has seen
    validation cases of this fold. nnU-Net's own nnUNetTrainer is preferred. Without it, there must
    be exactly one of these: nnU-Net's variants of another length (nnUNetTrainer_250epochs), the
    trainers of nnUNetv2_train_pretrained, and nnUNetTrainerStock with any settings. The environment
    variable NNUNET_TOPO_FINETUNE_FROM names another trainer, written as for -tr.

    Args:
        fold_folder: of the training that starts,
            `.../<trainer>__<plans>__<configuration>/fold_<n>`.
        planned: trainers that will have trained this fold before.

    Raises:
        RuntimeError: there is no such training, or there are several.
    """
    rest = fold_folder.parent.name.partition("__")[2]
    data_set, fold = fold_folder.parent.parent, fold_folder.name
    chosen = os.environ.get(FINETUNE_FROM) or None
    finished = {name: data_set / f"{name}__{rest}" / fold / FINAL for name in planned}
    finished |= {
        folder.name.partition("__")[0]: folder / fold / FINAL
        for folder in sorted(data_set.glob(f"*__{escape(rest)}"))
        if folder.name.partition("__")[2] == rest and (folder / fold / FINAL).is_file()
    }
    stock = [name for name in finished if chosen in (None, name) and (chosen or _is_stock(name))]
    if "nnUNetTrainer" in stock:
        stock = ["nnUNetTrainer"]
    if len(stock) == 1:
        return finished[stock[0]]
    if stock:
        raise RuntimeError(
            f"finetune: {fold} of {rest} was trained as {', '.join(stock)}. Choose the one to "
            f"start from with export {FINETUNE_FROM}={stock[0]}"
        )
    missing = data_set / f"{chosen or 'nnUNetTrainer'}__{rest}" / fold / FINAL
    raise RuntimeError(
        f"finetune: no finished training to start from: {missing} is missing. Train it first, with "
        "the same plans, configuration and fold. To start from a trainer that is not stock, "
        f"export {FINETUNE_FROM}=<its name>. Finished trainers: {', '.join(finished) or 'none'}"
    )


def _is_stock(name: str) -> bool:
    """Returns whether the name is a stock trainer of any length."""
    nnunets = re.fullmatch(r"nnUNetTrainer(_\d+epochs?)?|(Dynamic)?PretrainedTrainer", name)
    ours = re.fullmatch(r"nnUNetTrainerStock(_.*)?", name)
    return bool(nnunets or (ours and "_finetune" not in name))


def load_weights(checkpoint: Path, network: nn.Module) -> None:
    """Loads all weights of a checkpoint, including the segmentation heads.

    Raises:
        RuntimeError: the checkpoint contains another network.
    """
    content = torch.load(checkpoint, map_location="cpu", weights_only=False)
    try:
        network.load_state_dict(content["network_weights"])
    except RuntimeError as error:
        raise RuntimeError(
            f"finetune: the network in {checkpoint} differs from the one in the plans. Did the "
            f"plans change after its training? {one_line(error)}"
        ) from None
