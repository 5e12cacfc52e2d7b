"""A trained model of nnU-Net, and what nnU-Net itself predicts with it."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
    export_prediction_from_logits,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import (
    LabelManager,
    determine_num_input_channels,
)
from numpy.typing import NDArray
from torch import Tensor

from nnunet_topo.dataset import Channels, Union
from nnunet_topo.images.layouts import check_file, with_spacing_file
from nnunet_topo.images.nifti import is_nifti, load_nifti, own_voxels
from nnunet_topo.messages import with_type
from nnunet_topo.topology import Connectivity
from nnunet_topo.training.checkpoints import read_origin
from nnunet_topo.training.lookup import without_timms_warning


@dataclass(frozen=True, slots=True)
class Prediction:
    """A case as nnU-Net predicts it.

    Attributes:
        image: preprocessed, `[channel, z, y, x]`.
        logits: in nnU-Net's precision, `[head, z, y, x]`.
        properties: those of nnU-Net's preprocessing.
        segmentation: as nnU-Net would write it, but with its axes in the order of the image here.
    """

    image: Tensor
    logits: Tensor
    properties: dict[str, Any]
    segmentation: NDArray[Any]

    @property
    def is_resampled(self) -> bool:
        """Returns whether the logits have a different grid from the file that is written."""
        original = self.properties["shape_after_cropping_and_before_resampling"]
        return tuple(original) != tuple(self.logits.shape[1:])


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model of nnU-Net.

    Attributes:
        predictor: nnU-Net's predictor.
        folds: the folds in use.
        checkpoints: one for each fold.
        channels: foreground classes or regions.
        connectivity: of the foreground, that of the training.
        probabilities: whether probabilities are written, too.
    """

    predictor: nnUNetPredictor
    folds: tuple[str, ...]
    checkpoints: tuple[Path, ...]
    channels: Channels
    connectivity: Connectivity
    probabilities: bool

    @property
    def label_manager(self) -> LabelManager:
        """Returns nnU-Net's label manager."""
        manager = self.predictor.label_manager
        assert manager is not None
        return manager

    @property
    def space(self) -> Literal[2, 3]:
        """Returns the number of axes of a patch."""
        return 2 if len(self.predictor.configuration_manager.patch_size) == 2 else 3

    @property
    def ending(self) -> str:
        """Returns the file ending of images and segmentations."""
        return self.predictor.dataset_json["file_ending"]

    def files_of(self, channels: Sequence[Path]) -> list[Path]:
        """Returns all files that nnU-Net reads of an image with these channels."""
        reader = self.predictor.plans_manager.image_reader_writer_class()
        return with_spacing_file(reader, channels)

    def name(self, union: Union) -> str:
        """Returns the name of a label; of a union the names of its labels, joined by +."""
        return "+".join(self.channels.names[channel] for channel in union)

    def predict(self, files: Sequence[Path]) -> Prediction:
        """Returns what nnU-Net predicts.

        Raises:
            ValueError: the number of channels is wrong, or a voxel is not finite.
            Exception: whatever the readers raise.
        """
        predictor = self.predictor
        manager, configuration = predictor.plans_manager, predictor.configuration_manager
        number = determine_num_input_channels(manager, configuration, predictor.dataset_json)
        found = ", ".join(file.name for file in files)
        if len(files) > number:
            raise ValueError(f"the model takes {number} channels for each case, got {found}")
        for file in files:
            check_file(manager.image_reader_writer_class(), file, of_image=True)
            if is_nifti(file):
                # If a file was cut short, SimpleITK fills the rest with zeros.
                load_nifti(file).dataobj.get_unscaled()
        preprocessor = configuration.preprocessor_class(verbose=False)
        with own_voxels(files) as paths:
            data, _, properties = preprocessor.run_case(
                paths, None, manager, configuration, predictor.dataset_json
            )
        if len(data) != number:  # one file may hold several channels, as a colour photograph does
            raise ValueError(
                f"the model takes {number} channels for each case, got {len(data)}: {found}"
            )
        image = torch.from_numpy(data)
        if not torch.isfinite(image).all():
            raise ValueError("the image contains NaN or infinite values")
        # A copy, because nnU-Net's tensor was made under torch.inference_mode.
        logits = predictor.predict_logits_from_preprocessed_data(image).cpu().clone()
        return Prediction(image, logits, properties, self.segment(logits, properties))

    def segment(self, logits: Tensor, properties: dict[str, Any]) -> NDArray[Any]:
        """Returns the segmentation that nnU-Net would write, axes in the order of the logits."""
        predictor = self.predictor
        result = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits.numpy(),
            predictor.plans_manager,
            predictor.configuration_manager,
            self.label_manager,
            properties,
            return_probabilities=self.probabilities,
            num_threads_torch=torch.get_num_threads(),
        )
        written = result[0] if self.probabilities else result
        return written.transpose(predictor.plans_manager.transpose_forward)

    def export(self, logits: Tensor, properties: dict[str, Any], path: Path) -> None:
        """Writes the files that nnUNetv2_predict writes for a case.

        Args:
            logits: of the case.
            properties: those of nnU-Net's preprocessing.
            path: path of the files without their ending.
        """
        export_prediction_from_logits(
            logits.numpy(),
            properties,
            self.predictor.configuration_manager,
            self.predictor.plans_manager,
            self.predictor.dataset_json,
            str(path),
            self.probabilities,
            torch.get_num_threads(),
        )

    def write(self, segmentation: NDArray[Any], properties: dict[str, Any], path: Path) -> None:
        """Writes a segmentation.

        Args:
            segmentation: with its axes in the order of the logits.
            properties: those of nnU-Net's preprocessing.
            path: path of the file without its ending.
        """
        manager = self.predictor.plans_manager
        written = segmentation.transpose(manager.transpose_backward)
        file = str(path.with_name(path.name + self.ending))
        manager.image_reader_writer_class().write_seg(written, file, properties)


