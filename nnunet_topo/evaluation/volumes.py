"""The volumes of one case for pictures: image, reference, predictions and probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import (
    key_to_label_or_region,
    region_or_label_to_mask,
)

from nnunet_topo.evaluation.study import Model, Study, describe_study
from nnunet_topo.files import case_files, case_name, split_ending
from nnunet_topo.images.geometry import Geometry, read_geometry
from nnunet_topo.images.readers import ReadersByEnding, known_endings


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


def read_volumes(study: Study, models: Sequence[Model], case: str, label: str) -> Volumes:
    """Reads one label of a case from the files of all models.

    A volume of one slice has that slice first, whichever axis it lies on.

    Raises:
        Exception: a reader fails.
    """
    described = describe_study(study)
    reader, ending, in_network = described.reader, described.ending, described.channels
    region = key_to_label_or_region(label)
    segmentation, properties = reader.read_seg(str(study.references / case))
    reference = region_or_label_to_mask(segmentation[0], region)
    counted = segmentation[0] != described.ignore  # all of it where there is none
    predictions, probabilities = {}, {}
    for model in models:
        file = _prediction_file(model, case, ending)
        same = file.name == case
        reader_of_file = reader if same else ReadersByEnding([file])(file)
        prediction = region_or_label_to_mask(reader_of_file.read_seg(str(file))[0][0], region)
        predictions[model.name] = prediction & counted
        saved = file.with_name(case.removesuffix(ending) + ".npz")
        if saved.is_file() and region in in_network:
            channels = np.load(saved)["probabilities"]
            index = in_network.index(region) + (not described.has_regions)
            if channels.shape[1:] == reference.shape:
                probabilities[model.name] = channels[index].astype(np.float32)
    image = None
    if study.images is not None:
        file = _image_file(study.images, study.references / case, ending)
        if file is not None:
            image = reader.read_images([str(file)])[0][0]
            image = image if image.shape == reference.shape else None
    spacing_mm = tuple(float(length) for length in properties["spacing"])
    geometry = read_geometry(study.references / case, properties)
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


def _image_file(folder: Path, reference: Path, ending: str) -> Path | None:
    """Returns the first channel of a case, None if there is none.

    Its name may write letters such as é, or the ending, in another way than that of the reference.
    """
    stem, written = split_ending(reference, [ending])
    named = folder / f"{stem}_0000{written}"
    if named.is_file():
        return named
    name = f"{case_name(reference, [ending])}_0000"
    others = (file for file in case_files(folder, "") if split_ending(file, [ending])[1])
    return next((file for file in others if case_name(file, [ending]) == name), None)


def _prediction_file(model: Model, case: str, ending: str) -> Path:
    """Returns the prediction of a case: named as its reference, the ending may differ."""
    stem = case.removesuffix(ending)
    names = [case, *(stem + other for other in known_endings())]
    files = (folder / name for name in names for folder in model.folders.values())
    return next(file for file in files if file.is_file())
