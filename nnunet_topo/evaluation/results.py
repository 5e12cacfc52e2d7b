"""What nnU-Net leaves in its results folders: predictions, summaries, curves, images."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import (
    key_to_label_or_region,
    label_or_region_to_key,
    region_or_label_to_mask,
)
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw, nnUNet_results
from nnunetv2.postprocessing.remove_connected_components import (
    remove_all_but_largest_component_from_segmentation,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_topo.dataset import Dataset, read_dataset_json, read_plans_file
from nnunet_topo.evaluation.evaluate import Settings, evaluate_folder, file_name
from nnunet_topo.evaluation.label_choice import LabelChoice
from nnunet_topo.evaluation.segmentations import (
    Segmentations,
    find_segmentations,
    wanted_labels,
)
from nnunet_topo.files import OWN_KEY, case_files
from nnunet_topo.images.geometry import Geometry, Unit, find_unit, read_geometry
from nnunet_topo.images.readers import ReadersByEnding, known_endings
from nnunet_topo.images.segmentation import read_segmentation
from nnunet_topo.labels.declared import labels_of_dataset
from nnunet_topo.labels.labels import Labels

CHECKPOINT = "checkpoint_final.pth"
NNUNET_ITERATIONS = 250  # of an epoch


@dataclass(frozen=True, slots=True)
class Model:
    """Predictions to be compared.

    Attributes:
        name: the trainer's, or what the user calls the folder.
        folders: of predictions, by what they are called: a fold, or "" for a bare folder.
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
        images: folder of raw images, None where there is none.
        dataset_json: nnU-Net's description of the data set, of bare folders None if there is none.
        plans: nnU-Net's plans file, of bare folders None if there is none.
        models: what is compared, the first with the others.
        labels: what is evaluated, and under which names; None for those of the dataset.json.
    """

    dataset: str
    references: Path
    images: Path | None
    dataset_json: Path | None
    plans: Path | None
    models: tuple[Model, ...]
    labels: Labels | None = None


def find_trainings(
    dataset: str, configuration: str, plans: str, trainers: Sequence[str], folds: Sequence[str]
) -> Study:
    """Returns what nnU-Net's results folder has of some trainers.

    Raises:
        ValueError: a trainer, a fold or the data set is missing; the message names what exists.
    """
    name = Dataset.find(dataset).name
    for path in (nnUNet_results, nnUNet_preprocessed):
        if path.get() is None:
            raise ValueError("nnUNet_results and nnUNet_preprocessed must be set, as for nnU-Net")
    results = Path(str(nnUNet_results)) / name
    models, missing = [], []
    for trainer in trainers:
        folder = results / f"{trainer}__{plans}__{configuration}"
        if not folder.is_dir():
            missing.append(f"no results of {trainer} ({plans}, {configuration}) in {results}")
            continue
        trained = {fold: folder / f"fold_{fold}" for fold in folds}
        absent = [fold for fold in folds if not _has_validation(trained[fold])]
        if absent:
            ready = [f.name[5:] for f in sorted(folder.glob("fold_*")) if _has_validation(f)]
            missing.append(
                f"{trainer} has no finished validation of fold {', '.join(absent)}; "
                + (f"there is fold {', '.join(ready)}, see -f" if ready else "there is none at all")
            )
        validations = {fold: trained[fold] / "validation" for fold in folds}
        models.append(Model(trainer, validations, trained))
    if missing:
        if len(models) < len(trainers):
            missing.append(_existing(results, plans, configuration))
        raise ValueError("; ".join(missing))
    first = results / f"{trainers[0]}__{plans}__{configuration}"
    references = Path(str(nnUNet_preprocessed)) / name / "gt_segmentations"
    if not references.is_dir():
        raise ValueError(f"no reference segmentations, {references} is no folder")
    raw = Path(str(nnUNet_raw)) / name / "imagesTr" if nnUNet_raw.get() else None
    images = raw if raw is not None and raw.is_dir() else None
    files = first / "dataset.json", first / "plans.json"
    return Study(name, references, images, *files, tuple(models))


def _has_validation(fold: Path) -> bool:
    return (fold / "validation" / "summary.json").is_file()


def _existing(results: Path, plans: str, configuration: str) -> str:
    """Returns what could have been asked for."""
    if not results.is_dir():
        return f"{results} is no folder"
    ending = f"__{plans}__{configuration}"
    names = [folder.name for folder in results.iterdir() if folder.is_dir()]
    alike = sorted(name.removesuffix(ending) for name in names if name.endswith(ending))
    if alike:
        return f"there are: {', '.join(alike)}"
    return f"there are, with other plans or configurations: {', '.join(sorted(names)) or 'none'}"


def name_folders(
    references: Path,
    predictions: Sequence[str],
    dataset_json: Path | None = None,
    plans: Path | None = None,
    *,
    images: Path | None = None,
    choice: LabelChoice | None = None,
    processes: int = 1,
) -> Study:
    """Returns a study of bare folders, each given as NAME=FOLDER.

    Args:
        references: folder of reference segmentations.
        predictions: of each model.
        dataset_json: nnU-Net's; without it the labels are those that the files hold.
        plans: nnU-Net's, which name the reader; without them the files' ending says it.
        images: folder of raw images.
        choice: what the user says of the labels.
        processes: that look for labels in the files.

    Raises:
        ValueError: what is no folder, or has no name.
    """
    models = []
    for given in predictions:
        name, equals, folder = given.partition("=")
        if not (name and equals and folder):
            raise ValueError(f"--pred takes NAME=FOLDER, got {given!r}")
        if not Path(folder).is_dir():
            raise ValueError(f"{folder} is no folder")
        models.append(Model(name, {"": Path(folder)}, {}))
    for folder in (references, images):
        if folder is not None and not folder.is_dir():
            raise ValueError(f"{folder} is no folder")
    dataset = references.resolve()
    title = f"{dataset.parent.name}/{dataset.name}"
    labels = None
    if dataset_json is None or choice is not None:
        found = [
            find_segmentations(references, model.folders[""], dataset_json, plans)
            for model in models
        ]
        labels = wanted_labels(found, choice or LabelChoice(), processes=processes)
    return Study(title, references, images, dataset_json, plans, tuple(models), labels)


def is_face(trainer: str) -> bool:
    """Returns whether a trainer's name sets 6- / 4-connected foreground."""
    return "face" in trainer.split("_")[1:]


