"""What repairs the predictions of a model where the Betti numbers of the labels are known."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.comparison.data_sets import SPLITS, DataSet

if TYPE_CHECKING:
    from nnunet_topo.evaluation.study import Model

# Imports of nnU-Net come late, because they read its folders from the environment.


def corrected(model: "Model", data_set: DataSet, output: Path) -> "tuple[Model, list[str]]":
    """Returns the predictions after `nnunet-topo correct`, and problems."""
    from nnunet_topo.correction.correct import Request, correct_folder

    problems, folders = [], {}
    for fold, predictions in model.folders.items():
        folders[fold] = output / fold
        done = correct_folder(predictions, folders[fold], Request(prior=_prior(data_set)))
        problems += done.problems
        problems += [f"{r.case}: {r.reason}" for r in done.results if r.status == "failed"]
    return replace(model, folders=folders), problems


def refined(
    model: "Model", data_set: DataSet, output: Path, steps: int | None = None
) -> "tuple[Model, list[str]]":
    """Returns the predictions of `nnunet-topo refine`, with other than its steps, and problems."""
    from nnunet_topo.refinement.descent import Options
    from nnunet_topo.refinement.refine import refine
    from nnunet_topo.refinement.request import Request

    raw = Path(os.environ["nnUNet_raw"]) / data_set.name / "imagesTr"  # noqa: SIM112
    splits = json.loads((_preprocessed(data_set) / SPLITS).read_text())
    options = Options() if steps is None else Options(steps=steps)
    problems, folders = [], {}
    for fold, training in model.trainings.items():
        images, folders[fold] = output / f"images_{fold}", output / fold
        images.mkdir(parents=True, exist_ok=True)
        for case in splits[int(fold)]["val"]:
            for file in raw.glob(f"{case}_[0-9][0-9][0-9][0-9].*"):
                if not (images / file.name).is_symlink():
                    (images / file.name).symlink_to(file.resolve())
        request = Request(folds=[fold], prior=_prior(data_set), options=options)
        done = refine(images, folders[fold], training.parent, request, lambda _: None)
        failed = [case for case, result in done.results.items() if result.status == "failed"]
        problems += [f"{case}: {done.results[case].reason}" for case in failed]
    return replace(model, folders=folders), problems


def _preprocessed(data_set: DataSet) -> Path:
    return Path(os.environ["nnUNet_preprocessed"]) / data_set.name  # noqa: SIM112


def _prior(data_set: DataSet) -> Path:
    return _preprocessed(data_set) / "topology.json"
