"""Repairs the topology of a trained model's predictions, case by case, for a folder of images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import nnunet_topo
from nnunet_topo.dataset import Union
from nnunet_topo.priors.case_priors import CasePrior, read_case_priors
from nnunet_topo.processes import in_processes
from nnunet_topo.refinement.job import CaseJob, CaseRepair
from nnunet_topo.refinement.output import Settings, digest_files, open_output, put_case
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
from nnunet_topo.refinement.trained_model import TrainedModel, open_model
from nnunet_topo.topology.betti_range import BettiPrior

_KILLED = CaseResult("failed", "not predicted, its process was killed; too little memory?")


@dataclass(frozen=True, slots=True)
class Refinement:
    """The results of all cases.

    Attributes:
        results: by case, those of earlier runs included.
        computed: number of cases that were done in this run.
        written: number of cases whose segmentation is in the folder.
        notes: what the user should know.
        record: file that holds all results.
    """

    results: dict[str, CaseResult]
    computed: int
    written: int
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
    that an earlier run wrote into the same folder are replaced, or removed where the case fails.

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
    repairs = CaseRepair(model_folder, request, model)
    numbers = {case: number for number, case in enumerate(cases, start=1)}
    results: dict[str, CaseResult] = {}
    jobs: list[CaseJob] = []
    for case, files in cases.items():
        topology = WantedTopology(priors, case_priors.get(case, []))
        of_inputs = digest_files(
            model.files_of(files), (nnunet_topo.__version__, topology.this_case)
        )
        earlier = folder.finished(case, of_inputs)
        if earlier is not None and earlier["status"] != "failed":
            results[case] = CaseResult.from_json(earlier)
        else:
            new = folder.new / f"case_{numbers[case]}"
            jobs.append(CaseJob(case, tuple(files), topology, of_inputs, new))
    done = in_processes(repairs, jobs, 1, killed=lambda job: (job, _KILLED), heavy=True)
    for job, result in done:
        results[job.case] = put_case(folder, job.case, job.digest, result, job.new)
        say(f"[{numbers[job.case]}/{len(cases)}] {job.case}: {describe(results[job.case])}")
    results = dict(sorted(results.items(), key=lambda of: numbers[of[0]]))
    folder.close(summary=summarize(results))
    notes += folder.note_on_others(cases, images)
    written = sum((output / f"{case}{model.ending}").is_file() for case in cases)
    return Refinement(results, len(jobs), written, notes, folder.record)


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
