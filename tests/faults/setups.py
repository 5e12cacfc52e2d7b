"""The commands that are killed, each on a small task of its own.

Each function returns the arguments of the command and what it writes.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from ..conftest import tiny_case
from ..evaluation.study import Study, pair
from ..model_folder import blobs, ring
from ..postprocessing.folders import Validation
from ..refinement.folders import Folders
from .killing import run as call

CASES = 12
TRAINERS = Path(__file__).parent / "trainers"
DATASET, PLANS = "Dataset901_TinyRings", "nnUNetPlansKilled"


def fill(study: Study) -> Study:
    for case in range(CASES):
        study.put(f"case_{case:02d}", *pair(case % 4))
    return study


def evaluate(folder, *_):
    study = fill(Study(folder / "study"))
    maps = study.pred / "summary_errors"
    command = ["evaluate", str(study.gt), str(study.pred), "-np", "2", "--error-maps", "--chill"]
    return command, [study.summary, maps]


def compare(folder, *_):
    study = fill(Study(folder / "study"))
    other = folder / "other"
    shutil.copytree(study.gt, other)
    command = ["compare", "--gt", str(study.gt), "--pred", f"a={study.pred}", f"b={other}"]
    return [*command, "-o", str(folder / "out"), "-np", "1"], [folder / "out"]


def correct(folder, *_):
    study = fill(Study(folder / "study"))
    shutil.copy(study.djfile, study.pred / "dataset.json")
    prior = folder / "topology.json"
    priors = {"full": {"volumes": {"ring": [1, 1, 0], "blob": [1, 0, 0]}}}
    prior.write_text(json.dumps({"priors": priors, "unions": {}}))
    command = ["correct", "-i", str(study.pred), "-o", str(folder / "out"), "--prior", str(prior)]
    return [*command, "-np", "2"], [folder / "out"]


def find(folder, monkeypatch, _):
    validation = Validation(folder, monkeypatch).fill(CASES)
    command = ["postprocess", "find", "-d", "904", "-c", "3d_fullres", "-tr", "nnUNetTrainer"]
    return [*command, "-f", "0", "1", "-o", str(validation.out), "-np", "1"], [validation.out]


def apply(folder, monkeypatch, request):
    find_steps, (found,) = find(folder, monkeypatch, request)
    assert call(find_steps) == 0
    predictions = folder / "predictions"
    shutil.copytree(folder / "study" / "gt", predictions, dirs_exist_ok=True)
    for fold in (folder / "results").rglob("validation"):
        for file in fold.glob("*.nii.gz"):
            shutil.copy(file, predictions)
    command = ["postprocess", "apply", "-i", str(predictions), "-o", str(folder / "applied")]
    return [*command, str(found), "-np", "1"], [folder / "applied"]


def plan(folder, monkeypatch, request):
    _, preprocessed = request.getfixturevalue("dataset")
    return ["plan", "-d", "901", "-np", "1", "-c", "2d"], [preprocessed / "topology.json"]


def refine(folder, *_):
    folders = Folders(folder)
    for case in range(8):
        folders.put(f"ring_{case}", ring(0.2 + 0.02 * case))
        folders.put(f"blob_{case}", blobs(0.9, 0.6 + 0.02 * case))
    rings, pieces = ([f"{kind}_{case},ring" for case in range(8)] for kind in ("ring", "blob"))
    folders.priors(*(f"{name},1,1" for name in rings), *(f"{name},1,0" for name in pieces))
    command = ["refine", "-i", str(folders.images), "-o", str(folders.out)]
    command += ["-m", str(folders.model), "-device", "cpu", "--lr", "0.01"]
    return [*command, "--per-case-priors", str(folders.csv)], [folders.out]


def preprocess_unlabeled(folder, monkeypatch, request):
    import SimpleITK as sitk

    _, preprocessed = request.getfixturevalue("dataset")
    images = folder / "images"
    images.mkdir()
    for case in range(CASES):
        image = sitk.GetImageFromArray(tiny_case(100 + case)[0])
        sitk.WriteImage(image, images / f"new_{case:02d}_0000.nii.gz")
    command = ["preprocess-unlabeled", "-d", "901", "-i", str(images), "-c", "3d_fullres"]
    written = preprocessed / "nnUNetPlans_3d_fullres_unlabeled"
    shutil.rmtree(written, ignore_errors=True)  # what other tests have prepared
    return [*command, "-np", "1"], [written, preprocessed / "labelled_images.json"]


def prepare_training(folder, monkeypatch, request) -> Path:
    """Makes plans of a small net on small images, and returns the folder of results."""
    _, preprocessed = request.getfixturevalue("dataset")
    plans = json.loads((preprocessed / "nnUNetPlansTiny.json").read_text())
    plans["plans_name"] = PLANS
    plans["configurations"]["2d"] |= {"batch_size": 2, "patch_size": [24, 24]}
    (preprocessed / f"{PLANS}.json").write_text(json.dumps(plans))
    monkeypatch.setenv("nnUNet_results", str(folder / "results"))
    monkeypatch.setenv("nnUNet_extTrainer", str(TRAINERS))
    return folder / "results"


def train(folder, monkeypatch, request):
    results = prepare_training(folder, monkeypatch, request)
    command = ["train", "901", "2d", "0", "-p", PLANS, "-tr", "nnUNetTrainerKilled", "--c"]
    return [*command, "-device", "cpu"], [results]


def run(folder, monkeypatch, request):
    results = prepare_training(folder, monkeypatch, request)
    command = ["run", "-d", "901", "-c", "2d", "-p", PLANS, "-f", "0", "-device", "cpu"]
    trainers = ["nnUNetTrainerStock_2epochs_2iters_seed1", "nnUNetTrainerKilled"]
    return [*command, "-tr", *trainers, "-o", str(folder / "out")], [results, folder / "out"]


SETUPS: dict[str, Callable] = {
    f.__name__: f
    for f in (
        *(evaluate, compare, correct, find, apply, plan, refine, preprocess_unlabeled),
        *(train, run),
    )
}
