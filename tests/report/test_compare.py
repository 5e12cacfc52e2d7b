from math import isnan, nan

import numpy as np
import pytest
from scipy import stats

from nnunet_topo.report import make_table
from nnunet_topo.report.outcomes import Presence, add_presence, count_presence
from nnunet_topo.report.statistics import (
    bootstrap_interval,
    compare,
    describe,
    fewest_cases,
    holm,
    rank_biserial,
    signed_rank_p,
)


def found(number, distance=None, **more):
    """Returns metrics of a structure of ten voxels, of which a model has so many."""
    distance = nan if distance is None else distance
    return {"n_ref": 10, "n_pred": number, "topo_hd95_mm": distance, **more}


def named(*of_labels):
    """Returns metrics of a model with presence: a tuple of labels for each case."""
    return add_presence(
        {
            f"case_{i:03d}": {str(n): values for n, values in enumerate(labels, start=1)}
            for i, labels in enumerate(of_labels)
        }
    )


def line(rows, metric, label="mean", model="other"):
    """Returns the difference of the only such line."""
    (row,) = [r for r in rows if (r.metric, r.label, r.model) == (metric, label, model)]
    return row.difference


def cases(*values, label="1", metric="Dice"):
    """Returns metrics of a model, a case for each value."""
    return {f"case_{i:03d}": {label: {metric: value}} for i, value in enumerate(values)}


# -- statistics --------------------------------------------------------------------------------


def test_holms_correction_of_an_example_by_hand():
    # Sorted .01 * 4, .02 * 3, .03 * 2, .5 * 1; never below the one before.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_holms_correction_agrees_with_statsmodels():
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = np.round(rng.random(rng.integers(1, 30)) ** 3, 2)  # with ties
        np.testing.assert_allclose(holm(p.tolist()), multipletests(p, method="holm")[1])


def test_the_signed_rank_test_is_scipys_without_the_zeros():
    rng = np.random.default_rng(1)
    for number in (5, 12, 30, 80):
        differences = rng.normal(0.3, 1, number)
        expected = stats.wilcoxon(differences, zero_method="wilcox").pvalue
        assert signed_rank_p(differences) == pytest.approx(expected, rel=1e-9)
        with_zeros = np.append(differences, np.zeros(7))
        assert signed_rank_p(with_zeros) == signed_rank_p(differences)


def test_with_ties_the_signed_rank_test_is_that_of_all_signs():
    rng = np.random.default_rng(12)
    for number in (2, 3, 5, 8):
        for _ in range(10):
            differences = rng.integers(1, 4, number) * rng.choice([-1.0, 1.0], number)
            expected = stats.wilcoxon(differences, method=stats.PermutationMethod()).pvalue
            assert signed_rank_p(differences) == pytest.approx(expected, rel=1e-9)
    # Many labels are compared by the hundred, and each differs by small whole numbers.
    assert signed_rank_p(np.ones(24)) == pytest.approx(2 / 2**24)
    assert signed_rank_p(np.ones(50)) == pytest.approx(2 / 2**50)


def test_the_smallest_p_value_of_six_cases_by_hand():
    assert signed_rank_p(np.arange(1.0, 7.0)) == pytest.approx(2 / 2**6)
    assert signed_rank_p(np.arange(1.0, 6.0)) == pytest.approx(2 / 2**5)


def test_how_many_cases_it_takes_is_where_the_smallest_corrected_p_value_falls_below_the_level():
    for tests, cases in ((1, 6), (12, 9), (100, 12)):
        assert fewest_cases(tests) == cases
        for number, shown in ((cases - 1, False), (cases, True)):
            p = signed_rank_p(np.arange(1.0, number + 1))
            assert (holm([p] + [1.0] * (tests - 1))[0] < 0.05) == shown


def test_the_interval_is_scipys_percentile_bootstrap_within_its_resampling_error():
    values = np.random.default_rng(2).gamma(2, 1, 40)
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", random_state=3
    )
    expected = result.confidence_interval
    assert bootstrap_interval(values) == pytest.approx((expected.low, expected.high), abs=0.03)
    assert bootstrap_interval(values) == bootstrap_interval(values)  # fixed seed


