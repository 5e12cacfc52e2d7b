"""The files from which pictures are drawn, whatever their names look like."""

import unicodedata

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_topo.cli import main
from nnunet_topo.evaluation.results import name_folders
from nnunet_topo.evaluation.volumes import read_volumes
from nnunet_topo.messages import one_line, reason

from ..commands.compared import Folders
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


@pytest.mark.parametrize(
    ("reference", "prediction"),
    [
        ("case.nii.gz", "case.NII.GZ"),
        ("case.NII.GZ", "case.nii.gz"),
        (f"{DECOMPOSED}.nii.gz", f"{COMPOSED}.nii.gz"),
        (f"{COMPOSED}.nii.gz", f"{DECOMPOSED}.nii.gz"),
    ],
    ids=ascii,
)
def test_a_prediction_is_drawn_whose_name_is_written_in_another_way(report, reference, prediction):
    report.put(reference, prediction, "_0000.".join(reference.split(".", 1)))
    assert report.write() == 0
    slices, images = report.drawn()
    assert slices == images > 0


def test_two_files_with_different_names_are_drawn(report):
    report.put("truth.nii.gz", "guess.nii.gz", "truth_0000.nii.gz")
    reference, prediction = report.study.gt / "truth.nii.gz", report.study.pred / "guess.nii.gz"
    assert report.write(reference, prediction) == 0
    slices, images = report.drawn()
    assert slices == images > 0
    # A file of the reference's name beside the prediction is not the prediction.
    beside = prediction.with_name(reference.name)
    beside.write_bytes(reference.read_bytes())
    assert report.write(reference, prediction) == 0
    assert report.drawn() == (slices, images)


def test_an_unpacked_copy_beside_a_file_is_not_drawn_in_its_place(report):
    report.put("case.nii.gz", "case.nii.gz", "case_0000.nii.gz")
    gt, pred, images = report.study.gt, report.study.pred, report.images
    of_folders = name_folders(
        gt, [f"net={pred}"], report.study.djfile, report.study.pfile, images=images
    )
    asked = of_folders, "case.nii.gz", "1", [(of_folders.models[0], "case.nii.gz")]
    before = read_volumes(*asked)
    for file in (gt / "case", pred / "case", images / "case_0000"):
        sitk.WriteImage(sitk.ReadImage(f"{file}.nii.gz") * 0, f"{file}.nii")
    after = read_volumes(*asked)
    np.testing.assert_array_equal(after.image, before.image)
    np.testing.assert_array_equal(after.reference, before.reference)
    np.testing.assert_array_equal(after.predictions["net"], before.predictions["net"])


@pytest.mark.parametrize("form", [COMPOSED, DECOMPOSED], ids=ascii)
def test_files_are_read_as_the_plans_say_however_their_names_are_written(tmp_path, form):
    study = Study(tmp_path / "study", "NibabelIOWithReorient")
    for folder, array, name in zip((study.gt, study.pred), pair(0), (COMPOSED, form), strict=True):
        image = sitk.GetImageFromArray(np.moveaxis(array, 0, 2))
        image.SetDirection((0, 1, 0, 0, 0, 1, 1, 0, 0))
        sitk.WriteImage(image, folder / f"{name}.nii.gz")
    given = study.gt, [f"net={study.pred}"], study.djfile, study.pfile
    of_folders = name_folders(*given)
    named = [(model, f"{form}.nii.gz") for model in of_folders.models]
    volumes = read_volumes(of_folders, f"{COMPOSED}.nii.gz", "1", named)
    expected = [
        study.reader.read_seg(str(next(of.iterdir())))[0][0] for of in (study.gt, study.pred)
    ]
    np.testing.assert_array_equal(volumes.reference, expected[0] == 1)
    np.testing.assert_array_equal(volumes.predictions["net"], expected[1] == 1)


def test_a_prediction_that_is_missing_is_named(study):
    of_folders = name_folders(study.gt, [f"net={study.pred}"], study.djfile, study.pfile)
    with pytest.raises(ValueError, match=r"there is no prediction case_9\.nii\.gz in .*pred"):
        read_volumes(of_folders, "case_0.nii.gz", "1", [(of_folders.models[0], "case_9.nii.gz")])


def test_compare_draws_predictions_whose_names_are_written_in_another_way(tmp_path):
    folders = Folders(tmp_path)
    reference, prediction = pair(1)
    folders.put_both(DECOMPOSED, reference, prediction, reference)
    file = folders.pred / f"{DECOMPOSED}.nii.gz"
    file.rename(file.with_name(f"{COMPOSED}.nii.gz"))
    assert folders.compare() == 0
    assert "outline" in folders.page()


def unusual(kind, array):
    """Returns the ending and the image of an array that one of nnU-Net's readers refuses."""
    if kind == "fourth axis of MetaImage":
        return ".mha", sitk.JoinSeries([sitk.GetImageFromArray(array)])
    matrix = np.diag([-1.0, -2.0, 3.0, 1.0])
    if kind == "sheared":
        matrix[0, 1] = 0.4
    image = array[8].T if kind == "image" else array.T[..., None]
    ending = ".nii.gz" if kind == "sheared" else ".nii"
    return ending, nibabel.Nifti1Image(array.T if kind == "sheared" else image, matrix)


@pytest.mark.parametrize("kind", ["image", "fourth axis", "sheared", "fourth axis of MetaImage"])
def test_what_a_second_reader_reads_has_its_map_and_picture(kind, tmp_path, capsys):
    report = Report(tmp_path)
    arrays = pair(0)
    for folder, array in zip((report.study.gt, report.study.pred), arrays, strict=True):
        ending, image = unusual(kind, array)
        if isinstance(image, sitk.Image):
            sitk.WriteImage(image, folder / f"case{ending}")
        else:
            nibabel.save(image, folder / f"case{ending}")
        if kind == "sheared":  # beside one that is not
            nibabel.save(nibabel.Nifti1Image(array.T, np.eye(4)), folder / f"a_case{ending}")
    files = str(report.study.gt), str(report.study.pred)
    assert main(["evaluate", *files, "--report", "-np", "1"]) == 0, capsys.readouterr().err
    assert (report.study.pred / "summary_errors" / f"case{ending}").is_file()
    assert report.drawn()[0] >= 1 + (kind == "sheared")


def test_a_file_in_micrometres_is_drawn_in_mm(tmp_path):
    report = Report(tmp_path)
    for folder, array in zip((report.study.gt, report.study.pred), pair(0), strict=True):
        matrix = np.diag([700.0, 800.0, 2000.0, 1])
        matrix[2, 3] = 5000
        image = nibabel.Nifti1Image(array.T, matrix)
        image.header.set_xyzt_units("micron")
        nibabel.save(image, folder / "case.nii")
    study = name_folders(report.study.gt, [f"a={report.study.pred}"])
    volumes = read_volumes(study, "case.nii", "1", [(study.models[0], "case.nii")])
    assert volumes.spacing_mm == pytest.approx((2.0, 0.8, 0.7))
    assert volumes.geometry.first_mm == pytest.approx(5.0)


def test_an_error_without_a_text_is_named_by_its_type():
    assert reason(AssertionError()) == one_line(AssertionError()) == "AssertionError"
    assert reason(ValueError()) == "ValueError"
    assert reason(ValueError("a\n b")) == one_line(KeyError("a b"))[1:-1] == "a b"
    assert reason(RuntimeError("a")) == "RuntimeError: a"
