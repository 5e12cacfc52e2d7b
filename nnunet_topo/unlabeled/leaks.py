"""Finds labelled images among the unlabelled ones by their names and voxels, and removes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from tqdm import tqdm

from nnunet_topo.dataset import listed_cases
from nnunet_topo.files import case_files, read_json_if_whole, write_whole
from nnunet_topo.images.layouts import check_file
from nnunet_topo.images.nifti import own_voxels
from nnunet_topo.processes import in_processes
from nnunet_topo.unlabeled.case import (
    Case,
    Outcome,
    Target,
    find_cases,
    first_names,
    killed,
    reason_of,
)
from nnunet_topo.unlabeled.record import (
    digest_of_voxels,
    file_states,
    files_of_case,
    read_source,
    unlabeled_cases,
)

_DIGESTS = "labelled_images.json"


def labelled_images(
    base: Path, raw: Path, dataset_json: dict[str, Any]
) -> dict[str, tuple[Path, ...]]:
    """Returns the raw images of the labelled cases.

    Raises:
        ValueError: some are missing.
    """
    ending = dataset_json["file_ending"]
    if listed_cases(dataset_json, base / "dataset.json") is not None:  # files may be anywhere
        listed = get_filenames_of_train_images_and_targets(str(raw), dataset_json)
        images = {name: tuple(map(Path, case["images"])) for name, case in listed.items()}
    else:
        folder = raw / "imagesTr"
        images = find_cases(folder, ending)[0] if folder.is_dir() else {}
    copies = case_files(base / "gt_segmentations", ending)
    known = {file.name.removesuffix(ending) for file in copies}
    missing = sorted(known - set(images))
    if missing or not images:
        raise ValueError(
            f"the images of {first_names(missing) or 'all labelled cases'} are missing from {raw}: "
            "nnunet-topo needs them to check that no unlabelled image is labelled"
        )
    return images


def digests_of_labelled(
    base: Path, labelled: dict[str, tuple[Path, ...]], target: Target, processes: int
) -> list[Outcome]:
    """Returns digests of the voxels of all labelled cases; unchanged files are not read again."""
    file = base / _DIGESTS
    kept = read_json_if_whole(file)
    states = {name: file_states(files) for name, files in labelled.items()}
    known, wanted = [], []
    for name, files in sorted(labelled.items()):
        state, digest = kept.get(name, (None, ""))
        if digest and state == [list(of_file) for of_file in states[name]]:
            known.append(Outcome(name, digest))
        else:
            wanted.append(Case(name, files, target, {}))
    done = in_processes(_digest_of, wanted, processes, killed=killed)
    for result in tqdm(done, "labelled images", len(wanted), unit="case", disable=None):
        known.append(result)
    if wanted:
        content = {r.name: (states[r.name], r.digest) for r in known if r.digest}
        write_whole(file, json.dumps(content))
    return known


def _digest_of(case: Case) -> Outcome:
    try:
        reader = case.target.plans.image_reader_writer_class()
        for file in case.files:
            check_file(reader, file, of_image=True)
        with own_voxels(case.files) as paths:
            data = reader.read_images(paths)[0]
    except Exception as error:
        return Outcome(
            case.name,
            problem=f"{case.name}: labelled, but not compared with the unlabelled images, as it "
            f"cannot be read: {reason_of(error)}",
        )
    return Outcome(case.name, digest_of_voxels(data))


def remove_leaks(
    folder: Path, labelled: Mapping[str, Any], digests: Mapping[str, str]
) -> list[str]:
    """Removes what an earlier call preprocessed and what has been labelled since."""
    problems = []
    for name in unlabeled_cases(folder):
        source = read_source(folder, name)
        twin = None if source is None else digests.get(source.voxels)
        twin = name if name in labelled else twin
        if twin is not None:
            for file in files_of_case(folder, name):
                file.unlink()
            problems.append(f"{name}: removed, the same image as the labelled case {twin}")
    return problems
