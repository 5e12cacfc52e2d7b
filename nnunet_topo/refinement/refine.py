"""Repairs the topology of a trained model's predictions, case by case, for a folder of images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from nnunetv2.utilities.helpers import empty_cache

from nnunet_topo.dataset import Union
from nnunet_topo.priors.case_priors import CasePrior, read_case_priors
from nnunet_topo.refinement.case import repair
from nnunet_topo.refinement.controls import postprocess
from nnunet_topo.refinement.descent import WeightsDescent
from nnunet_topo.refinement.output import Settings, WriteCase, digest_files, open_output, put_case
from nnunet_topo.refinement.part import WantedTopology
from nnunet_topo.refinement.request import (
    Request,
    find_cases,
    find_form,
    find_priors,
    find_topology,
    note_unknown_cases,
)
from nnunet_topo.refinement.result import CaseResult, describe, summarize
from nnunet_topo.refinement.trained_model import TrainedModel, one_line, open_model
from nnunet_topo.topology.betti_range import BettiPrior


@dataclass(frozen=True, slots=True)
class Refinement:
    """The results of all cases.

    Attributes:
        results: by case, those of earlier runs included.
        computed: number of cases that were done in this run.
        notes: what the user should know.
        record: file that holds all results.
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
    """Predicts a folder of images like nnUNetv2_predict, and repairs predictions of wrong topology.

    A case whose topology is right, or does not improve, is written as nnUNetv2_predict writes it.
    A case that fails does not stop the others. Finished cases are not computed again. Only files
    that an earlier run wrote into the same folder are replaced.

    Args:
        images: as for nnUNetv2_predict.
        output: where segmentations and the record go.
        model_folder: `<trainer>__<plans>__<configuration>`.
        request: what to do with each case.
        say: takes a line for each case.

    Raises:
        ValueError: no model, images or priors, or other settings than in the earlier run.
        NotImplementedError: the second stage of a cascade.
        OSError: a file cannot be read or written.
    """
    request.check()
    model = open_model(
        model_folder,
        folds=request.folds,
        checkpoint=request.checkpoint,
        device=request.device,
        probabilities=request.probabilities,
    )
    file = find_topology(model_folder, request)
    priors = find_priors(model, file, model_folder, request)
    form = find_form(model, file, request)
    request = replace(request, options=replace(request.options, form=form))
    cases = find_cases(images, model.ending)
    case_priors: dict[str, list[CasePrior]] = {}
    notes: list[str] = []
    if (table := request.case_priors) is not None:
        case_priors = read_case_priors(table, model.channels, space=model.space)
        note = note_unknown_cases(case_priors, table, cases, images)
        notes = [note] if note else []
    if output.resolve() == images.resolve():
        raise ValueError(f"-o: wanted another folder than that of the images, got {output}")
    folder = open_output(output, _settings(model, priors, request), cases, model)
    descent = None
    if not request.is_control:
        descent = WeightsDescent(model.predictor, request.options, model.connectivity)
    results: dict[str, CaseResult] = {}
    computed = 0
    for number, (case, files) in enumerate(cases.items(), start=1):
        topology = WantedTopology(priors, case_priors.get(case, []))
        digest, began = digest_files(files, topology.this_case), perf_counter()
        earlier = folder.finished(case, digest)
        if earlier is not None and earlier["status"] != "failed":
            result = CaseResult.from_json(earlier)
        else:
            result, write = _attempt(model, descent, files, topology, request)
            result = replace(result, seconds=round(perf_counter() - began, 1))
            result = put_case(folder, case, digest, result, write)
            computed += 1
            say(f"[{number}/{len(cases)}] {case}: {describe(result)}")
        results[case] = result
    folder.close(summary=summarize(results))
    return Refinement(results, computed, notes, folder.record)


def _settings(
    model: TrainedModel, priors: Mapping[Union, BettiPrior], request: Request
) -> Settings:
    control = "largest component" if request.largest_component else None
    if request.closing is not None:
        control = f"closing {request.closing}"
    options = request.options
    return Settings(
        model=[digest_files([file]) for file in model.checkpoints],
        folds=list(model.folds),
        connectivity=model.connectivity,
        prior={model.name(union): priors[union].to_csv() for union in sorted(priors)},
        control=control,
        weight=None if control else options.weight,
        steps=None if control else options.steps,
        lr=None if control else options.lr,
        form=None if control else str(options.form),
        probabilities=request.probabilities,
    )


def _attempt(
    model: TrainedModel,
    descent: WeightsDescent | None,
    files: Sequence[Path],
    topology: WantedTopology,
    request: Request,
) -> tuple[CaseResult, WriteCase | None]:
    """Returns the result of a case, and what writes its files; an error becomes the result."""
    prediction = None
    try:
        prediction = model.predict(files)
        properties = prediction.properties
        if descent is None:
            result, segmentation = postprocess(model, prediction, topology, closing=request.closing)
            return result, lambda path: model.write(segmentation, properties, path)
        result, logits = repair(model, descent, prediction, topology)
        return result, lambda path: model.export(logits, properties, path)
    except Exception as error:  # of readers, of nnU-Net, of a device without memory
        empty_cache(model.predictor.device)
        if prediction is None:
            return CaseResult("failed", f"not predicted, {one_line(error)}"), None
        logits, properties = prediction.logits, prediction.properties
        result = CaseResult("failed", f"written as predicted, {one_line(error)}")
        return result, lambda path: model.export(logits, properties, path)
