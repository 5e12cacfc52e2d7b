"""Preprocesses unlabelled images with nnU-Net, into their own folder.

The folder stands beside that of the labelled cases. It must not be inside: nnU-Net uses everything
in that folder for its splits and for the fold `all`.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tqdm import tqdm

import nnunet_topo
from nnunet_topo.dataset import Dataset, configuration_of, read_dataset_json, read_plans_file
from nnunet_topo.files import OWN_KEY, read_json
from nnunet_topo.images.layouts import check_file, with_spacing_file
from nnunet_topo.images.nifti import is_nifti, load_nifti, own_voxels
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
from nnunet_topo.unlabeled.leaks import digests_of_labelled, labelled_images, remove_leaks
from nnunet_topo.unlabeled.record import (
    SourceRecord,
    digest_of_plan,
    digest_of_voxels,
    file_states,
    image_of_case,
    read_source,
    unlabeled_cases,
    unlabeled_folder,
)

_FAR = 2  # times finer or coarser than any labelled case


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The result of the preprocessing of unlabelled images.

    Attributes:
        folder: where they are.
        cases: number of cases ready for training, from this and earlier calls.
        computed: number of cases that this call preprocessed.
        problems: what went wrong, one line each.
    """

    folder: Path
    cases: int
    computed: int
    problems: list[str]


def preprocess_unlabeled(
    dataset: str,
    images: Path,
    configuration: str,
    *,
    plans: str = "nnUNetPlans",
    processes: int = 1,
) -> Preprocessing:
    """Preprocesses the unlabelled images of a folder as nnU-Net preprocesses those of a data set.

    Each case is moved to its place in one step. Cases whose files have not changed are not computed
    again. Images of earlier calls stay.

    Args:
        dataset: number or name of the data set to train them with.
        images: named as those of the data set, CASE_0000.nii.gz and so on.
        configuration: of nnU-Net's plans.
        plans: name of the plans.
        processes: maximum number.

    Raises:
        ValueError: no such data set, plans or configuration; no such image in the folder; or the
            labelled images are missing, so that leaks could not be found.
        OSError: a file cannot be read or written.
    """
    of_labelled = Dataset.find(dataset)
    base, raw = of_labelled.preprocessed, of_labelled.raw
    if raw is None:
        raise ValueError("nnUNet_raw must be set, as for nnU-Net")
    target = _target(base, plans, configuration)
    ending = target.dataset_json["file_ending"]
    if not images.is_dir():
        raise ValueError(f"{images} is not a folder")
    found, problems = find_cases(images, ending)
    if not found:
        raise ValueError(
            f"{images} contains no image named CASE_0000{ending}, as in {base.name}"
            + ("" if not problems else f"; it contains {first_names(problems)}")
        )
    labelled = labelled_images(base, raw, target.dataset_json)
    digests = digests_of_labelled(base, labelled, target, processes)
    problems += [r.problem for r in digests if r.problem]
    target.folder.mkdir(exist_ok=True)
    names = {result.digest: result.name for result in digests if result.digest}
    wanted, ready = [], set(unlabeled_cases(target.folder))
    for name, files in sorted(found.items()):
        case = Case(name, files, target, names)
        shutil.rmtree(_part(case), ignore_errors=True)  # of a call that was killed
        problem = _foreseen_problem(case, labelled)
        if problem:
            problems.append(problem)
        elif name not in ready or not _is_up_to_date(case):
            wanted.append(case)
    problems += remove_leaks(target.folder, labelled, names)
    done = in_processes(_preprocess, wanted, processes, killed=killed)
    computed = 0
    for result in tqdm(done, "unlabelled images", len(wanted), unit="case", disable=None):
        computed += not result.problem
        problems += [result.problem] if result.problem else []
    return Preprocessing(
        target.folder, len(unlabeled_cases(target.folder)), computed, sorted(problems)
    )


def _target(base: Path, plans: str, configuration: str) -> Target:
    file = base / f"{plans}.json"
    if not file.is_file():
        raise ValueError(
            f"there are no plans {file}: create them with nnUNetv2_plan_and_preprocess, or give "
            "their name with -p"
        )
    manager = PlansManager(read_plans_file(file))
    known = manager.plans.get("configurations", {})
    if configuration not in known:
        raise ValueError(
            f"{file} has no configuration {configuration!r}; it has {', '.join(known)}"
        )
    chosen = configuration_of(manager, configuration, file)
    if chosen.previous_stage_name is not None:
        raise ValueError(
            "unlabelled images have no segmentation of a previous stage, which "
            f"{configuration} needs; train its first stage instead, {chosen.previous_stage_name}"
        )
    dataset_json = read_dataset_json(base / "dataset.json")
    fingerprint = read_json(base / "dataset_fingerprint.json")
    spacings = np.array(fingerprint["spacings"], dtype=float)  # whole numbers for photographs
    lowest, highest = spacings.min(0) / _FAR, spacings.max(0) * _FAR
    if len(chosen.patch_size) == 2:  # nnU-Net does not resample across slices
        slices = manager.transpose_forward[0]
        lowest[slices], highest[slices] = 0, np.inf
    return Target(
        unlabeled_folder(base / chosen.data_identifier),
        manager,
        chosen,
        dataset_json,
        digest_of_plan(manager, chosen),
        determine_num_input_channels(manager, chosen, dataset_json),
        tuple(zip(lowest.tolist(), highest.tolist(), strict=True)),
    )


