from math import isnan, nan

import numpy as np
import pytest
from scipy import stats

from nnunet_topo.report import make_table
from nnunet_topo.report.cases import Cases
from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.statistics import (
    FEWEST_RESAMPLED,
    compare,
    describe,
    fewest_cases,
    holm,
    interval_of_mean,
    rank_biserial,
    signed_rank_p,
)

from .drawn_cases import drawn


def test_holms_correction_of_an_example_by_hand():
    # Sorted .01 * 4, .02 * 3, .03 * 2, .5 * 1; never below the one before.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_holms_correction_agrees_with_statsmodels():
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    rng = np.random.default_rng(0)
    for number in range(1, 30):  # statsmodels takes a tenth of a second for each
        p = np.round(rng.random(number) ** 3, 2)  # with ties
        np.testing.assert_allclose(holm(p.tolist()), multipletests(p, method="holm")[1])


def test_the_signed_rank_test_is_scipys_without_the_zeros():
    rng = np.random.default_rng(1)
    for number in (5, 12, 30, 80):
        differences = rng.normal(0.3, 1, number)
        expected = stats.wilcoxon(differences, zero_method="wilcox").pvalue
        assert signed_rank_p(differences) == pytest.approx(expected, rel=1e-9)
        with_zeros = np.append(differences, np.zeros(7))
        assert signed_rank_p(with_zeros) == signed_rank_p(differences)
    assert signed_rank_p(np.zeros(4)) == 1


def test_with_ties_the_signed_rank_test_is_that_of_all_signs():
    rng = np.random.default_rng(12)
    for number in (2, 3, 5, 8):
        for _ in range(10):
            differences = rng.integers(1, 4, number) * rng.choice([-1.0, 1.0], number)
            expected = stats.wilcoxon(differences, method=stats.PermutationMethod()).pvalue
            assert signed_rank_p(differences) == pytest.approx(expected, rel=1e-9)
    # Ranks 1.5, 1.5, 3, 4, and 3 above zero: 5 of 16 sums are 3 or less.
    assert signed_rank_p(np.array([1.0, 1.0, -2.0, -3.0])) == pytest.approx(2 * 5 / 16)
    # Many labels are compared by the hundred, and each differs by small whole numbers.
    assert signed_rank_p(np.ones(24)) == pytest.approx(2 / 2**24)
    assert signed_rank_p(np.ones(50)) == pytest.approx(2 / 2**50)


def test_the_smallest_p_value_of_six_cases_by_hand():
    assert signed_rank_p(np.arange(1.0, 7.0)) == pytest.approx(2 / 2**6)
    assert signed_rank_p(np.arange(1.0, 6.0)) == pytest.approx(2 / 2**5)


def test_the_least_number_of_cases_is_where_the_smallest_corrected_p_value_falls_below_the_level():
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
    assert interval_of_mean(values) == pytest.approx((expected.low, expected.high), abs=0.03)
    assert interval_of_mean(values) == interval_of_mean(values)  # fixed seed


@pytest.mark.parametrize("number", [3, 4, 8, FEWEST_RESAMPLED - 1, FEWEST_RESAMPLED, 30])
def test_the_interval_covers_the_mean_as_often_as_it_says(number):
    drawn = np.random.default_rng(number).normal(2, 1, (4000, number))
    covered = [low <= 2 <= high for low, high in map(interval_of_mean, drawn)]
    # Three standard errors of a share of 0.95 are 0.0103; the bootstrap of 20 covers 0.929.
    lowest = 0.9397 if number < FEWEST_RESAMPLED else 0.917
    assert lowest < np.mean(covered) < 0.9603


def test_the_interval_of_few_cases_is_scipys_t_interval_and_of_two_there_is_none():
    values = np.random.default_rng(4).gamma(2, 1, 7)
    of_scipy = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval_of_mean(values) == pytest.approx((of_scipy.low, of_scipy.high))
    assert interval_of_mean(np.array([3.0, 3.0, 3.0])) == (3, 3)
    assert all(map(isnan, interval_of_mean(np.array([1.0, 3.0]))))


def test_the_interval_of_a_metric_ends_where_its_values_end():
    dice = np.array([0.9, 0.9, 0.2])
    assert describe(dice).low < 0 < 1 < describe(dice).high
    spread = describe(dice, MEASURES["Dice"].limits)
    assert (spread.low, spread.high) == (0, 1)
    errors = describe(np.array([0.0, 0.0, 9.0]), MEASURES["topo_betti_matching_error"].limits)
    assert errors.low == 0
    assert errors.high > 9


def test_every_metric_in_which_higher_is_better_ends_at_one():
    assert {m.limits[1] for m in MEASURES.values() if m.higher_is_better} == {1}


def test_a_spread_by_hand_counts_what_is_undefined():
    spread = describe(np.array([1.0, 2.0, nan, 6.0]))
    assert (spread.cases, spread.undefined, spread.mean, spread.median) == (3, 1, 3, 2)
    # 3 -+ t(0.975, 2) * 2.6458 / sqrt(3)
    assert (spread.low, spread.high) == pytest.approx((3 - 6.5724, 3 + 6.5724), abs=1e-3)
    nothing = describe(np.array([nan, nan]))
    assert (nothing.cases, nothing.undefined) == (0, 2)
    assert all(map(isnan, (nothing.mean, nothing.median, nothing.low, nothing.high)))


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
    # Ranks 1, 2, 3, 4 of 0, 0.1, 0.3, -0.4; without the zero 1, 2, 3, as many on either side.
    assert (found.effect, lower.effect) == pytest.approx((0.1, -0.1))
    assert (found.tendency, lower.tendency) == (0, 0)
    assert (found.missed, found.invented) == (0, 0)


def test_a_difference_without_pairs_is_undefined_and_keeps_what_was_missed():
    values = np.array([1.0, nan])
    found = compare(values, values[::-1], higher_is_better=True, missed=2, invented=-3)
    assert (found.pairs, found.wins, found.ties, found.losses) == (0, 0, 0, 0)
    assert (found.tendency, found.improves, found.missed, found.invented) == (0, 0, 2, -3)
    undefined = (found.mean, found.median, found.low, found.high, found.p, found.p_holm)
    assert all(map(isnan, (*undefined, found.effect)))


def test_a_small_mean_difference_is_an_improvement():
    assert compare(np.array([0.6, 0.5]), np.array([0.4, 0.6]), higher_is_better=True).improves == 1


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
            name: Cases(
                {
                    str(i): {"1": dict(zip(metrics, of_case, strict=True))}
                    for i, of_case in enumerate(values)
                }
            )
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
