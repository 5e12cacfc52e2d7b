import base64
import io
import re
from math import nan

import numpy as np
from matplotlib.image import imread

from nnunet_topo.report.cases import Cases
from nnunet_topo.report.grid import Grid
from nnunet_topo.report.pictures import choose_changes, draw_case
from nnunet_topo.report.slices import outline

from .drawn_cases import cases
from .pages import Page


def test_cases_that_became_better_and_worse_are_shown_alike():
    values = {
        name: Cases(
            {
                f"case_{i}": {"1": {"topo_betti_matching_error": error}}
                for i, error in enumerate(errors)
            }
        )
        for name, errors in {"stock": [5, 5, 5, 5, 5, nan], "ours": [0, 4, 5, 6, 9, 0]}.items()
    }
    changes = choose_changes(values, ["1"], ["Dice", "topo_betti_matching_error"])
    assert [(change.case, change.gain) for change in changes] == [
        ("case_0", 5),
        ("case_1", 1),
        ("case_4", -4),
        ("case_3", -1),
    ]


def test_an_outline_is_all_edges_between_a_mask_and_what_is_outside():
    mask = np.random.default_rng(0).random((9, 13)) < 0.5
    padded = np.pad(mask, 1)
    edges = sum(np.count_nonzero(np.diff(padded.astype(int), axis=axis)) for axis in (0, 1))
    path = outline(mask)
    assert sum(int(length) for length in re.findall(r"[hv](\d+)", path)) == edges
    assert outline(np.ones((2, 3), bool)) == "M0 0h3M0 2h3M0 0v2M3 0v2"


def test_topological_errors_are_marked_where_they_are():
    reference = np.zeros((7, 20, 30), bool)
    reference[2:5, 4:16, 3:12] = True
    prediction = reference.copy()
    prediction[3, 8:10, 20:24] = True  # an island
    prediction[3, 6, 6] = False  # a cavity
    image = np.random.default_rng(0).normal(size=reference.shape)
    row = draw_case(image, reference, {"m": prediction}, Grid((2.0, 1.5, 1.0)), "full", "case")
    page = Page(row)
    marks = [a for name, a in page.elements if a.get("class", "").startswith("mark")]
    # Cropped 4 voxels above and none to the left; rows are 1.5 times as high as columns are wide.
    assert [(m["class"], float(m["cx"]), float(m["cy"])) for m in marks] == [
        ("mark part", 21.5, 12.75),
        ("mark hole", 6.5, 9.75),
    ]
    assert "m: 1 false component, 1 false cavity" in page.text
    assert (
        "Slice 4 of 7, along the file's third axis, counted from 1 as in ITK-SNAP (3 in"
        in page.text
    )
    assert "6.0 mm from the first slice" in page.text
    pictures = [a["href"] for name, a in page.elements if name == "image"]
    assert len(pictures) == 1  # once for both panels
    assert pictures[0].startswith("data:image/png;base64,iVBOR")
    assert [a["href"] for name, a in page.elements if name == "use"] == ["#slice-0"]


def test_every_copy_of_a_slice_is_drawn_without_smoothing():
    reference = np.zeros((1, 12, 14), bool)
    reference[0, 4:8, 4:8] = True
    image = np.random.default_rng(0).random(reference.shape)
    row = draw_case(image, reference, {"m": reference}, Grid((1, 1, 1)), "full", "case")
    # Rules of the style sheet that name an ancestor do not reach the copies of <use>.
    (picture,) = [a for name, a in Page(row).elements if name == "image"]
    assert picture["image-rendering"] == "pixelated"
    outlines = [a for _, a in Page(row).elements if a.get("class", "").startswith("outline")]
    assert {outline["fill"] for outline in outlines} == {"none"}


def test_a_large_slice_is_drawn_coarser_and_as_wide():
    reference = np.zeros((1, 30, 1701), bool)
    reference[0, 9:20, 8:-8] = True
    image = np.random.default_rng(0).random(reference.shape)
    row = draw_case(image, reference, {"m": reference}, Grid((999, 1, 1)), "full", "wide")
    (picture,) = [a for name, a in Page(row).elements if name == "image"]
    file = io.BytesIO(base64.b64decode(picture["href"].partition(",")[2]))
    assert imread(file).shape[:2] == (9, 567)
    assert (picture["width"], picture["height"]) == ("1701", "27")


def test_pictures_of_images_and_of_empty_masks_are_drawn():
    reference = np.zeros((1, 12, 14), bool)
    prediction = reference.copy()
    prediction[0, 5, 6] = True
    grid = Grid((999, 1, 1), "pixels")
    text = Page(draw_case(None, reference, {"m": prediction}, grid, "full", "flat")).text
    assert "m: 1 false component" in text
    assert "Slice" not in text
    empty = {"m": np.zeros_like(reference)}
    assert "no topological error" in Page(draw_case(None, reference, empty, grid, "full", "")).text


def test_every_model_has_pictures_however_many_there_are():
    error = "topo_betti_matching_error"
    rng = np.random.default_rng(2)
    names = ["stock", *(f"model_{number}" for number in range(8))]
    values = {name: cases(*rng.integers(0, 9, 60), metric=error) for name in names}
    assert {change.model for change in choose_changes(values, ["1"], [error])} == set(names[1:])
