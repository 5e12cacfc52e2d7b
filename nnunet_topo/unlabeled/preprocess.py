"""Unlabelled images, preprocessed by nnU-Net into a folder of their own.

It stands beside the folder of the labelled cases, never in it: nnU-Net makes its splits, and the
fold `all`, of everything that lies there.
"""

import hashlib
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from tqdm import tqdm

import nnunet_topo
from nnunet_topo.dataset import Dataset
from nnunet_topo.files import OWN_KEY, case_files
from nnunet_topo.images.nifti import is_nifti, load_nifti
from nnunet_topo.processes import in_processes

_DIGESTS = "labelled_images.json"
_FAR = 2  # times finer or coarser than any labelled case
_SHOWN = 5  # names in a message

FileState = tuple[str, int, int]  # path, bytes, time of the last change


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What became of the preprocessing of unlabelled images.

    Attributes:
        folder: where they are.
        cases: how many can be trained on now, of this and earlier calls.
        computed: how many were preprocessed now.
        troubles: what went wrong, one line each.
    """

    folder: Path
    cases: int
    computed: int
    troubles: list[str]


@dataclass(frozen=True, slots=True)
class _Target:
    """What all cases of a call have in common."""

    folder: Path
    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict[str, Any]
    plan: str  # digest of what the preprocessing depends on
    channels: int
    spacings: tuple[tuple[float, float], ...]  # (lowest, highest) allowed, in the image's order


@dataclass(frozen=True, slots=True)
class _Case:
    """An image, labelled or not, and what a process must know to preprocess it."""

    name: str
    files: tuple[Path, ...]
    target: _Target
    labelled: Mapping[str, str]  # digest of the voxels -> name of the labelled case


@dataclass(frozen=True, slots=True)
class _Result:
    """What became of an image; one of digest and trouble is ""."""

    name: str
    digest: str = ""
    trouble: str = ""


def preprocess_unlabeled(
    dataset: str,
    images: Path,
    configuration: str,
    *,
    plans: str = "nnUNetPlans",
    processes: int = 1,
) -> Preprocessing:
    """Preprocesses the unlabelled images of a folder as nnU-Net does those of a data set.

    Each case is put into its place in one step, and cases whose files have not changed since are
    not computed again. Images of earlier calls stay.

    Args:
        dataset: number or name of the data set that they are to be trained with.
        images: named as those of the data set, CASE_0000.nii.gz and so on.
        configuration: of nnU-Net's plans.
        plans: name of the plans.
        processes: at most so many.

    Raises:
        ValueError: no such data set, plans or configuration; a folder without any such image; the
            labelled images are missing, without which no leak can be told.
        OSError: what cannot be read or written.
    """
    base = _dataset_folder(dataset)
    target = _target(base, plans, configuration)
    ending = target.dataset_json["file_ending"]
    if not images.is_dir():
        raise ValueError(f"{images} is no folder")
    found, troubles = _cases(images, ending)
    if not found:
        raise ValueError(
            f"{images} holds no image that is named CASE_0000{ending}, as those of {base.name} are"
            + ("" if not troubles else f"; there is: {'; '.join(troubles[:_SHOWN])}")
        )
    labelled = _labelled_images(base, target.dataset_json)
    digests = _digests_of_labelled(base, labelled, target, processes)
    troubles += [r.trouble for r in digests if r.trouble]
    target.folder.mkdir(exist_ok=True)
    names = {result.digest: result.name for result in digests if result.digest}
    wanted, ready = [], set(unlabeled_cases(target.folder))
    for name, files in sorted(found.items()):
        case = _Case(name, files, target, names)
        shutil.rmtree(_part(case), ignore_errors=True)  # of a call that was killed
        trouble = _foreseen_trouble(case, labelled)
        if trouble:
            troubles.append(trouble)
        elif name not in ready or not _is_up_to_date(case):
            wanted.append(case)
    troubles += _remove_leaks(target.folder, labelled, names)
    done = in_processes(_preprocess, wanted, processes, killed=_killed)
    computed = 0
    for result in tqdm(done, "unlabelled images", len(wanted), unit="case", disable=None):
        computed += not result.trouble
        troubles += [result.trouble] if result.trouble else []
    return Preprocessing(
        target.folder, len(unlabeled_cases(target.folder)), computed, sorted(troubles)
    )


def unlabeled_folder(labelled: Path) -> Path:
    """Returns where the unlabelled cases stand, beside the preprocessed labelled ones."""
    return labelled.with_name(f"{labelled.name}_unlabeled")


def unlabeled_cases(folder: Path) -> list[str]:
    """Returns the names of the preprocessed unlabelled cases of a folder, none without it."""
    if not case_files(folder, ".pkl"):
        return []
    cases = infer_dataset_class(str(folder)).get_identifiers(str(folder))
    return sorted(case for case in cases if not case.startswith("."))


def check_unlabeled(folder: Path, labelled: set[str], plan: str) -> list[str]:
    """Returns the unlabelled cases that a training may use.

    Args:
        folder: see `unlabeled_folder`.
        labelled: names of the labelled cases.
        plan: see `digest_of_plan`.

    Raises:
        RuntimeError: there is none, one is labelled, or one was preprocessed for other plans.
    """
    cases = unlabeled_cases(folder)
    command = "nnunet-topo preprocess-unlabeled"
    if not cases:
        raise RuntimeError(
            f"{folder} holds no unlabelled image to train on: `{command} -d ID -i FOLDER -c "
            "CONFIGURATION -p PLANS` makes it from a folder of images"
        )
    leaks = [case for case in cases if case in labelled]
    if leaks:
        raise RuntimeError(
            f"{_shown(leaks)} in {folder}: labelled by now, so no longer to be trained on without "
            f"labels; `{command}` removes what is labelled"
        )
    others = [case for case in cases if (_record(folder, case) or {}).get("plan") != plan]
    if others:
        raise RuntimeError(
            f"{_shown(others)} in {folder}: preprocessed for other plans than these; "
            f"`{command}` does it anew"
        )
    return cases


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
    return _hexdigest(json.dumps([chosen, besides], sort_keys=True).encode())


# -- what is asked for -------------------------------------------------------------------------


def _dataset_folder(dataset: str) -> Path:
    name = Dataset.find(dataset).name
    if nnUNet_preprocessed.get() is None or nnUNet_raw.get() is None:
        raise ValueError("nnUNet_preprocessed and nnUNet_raw must be set, as for nnU-Net")
    return Path(str(nnUNet_preprocessed)) / name


def _target(base: Path, plans: str, configuration: str) -> _Target:
    file = base / f"{plans}.json"
    if not file.is_file():
        raise ValueError(
            f"no plans {file}: nnUNetv2_plan_and_preprocess writes them, -p names them"
        )
    manager = PlansManager(str(file))
    known = manager.plans["configurations"]
    if configuration not in known:
        raise ValueError(f"{file} has no configuration {configuration!r}, but {', '.join(known)}")
    chosen = manager.get_configuration(configuration)
    dataset_json = json.loads((base / "dataset.json").read_text(encoding="utf-8"))
    fingerprint = json.loads((base / "dataset_fingerprint.json").read_text(encoding="utf-8"))
    spacings = np.array(fingerprint["spacings"], dtype=float)  # of photographs whole numbers
    lowest, highest = spacings.min(0) / _FAR, spacings.max(0) * _FAR
    if len(chosen.patch_size) == 2:  # nnU-Net leaves the distance of slices as it is
        slices = manager.transpose_forward[0]
        lowest[slices], highest[slices] = 0, np.inf
    return _Target(
        unlabeled_folder(base / chosen.data_identifier),
        manager,
        chosen,
        dataset_json,
        digest_of_plan(manager, chosen),
        determine_num_input_channels(manager, chosen, dataset_json),
        tuple(zip(lowest.tolist(), highest.tolist(), strict=True)),
    )


def _cases(folder: Path, ending: str) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """Returns the files of each case by their names' four digits, and what is named otherwise."""
    cases: dict[str, list[Path]] = defaultdict(list)
    troubles = []
    for file in case_files(folder, ""):
        named = re.fullmatch(rf"(.+)_\d{{4}}{re.escape(ending)}", file.name)
        if named:
            cases[named[1]].append(file)
        else:
            troubles.append(f"{file.name}: not named CASE_0000{ending}, so left out")
    return {name: tuple(files) for name, files in cases.items()}, troubles


