"""The tables of the comparison of all methods, by hand."""

import importlib
import json
from types import ModuleType

import numpy as np
import pytest


def part(name: str) -> ModuleType:
    """Returns a module of the experiment."""
    return importlib.import_module(f"experiments.comparison.{name}")


def record(arm: str, seed: int, errors, processed, dice=0.5, data_set="TopoMortar") -> dict:
    """Returns the record of a run with these matching errors."""
    return {
        "data_set": data_set,
        "arm": arm,
        "seed": seed,
        "metrics": ["Dice", "topo_betti_matching_error", "topo_cldice"],
        "cases": {
            f"case_{number}": {
                "predicted": {"1": [dice, before, None]},
                "processed": {"1": [dice, after, 0.5]},
            }
            for number, (before, after) in enumerate(zip(errors, processed, strict=True))
        },
        "seconds": [60, 12],
    }


def write(folder, *records) -> None:
    for number, of_run in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(of_run))


def test_seeds_are_averaged_case_by_case(tmp_path):
    tables = part("tables")
    records = [
        record("Stock", 1, [4, 8], [2, 4]),
        record("Stock", 2, [6, 8], [4, 6]),
    ]
    of_stock = tables.outcome(records, "TopoMortar")
    assert of_stock.seeds == (1, 2)
    key = "processed", "topo_betti_matching_error"
    np.testing.assert_array_equal(of_stock.values[key], [3, 5])


def test_an_undefined_metric_of_one_seed_takes_nothing_from_the_others(tmp_path):
    of_stock = part("tables").outcome([record("Stock", 1, [4, 8], [2, 4])], "TopoMortar")
    assert np.isnan(of_stock.values["predicted", "topo_cldice"]).all()
    assert of_stock.values["processed", "topo_cldice"].tolist() == [0.5, 0.5]


def plan(monkeypatch, arms, data_set="TopoMortar") -> None:
    """Lets the stages consist of one run of each arm."""
    runs = [part("arms").Run(data_set, arm, 1) for arm in arms]
    monkeypatch.setattr(part("tables"), "STAGES", {"stage": runs})


def test_tables_tell_differences_and_failed_runs(tmp_path, monkeypatch):
    plan(monkeypatch, [name for name, arm in part("arms")._METHODS.items() if not arm.needs_prior])
    stock, ours = [10, 12, 14, 16, 18, 20], [9, 10, 11, 12, 13, 14]
    failed = {"data_set": "TopoMortar", "arm": "SCNP", "seed": 1, "failed": "no space"}
    write(tmp_path, record("Stock", 1, stock, stock), record("Topology", 1, stock, ours), failed)
    text = part("tables").tables(tmp_path)
    assert text.startswith("3 runs, 1 failed, 0.0 hours of one core")
    assert "failed: TopoMortar, SCNP, seed 1: no space" in text
    # 1 to 6 fewer errors in six images; exact signed-rank test: 2 / 2^6.
    cells = row_of("Topology", text)
    assert cells[1:3] == ["1", "6"]
    assert cells[3].startswith("-3.5 (")
    # Corrected for all 23 arms of the data set, of which the other 22 are not finished.
    assert cells[4:7] == ["6, 0", "0.031", f"{23 * 2 / 2**6:.2g}"]
    assert "1 of 23 arms are tested" in text
    assert "that takes 10 subjects, and here are 6" in text
    assert "- not tested, no finished run: Wasserstein, ratio 0.3; " in text


def test_what_a_prior_repairs_has_its_own_table(tmp_path):
    runs = [record(arm, 1, [4, 8], [2, 4], data_set="Hippocampus") for arm in ("Stock", "TAFL")]
    for run in runs:
        for number, of_case in enumerate(run["cases"].values()):
            of_case["corrected"] = {"1": [0.7, number, 0.5]}
    for of_case in runs[0]["cases"].values():
        of_case["refined"] = {"1": [0.8, 1, 0.5]}
    write(tmp_path, *runs)
    text = part("tables").tables(tmp_path)
    (heads,) = [line for line in text.splitlines() if "`refine`" in line]
    column = heads.split("|").index(" Betti matching error, `correct` ")
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == heads.count("|")]
    assert [row[column].strip() for row in rows[2:]] == ["0.5", "0.5"]
    assert [row[column + 1].strip() for row in rows[2:]] == ["1", ""]


def row_of(arm, text):
    """Returns the cells of an arm in the table of tests."""
    (row,) = [line for line in table_of_tests(text) if line.startswith(f"| {arm} |")]
    return row.strip("| ").split(" | ")


def table_of_tests(text):
    lines = text.splitlines()
    return lines[next(i for i, line in enumerate(lines) if "arm against" in line) :]


