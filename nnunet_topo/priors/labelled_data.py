"""Where the labels of a data set lie: the label files, and the preprocessed cases."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_topo.dataset import Channels, Dataset, listed_cases
from nnunet_topo.files import case_files
from nnunet_topo.labels.declared import labels_of_manager
from nnunet_topo.labels.labels import Labels


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """The preprocessed labels of a configuration.

    Attributes:
        dataset_class: nnU-Net's reader.
        folder: of the preprocessed cases.
        space: axes of a patch; with 2, volumes are taken slice by slice.
    """

    dataset_class: type
    folder: str
    space: int


@dataclass(frozen=True, slots=True)
class LabelledData:
    """All labels of a data set, of every fold.

    Attributes:
        name: of the data set.
        files: label file of each case.
        reader: nnU-Net's.
        transpose: order of the axes in which nnU-Net trains.
        channels: foreground classes or regions.
        labels: what a label file may hold.
        has_volumes: whether there are 3D configurations; without them, images are slices.
        preprocessed: by configuration.
        missing: folders of configurations that have not been preprocessed.
    """

    name: str
    files: Mapping[str, Path]
    reader: BaseReaderWriter
    transpose: tuple[int, ...]
    channels: Channels
    labels: Labels
    has_volumes: bool
    preprocessed: Mapping[str, Preprocessed]
    missing: Mapping[str, Path]


def find_labels(
    plans: PlansManager, dataset_json: dict[str, Any], configurations: Iterable[str]
) -> LabelledData:
    """Returns where the labels of a data set lie: in nnU-Net's raw data, else in its copies.

    Args:
        plans: nnU-Net's, of the data set.
        dataset_json: nnU-Net's description of it.
        configurations: whose preprocessed labels are needed; each folder is used once.

    Raises:
        ValueError: there are no labels, or no such configuration.
    """
    dataset = Dataset(plans.dataset_name)
    files = _label_files(dataset, dataset_json)
    preprocessed: dict[str, Preprocessed] = {}
    missing: dict[str, Path] = {}
    for configuration in configurations:
        if configuration not in plans.available_configurations:
            known = ", ".join(plans.available_configurations)
            raise ValueError(f"{plans.plans_name} has no {configuration}; there are: {known}")
        folder = dataset.preprocessed / plans.get_configuration(configuration).data_identifier
        if not case_files(folder, ""):
            missing[configuration] = folder
        elif str(folder) not in (other.folder for other in preprocessed.values()):
            preprocessed[configuration] = _find_preprocessed(plans, configuration, folder)
    manager = plans.get_label_manager(dataset_json)
    return LabelledData(
        name=dataset.name,
        files=files,
        reader=plans.image_reader_writer_class(),
        transpose=tuple(plans.transpose_forward),
        channels=Channels.of_manager(manager),
        labels=labels_of_manager(manager),
        has_volumes=any(
            len(plans.get_configuration(c).patch_size) == 3 for c in plans.available_configurations
        ),
        preprocessed=preprocessed,
        missing=missing,
    )


def _find_preprocessed(plans: PlansManager, configuration: str, folder: Path) -> Preprocessed:
    """Returns the preprocessed labels in a folder.

    Raises:
        ValueError: nnU-Net cannot read the folder.
    """
    try:
        dataset_class = infer_dataset_class(str(folder))
    except (AssertionError, KeyError) as error:
        raise ValueError(f"nnU-Net cannot read the cases in {folder}: {error}") from None
    return Preprocessed(
        dataset_class=dataset_class,
        folder=str(folder),
        space=len(plans.get_configuration(configuration).patch_size),
    )


def _label_files(dataset: Dataset, dataset_json: Mapping[str, Any]) -> dict[str, Path]:
    """Returns the label file of each case.

    Raises:
        ValueError: there is none, or dataset.json does not list cases as nnU-Net wants it.
    """
    ending, raw = dataset_json["file_ending"], dataset.raw
    found: dict[str, Path] = {}
    listed = listed_cases(dataset_json, dataset.preprocessed / "dataset.json")
    if raw is not None and listed is not None:
        labels = {case: os.path.expandvars(entry["label"]) for case, entry in listed.items()}
        return {case: raw / label for case, label in labels.items()}
    if raw is not None and (raw / "labelsTr").is_dir():
        images = case_files(raw / "imagesTr", ending)
        cases = {image.name.removesuffix(ending)[: -len("_0000")] for image in images}
        found = {case: raw / "labelsTr" / f"{case}{ending}" for case in cases}
    for copy in case_files(dataset.references, ending):
        case = copy.name.removesuffix(ending)
        if case not in found:  # images are often removed after preprocessing
            label = raw / "labelsTr" / copy.name if raw is not None else copy
            found[case] = label if label.is_file() else copy
    if not found:
        places = " and ".join(str(place) for place in (raw, dataset.references) if place)
        raise ValueError(
            f"no labels of {dataset.name}: looked for files that end in {ending} in {places}"
        )
    return dict(sorted(found.items()))
