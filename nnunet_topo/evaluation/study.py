"""The models of a comparison, and the data on which they are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.evaluation.evaluate_predictions import label_or_region_to_key
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_topo.dataset import read_dataset_json, read_plans_file
from nnunet_topo.evaluation.label_choice import LabelChoice
from nnunet_topo.evaluation.record import Evaluation
from nnunet_topo.evaluation.segmentations import Segmentations, find_segmentations, wanted_labels
from nnunet_topo.images.geometry import Unit, find_unit
from nnunet_topo.images.readers import written_ending
from nnunet_topo.labels.declared import labels_of_dataset
from nnunet_topo.labels.labels import Label, Labels


@dataclass(frozen=True, slots=True)
class Model:
    """Predictions to be compared.

    Attributes:
        name: the trainer's, or the user's name for the folder.
        folders: of predictions, by fold; a bare folder has the key "".
        trainings: folders of the folds, by fold; empty for bare folders.
    """

    name: str
    folders: Mapping[str, Path]
    trainings: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Study:
    """Models, and the data on which they are compared.

    Attributes:
        dataset: name of the data set.
        references: folder of reference segmentations.
        images: folder of raw images, None if there is none.
        dataset_json: nnU-Net's description of the data set; bare folders may have none.
        plans: nnU-Net's plans file; bare folders may have none.
        models: the first is compared with the others.
        labels: what is evaluated, and its names; None for the labels of dataset.json.
    """

    dataset: str
    references: Path
    images: Path | None
    dataset_json: Path | None
    plans: Path | None
    models: tuple[Model, ...]
    labels: Labels | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """How the files of a study are read.

    Attributes:
        reader: nnU-Net's, of the references.
        ending: of the references' names.
        channels: labels or regions of the network's channels, empty if they are not known.
        ignore: value of ignored voxels, None if there is none.
    """

    reader: BaseReaderWriter
    ending: str
    channels: tuple[Label, ...]
    ignore: int | None

    @property
    def has_regions(self) -> bool:
        """Returns whether channels may overlap."""
        return any(isinstance(label, tuple) for label in self.channels)


def describe_study(study: Study) -> Description:
    """Returns how the files of a study are read; without plans by the reader of the references."""
    if study.dataset_json is not None and study.plans is not None:
        description = read_dataset_json(study.dataset_json)
        manager = PlansManager(read_plans_file(study.plans))
        declared = labels_of_dataset(description, study.dataset_json, study.plans)
        reader = manager.image_reader_writer_class()
        ignore = (study.labels or declared).ignore  # that of -il before that of dataset.json
        return Description(reader, description["file_ending"], tuple(declared.evaluated), ignore)
    found = _find_segmentations(study)
    reference = next(pair.reference for pair in found.pairs if pair.reference)
    declared = ""
    if study.dataset_json is not None:
        declared = read_dataset_json(study.dataset_json)["file_ending"]
    ending = written_ending(reference, declared)
    return Description(found.reader(reference), ending, (), study_labels(study).ignore)


def study_labels(study: Study) -> Labels:
    """Returns the labels or regions that are evaluated."""
    return study.labels or wanted_labels([_find_segmentations(study)], LabelChoice())


def label_names(study: Study) -> dict[str, str]:
    """Returns the names of the labels or regions, by nnU-Net's key, in nnU-Net's order."""
    labels = study_labels(study)
    return {
        label_or_region_to_key(label): labels.names.get(label_or_region_to_key(label), str(label))
        for label in labels.evaluated
    }


def unit_of_distances(study: Study, evaluations: Sequence[Evaluation]) -> Unit:
    """Returns the unit of the distances in the evaluations of a study.

    Raises:
        ValueError: they have different units.
    """
    folders = [study.references, *(f for m in study.models for f in m.folders.values())]
    recorded: list[Unit | None] = [evaluation.unit for evaluation in evaluations]
    return find_unit(recorded, describe_study(study).reader, folders)


def _find_segmentations(study: Study) -> Segmentations:
    folder = next(iter(study.models[0].folders.values()))
    return find_segmentations(study.references, folder, study.dataset_json, study.plans)
