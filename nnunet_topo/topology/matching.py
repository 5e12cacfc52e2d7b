"""Matchings between persistence diagrams and the distances that they give.

The diagram of a binary image holds bars (1, 0) alone, so its optimal matching has a closed form;
two general diagrams are an assignment problem.

Demir, Massaad, Kiziltan: Topology-Aware Focal Loss for 3D Image Segmentation. CVPR Workshops 2023.
"""

from math import inf

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import ArrayLike

from nnunet_topo.topology.places import APART, INSIDE

_CONVERGED = 1e-6  # absolute change of both scalings, Demir et al., listing in section 4.2
_NO_DIVISION_BY_ZERO = 1e-99  # Algorithm 1, step 3
UNMATCHED_TARGET_BAR = 0.5  # squared distance of the bar (1, 0) to the diagonal


def wasserstein_distance(diagram1: ArrayLike, diagram2: ArrayLike, *, order: float = 2) -> float:
    """Returns the cheapest total cost of matching two diagrams, the diagonal included.

    Two bars cost |b - b'|^order + |d - d'|^order when matched, one bar left alone the same sum to
    its nearest point of the diagonal. No root is taken: with order 2 it is the sum of squares, the
    unit of the losses. Exact: the dual of the transport problem confirms the optimum.

    Args:
        diagram1: births and deaths, shape (n, 2), finite.
        diagram2: births and deaths, shape (m, 2), finite.
        order: exponent, at least 1 and finite.

    Raises:
        ValueError: wrong shape, non-finite values, order below 1 or infinite.
        ArithmeticError: the solver found no optimum.
    """
    first, second = _check_diagram(diagram1), _check_diagram(diagram2)
    if not 1 <= order < inf:
        raise ValueError(f"order must be at least 1 and finite, got {order}")
    plan, cost = _optimal_plan(first, second, order)
    return float((plan * cost).sum())


def persistence_distance(
    diagram1: ArrayLike,
    diagram2: ArrayLike,
    *,
    p: float = 2,
    mu: float = 0.01,
    max_iterations: int = 1000,
) -> float:
    """Returns the distance that Demir's Algorithm 1 returns, to the letter; no diagonal.

    Known defects of the printed algorithm, kept: three bars (1, 0) against one give 0, and how
    much mass lies on spurious bars depends on the ratio of the numbers of bars.

    Args:
        diagram1: births and deaths, shape (n, 2), finite.
        diagram2: births and deaths, shape (m, 2), finite. An empty side gives 0.
        p: exponent of the cost, above 0 and finite.
        mu: regularisation; must be positive.
        max_iterations: stops earlier when both scalings have converged.

    Raises:
        ValueError: wrong shape, non-finite values, mu or p not positive, p infinite.
    """
    first, second = _check_diagram(diagram1), _check_diagram(diagram2)
    if not 0 < p < inf:
        raise ValueError(f"p must be above 0 and finite, got {p}")
    if not mu > 0:
        raise ValueError(f"mu must be positive, got {mu}")
    cost = _cost_matrix(first, second, p)
    return float((sinkhorn_plan(cost, mu=mu, max_iterations=max_iterations) * cost).sum())


def sinkhorn_plan(
    cost: Float[np.ndarray, "n m"],
    *,
    mu: float = 0.01,
    max_iterations: int = 1000,
    copies: int = 1,
) -> Float[np.ndarray, "n m"]:
    """Returns the transport plan of Demir's Algorithm 1, in float64 and the linear domain.

    Args:
        cost: cost of each match.
        mu: regularisation.
        max_iterations: stops earlier when both scalings have converged.
        copies: how often each column stands in the problem; the plan holds one copy.
    """
    kernel = np.exp(-np.asarray(cost, dtype=np.float64) / mu)  # step 4
    n, m = kernel.shape
    if n == 0 or m == 0:
        return kernel
    u, v = np.full(n, 1 / n), np.full(m, 1 / (m * copies))  # step 2
    for _ in range(max_iterations):
        previous_u, previous_v = u, v
        u = 1 / (copies * (kernel @ v) + _NO_DIVISION_BY_ZERO)  # step 7
        v = 1 / (kernel.T @ u + _NO_DIVISION_BY_ZERO)
        if (
            np.abs(u - previous_u).max() <= _CONVERGED
            and np.abs(v - previous_v).max() <= _CONVERGED
        ):
            break
    return u[:, None] * kernel * v[None, :]  # step 10


def match_optimally(
    birth: Float[np.ndarray, " bars"], death: Float[np.ndarray, " bars"], target_bars: int
) -> Bool[np.ndarray, " bars"]:
    """Returns which bars the exact distance to `target_bars` bars (1, 0) matches.

    A match saves gain = (b - d)^2 / 2 + 1/2 - (1 - b)^2 - d^2 against leaving both bars alone:
    the largest gains, as many as there are target bars, only where they are positive.
    """
    gain = (birth - death) ** 2 / 2 + UNMATCHED_TARGET_BAR - (1 - birth) ** 2 - death**2
    return _largest(gain, gain > 0, target_bars)