# -- metrics -----------------------------------------------------------------------------------


def evaluate_model(
    study: Study, model: Model, output: Path, *, processes: int, settings: Settings
) -> tuple[dict[str, dict[str, dict[str, float]]], list[str]]:
    """Returns a model's metrics by case, label and metric, and what went wrong.

    Summaries go to the output folder, nothing is written beside the predictions. What
    `nnunet-topo evaluate` or a training has computed of the same files is taken over.

    Raises:
        ValueError: a case that two folds have validated, nothing to evaluate.
    """
    cases: dict[str, dict[str, dict[str, float]]] = {}
    troubles = []
    output.mkdir(parents=True, exist_ok=True)
    labels = label_names(study).keys()
    for fold, folder in model.folders.items():
        summary = output / (f"fold_{fold}.json" if fold else "summary.json")
        _take_over(folder / "summary.json", summary)
        files = (study.references, folder, study.dataset_json, study.plans)
        options: dict[str, Any] = {
            "output": summary,
            "processes": processes,
            "chill": True,
            "settings": settings,
            "labels": study.labels,
        }
        done = evaluate_folder(*files, **options)
        of_fold = _read(summary)
        of_others = of_fold and not of_fold[OWN_KEY]["whole"]
        other_labels = of_fold and of_fold["mean"].keys() != labels
        if (of_others and (done.computed or done.troubles)) or other_labels:
            # Predictions have changed since nnU-Net wrote it, and so may have what it says of them.
            summary.unlink()
            done = evaluate_folder(*files, **options)
            of_fold = _read(summary)
        troubles += [f"{model.name}: {trouble}" for trouble in done.troubles]
        for entry in of_fold.get("metric_per_case", []):
            # A model may have its predictions in another format than the references have.
            name = file_name(entry["reference_file"])
            if name in cases:
                raise ValueError(f"{model.name}: {name} is in the validation of more than one fold")
            cases[name] = entry["metrics"]
    return cases, troubles


