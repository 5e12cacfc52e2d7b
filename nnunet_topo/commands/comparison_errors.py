"""`nnunet-topo compare --error-maps`: where the topological errors of each model are."""

from collections.abc import Mapping, Sequence

from nnunet_topo.evaluation.case import Settings
from nnunet_topo.evaluation.error_maps import default_folder, write_error_maps
from nnunet_topo.evaluation.models import ModelEvaluation
from nnunet_topo.evaluation.segmentations import find_segmentations
from nnunet_topo.evaluation.study import Model, Study, study_labels


def write_maps_of_models(
    study: Study,
    models: Sequence[Model],
    evaluated: Mapping[str, ModelEvaluation],
    settings: Settings,
    processes: int,
) -> list[str]:
    """Writes maps beside each summary of a comparison, and returns what went wrong.

    Raises:
        ValueError: a folder was not written by us.
        OSError: a file cannot be written.
    """
    labels, problems = study_labels(study), []
    for model in models:
        of_folds = zip(model.folders.values(), evaluated[model.name].folds, strict=True)
        for folder, done in of_folds:
            found = find_segmentations(study.references, folder, study.dataset_json, study.plans)
            place = default_folder(done.summary)
            maps = write_error_maps(found, labels, done, place, settings, processes=processes)
            problems += [f"{model.name}: {problem}" for problem in maps.problems]
    return problems
