from math import isnan, nan

import numpy as np
import pytest

from nnunet_topo.report import make_table
from nnunet_topo.report.cases import Cases
from nnunet_topo.report.outcomes import Presence, count_presence
from nnunet_topo.report.statistics import (
    holm,
)

from .drawn_cases import cases, drawn, found, line, named


@pytest.mark.parametrize(("metric", "verdict"), [("Dice", "better"), ("topo_hd95_mm", "worse")])
def test_the_direction_of_a_metric_decides_what_is_better(metric, verdict):
    first = cases(*np.linspace(0.1, 0.5, 12), metric=metric)
    other = cases(*np.linspace(0.2, 0.7, 12), metric=metric)
    _, row = make_table({"first": first, "other": other}, ["1"], [metric])
    assert row.difference.verdict == verdict
    assert row.difference.wins == (12 if verdict == "better" else 0)


def test_equal_models_show_no_difference():
    same = cases(*np.linspace(0, 1, 30))
    _, row = make_table({"first": same, "other": same}, ["1"], ["Dice"])
    found = row.difference
    assert (found.wins, found.ties, found.losses, found.p_holm) == (0, 30, 0, 1)
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert found.verdict == "no difference shown"


def test_one_case_is_described_and_not_tested():
    _, row = make_table({"first": cases(0.5), "other": cases(0.9)}, ["1"], ["Dice"])
    assert row.difference.mean == pytest.approx(0.4)
    assert row.difference.verdict == "not tested"
    assert isnan(row.difference.p_holm)
    assert isnan(row.difference.low)


def test_what_cannot_be_tested_is_left_out_of_the_correction():
    rng = np.random.default_rng(4)
    a, b = rng.random((2, 20))
    values = {
        name: Cases(
            {
                f"{i}": {"1": {"Dice": of_case}, "2": {"Dice": of_case if i == 0 else nan}}
                for i, of_case in enumerate(of_model)
            }
        )
        for name, of_model in {"first": a, "other": b}.items()
    }
    rows = make_table(values, ["1", "2"], ["Dice"])
    tests = [row.difference for row in rows if row.difference is not None]
    assert [test.p_holm for test in tests[:2]] == holm([test.p for test in tests[:2]])
    assert tests[2].verdict == "not tested"
    assert rows[5].spread.undefined == 19


def test_all_tests_of_the_table_are_corrected_together():
    rng = np.random.default_rng(5)
    first = rng.random((40, 2))
    models = {"first": first, "a": first + rng.normal(0.1, 0.2, (40, 2)), "b": first + 0.01}
    table = {
        name: Cases(
            {
                str(i): {"1": {"Dice": dice, "topo_hd95_mm": hd95}}
                for i, (dice, hd95) in enumerate(of_model)
            }
        )
        for name, of_model in models.items()
    }
    rows = make_table(table, ["1"], ["Dice", "topo_hd95_mm"])
    tests = [row.difference for row in rows if row.difference is not None]
    assert len(tests) == 4
    assert [test.p_holm for test in tests] == holm([test.p for test in tests])


def test_the_primary_outcome_is_tested_alone_and_the_rest_as_a_family_of_its_own():
    metrics = ["Dice", "topo_betti_matching_error"]
    values = drawn(np.random.default_rng(9), ("first", "a", "b"), 3, metrics, shift=0.25)
    rows = [r for r in make_table(values, list("123"), metrics, primary=metrics[1]) if r.difference]
    primary = [row for row in rows if row.family == "primary"]
    secondary = [row for row in rows if row.family == "secondary"]
    assert [(row.label, row.metric, row.model) for row in primary] == [
        ("mean", metrics[1], "a"),
        ("mean", metrics[1], "b"),
    ]
    assert len(secondary) == 2 * (1 + 3 * 2)  # the mean of the other metric, and all labels
    assert max(row.difference.p for row in primary) < 0.05
    for family in (primary, secondary):
        p_values = [row.difference.p for row in family]
        assert [row.difference.p_holm for row in family] == holm(p_values)


def test_the_primary_outcome_is_the_declared_one_whatever_the_numbers_are():
    values = {
        name: Cases(
            {
                f"{i}": {"1": {"Dice": 0.5 + 0.01 * i + gain, "topo_betti_matching_error": i % 3}}
                for i in range(20)
            }
        )
        for name, gain in (("first", 0.0), ("other", 0.3))
    }
    rows = make_table(values, ["1"], ["Dice"], primary="topo_betti_matching_error")
    assert line(rows, "Dice", "1").verdict == "better"
    assert [row.family for row in rows] == ["primary", "primary", "secondary", "secondary"]
    assert rows[1].metric == "topo_betti_matching_error"
    assert rows[1].difference.verdict == "no difference shown"


def test_a_single_label_is_its_own_mean_and_tested_once():
    values = drawn(np.random.default_rng(10), ("first", "other"), 1, ["Dice", "topo_cldice"])
    rows = make_table(values, ["1"], ["Dice", "topo_cldice"], primary="Dice")
    tests = [(row.label, row.metric, row.family) for row in rows if row.difference]
    assert tests == [("1", "Dice", "primary"), ("1", "topo_cldice", "secondary")]


