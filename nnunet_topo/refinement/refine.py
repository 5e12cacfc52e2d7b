"""Repairs the topology of what a finished model predicts, case by case, in a folder of images."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

from nnunetv2.utilities.helpers import empty_cache
from nnunetv2.utilities.utils import create_paths_fn, get_identifiers_from_splitted_dataset_folder

import nnunet_topo
from nnunet_topo.files import case_files
from nnunet_topo.priors.case_priors import CasePrior, read_case_priors
from nnunet_topo.priors.topology_json import FILE, NO_PRIOR, OBJECTS, read_priors
from nnunet_topo.refinement.case import (
    CaseResult,
    LabelPriors,
    LabelTopology,
    postprocess,
    repair,
)
from nnunet_topo.refinement.descent import Options, WeightsDescent
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.training.checkpoints import read_origin
from nnunet_topo.training.trained_model import TrainedModel, open_model, reason

AUTHOR = "nnunet-topo refine"
RECORD = "refinement.json"
_NEW = ".nnunet-topo-refine"  # folder of what is not complete yet


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        folds: of the model, None for all that have the checkpoint.
        checkpoint: its file name.
        prior: a topology.json, None for the model's own.
        case_priors: a CSV file, see `read_case_priors`.
        options: of the refinement.
        largest_component: keep the largest component of each label, and refine nothing.
        closing: close each label with a ball of this radius in voxels, and refine nothing.
        probabilities: write them, too, as nnUNetv2_predict does.
        device: cpu, cuda or mps.
    """

    folds: Sequence[str] | None = None
    checkpoint: str = "checkpoint_final.pth"
    prior: Path | None = None
    case_priors: Path | None = None
    options: Options = field(default_factory=Options)
    largest_component: bool = False
    closing: int | None = None
    probabilities: bool = False
    device: str = "cpu"

    @property
    def is_control(self) -> bool:
        """Returns whether nothing is refined."""
        return self.largest_component or self.closing is not None


@dataclass(frozen=True, slots=True)
class Refinement:
    """What became of all cases.

    Attributes:
        results: by case, those of earlier runs included.
        computed: how many of them are of this run.
        notes: what the user should know.
        record: file that holds all of it.
    """

    results: dict[str, CaseResult]
    computed: int
    notes: list[str]
    record: Path


def refine(
    images: Path,
    output: Path,
    model_folder: Path,
    request: Request,
    say: Callable[[str], None] = print,
) -> Refinement:
    """Predicts a folder of images as nnUNetv2_predict does, and repairs what has a wrong topology.

    A case whose topology is right, or does not improve, is written as nnUNetv2_predict writes it.
    What is wrong with one case does not stop the others. Cases that are finished are not done
    again, and no file is replaced that is not of an earlier run into the same folder.

    Args:
        images: as for nnUNetv2_predict.
        output: where segmentations and the record go.
        model_folder: `<trainer>__<plans>__<configuration>`.
        request: what is asked for.
        say: takes a line for each case.

    Raises:
        ValueError: no model, images or priors, other settings than those of the earlier run.
        NotImplementedError: the second stage of a cascade.
        OSError: what cannot be read or written.
    """
    _check(request)
    model = open_model(
        model_folder,
        folds=request.folds,
        checkpoint=request.checkpoint,
        device=request.device,
        probabilities=request.probabilities,
    )
    of_labels = _find_priors(model, model_folder, request)
    of_cases: dict[str, list[CasePrior]] = {}
    if request.case_priors is not None:
        of_cases = read_case_priors(request.case_priors, model.label_manager, space=model.space)
    cases = _find_cases(images, model.ending)
    notes = _unknown_cases(of_cases, cases, request, images)
    if output.resolve() == images.resolve():
        raise ValueError(f"-o: wanted another folder than that of the images, got {output}")
    folder = _Output(output, _settings(model, of_labels, request), cases, model)
    descent = None
    if not request.is_control:
        descent = WeightsDescent(model.predictor, request.options, model.connectivity)
    results: dict[str, CaseResult] = {}
    computed = 0
    for number, (case, files) in enumerate(cases.items(), start=1):
        of_case = of_cases.get(case, [])
        digest, began = _digest(files, of_case), perf_counter()
        result = folder.finished(case, digest)
        if result is None:
            result, write = _attempt(model, descent, files, of_labels, of_case, request)
            result = replace(result, seconds=round(perf_counter() - began, 1))
            result = folder.put(case, digest, result, write)
            computed += 1
            say(f"[{number}/{len(cases)}] {case}: {describe(result)}")
        results[case] = result
    return Refinement(results, computed, notes, folder.record)


