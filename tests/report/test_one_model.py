import csv
import io
from collections import Counter
from math import nan

import numpy as np
import pytest

from nnunet_topo.commands.evaluation_report import MOST_ERRORS, _to_show
from nnunet_topo.report.cases import Cases
from nnunet_topo.report.error_pictures import draw_errors
from nnunet_topo.report.grid import Grid
from nnunet_topo.report.one_model import OneModel, render_one_model, results_csv
from nnunet_topo.topology import unmatched

from .pages import Page

HOSTILE = '<script>alert("x")</script>'


def results(**more):
    """Returns two cases of two labels, three errors in one of them."""
    values = {
        name: {key: {"Dice": dice, "topo_hd95_mm": nan} for key in ("1", "2")}
        for name, dice in (("a.png", 0.25), (HOSTILE, 1.0))
    }
    found = {
        "title": HOSTILE,
        "values": Cases(values),
        "means": {"1": {"Dice": 0.625}, "2": {"Dice": 0.5}},
        "labels": {"1": "ring", "2": "=HYPERLINK(1)"},
        "errors": {"a.png": {"2": Counter({"gap": 2, "false hole": 1})}},
        "places": {("a.png", "2"): "gap, voxel 1, 2, 3"},
        "pictures": (),
        "connectivity": "face",
        "unit": "pixels",
        "problems": [f"{HOSTILE}: not evaluated"],
        "made": {"Command": "nnunet-topo evaluate"},
    }
    return OneModel(**{**found, **more})


def test_the_page_names_the_worst_and_runs_no_names():
    page = Page(render_one_model(results()))
    page.assert_harmless()
    assert "2 cases, face connectivity. 0 of 1 have the topology of their reference" in page.text
    assert "2 gaps, 1 false hole" in page.text
    assert "gap, voxel 1, 2, 3" in page.text
    heads = page.text[page.text.index("LabelDice") :]
    assert heads.startswith("LabelDicegapfalse hole")  # no kinds that do not occur
    right = Page(render_one_model(results(errors={"a.png": {}}, problems=[]))).text
    assert "1 of 1 have the topology" in right
    assert "There is no topological error." in right


def test_the_table_leaves_empty_what_is_undefined_or_was_not_mapped():
    table = list(csv.DictReader(io.StringIO(results_csv(results()))))
    assert [(row["case"], row["label"], row["gap"], row["false_hole"]) for row in table] == [
        ("a.png", "1", "0", "0"),
        ("a.png", "2", "2", "1"),
        (HOSTILE, "1", "", ""),
        (HOSTILE, "2", "", ""),
    ]
    assert {row["topo_hd95_mm"] for row in table} == {""}
    assert table[1]["label_name"] == "'=HYPERLINK(1)"  # no formula of a spreadsheet
    assert float(table[0]["Dice"]) == 0.25


def test_an_error_is_drawn_in_its_slice_with_its_voxels_and_its_surroundings():
    reference = np.zeros((6, 100, 120), bool)
    reference[3, 50:54, 20:100] = True
    prediction = reference.copy()
    prediction[3, :, 60:63] = False
    (gap,) = unmatched(prediction, reference)
    row = draw_errors(
        None, reference, prediction, [(gap, "here")], Grid((2.0, 1.0, 1.0)), "case, vessel"
    )
    page = Page(row)
    (drawn,) = [a for _, a in page.elements if a.get("class") == "outline error"]
    # The gap's 4 rows and 3 columns, 20 voxels from the sides of a box of 41.
    assert drawn["d"] == "M19 19h3M19 23h3M19 19v4M22 19v4"
    (mark,) = [a for _, a in page.elements if a.get("class") == "mark part"]
    assert float(mark["x"]) + float(mark["width"]) / 2 == pytest.approx(20.5, abs=1e-4)
    assert "gap, here. Slice 4 of 6" in page.text
    assert "case, vessel: gap; 1 topological errors marked" in [
        a.get("aria-label") for _, a in page.elements
    ]


def test_different_kinds_are_drawn_before_more_of_one():
    assert MOST_ERRORS == 4
    assert _to_show(["gap"] * 6) == [0, 1, 2, 3]
    assert _to_show(["gap", "gap", "gap", "gap", "false hole"]) == [0, 1, 2, 4]
    assert _to_show(["gap"]) == [0]
