from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from nnunet_topo.topology import persistence_distance, wasserstein_distance
from nnunet_topo.topology.matching import (
    distance_to_binary,
    match_optimally,
    sinkhorn_plan,
)

seeds = st.integers(0, 2**32 - 1)


def random_diagram(rng, most=5):
    """Returns up to `most` bars with 1 >= birth > death >= 0."""
    bars = np.sort(rng.random((rng.integers(0, most + 1), 2)), axis=1)
    return bars[:, ::-1]


def by_trying_all_matchings(first, second):
    """Returns the cheapest sum of squares over all partial matchings."""
    alone = [[(b - d) ** 2 / 2 for b, d in diagram] for diagram in (first, second)]
    best = np.inf
    slots = list(range(len(second))) + [None] * len(first)
    for order in set(permutations(slots, len(first))):
        used = [j for j in order if j is not None]
        cost = sum(alone[1][j] for j in range(len(second)) if j not in used)
        for i, j in enumerate(order):
            cost += alone[0][i] if j is None else ((first[i] - second[j]) ** 2).sum()
        best = min(best, cost)
    return best


def test_the_worked_example_of_a_true_and_a_spurious_bar():
    # The true bar matches at no cost, (.8, .5) goes to the diagonal: .3 ** 2 / 2.
    assert wasserstein_distance([(1, 0), (0.8, 0.5)], [(1, 0)]) == pytest.approx(0.045)
    assert distance_to_binary(np.array([1, 0.8]), np.array([0, 0.5]), 1) == pytest.approx(0.045)


@given(seeds)
def test_the_distance_is_the_minimum_over_all_matchings(seed):
    rng = np.random.default_rng(seed)
    first, second = random_diagram(rng, 3), random_diagram(rng, 3)
    expected = by_trying_all_matchings(first, second)
    assert wasserstein_distance(first, second) == pytest.approx(expected, abs=1e-12)


@given(seeds)
def test_the_distance_agrees_with_an_assignment_solver(seed):
    rng = np.random.default_rng(seed)
    first, second = random_diagram(rng, 12), random_diagram(rng, 12)
    n, m = len(first), len(second)
    if n + m == 0:
        return
    cost = np.zeros((n + m, n + m))
    cost[:n, :m] = ((first[:, None] - second[None]) ** 2).sum(2)
    cost[:n, m:] = ((first[:, 0] - first[:, 1]) ** 2 / 2)[:, None]
    cost[n:, :m] = (second[:, 0] - second[:, 1]) ** 2 / 2
    expected = cost[linear_sum_assignment(cost)].sum()
    assert wasserstein_distance(first, second) == pytest.approx(expected, abs=1e-9)


@given(seeds, st.integers(0, 6))
def test_the_closed_form_against_a_binary_image_is_the_exact_distance(seed, target_bars):
    diagram = random_diagram(np.random.default_rng(seed), 40)
    expected = wasserstein_distance(diagram, [(1, 0)] * target_bars)
    assert distance_to_binary(*diagram.T, target_bars) == pytest.approx(expected, abs=1e-9)


@given(seeds)
def test_the_distance_is_symmetric_and_zero_on_itself(seed):
    rng = np.random.default_rng(seed)
    first, second = random_diagram(rng), random_diagram(rng)
    there, back = wasserstein_distance(first, second), wasserstein_distance(second, first)
    assert there == pytest.approx(back)
    assert wasserstein_distance(first, first) == 0


def test_order_1_costs_the_length_of_a_bar_that_stays_alone():
    assert wasserstein_distance([(0.9, 0.5)], [], order=1) == pytest.approx(0.4)


def test_algorithm_1_gives_the_printed_value():
    first, second = [[1, 2], [3, 4], [5, 6]], [[2, 3], [4, 5], [6, 7]]
    assert persistence_distance(first, second) == pytest.approx(6.0, abs=1e-9)


def test_algorithm_1_gives_its_known_values_where_the_numbers_of_bars_differ():
    spurious = [(1, 0), (0.8, 0.5), (0.6, 0.55)]
    assert persistence_distance(spurious, [(1, 0)]) == pytest.approx(0.00036, abs=5e-6)
    assert persistence_distance([(1, 0)] * 3, [(1, 0)]) == 0
    assert persistence_distance([], [(1, 0)]) == persistence_distance([(1, 0)], []) == 0


def by_printed_steps(cost):
    """Returns the plan of Algorithm 1, step by step, and after how many iterations it stops."""
    n, m = len(cost), len(cost[0]) if len(cost) else 0
    kernel = [[np.exp(-cost[i][j] / 0.01) for j in range(m)] for i in range(n)]
    u, v = [1 / max(n, 1)] * n, [1 / max(m, 1)] * m
    iterations = 0
    while iterations < 1000:
        iterations += 1
        old = u + v
        u = [1 / (sum(kernel[i][j] * v[j] for j in range(m)) + 1e-99) for i in range(n)]
        v = [1 / (sum(kernel[i][j] * u[i] for i in range(n)) + 1e-99) for j in range(m)]
        if all(abs(a - b) <= 1e-6 for a, b in zip(old, u + v, strict=True)):
            break
    return [[u[i] * kernel[i][j] * v[j] for j in range(m)] for i in range(n)], iterations


