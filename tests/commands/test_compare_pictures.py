import numpy as np
import pytest

from nnunet_topo.evaluation.label_choice import LabelChoice
from nnunet_topo.evaluation.results import name_folders
from nnunet_topo.evaluation.volumes import read_volumes

from ..evaluation.study import SPACING, pair
from ..report.pages import Page
from .compared import Folders


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_drawn_in_that_slice_on_whichever_axis(tmp_path, axis):
    folders = Folders(tmp_path, labels={"background": 0, "ring": 1})
    flat = np.zeros((14, 16), np.uint8)
    flat[3:9, 3:9] = 1
    island = flat.copy()
    island[11:13, 11:14] = 1
    reference, prediction = (np.expand_dims(image, axis) for image in (flat, island))
    folders.put_both("case", reference, prediction, reference)
    study = name_folders(
        folders.gt, [f"stock={folders.pred}"], folders.djfile, folders.pfile, images=None
    )
    volumes = _volumes(study, "case.nii.gz", "1")
    np.testing.assert_array_equal(volumes.reference[0], flat)
    np.testing.assert_array_equal(volumes.predictions["stock"][0], island)
    spacing = [length for k, length in enumerate(SPACING) if k != axis]
    assert volumes.spacing_mm == pytest.approx((SPACING[axis], *spacing))
    letters = [letter for k, letter in enumerate("SPL") if k != axis]
    assert volumes.geometry.letters == ("SPL"[axis], *letters)


def test_diagrams_are_drawn_of_probabilities_that_were_saved(folders):
    reference, prediction = pair(1)
    rng = np.random.default_rng(0)
    probability = np.stack([np.zeros(reference.shape), prediction == 1, prediction == 2])
    probability = np.clip(probability * 0.8 + rng.uniform(0, 0.04, probability.shape), 0, 1)
    np.savez(folders.pred / "case_1.npz", probabilities=probability.astype(np.float16))
    study = name_folders(
        folders.gt, [f"stock={folders.pred}"], folders.djfile, folders.pfile, images=None
    )
    volumes = _volumes(study, "case_1.nii.gz", "2")
    np.testing.assert_allclose(volumes.probabilities["stock"], probability[2], atol=1e-3)
    folders.compare()
    labels = [a.get("aria-label") or "" for _, a in Page(folders.page()).elements]
    (what,) = {label for label in labels if label.startswith("Persistence diagram")}
    # A ring and an island at 0.8 or more, one loop, and noise below 0.05 left out.
    assert what == (
        "Persistence diagram of stock in case_1.nii.gz: 2, 1, 0 bars of at least 0.05 in "
        "dimensions 0 to 2"
    )


def test_the_ignore_label_of_the_command_line_is_left_out_of_the_pictures(tmp_path):
    folders = Folders(tmp_path, labels={"background": 0, "ring": 1, "ignore": 2})
    reference = np.zeros((5, 7, 9), np.uint8)
    reference[1:3, 2:5, 2:6], reference[3], reference[4] = 1, 2, 3
    prediction = np.ones_like(reference)
    folders.put_both("case", reference, prediction, reference)
    given = folders.gt, [f"stock={folders.pred}"], folders.djfile, folders.pfile
    for choice, ignored in ((None, 2), (LabelChoice(ignore=3), 3)):
        study = name_folders(*given, choice=choice)
        drawn = _volumes(study, "case.nii.gz", "1").predictions["stock"]
        np.testing.assert_array_equal(drawn, reference != ignored)


def _volumes(study, case, label):
    return read_volumes(study, case, label, [(model, case) for model in study.models])
