"""A finished cross-validation in nnU-Net's folders, with errors that simple steps repair."""

import json

import numpy as np
import SimpleITK as sitk

from nnunet_topo.cli import main

from ..evaluation.study import Study

DATASET = "Dataset904_Steps"
MODEL = "nnUNetTrainer__nnUNetPlans__3d_fullres"
LABELS = {"background": 0, "ring": 1, "blob": 2}
SPACING = (2.0, 0.5, 1.0)  # z, y, x: a voxel has 1 mm3


def reference(case: int) -> np.ndarray:
    """Returns a ring (1) and a blob (2), 9 x 24 x 26; in half of the cases a second part of 1."""
    z, y, x = np.indices((9, 24, 26))
    radius = np.hypot(y - 11 - case % 2, x - 9)
    labels = np.zeros((9, 24, 26), np.uint8)
    labels[(np.abs(z - 4) < 3) & (np.abs(radius - 6) < 1.7)] = 1
    labels[(np.abs(z - 4) < 3) & (np.abs(y - 12) < 5) & (np.abs(x - 21) < 4)] = 2
    if case % 4 in (1, 2):
        labels[8, 12:16, 12:18] = 1
    return labels


def prediction(case: int) -> np.ndarray:
    """Returns the same with islands of label 1 of 2 and 9 voxels, and a cavity in label 2."""
    labels = reference(case)
    labels[0, 0, : 2 + case % 2] = 1
    labels[8, 20:23, 0:3] = 1
    labels[4, 12, 20 : 22 + case % 2] = 0
    return labels


class Validation:
    """nnU-Net's folders with the validation of two folds of three cases each."""

    def __init__(self, folder, monkeypatch, *, labels=LABELS, **files):
        self.folder = folder
        for name in ("raw", "preprocessed", "results"):
            (folder / name / DATASET).mkdir(parents=True)
            monkeypatch.setenv(f"nnUNet_{name}", str(folder / name))
        self.study = Study(folder / "study", labels=labels, **files, **regions_of(labels))
        self.study.gt = folder / "preprocessed" / DATASET / "gt_segmentations"
        self.study.gt.mkdir()
        self.out, self.applied = folder / "found", folder / "applied"
        self.model = folder / "results" / DATASET / MODEL
        for fold in (0, 1):
            (self.model / f"fold_{fold}" / "validation").mkdir(parents=True)
            (self.model / f"fold_{fold}" / "validation" / "summary.json").write_text("{}")
        for file in (self.study.djfile, self.study.pfile):
            content = json.loads(file.read_text())
            if "dataset_name" in content:
                content["dataset_name"] = DATASET
            (self.model / file.name).write_text(json.dumps(content))

    def validation(self, case):
        return self.model / f"fold_{case % 2}" / "validation"

    def put(self, case, of_reference, of_prediction):
        self.study.pred = self.validation(case)
        self.study.put(f"case_{case}", of_reference, of_prediction, spacing=SPACING)

    def fill(self, cases=6):
        for case in range(cases):
            self.put(case, reference(case), prediction(case))
        return self

    def find(self, *more, folds="01"):
        asked = ["postprocess", "find", "-d", "904", "-c", "3d_fullres", "-tr", "nnUNetTrainer"]
        return main([*asked, "-f", *folds, "-o", str(self.out), "-np", "1", *more])

    def apply(self, predictions, *more):
        asked = ["postprocess", "apply", "-i", str(predictions), "-o", str(self.applied)]
        return main([*asked, str(self.out), "-np", "1", *more])

    def result(self):
        return json.loads((self.out / "postprocessing.json").read_text())


def regions_of(labels):
    """Returns the entry of dataset.json that regions need, in the order of their last labels."""
    regions = [label for label in labels.values() if isinstance(label, list)]
    return {"regions_class_order": [region[0] for region in regions]} if regions else {}


def read(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