def test_the_mean_over_labels_by_hand_pairs_the_labels_that_both_models_have():
    first = named((found(9, 2.0), found(9, 50.0)), (found(9, 4.0), found(9, 6.0)))
    other = named((found(9, 1.0), found(0)), (found(9, 3.0), found(9, 3.0)))
    rows = make_table({"first": first, "other": other}, ["1", "2"], ["topo_hd95_mm"])
    assert [row.spread.mean for row in rows[:2]] == [(26 + 5) / 2, (1 + 3) / 2]
    assert line(rows, "topo_hd95_mm").mean == pytest.approx(((1 - 2) + (3 - 5)) / 2)
    assert line(rows, "topo_hd95_mm").wins == 2


def test_a_primary_outcome_that_no_case_has_is_refused():
    with pytest.raises(ValueError, match="no case has topo_betti_error_2, so it cannot be the"):
        make_table({"first": cases(1.0)}, ["1"], ["Dice"], primary="topo_betti_error_2")


def test_missed_and_invented_structures_are_counted_by_hand():
    there, missed = found(3), found(0)
    invented, neither = {"n_ref": 0, "n_pred": 4}, {"n_ref": 0, "n_pred": 0}
    values = named((there, invented), (missed, neither), (missed, there))
    assert count_presence(values, ["1", "2"]) == Presence(4, 2, 2, 1)
    assert count_presence(values, ["2"]) == Presence(1, 0, 2, 1)


@pytest.mark.parametrize("metric", ["topo_hd95_mm", "topo_precision"])
def test_a_model_that_misses_more_is_not_called_better_where_that_is_not_counted(metric):
    higher = metric == "topo_precision"
    good, bad = (0.9, 0.5) if higher else (1.0, 5.0)
    finds_all = named(*[(found(9, **{metric: bad + 0.01 * i}),) for i in range(12)])
    exact = [found(0, **{metric: nan}) if i > 8 else found(9, **{metric: good}) for i in range(12)]
    misses = named(*[(values,) for values in exact])
    rows = make_table({"first": finds_all, "other": misses}, ["1"], [metric])
    difference = line(rows, metric, "1")
    assert difference.p_holm < 0.05
    assert (difference.pairs, difference.wins, difference.missed) == (9, 9, 3)
    assert difference.verdict == "not called better"
    # Nor is the other one called worse for having found more.
    rows = make_table({"first": misses, "other": finds_all}, ["1"], [metric])
    assert line(rows, metric, "1").verdict == "not called worse"


def test_one_more_missed_structure_among_many_labels_is_enough():
    first = named(*[tuple(found(9, 5.0 + i) for i in range(4)) for _ in range(12)])
    other = named(
        *[
            tuple(found(0) if i == case == 0 else found(9, 1.0) for i in range(4))
            for case in range(12)
        ]
    )
    rows = make_table({"first": first, "other": other}, list("1234"), ["topo_hd95_mm"])
    assert line(rows, "topo_hd95_mm").verdict == "not called better"
    assert line(rows, "topo_hd95_mm", "1").verdict == "not called better"
    assert line(rows, "topo_hd95_mm", "2").verdict == "better"


@pytest.mark.parametrize(("penalty", "wins"), [(1, 14), (90, 13)])
def test_a_distance_is_no_better_with_a_penalty_for_what_is_missed(penalty, wins):
    first = named(*[(found(9, 30.0 + i),) for i in range(14)])
    other = named(*[(found(9 if i else 0, 20.0 if i else None),) for i in range(14)])
    rows = make_table({"first": first, "other": other}, ["1"], ["topo_hd95_mm"], missing=penalty)
    difference = line(rows, "topo_hd95_mm", "1")
    assert (difference.pairs, difference.wins, difference.missed) == (14, wins, 1)
    assert difference.p_holm < 0.05
    assert difference.improves == 1
    assert difference.verdict == "not called better"


def test_the_penalty_gives_a_mean_over_all_cases_in_which_the_reference_has_the_structure():
    absent = {"n_ref": 0, "n_pred": 0, "topo_hd95_mm": nan}
    values = named((found(9, 2.0),), (found(0),), (found(9, 4.0),), (absent,))
    (row,) = make_table({"first": values}, ["1"], ["topo_hd95_mm"], missing=90)
    assert (row.spread.cases, row.spread.undefined) == (3, 1)
    assert row.spread.mean == pytest.approx((2 + 90 + 4) / 3)
    assert (row.presence.there, row.presence.missed) == (3, 1)


def test_errors_that_a_missed_structure_ends_are_no_gain():
    # In pieces, or not at all: the second has the smaller Betti matching error.
    error = "topo_betti_matching_error"
    pieces = named(*[(found(9, **{error: 4.0 + i % 2}),) for i in range(12)])
    nothing = named(*[(found(0, **{error: 1.0}),) for _ in range(12)])
    rows = make_table({"first": pieces, "other": nothing}, ["1"], [error], primary=error)
    assert line(rows, error, "1").verdict == "not called better"