def describe(result: CaseResult) -> str:
    """Returns what became of a case, in a line."""
    changed = [row for row in result.topology if row.error_before or row.before != row.after]
    rows = [
        row.label
        + ("" if row.slice is None else f" in slice {row.slice}")
        + f" ({', '.join(map(str, row.before))})"
        + (f" -> ({', '.join(map(str, row.after))})" if row.before != row.after else "")
        + (f", {row.note}" if row.note else "")
        for row in changed
    ]
    told = f": {'; '.join(rows[:4])}{'; ...' if len(rows) > 4 else ''}" if rows else ""
    spent = f"{result.seconds:.1f} s"
    if result.steps or result.voxels_changed:
        spent = f"{result.steps} steps, {result.voxels_changed} voxels changed, {spent}"
    return f"{result.status}, {result.reason}{told} ({spent})"


def summarize(results: Mapping[str, CaseResult]) -> str:
    """Returns what became of all cases, in a line."""
    counts = Counter(result.status for result in results.values())
    line = f"{len(results)} case{'' if len(results) == 1 else 's'}: " + ", ".join(
        f"{n} {status}" for status, n in counts.items()
    )
    errors = [result.errors for result in results.values() if result.errors is not None]
    if errors:
        before, after = (sum(error == 0 for error in of) for of in zip(*errors, strict=True))
        line += f"; topology right in {before} of {len(errors)} cases before, in {after} after"
    return line


def _check(request: Request) -> None:
    options = request.options
    for name, value in (("--weight", options.weight), ("--lr", options.lr)):
        if not (value > 0 and isfinite(value)):
            raise ValueError(f"{name}: wanted a number above 0, got {value}")
    if options.steps < 1:
        raise ValueError(f"--steps: wanted at least 1, got {options.steps}")
    if request.closing is not None and request.closing < 1:
        raise ValueError(f"--closing: wanted at least 1 voxel, got {request.closing}")
    if request.largest_component and request.closing is not None:
        raise ValueError("--largest-component and --closing: wanted one of the two, got both")
    if request.is_control and request.probabilities:
        raise ValueError(
            "--save_probabilities: --largest-component and --closing change segmentations alone"
        )


def _find_priors(model: TrainedModel, folder: Path, request: Request) -> LabelPriors:
    """Returns the priors of a file, or those of the model.

    Raises:
        ValueError: there are none, and none of single cases either.
        OSError: the file cannot be read.
    """
    own = folder / FILE
    if request.prior is None and not own.is_file():
        of_labels = _priors_of_checkpoint(model.checkpoints[0])
        if not of_labels and request.case_priors is None and not request.is_control:
            dataset = model.predictor.plans_manager.dataset_name
            raise ValueError(
                f"nothing tells which topology is wanted: {folder} holds no {FILE}. `nnunet-topo "
                f"plan -d {dataset}` makes one of the labels, beside the plans: name it with "
                "--prior; or give --per-case-priors"
            )
        return of_labels
    space, connectivity = model.space, model.connectivity
    file = request.prior or own
    priors = read_priors(file, model.label_manager, space=space, connectivity=connectivity)
    wanted = [number for betti in priors.channels.values() for number in betti]
    is_asked = request.case_priors is None and not request.is_control
    if is_asked and all(number.is_free for number in wanted):
        example = json.dumps({model.names[0]: [1] + [0] * (space - 1)})[1:-1]
        raise ValueError(
            f"nothing is wanted of any label: in {file} every prior of {OBJECTS[space]} at "
            f'{connectivity} connectivity is "{NO_PRIOR}" or free, because the training labels do '
            f"not agree on one. Write what you know into it, priors > {connectivity} > "
            f"{OBJECTS[space]} > {example}, or give --per-case-priors. --largest-component needs "
            "no prior"
        )
    classes = len(model.names)
    return {
        (channel,) if channel < classes else priors.unions[channel - classes]: betti
        for channel, betti in priors.channels.items()
    }


def _priors_of_checkpoint(checkpoint: Path) -> LabelPriors:
    """Returns the priors that a training was done with, none if it had none."""
    origin = read_origin(checkpoint)
    return {
        tuple(map(int, channels.split("+"))): BettiPrior.from_json(prior, str(checkpoint))
        for channels, prior in ({} if origin is None else origin.prior).items()
        if isinstance(prior, list)
    }


