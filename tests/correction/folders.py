"""Predictions of nnU-Net, priors and an output folder for the command."""

import json

import nibabel
import numpy as np
import SimpleITK as sitk
from skimage import io

from nnunet_topo.cli import main

SPACING = (2.0, 0.5, 1.5)  # z, y, x
LABELS = {"background": 0, "organ": 1, "tumour": 2}


class Folders:
    """A folder of predictions, a topology.json, and a folder for the corrected ones."""

    def __init__(self, folder):
        self.folder, self.predictions, self.out = folder, folder / "in", folder / "out"
        self.predictions.mkdir()
        self.prior = folder / "topology.json"
        self.describe()
        self.topology(organ=[1, 0, 0])

    def describe(self, labels=None, ending=".nii.gz", **more):
        content = {"channel_names": {"0": "CT"}, "labels": labels or LABELS, "file_ending": ending}
        (self.predictions / "dataset.json").write_text(json.dumps(content | more))

    def topology(self, space="volumes", unions=None, **priors):
        content = {"priors": {"full": {space: priors}}, "unions": unions or {}}
        self.prior.write_text(json.dumps(content))

    def put(self, case, array, spacing=SPACING, **properties):
        """Writes a NIfTI file, `[z, y, x]`."""
        affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
        affine[:3, 3] = 7, -3, 11
        image = nibabel.Nifti1Image(array.T, affine)
        image.header.set_xyzt_units("mm")
        for name, value in properties.items():
            image.header[name] = value
        image.to_filename(self.predictions / f"{case}.nii.gz")

    def put_image(self, case, array):
        io.imsave(self.predictions / f"{case}.png", array, check_contrast=False)

    def probabilities(self, case, channels):
        np.savez_compressed(self.predictions / f"{case}.npz", probabilities=channels)

    def correct(self, *more):
        arguments = ["correct", "-i", self.predictions, "-o", self.out, "--prior", self.prior]
        return main([str(argument) for argument in (*arguments, *more)])

    def record(self):
        return json.loads((self.out / "correction.json").read_text())

    def case(self, case):
        return self.record()["cases"][case]

    def written(self, case):
        return sitk.GetArrayFromImage(sitk.ReadImage(self.out / f"{case}.nii.gz"))


def organ():
    """Returns a box of label 1 with a box of label 2 beside it; all sides differ."""
    array = np.zeros((10, 12, 14), np.uint8)
    array[2:7, 3:8, 3:9] = 1
    array[2:4, 9:11, 10:13] = 2
    return array


def with_island():
    """Returns the same with one more voxel of label 1."""
    array = organ()
    array[8, 10, 2] = 1
    return array