def test_a_structure_missed_at_the_cost_of_an_island_is_not_paid_for():
    error = "topo_betti_matching_error"
    first = named(*[(found(9, **{error: 1.0}),) for _ in range(14)])
    other = named(*[(found(9 if i else 0, **{error: 0.0 if i else 1.0}),) for i in range(14)])
    rows = make_table({"first": first, "other": other}, ["1"], [error], primary=error)
    assert line(rows, error, "1").missed == 1
    assert line(rows, error, "1").verdict == "not called better"


def test_a_structure_missed_where_the_first_finds_nothing_of_it_is_paid_for():
    first = named(*[(found(9, Dice=0.5 if i else 0.0),) for i in range(14)])
    other = named(*[(found(9 if i else 0, Dice=0.9 if i else 0.0),) for i in range(14)])
    rows = make_table({"first": first, "other": other}, ["1"], ["Dice"])
    assert line(rows, "Dice", "1").missed == 0
    assert line(rows, "Dice", "1").verdict == "better"


def test_a_structure_missed_at_a_cost_keeps_no_model_from_being_better():
    error = "topo_betti_matching_error"
    first = named(*[(found(9, **{error: 4.0 if i else 0.0}),) for i in range(14)])
    other = named(*[(found(9 if i else 0, **{error: 1.0}),) for i in range(14)])
    rows = make_table({"first": first, "other": other}, ["1"], [error], primary=error)
    assert line(rows, error, "1").missed == 0
    assert line(rows, error, "1").verdict == "better"


def test_a_model_that_invents_structures_is_not_called_better_where_that_is_not_counted():
    absent = {"n_ref": 0, "topo_hd95_mm": nan}
    first = named(*[(found(9, 5.0 + i),) for i in range(12)], ({**absent, "n_pred": 0},))
    other = named(*[(found(9, 1.0),) for _ in range(12)], ({**absent, "n_pred": 7},))
    rows = make_table({"first": first, "other": other}, ["1"], ["topo_hd95_mm"])
    assert line(rows, "topo_hd95_mm", "1").verdict == "not called better"


@pytest.mark.parametrize("missed", [0, 1])
def test_structures_that_are_not_invented_do_not_make_up_for_missed_ones(missed):
    absent = {"n_ref": 0, "topo_hd95_mm": nan}
    neither, invented = {**absent, "n_pred": 0}, {**absent, "n_pred": 7}
    first = named(*[(found(9, 5.0 + i),) for i in range(12)], (invented,))
    cases = [found(0) if i < missed else found(9, 1.0) for i in range(12)]
    other = named(*[(of,) for of in cases], (neither,))
    rows = make_table({"first": first, "other": other}, ["1"], ["topo_hd95_mm"])
    difference = line(rows, "topo_hd95_mm", "1")
    assert (difference.missed, difference.invented) == (missed, -1)
    assert difference.verdict == ("not called better" if missed else "better")


def test_a_model_that_invents_less_is_not_called_worse():
    absent = {"n_ref": 0, "topo_hd95_mm": nan}
    neither, invented = {**absent, "n_pred": 0}, {**absent, "n_pred": 7}
    first = named(*[(found(9, 1.0),) for _ in range(12)], (invented,))
    other = named(*[(found(9, 5.0 + i),) for i in range(12)], (neither,))
    rows = make_table({"first": first, "other": other}, ["1"], ["topo_hd95_mm"])
    assert line(rows, "topo_hd95_mm", "1").verdict == "not called worse"


def test_structures_missed_are_an_outcome_of_their_own():
    first = named(*[(found(9), found(0)) for _ in range(10)])
    other = named(*[(found(9), found(9)) for _ in range(10)])
    values = {"first": first, "other": other}
    rows = make_table(values, ["1", "2"], ["topo_missed", "topo_invented"], primary="topo_missed")
    assert {(row.label, row.metric) for row in rows} == {("mean", "topo_missed")}
    assert (rows[0].spread.mean, rows[1].spread.mean) == (0.5, 0)
    assert rows[1].difference.verdict == "better"


def test_a_metric_without_a_better_direction_is_refused():
    with pytest.raises(ValueError, match=r"topo_ver.*choose from Dice"):
        make_table({"first": cases(1.0)}, ["1"], ["topo_ver"])


def test_a_metric_that_no_case_has_takes_no_line():
    rows = make_table({"first": cases(1.0)}, ["1"], ["Dice", "topo_betti_error_2"])
    assert [row.metric for row in rows] == ["Dice"]


def test_models_with_different_cases_are_refused():
    with pytest.raises(ValueError, match="other and first must have the same cases"):
        make_table({"first": cases(1.0), "other": cases(1.0, 2.0)}, ["1"], ["Dice"])