def _find_cases(images: Path, ending: str) -> dict[str, list[Path]]:
    """Returns the images of each case, found as nnU-Net does.

    Raises:
        ValueError: there are none.
    """
    if not images.is_dir():
        raise ValueError(f"-i: {images} is no folder")
    files = [file.name for file in case_files(images, ending)]
    cases = {}
    for case in get_identifiers_from_splitted_dataset_folder(str(images), ending):
        found = create_paths_fn(str(images), files, ending, str(case))
        if found:
            cases[str(case)] = [Path(file) for file in found]
    if not cases:
        raise ValueError(f"-i: {images} holds no image named as case_0000{ending}")
    return cases


def _unknown_cases(
    of_cases: Mapping[str, Any], cases: Mapping[str, Any], request: Request, images: Path
) -> list[str]:
    """Returns what to say of cases that the CSV file alone names.

    Raises:
        ValueError: it names no others.
    """
    unknown = sorted(of_cases.keys() - cases.keys())
    if not unknown:
        return []
    listed = ", ".join(unknown[:10]) + (", ..." if len(unknown) > 10 else "")
    told = f"{request.case_priors} names cases that are not in {images}: {listed}"
    if len(unknown) == len(of_cases):
        raise ValueError(f"{told}; there are {', '.join(list(cases)[:10])}")
    return [told]


def _settings(model: TrainedModel, of_labels: LabelPriors, request: Request) -> dict[str, Any]:
    """Returns what all results depend on, in plain types."""
    control = "largest component" if request.largest_component else None
    if request.closing is not None:
        control = f"closing {request.closing}"
    return {
        "model": [_digest([file], ()) for file in model.checkpoints],
        "folds": list(model.folds),
        "connectivity": model.connectivity,
        "prior": {model.name(of): of_labels[of].to_csv() for of in sorted(of_labels)},
        "control": control,
        "weight": None if control else request.options.weight,
        "steps": None if control else request.options.steps,
        "lr": None if control else request.options.lr,
        "probabilities": request.probabilities,
    }


def _digest(files: Iterable[Path], besides: object) -> str:
    """Returns a digest of the content of files; one that cannot be read counts as empty."""
    digest = hashlib.blake2b(repr(besides).encode(), digest_size=16)
    for file in files:
        try:
            digest.update(hashlib.blake2b(file.read_bytes()).digest())
        except OSError:
            digest.update(b"unreadable")
    return digest.hexdigest()


_Write = Callable[[Path], None]  # given the file without its ending


def _attempt(
    model: TrainedModel,
    descent: WeightsDescent | None,
    files: Sequence[Path],
    of_labels: LabelPriors,
    of_case: Sequence[CasePrior],
    request: Request,
) -> tuple[CaseResult, _Write | None]:
    """Returns what became of a case, and what writes it; whatever fails is the result."""
    prediction = None
    try:
        prediction = model.predict(files)
        properties = prediction.properties
        if descent is None:
            result, segmentation = postprocess(
                model, prediction, of_labels, of_case, closing=request.closing
            )

            def write_changed(truncated: Path) -> None:
                file = truncated.with_name(truncated.name + model.ending)
                model.write(segmentation, properties, file)

            return result, write_changed
        result, logits = repair(model, descent, prediction, of_labels, of_case)
        return result, lambda truncated: model.export(logits, properties, truncated)
    except Exception as error:  # of readers, of nnU-Net, of a device without memory
        empty_cache(model.predictor.device)
        if prediction is None:
            return CaseResult("failed", f"not predicted, {reason(error)}"), None
        logits, properties = prediction.logits, prediction.properties
        told = f"written as predicted, {reason(error)}"
        return CaseResult("failed", told), lambda to: model.export(logits, properties, to)


# -- the files ---------------------------------------------------------------------------------


