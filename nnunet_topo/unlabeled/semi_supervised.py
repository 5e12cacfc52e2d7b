"""Training with unlabelled images, of which we only know the topology.

Clough, Byrne, Oksuz, Zimmer, Schnabel, King: A Topological Loss Function for Deep-Learning based
Image Segmentation using Persistent Homology. IEEE Transactions on Pattern Analysis and Machine
Intelligence 2020.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.helpers import dummy_context
from numpy.typing import NDArray
from torch import Tensor

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.priors.topology_json import FILE
from nnunet_topo.training.loss import StepRecord, TopologyAwareLoss
from nnunet_topo.training.priors_of_training import TrainingPriors
from nnunet_topo.training.progress import LOGGED
from nnunet_topo.training.scales import as_tensor, finest, replace_finest
from nnunet_topo.training.trainer import TopologyTrainerMixin
from nnunet_topo.unlabeled.batches import (
    UnlabelledDataLoader,
    centres_of_objects,
    end_workers,
    endless_batches,
    seed_batches,
)
from nnunet_topo.unlabeled.check import check_unlabeled
from nnunet_topo.unlabeled.record import digest_of_plan, unlabeled_folder


class LabelledAndUnlabelledLoss(TopologyAwareLoss):
    """Returns the base loss of a labelled batch + the weighted term of an unlabelled one (eq. 6).

    Attributes:
        of_unlabelled: weighted term of an unlabelled batch, added to the next loss.
    """

    of_unlabelled: Tensor | None = None

    @property
    def needs_intact_labels(self) -> bool:
        """Returns False: the term sees no label."""
        return False

    def forward(self, output: Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        """Returns the loss; output and target are those of the labelled batch."""
        if not torch.is_grad_enabled():
            return as_tensor(self.base(output, target), output)
        output = replace_finest(output, self.record.watch(finest(output), "base_gradient"))
        base = as_tensor(self.base(output, target), output)
        self.record.base = float(base.detach())
        return base if self.of_unlabelled is None else base + self.of_unlabelled


class SemiSupervisedTrainerMixin(TopologyTrainerMixin):
    """Adds unlabelled batches, on which the topology term works, to an nnU-Net trainer.

    The training is supervised until the term starts. From then on each iteration takes a labelled
    batch for nnU-Net's loss, and an unlabelled one of the same size for weight * term. The
    optimizer makes one step with the sum of their gradients, which is the gradient of eq. 6. The
    paper makes two steps. With one step, learning rate, weight decay and momentum act as often as
    in the control.
    """

    topology_loss = LabelledAndUnlabelledLoss
    logged: ClassVar[Mapping[str, str]] = {**LOGGED, "topology_used": "share of objects used"}
    _unlabelled: Iterator[dict] | None = None  # batches without labels
    _augmentation: tuple

    def take_priors(self) -> TrainingPriors:
        """Returns the priors of the data set; classes without a prior are ignored.

        Raises:
            RuntimeError: no class has a prior.
        """
        priors = super().take_priors()
        if not priors.channels:
            file = self.context().dataset_folder / FILE
            raise RuntimeError(
                f"{type(self).__name__}: no class has a topological prior in {file}, and without "
                "one unlabelled images cannot be used. `nnunet-topo plan` shows the Betti numbers "
                "of the labels; edit the file if you know better"
            )
        return priors

    def initialize(self) -> None:
        """Builds what the training needs, as in any trainer.

        Raises:
            NotImplementedError: the configuration is the second stage of a cascade.
        """
        if self.is_cascaded:
            raise NotImplementedError(
                f"{type(self).__name__}: unlabelled images have no segmentation of a previous "
                f"stage, which {self.configuration_name} needs; train its first stage instead"
            )
        super().initialize()

    # -- unlabelled batches ------------------------------------------------------------------

    def get_dataloaders(self):
        """Returns nnU-Net's loaders, and makes one of the unlabelled images.

        Raises:
            RuntimeError: there are no unlabelled images, or they cannot be used.
        """
        self.end_unlabelled()
        if self._schedule is None or not self._schedule.is_on:
            return super().get_dataloaders()
        folder = unlabeled_folder(Path(self.preprocessed_dataset_folder))
        if self.dataset_class is None:
            self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        labelled = self.dataset_class.get_identifiers(self.preprocessed_dataset_folder)
        plan = digest_of_plan(self.plans_manager, self.configuration_manager)
        cases = check_unlabeled(folder, set(labelled), plan)
        loaders = super().get_dataloaders()
        loader = self._unlabelled_loader(folder, cases)
        self._unlabelled = endless_batches(loader, pin_memory=self.device.type == "cuda")
        self.print_to_log_file(f"topology: {len(cases)} unlabelled images in {folder}")
        return loaders

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802
        """Returns nnU-Net's augmentation settings, and keeps them for the unlabelled images."""
        self._augmentation = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        return self._augmentation

    def _unlabelled_loader(self, folder: Path, cases: list[str]) -> UnlabelledDataLoader:
        """Returns a loader of unlabelled images with nnU-Net's augmentation."""
        patch_size = self.configuration_manager.patch_size
        rotation, in_slices, initial_patch_size, mirror_axes = self._augmentation
        transforms = self.get_training_transforms(
            patch_size,
            rotation,
            None,
            mirror_axes,
            in_slices,
            use_mask_for_norm=self.configuration_manager.use_mask_for_norm,
        )
        return UnlabelledDataLoader(
            infer_dataset_class(str(folder))(str(folder), cases),
            self.batch_size,
            initial_patch_size,
            patch_size,
            self.label_manager,
            transforms=transforms,
            centres=self._centres_of_objects(),
        )

    def _centres_of_objects(self) -> NDArray[np.float64]:
        """Returns where the labelled objects with a prior are, see `UnlabelledDataLoader`."""
        assert self._topology is not None
        manager = self.label_manager
        classes = manager.foreground_regions if manager.has_regions else manager.foreground_labels
        assert classes is not None
        parts = [*((channel,) for channel in range(len(classes))), *self._topology.unions]
        term = self._topology.term
        channels = term.priors if isinstance(term, BettiPriorLoss) else range(len(parts))
        keys = {classes[member] for channel in channels for member in parts[channel]}
        cases, _ = self.do_split()
        dataset = self.dataset_class(self.preprocessed_dataset_folder, cases)
        in_slices = len(self.configuration_manager.patch_size) == 2
        return centres_of_objects(dataset, cases, keys, in_slices=in_slices)

    def end_unlabelled(self) -> None:
        """Ends the processes that augment unlabelled images."""
        end_workers(self._unlabelled)
        self._unlabelled = None

    def run_training(self) -> None:
        """Trains; the worker processes also end if the training fails."""
        try:
            super().run_training()
        finally:
            self.end_unlabelled()

    # -- one iteration -----------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Starts an epoch, and the random numbers of the unlabelled batches."""
        super().on_train_epoch_start()
        if self.settings.seed is not None:
            seed_batches(self._unlabelled)

    def take_step(self, batch: dict) -> dict:
        """Takes one step for a labelled batch, together with an unlabelled one if it is due."""
        assert self._schedule is not None
        if self._schedule.is_due(self.current_epoch, self._iteration):
            assert self._unlabelled is not None
            images = next(self._unlabelled)["data"]
            self.unlabelled_images = images.to(self.device, non_blocking=True)
        return super().take_step(batch)

    def begin_step(self, weight: float | None) -> None:
        """Back-propagates the term of the unlabelled batch, before nnU-Net takes the labelled one.

        So the graphs of both are never in memory at once. The value added to the loss of the
        labelled batch has the gradient that is computed here. DDP averages it, and gradient
        clipping and the gradient scaler act on the sum: if it has overflowed, the scaler skips the
        step and lowers its scale.
        """
        assert isinstance(self._topology, LabelledAndUnlabelledLoss)
        self._topology.of_unlabelled, self._topology.record = None, StepRecord()
        if weight is None:
            return
        began = perf_counter()
        network = self.network.module if self.is_ddp else self.network  # DDP counts its calls
        parameters = [p for p in network.parameters() if p.requires_grad]
        scale = 1.0 if self.grad_scaler is None else self.grad_scaler.get_scale()
        on_cuda = self.device.type == "cuda"
        with torch.autocast("cuda") if on_cuda else dummy_context():
            logits = finest(network(self.unlabelled_images))
            term = self._topology.measure_term(logits, None)
        if self._topology.muted:  # the gradient ends at the logits
            if term is not None:
                (scale * weight * term.loss).backward()
            self._topology.record.milliseconds = 1000 * (perf_counter() - began)
            return
        # A step without the term goes backward, too: layers may wait for the other processes.
        loss = 0 * logits.float().sum() if term is None else scale * weight * term.loss
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        if term is not None:
            known = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
            self._topology.of_unlabelled = _WithGradient.apply(
                weight * term.loss.detach(), [g / scale for _, g in known], *(p for p, _ in known)
            )
        self._topology.record.milliseconds = 1000 * (perf_counter() - began)


class _WithGradient(torch.autograd.Function):
    """A value with a gradient that is already known, finite or not."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *factor: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(factor[0] * gradient for gradient in ctx.gradients)
