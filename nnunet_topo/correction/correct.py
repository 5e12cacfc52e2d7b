"""Corrects a folder of predictions, case by case."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

from tqdm import tqdm

import nnunet_topo
from nnunet_topo.correction.case import Case, Wanted, correct_case, killed_case
from nnunet_topo.correction.result import CaseResult
from nnunet_topo.correction.structures import Structure
from nnunet_topo.dataset import Channels, read_dataset_json, read_plans_file
from nnunet_topo.files import case_name, data_files, digest
from nnunet_topo.images.layouts import spacing_file
from nnunet_topo.images.readers import (
    choose_readers,
    known_endings,
    probabilities_file,
    segmentations_with,
)
from nnunet_topo.own_folder import OwnFolder
from nnunet_topo.priors.form import OBJECTS
from nnunet_topo.priors.topology_json import TopologyJson
from nnunet_topo.processes import in_processes
from nnunet_topo.topology import Connectivity

AUTHOR = "nnunet-topo correct"
RECORD = "correction.json"
REVIEW_MM = 5.0
_CASES = {
    2: "images and volumes of one slice",
    3: "volumes, whose slices are not corrected one by one",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What all results depend on; the names are keys of the record.

    Attributes:
        prior: Betti numbers by the name of the label, for images and for volumes.
        labels: of each channel, the name and the values.
        connectivity: of the foreground.
        probabilities: whether they were used.
        review_distance_mm: changes further from the old surface mark a case for review.
    """

    prior: dict[str, dict[str, list[str]]]
    labels: dict[str, list[int]]
    connectivity: str
    probabilities: bool
    review_distance_mm: float


@dataclass(frozen=True, slots=True)
class Request:
    """What to do with each case.

    Attributes:
        prior: a topology.json.
        dataset_json: nnU-Net's, None for the one with the predictions or in a folder above.
        probabilities: whether to use nnU-Net's .npz files beside the predictions.
        connectivity: of the foreground.
        review_mm: changes further from the old surface mark a case for review.
        processes: maximum number.
    """

    prior: Path
    dataset_json: Path | None = None
    probabilities: bool = False
    connectivity: Connectivity = "full"
    review_mm: float = REVIEW_MM
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Corrections:
    """The results of all cases.

    Attributes:
        results: those of earlier runs included.
        computed: number of cases that were done in this run.
        problems: of files that were left out, one line each.
        notes: what the user should know.
        record: file that holds all results.
    """

    results: list[CaseResult]
    computed: int
    problems: list[str]
    notes: list[str]
    record: Path


def correct_folder(predictions: Path, output: Path, request: Request) -> Corrections:
    """Gives each prediction the topology of topology.json, and writes what was done.

    A case that fails does not stop the others. Finished cases are not computed again. Only files
    that an earlier run wrote into the same folder are replaced, or removed where the case fails.

    Args:
        predictions: folder of segmentations.
        output: folder for the corrected ones and the record.
        request: what to do with each case.

    Raises:
        ValueError: no predictions or priors, or other settings than in the earlier run.
        OSError: a file cannot be read or written.
    """
    if not (request.review_mm >= 0 and isfinite(request.review_mm)):
        raise ValueError(f"--review-distance: wanted a number from 0, got {request.review_mm}")
    if not predictions.is_dir():
        raise ValueError(f"-i: {predictions} is not a folder")
    if output.resolve() == predictions.resolve():
        raise ValueError(f"-o: wanted another folder than that of the predictions, got {output}")
    dataset_json = request.dataset_json or _found_from(predictions, "dataset.json")
    if dataset_json is None:
        raise ValueError(
            f"{predictions} holds no dataset.json, which names the labels: give -djfile"
        )
    plans = _found_from(predictions, "plans.json")
    description = read_dataset_json(dataset_json)
    channels = Channels.of_description(description, dataset_json)
    wanted = _wanted(TopologyJson.read(request.prior), channels, request)
    files, problems = _predictions_in(predictions, description["file_ending"])
    plan = None if plans is None else read_plans_file(plans)
    readers = choose_readers(files, description, dataset_json, plan, plans)
    settings = asdict(_settings(wanted, channels, request))
    folder = OwnFolder(output, RECORD, AUTHOR, settings=settings)
    folder.refuse_others(file.name for file in files)
    folder.begin()
    for name, source in (("dataset.json", dataset_json), ("plans.json", plans)):
        if source is not None and not (output / name).exists():
            shutil.copyfile(source, output / name)  # so that other commands read the folder
    cases, inputs, done = [], {}, []
    for file in files:
        case = Case(
            case_name(file, known_endings()),
            file,
            probabilities_file(file) if request.probabilities else None,
            readers(file),
            wanted,
            request.connectivity,
            request.review_mm,
            folder.new / file.name,
        )
        inputs[case.name] = _digest_of(case)
        earlier = folder.finished(case.name, inputs[case.name])
        if earlier is None or earlier["status"] == "failed":
            cases.append(case)
        else:
            done.append(CaseResult.from_json(earlier))
    folders = {case.name: case.folder for case in cases}
    for result in tqdm(
        in_processes(correct_case, cases, request.processes, killed=killed_case, heavy=True),
        total=len(cases),
        desc="topology",
        unit="case",
        disable=None,  # without a terminal
    ):
        done.append(_put(folder, result, inputs[result.case], folders[result.case]))
    folder.close()
    notes = folder.note_on_others(inputs, predictions)
    done.sort(key=lambda result: result.case)
    return Corrections(done, len(cases), problems, notes, folder.record)


