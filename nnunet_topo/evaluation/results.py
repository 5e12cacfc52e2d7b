"""Finds the models of a comparison: in nnU-Net's results folders, or in bare folders."""

from collections.abc import Sequence
from pathlib import Path

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw, nnUNet_results

from nnunet_topo.dataset import Dataset
from nnunet_topo.evaluation.label_choice import LabelChoice
from nnunet_topo.evaluation.segmentations import find_segmentations, wanted_labels
from nnunet_topo.evaluation.study import Model, Study


def find_trainings(
    dataset: str, configuration: str, plans: str, trainers: Sequence[str], folds: Sequence[str]
) -> Study:
    """Returns a study of some trainers in nnU-Net's results folder.

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
                + (f"it has fold {', '.join(ready)}, see -f" if ready else "there is none at all")
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
        raise ValueError(f"no reference segmentations, {references} is not a folder")
    raw = Path(str(nnUNet_raw)) / name / "imagesTr" if nnUNet_raw.get() else None
    images = raw if raw is not None and raw.is_dir() else None
    files = first / "dataset.json", first / "plans.json"
    return Study(name, references, images, *files, tuple(models))


def _has_validation(fold: Path) -> bool:
    return (fold / "validation" / "summary.json").is_file()


def _existing(results: Path, plans: str, configuration: str) -> str:
    """Returns the trainers that exist, for a message."""
    if not results.is_dir():
        return f"{results} is not a folder"
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
        dataset_json: nnU-Net's; without it the labels are those in the files.
        plans: nnU-Net's, which name the reader; without them the file ending decides.
        images: folder of raw images.
        choice: the user's choice of labels.
        processes: number that search the files for labels.

    Raises:
        ValueError: a path is not a folder, or a folder has no name.
    """
    models = []
    for given in predictions:
        name, equals, folder = given.partition("=")
        if not (name and equals and folder):
            raise ValueError(f"--pred takes NAME=FOLDER, got {given!r}")
        if not Path(folder).is_dir():
            raise ValueError(f"{folder} is not a folder")
        models.append(Model(name, {"": Path(folder)}, {}))
    for folder in (references, images):
        if folder is not None and not folder.is_dir():
            raise ValueError(f"{folder} is not a folder")
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
