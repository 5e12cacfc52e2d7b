"""A data set of nnU-Net: its folders, its files, and the channels of its labels."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw, nnUNet_results
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_topo.files import read_json
from nnunet_topo.labels.declared import REFUSALS
from nnunet_topo.labels.name_files import labels_by_name
from nnunet_topo.messages import on_one_line, one_line, with_type

Union = tuple[int, ...]
"""Channels that form a union, counted from 0 in the order of the classes or regions."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The output channels of a network: foreground classes or regions.

    Attributes:
        names: of the classes or regions, in the order of the channels.
        members: labels of each; a class has one.
        has_regions: whether channels may overlap.
        ignore: value of ignored voxels, None if there is none.
    """

    names: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    has_regions: bool
    ignore: int | None

    @classmethod
    def of_manager(cls, manager: LabelManager) -> "Channels":
        """Returns the channels of nnU-Net's label manager."""
        labels = manager.foreground_regions if manager.has_regions else manager.foreground_labels
        members = tuple(
            tuple(map(int, label)) if isinstance(label, Iterable) else (int(label),)
            for label in labels  # pyright: ignore[reportOptionalIterable] # has_regions says so
        )
        named = {
            name: set(label) if isinstance(label, tuple) else {label}
            for name, label in labels_by_name(manager.label_dict, "dataset.json: labels").items()
            if name != "ignore"
        }
        if manager.has_regions:
            names = tuple(name for name, label in named.items() if label != {0})
        else:
            names = tuple(
                next((name for name, of in named.items() if of == {label}), str(label))
                for (label,) in members
            )
        return cls(names, members, bool(manager.has_regions), manager.ignore_label)

    @classmethod
    def of_description(cls, description: Mapping[str, Any], file: Path) -> "Channels":
        """Returns the channels of a dataset.json.

        Args:
            description: its content.
            file: its path.

        Raises:
            ValueError: nnU-Net does not accept its labels.
        """
        labels, order = description["labels"], description.get("regions_class_order")
        try:
            return cls.of_manager(LabelManager(labels, order))
        except REFUSALS as error:
            told = f"nnU-Net does not accept the labels of {file}: {with_type(error)}"
            raise ValueError(told) from None

    def __len__(self) -> int:
        return len(self.names)

    def union(self, names: Iterable[str]) -> Union:
        """Returns the channels with these names, in their order.

        Raises:
            ValueError: there is no such name.
        """
        return tuple(sorted({self.names.index(name) for name in names}))

    def labels_of(self, union: Union) -> tuple[int, ...]:
        """Returns the labels of a union of channels, sorted."""
        return tuple(sorted({label for channel in union for label in self.members[channel]}))

    def name_of(self, union: Union) -> str:
        """Returns the names of some channels, joined by +."""
        return " + ".join(self.names[channel] for channel in union)

    def default_unions(self) -> dict[str, list[str]]:
        """Returns the union of all foreground by name, none if one channel is all foreground."""
        everything = set().union(*self.members)
        if any(set(labels) == everything for labels in self.members):
            return {}
        name = "foreground"
        while name in self.names:
            name = f"all {name}"
        return {name: list(self.names)}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set in nnU-Net's folders.

    Attributes:
        name: such as Dataset004_Hippocampus.
    """

    name: str

    @classmethod
    def find(cls, dataset: str) -> "Dataset":
        """Returns the data set with a name or number.

        Args:
            dataset: a shell may have completed the name to that of a folder, with a slash.

        Raises:
            ValueError: there is no such data set, or more than one.
        """
        asked = dataset.strip().rstrip("/\\")
        if not asked.isdecimal() and not re.fullmatch(r"Dataset\d+(_[^/\\]*)?", asked):
            raise ValueError(
                "-d: wanted the number of a data set or a name such as Dataset004_Hippocampus, "
                f"got {dataset!r}"
            )
        try:
            number_or_name = int(asked) if asked.isdecimal() else asked
            return cls(str(maybe_convert_to_dataset_name(number_or_name)))
        except (RuntimeError, AssertionError) as error:
            raise ValueError(one_line(error)) from None

    @property
    def number(self) -> int:
        """Returns the number in the name, which nnU-Net's planning needs."""
        return int(self.name.removeprefix("Dataset").partition("_")[0])

    @property
    def raw(self) -> Path | None:
        """Returns the folder of images and labels, None if nnUNet_raw is not set."""
        return Path(str(nnUNet_raw)) / self.name if nnUNet_raw.get() else None

    @property
    def preprocessed(self) -> Path:
        """Returns the folder of plans and preprocessed cases.

        Raises:
            ValueError: nnUNet_preprocessed is not set.
        """
        return self._folder("nnUNet_preprocessed", nnUNet_preprocessed)

    @property
    def results(self) -> Path:
        """Returns the folder of trained models.

        Raises:
            ValueError: nnUNet_results is not set.
        """
        return self._folder("nnUNet_results", nnUNet_results)

    @property
    def references(self) -> Path:
        """Returns the folder of the reference segmentations, which nnU-Net copies there."""
        return self.preprocessed / "gt_segmentations"

    def _folder(self, variable: str, path: Any) -> Path:
        if not path.get():
            raise ValueError(f"{variable} must be set, as for nnU-Net")
        return Path(str(path)) / self.name

    def read_plans(self, plans: str) -> tuple[PlansManager, dict[str, Any]]:
        """Returns nnU-Net's plans of a name, and dataset.json.

        Raises:
            ValueError: there are no such plans, or nnU-Net does not accept them.
            OSError: a file cannot be read.
        """
        file = self.preprocessed / f"{plans}.json"
        if not file.is_file():
            there = sorted(f.stem for f in self.preprocessed.glob("*lans*.json"))
            raise ValueError(
                f"no plans {file}; there are: {', '.join(there) or 'none'}. nnU-Net plans first: "
                f"nnUNetv2_plan_and_preprocess -d {self.number}"
            )
        content = read_json(file)
        dataset_json = read_dataset_json(self.preprocessed / "dataset.json")
        manager = PlansManager(content)
        try:
            manager.get_label_manager(dataset_json)
            manager.image_reader_writer_class()
            configurations = manager.available_configurations
        except REFUSALS as e:
            raise ValueError(f"nnU-Net does not accept {file} and its dataset.json: {e}") from None
        for configuration in configurations:
            configuration_of(manager, configuration, file)
        return manager, dataset_json


