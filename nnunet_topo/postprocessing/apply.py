"""Applies chosen steps to a folder of predictions."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from numpy.typing import NDArray
from tqdm import tqdm

import nnunet_topo
from nnunet_topo.dataset import read_dataset_json, read_plans_file
from nnunet_topo.files import case_files, data_files, digest, read_json
from nnunet_topo.images.grids import slice_first
from nnunet_topo.images.readers import (
    ReadersByEnding,
    known_ending,
    probabilities_file,
    reader_of_plans,
    segmentations_with,
)
from nnunet_topo.images.segmentation import read_segmentation
from nnunet_topo.images.written import write_changed
from nnunet_topo.labels.declared import labels_of_dataset
from nnunet_topo.labels.values import distinct_values, refuse_unknown_labels
from nnunet_topo.messages import reason
from nnunet_topo.metrics import narrow_label_map
from nnunet_topo.own_folder import OwnFolder, known_fields
from nnunet_topo.postprocessing import record
from nnunet_topo.postprocessing.probabilities import read_probabilities
from nnunet_topo.postprocessing.record import Recipe, read_recipe
from nnunet_topo.postprocessing.targets import apply_steps, mask_of
from nnunet_topo.processes import in_processes

AUTHOR = "nnunet-topo postprocess apply"
RECORD = "postprocessed.json"


@dataclass(frozen=True, slots=True)
class Change:
    """How many voxels of a label or region were added and removed."""

    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done to a folder.

    Attributes:
        recipe: the steps.
        done: changes of each case, by label or region, those of an earlier run included.
        computed: number of cases of this run.
        problems: of the others, one line each.
        notes: what the user should know.
    """

    recipe: Recipe
    done: dict[str, dict[str, Change]]
    computed: int
    problems: list[str]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction that is given steps.

    Attributes:
        file: nnU-Net's prediction.
        reader: nnU-Net's.
        recipe: the steps.
        place: folder for the new file.
        refuses_others: whether a file with other values than labels is refused.
    """

    file: Path
    reader: BaseReaderWriter
    recipe: Recipe
    place: Path
    refuses_others: bool = True


@dataclass(frozen=True, slots=True)
class Changed:
    """A prediction after its steps.

    Attributes:
        name: of the file.
        digest: of the prediction and the steps.
        changes: by label or region.
        files: what was written.
        problem: why nothing was written, else "".
        doubt: what may be wrong with what was written, else "".
    """

    name: str
    digest: str = ""
    changes: dict[str, Change] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    problem: str = ""
    doubt: str = ""


def apply_to_folder(predictions: Path, output: Path, found: Path, *, processes: int = 1) -> Applied:
    """Writes the predictions of a folder after their steps, in their format and on their grid.

    A prediction that cannot be read is reported, and the others are written. Only files that an
    earlier run wrote into the same folder are replaced, or removed where the prediction cannot be
    read any more; what has not changed is not done again.

    Args:
        predictions: folder of nnU-Net's predictions, with their .npz if a threshold was chosen.
        output: another folder.
        found: folder of `postprocess find`, or its postprocessing.json.
        processes: maximum number.

    Raises:
        ValueError: no steps, no predictions, those of another data set, or other files in the way.
        OSError: a file cannot be read or written.
    """
    source = found / record.FILE if found.is_dir() else found
    if not source.is_file():
        raise ValueError(
            f"{found} holds no {record.FILE}, which `nnunet-topo postprocess find` writes"
        )
    recipe = read_recipe(source)
    if not predictions.is_dir():
        raise ValueError(f"-i: {predictions} is not a folder")
    if output.resolve() == predictions.resolve():
        raise ValueError(f"-o: wanted another folder than that of the predictions, got {output}")
    _check_dataset(predictions, recipe, source)
    about = {
        "steps_from": str(source),
        "steps": {key: steps.to_json() for key, steps in recipe.steps.items()},
        "unit_of_lengths": recipe.units.length,
        "unit_of_sizes": recipe.units.size,
    }
    folder = OwnFolder(output, RECORD, AUTHOR, about=about)
    jobs, left_out = _find_predictions(predictions, recipe, folder.new)
    folder.refuse_others(name for job in jobs for name in _names(job))
    folder.begin()
    done, computed, problems = apply_jobs(jobs, folder, processes)
    for name in ("dataset.json", "plans.json"):  # as nnU-Net's own postprocessing does
        if (predictions / name).is_file() and not (output / name).exists():
            shutil.copyfile(predictions / name, output / name)
    notes = folder.note_on_others([job.file.name for job in jobs], predictions)
    return Applied(recipe, done, computed, [*left_out, *problems], notes)


def apply_jobs(
    jobs: Sequence[Prediction], folder: OwnFolder, processes: int
) -> tuple[dict[str, dict[str, Change]], int, list[str]]:
    """Writes predictions after their steps.

    Args:
        jobs: predictions; what an earlier run has written from the same files is not done again.
        folder: where they go, begun.
        processes: maximum number.

    Returns:
        The changes of the written cases, how many were written now, and what is wrong with the
        others.
    """
    done: dict[str, dict[str, Change]] = {}
    doubts: dict[str, str] = {}
    missing = []
    for job in jobs:
        finished = folder.finished(job.file.name, _digest(job))
        if finished is None:
            missing.append(job)
        else:
            done[job.file.name] = {
                key: Change(**known_fields(Change, change))
                for key, change in finished["changes"].items()
            }
            doubts[job.file.name] = finished.get("doubt", "")
    problems = []
    results = in_processes(change_prediction, missing, processes, killed=_killed, heavy=True)
    for result in tqdm(results, total=len(missing), desc="steps", unit="case", disable=None):
        if result.problem:
            problems.append(result.problem)
            folder.drop(result.name)
            continue
        changes = {key: asdict(change) for key, change in result.changes.items()}
        try:
            about = {"changes": changes} | ({"doubt": result.doubt} if result.doubt else {})
            folder.put(result.name, result.digest, about, result.files)
            done[result.name] = result.changes
            doubts[result.name] = result.doubt
        except ValueError as error:  # a file that came since
            problems.append(f"{result.name}: not written, {error}")
            folder.drop(result.name)
    folder.close()
    computed = len(missing) - len(problems)
    problems += [f"{name}: {doubt}" for name, doubt in doubts.items() if doubt]
    return dict(sorted(done.items())), computed, sorted(problems)


def _check_dataset(predictions: Path, recipe: Recipe, source: Path) -> None:
    """Raises ValueError if the predictions are of another data set, as nnU-Net's files tell."""
    plans, dataset = predictions / "plans.json", predictions / "dataset.json"
    if plans.is_file() and recipe.dataset.startswith("Dataset"):
        name = read_json(plans).get("dataset_name", recipe.dataset)
        if name != recipe.dataset:
            raise ValueError(
                f"{source} is of {recipe.dataset}, the predictions are of {name}: {plans}"
            )
    if dataset.is_file():
        labels = labels_of_dataset(read_dataset_json(dataset), dataset, None).evaluated
        if set(labels) != set(recipe.labels):
            wanted, came = (", ".join(map(str, of)) for of in (recipe.labels, labels))
            raise ValueError(f"{source} has the labels {wanted}, {dataset} has {came}")


