"""The volumes of one case for pictures: image, reference, predictions and probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import (
    key_to_label_or_region,
    region_or_label_to_mask,
)
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_topo.evaluation.study import Description, Model, Study, describe_study
from nnunet_topo.files import case_files, case_name, split_ending
from nnunet_topo.images.geometry import Geometry, read_geometry
from nnunet_topo.images.probabilities import saved_probabilities
from nnunet_topo.images.readers import ReadersByEnding, written_ending
from nnunet_topo.images.segmentation import mm_of_unit, read_array


@dataclass(frozen=True, slots=True)
class Volumes:
    """One label of a case, as arrays [z, y, x], of an image one slice.

    Attributes:
        image: first channel of the raw image, None where it is missing.
        reference: mask.
        predictions: mask of each model.
        probabilities: of the label, of the models that have saved them.
        spacing_mm: of the axes; in voxels where the files have no spacing.
        geometry: how the arrays lie in the patient.
    """

    image: np.ndarray | None
    reference: np.ndarray
    predictions: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]
    spacing_mm: tuple[float, ...]
    geometry: Geometry


def read_volumes(
    study: Study, case: str, label: str, named: Sequence[tuple[Model, str]]
) -> Volumes:
    """Reads one label of a case from the files of all models.

    A volume of one slice has that slice first, whichever axis it lies on.

    Args:
        study: the data.
        case: file name of the reference.
        label: nnU-Net's key.
        named: each model with the file name of its prediction.

    Raises:
        ValueError: there is no such prediction.
        Exception: a reader fails.
    """
    described = describe_study(study)
    reference_file = study.references / case
    reader, in_network = _reader(described, reference_file), described.channels
    region = key_to_label_or_region(label)
    segmentation, properties = read_array(reader, reference_file)
    reference = region_or_label_to_mask(segmentation[0], region)
    counted = segmentation[0] != described.ignore  # all of it where there is none
    predictions, probabilities = {}, {}
    for model, name in named:
        file = _prediction_file(model, name)
        read = read_array(_reader(described, file), file)[0][0]
        predictions[model.name] = region_or_label_to_mask(read, region) & counted
        ending = written_ending(file, described.ending)
        saved = file.with_name(f"{file.name.removesuffix(ending)}.npz")
        if saved.is_file() and region in in_network:
            channels = saved_probabilities(saved)
            index = in_network.index(region) + (not described.has_regions)
            if channels.shape[1:] == reference.shape:
                probabilities[model.name] = channels[index].astype(np.float32)
    image = None
    if study.images is not None:
        ending = written_ending(reference_file, described.ending)
        file = _image_file(study.images, reference_file, ending)
        if file is not None:
            image = read_array(reader, file)[0][0]
            image = image if image.shape == reference.shape else None
    in_mm = mm_of_unit(reference_file, properties)
    spacing_mm = tuple(float(length) * in_mm for length in properties["spacing"])
    geometry = read_geometry(reference_file, properties)
    flat = next((axis for axis, length in enumerate(reference.shape) if length == 1), 0)
    if flat:
        image = None if image is None else np.moveaxis(image, flat, 0)
        reference = np.moveaxis(reference, flat, 0)
        for arrays in (predictions, probabilities):
            arrays |= {name: np.moveaxis(array, flat, 0) for name, array in arrays.items()}
        others = (length for axis, length in enumerate(spacing_mm) if axis != flat)
        spacing_mm = (spacing_mm[flat], *others)
        geometry = geometry.moved_to_front(flat)
    return Volumes(image, reference, predictions, probabilities, spacing_mm, geometry)


def _reader(described: Description, file: Path) -> BaseReaderWriter:
    """Returns the reader of the study, of files with another ending that of the ending."""
    same = file.name.lower().endswith(described.ending.lower())
    return described.reader if same else ReadersByEnding([file])(file)


def _image_file(folder: Path, reference: Path, ending: str) -> Path | None:
    """Returns the first channel of a case, None if there is none.

    Its name may write letters such as é, or the ending, in another way than that of the reference.
    """
    named = folder / f"{reference.name.removesuffix(ending)}_0000{ending}"
    if named.is_file():
        return named
    name = f"{case_name(reference, [ending])}_0000"
    others = (file for file in case_files(folder, "") if split_ending(file, [ending])[1])
    return next((file for file in others if case_name(file, [ending]) == name), None)


def _prediction_file(model: Model, name: str) -> Path:
    """Returns the prediction of a model with a file name.

    Raises:
        ValueError: there is none.
    """
    folders = list(model.folders.values())
    for file in (folder / name for folder in folders):
        if file.is_file():
            return file
    raise ValueError(f"there is no prediction {name} in {', '.join(map(str, folders))}")
