"""Training with unlabelled images, of which only the topology is known.

Clough, Byrne, Oksuz, Zimmer, Schnabel, King: A Topological Loss Function for Deep-Learning based
Image Segmentation using Persistent Homology. IEEE Transactions on Pattern Analysis and Machine
Intelligence 2020.
"""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import (
    NonDetMultiThreadedAugmenter,
)
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.helpers import dummy_context
from numpy.typing import NDArray
from torch import Tensor

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.priors.topology_json import FILE
from nnunet_topo.training.loss import StepRecord, TopologyAwareLoss, as_tensor, finest
from nnunet_topo.training.priors_of_training import priors_of_training
from nnunet_topo.training.progress import LOGGED
from nnunet_topo.training.trainer import TopologyTrainerMixin
from nnunet_topo.unlabeled.check import check_unlabeled
from nnunet_topo.unlabeled.record import digest_of_plan, unlabeled_folder


class LabelledAndUnlabelledLoss(TopologyAwareLoss):
    """Returns the base loss of a labelled batch + what is due for an unlabelled one (eq. 6).

    Attributes:
        of_unlabelled: the weighted term of an unlabelled batch, added to the next loss.
    """

    of_unlabelled: Tensor | None = None

    def forward(self, output: Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        """Returns the loss; output and target are those of the labelled batch."""
        base = as_tensor(self.base(output, target), output)
        if not torch.is_grad_enabled():
            return base
        self.record.base = float(base.detach())
        return base if self.of_unlabelled is None else base + self.of_unlabelled


class SemiSupervisedTrainerMixin(TopologyTrainerMixin):
    """Adds unlabelled batches, on which the topology term works, to an nnU-Net trainer.

    Until the term starts the training is supervised. Then each iteration takes a labelled batch,
    for nnU-Net's loss alone, and an unlabelled one of the same size, for weight * term, and makes
    one step of the optimizer with the sum of their gradients, that of eq. 6. The paper makes two
    steps; with one, learning rate, weight decay and momentum act as often as in the control.
    """

    topology_loss = LabelledAndUnlabelledLoss
    logged: ClassVar[Mapping[str, str]] = {**LOGGED, "topology_used": "share of objects used"}
    _unlabelled: Any = None  # batches without labels
    _images: Tensor  # the batch of this iteration
    _augmentation: tuple

    def initialize(self) -> None:
        """Builds what the training needs, as for any trainer.

        Raises:
            NotImplementedError: the configuration is the second stage of a cascade.
        """
        if self.is_cascaded:
            raise NotImplementedError(
                f"{type(self).__name__}: unlabelled images have no segmentation of a previous "
                f"stage, which {self.configuration_name} needs; train its first stage so"
            )
        super().initialize()

    # -- unlabelled batches ------------------------------------------------------------------

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802
        """Returns nnU-Net's augmentation settings, and keeps them for the unlabelled images."""
        self._augmentation = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        return self._augmentation

    def get_dataloaders(self):
        """Returns nnU-Net's loaders, and makes one of the unlabelled images.

        Raises:
            RuntimeError: there are no unlabelled images, or not such as can be trained on.
        """
        self.end_unlabelled()
        wanted = self._schedule is not None and self._schedule.nominal > 0
        folder = unlabeled_folder(Path(self.preprocessed_dataset_folder))
        cases = []
        if wanted:
            if self.dataset_class is None:
                self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
            labelled = self.dataset_class.get_identifiers(self.preprocessed_dataset_folder)
            plan = digest_of_plan(self.plans_manager, self.configuration_manager)
            cases = check_unlabeled(folder, set(labelled), plan)
        loaders = super().get_dataloaders()
        if wanted:
            self._unlabelled = self._begin_unlabelled(folder, cases)
            self.print_to_log_file(f"topology: {len(cases)} unlabelled images in {folder}")
        return loaders

    def _begin_unlabelled(self, folder: Path, cases: list[str]) -> Iterator[dict]:
        """Returns nnU-Net's augmented batches of unlabelled images, endlessly."""
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
        loader = UnlabelledDataLoader(
            infer_dataset_class(str(folder))(str(folder), cases),
            self.batch_size,
            initial_patch_size,
            patch_size,
            self.label_manager,
            transforms=transforms,
        )
        loader.centres = self._centres_of_objects()
        processes = get_allowed_n_proc_DA()
        if processes == 0:
            return _OwnRandomNumbers(loader)
        # An iteration is twice as long with unlabelled images: half of nnU-Net's workers do.
        processes = max(1, processes // 2)
        batches = NonDetMultiThreadedAugmenter(
            loader,
            None,
            processes,
            num_cached=max(3, processes // 2),
            pin_memory=self.device.type == "cuda",
            wait_time=0.002,
        )
        next(batches)  # workers are forked now, before there are other threads
        return batches

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
        centres = []
        for case in cases:
            data, *_, properties = dataset.load_case(case)
            for key in keys:
                voxels = properties["class_locations"].get(key, [])
                for part in _objects(np.asarray(voxels), in_slices):
                    centre = (part.min(0) + part.max(0) + 1) / 2
                    centres.append(centre / data.shape[1:])
        return np.array(centres or [[0.5, 0.5, 0.5]])

    def end_unlabelled(self) -> None:
        """Ends the processes that augment unlabelled images."""
        if isinstance(self._unlabelled, NonDetMultiThreadedAugmenter):
            self._unlabelled._finish()
        self._unlabelled = None

    def run_training(self) -> None:
        """Trains; the processes end with it, however it ends."""
        try:
            super().run_training()
        finally:
            self.end_unlabelled()

    # -- one iteration -----------------------------------------------------------------------

    def train_step(self, batch: dict) -> dict:
        """Takes one step for a labelled batch, together with an unlabelled one if it is due."""
        assert self._topology is not None
        assert self._schedule is not None
        if self._schedule.is_due(self.current_epoch, self._iteration):
            self._images = next(self._unlabelled)["data"].to(self.device, non_blocking=True)
        result = super().train_step(batch)
        return result | {"topology_used": self._topology.record.used}

    def begin_step(self, weight: float | None) -> None:
        """Back-propagates the term of the unlabelled batch, before nnU-Net sees the labelled one.

        So the graphs of both are never in memory at once. What is added to the loss of the
        labelled batch has the gradient found here; DDP averages it, and gradient clipping and the
        gradient scaler act on the sum.
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
            logits = finest(network(self._images))
            term = self._topology.measure_term(logits, None)
        # A step without the term goes backward, too: layers may wait for the other processes.
        loss = 0 * logits.float().sum() if term is None else scale * weight * term.loss
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        known = [
            (p, g / scale) for p, g in zip(parameters, gradients, strict=True) if g is not None
        ]
        if term is not None and all(bool(torch.isfinite(g).all()) for _, g in known):
            linear = torch.stack([(p * g).sum() for p, g in known]).sum()
            self._topology.of_unlabelled = linear - linear.detach() + weight * term.loss.detach()
        self._topology.record.milliseconds = 1000 * (perf_counter() - began)

    def _norm_of_term(self, layer: list[Tensor], logits: Tensor, target: Tensor | None) -> float:
        """Returns the gradient norm of the term of the unlabelled batch, at the last layer."""
        layer, logits, _ = self._last_layer(self._images)
        return super()._norm_of_term(layer, logits, None)


class UnlabelledDataLoader(nnUNetDataLoader):
    """nnU-Net's loader for images without labels: patches that are likely to show whole objects.

    A prior only holds where an object is seen as a whole. Where the objects are is not known, so
    patches lie where they are in the labelled images.

    Attributes:
        centres: of the labelled objects (in 2D: of their slices), `[object, (z, y, x)]`, as shares
            of the image's size.
    """

    centres: NDArray[np.float64]

    def get_bbox(self, data_shape, force_fg, class_locations, overwrite_class=None, verbose=False):
        """Returns lower and upper corner of a patch around the centre of a labelled object."""
        shape, patch = np.array(data_shape), np.array(self.patch_size)
        padding = np.maximum(self.need_to_pad, patch - shape)  # as nnU-Net's own
        lowest, highest = -padding // 2, shape + (padding + 1) // 2 - patch
        centre = self.centres[np.random.choice(len(self.centres))]  # noqa: NPY002 # nnU-Net's
        lower = np.clip(np.floor(centre * shape).astype(int) - patch // 2, lowest, highest)
        return lower.tolist(), (lower + patch).tolist()


class _OwnRandomNumbers:
    """Batches made in this process from random numbers of their own.

    So the labelled batches are those of a training without unlabelled ones.
    """

    def __init__(self, loader: nnUNetDataLoader) -> None:
        self.loader = loader
        outer = _random_states()
        seed = (torch.initial_seed() + 1) % 2**32
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 # nnU-Net's augmentation draws from it
        torch.default_generator.manual_seed(seed)
        self.states = _random_states()
        _set_random_states(outer)

    def __iter__(self) -> Iterator[dict]:
        return self

    def __next__(self) -> dict:
        outer = _random_states()
        _set_random_states(self.states)
        try:
            return next(self.loader)
        finally:
            self.states = _random_states()
            _set_random_states(outer)


def _random_states() -> tuple:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def _set_random_states(states: tuple) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


def _objects(voxels: NDArray[np.int64], in_slices: bool) -> list[NDArray[np.int64]]:
    """Returns the voxels, `[voxel, (channel, z, y, x)]`, of an object, or of each slice of it."""
    if len(voxels) == 0:
        return []
    voxels = voxels[:, 1:]
    if not in_slices:
        return [voxels]
    return [voxels[voxels[:, 0] == z] for z in np.unique(voxels[:, 0])]


def prior_of_unlabelled(trainer: TopologyTrainerMixin) -> BettiPriorLoss:
    """Returns the loss for the Betti numbers that are known of images without labels.

    Classes without a prior take no part.

    Raises:
        RuntimeError: no class has such numbers.
    """
    priors = priors_of_training(trainer).channels
    if not priors:
        file = Path(str(trainer.preprocessed_dataset_folder_base)) / FILE
        raise RuntimeError(
            f"{type(trainer).__name__}: no class has a topological prior in {file}, and without "
            "one unlabelled images teach nothing. `nnunet-topo plan` shows what the labels say; "
            "write numbers into the file if you know better"
        )
    return BettiPriorLoss(
        priors,
        connectivity=trainer.settings.connectivity,
        clamp=trainer.clamp,
        in_patches=True,
    )
