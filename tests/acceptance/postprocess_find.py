"""Steps of `postprocess find` on small nets, beside nnU-Net's own and an exhaustive search.

Usage: python -m tests.acceptance.postprocess_find FOLDER [DATASET ...]

Trains nnUNetTrainerStock on each data set for 200 iterations, finds steps on its validation, and
prints Betti matching error and Dice: as predicted, nested, with the steps chosen on all cases, and
with what nnU-Net's nnUNetv2_determine_postprocessing chooses on the same cases. Then every
candidate is applied to every case from the beginning and measured as a whole, and the plain search
of the tests must choose the same steps, for all cases and for each part of them. nnU-Net's folders
must be set. Exit status 1 if it does not.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stdout
from math import nan
from pathlib import Path

import numpy as np

from tests.postprocessing.naive import search
from tests.small_plans import shrink

# Data set -> identifier, configuration, patch size, cases to train on and to validate.
DATASETS = {
    "Dataset004_Hippocampus": ("4", "3d_fullres", [24, 32, 24], 60, 20),
    "Dataset101_ChaseDB1": ("101", "2d", [128, 128], 12, 8),
    "Dataset103_TopoMortar": ("103", "2d", [128, 128], 50, 20),
}
PLANS, TRAINER = "nnUNetPlansSteps", "nnUNetTrainerStock_8epochs_25iters_nomirror_seed1"
ERROR = "topo_betti_matching_error"


def folder_of(name: str) -> Path:
    return Path(os.environ[f"nnUNet_{name}"])


def call(*command: str) -> str:
    executable = Path(sys.executable).parent / command[0]
    done = subprocess.run([executable, *command[1:]], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command} returned {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def train(dataset: str) -> Path:
    """Returns the folder of a training, which is made if there is none."""
    import torch

    number, configuration, patch, training_cases, cases = DATASETS[dataset]
    model = folder_of("results") / dataset / f"{TRAINER}__{PLANS}__{configuration}"
    if (model / "fold_0/validation/summary.json").is_file():
        return model
    raw, preprocessed = folder_of("raw") / dataset, folder_of("preprocessed") / dataset
    source = Path(os.environ["NNUNET_TOPO_DATA"]) / dataset
    chosen = sorted(f.name.split(".")[0] for f in (source / "labelsTr").iterdir())
    chosen = chosen[: training_cases + cases]
    if not (preprocessed / f"{PLANS}.json").is_file():
        shutil.rmtree(raw, ignore_errors=True)
        for part in ("imagesTr", "labelsTr"):
            (raw / part).mkdir(parents=True)
            for file in (source / part).iterdir():
                if file.name.split(".")[0].removesuffix("_0000") in chosen:
                    (raw / part / file.name).symlink_to(file)
        description = json.loads((source / "dataset.json").read_text())
        description["numTraining"] = len(chosen)
        (raw / "dataset.json").write_text(json.dumps(description))
        options = ("-c", configuration, "-np", "1", "-npfp", "1")
        call("nnUNetv2_plan_and_preprocess", "-d", number, *options)
        plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
        plans["plans_name"] = PLANS
        of_configuration = plans["configurations"][configuration]
        shrink(of_configuration, [16, 32, 64])
        of_configuration |= {"batch_size": 4, "patch_size": patch}
        norm = f"torch.nn.modules.batchnorm.BatchNorm{len(patch)}d"
        of_configuration["architecture"]["arch_kwargs"]["norm_op"] = norm
        (preprocessed / f"{PLANS}.json").write_text(json.dumps(plans))
        split = {"train": chosen[:training_cases], "val": chosen[training_cases:]}
        (preprocessed / "splits_final.json").write_text(json.dumps([split]))
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    log = model.with_name(f"{model.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file, redirect_stdout(file):
        cpu = torch.device("cpu")
        trainer = get_trainer_from_args(number, configuration, 0, TRAINER, PLANS, device=cpu)
        trainer.run_training()
        trainer.perform_actual_validation()
    return model


def measure(reference: Path, prediction: Path, labels: list[int]) -> dict[int, tuple]:
    """Returns Betti matching error and Dice of each label of two files."""
    from nnunet_topo.topology.betti_matching import match_betti_numbers

    pair = [read(file) for file in (prediction, reference)]
    found = {}
    for label in labels:
        p, r = (array == label for array in pair)
        total = int(p.sum() + r.sum())
        dice = 2 * int((p & r).sum()) / total if total else nan
        found[label] = match_betti_numbers(p, r).error, dice
    return found


def read(file: Path) -> np.ndarray:
    if file.suffix == ".png":
        from skimage.io import imread

        return imread(file)
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def spacing_of(file: Path) -> np.ndarray:
    if file.suffix == ".png":
        return np.ones(2)
    import SimpleITK as sitk

    return np.array(sitk.ReadImage(str(file)).GetSpacing()[::-1])


def nnunets_own(model: Path, references: Path, ending: str, work: Path) -> tuple[Path, list]:
    """Returns the predictions after nnU-Net's own postprocessing, and what it does."""
    copy = work / "nnunet"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    ours = work / "references"
    shutil.rmtree(ours, ignore_errors=True)
    ours.mkdir()
    for file in (model / "fold_0/validation").glob(f"*{ending}"):
        shutil.copy(file, copy)
        shutil.copy(references / file.name, ours)
    files = ("-plans_json", str(model / "plans.json"), "-dataset_json", str(model / "dataset.json"))
    call(
        "nnUNetv2_determine_postprocessing", "-i", str(copy), "-ref", str(ours), *files, "-np", "1"
    )
    done = json.loads((copy / "postprocessing.json").read_text())
    return copy / "postprocessed", done["postprocessing_kwargs"]