class _Output:
    """The folder that is written to, and its record.

    The record is written before the files of a case are put in their places, so that what is found
    there after an interruption is either known, or not ours.

    Args:
        folder: made if there is none.
        settings: that all results depend on.
        cases: that may be written.
        model: whose plans are copied into it, as nnU-Net does.

    Attributes:
        record: the record's file.

    Raises:
        ValueError: the folder is of other settings, or holds files in the way.
        OSError: what cannot be read or written.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], cases: Iterable[str], model: TrainedModel
    ) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"-o: wanted a folder, {folder} is a file")
        self.folder = folder
        self.endings = [model.ending, *((".npz", ".pkl") if model.probabilities else ())]
        self.record = folder / RECORD
        self.content: dict[str, Any] = {"written_by": AUTHOR, "settings": settings}
        self.content |= {"version": nnunet_topo.__version__, "cases": {}, "files": {}}
        if self.record.exists():
            self._read(settings)
        self._check_in_the_way(cases)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / _NEW, ignore_errors=True)  # of a run that was killed
        plans = model.predictor.plans_manager.plans
        for name, of_nnunet in (("plans", plans), ("dataset", model.predictor.dataset_json)):
            if not (folder / f"{name}.json").exists():
                _replace(folder / f"{name}.json", json.dumps(of_nnunet, indent=4))

    def _read(self, settings: dict[str, Any]) -> None:
        try:
            content = json.loads(self.record.read_text(encoding="utf-8"))
            is_ours = content["written_by"] == AUTHOR
            earlier, of_cases, files = content["settings"], content["cases"], content["files"]
            list(map(_result, of_cases.values()))
        except (ValueError, KeyError, TypeError):
            is_ours, earlier, of_cases, files = False, {}, {}, {}
        if not is_ours:
            raise ValueError(
                f"{self.record} was not written by {AUTHOR} and is left as it is; choose another -o"
            )
        other = [key for key in settings if settings[key] != earlier.get(key)]
        if other:
            told = "; ".join(f"{key}: {earlier.get(key)}, now {settings[key]}" for key in other)
            raise ValueError(
                f"{self.folder} was written with other settings ({told}); choose another -o, or "
                "move it away"
            )
        self.content |= {"cases": of_cases, "files": files}

    def _check_in_the_way(self, cases: Iterable[str]) -> None:
        for case in cases:
            for ending in self.endings:
                file = self.folder / f"{case}{ending}"
                known = self.content["files"].get(file.name, [])
                if file.exists() and _digest([file], ()) not in known:
                    raise ValueError(
                        f"{file} is not as {AUTHOR} has written it and is left as it is; move it "
                        "away or choose another -o"
                    )

    def finished(self, case: str, digest: str) -> CaseResult | None:
        """Returns what became of a case in an earlier run, None if it is to be done."""
        recorded = self.content["cases"].get(case)
        if recorded is None or recorded["digest"] != digest or recorded["status"] == "failed":
            return None
        for name in recorded["files"]:  # a run may have been killed before it put them there
            if _digest([self.folder / name], ()) != self.content["files"][name][-1]:
                return None
        return _result(recorded)

    def put(self, case: str, digest: str, result: CaseResult, write: _Write | None) -> CaseResult:
        """Writes the files of a case and its record; returns the result, failed if they cannot be.

        Raises:
            OSError: the record cannot be written.
        """
        new = self.folder / _NEW
        files: list[Path] = []
        try:
            if write is not None:
                new.mkdir(exist_ok=True)
                write(new / case)
                files = sorted(new.iterdir())
            self._record(case, digest, result, files)
            for file in files:
                file.replace(self.folder / file.name)
                self.content["files"][file.name] = self.content["files"][file.name][-1:]
        except Exception as error:  # readers and writers raise what they like; a full disk, too
            shutil.rmtree(new, ignore_errors=True)
            seconds = result.seconds
            result = CaseResult("failed", f"not written, {reason(error)}", seconds=seconds)
            self._record(case, digest, result, [])
        shutil.rmtree(new, ignore_errors=True)
        return result

    def _record(self, case: str, digest: str, result: CaseResult, files: Sequence[Path]) -> None:
        """Replaces the record in one step."""
        of_files = self.content["files"]
        for file in files:  # until it is replaced, the earlier one is known, too
            of_files[file.name] = [*of_files.get(file.name, [])[-1:], _digest([file], ())]
        recorded = {"digest": digest, "files": [file.name for file in files]}
        self.content["cases"][case] = asdict(result) | recorded
        of_cases = {name: _result(of) for name, of in self.content["cases"].items()}
        self.content["summary"] = summarize(of_cases)
        _replace(self.record, json.dumps(self.content, indent=2))


def _replace(file: Path, text: str) -> None:
    """Writes a file in one step."""
    new = file.with_name(f"{file.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _result(recorded: Mapping[str, Any]) -> CaseResult:
    """Returns what a record says of a case."""
    values = {key: value for key, value in recorded.items() if key not in ("digest", "files")}
    values["topology"] = [LabelTopology(**row) for row in values["topology"]]
    return CaseResult(**values)
