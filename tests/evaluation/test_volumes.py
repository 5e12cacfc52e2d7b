"""The files from which pictures are drawn, whatever their names look like."""

import unicodedata

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_topo.cli import main

from ..report.pages import Page
from .study import SPACING, Study, pair

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Jörg") for form in ("NFC", "NFD"))


class Report:
    """A case with one error, its image, and the page that is written of it."""

    def __init__(self, folder):
        self.study = Study(folder / "study")
        self.images = folder / "images"
        self.images.mkdir()

    def put(self, reference, prediction, image, image_shape=None):
        arrays = pair(1)
        grey = np.random.default_rng(0).integers(0, 900, image_shape or arrays[0].shape)
        for folder, name, array in (
            (self.study.gt, reference, arrays[0]),
            (self.study.pred, prediction, arrays[1]),
            (self.images, image, grey.astype(np.int16)),
        ):
            written = sitk.GetImageFromArray(array)
            written.SetSpacing(SPACING[::-1])
            sitk.WriteImage(written, folder / "written.nii.gz")
            (folder / "written.nii.gz").rename(folder / name)

    def write(self, *files):
        files = files or (self.study.gt, self.study.pred)
        options = "--report", "--images", self.images, "-o", self.study.summary, "-np", "1"
        return main(["evaluate", *map(str, files), *map(str, options)])

    def drawn(self):
        """Returns how many slices are drawn, and on how many there is an image."""
        page = (self.study.pred / "summary_errors" / "report.html").read_text()
        marks = [a for _, a in Page(page).elements if a.get("class") == "outline error"]
        return len(marks), page.count("data:image")


@pytest.fixture
def report(tmp_path):
    return Report(tmp_path)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        (f"{DECOMPOSED}.nii.gz", f"{DECOMPOSED}_0000.nii.gz"),
        (f"{DECOMPOSED}.nii.gz", f"{COMPOSED}_0000.nii.gz"),
        (f"{COMPOSED}.nii.gz", f"{DECOMPOSED}_0000.nii.gz"),
        ("case.nii.gz", "case_0000.NII.GZ"),
    ],
    ids=ascii,
)
def test_an_image_is_found_however_its_name_writes_letters(report, name, image):
    report.put(name, name, image)
    assert report.write() == 0
    slices, images = report.drawn()
    assert slices == images > 0


@pytest.mark.parametrize(
    ("image", "shape"), [("other_0000.nii.gz", None), ("case_0000.nii.gz", (3, 4, 5))]
)
def test_a_picture_without_its_image_is_told(report, image, shape, capsys):
    report.put("case.nii.gz", "case.nii.gz", image, shape)
    assert report.write() == 1
    told = f"case.nii.gz: drawn on black, {report.images} holds no image of this case"
    assert capsys.readouterr().err.count(told) == 1
    assert report.drawn()[1] == 0
