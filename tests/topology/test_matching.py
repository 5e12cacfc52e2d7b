from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from nnunet_topo.topology import persistence_distance, wasserstein_distance
from nnunet_topo.topology.matching import distance_to_binary

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


@given(seeds)
def test_algorithm_1_agrees_with_its_printed_steps_one_by_one(seed):
    rng = np.random.default_rng(seed)
    first, second = random_diagram(rng), random_diagram(rng)
    n, m = len(first), len(second)
    u, v = [1 / max(n, 1)] * n, [1 / max(m, 1)] * m
    cost = [
        [sum(abs(a - b) ** 2 for a, b in zip(f, s, strict=True)) for s in second] for f in first
    ]
    for _ in range(1000):
        old = u + v
        u = [
            1 / (sum(np.exp(-cost[i][j] / 0.01) * v[j] for j in range(m)) + 1e-99) for i in range(n)
        ]
        v = [
            1 / (sum(np.exp(-cost[i][j] / 0.01) * u[i] for i in range(n)) + 1e-99) for j in range(m)
        ]
        if all(abs(a - b) <= 1e-6 for a, b in zip(old, u + v, strict=True)):
            break
    expected = sum(
        u[i] * np.exp(-cost[i][j] / 0.01) * v[j] * cost[i][j] for i in range(n) for j in range(m)
    )
    expected = expected if n and m else 0
    assert persistence_distance(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("distance", [wasserstein_distance, persistence_distance])
def test_bad_diagrams_are_refused_by_name(distance):
    with pytest.raises(ValueError, match=r"shape \(bars, 2\), got \(3,\)"):
        distance([1, 2, 3], [])
    with pytest.raises(ValueError, match="finite"):
        distance([(1, -np.inf)], [])


def test_bad_parameters_are_refused_by_name():
    with pytest.raises(ValueError, match=r"order must be at least 1, got 0\.5"):
        wasserstein_distance([], [], order=0.5)
    with pytest.raises(ValueError, match="mu must be positive, got 0"):
        persistence_distance([], [], mu=0)
