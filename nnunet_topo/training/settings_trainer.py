"""A mixin that gives nnU-Net's trainer the settings in its name, with or without a topology term.

The methods are in the order in which nnU-Net calls them.
"""

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

import nnunet_topo
from nnunet_topo.locks import hold, release
from nnunet_topo.training import checkpoints, checks, splits
from nnunet_topo.training.augmentation import restrict_transforms
from nnunet_topo.training.context import TrainingContext
from nnunet_topo.training.divergence import DivergenceGuard, describe_cause
from nnunet_topo.training.optimizers import check_stages, chosen_optimizer
from nnunet_topo.training.ranks import Ranks
from nnunet_topo.training.seeding import seed_training
from nnunet_topo.training.settings import Settings
from nnunet_topo.training.starting_weights import StartingWeights


class SettingsTrainerMixin(nnUNetTrainer):
    """Adds settings, checkpoints that record them, fine-tuning, and a stop at the first NaN."""

    settings: ClassVar[Settings] = Settings()
    stem: ClassVar[str] = ""  # name without settings, "" if the trainer takes none

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 # nnU-Net's own signature
    ) -> None:
        """Takes the arguments of nnU-Net's trainer."""
        name = type(self).__name__
        checks.check_bases(type(self), SettingsTrainerMixin)
        self._resumes = bool(plans.get("continue_training"))  # nnU-Net removes this key
        checks.check_fold_folder(
            checks.fold_folder(name, plans, configuration, fold),
            self.stem or name,
            finetune=self.settings.finetune,
            resumes=self._resumes,
        )
        super().__init__(plans, configuration, fold, dataset_json, device)
        for attribute, value in self.settings.nnunet_attributes().items():
            setattr(self, attribute, value)
        self.topology_settings: dict[str, Any] = {}  # for nnU-Net's debug.json
        self._spatial = not self.settings.nospatial  # whether patches are rotated and scaled
        self._only_validates = False
        self._iteration = 0
        self._started_from = StartingWeights()
        self._guard = DivergenceGuard(self._describe_cause, str(self.output_folder))

    # -- before the first epoch --------------------------------------------------------------

    def initialize(self) -> None:
        """Builds network, optimizer and loss as nnU-Net does, after seeding."""
        self._seed(None)
        super().initialize()
        self._bare_network().register_load_state_dict_post_hook(self._started_from.note_loading)
        self.topology_settings = {
            "trainer": type(self).__name__,
            "nnunet_topo": nnunet_topo.__version__,
            "epochs": self.num_epochs,
            "iterations": self.num_iterations_per_epoch,
            "seed": self.settings.seed,
            "optimizer": type(self.optimizer).__name__,
            "lr_scheduler": type(self.lr_scheduler).__name__,
        }

    def configure_optimizers(self, *stage):
        """Returns nnU-Net's optimizer and schedule, or those that the settings choose.

        nnU-Net's trainers with a warm-up call this once for each stage.

        Raises:
            NotImplementedError: the settings choose an optimizer or a schedule, but the trainer has
                stages.
        """
        if self.is_ddp and not self.enable_deep_supervision:
            self._freeze_unused_heads()
        optimizer, lr_scheduler = super().configure_optimizers(*stage)
        base = checkpoints.portable_trainer_name(type(self))
        check_stages(self.settings, stage, trainer=type(self).__name__, base=base)
        optimizer, lr_scheduler = chosen_optimizer(
            self.settings,
            optimizer,
            lr_scheduler,
            weights=self.network.parameters(),
            lr=self.initial_lr,
            weight_decay=self.weight_decay,
            epochs=self.num_epochs,
        )
        if self.grad_scaler is None:  # a gradient scaler skips steps that are not finite
            self._guard.guard(optimizer, self._place)
        return optimizer, lr_scheduler

    def on_train_start(self) -> None:
        """Starts as nnU-Net does. With finetune, it loads the weights of the stock training.

        Raises:
            RuntimeError: other weights were already loaded, predictions of the first stage of a
                cascade are missing, or the trainer was made for a validation.
            ValueError: another process trains this fold.
        """
        if self._only_validates:  # which has no topology term
            raise RuntimeError(
                f"{type(self).__name__}: load_checkpoint prepares a trainer that was made without "
                "continue_training=True for a validation only; make it with that to train on"
            )
        if self.local_rank == 0:
            hold(Path(self.output_folder), f"trains {type(self).__name__}")
            weakref.finalize(self, release, Path(self.output_folder))
            checkpoints.remove_unfinished(Path(self.output_folder))
        if self.is_cascaded:
            folder = Path(str(self.folder_with_segs_from_previous_stage))
            cases = {case for part in self.do_split() for case in part}
            checks.check_previous_stage(
                folder,
                cases,
                trainer=type(self).__name__,
                configuration=self.configuration_name,
                previous=str(self.configuration_manager.previous_stage_name),
                fold=self.fold,
            )
        if self.settings.finetune and not self._started_from.resumed:
            if not self.was_initialized:
                self.initialize()
            source = self._started_from.load_stock_training(
                Path(self.output_folder), self._bare_network()
            )
            self.topology_settings["finetuned_from"] = source
            self.print_to_log_file(f"finetune: all weights come from {source}")
        super().on_train_start()
        self._save_missing_best()

    def on_train_end(self) -> None:
        """Ends as nnU-Net does, and lets other processes train the fold again."""
        super().on_train_end()
        release(Path(self.output_folder))

    def do_split(self):
        """Returns nnU-Net's cases for training and validation.

        Raises:
            ValueError: splits_final.json is damaged.
        """
        if self.fold != "all":
            folder = str(self.preprocessed_dataset_folder)
            file = Path(str(self.preprocessed_dataset_folder_base)) / splits.FILE
            splits.make_splits(file, lambda: infer_dataset_class(folder).get_identifiers(folder))
        return super().do_split()

    def get_dataloaders(self):
        """Returns nnU-Net's data loaders, after seeding."""
        self._seed(self.current_epoch)
        return super().get_dataloaders()

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802
        """Returns nnU-Net's augmentation settings, without mirroring or margins if forbidden."""
        rotation, in_slices, patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if self.settings.nomirror:
            mirror_axes = self.inference_allowed_mirroring_axes = None
        if not self._spatial:
            patch_size = list(self.configuration_manager.patch_size)  # no margin for rotation
        return rotation, in_slices, patch_size, mirror_axes

    def get_training_transforms(self, *args, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride] # nnU-Net's is static, and called through self
        """Returns nnU-Net's augmentation, without the parts that settings and seed forbid."""
        transforms = super().get_training_transforms(*args, **kwargs)
        seeded = self.settings.seed is not None
        restrict_transforms(transforms, spatial=self._spatial, seeded=seeded)
        return transforms

    # -- one epoch ---------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Starts counting iterations, and the random numbers of the epoch."""
        super().on_train_epoch_start()
        self._iteration = 0
        self._seed(self.current_epoch)

    def train_step(self, batch: dict) -> dict:
        """Takes a training step.

        Raises:
            FloatingPointError: the gradient is not finite. The weights were not changed.
        """
        with self._guard.step(batch):
            result = self.take_step(batch)
            self._guard.check_loss(result["loss"])
        self._iteration += 1
        return result

    def take_step(self, batch: dict) -> dict:
        """Takes nnU-Net's step."""
        return super().train_step(batch)

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Logs the loss as nnU-Net does.

        Raises:
            FloatingPointError: the loss was not finite in any iteration.
            TypeError: the steps were not ours.
        """
        checks.check_steps(type(self), self._iteration)
        super().on_train_epoch_end(train_outputs)
        losses = [float(np.mean(output["loss"])) for output in train_outputs]
        self._guard.check_epoch(self.current_epoch, losses)

    # -- checkpoints -------------------------------------------------------------------------

    def origin(self) -> checkpoints.Origin:
        """Returns what a checkpoint records of this training."""
        return checkpoints.Origin(
            trainer=type(self).__name__,
            settings=self.settings.given(),
            schedule={},
            finetuned_from=self._started_from.finetuned_from,
            spatial=self._spatial,
        )

    def resume(self, origin: checkpoints.Origin, checkpoint: str) -> None:
        """Restores what a checkpoint records of this training.

        Args:
            origin: that the checkpoint records.
            checkpoint: name for messages.
        """
        self._started_from.resumed = True
        self._started_from.finetuned_from = origin.finetuned_from

    def save_checkpoint(self, filename: str) -> None:
        """Writes nnU-Net's checkpoint in one step, under the name of nnU-Net's trainer.

        Raises:
            FloatingPointError: a weight is not finite; the earlier checkpoint is kept.
        """
        self._guard.check_weights(self._bare_network(), filename)
        written = Path(f"{filename}{checkpoints.UNFINISHED}")
        super().save_checkpoint(str(written))
        if self.local_rank or not written.is_file():  # nnU-Net may not have written one
            return
        name = checkpoints.portable_trainer_name(type(self))
        checkpoints.rewrite(written, Path(filename), name, self.origin())

    def load_checkpoint(  # pyright: ignore[reportIncompatibleMethodOverride] # nnU-Net uses both names
        self,
        checkpoint: dict | str | None = None,
        filename_or_checkpoint: dict | str | None = None,
    ) -> None:
        """Resumes from a checkpoint of the same trainer with the same settings and prior.

        A validation does not need the same prior.

        Args:
            checkpoint: file or content of the checkpoint, whichever nnU-Net passes.
            filename_or_checkpoint: the same argument, under its name in nnU-Net 2.8.

        Raises:
            RuntimeError: stock nnU-Net, another trainer, or the same one with other settings wrote
                the checkpoint, or the prior has changed since.
        """
        given = filename_or_checkpoint if checkpoint is None else checkpoint
        if given is None:
            raise TypeError("load_checkpoint takes a checkpoint")
        self._only_validates = not (self._resumes or self.was_initialized)
        source, content = ("the checkpoint", given) if isinstance(given, dict) else (given, None)
        origin = checkpoints.check_origin(
            source, type(self).__name__, self.settings.given(), content
        )
        super().load_checkpoint(given)
        self.resume(origin, source)

    # -- used by the methods above -----------------------------------------------------------

    def context(self) -> TrainingContext:
        """Returns what the modules of this room need to know about the training."""
        return TrainingContext(
            dataset_folder=Path(str(self.preprocessed_dataset_folder_base)),
            model_folder=Path(str(self.output_folder_base)),
            configuration=self.configuration_name,
            space=len(self.configuration_manager.patch_size),
            connectivity=self.settings.connectivity,
            plans=self.plans_manager,
            dataset_json=self.dataset_json,
            label_manager=self.label_manager,
            ranks=Ranks(self.local_rank, self.is_ddp),
            log=self.print_to_log_file,
        )

    def _seed(self, epoch: int | None) -> None:
        seed_training(self.settings.seed, epoch=epoch, rank=self.local_rank)

    def _save_missing_best(self) -> None:
        """Writes the checkpoint_best that a training has written after its checkpoint_latest.

        nnU-Net writes checkpoint_latest before it knows whether the epoch is the best one, so a
        training that resumes from it would keep a worse checkpoint_best.
        """
        best = checkpoints.best_of(self.logger.get_value("ema_fg_dice", step=None))
        if not self._resumes or best is None:
            return
        if self._best_ema is not None and not best > self._best_ema:
            return
        self._best_ema = best
        self.current_epoch -= 1  # nnU-Net adds 1 in the checkpoint
        self.save_checkpoint(str(Path(self.output_folder) / checkpoints.BEST))
        self.current_epoch += 1

    def _bare_network(self) -> nn.Module:
        """Returns the network without wrappers of DDP and torch.compile."""
        network = self.network.module if self.is_ddp else self.network
        return getattr(network, "_orig_mod", network)

    def _freeze_unused_heads(self) -> None:
        """Takes the gradient from heads of coarse scales, for which DDP would wait in vain."""
        network = self.network  # DDP wraps it later
        decoder = getattr(getattr(network, "_orig_mod", network), "decoder", None)
        for head in list(getattr(decoder, "seg_layers", []))[:-1]:
            head.requires_grad_(False)

    def _place(self) -> str:
        """Returns the current step for messages."""
        return f"epoch {self.current_epoch}, iteration {self._iteration}"

    def _describe_cause(self, batch: Mapping[str, Any] | None) -> str:
        """Returns why a step with this batch is not finite."""
        pretrained = getattr(self, "use_pretrained_weights", False)  # nnU-Net after 2.8
        adaptation = getattr(self, "adaptation_info", {}) if pretrained else None
        return describe_cause(
            self._bare_network(),
            batch,
            image_channels=self.context().image_channels,
            previous_stage=self.context().previous_stage,
            started_from=self._started_from.in_words(str(self.output_folder), adaptation),
            lr=self.initial_lr,
        )