def _find_predictions(
    folder: Path, recipe: Recipe, place: Path
) -> tuple[list[Prediction], list[str]]:
    """Returns the predictions in a folder with nnU-Net's readers, and what is left out.

    Raises:
        ValueError: there are none.
    """
    files, left_out = segmentations_with(folder, recipe.ending)
    if files:
        readers = dict.fromkeys(files, _reader_of(folder, recipe, files[0]))
    else:
        files, left_out = [f for f in case_files(folder, "") if known_ending(f)], []
        if not files:
            raise ValueError(f"-i: {folder} holds no prediction that ends in {recipe.ending}")
        by_ending = ReadersByEnding(files)
        readers = {file: by_ending(file) for file in files}
    jobs = [
        Prediction(file, reader, recipe, place / str(number))
        for number, (file, reader) in enumerate(readers.items())
    ]
    return jobs, left_out


def _reader_of(folder: Path, recipe: Recipe, example: Path) -> BaseReaderWriter:
    """Returns the reader that nnU-Net predicted with, by the plans that it copied, or the recipe.

    Raises:
        ValueError: the plans name no reader of such files.
    """
    plans = folder / "plans.json"
    if not plans.is_file() or "image_reader_writer" not in read_json(plans):
        return recursive_find_reader_writer_by_name(recipe.reader)()
    return reader_of_plans(
        read_plans_file(plans), plans, recipe.ending, folder / "dataset.json", example
    )