def open_model(
    folder: Path,
    *,
    folds: Sequence[str] | None,
    checkpoint: str,
    device: str,
    probabilities: bool,
) -> TrainedModel:
    """Returns a model as nnUNetv2_predict would use it, mirroring included.

    Args:
        folder: `<trainer>__<plans>__<configuration>`.
        folds: None for all that have the checkpoint.
        checkpoint: its file name.
        device: cpu, cuda or mps.
        probabilities: whether probabilities are to be written, too.

    Raises:
        ValueError: no such model, fold or device, or nnU-Net cannot build the model.
        NotImplementedError: the second stage of a cascade.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("-device cuda: PyTorch finds no GPU here; -device cpu works everywhere")
    chosen = _choose_folds(folder, folds, checkpoint)
    predictor = _build_predictor(folder, chosen, checkpoint, device)
    first = predictor.configuration_manager.previous_stage_name
    if first is not None:
        raise NotImplementedError(
            f"{folder} is the second stage of a cascade, which cannot be refined yet; refine its "
            f"first stage, {first}"
        )
    for fold, parameters in zip(chosen, predictor.list_of_parameters, strict=True):
        try:
            network = getattr(predictor.network, "_orig_mod", predictor.network)  # of torch.compile
            network.load_state_dict(parameters)
        except RuntimeError as error:
            raise ValueError(
                f"fold {fold} of {folder} holds another network than its plans describe: "
                f"{with_type(error)}"
            ) from None
    checkpoints = tuple(folder / f"fold_{fold}" / checkpoint for fold in chosen)
    origin = read_origin(checkpoints[0])
    return TrainedModel(
        predictor,
        chosen,
        checkpoints,
        Channels.of_manager(predictor.label_manager),
        "face" if origin is not None and origin.settings.get("face") else "full",
        probabilities,
    )


def _choose_folds(folder: Path, folds: Sequence[str] | None, checkpoint: str) -> tuple[str, ...]:
    """Returns the given folds, or all that have the checkpoint.

    Raises:
        ValueError: the folder is not a model, or a fold has no such checkpoint.
    """
    for name in ("dataset.json", "plans.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not a trained nnU-Net model: it holds no {name}")
    there = sorted(
        file.parent.name.removeprefix("fold_") for file in folder.glob(f"fold_*/{checkpoint}")
    )
    chosen = tuple(folds or [fold for fold in there if fold != "all"] or there)
    missing = [fold for fold in chosen if fold not in there]
    if missing or not chosen:
        raise ValueError(
            f"{folder} holds no {checkpoint} of {_folds(missing) or 'any fold'}; it holds "
            f"{f'that of {_folds(there)}' if there else 'none'}"
        )
    return chosen


def _build_predictor(
    folder: Path, folds: tuple[str, ...], checkpoint: str, device: str
) -> nnUNetPredictor:
    """Returns nnU-Net's predictor with the network and the weights of the folds.

    Raises:
        ValueError: nnU-Net cannot build it.
    """
    # nnU-Net prints advice on an option that this command does not have.
    with redirect_stdout(io.StringIO()), without_timms_warning():
        predictor = nnUNetPredictor(
            perform_everything_on_device=device == "cuda",
            device=torch.device(device),
            allow_tqdm=False,
        )
        try:
            predictor.initialize_from_trained_model_folder(str(folder), folds, checkpoint)
        except Exception as error:  # nnU-Net raises many kinds
            raise ValueError(f"nnU-Net cannot build {folder}: {with_type(error)}") from None
    return predictor


def _folds(folds: Sequence[str]) -> str:
    return f"fold{'s' * (len(folds) > 1)} {', '.join(folds)}" if folds else ""
