"""What all trainers of this package share, as a mixin over nnU-Net's own.

The methods stand in the order in which nnU-Net calls them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from nnunet_topo.dataset import Union
from nnunet_topo.training import checks
from nnunet_topo.training.augmentation import rotates_and_scales
from nnunet_topo.training.base_losses import replaced_base_loss
from nnunet_topo.training.checkpoints import Origin, check_prior
from nnunet_topo.training.epoch_log import epoch_figures, epoch_line, with_term
from nnunet_topo.training.gradient_norms import gradient_norms
from nnunet_topo.training.loss import TopologyAwareLoss, TopologyTerm
from nnunet_topo.training.priors_of_training import TrainingPriors, priors_of_training
from nnunet_topo.training.progress import LOGGED, plot_topology
from nnunet_topo.training.scales import replace_single_scale, single_scale
from nnunet_topo.training.schedule import MEASURED_ITERATIONS, WeightSchedule
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

    def may_rotate_and_scale(self, rotation: tuple[float, float], in_slices: bool) -> bool:
        """Returns whether the labels tolerate it; without a term it does not matter."""
        if self._schedule is None or not self._schedule.is_on:
            return True
        control = f"{self.control}{self.settings.for_control().suffixes()}"
        return rotates_and_scales(self.context(), rotation, in_slices, control=control)

    # -- one epoch ---------------------------------------------------------------------------

    def take_step(self, batch: dict) -> dict:
        """Takes nnU-Net's step; returns the base loss alone as the loss, the term beside it."""
        if self._topology is None or self._schedule is None:
            return super().take_step(batch)
        weight = None
        if self._schedule.is_due(self.current_epoch, self._iteration):
            if self._schedule.measures:
                self._measure_gradients(batch)
            weight = self._schedule.weight(self.current_epoch, self._iteration)
        self._topology.weight = weight
        self.begin_step(weight)
        result = super().take_step(batch)
        return with_term(result, self._topology.record, weight)

    def begin_step(self, weight: float | None) -> None:
        """Does what must be done before nnU-Net's own step.

        Args:
            weight: of the term, None if it is not due.
        """

    def _measure_gradients(self, batch: dict) -> None:
        """Tells the schedule the gradient norms of base loss and term, of all processes."""
        assert self._schedule is not None
        base, term = self.context().ranks.total(self.gradient_norms(batch), self.device)
        self._schedule.record(base, term)
        if self._schedule.measured == MEASURED_ITERATIONS:
            self.print_to_log_file(f"topology: {self._schedule.measured_in_words()}")

    def gradient_norms(self, batch: dict) -> tuple[float, float]:
        """Returns those of the base loss and of the term at full weight, at the last layer."""
        assert self._topology is not None
        assert self._schedule is not None
        return gradient_norms(
            self._topology,
            self._bare_network(),
            batch,
            weight=self._schedule.full_weight,
            device=self.device,
            unlabelled=self.unlabelled_images,
        )

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
        self.print_to_log_file(epoch_line(figures, self._schedule, self.current_epoch))
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
        if self._schedule is not None:
            self._schedule.restore(origin.schedule)

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
