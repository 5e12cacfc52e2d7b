"""Segmentations of a tube in folders, and their evaluation."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_topo.cli import main
from nnunet_topo.metrics import compute

SPACING = (2.0, 0.5, 1.5)  # z, y, x


def tube():
    """Returns a tube of label 1 beside a block of label 2, all sides different."""
    array = np.zeros((12, 14, 16), np.uint8)
    array[2:10, 4:9, 5:9] = 1
    array[2:4, 10:13, 10:14] = 2
    return array


def broken():
    array = tube()
    array[5] = 0
    return array


def image_of(array, spacing=SPACING):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1][: array.ndim])
    return image


def nifti(array, affine=None):
    """Returns an image of nibabel's that SimpleITK reads as an array `[z, y, x]`."""
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1]) if affine is None else affine
    return nibabel.Nifti1Image(array.T, affine)


class Folders:
    def __init__(self, folder):
        self.folder = folder
        self.gt, self.pred = folder / "gt", folder / "pred"
        self.gt.mkdir()
        self.pred.mkdir()

    def put(self, reference=None, prediction=None, name="case", ending=".nii.gz"):
        """Writes arrays through SimpleITK, images of nibabel's as they are."""
        for folder, what in ((self.gt, reference), (self.pred, prediction)):
            if isinstance(what, np.ndarray):
                what = image_of(what)
            if isinstance(what, sitk.Image):
                sitk.WriteImage(what, folder / f"{name}{ending}")
            elif what is not None:
                nibabel.save(what, folder / f"{name}{ending}")

    def evaluate(self, *more, gt=None, pred=None):
        self.summary = (pred or self.pred) / "summary.json"
        return main(["evaluate", str(gt or self.gt), str(pred or self.pred), *more, "-np", "1"])

    def describe(self, labels, **more):
        """Returns options for a dataset.json with these labels."""
        file = self.folder / "dataset.json"
        content = {"channel_names": {"0": "x"}, "labels": labels, "file_ending": ".nii.gz"}
        file.write_text(json.dumps(content | more))
        return "-djfile", str(file)

    def plans(self, reader="SimpleITKIO"):
        """Returns options for plans with a reader."""
        file = self.folder / "plans.json"
        plans = {"dataset_name": "Dataset902_X", "plans_name": "p", "configurations": {}}
        file.write_text(json.dumps(plans | {"image_reader_writer": reader}))
        return "-pfile", str(file)

    def read(self):
        return json.loads(self.summary.read_text())

    def metrics(self, label="1", case=0):
        return self.read()["metric_per_case"][case]["metrics"][label]


def assert_equal(found, expected):
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-5, nan_ok=True), key


BROKEN = compute(broken() == 1, tube() == 1, spacing_mm=SPACING)