def test_a_spread_by_hand_counts_what_is_undefined():
    spread = describe(np.array([1.0, 2.0, nan, 6.0]))
    assert (spread.cases, spread.undefined, spread.mean, spread.median) == (3, 1, 3, 2)
    assert 1 <= spread.low < 3 < spread.high <= 6
    nothing = describe(np.array([nan, nan]))
    assert (nothing.cases, nothing.undefined) == (0, 2)
    assert isnan(nothing.mean)


def test_a_difference_by_hand_pairs_the_cases_in_which_both_are_defined():
    first = np.array([0.5, 0.5, 0.5, 0.5, nan, 0.5])
    values = np.array([0.6, 0.8, 0.5, 0.1, 0.9, nan])
    found = compare(values, first, higher_is_better=True)
    assert (found.pairs, found.wins, found.ties, found.losses) == (4, 2, 1, 1)
    assert found.mean == pytest.approx(0.0)
    assert found.median == pytest.approx(0.05)
    lower = compare(values, first, higher_is_better=False)
    assert (lower.wins, lower.ties, lower.losses) == (1, 1, 2)
    assert lower.p == found.p


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
        name: {
            f"{i}": {"1": {"Dice": of_case}, "2": {"Dice": of_case if i == 0 else nan}}
            for i, of_case in enumerate(of_model)
        }
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
        name: {
            str(i): {"1": {"Dice": dice, "topo_hd95_mm": hd95}}
            for i, (dice, hd95) in enumerate(of_model)
        }
        for name, of_model in models.items()
    }
    rows = make_table(table, ["1"], ["Dice", "topo_hd95_mm"])
    tests = [row.difference for row in rows if row.difference is not None]
    assert len(tests) == 4
    assert [test.p_holm for test in tests] == holm([test.p for test in tests])


def test_ranks_and_mean_that_disagree_are_mixed_not_better():
    differences = np.array([0.1] * 25 + [-20.0])
    found = compare(differences, np.zeros(26), higher_is_better=True)
    assert found.p_holm < 0.05
    assert (found.tendency, found.improves, found.verdict) == (1, -1, "mixed")


def test_rounding_errors_make_no_winner_and_break_no_tie():
    found = compare(np.array([0.1 + 0.2, 0.7]), np.array([0.3, 0.7]), higher_is_better=True)
    assert (found.wins, found.ties) == (0, 2)


def test_the_effect_by_hand_counts_equal_pairs_for_neither_side():
    # Ranks 1, 2, 3, 4 of 0, 1, 2, -3.
    assert rank_biserial(np.array([0.0, 1.0, 2.0, -3.0])) == pytest.approx((2 + 3 - 4) / 10)
    assert rank_biserial(np.zeros(5)) == 0
    assert rank_biserial(np.arange(1.0, 7.0)) == 1
    one_of_fifty = np.zeros(50)
    one_of_fifty[7] = 1
    assert rank_biserial(one_of_fifty) == pytest.approx(50 / 1275)


def test_the_effect_is_that_of_scipys_signed_ranks():
    differences = np.random.default_rng(8).normal(0.3, 1, 25)
    smaller = stats.wilcoxon(differences).statistic  # the smaller of both sums of ranks
    assert abs(rank_biserial(differences)) == pytest.approx(1 - 2 * smaller / (25 * 26 / 2))


# -- primary and secondary outcomes ------------------------------------------------------------


