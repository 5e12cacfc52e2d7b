"""What all trainers of this package share, as a mixin over nnU-Net's own."""

import functools
import importlib.util
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.helpers import dummy_context
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim.lr_scheduler import CosineAnnealingLR

import nnunet_topo
from nnunet_topo.training import checkpoints
from nnunet_topo.training.augmentation import rotates_and_scales
from nnunet_topo.training.divergence import describe_cause
from nnunet_topo.training.lookup import refuse_misspelt
from nnunet_topo.training.loss import (
    TopologyAwareLoss,
    TopologyTerm,
    Union,
    replace_single_scale,
    single_scale,
)
from nnunet_topo.training.progress import LOGGED, plot_topology
from nnunet_topo.training.schedule import MEASURED_ITERATIONS, WeightSchedule
from nnunet_topo.training.settings import Settings, parse_settings
from nnunet_topo.training.validation import add_topology_metrics

_DEFAULT_CLAMP = 0.01
_RAMP = 0.1  # of all epochs
_FINETUNE_LR = 1e-3


class TopologyTrainerMixin(nnUNetTrainer):
    """Adds settings, a base loss and a topology term to an nnU-Net trainer.

    A trainer derives from this and from an nnU-Net trainer, in this order, and overrides
    `build_base_loss`, `build_topology_term` or both. Network, planning, augmentation, validation
    and inference stay the other's; so does the checkpoint's trainer_name.
    """

    settings: ClassVar[Settings] = Settings()
    stem: ClassVar[str] = ""  # name without settings, "" where there are none
    base_loss: ClassVar[str] = "nnU-Net's Dice + cross-entropy"  # in words, as the next
    term: ClassVar[str] = ""
    control: ClassVar[str] = "nnUNetTrainerStock"  # to compare with
    topology_weight: ClassVar[float] = 0.0  # as printed in the paper
    has_filtration: ClassVar[bool] = True  # whether clamp<x> and face mean anything to the term
    topology_loss: ClassVar[type[TopologyAwareLoss]] = TopologyAwareLoss
    logged: ClassVar[Mapping[str, str]] = LOGGED  # figures of each epoch, with names for the plot
    topology_unions: Sequence[Union] = ()  # see `topology_channels`

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 # nnU-Net's own signature
    ) -> None:
        """Takes exactly what nnU-Net gives; see the class."""
        self._check_before_anything_is_written(plans, configuration, fold)
        self._continues = bool(plans.get("continue_training"))  # which nnU-Net removes
        super().__init__(plans, configuration, fold, dataset_json, device)
        chosen = self.settings
        if chosen.epochs is not None:
            self.num_epochs = chosen.epochs
        if chosen.iters is not None:
            self.num_iterations_per_epoch = chosen.iters
            self.num_val_iterations_per_epoch = max(1, chosen.iters // 5)
        if chosen.finetune:
            self.initial_lr = _FINETUNE_LR
        if chosen.lr is not None:
            self.initial_lr = chosen.lr
        if chosen.wd is not None:
            self.weight_decay = chosen.wd
        if chosen.nods:
            self.enable_deep_supervision = False
        self.topology_settings: dict[str, Any] = {}
        self.prior: dict[str, Any] = {}  # plain types, for the checkpoint
        self._topology: TopologyAwareLoss | None = None
        self._schedule: WeightSchedule | None = None
        self._spatial = True  # whether patches are rotated and scaled
        self._iteration = 0
        self._finetuned_from = ""
        self._continued = False
        self._has_given_weights = False
        self._guarded: torch.optim.Optimizer | None = None
        self._batch: Mapping[str, Any] | None = None  # of the step at work
        self._cause = ""  # of the first loss that was not finite

    def build_base_loss(self, stock: nn.Module) -> nn.Module:
        """Returns the base loss of one scale, given nnU-Net's own."""
        return stock

    def build_topology_term(self) -> TopologyTerm | Sequence[tuple[float, TopologyTerm]] | None:
        """Returns the topology term, or several with their factors; None for a trainer without."""
        return None

    # -- set-up ------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Builds network, optimizer and loss as nnU-Net does, then the term's schedule."""
        self._seed()
        super().initialize()
        self._bare_network().register_load_state_dict_post_hook(self._note_given_weights)
        chosen = self.settings
        self.topology_settings = {
            "trainer": type(self).__name__,
            "nnunet_topo": nnunet_topo.__version__,
            "epochs": self.num_epochs,
            "iterations": self.num_iterations_per_epoch,
            "seed": chosen.seed,
            "optimizer": type(self.optimizer).__name__,
            "lr_scheduler": type(self.lr_scheduler).__name__,
        }
        if self._topology is None:
            return
        # A finished model has had its supervised epochs: the term starts, and ramps up, at once.
        start = 0 if chosen.finetune else self.num_epochs // 2
        start = start if chosen.start is None else chosen.start
        ramp = round(_RAMP * self.num_epochs * self.num_iterations_per_epoch)
        self._schedule = WeightSchedule(
            nominal=self.topology_weight if chosen.weight is None else chosen.weight,
            given=chosen.weight is not None,
            start=start,
            ramp=0 if chosen.start == 0 else ramp,  # from the very beginning is meant to the letter
            iterations=self.num_iterations_per_epoch,
            every=chosen.every or 1,
        )
        self.topology_settings |= {
            "term": str(self._topology.term),
            "weight": self._schedule.nominal,
            "weight_given": self._schedule.given,
            "start_epoch": start,
            "ramp_iterations": self._schedule.ramp,
            "every": self._schedule.every,
            "clamp": self.clamp,
            "connectivity": chosen.connectivity,
        }
        for key in self.logged:
            self.logger.local_logger.my_fantastic_logging[key] = []

    @property
    def clamp(self) -> float:
        """Returns the clamp of the filtration."""
        return _DEFAULT_CLAMP if self.settings.clamp is None else self.settings.clamp

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        loss = replace_single_scale(loss, self.build_base_loss(single_scale(loss)))
        term = self.build_topology_term()
        if term is None:
            return loss
        self._topology = self.topology_loss(loss, term, self.label_manager, self.topology_unions)
        return self._topology

    def configure_optimizers(self, *stage):
        """Returns nnU-Net's optimizer and schedule, or those that the settings name.

        Trainers of nnU-Net with a warm-up ask once for each of their stages.

        Raises:
            NotImplementedError: settings of ours for a trainer with stages.
        """
        optimizer, lr_scheduler = super().configure_optimizers(*stage)
        if stage and (self.settings.adam or self.settings.cosine):
            raise NotImplementedError(
                f"{type(self).__name__}: adam and cosine are one schedule for the whole training, "
                f"but {checkpoints.portable_trainer_name(type(self))} changes its own in stages, "
                f"now {stage[0]!r}; leave them out"
            )
        if self.settings.adam:
            optimizer = torch.optim.Adam(
                self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay
            )
            lr_scheduler = PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)
        if self.settings.cosine:
            lr_scheduler = CosineAnnealingLR(optimizer, T_max=self.num_epochs)
        # With a gradient scaler nnU-Net leaves out such a step itself. A stage of a training may
        # keep the optimizer of the one before.
        if self.grad_scaler is None and optimizer is not self._guarded:
            optimizer.register_step_pre_hook(self._refuse_non_finite_gradients)
            self._guarded = optimizer
        return optimizer, lr_scheduler

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802
        """Returns nnU-Net's augmentation settings, less what settings and topology forbid."""
        rotation, in_slices, patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if self.settings.nomirror:
            mirror_axes = self.inference_allowed_mirroring_axes = None
        self._spatial = not self.settings.nospatial
        if self._spatial and self._schedule is not None and self._schedule.nominal > 0:
            self._spatial = rotates_and_scales(self, tuple(rotation), in_slices)
        if not self._spatial:
            patch_size = list(self.configuration_manager.patch_size)  # no margin to rotate into
        return rotation, in_slices, patch_size, mirror_axes

    def get_training_transforms(self, *args, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride] # nnU-Net's is static, and called through self
        """Returns nnU-Net's augmentation, free of what settings, topology and seed forbid."""
        transforms = super().get_training_transforms(*args, **kwargs)
        for transform in transforms.transforms:
            if isinstance(transform, SpatialTransform) and not self._spatial:
                transform.p_rotation = transform.p_scaling = 0
            blur = getattr(transform, "transform", transform)
            if isinstance(blur, GaussianBlurTransform) and self.settings.seed is not None:
                blur.benchmark = False  # else its algorithm depends on timings
        return transforms

    def get_dataloaders(self):
        """Returns nnU-Net's loaders, begun from the seed if there is one."""
        self._seed()
        return super().get_dataloaders()

    def _seed(self) -> None:
        if self.settings.seed is not None:
            # Ranks of a DDP training must not augment alike.
            seed = (self.settings.seed + self.current_epoch + 7919 * self.local_rank) % 2**32
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 # nnU-Net's augmentation draws from it
            torch.manual_seed(seed)

    def _check_before_anything_is_written(
        self, plans: dict, configuration: str, fold: int | str
    ) -> None:
        name, order = type(self).__name__, type(self).__mro__
        for before in order[: order.index(TopologyTrainerMixin)]:
            if before.__module__.startswith("nnunetv2."):
                raise TypeError(
                    f"{name} derives from {before.__name__} before TopologyTrainerMixin, which "
                    f"undoes part of what the mixin does: write class {name}(TopologyTrainerMixin, "
                    f"{before.__name__})"
                )
        results = os.environ.get("nnUNet_results")  # noqa: SIM112 # nnU-Net spells it so
        if results is None:
            raise RuntimeError(
                "the environment variable nnUNet_results is not set: it must name the folder for "
                "trained models, e.g. export nnUNet_results=/data/nnUNet_results"
            )
        folder = (
            Path(results)
            / plans["dataset_name"]
            / f"{name}__{plans['plans_name']}__{configuration}"
            / f"fold_{fold}"
        )
        if checkpoints.has_checkpoint(folder):
            return
        if self.settings.finetune:
            checkpoints.find_stock_training(folder)
        if not plans.get("continue_training", False):
            return
        siblings = checkpoints.sibling_trainings(folder, self.stem or name)
        if siblings:
            raise RuntimeError(
                f"--c: {folder} holds no checkpoint, and nnU-Net would start a new training. The "
                f"same fold was trained as {', '.join(siblings)}: settings are part of the name, "
                "continue with -tr and that name. For a new training leave out --c"
            )

    def on_train_start(self) -> None:
        """Begins as nnU-Net does, from the weights of the stock training if they are asked for.

        Raises:
            RuntimeError: two trainings to begin from, or a cascade without its first stage.
        """
        self._check_previous_stage()
        if self.settings.finetune and not self._continued:
            if self._has_given_weights:
                raise RuntimeError(
                    "finetune begins from the finished stock training, and -pretrained_weights "
                    "names another one: leave out one of them. To begin from another training of "
                    f"the same plans, configuration and fold, export {checkpoints.FINETUNE_FROM}="
                    "<its trainer>"
                )
            if not self.was_initialized:
                self.initialize()
            source = checkpoints.find_stock_training(Path(self.output_folder))
            checkpoints.load_weights(source, self._bare_network())
            self._finetuned_from = self.topology_settings["finetuned_from"] = str(source)
            self.print_to_log_file(f"finetune: all weights are those of {source}")
        super().on_train_start()

    def _check_previous_stage(self) -> None:
        """Raises where a case was not predicted by the stage before; workers would die of it."""
        if not self.is_cascaded:
            return
        folder = Path(str(self.folder_with_segs_from_previous_stage))
        cases = {case for part in self.do_split() for case in part}
        predicted = {file.stem for file in folder.iterdir()} if folder.is_dir() else set()
        missing = sorted(cases - predicted)
        if missing:
            name, stage = type(self).__name__, self.configuration_manager.previous_stage_name
            raise RuntimeError(
                f"{self.configuration_name}: {len(missing)} of {len(cases)} cases, such as "
                f"{missing[0]}, have no segmentation in {folder}. The cascade takes those of the "
                f"same trainer and settings: first run nnUNetv2_train with {stage} and -tr {name} "
                "on all folds, or on fold all"
            )

    def _bare_network(self) -> nn.Module:
        """Returns the network without the wrappers of DDP and torch.compile."""
        network = self.network.module if self.is_ddp else self.network
        return getattr(network, "_orig_mod", network)

    # -- one iteration -----------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Begins to count iterations."""
        super().on_train_epoch_start()
        self._iteration = 0

    def train_step(self, batch: dict) -> dict:
        """Takes nnU-Net's step; returns the base loss alone as the loss, the term beside it."""
        self._batch = batch
        try:
            result = self._step(batch)
            if not (self._cause or np.isfinite(result["loss"]).all()):
                self._cause = self._describe_cause()
        finally:
            self._batch = None
        self._iteration += 1
        return result

    def _step(self, batch: dict) -> dict:
        if self._topology is None or self._schedule is None:
            return super().train_step(batch)
        weight = None
        if self._schedule.is_due(self.current_epoch, self._iteration):
            if self._schedule.measures:
                self._measure_gradients(batch)
            weight = self._schedule.weight(self.current_epoch, self._iteration)
        self._topology.weight = weight
        self.begin_step(weight)
        result = super().train_step(batch)
        record = self._topology.record
        return result | {
            "loss": np.asarray(record.base, dtype=result["loss"].dtype),
            "topology_term": record.term,
            "topology_distance": record.distance,
            "topology_weight": nan if weight is None else weight,
            "topology_ms": record.milliseconds,
        }

    def begin_step(self, weight: float | None) -> None:
        """Does what is to be done before nnU-Net's own step; None where the term is not due."""

    def _measure_gradients(self, batch: dict) -> None:
        """Lets the schedule know the gradient norms of base loss and term."""
        assert self._schedule is not None
        norms = self.gradient_norms(batch)
        if self.is_ddp:
            both = torch.tensor(norms, dtype=torch.float64, device=self.device)
            dist.all_reduce(both)
            norms = both.tolist()
        self._schedule.record(*norms)
        if self._schedule.measured == MEASURED_ITERATIONS:
            lowered = self._schedule.nominal / max(1.0, self._schedule.ratio)
            self.print_to_log_file(
                f"topology: gradient norm {self._schedule.ratio:.3g} times that of the base loss "
                f"over {MEASURED_ITERATIONS} iterations; weight {self._schedule.nominal:.3g} -> "
                f"{lowered:.3g}"
            )

    def gradient_norms(self, batch: dict) -> tuple[float, float]:
        """Returns those of the base loss and of the term at full weight, at the last layer.

        The last layer runs once more on its own, in float32: nothing of the network's graph is
        kept, half precision rounds no gradient to zero, and a compiled network stays untouched.
        """
        target = [t.to(self.device) for t in _as_list(batch["target"])]
        layer, logits, others = self._last_layer(batch["data"].to(self.device))
        several = isinstance(batch["target"], list)
        return (
            self._norm_of_base(layer, logits, others, target if several else target[0]),
            self._norm_of_term(layer, logits, target[0]),
        )

    def _norm_of_base(
        self,
        layer: list[Tensor],
        logits: Tensor,
        others: list[Tensor],
        target: Tensor | list[Tensor],
    ) -> float:
        assert self._topology is not None
        leaf = logits.detach().requires_grad_()
        scales = [leaf, *others]
        base = self._topology.base(scales if isinstance(target, list) else leaf, target)
        return _gradient_norm(base, leaf, logits, layer) if isinstance(base, Tensor) else 0.0

    def _norm_of_term(self, layer: list[Tensor], logits: Tensor, target: Tensor | None) -> float:
        assert self._topology is not None
        assert self._schedule is not None
        leaf = logits.detach().requires_grad_()
        term = self._topology.measure_term(leaf, target)
        if term is None:
            return 0.0
        return _gradient_norm(self._schedule.full_weight * term.loss, leaf, logits, layer)

    def _last_layer(self, data: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Returns parameters of the last layer, its logits with their graph, the other scales.

        An architecture without nnU-Net's decoder gives no parameters: norms are then taken at the
        logits.
        """
        network = self._bare_network()
        layers = getattr(getattr(network, "decoder", None), "seg_layers", None)
        inputs: list[Tensor] = []
        hooks = []
        if layers is not None:
            hooks.append(layers[-1].register_forward_pre_hook(lambda _, args: inputs.append(*args)))
        on_cuda = self.device.type == "cuda"
        with torch.no_grad(), torch.autocast("cuda") if on_cuda else dummy_context():
            output = _as_list(network(data))
        for hook in hooks:
            hook.remove()
        others = [scale.float() for scale in output[1:]]
        if layers is None or not inputs:
            return [], output[0].float(), others
        return list(layers[-1].parameters()), layers[-1](inputs[-1].float()), others

    def _note_given_weights(self, *_) -> None:
        self._has_given_weights = True

    def _refuse_non_finite_gradients(self, optimizer, *_) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        if all(g is None or bool(torch.isfinite(g).all()) for g in gradients):
            return
        base = "" if self._topology is None else f", base loss {self._topology.record.base}"
        raise FloatingPointError(
            f"epoch {self.current_epoch}, iteration {self._iteration}: the gradient holds NaN or "
            f"infinite values{base}. {self._describe_cause()}. The weights were not changed and no "
            f"checkpoint in {self.output_folder} was touched"
        )

    def _describe_cause(self) -> str:
        """Returns why the step at work is not finite."""
        began_from = self._finetuned_from
        if not began_from and self._continued:
            began_from = f"its checkpoint in {self.output_folder}"
        if not began_from and getattr(self, "use_pretrained_weights", False):  # nnU-Net after 2.8
            adaptation: Mapping[str, Any] = getattr(self, "adaptation_info", {})
            began_from = f"{adaptation.get('checkpoint_path')}, as the plans say"
        if not began_from and self._has_given_weights:
            began_from = "the file of -pretrained_weights"
        return describe_cause(
            self._bare_network(),
            self._batch,
            image_channels=determine_num_input_channels(
                self.plans_manager, self.configuration_manager, self.dataset_json
            )
            - (len(self.label_manager.foreground_labels) if self.is_cascaded else 0),
            previous_stage=self.configuration_manager.previous_stage_name,
            began_from=began_from,
            lr=self.initial_lr,
        )

    # -- one epoch ---------------------------------------------------------------------------

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Logs the base loss where nnU-Net logs its loss, and the term's figures beside it."""
        super().on_train_epoch_end(train_outputs)
        losses = [float(np.mean(output["loss"])) for output in train_outputs]
        if not np.isfinite(losses).any():
            raise FloatingPointError(
                f"epoch {self.current_epoch}: the loss was NaN or infinite in every iteration. "
                f"{self._cause or self._describe_cause()}. No checkpoint in {self.output_folder} "
                "was touched"
            )
        if self._topology is None:
            return
        figures = {key: [output[key] for output in train_outputs] for key in self.logged}
        if self.is_ddp:
            of_ranks: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(of_ranks, figures)
            figures = {key: [v for rank in of_ranks for v in rank[key]] for key in self.logged}
        for key, values in figures.items():
            known = [value for value in values if np.isfinite(value)]
            mean = float(np.mean(known)) if known else nan
            if key == "topology_weight":  # the one in force at the end
                mean = known[-1] if known else 0.0
            self.logger.log(key, mean, self.current_epoch)
        left_out = int(np.count_nonzero(~np.isfinite(losses)))
        if left_out:
            self.print_to_log_file(f"{left_out} iterations had a loss that is not finite")

    def on_epoch_end(self) -> None:
        """Prints the term's figures above nnU-Net's own and draws them into topology.png."""
        if self._topology is not None:
            self.print_to_log_file(self._topology_line())
        super().on_epoch_end()
        if self._topology is not None and self.local_rank == 0:
            values = {key: self.logger.get_value(key, step=None) for key in self.logged}
            plot_topology(values, Path(self.output_folder) / "topology.png", self.logged)

    def _topology_line(self) -> str:
        figures = {key: self.logger.get_value(key, step=-1) for key in self.logged}
        known = {key: value for key, value in figures.items() if np.isfinite(value)}  # pyright: ignore[reportArgumentType, reportCallIssue] # the logger's types are None
        if "topology_term" in known:
            line = "topology: term {topology_term:.4f}, "
            if "topology_distance" in known:
                line += "optimal Wasserstein distance {topology_distance:.4f}, "
            line += "weight {topology_weight:.4g}, {topology_ms:.1f} ms per iteration"
            if "topology_used" in known:
                line += ", prior applied to {topology_used:.0%} of the objects in unlabelled images"
            return line.format(**known)
        assert self._schedule is not None
        if self._schedule.nominal == 0:
            return "topology: the term is off, weight 0"
        if self.current_epoch < self._schedule.start:
            return f"topology: the term starts in epoch {self._schedule.start}"
        return "topology: the term was not computed in this epoch"

    # -- validation --------------------------------------------------------------------------

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validates as nnU-Net does, then merges topology metrics into its summary.json.

        On the first rank alone, without collectives: the others have left.
        """
        super().perform_actual_validation(save_probabilities)
        if self.local_rank or os.environ.get("NNUNET_TOPO_NO_METRICS"):
            return
        add_topology_metrics(self)

    # -- checkpoints -------------------------------------------------------------------------

    def save_checkpoint(self, filename: str) -> None:
        """Writes nnU-Net's checkpoint in one step, under the name of the stock trainer."""
        written = Path(f"{filename}.part")
        super().save_checkpoint(str(written))
        if self.local_rank or not written.is_file():  # the first rank writes, if any does
            return
        origin = checkpoints.Origin(
            trainer=type(self).__name__,
            settings=self.settings.given(),
            schedule={} if self._schedule is None else self._schedule.state(),
            finetuned_from=self._finetuned_from,
            prior=self.prior,
            spatial=self._spatial,
        )
        name = checkpoints.portable_trainer_name(type(self))
        checkpoints.rewrite(written, Path(filename), name, origin)

    def load_checkpoint(  # pyright: ignore[reportIncompatibleMethodOverride] # names of both
        self,
        checkpoint: dict | str | None = None,
        filename_or_checkpoint: dict | str | None = None,
    ) -> None:
        """Continues from a checkpoint of this very trainer, settings and prior.

        A validation may use it whatever the prior.

        Args:
            checkpoint: file, or where nnU-Net takes it, the content of one.
            filename_or_checkpoint: the same under the name that it has in nnU-Net 2.8.

        Raises:
            RuntimeError: another trainer, other settings or stock nnU-Net wrote it, or the prior
                has changed since.
        """
        given = filename_or_checkpoint if checkpoint is None else checkpoint
        if given is None:
            raise TypeError("load_checkpoint takes a checkpoint")
        source, content = ("the checkpoint", given) if isinstance(given, dict) else (given, None)
        origin = checkpoints.check_origin(
            source, type(self).__name__, self.settings.given(), content
        )
        super().load_checkpoint(given)
        if self._continues:
            checkpoints.check_prior(source, origin, self.prior)
        self._continued, self._finetuned_from = True, origin.finetuned_from
        if self._schedule is not None:
            self._schedule.restore(origin.schedule)


@functools.cache
def trainer_with_settings(name: str, folder: Path) -> type[TopologyTrainerMixin]:
    """Returns the trainer that a name with settings asks for, the same class each time.

    Args:
        name: such as nnUNetTrainerTAFL_50epochs.
        folder: where the trainer files lie; the name must begin with one of theirs.

    Raises:
        AttributeError: the name is no name of ours.
        RuntimeError: nor will nnU-Net find it, and one of ours is spelt alike.
        ValueError: the trainer is ours, its settings are wrong.
    """
    files = sorted(folder.glob("nnUNetTrainer*.py"))
    for file in files:
        if not name.startswith(f"{file.stem}_"):
            continue
        base = _load_trainer(file)
        suffixes = name.removeprefix(file.stem)
        has_term = base.build_topology_term is not TopologyTrainerMixin.build_topology_term
        settings = parse_settings(file.stem, suffixes, has_term=has_term)
        if not base.has_filtration and (settings.clamp is not None or settings.face):
            raise ValueError(f"{name}: clamp<x> and face mean nothing to the term of {file.stem}")
        body = {"settings": settings, "stem": file.stem, "__doc__": base.__doc__}
        return type(name, (base,), body | {"__module__": base.__module__})
    # nnU-Net asks us after its own trainers and, unless told otherwise, after those of others.
    refuse_misspelt(name, folder)
    raise AttributeError(name)


def _load_trainer(file: Path) -> type[TopologyTrainerMixin]:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, file.stem)


def _as_list(scales: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [scales] if isinstance(scales, Tensor) else list(scales)


def _gradient_norm(loss: Tensor, leaf: Tensor, logits: Tensor, layer: list[Tensor]) -> float:
    """Returns the gradient norm of a loss at the layer that made the logits; 0 if not finite."""
    (at_logits,) = torch.autograd.grad(loss, leaf)
    gradients: Iterable[Tensor] = [at_logits]
    if layer:
        gradients = torch.autograd.grad(logits, layer, at_logits, retain_graph=True)
    norm = float(np.linalg.norm([float(g.norm()) for g in gradients]))  # mps knows no float64
    return norm if np.isfinite(norm) else 0.0
