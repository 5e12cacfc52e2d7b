"""What all trainers of this package share, as a mixin over nnU-Net's own.

The methods stand in the order in which nnU-Net calls them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite, nan
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from nnunet_topo.dataset import Union
from nnunet_topo.training import checks
from nnunet_topo.training.augmentation import (
    INTACT,
    NotedTransforms,
    note_apart,
    warn_of_former_decision,
)
from nnunet_topo.training.base_losses import replaced_base_loss
from nnunet_topo.training.checkpoints import Origin, check_prior
from nnunet_topo.training.epoch_log import epoch_figures, epoch_lines, with_term
from nnunet_topo.training.loss import StepRecord, TopologyAwareLoss, TopologyTerm
from nnunet_topo.training.priors_of_training import TrainingPriors, priors_of_training
from nnunet_topo.training.progress import LOGGED, plot_topology
from nnunet_topo.training.scales import replace_single_scale, single_scale
from nnunet_topo.training.schedule import WeightSchedule
from nnunet_topo.training.settings import TERM_SETTINGS
from nnunet_topo.training.settings_trainer import SettingsTrainerMixin
from nnunet_topo.training.validation import add_topology_metrics

_DEFAULT_CLAMP = 0.01


class TopologyTrainerMixin(SettingsTrainerMixin):
    """Adds settings, a base loss and a topology term to an nnU-Net trainer.

    A trainer derives from this and from an nnU-Net trainer, in this order, and overrides
    `build_base_loss`, `build_topology_term` or both. The nnU-Net trainer keeps network, planning,
    augmentation, validation and inference, and gives the checkpoint's trainer_name.
    """

    base_loss: ClassVar[str] = "nnU-Net's Dice + cross-entropy"  # in words
    term: ClassVar[str] = ""  # in words
    control: ClassVar[str] = "nnUNetTrainerStock"  # trainer to compare with
    topology_weight: ClassVar[float] = 0.0  # as printed in the paper
    wanted_ratio: ClassVar[float | None] = 10.0  # of gradients term : base; None: weight as printed
    # Suffixes that mean something to this trainer, and nothing to others with a term.
    term_settings: ClassVar[tuple[str, ...]] = TERM_SETTINGS
    topology_loss: ClassVar[type[TopologyAwareLoss]] = TopologyAwareLoss
    logged: ClassVar[Mapping[str, str]] = LOGGED  # figures of each epoch -> labels of the plot
    topology_unions: Sequence[Union] = ()  # see `topology_channels`
    prior: Mapping[str, Any] = {}  # of each channel, for the checkpoint
    unlabelled_images: Tensor | None = None  # that the term works on, None for those of the batch
    _topology: TopologyAwareLoss | None = None
    _schedule: WeightSchedule | None = None

    # -- what a trainer overrides ------------------------------------------------------------

    def build_base_loss(self, stock: nn.Module) -> nn.Module:
        """Returns the base loss of one scale, given nnU-Net's own."""
        replaced = replaced_base_loss(self.settings)
        return stock if replaced is None else replaced.loss(stock)

    def build_topology_term(self) -> TopologyTerm | Sequence[tuple[float, TopologyTerm]] | None:
        """Returns the topology term, or several with their factors; None for no term."""
        return None

    @property
    def clamp(self) -> float:
        """Returns the clamp of the filtration, for `build_topology_term`."""
        return _DEFAULT_CLAMP if self.settings.clamp is None else self.settings.clamp

    def take_priors(self) -> TrainingPriors:
        """Returns the priors of the data set and adds their unions, for `build_topology_term`.

        Raises:
            ValueError: topology.json is wrong; the message names the place.
        """
        priors = priors_of_training(self.context(), type(self).topology_unions)
        self.topology_unions, self.prior = priors.unions, priors.plain
        return priors

    # -- before the first epoch --------------------------------------------------------------

    def initialize(self) -> None:
        """Builds network, optimizer and loss as nnU-Net does, then the term's schedule."""
        super().initialize()
        if self._topology is None:
            return
        self._schedule = WeightSchedule.planned(
            self.settings,
            printed=self.topology_weight,
            wanted_ratio=self.wanted_ratio,
            epochs=self.num_epochs,
            iterations=self.num_iterations_per_epoch,
        )
        self.topology_settings |= {
            "term": str(self._topology.term),
            **self._schedule.for_debug_json(),
            "clamp": self.clamp,
            "connectivity": self.settings.connectivity,
        }
        for key in self.logged:
            self.logger.local_logger.my_fantastic_logging[key] = []

    def _build_loss(self) -> nn.Module:
        checks.check_planes(self.settings.planes, self.context())
        loss = super()._build_loss()
        loss = replace_single_scale(loss, self.build_base_loss(single_scale(loss)))
        term = self.build_topology_term()
        if term is None:
            return loss
        self._topology = self.topology_loss(loss, term, self.label_manager, self.topology_unions)
        return self._topology

    def on_train_start(self) -> None:
        """Starts as nnU-Net does, and says if topology.json wants another augmentation."""
        super().on_train_start()
        if self._schedule is not None and self._schedule.is_on and self._spatial:
            warn_of_former_decision(self.context())

    def get_training_transforms(self, *args, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride] # nnU-Net's is static, and called through self
        """Returns nnU-Net's augmentation, which notes whose labels stay intact if that matters."""
        transforms = super().get_training_transforms(*args, **kwargs)
        if not self._needs_intact_labels:
            return transforms
        noted = NotedTransforms(transforms)
        if unknown := noted.unknown():
            self.print_to_log_file(
                f"topology: it is not known whether {', '.join(unknown)} interpolates labels; the "
                "term takes those samples as they are"
            )
        return noted

    @property
    def _needs_intact_labels(self) -> bool:
        """Returns whether the term leaves samples out whose labels were interpolated."""
        is_on = self._schedule is not None and self._schedule.is_on
        return is_on and self._topology is not None and self._topology.needs_intact_labels

    # -- one epoch ---------------------------------------------------------------------------

    def take_step(self, batch: dict) -> dict:
        """Takes nnU-Net's step; returns the base loss alone as the loss, the term beside it."""
        if self._topology is None or self._schedule is None:
            return super().take_step(batch)
        batch = note_apart(batch)
        schedule, topology = self._schedule, self._topology
        topology.intact = batch.get(INTACT)
        now = self.current_epoch, self._iteration
        due = schedule.is_due(*now)
        if now == (schedule.start, 0) and topology.intact is None and self._needs_intact_labels:
            self.print_to_log_file(
                "topology: the batches do not say whose labels were interpolated, so the term "
                "takes all samples"
            )
        weight = schedule.weight(*now) if due else None
        topology.muted = due and weight is None  # until its gradient is known
        topology.weight = schedule.nominal if topology.muted else weight
        self.begin_step(topology.weight)
        result = super().take_step(batch)
        if due and schedule.is_measuring(*now):
            assert topology.weight is not None
            self._measure(topology.record, topology.weight / schedule.nominal)
        return with_term(result, topology.record, weight, schedule.every)

    def begin_step(self, weight: float | None) -> None:
        """Does what must be done before nnU-Net's own step.

        Args:
            weight: of the term, None if it is not due.
        """

    def _measure(self, record: StepRecord, times_nominal: float) -> None:
        """Tells the schedule the gradient norms of the step, summed over the processes.

        A process in which one of them is 0 or not finite takes no part.

        Args:
            record: of the step.
            times_nominal: weight of the term in the step, divided by the nominal one.
        """
        assert self._schedule is not None
        norms = [float(record.base_gradient), float(record.term_gradient) / times_nominal]
        if not all(norm > 0 and isfinite(norm) for norm in norms):
            norms = [0.0, 0.0]
        base, term = self.context().ranks.total(norms, self.device)
        found = self._schedule.record(base, term, self.current_epoch, self._iteration)
        if found:
            self.print_to_log_file(f"topology: {found}")

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Logs the base loss as nnU-Net's loss, and the term's figures beside it."""
        super().on_train_epoch_end(train_outputs)
        if self._topology is None:
            return
        ranks = self.context().ranks
        for key, value in epoch_figures(train_outputs, self.logged, ranks).items():
            self.logger.log(key, value, self.current_epoch)
        lost = sum(not np.isfinite(output["loss"]).all() for output in train_outputs)
        if lost:
            self.print_to_log_file(f"the loss of {lost} iterations was not finite")

    def on_epoch_end(self) -> None:
        """Prints the term's figures above nnU-Net's own and draws them into topology.png."""
        if self._topology is None or self._schedule is None:
            super().on_epoch_end()
            return
        figures: Any = {key: self.logger.get_value(key, step=-1) for key in self.logged}
        for line in epoch_lines(figures, self._schedule, self.current_epoch):
            self.print_to_log_file(line)
        super().on_epoch_end()
        if self.local_rank == 0:
            values: Any = {key: self.logger.get_value(key, step=None) for key in self.logged}
            plot_topology(values, Path(self.output_folder) / "topology.png", self.logged)

    # -- checkpoints and validation ----------------------------------------------------------

    def origin(self) -> Origin:
        """Returns what a checkpoint records of this training, weight and prior included."""
        schedule = {} if self._schedule is None else self._schedule.state()
        return replace(super().origin(), schedule=schedule, prior=dict(self.prior))

    def resume(self, origin: Origin, checkpoint: str) -> None:
        """Takes over what a checkpoint records of this training.

        Raises:
            RuntimeError: the prior of the data set has changed.
        """
        if self._resumes:
            check_prior(checkpoint, origin, dict(self.prior))
        super().resume(origin, checkpoint)
        if self._schedule is None:
            return
        changed = self._schedule.restore(origin.schedule)
        if changed and self._resumes:
            self.print_to_log_file(f"topology: {changed}")
        logged = self.logger.local_logger.my_fantastic_logging
        for key in self.logged:  # an older version may have logged fewer
            logged.setdefault(key, [nan] * self.current_epoch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validates as nnU-Net does, then merges topology metrics into its summary.json.

        The first rank alone does it, without collectives: the others have left.
        """
        super().perform_actual_validation(save_probabilities)
        if self.local_rank or os.environ.get("NNUNET_TOPO_NO_METRICS"):
            return
        add_topology_metrics(self.context(), Path(self.output_folder) / "validation", self.logger)

    def _place(self) -> str:
        base = "" if self._topology is None else f", base loss {self._topology.record.base}"
        return f"{super()._place()}{base}"
