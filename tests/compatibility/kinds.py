"""Data sets with each kind of labels, and trainers for them."""

import json
import shutil
from pathlib import Path

import SimpleITK as sitk
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from ..conftest import tiny_case

CPU = torch.device("cpu")
# Kind of labels -> data set, and labels as dataset.json has them. Regions overlap.
KINDS = {
    "labels": ("Dataset911_Labels", {"ring": 1, "blob": 2}),
    "regions": ("Dataset912_Regions", {"both": [1, 2], "blob": [2]}),
    "ignore": ("Dataset913_Ignore", {"ring": 1, "blob": 2, "ignore": 3}),
    "regions + ignore": (
        "Dataset914_RegionsIgnore",
        {"both": [1, 2], "blob": [2], "ignore": 3},
    ),
}
CASES = 5  # as many as folds
LABELS, REGIONS_IGNORE = KINDS["labels"][0], KINDS["regions + ignore"][0]
CONFIGURATIONS = ["3d_fullres", "2d"]


def preprocess(kind: str, folder: Path, images: Path, like: Path) -> None:
    """Makes a data set and preprocesses it by nnU-Net, with the plans of another one."""
    name, labels_of_kind = KINDS[kind]
    description = json.loads((like / "dataset.json").read_text())
    description["labels"] = {"background": 0} | labels_of_kind
    if "regions" in kind:
        description["regions_class_order"] = [1, 2]
    plans = json.loads((like / "nnUNetPlansTiny.json").read_text()) | {"dataset_name": name}
    references = folder / "gt_segmentations"
    references.mkdir(parents=True)
    images.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "nnUNetPlansTiny.json").write_text(json.dumps(plans))
    shutil.copy(like / "dataset_fingerprint.json", folder)
    for case in range(CASES):
        image, labels = tiny_case(case)
        if "ignore" in kind:
            labels[:, :8] = 3  # the ring is known in part
        files = images / f"tiny_{case}_0000.nii.gz", references / f"tiny_{case}.nii.gz"
        for file, array in zip(files, (image, labels), strict=True):
            sitk.WriteImage(sitk.GetImageFromArray(array), file)
        manager = PlansManager(plans)
        for configuration in ("2d", "3d_fullres"):
            planned = manager.get_configuration(configuration)
            output = folder / planned.data_identifier
            output.mkdir(exist_ok=True)
            DefaultPreprocessor(verbose=False).run_case_save(
                str(output / f"tiny_{case}"), [str(files[0])], str(files[1]),
                manager, planned, description,
            )  # fmt: skip


def make(name, dataset, configuration="3d_fullres", *, fold=0, plans="nnUNetPlansTiny"):
    """Returns a trainer that nnU-Net has looked up."""
    return get_trainer_from_args(dataset, configuration, fold, name, plans, False, device=CPU)


def term_logged(trainer):
    return trainer.logger.get_checkpoint().get("topology_term", [])