def _take_over(summary: Path, copy: Path) -> None:
    """Copies a summary with our metrics, unless there is one already."""
    if copy.exists() or not summary.is_file():
        return
    try:
        has_metrics = OWN_KEY in _read(summary)
    except (OSError, ValueError, TypeError):
        return
    if has_metrics:
        shutil.copyfile(summary, copy)


def _read(summary: Path) -> dict[str, Any]:
    return json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {}


def label_names(study: Study) -> dict[str, str]:
    """Returns what the labels or regions are called, by nnU-Net's key, in nnU-Net's order."""
    labels = _labels(study)
    return {
        label_or_region_to_key(label): labels.names.get(label_or_region_to_key(label), str(label))
        for label in labels.evaluated
    }


# -- postprocessing ----------------------------------------------------------------------------


def keep_largest_components(study: Study, model: Model, output: Path) -> Model:
    """Writes the predictions of a model with the largest component of each label alone.

    With nnU-Net's own function, label by label, regions likewise. Returns them as a model.
    """
    labels, folders = _labels(study).evaluated, {}
    for fold, folder in model.folders.items():
        folders[fold] = output / (f"fold_{fold}" if fold else "predictions")
        folders[fold].mkdir(parents=True, exist_ok=True)
        found = find_segmentations(study.references, folder, study.dataset_json, study.plans)
        written = set()
        for file in [pair.prediction for pair in found.pairs if pair.prediction]:
            reader = found.reader(file)
            try:
                kept = read_segmentation(reader, file).label_map
                properties = reader.read_seg(str(file))[1]
            except Exception:  # the evaluation of the model itself names it
                continue
            for label in labels:
                kept = remove_all_but_largest_component_from_segmentation(kept, label)
            reader.write_seg(kept, str(folders[fold] / file.name), properties)
            written.add(file.name)
        for file in case_files(folders[fold], ""):  # of an earlier run
            if file.name not in written and file.name.lower().endswith(known_endings()):
                file.unlink()
    return Model(f"{model.name}, largest components", folders, {})


# -- pictures and curves -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Volumes:
    """One label of a case, as arrays [z, y, x], of an image one slice.

    Attributes:
        image: first channel of the raw image, None where it is missing.
        reference: mask.
        predictions: mask of each model.
        probabilities: of the label, of the models that have saved them.
        spacing: of the axes.
        geometry: how the arrays lie in the patient.
    """

    image: np.ndarray | None
    reference: np.ndarray
    predictions: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]
    spacing: tuple[float, ...]
    geometry: Geometry


def read_volumes(study: Study, models: Sequence[Model], case: str, label: str) -> Volumes:
    """Reads one label of a case from the files of all models.

    A volume of one slice comes with that slice first, on whichever axis it lies.

    Raises:
        Exception: whatever the readers raise.
    """
    reader, manager, labels, ending = _description(study)
    region = key_to_label_or_region(label)
    segmentation, properties = reader.read_seg(str(study.references / case))
    reference = region_or_label_to_mask(segmentation[0], region)
    counted = segmentation[0] != manager.ignore_label  # all of it where there is none
    predictions, probabilities = {}, {}
    for model in models:
        file = _prediction_file(model, case, ending)
        same = file.name == case
        reader_of_file = reader if same else ReadersByEnding([file])(file)
        prediction = region_or_label_to_mask(reader_of_file.read_seg(str(file))[0][0], region)
        predictions[model.name] = prediction & counted
        saved = file.with_name(case.removesuffix(ending) + ".npz")
        if saved.is_file() and region in labels:
            channels = np.load(saved)["probabilities"]
            index = labels.index(region) + (not manager.has_regions)
            if channels.shape[1:] == reference.shape:
                probabilities[model.name] = channels[index].astype(np.float32)
    image = None
    if study.images is not None:
        stem = case.removesuffix(ending)
        file = study.images / f"{stem}_0000{ending}"
        if file.is_file():
            image = reader.read_images([str(file)])[0][0]
            image = image if image.shape == reference.shape else None
    spacing = tuple(float(length) for length in properties["spacing"])
    geometry = read_geometry(study.references / case, properties)
    flat = next((axis for axis, length in enumerate(reference.shape) if length == 1), 0)
    if flat:
        image = None if image is None else np.moveaxis(image, flat, 0)
        reference = np.moveaxis(reference, flat, 0)
        for arrays in (predictions, probabilities):
            arrays |= {name: np.moveaxis(array, flat, 0) for name, array in arrays.items()}
        spacing = (spacing[flat], *(s for axis, s in enumerate(spacing) if axis != flat))
        geometry = geometry.moved_to_front(flat)
    return Volumes(image, reference, predictions, probabilities, spacing, geometry)