def test_an_arm_is_compared_over_the_seeds_that_the_control_has(tmp_path):
    errors, fewer = [3, 4, 5], [2, 3, 4]
    write(
        tmp_path,
        record("Stock", 1, errors, errors),
        record("Stock", 2, [9, 9, 9], [9, 9, 9]),
        record("Topology", 1, errors, fewer),
        record("Topology", 3, [0, 0, 0], [0, 0, 0]),
        record("SCNP", 3, errors, fewer),
    )
    text = part("tables").tables(tmp_path)
    assert row_of("Topology", text)[1:4] == ["1", "3", "-1 (-1 to -1)"]
    assert not any(line.startswith("| SCNP |") for line in table_of_tests(text))
    assert "- not tested, no seed that Stock has: SCNP" in text


def slices(arm, seed, errors) -> dict:
    """Returns the record of a run on two slices of each patient, each with two labels.

    Args:
        arm: its name.
        seed: of the run.
        errors: of patient, slice and label; None is undefined. Dice is a hundredth of it below 1.
    """
    names = [f"SC-HF-I-{patient}-IM-{i:04d}" for patient in range(len(errors)) for i in range(2)]
    of_cases = [of_slice for of_patient in errors for of_slice in of_patient]
    cases = {
        name: {
            kind: {
                str(label): [None if error is None else 1 - error / 100, error, 0.5]
                for label, error in enumerate(of_labels, 1)
            }
            for kind in ("predicted", "processed")
        }
        for name, of_labels in zip(names, of_cases, strict=True)
    }
    metrics = ["Dice", "topo_betti_matching_error", "topo_cldice"]
    about = {"data_set": "Sunnybrook", "arm": arm, "seed": seed, "metrics": metrics}
    return about | {"cases": cases, "seconds": [60]}


def test_labels_slices_and_seeds_are_averaged_before_patients_are_paired(tmp_path):
    stock = [[[p, p + 2], [p + 4, p + 6]] for p in range(10, 17)]  # of patients p + 3
    # 1 to 7 fewer in the mean of a patient, and no label or slice alone has that difference.
    first = [
        [[a - d + 4, b - d - 2], [c - d - 3, e - d + 1]]
        for d, ((a, b), (c, e)) in enumerate(stock, 1)
    ]
    # The same from the second slices, and nothing of the first patient.
    second = [[[None, None], [a - d + 2, b - d + 2]] for d, ((a, b), _) in enumerate(stock, 1)]
    second[0][1] = [None, None]
    worse = [[[a + 1, b + 1], [c + 1, e + 1]] for (a, b), (c, e) in stock]
    write(
        tmp_path,
        *(slices("Stock", seed, stock) for seed in (1, 2)),
        slices("Topology", 1, first),
        slices("Topology", 2, second),
        *(slices("SCNP", seed, worse) for seed in (1, 2)),
    )
    text = part("tables").tables(tmp_path)
    topology, scnp = row_of("Topology", text), row_of("SCNP", text)
    assert topology[1:3] == ["1, 2", "7"]
    assert topology[3].startswith("-4 (")
    # Exact signed-rank tests, the smaller times two.
    assert topology[4:7] == ["7, 0", "0.016", "0.031"]
    assert scnp[3:7] == ["+1 (1 to 1)", "0, 7", "0.016", "0.031"]
    assert topology[7] == "+0.0400 (0.016)"
    assert scnp[7].startswith("-0.0100 (")
    assert "| Stock | 2 | 0.840 | 0.500 | 16 |" in text
    assert "2 of 2 arms are tested" in text
    assert "however large" not in text  # seven subjects can show two differences


def test_both_eyes_of_a_child_count_once(tmp_path, monkeypatch):
    plan(monkeypatch, ["Stock", "Topology"], "ChaseDB1")
    errors = {"Image_07L": 4, "Image_07R": 8, "Image_08L": 3, "Image_08R": 5}
    runs = []
    for arm, fewer in (("Stock", 0), ("Topology", 2)):
        run = record(arm, 1, errors.values(), [error - fewer for error in errors.values()])
        run["cases"] = dict(zip(errors, run["cases"].values(), strict=True))
        runs.append(run | {"data_set": "ChaseDB1"})
    write(tmp_path, *runs)
    text = part("tables").tables(tmp_path)
    assert row_of("Topology", text)[2] == "2"
    assert "that takes 6 subjects, and here are 2" in text


def test_runs_on_different_cases_are_not_paired(tmp_path):
    write(tmp_path, record("Stock", 1, [1, 2], [1, 2]), record("SCNP", 1, [1, 2, 3], [1, 2, 3]))
    with pytest.raises(ValueError, match="SCNP, seed 1, was tested on other cases than Stock"):
        part("tables").tables(tmp_path)


def test_runs_of_different_code_are_named(tmp_path):
    stock, ours = record("Stock", 1, [1, 2], [1, 2]), record("SCNP", 1, [1, 2], [1, 2])
    write(tmp_path, stock, ours)
    assert "Code of all runs: unknown." in part("tables").tables(tmp_path)
    write(tmp_path, stock, ours | {"code": ["12345678", "9abcdef0"]})
    text = part("tables").tables(tmp_path)
    assert "- 12345678 and 9abcdef0: SCNP (seed 1)\n- unknown: Stock (seed 1)" in text