def _labelled_images(base: Path, dataset_json: dict[str, Any]) -> dict[str, tuple[Path, ...]]:
    """Returns the raw images of the labelled cases.

    Raises:
        ValueError: some are missing.
    """
    raw = Path(str(nnUNet_raw)) / base.name
    ending = dataset_json["file_ending"]
    if "dataset" in dataset_json:  # the cases are listed, with files that may be anywhere
        listed = get_filenames_of_train_images_and_targets(str(raw), dataset_json)
        images = {name: tuple(map(Path, case["images"])) for name, case in listed.items()}
    else:
        folder = raw / "imagesTr"
        images = _cases(folder, ending)[0] if folder.is_dir() else {}
    copies = case_files(base / "gt_segmentations", ending)
    known = {file.name.removesuffix(ending) for file in copies}
    missing = sorted(known - set(images))
    if missing or not images:
        raise ValueError(
            f"{raw} lacks the images of {_shown(missing) or 'all labelled cases'}: they are "
            "compared with the unlabelled ones, of which none may be labelled"
        )
    return images


def _shown(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN))


# -- leaks -------------------------------------------------------------------------------------


def _digests_of_labelled(
    base: Path, labelled: dict[str, tuple[Path, ...]], target: _Target, processes: int
) -> list[_Result]:
    """Returns digests of the voxels of all labelled cases; those of unchanged files are kept."""
    file = base / _DIGESTS
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    states = {name: _states(files) for name, files in labelled.items()}
    known, wanted = [], []
    for name, files in sorted(labelled.items()):
        state, digest = kept.get(name, (None, ""))
        if digest and state == [list(of_file) for of_file in states[name]]:
            known.append(_Result(name, digest))
        else:
            wanted.append(_Case(name, files, target, {}))
    done = in_processes(_digest_of, wanted, processes, killed=_killed)
    for result in tqdm(done, "labelled images", len(wanted), unit="case", disable=None):
        known.append(result)
    if wanted:
        content = {r.name: (states[r.name], r.digest) for r in known if r.digest}
        part = file.with_name(f"{file.name}.part")
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(file)
    return known