def unit_of_distances(study: Study, summaries: Sequence[Path]) -> Unit:
    """Returns the unit of the distances in the summaries of a study.

    Raises:
        ValueError: they do not agree.
    """
    folders = [study.references, *(f for m in study.models for f in m.folders.values())]
    return find_unit(summaries, _description(study)[0], folders)


@dataclass(frozen=True, slots=True)
class Training:
    """What the final checkpoint of a fold tells.

    Attributes:
        curves: what nnU-Net logged at every epoch; epochs without a value are NaN.
        prior: Betti numbers that a trainer of ours asked for, by channel, as in topology.json.
        finetuned_from: checkpoint from which it began, "" if from nothing.
        spatial: whether patches were rotated and scaled.
        epochs: how many were trained, 0 if unknown.
        iterations: of each epoch.
    """

    curves: dict[str, list[float]]
    prior: dict[int, list[Any]]
    finetuned_from: str
    spatial: bool
    epochs: int = 0
    iterations: int = NNUNET_ITERATIONS


def read_training(folder: Path) -> Training | None:
    """Returns what the final checkpoint of a fold tells, None without one.

    Curves that are lists of lists, such as the Dice of every class, are left out, and so are
    priors of unions.
    """
    import torch

    file = folder / CHECKPOINT
    if not file.is_file():
        return None
    # As nnU-Net reads its own checkpoints.
    checkpoint = torch.load(file, map_location="cpu", weights_only=False, mmap=True)
    curves = {}
    for key, values in checkpoint.get("logging", {}).items():
        try:
            curves[key] = [float(value) for value in values]
        except (TypeError, ValueError):
            continue
    own = checkpoint.get(OWN_KEY) or {}
    prior = {
        int(channel): numbers
        for channel, numbers in own.get("prior", {}).items()
        if channel.isdigit() and isinstance(numbers, list)
    }
    iterations = (own.get("settings") or {}).get("iters") or NNUNET_ITERATIONS
    epochs = int(checkpoint.get("current_epoch") or len(curves.get("train_losses", ())))
    origin = own.get("finetuned_from", "")
    return Training(curves, prior, origin, own.get("spatial", True), epochs, iterations)


def _description(study: Study):
    """Returns nnU-Net's reader, label manager, labels or regions, and the files' ending.

    The labels are those of the network's channels, none where they are not known. Without plans
    the reader is that of the references.
    """
    if study.dataset_json is not None and study.plans is not None:
        description = read_dataset_json(study.dataset_json)
        manager = PlansManager(read_plans_file(study.plans))
        declared = labels_of_dataset(description, study.dataset_json, study.plans)
        reader, ending = manager.image_reader_writer_class(), description["file_ending"]
        channels, ignore = list(declared.evaluated), declared.ignore
    else:
        found = _find(study, study.models[0])
        name, reference = next((p.name, p.reference) for p in found.pairs if p.reference)
        reader, ending = found.reader(reference), reference.name.removeprefix(name)
        channels, ignore = [], _labels(study).ignore
    has_regions = any(isinstance(label, tuple) for label in channels)
    manager = SimpleNamespace(ignore_label=ignore, has_regions=has_regions)
    return reader, manager, channels, ending


def _prediction_file(model: Model, case: str, ending: str) -> Path:
    """Returns the prediction of a case, which is named as its reference but may end otherwise."""
    stem = case.removesuffix(ending)
    names = [case, *(stem + other for other in known_endings())]
    files = (folder / name for name in names for folder in model.folders.values())
    return next(file for file in files if file.is_file())


def _labels(study: Study) -> Labels:
    return study.labels or wanted_labels([_find(study, study.models[0])], LabelChoice())


def _find(study: Study, model: Model) -> Segmentations:
    folder = next(iter(model.folders.values()))
    return find_segmentations(study.references, folder, study.dataset_json, study.plans)