def configuration_of(plans: PlansManager, name: str, file: Path) -> ConfigurationManager:
    """Returns a configuration of nnU-Net's plans.

    Args:
        plans: nnU-Net's.
        name: of the configuration.
        file: that holds the plans.

    Raises:
        ValueError: nnU-Net does not accept it.
    """
    try:
        return plans.get_configuration(name)
    except REFUSALS as error:
        told = f"nnU-Net does not accept {name} of {file}: {with_type(error)}"
        raise ValueError(told) from None


def read_dataset_json(file: Path) -> dict[str, Any]:
    """Returns the content of nnU-Net's description of a data set.

    Raises:
        ValueError: it is another file, or an entry has a wrong type.
        OSError: it cannot be read.
    """
    content = read_json(file)
    missing = [key for key in ("labels", "file_ending") if key not in content]
    if missing:
        swapped = "; it looks like a plans file" if "image_reader_writer" in content else ""
        raise ValueError(
            f"{file} is not an nnU-Net dataset.json: it has no {' and no '.join(missing)}{swapped}"
        )
    reader = content.get("overwrite_image_reader_writer") or "None"
    for key, value, wanted, words in (
        ("labels", content["labels"], dict, "names with values"),
        ("file_ending", content["file_ending"], str, "text such as .nii.gz"),
        ("overwrite_image_reader_writer", reader, str, "the name of a reader"),
    ):
        if not isinstance(value, wanted) or value == "":
            raise ValueError(f"{file}: {key} must be {words}, got {_in_words(value)}")
    return content


def listed_cases(dataset_json: Mapping[str, Any], file: Path) -> dict[str, Any] | None:
    """Returns images and label of each case, where dataset.json lists them; None if it does not.

    Raises:
        ValueError: the entry `dataset` does not hold cases with images and a label.
    """
    if "dataset" not in dataset_json:
        return None
    cases = dataset_json["dataset"]
    if not isinstance(cases, dict):
        raise ValueError(f"{file}: dataset must be cases with files, got {_in_words(cases)}")
    for name, case in cases.items():
        files = case if isinstance(case, dict) else {}
        images, label = files.get("images"), files.get("label")
        paths = [*images, label] if isinstance(images, list) and images else [None]
        if not all(isinstance(path, str) for path in paths):
            raise ValueError(
                f'{file}: dataset > {on_one_line(name)} must be {{"images": [...], "label": ...}} '
                f"with paths, got {json.dumps(case)[:60]}"
            )
    return cases


def read_plans_file(file: Path) -> dict[str, Any]:
    """Returns the content of nnU-Net's plans.

    Raises:
        ValueError: it is another file.
        OSError: it cannot be read.
    """
    content = read_json(file)
    if "image_reader_writer" not in content:
        swapped = "; it looks like a dataset.json" if "file_ending" in content else ""
        raise ValueError(
            f"{file} is not an nnU-Net plans file: it has no image_reader_writer{swapped}"
        )
    if not isinstance(content["image_reader_writer"], str):
        value = _in_words(content["image_reader_writer"])
        raise ValueError(f"{file}: image_reader_writer must be the name of a reader, got {value}")
    return content


def _in_words(value: Any) -> str:
    """Returns a value of a JSON file, of a list or an object its type."""
    return type(value).__name__ if isinstance(value, list | dict) else json.dumps(value)
