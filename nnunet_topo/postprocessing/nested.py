"""The predictions of a model after steps, as another model of a comparison."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nnunet_topo.evaluation.case import Settings
from nnunet_topo.evaluation.segmentations import find_segmentations
from nnunet_topo.evaluation.study import Model, Study
from nnunet_topo.own_folder import OwnFolder
from nnunet_topo.postprocessing.apply import AUTHOR, RECORD, Prediction, apply_jobs
from nnunet_topo.postprocessing.record import Postprocessing, Recipe
from nnunet_topo.postprocessing.scores import DEFAULT_METRIC
from nnunet_topo.postprocessing.steps import Grid, Steps
from nnunet_topo.postprocessing.works import find_works, recipe_of


def write_nested(
    study: Study, found: Postprocessing, name: str, output: Path, *, processes: int
) -> tuple[Model, list[str]]:
    """Writes the predictions of a study's model, each after the steps chosen without its group.

    Args:
        study: with this model alone.
        found: steps that were found for it.
        name: of the model that is returned.
        output: folder for the predictions; only what an earlier run wrote there is replaced.
        processes: maximum number.

    Returns:
        The written predictions as a model, and what is wrong with others.

    Raises:
        ValueError: other files are in the way.
        OSError: a file cannot be read or written.
    """
    steps = {
        case: {outcome.target.key: outcome.nested_steps[group] for outcome in found.outcomes}
        for group, cases in found.groups.items()
        for case in cases
    }
    return _write(study, found.recipe, steps, name, output, processes)


def keep_largest_components(
    study: Study, name: str, output: Path, *, settings: Settings, processes: int
) -> tuple[Model, list[str]]:
    """Writes the predictions of a study's model, only the largest component of each label.

    Args:
        study: with this model alone.
        name: of the model that is returned.
        output: folder for the predictions; only what an earlier run wrote there is replaced.
        settings: of the evaluation; only the connectivity matters.
        processes: maximum number.

    Returns:
        The written predictions as a model, and what is wrong with others.

    Raises:
        ValueError: there is nothing to write, or other files are in the way.
        OSError: a file cannot be read or written.
    """
    works, _ = find_works(study, DEFAULT_METRIC, settings, Grid())
    largest = {target.key: Steps(keep_largest=1) for target in works[0].targets}
    recipe = recipe_of(study, works[0], largest)
    steps = {work.case.name: largest for work in works}
    return _write(study, recipe, steps, name, output, processes)


def _write(
    study: Study,
    recipe: Recipe,
    steps: Mapping[str, Mapping[str, Steps]],
    name: str,
    output: Path,
    processes: int,
) -> tuple[Model, list[str]]:
    """Writes the cases that have steps, and returns them as a model of the folds that have some.

    Raises:
        ValueError: no case could be written, or other files are in the way.
    """
    folders, problems = {}, []
    for fold, source in study.models[0].folders.items():
        target = output / (f"fold_{fold}" if fold else "predictions")
        found = find_segmentations(study.references, source, study.dataset_json, study.plans)
        steps_of = {
            pair.prediction: {key: s for key, s in steps[pair.prediction.name].items() if s}
            for pair in found.pairs
            if pair.prediction and pair.prediction.name in steps
        }
        about = {
            "model": name,
            "steps_of_cases": {
                file.name: {key: of.to_json() for key, of in chosen.items()}
                for file, chosen in steps_of.items()
            },
        }
        folder = OwnFolder(target, RECORD, AUTHOR, about=about)
        jobs = [
            Prediction(
                file,
                found.reader(file),
                replace(recipe, steps=chosen),
                folder.new / str(number),
                refuses_others=False,
            )
            for number, (file, chosen) in enumerate(steps_of.items())
        ]
        folder.begin()
        folder.keep_only(job.file.name for job in jobs)
        done, _, unwritten = apply_jobs(jobs, folder, processes)
        problems += unwritten
        if done:
            folders[fold] = target
    if not folders:
        raise ValueError(f"no case could be written: {'; '.join(problems[:3])}")
    return Model(name, folders, {}), problems