def _digest_of(case: _Case) -> _Result:
    try:
        data = case.target.plans.image_reader_writer_class().read_images(
            [str(file) for file in case.files]
        )[0]
    except Exception as error:
        return _Result(
            case.name,
            trouble=f"{case.name}: labelled, not compared with the unlabelled images as it cannot "
            f"be read: {_reason(error)}",
        )
    return _Result(case.name, _digest_of_voxels(data))


def _foreseen_trouble(case: _Case, labelled: Mapping[str, Any]) -> str:
    """Returns what is wrong with a case by its name, "" if nothing."""
    if case.name in labelled:
        return (
            f"{case.name}: a leak, {case.files[0]} bears the name of the labelled case "
            f"{labelled[case.name][0]}"
        )
    if case.name.endswith("_seg"):
        return f"{case.name}: nnU-Net takes no case whose name ends in _seg"
    numbers = [int(re.findall(r"_(\d{4})", file.name)[-1]) for file in case.files]
    if numbers != list(range(len(numbers))):
        return (
            f"{case.name}: channels must be numbered from 0000 on, got "
            f"{', '.join(file.name for file in case.files)}"
        )
    return ""


def _remove_leaks(
    folder: Path, labelled: Mapping[str, Any], digests: Mapping[str, str]
) -> list[str]:
    """Removes what an earlier call preprocessed and what is labelled by now."""
    troubles = []
    for name in unlabeled_cases(folder):
        twin = digests.get((_record(folder, name) or {}).get("voxels", ""))
        twin = name if name in labelled else twin
        if twin is not None:
            for file in _files(folder, name):
                file.unlink()
            troubles.append(f"{name}: a leak, the same as the labelled case {twin}; removed")
    return troubles


# -- one case ----------------------------------------------------------------------------------


def _preprocess(case: _Case) -> _Result:
    """Preprocesses a case; whatever fails becomes a trouble."""
    part = _part(case)
    try:
        digest = _check(case)
        _compute(case, digest, part)
    except Exception as error:
        return _Result(case.name, trouble=f"{case.name}: {_reason(error)}")
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _Result(case.name, digest)


def _part(case: _Case) -> Path:
    """Returns where the files of a case are until all are there."""
    return case.target.folder / f".part-{case.name}"