def match_spatially(
    birth: Float[np.ndarray, " bars"],
    death: Float[np.ndarray, " bars"],
    target_bars: int,
    fit: Int64[np.ndarray, " bars"],
    place: Int64[np.ndarray, " bars"],
    capacity: Int64[np.ndarray, " places"],
) -> Bool[np.ndarray, " bars"]:
    """Returns which bars are matched in space to `target_bars` bars (1, 0).

    First each structure of the target takes the bars at its place, as many as it has itself:
    those inside before those that are only anchored, the longest first. So a component that is cut
    in two takes one of its halves, and leaves the bar of another component to that one. Then the
    target bars that are left take the longest of the other bars inside.

    Args:
        birth: of each bar.
        death: of each bar.
        target_bars: number of bars of the target.
        fit: of each bar, see `Places.locate`.
        place: structure of the target at which each bar lies, 0 for none.
        capacity: how many bars each structure has, by its number; 0 for number 0.
    """
    matched = np.zeros(len(birth), dtype=bool)
    # Bars of the same place stand together, in the order in which it takes them.
    order = np.lexsort((death - birth, -fit, place))
    order = order[fit[order] > APART]
    places = place[order]
    rank = np.arange(len(order)) - np.searchsorted(places, places)
    matched[order[rank < capacity[places]]] = True
    left = target_bars - int(matched.sum())
    return matched | _largest(birth - death, (fit == INSIDE) & ~matched, left)


def distance_to_binary(
    birth: Float[np.ndarray, " bars"], death: Float[np.ndarray, " bars"], target_bars: int
) -> float:
    """Returns `wasserstein_distance` of order 2 to `target_bars` bars (1, 0), in closed form."""
    matched = match_optimally(birth, death, target_bars)
    cost = np.where(matched, (1 - birth) ** 2 + death**2, (birth - death) ** 2 / 2)
    return float(cost.sum()) + UNMATCHED_TARGET_BAR * (target_bars - int(matched.sum()))


def _optimal_plan(
    first: Float[np.ndarray, "n 2"], second: Float[np.ndarray, "m 2"], order: float
) -> tuple[Float[np.ndarray, "n+1 m+1"], Float[np.ndarray, "n+1 m+1"]]:
    """Returns how many bars are matched with each other in an optimum, and what each match costs.

    The last row and column stand for the diagonal, which takes any number of bars.

    Raises:
        ArithmeticError: the solver found no optimum.
    """
    from ot.lp import emd  # which takes a second to import

    n, m = len(first), len(second)
    cost = np.zeros((n + 1, m + 1))
    cost[:n, :m] = _cost_matrix(first, second, order)
    cost[:n, m], cost[n, :m] = _cost_to_diagonal(first, order), _cost_to_diagonal(second, order)
    rows, columns = np.append(np.ones(n), m), np.append(np.ones(m), n)
    if not n + m:
        return cost, cost
    plan, log = emd(rows, columns, cost, numItermax=10**7, log=True)
    # No plan costs less than a feasible dual is worth.
    slack = float((cost - log["u"][:, None] - log["v"][None, :]).min())
    worth = float(rows @ log["u"] + columns @ log["v"])
    spent = float((plan * cost).sum())
    tolerance = 1e-9 * max(1.0, float(cost.max()))
    if slack < -tolerance or spent - worth > tolerance * (n + m):
        raise ArithmeticError(
            f"no optimal matching of {n} and {m} bars was found: the plan costs {spent:.6g}, the "
            f"dual shows {worth:.6g}"
        )
    return plan, cost


def _largest(
    score: Float[np.ndarray, " bars"], allowed: Bool[np.ndarray, " bars"], count: int
) -> Bool[np.ndarray, " bars"]:
    """Marks the `count` largest scores among the allowed; equal ones in order of appearance."""
    candidates = np.flatnonzero(allowed)
    chosen = candidates[np.argsort(-score[candidates], kind="stable")[:count]]
    marked = np.zeros(len(score), dtype=bool)
    marked[chosen] = True
    return marked


def _check_diagram(diagram: ArrayLike) -> Float[np.ndarray, "bars 2"]:
    points = np.asarray(diagram, dtype=np.float64)
    if points.size == 0:
        points = points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"a diagram must have shape (bars, 2), got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("a diagram must be finite: cut the essential class at 0")
    return points


def _cost_matrix(
    first: Float[np.ndarray, "n 2"], second: Float[np.ndarray, "m 2"], order: float
) -> Float[np.ndarray, "n m"]:
    return (np.abs(first[:, None, :] - second[None, :, :]) ** order).sum(axis=2)


def _cost_to_diagonal(
    diagram: Float[np.ndarray, "bars 2"], order: float
) -> Float[np.ndarray, " bars"]:
    return 2 * (np.abs(diagram[:, 0] - diagram[:, 1]) / 2) ** order
