"""The mixin that all trainers of this package share.

The methods are in the order in which nnU-Net calls them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite, nan
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nnunetv2.utilities.ddp_allgather import AllGatherGrad
from torch import Tensor, nn

from nnunet_topo.dataset import Union
from nnunet_topo.training import checks
from nnunet_topo.training.added_losses import AddedWeights, BaseWithAddedLosses
from nnunet_topo.training.augmentation import (
    INTACT,
    SKELETONS,
    NotedTransforms,
    note_apart,
)
from nnunet_topo.training.base_losses import NeighbourBaseLoss, replaced_base_loss
from nnunet_topo.training.checkpoints import Origin, check_losses, check_prior
from nnunet_topo.training.epoch_log import (
    added_line,
    epoch_figures,
    epoch_lines,
    with_added,
    with_term,
)
from nnunet_topo.training.loss import StepRecord, TopologyAwareLoss, TopologyTerm
from nnunet_topo.training.priors_of_training import TrainingPriors, priors_of_training
from nnunet_topo.training.progress import LOGGED, plot_topology
from nnunet_topo.training.scales import replace_single_scale, single_scale
from nnunet_topo.training.schedule import WeightSchedule
from nnunet_topo.training.settings import TERM_SETTINGS
from nnunet_topo.training.settings_trainer import SettingsTrainerMixin
from nnunet_topo.training.skeletons import TargetSkeletons
from nnunet_topo.training.validation import UNFINISHED, add_topology_metrics

_DEFAULT_CLAMP = 0.01


class TopologyTrainerMixin(SettingsTrainerMixin):
    """Adds settings, a base loss and a topology term to an nnU-Net trainer.

    A trainer derives from this and from an nnU-Net trainer, in this order, and overrides
    `build_base_loss`, `build_topology_term` or both. Network, planning, augmentation, validation
    and inference stay as they are in the nnU-Net trainer, which also gives the checkpoint its
    trainer_name.
    """

    base_loss: ClassVar[str] = "nnU-Net's Dice + cross-entropy"  # name for users
    term: ClassVar[str] = ""  # name for users
    control: ClassVar[str] = "nnUNetTrainerStock"  # trainer to compare with
    papers: ClassVar[tuple[str, ...]] = ()  # of the term, keys in citations.bib
    topology_weight: ClassVar[float] = 0.0  # as printed in the paper
    wanted_ratio: ClassVar[float | None] = 10.0  # of gradients term : base; None: weight as printed
    # Added to the base loss, and applied before it; suffixes set others, see `AddedWeights`.
    skelrecall: ClassVar[float] = 0.0
    cldice: ClassVar[float] = 0.0
    scnp: ClassVar[bool] = False
    # Suffixes that only some trainers with a term have, this one among them.
    term_settings: ClassVar[tuple[str, ...]] = TERM_SETTINGS
    topology_loss: ClassVar[type[TopologyAwareLoss]] = TopologyAwareLoss
    logged: ClassVar[Mapping[str, str]] = LOGGED  # keys of each epoch -> labels in topology.png
    topology_unions: Sequence[Union] = ()  # see `topology_channels`
    prior: Mapping[str, Any] = {}  # of each channel, for the checkpoint
    unlabelled_images: Tensor | None = None  # for the term, None if it uses those of the batch
    _added: BaseWithAddedLosses | None = None
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
            ValueError: topology.json is wrong. The message names the place.
        """
        priors = priors_of_training(self.context(), type(self).topology_unions)
        self.topology_unions, self.prior = priors.unions, priors.plain
        return priors

    # -- before the first epoch --------------------------------------------------------------

    def initialize(self) -> None:
        """Builds network, optimizer and loss as nnU-Net does, and the schedule of the term."""
        super().initialize()
        self.topology_settings["loss"] = self.describe_loss()
        for key in self._figures:
            self.logger.local_logger.my_fantastic_logging[key] = []
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

    def _build_loss(self) -> nn.Module:
        checks.check_planes(self.settings.planes, self.context())
        loss = super()._build_loss()
        base = self.build_base_loss(single_scale(loss))
        if self.added_weights.scnp:
            base = NeighbourBaseLoss(base, self.label_manager)
        loss = self._with_added_losses(replace_single_scale(loss, base))
        # A validation needs no term, and no priors for it, which may have changed since.
        term = None if self._only_validates else self.build_topology_term()
        if term is None:
            return loss
        self._topology = self.topology_loss(loss, term, self.label_manager, self.topology_unions)
        return self._topology

    @property
    def added_weights(self) -> AddedWeights:
        """Returns what stands beside the base loss, and before it."""
        return AddedWeights.chosen(self.settings, self)

    def _with_added_losses(self, base: nn.Module) -> nn.Module:
        weights = self.added_weights
        if not weights.logged:
            return base
        self._added = BaseWithAddedLosses(
            base,
            self.label_manager,
            weights,
            TargetSkeletons.of_manager(
                self.label_manager,
                tubes=weights.skelrecall > 0,
                lines=weights.cldice > 0 and weights.exact,
                connectivity=self.settings.connectivity,
            ),
            over_batch=self.configuration_manager.batch_dice,
            gather=AllGatherGrad.apply if self.is_ddp else None,
        )
        return self._added

    def describe_loss(self) -> str:
        """Returns what the training minimises, in words."""
        weights = self.added_weights
        of_neighbours = " of the least confident neighbours (SCNP)" if weights.scnp else ""
        term = "" if self._topology is None else f" + weight * {self.term or self._topology.term}"
        return f"{self.base_loss}{of_neighbours}{weights.in_words()}{term}"

    def on_train_start(self) -> None:
        """Starts as nnU-Net does, and logs the loss."""
        super().on_train_start()
        self.print_to_log_file(f"topology: the loss is {self.describe_loss()}")

    def get_training_transforms(self, *args, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride] # nnU-Net's is static, and called through self
        """Returns nnU-Net's augmentation, which notes intact labels if the term needs them.

        It also makes the skeletons that the losses use.
        """
        transforms = super().get_training_transforms(*args, **kwargs)
        skeletons = None if self._added is None else self._added.skeletons.or_none()
        if not (self._needs_intact_labels or skeletons):
            return transforms
        noted = NotedTransforms(transforms, skeletons)
        if self._needs_intact_labels and (unknown := noted.unknown()):
            self.print_to_log_file(
                f"topology: {', '.join(unknown)} may interpolate labels without being noticed. The "
                "term uses those samples as they are"
            )
        return noted

    @property
    def _needs_intact_labels(self) -> bool:
        """Returns whether the term leaves out samples whose labels were interpolated."""
        is_on = self._schedule is not None and self._schedule.is_on
        return is_on and self._topology is not None and self._topology.needs_intact_labels

    # -- one epoch ---------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Starts an epoch, and the random numbers of the term."""
        super().on_train_epoch_start()
        if self._topology is not None and self.settings.seed is not None:
            self._topology.seed()

    def take_step(self, batch: dict) -> dict:
        """Takes nnU-Net's step and returns the base loss and the term under separate keys."""
        batch = note_apart(batch)
        if self._added is not None:
            self._added.packed = batch.get(SKELETONS)
        if self._topology is None or self._schedule is None:
            return with_added(super().take_step(batch), self._added)
        schedule, topology = self._schedule, self._topology
        topology.intact = batch.get(INTACT)
        now = self.current_epoch, self._iteration
        due = schedule.is_due(*now)
        if now == (schedule.start, 0) and topology.intact is None and self._needs_intact_labels:
            self.print_to_log_file(
                "topology: the batches do not contain which labels were interpolated, so the term "
                "uses all samples"
            )
        weight = schedule.weight(*now) if due else None
        topology.muted = due and weight is None  # until its gradient is known
        topology.weight = schedule.nominal if topology.muted else weight
        self.begin_step(topology.weight)
        result = super().take_step(batch)
        if due and schedule.is_measuring(*now):
            assert topology.weight is not None
            self._measure(topology.record, topology.weight / schedule.nominal)
        result = with_term(result, topology.record, weight, schedule.every)
        return with_added(result, self._added)

    def begin_step(self, weight: float | None) -> None:
        """Prepares a step, before nnU-Net's own step. Does nothing here.

        Args:
            weight: of the term, None if it is not due.
        """

    def _measure(self, record: StepRecord, times_nominal: float) -> None:
        """Passes the gradient norms of the step to the schedule, summed over the processes.

        A process in which one of its norms is 0 or not finite is left out.

        Args:
            record: of the step.
            times_nominal: weight of the term in the step, divided by the nominal weight.
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
        """Logs the base loss as nnU-Net's loss, and the figures of the term."""
        super().on_train_epoch_end(train_outputs)
        if not self._figures:
            return
        ranks = self.context().ranks
        for key, value in epoch_figures(train_outputs, self._figures, ranks).items():
            self.logger.log(key, value, self.current_epoch)
        lost = sum(not np.isfinite(output["loss"]).all() for output in train_outputs)
        if lost:
            self.print_to_log_file(f"the loss of {lost} iterations was not finite")

    def on_epoch_end(self) -> None:
        """Logs the figures of the term before nnU-Net's own, and plots them in topology.png."""
        figures: Any = {key: self.logger.get_value(key, step=-1) for key in self._figures}
        if self._added is not None:
            self.print_to_log_file(added_line(figures, self.added_weights))
        if self._topology is None or self._schedule is None:
            super().on_epoch_end()
            return
        for line in epoch_lines(figures, self._schedule, self.current_epoch):
            self.print_to_log_file(line)
        super().on_epoch_end()
        if self.local_rank == 0:
            values: Any = {key: self.logger.get_value(key, step=None) for key in self._figures}
            plot_topology(values, Path(self.output_folder) / "topology.png", self._figures)

    @property
    def _figures(self) -> dict[str, str]:
        """Returns the logged figures of an epoch -> labels of the plot."""
        of_term = {} if self._topology is None else self.logged
        return {**of_term, **({} if self._added is None else self.added_weights.logged)}

    # -- checkpoints and validation ----------------------------------------------------------

    def origin(self) -> Origin:
        """Returns what a checkpoint records of this training, including weight and prior."""
        schedule = {} if self._schedule is None else self._schedule.state()
        origin = replace(super().origin(), schedule=schedule, prior=dict(self.prior))
        return replace(origin, made_of=self._made_of(), loss=self.describe_loss())

    def _made_of(self) -> dict[str, float]:
        measured = self._schedule and self._schedule.measured
        ratio = {} if measured is None else {"ratio": measured.wanted}
        return self.added_weights.numbers() | ratio

    def resume(self, origin: Origin, checkpoint: str) -> None:
        """Restores what a checkpoint records of this training.

        Raises:
            RuntimeError: the prior of the data set has changed, or another version of the package
                made the trainer of other losses.
        """
        if self._resumes:
            check_prior(checkpoint, origin, dict(self.prior))
            check_losses(checkpoint, origin, self._made_of())
        super().resume(origin, checkpoint)
        logged = self.logger.local_logger.my_fantastic_logging
        for key in self._figures:  # an older version may have logged fewer
            logged.setdefault(key, [nan] * self.current_epoch)
        if self._schedule is not None:
            self._schedule.restore(origin.schedule)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validates as nnU-Net does, then adds topology metrics to its summary.json.

        Only the first rank adds them, without collectives, because the other ranks have finished.
        """
        folder = Path(self.output_folder)
        if self.local_rank:
            super().perform_actual_validation(save_probabilities)
            return
        # nnU-Net's summary.json has no topology metrics at first, and looks finished.
        (folder / UNFINISHED).touch()
        super().perform_actual_validation(save_probabilities)
        if os.environ.get("NNUNET_TOPO_NO_METRICS", "") in ("", "0"):
            add_topology_metrics(self.context(), folder / "validation", self.logger)
        (folder / UNFINISHED).unlink(missing_ok=True)

    def _place(self) -> str:
        base = "" if self._topology is None else f", base loss {self._topology.record.base}"
        return f"{super()._place()}{base}"