def _killed(case: _Case) -> _Result:
    return _Result(case.name, trouble=f"{case.name}: its process was killed; too little memory?")


def _check(case: _Case) -> str:
    """Returns the digest of a case's voxels.

    Raises:
        ValueError: it cannot be trained on, or it is labelled.
    """
    target = case.target
    try:
        reader = target.plans.image_reader_writer_class()
        data, properties = reader.read_images([str(file) for file in case.files])
        for file in case.files:
            if is_nifti(file):
                # SimpleITK reads a file that was cut short, with zeros for the rest.
                load_nifti(file).dataobj.get_unscaled()
    except Exception as error:
        files = ", ".join(str(file) for file in case.files)
        reason = _reason(error) or "shapes or spacings of its channels differ"
        raise ValueError(f"{files} cannot be read: {reason}") from None
    if len(data) != target.channels:
        raise ValueError(
            f"it has {len(data)} channels ({', '.join(file.name for file in case.files)}), the "
            f"data set has {target.channels}"
        )
    if not np.isfinite(data).all():
        raise ValueError("it holds NaN or infinite voxels")
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
    digest = _digest_of_voxels(data)
    twin = case.labelled.get(digest)
    if twin is not None:
        raise ValueError(
            f"a leak, {case.files[0]} holds the same voxels as the labelled case {twin}"
        )
    record = _record(target.folder, case.name)
    theirs = Path(record["files"][0][0]) if record else case.files[0]
    if record and theirs.parent != case.files[0].parent.resolve() and record["voxels"] != digest:
        raise ValueError(
            f"another image of that name was preprocessed from {theirs.parent}; give one of them "
            "another name"
        )
    return digest


def _compute(case: _Case, digest: str, part: Path) -> None:
    """Preprocesses a case in the folder `part`, and puts it into its place."""
    target = case.target
    part.mkdir()
    states = _states(case.files)
    preprocessor = target.configuration.preprocessor_class(verbose=False)
    preprocessor.run_case_save(
        str(part / case.name),
        [str(file) for file in case.files],
        None,
        target.plans,
        target.configuration,
        target.dataset_json,
    )
    properties = load_pickle(str(part / f"{case.name}.pkl"))
    properties["class_locations"] = {}  # nnU-Net's loader asks for them
    properties[OWN_KEY] = {
        "version": nnunet_topo.__version__,
        "files": states,
        "voxels": digest,
        "plan": target.plan,
    }
    write_pickle(properties, str(part / f"{case.name}.pkl"))
    # nnU-Net finds a case by its image, which is there only while all else is.
    image = _image(part, case.name)
    (target.folder / image.name).unlink(missing_ok=True)
    others = [file for file in part.iterdir() if file != image]
    for file in (*others, image):
        file.replace(target.folder / file.name)


def _is_up_to_date(case: _Case) -> bool:
    """Returns whether an earlier call preprocessed these very files, in the same way."""
    record = _record(case.target.folder, case.name)
    return (
        record is not None
        and record["plan"] == case.target.plan
        and record["files"] == _states(case.files)
    )


def _record(folder: Path, name: str) -> dict[str, Any] | None:
    """Returns what a preprocessed case knows of itself, None where there is none."""
    file = folder / f"{name}.pkl"
    return load_pickle(str(file)).get(OWN_KEY) if file.is_file() else None


def _image(folder: Path, name: str) -> Path:
    """Returns the file of a preprocessed image, whatever nnU-Net's format is."""
    (image,) = [
        file for file in _files(folder, name) if file.stem == name and file.suffix != ".pkl"
    ]
    return image


def _files(folder: Path, name: str) -> list[Path]:
    return [file for file in folder.iterdir() if file.stem in (name, f"{name}_seg")]


def _states(files: tuple[Path, ...]) -> list[FileState]:
    states = [file.stat() for file in files]
    paths = [str(file.resolve()) for file in files]
    return [
        (path, state.st_size, state.st_mtime_ns) for path, state in zip(paths, states, strict=True)
    ]


def _digest_of_voxels(data: np.ndarray) -> str:
    """Returns a digest of the values of an image, `[channel, z, y, x]`, whatever their type."""
    values = np.ascontiguousarray(data, dtype=np.float32)
    return _hexdigest(repr(values.shape).encode() + values.tobytes())


def _hexdigest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, (ValueError, RuntimeError)) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:400]