def drawn(rng, models, labels, metrics, number=20, shift=0.0):
    """Returns values drawn by chance, of equal models or each above the one before."""
    difficulty = rng.normal(0, 1, (number, labels, len(metrics)))
    shifts = {name: shift * place for place, name in enumerate(models)}
    return {
        name: {
            f"case_{i:03d}": {
                str(label + 1): dict(zip(metrics, of_label, strict=True))
                for label, of_label in enumerate(of_case)
            }
            for i, of_case in enumerate(
                difficulty + rng.normal(shifts[name], 0.3, difficulty.shape)
            )
        }
        for name in models
    }


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
        name: {
            f"{i}": {"1": {"Dice": 0.5 + 0.01 * i + gain, "topo_betti_matching_error": i % 3}}
            for i in range(20)
        }
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
    with pytest.raises(ValueError, match="no case has topo_betti_error_2, which is to be the"):
        make_table({"first": cases(1.0)}, ["1"], ["Dice"], primary="topo_betti_error_2")


# -- what is missing ---------------------------------------------------------------------------


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


@pytest.mark.slow
def test_in_a_thousand_null_simulations_five_percent_are_called_different(capsys):
    rng = np.random.default_rng(6)
    simulations, metrics = 1000, ["Dice", "topo_cldice", "topo_nsd", "topo_ari"]
    single, of_table, covered = 0, 0, 0
    for _ in range(simulations):
        # Cases differ a lot in difficulty, and both models err on them likewise.
        difficulty = rng.normal(0, 1, (30, 1))
        first, other = (difficulty + rng.normal(0, 0.3, (30, 4)) for _ in range(2))
        models = {
            name: {
                str(i): {"1": dict(zip(metrics, of_case, strict=True))}
                for i, of_case in enumerate(values)
            }
            for name, values in {"first": first, "other": other}.items()
        }
        tests = [row.difference for row in make_table(models, ["1"], metrics)[1::2]]
        single += sum(test.p < 0.05 for test in tests)
        of_table += any(test.verdict != "no difference shown" for test in tests)
        covered += sum(test.low <= 0 <= test.high for test in tests)
    shares = [single / simulations / 4, of_table / simulations, covered / simulations / 4]
    with capsys.disabled():
        print(
            f"\nnull simulations: p < 0.05 in {shares[0]:.1%} of tests; any of four after Holm "
            f"in {shares[1]:.1%}; the interval holds 0 in {shares[2]:.1%}"
        )
    # Three standard errors of a share of 0.05 are 0.0103 of 4,000 and 0.021 of 1,000.
    assert 0.0397 < shares[0] < 0.0603
    assert 0.029 < shares[1] < 0.071
    assert 0.92 < shares[2] < 0.96  # percentile intervals of 30 cases are a little narrow


@pytest.mark.slow
def test_the_primary_test_errs_at_its_level_and_the_secondary_family_at_its_own(capsys):
    rng = np.random.default_rng(11)
    metrics, simulations = ["Dice", "topo_cldice", "topo_nsd", "topo_ari"], 1000
    primary, alone, of_family = 0, 0, 0
    for _ in range(simulations):
        models = drawn(rng, ("first", "other"), 5, metrics, number=24)
        tests = make_table(models, list("12345"), metrics, primary="Dice")
        tests = [row for row in tests if row.difference is not None]
        primary += tests[0].difference.p_holm < 0.05
        alone += tests[0].difference.p_holm == tests[0].difference.p
        of_family += any(row.difference.p_holm < 0.05 for row in tests[1:])
    with capsys.disabled():
        print(
            f"\nnull simulations: primary test below 0.05 in {primary / simulations:.1%}, any of "
            f"{len(tests) - 1} secondary ones in {of_family / simulations:.1%}"
        )
    assert alone == simulations
    # Three standard errors of a share of 0.05 are 0.021; Holm is conservative where tests agree.
    assert 0.029 < primary / simulations < 0.071
    assert 0.005 < of_family / simulations < 0.071


@pytest.mark.slow
def test_a_difference_of_half_a_standard_deviation_is_found_in_most_of_a_hundred_simulations():
    rng = np.random.default_rng(7)
    found = [
        compare(rng.normal(0.5, 1, 50), np.zeros(50), higher_is_better=True).verdict == "better"
        for _ in range(100)
    ]
    # The t test has power 0.93 here, and the signed-rank test 0.955 of its efficiency.
    assert 0.82 < np.mean(found) <= 1
