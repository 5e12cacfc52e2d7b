"""The predictions of one model, evaluated."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nnunet_topo.evaluation.case import Settings
from nnunet_topo.evaluation.evaluate import evaluate_folder
from nnunet_topo.evaluation.record import CaseMetrics, Evaluation, file_name
from nnunet_topo.evaluation.study import Model, Study, label_names
from nnunet_topo.evaluation.summary import read_summary


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """The evaluations of all folds of a model.

    Attributes:
        folds: one evaluation for each folder of predictions.
        cases: metrics of all folds, by the file name of the reference.
        problems: what went wrong, one line each.
    """

    folds: tuple[Evaluation, ...]
    cases: Mapping[str, CaseMetrics]
    problems: tuple[str, ...]


def evaluate_model(
    study: Study, model: Model, output: Path, *, processes: int, settings: Settings
) -> ModelEvaluation:
    """Evaluates the predictions of a model.

    Summaries go to the output folder, nothing is written beside the predictions. Metrics of the
    same files that `nnunet-topo evaluate` or a training has computed are used again.

    Raises:
        ValueError: two folds have validated the same case, or there is nothing to evaluate.
    """
    folds, problems = [], []
    cases: dict[str, CaseMetrics] = {}
    output.mkdir(parents=True, exist_ok=True)
    labels = label_names(study).keys()
    for fold, folder in model.folders.items():
        summary = output / (f"fold_{fold}.json" if fold else "summary.json")
        _copy_summary(folder / "summary.json", summary)
        evaluate = partial(
            evaluate_folder,
            *(study.references, folder, study.dataset_json, study.plans),
            labels=study.labels,
            output=summary,
            processes=processes,
            chill=True,
            settings=settings,
        )
        done = evaluate()
        changed = not done.whole and (done.computed or done.problems)
        if done.cases and (changed or done.means.keys() != labels):
            # The predictions changed after nnU-Net wrote it, so nnU-Net's metrics may be wrong.
            summary.unlink()
            done = evaluate()
        folds.append(done)
        problems += [f"{model.name}: {problem}" for problem in done.problems]
        for case in done.cases:
            # Predictions may have another file format than references.
            name = file_name(case.reference)
            if name in cases:
                raise ValueError(f"{model.name}: {name} is in the validation of more than one fold")
            cases[name] = case
    return ModelEvaluation(tuple(folds), cases, tuple(problems))


def _copy_summary(summary: Path, copy: Path) -> None:
    """Copies a summary with our metrics, unless there is a copy already."""
    if copy.exists() or not summary.is_file():
        return
    try:
        has_metrics = bool(read_summary(summary).evaluated)
    except (OSError, ValueError):
        return
    if has_metrics:
        shutil.copyfile(summary, copy)