def exhaustive(files: list[tuple[Path, Path]], label: int, candidates: list) -> np.ndarray:
    """Returns error and Dice `[case, candidate]`, each candidate applied from the beginning."""
    from nnunet_topo.postprocessing.steps import change_mask
    from nnunet_topo.topology.betti_matching import match_betti_numbers

    rows = []
    for reference_file, file in files:
        array, reference = read(file), read(reference_file) == label
        mask, spacing = array == label, spacing_of(file)
        row = []
        for steps in candidates:
            changed = change_mask(
                mask, array == 0, steps, probability=None, spacing=spacing, connectivity="full"
            )
            total = int(changed.sum() + reference.sum())
            dice = 2 * int((changed & reference).sum()) / total if total else nan
            row.append((match_betti_numbers(changed, reference).error, dice))
        rows.append(row)
    return np.array(rows, float)


def show(dataset: str, work: Path) -> list[str]:
    """Prints the figures of a data set; returns the labels in which the searches disagree."""
    from nnunet_topo.postprocessing.steps import Grid, Steps

    number, configuration, *_ = DATASETS[dataset]
    began = time.monotonic()
    model = train(dataset)
    trained = time.monotonic() - began
    work.mkdir(parents=True, exist_ok=True)
    options = ("-d", number, "-c", configuration, "-tr", TRAINER, "-p", PLANS, "-f", "0")
    began = time.monotonic()
    call("nnunet-topo", "postprocess", "find", *options, "-o", str(work), "-np", "1")
    seconds = time.monotonic() - began
    result = json.loads((work / "postprocessing.json").read_text())
    ending = result["file_ending"]
    references = folder_of("preprocessed") / dataset / "gt_segmentations"
    own, kwargs = nnunets_own(model, references, ending, work)
    validation = model / "fold_0/validation"
    files = [(references / f.name, f) for f in sorted(validation.glob(f"*{ending}"))]
    labels = [entry["label"] for entry in result["labels"]]
    theirs = [measure(reference, own / file.name, labels) for reference, file in files]
    grid = Grid(**{key: tuple(values) for key, values in result["grid"].items()})
    candidates = grid.candidates()
    wrong = []
    for entry in result["labels"]:
        label = entry["label"]
        figures = [
            f"{entry[stage][ERROR]:.2f}, {entry[stage]['Dice']:.4f}"
            for stage in ("before", "nested", "after")
        ]
        of_nnunet = np.nanmean([case[label] for case in theirs], axis=0)
        print(
            f"| {dataset[11:]}, {entry['name']} | {len(files)} | {' | '.join(figures)} | "
            f"{of_nnunet[0]:.2f}, {of_nnunet[1]:.4f} | {entry['in_words']} |",
            flush=True,
        )
        began = time.monotonic()
        scores = exhaustive(files, label, candidates)
        slowly = time.monotonic() - began
        names = [file.name for _, file in files]
        parts = {"all": names} | {
            part: [n for n in names if n not in cases] for part, cases in result["groups"].items()
        }
        for part, cases in parts.items():
            rows = [names.index(name) for name in cases]
            best = search(scores[rows, :, 0], scores[rows, :, 1], candidates, 0.002)
            chosen = entry["steps"] if part == "all" else entry["nested_steps"][part]
            unused = part == "all" and not chosen  # nothing helps on other cases
            if candidates[best] != Steps(**chosen) and not unused:
                wrong.append(f"{dataset} {label} {part}: {chosen}, searched {candidates[best]}")
        print(
            f"<!-- training {trained:.0f} s, find {seconds:.0f} s, exhaustive search of this label "
            f"{slowly:.0f} s; nnU-Net: {kwargs or 'nothing'} -->",
            flush=True,
        )
    return wrong


def main() -> None:
    """Prints a table of all data sets."""
    work = Path(sys.argv[1])
    print("| data set, label | cases | as predicted | nested | chosen on all | nnU-Net's own | "
          "steps |")  # fmt: skip
    print("|---" * 7 + "|", flush=True)
    wrong = [line for d in sys.argv[2:] or DATASETS for line in show(d, work / d)]
    print("\nBetti matching error, Dice. nnU-Net's own steps were chosen on the same cases.")
    print(*wrong, sep="\n")
    print("the steps are those of the exhaustive search" if not wrong else "NOT the same steps")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
