"""Preprocessed unlabelled cases: their folder, their files, and their inputs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_topo.files import OWN_KEY, case_files, digest
from nnunet_topo.own_folder import known_fields

FileState = tuple[str, int, int]  # path, bytes, time of the last change


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The inputs of a preprocessed case; the names are keys in its pickle.

    Attributes:
        version: of nnunet_topo.
        files: states of the image files.
        voxels: digest of their voxels.
        plan: see `digest_of_plan`.
    """

    version: str
    files: list[FileState]
    voxels: str
    plan: str


def unlabeled_folder(labelled: Path) -> Path:
    """Returns where the unlabelled cases stand, beside the preprocessed labelled ones."""
    return labelled.with_name(f"{labelled.name}_unlabeled")


def unlabeled_cases(folder: Path) -> list[str]:
    """Returns the names of the unlabelled cases preprocessed in a folder, [] if it is missing."""
    if not case_files(folder, ".pkl"):
        return []
    cases = infer_dataset_class(str(folder)).get_identifiers(str(folder))
    return sorted(case for case in cases if not case.startswith("."))


def read_source(folder: Path, name: str) -> SourceRecord | None:
    """Returns the inputs of a preprocessed case, None if they are not known."""
    file = folder / f"{name}.pkl"
    content = load_pickle(str(file)).get(OWN_KEY) if file.is_file() else None
    return None if content is None else SourceRecord(**known_fields(SourceRecord, content))


def image_of_case(folder: Path, name: str) -> Path:
    """Returns the file of a preprocessed image, whatever its format."""
    (image,) = [
        file for file in files_of_case(folder, name) if file.stem == name and file.suffix != ".pkl"
    ]
    return image


def files_of_case(folder: Path, name: str) -> list[Path]:
    """Returns all files of a preprocessed case."""
    return [file for file in folder.iterdir() if file.stem in (name, f"{name}_seg")]


def file_states(files: Sequence[Path]) -> list[FileState]:
    """Returns path, size and time of the last change of each file."""
    states = [file.stat() for file in files]
    paths = [str(file.resolve()) for file in files]
    return [
        (path, state.st_size, state.st_mtime_ns) for path, state in zip(paths, states, strict=True)
    ]


def digest_of_voxels(data: np.ndarray) -> str:
    """Returns a digest of the values of an image, `[channel, z, y, x]`, for any type."""
    values = np.ascontiguousarray(data, dtype=np.float32)
    return digest(repr(values.shape).encode() + values.tobytes())


def digest_of_plan(plans: PlansManager, configuration: ConfigurationManager) -> str:
    """Returns a digest of what nnU-Net's preprocessing depends on."""
    chosen = {
        key: value
        for key, value in configuration.configuration.items()
        if key in ("preprocessor_name", "spacing", "normalization_schemes", "use_mask_for_norm")
        or key.startswith("resampling_fn_data")
    }
    besides = (
        plans.transpose_forward,
        plans.foreground_intensity_properties_per_channel,
        plans.plans["image_reader_writer"],
    )
    return digest(json.dumps([chosen, besides], sort_keys=True).encode())