def _names(job: Prediction) -> list[str]:
    """Returns the names of the files that may be written for a prediction."""
    if not isinstance(job.reader, Tiff3DIO):
        return [job.file.name]
    return [job.file.name, job.file.with_suffix(".json").name]  # which holds the spacing


def _digest(job: Prediction) -> str:
    """Returns a digest of a prediction and its steps, "" if it cannot be read."""
    try:
        beside = (job.file.with_name(name) for name in _names(job)[1:])
        files = [job.file, *data_files(job.file), *filter(Path.is_file, beside)]
        if any(steps.threshold is not None for steps in job.recipe.steps.values()):
            files.append(probabilities_file(job.file))
        besides = nnunet_topo.__version__, job.recipe, type(job.reader).__name__
        return digest(repr(besides), *(file.read_bytes() for file in files))
    except OSError:
        return ""


def change_prediction(job: Prediction) -> Changed:
    """Writes a prediction after its steps; any error becomes a problem of the case."""
    name = job.file.name
    try:
        identity = _digest(job)
        label_map, changed, changes, doubt = _change(job)
        job.place.mkdir(parents=True, exist_ok=True)
        write_changed(job.file, job.reader, label_map, changed, job.place / job.file.name)
        return Changed(name, identity, changes, sorted(job.place.iterdir()), doubt=doubt)
    except Exception as error:  # of any reader or writer
        shutil.rmtree(job.place, ignore_errors=True)
        return Changed(name, problem=f"{name}: not written, {reason(error)}")


def _killed(job: Prediction) -> Changed:
    name = job.file.name
    return Changed(name, problem=f"{name}: its process was killed; too little memory?")


def _change(job: Prediction) -> tuple[NDArray, NDArray, dict[str, Change], str]:
    """Returns a label map `[z, y, x]` as predicted and after the steps, and how many voxels differ.

    The last is what may be wrong with the file, else "".

    Raises:
        ValueError: it is not a label map of this data set, or the steps do not fit it.
    """
    recipe = job.recipe
    read = read_segmentation(job.reader, job.file)
    label_map = narrow_label_map(read.label_map)
    if job.refuses_others:
        _check_values(label_map, recipe)
    if read.spacing is None and recipe.units.unit == "mm":
        spacing = read.wrong_spacing or "none"
        raise ValueError(f"the steps are in mm, but the spacing of the file is {spacing}")
    voxel = np.ones(3) if recipe.units.unit != "mm" or read.spacing is None else read.spacing
    turned, spacing_mm = slice_first(label_map, voxel)
    flat = turned.shape[0] == 1
    if recipe.units.space != (2 if flat else 3):
        kinds = {2: "an image or a single slice", 3: "a volume"}
        raise ValueError(
            f"the steps were chosen on {kinds[recipe.units.space]}, but the shape of this is "
            f"{read.shape}"
        )
    array, spacing = (turned[0], spacing_mm[1:]) if flat else (turned, spacing_mm)
    probabilities = None
    if any(steps.threshold is not None for steps in recipe.steps.values()):
        file = probabilities_file(job.file)
        if not file.is_file():
            raise ValueError(
                f"a lower threshold was chosen, which needs {file.name}: predict with "
                "--save_probabilities"
            )
        probabilities = read_probabilities(file, recipe.channels, array, recipe.targets)
    targets = recipe.targets
    changed = apply_steps(
        array,
        targets,
        recipe.steps,
        probability=lambda target: None if probabilities is None else probabilities[target.channel],
        spacing=spacing,
        connectivity=recipe.connectivity,
    )
    changes = {}
    for target in targets:
        before, after = (mask_of(values, target.members) for values in (array, changed))
        added, removed = (int(np.count_nonzero(m)) for m in (after & ~before, before & ~after))
        changes[target.key] = Change(added, removed)
    result = label_map.astype(changed.dtype)
    slice_first(result, np.ones(3))[0][...] = changed  # a view
    in_mm = recipe.units.unit == "mm"
    doubt = f"its header has spacing {read.two_spacings}" if in_mm and read.two_spacings else ""
    return label_map, result, changes, doubt


def _check_values(label_map: NDArray, recipe: Recipe) -> None:
    """Raises ValueError if a label map holds values that are not labels of the data set."""
    known = {0} if recipe.ignore is None else {0, recipe.ignore}
    for label in recipe.labels:
        known |= set(label) if isinstance(label, tuple) else {label}
    wrong = refuse_unknown_labels(distinct_values(label_map), known, recipe.dataset)
    if wrong:
        raise ValueError(f"it {wrong}")