@given(seeds)
def test_algorithm_1_agrees_with_its_printed_steps_one_by_one(seed):
    rng = np.random.default_rng(seed)
    first, second = random_diagram(rng), random_diagram(rng)
    cost = [
        [sum(abs(a - b) ** 2 for a, b in zip(f, s, strict=True)) for s in second] for f in first
    ]
    plan, _ = by_printed_steps(cost)
    expected = sum(plan[i][j] * c for i, row in enumerate(cost) for j, c in enumerate(row))
    assert persistence_distance(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_algorithm_1_stops_once_both_scalings_have_converged_and_computes_in_float64(dtype):
    cost = np.array([[0, 0], [0.1, 0]], dtype)
    plan, iterations = by_printed_steps(cost.tolist())
    assert 50 < iterations < 900
    np.testing.assert_allclose(sinkhorn_plan(cost), plan, rtol=1e-9)


def test_algorithm_1_stops_after_1000_iterations():
    # The kernel is [[1, 1], [0, 1]]. From v1 / v2 = r the two steps make r + 2, and the plan holds
    # 1 / r at the upper right.
    plan = sinkhorn_plan(np.array([[0.0, 0], [10, 0]]))
    assert plan[0, 1] == pytest.approx(1 / 2001, rel=1e-9)


def test_algorithm_1_starts_from_uniform_marginals():
    plan = sinkhorn_plan(np.zeros((2, 5)), copies=3, max_iterations=0)
    np.testing.assert_allclose(plan, np.full((2, 5), 1 / 30))


def test_the_parameters_of_algorithm_1_are_those_given():
    bars = [(1, 0), (1, 0.5)]
    # Costs are 0 and 1/4, so the kernel is [[1, k], [k, 1]] with k = 1/e, and rows sum to 1.
    expected = 2 * 0.25 / (1 + np.e)
    assert persistence_distance(bars, bars, mu=0.25) == pytest.approx(expected)
    start = persistence_distance(bars, bars, mu=0.25, max_iterations=0)
    assert start == pytest.approx(2 * 0.25 / np.e / 4)


def test_a_bar_is_matched_only_where_that_is_cheaper():
    # The match costs .71^2 + .1^2 = .5141, leaving both alone .19^2 / 2 + 1/2 = .51805.
    assert match_optimally(np.array([0.29]), np.array([0.1]), 1).tolist() == [True]
    assert match_optimally(np.array([0.5]), np.array([0.5]), 1).tolist() == [False]  # 1/2 each


def test_of_equal_bars_the_first_are_matched():
    chosen = match_optimally(np.tile([0.9, 0.8], 50), np.zeros(100), 20)
    assert np.flatnonzero(chosen).tolist() == list(range(0, 40, 2))


def test_diagrams_of_any_type_and_size_are_compared_in_float64():
    small, large = np.array([[1, 3], [9, 4]], np.uint8), np.array([[250, 0]], np.uint8)
    # The distances to the diagonal are 2^2 / 2, 5^2 / 2 and 250^2 / 2.
    assert wasserstein_distance(small, large) == pytest.approx(2 + 12.5 + 31250)
    rng = np.random.default_rng(0)
    first, second = 1e4 * rng.random((2, 80, 2))
    distance = wasserstein_distance(first, second)
    assert distance == pytest.approx(1e8 * wasserstein_distance(first / 1e4, second / 1e4))


@pytest.mark.parametrize(
    ("shift", "refused"), [(0, False), (-1e-9, False), (-1e-3, True), (1e-3, True)]
)
def test_a_plan_without_a_dual_that_confirms_it_is_refused(monkeypatch, shift, refused):
    import ot.lp

    solve = ot.lp.emd

    def inexact(*problem, **options):
        plan, log = solve(*problem, **options)
        # A smaller dual is feasible but does not reach the cost; a larger one is not feasible.
        log["u"][0] += shift
        return plan, log

    monkeypatch.setattr(ot.lp, "emd", inexact)
    first, second = [(1, 0), (0.8, 0.5)], [(1, 0)]
    if not refused:
        assert wasserstein_distance(first, second) == pytest.approx(0.045)
        return
    with pytest.raises(ArithmeticError, match="no optimal matching of 2 and 1 bars was found"):
        wasserstein_distance(first, second)


@pytest.mark.parametrize("distance", [wasserstein_distance, persistence_distance])
def test_bad_diagrams_are_refused_by_name(distance):
    with pytest.raises(ValueError, match=r"shape \(bars, 2\), got \(3,\)"):
        distance([1, 2, 3], [])
    with pytest.raises(ValueError, match="finite"):
        distance([(1, -np.inf)], [])


def test_bad_parameters_are_refused_by_name():
    for wrong in (0.5, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"order must be at least 1 and finite, got {wrong}"):
            wasserstein_distance([], [], order=wrong)
    for wrong in (0, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"p must be above 0 and finite, got {wrong}"):
            persistence_distance([], [], p=wrong)
    with pytest.raises(ValueError, match="mu must be positive, got 0"):
        persistence_distance([], [], mu=0)