def _put(folder: OwnFolder, result: CaseResult, of_inputs: str, new: Path) -> CaseResult:
    """Records a case with the files in a folder, and returns its result."""
    files = sorted(new.iterdir()) if new.is_dir() and result.status != "failed" else []
    try:
        folder.put(result.case, of_inputs, asdict(result), files)
    except ValueError as error:  # a file that came since
        result = CaseResult(result.case, "failed", str(error), seconds=result.seconds)
        folder.put(result.case, of_inputs, asdict(result))
    shutil.rmtree(new, ignore_errors=True)
    return result


def _found_from(predictions: Path, name: str) -> Path | None:
    """Returns a file with the predictions, or of the training whose validation they are."""
    for folder in (predictions, *list(predictions.resolve().parents)[:2]):
        if (folder / name).is_file():
            return folder / name
    return None


def _predictions_in(folder: Path, ending: str) -> tuple[list[Path], list[str]]:
    """Returns the segmentations of a folder, and a line for each that is left out."""
    for known in (ending, *known_endings()):
        files, problems = segmentations_with(folder, known)
        if files:
            return files, problems
    raise ValueError(f"-i: {folder} holds no segmentation that ends in {ending}")


def _wanted(topology: TopologyJson, channels: Channels, request: Request) -> Wanted:
    """Returns the structures of images and of volumes.

    Raises:
        ValueError: topology.json has no priors for either, or a mistake.
    """
    topology.check(channels)
    structures: dict[int, tuple[Structure, ...] | str] = {}
    for space in (2, 3):
        try:
            priors = topology.priors(channels, space=space, connectivity=request.connectivity)
        except ValueError as error:
            structures[space] = str(error)
            continue
        members = [(channel,) for channel in range(len(channels))] + list(priors.unions)
        found = tuple(
            Structure(
                channels.name_of(union), channels.labels_of(union), priors.channels.get(index)
            )
            for index, union in enumerate(members)
        )
        structures[space] = found
        if all(one.prior is None or one.prior.is_free for one in found):
            structures[space] = (
                f"no label has a prior for {_CASES[space]}; wanted one in {topology.file} under "
                f"priors > {request.connectivity} > {OBJECTS[space]}"
            )
    if all(isinstance(of, str) for of in structures.values()):
        raise ValueError(
            f"{topology.file}: no label has a prior at {request.connectivity} connectivity. Write "
            f"what you know under priors > {request.connectivity} > {OBJECTS[3]} or {OBJECTS[2]}"
        )
    return Wanted(
        structures,
        tuple(channels.labels_of((channel,)) for channel in range(len(channels))),
        channels.has_regions,
        channels.ignore,
    )


def _settings(wanted: Wanted, channels: Channels, request: Request) -> Settings:
    prior = {
        OBJECTS[space]: {s.name: s.prior.to_csv() for s in of if s.prior is not None}
        for space, of in wanted.structures.items()
        if not isinstance(of, str)
    }
    labels = {
        name: list(members) for name, members in zip(channels.names, wanted.channels, strict=True)
    }
    return Settings(prior, labels, request.connectivity, request.probabilities, request.review_mm)


def _digest_of(case: Case) -> str:
    """Returns a digest of the files of a case, "" if one cannot be read."""
    files: Sequence[Path] = [case.file] + ([case.probabilities] if case.probabilities else [])
    try:
        files = [*files, *data_files(case.file)]
        beside = spacing_file(case.reader, case.file)
        files += [] if beside is None else [beside]
        besides = nnunet_topo.__version__, type(case.reader).__name__
        return digest(repr(besides), *(file.read_bytes() for file in files))
    except OSError:
        return ""
