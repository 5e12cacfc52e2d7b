"""A folder of references and one of predictions, as nnU-Net has them."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

from nnunet_topo.cli import main
from nnunet_topo.evaluation.evaluate import evaluate_folder

from ..conftest import tiny_case

LABELS = {"background": 0, "ring": 1, "blob": 2}

SPACING = (2.0, 0.7, 1.3)  # z, y, x

CASES = 4


class Study:
    """A folder of references and one of predictions, as nnU-Net has them."""

    def __init__(self, folder: Path, reader="SimpleITKIO", ending=".nii.gz", labels=LABELS, **more):
        self.gt, self.pred = folder / "gt", folder / "pred"
        for part in (self.gt, self.pred):
            part.mkdir(parents=True)
        self.ending, self.labels = ending, labels
        self.reader = recursive_find_reader_writer_by_name(reader)()
        self.djfile, self.pfile = folder / "dataset.json", folder / "plans.json"
        description = {"channel_names": {"0": "x"}, "labels": labels, "file_ending": ending}
        self.djfile.write_text(json.dumps(description | more))
        plans = {"dataset_name": "Dataset902_Study", "plans_name": "p", "configurations": {}}
        self.pfile.write_text(json.dumps(plans | {"image_reader_writer": reader}))
        self.summary = self.pred / "summary.json"

    def put(self, name, reference=None, prediction=None, spacing=SPACING):
        for folder, array in ((self.gt, reference), (self.pred, prediction)):
            if array is not None:
                image = sitk.GetImageFromArray(array)
                image.SetSpacing(spacing[::-1])
                sitk.WriteImage(image, folder / f"{name}{self.ending}")

    def evaluate(self, **options):
        return evaluate_folder(self.gt, self.pred, self.djfile, self.pfile, **options)

    def evaluate_as_nnunet(self, labels=(1, 2), ignore=None):
        compute_metrics_on_folder(
            str(self.gt),
            str(self.pred),
            str(self.summary),
            self.reader,
            self.ending,
            list(labels),
            ignore,  # pyright: ignore[reportArgumentType]
            1,
        )
        return json.loads(self.summary.read_text())

    def command(self, *more):
        files = ("-djfile", str(self.djfile), "-pfile", str(self.pfile), "-np", "1")
        return main(["evaluate", str(self.gt), str(self.pred), *files, *more])

    def read(self):
        return json.loads(self.summary.read_text())


def pair(case: int):
    """Returns a reference and a prediction with a broken ring, an island or no blob."""
    reference = tiny_case(case)[1]
    prediction = np.roll(reference, 1, axis=2)
    if case == 0:
        prediction[:, :12, 9:13] = 0
    if case == 1:
        prediction[0, 0, 0] = 1
    if case == 2:
        prediction[prediction == 2] = 0
    return reference, prediction


def assert_contains(larger, smaller):
    """Asserts that nothing of the smaller was changed or left out in the larger."""
    if isinstance(smaller, dict):
        for key, value in smaller.items():
            assert_contains(larger[key], value)
    elif isinstance(smaller, list):
        for one, other in zip(larger, smaller, strict=True):
            assert_contains(one, other)
    else:
        np.testing.assert_equal(larger, smaller)
