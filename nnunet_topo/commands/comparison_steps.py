"""The models of a comparison after their own post-processing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_topo.evaluation.case import Settings
from nnunet_topo.evaluation.study import Model, Study
from nnunet_topo.labels.labels import label_title
from nnunet_topo.postprocessing.find import Options, find_steps
from nnunet_topo.postprocessing.nested import write_nested
from nnunet_topo.postprocessing.record import FILE, Postprocessing
from nnunet_topo.postprocessing.scores import DEFAULT_METRIC, METRICS

MOST_NAMED = 5  # labels or regions whose steps are in the report
SUFFIX = ", post-processed"


@dataclass(frozen=True, slots=True)
class Processed:
    """A model after the steps that were chosen for it.

    Attributes:
        before: name of the model as predicted.
        model: its predictions after the steps of their folds.
        steps: those chosen on all cases, in words.
    """

    before: str
    model: Model
    steps: str


def process_models(
    study: Study,
    folder_of: Callable[[Model], Path],
    *,
    metric: str | None,
    settings: Settings,
    processes: int,
    patient: Callable[[str], str] | None = None,
) -> tuple[list[Processed], list[str], list[str]]:
    """Returns each model of a study after its own steps, nested, and notes and problems.

    Where steps cannot be found for one model, none is post-processed: the comparison would not be
    fair.

    Args:
        study: models to be compared.
        folder_of: gives the folder for the files of a model.
        metric: of the primary outcome, None for none; where steps cannot be chosen by it, they are
            by the Betti matching error.
        settings: how metrics are computed.
        processes: maximum number.
        patient: gives the patient of a case, as in `Options`.

    Raises:
        OSError: a file cannot be read or written.
    """
    by_metric = metric if metric in METRICS else DEFAULT_METRIC
    options = Options(by_metric, processes=processes, settings=settings, patient=patient)
    processed, problems = [], []
    for model in study.models:
        alone, folder = replace(study, models=(model,)), folder_of(model)
        try:
            found = find_steps(alone, folder, options)
            name = f"{model.name}{SUFFIX}"
            after, unwritten = write_nested(alone, found, name, folder, processes=processes)
        except ValueError as error:
            return [], [f"no model is post-processed, because {model.name} cannot be: {error}"], []
        problems += [f"{name}: {problem}" for problem in (*found.problems, *unwritten)]
        processed.append(Processed(model.name, after, describe_steps(found)))
    return processed, [], problems


def describe_steps(found: Postprocessing) -> str:
    """Returns the steps of the first labels or regions that have some, in words."""
    told = [
        f"{label_title(key, {key: outcome.name})}: {outcome.steps.in_words(found.recipe.units)}"
        for outcome in found.outcomes
        if outcome.steps
        for key in [outcome.target.key]
    ]
    left = len(told) - MOST_NAMED
    more = [f"and {left} more in {FILE}"] if left > 0 else []
    return "; ".join([*told[:MOST_NAMED], *more]) or "nothing helps"