def _foreseen_problem(case: Case, labelled: Mapping[str, Any]) -> str:
    """Returns the problem with a case's name, "" if there is none."""
    if case.name in labelled:
        return (
            f"{case.name}: data leak, {case.files[0]} has the name of the labelled case "
            f"{labelled[case.name][0]}"
        )
    if case.name.endswith("_seg"):
        return f"{case.name}: nnU-Net does not accept a case whose name ends in _seg"
    numbers = [int(re.findall(r"_(\d{4})", file.name)[-1]) for file in case.files]
    if numbers != list(range(len(numbers))):
        return (
            f"{case.name}: channels must be numbered from 0000, got "
            f"{', '.join(file.name for file in case.files)}"
        )
    return ""


def _preprocess(case: Case) -> Outcome:
    """Preprocesses a case; an error is recorded as a problem."""
    part = _part(case)
    try:
        digest = _check(case)
        _compute(case, digest, part)
    except Exception as error:
        return Outcome(case.name, problem=f"{case.name}: {reason_of(error)}")
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Outcome(case.name, digest)


def _part(case: Case) -> Path:
    """Returns the folder in which the files of a case are collected until all exist."""
    return case.target.folder / f".part-{case.name}"


def _check(case: Case) -> str:
    """Returns the digest of a case's voxels.

    Raises:
        ValueError: it cannot be used for training, or it is labelled.
    """
    target = case.target
    try:
        reader = target.plans.image_reader_writer_class()
        for file in case.files:
            check_file(reader, file, of_image=True)
        with own_voxels(case.files) as paths:
            data, properties = reader.read_images(paths)
        for file in case.files:
            if is_nifti(file):
                # If a file was cut short, SimpleITK fills the rest with zeros.
                load_nifti(file).dataobj.get_unscaled()
    except Exception as error:
        files = ", ".join(str(file) for file in case.files)
        reason = reason_of(error) or "its channels differ in shape or spacing"
        raise ValueError(f"{files} cannot be read: {reason}") from None
    if len(data) != target.channels:
        raise ValueError(
            f"it has {len(data)} channels ({', '.join(file.name for file in case.files)}), but the "
            f"data set has {target.channels}"
        )
    if not np.isfinite(data).all():
        raise ValueError("it contains NaN or infinite values")
    if (data == data.flat[0]).all():
        raise ValueError("all its voxels have the same value")
    spacing = [float(length) for length in properties["spacing"]]
    if not all(
        low <= length <= high for length, (low, high) in zip(spacing, target.spacings, strict=True)
    ):
        allowed = " x ".join(f"{_FAR * low:g}-{high / _FAR:g}" for low, high in target.spacings)
        raise ValueError(
            f"its spacing is {' x '.join(f'{length:g}' for length in spacing)}, more than {_FAR} "
            f"times off that of the labelled cases, {allowed} (in nnU-Net's order of axes); is its "
            "header right?"
        )
    digest = digest_of_voxels(data)
    twin = case.labelled.get(digest)
    if twin is not None:
        raise ValueError(
            f"data leak, {case.files[0]} has the same voxels as the labelled case {twin}"
        )
    record = read_source(target.folder, case.name)
    theirs = Path(record.files[0][0]) if record else case.files[0]
    if record and theirs.parent != case.files[0].parent.resolve() and record.voxels != digest:
        raise ValueError(
            f"another image of that name was preprocessed from {theirs.parent}; give one of them "
            "another name"
        )
    return digest


def _compute(case: Case, digest: str, part: Path) -> None:
    """Preprocesses a case in the folder `part`, then moves it to its place."""
    target = case.target
    part.mkdir()
    states = file_states(_inputs(case))
    preprocessor = target.configuration.preprocessor_class(verbose=False)
    with own_voxels(case.files) as paths:
        preprocessor.run_case_save(
            str(part / case.name),
            paths,
            None,
            target.plans,
            target.configuration,
            target.dataset_json,
        )
    properties = load_pickle(str(part / f"{case.name}.pkl"))
    properties["class_locations"] = {}  # nnU-Net's loader expects them
    source = SourceRecord(nnunet_topo.__version__, states, digest, target.plan)
    properties[OWN_KEY] = asdict(source)
    write_pickle(properties, str(part / f"{case.name}.pkl"))
    # nnU-Net finds a case by its image, so the image is moved last.
    image = image_of_case(part, case.name)
    (target.folder / image.name).unlink(missing_ok=True)
    others = [file for file in part.iterdir() if file != image]
    for file in (*others, image):
        file.replace(target.folder / file.name)


def _inputs(case: Case) -> Sequence[Path]:
    """Returns all files that nnU-Net reads of a case."""
    return with_spacing_file(case.target.plans.image_reader_writer_class(), case.files)


def _is_up_to_date(case: Case) -> bool:
    """Returns whether an earlier call preprocessed exactly these files in the same way."""
    record = read_source(case.target.folder, case.name)
    return (
        record is not None
        and record.plan == case.target.plan
        and record.files == file_states(_inputs(case))
    )
