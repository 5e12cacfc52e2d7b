"""Matchings between persistence diagrams and the distances that they give.

The diagram of a binary image holds bars (1, 0) alone, so its optimal matching has a closed form;
two general diagrams are an assignment problem.

Demir, Massaad, Kiziltan: Topology-Aware Focal Loss for 3D Image Segmentation. CVPR Workshops 2023.
"""

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

_CONVERGED = 1e-6  # absolute change of both scalings, Demir et al., listing in section 4.2
_NO_DIVISION_BY_ZERO = 1e-99  # Algorithm 1, step 3
UNMATCHED_TARGET_BAR = 0.5  # squared distance of the bar (1, 0) to the diagonal


def wasserstein_distance(diagram1: ArrayLike, diagram2: ArrayLike, *, order: float = 2) -> float:
    """Returns the cheapest total cost of matching two diagrams, the diagonal included.

    Two bars cost |b - b'|^order + |d - d'|^order when matched, one bar left alone the same sum to
    its nearest point of the diagonal. No root is taken: with order 2 it is the sum of squares, the
    unit of the losses. Exact.

    Args:
        diagram1: births and deaths, shape (n, 2), finite.
        diagram2: births and deaths, shape (m, 2), finite.
        order: exponent, at least 1.

    Raises:
        ValueError: wrong shape, non-finite values, order below 1.
    """
    first, second = _check_diagram(diagram1), _check_diagram(diagram2)
    if not order >= 1:
        raise ValueError(f"order must be at least 1, got {order}")
    alone1, alone2 = _cost_to_diagonal(first, order), _cost_to_diagonal(second, order)
    together = _cost_matrix(first, second, order)
    # What a match saves; a pair that saves nothing may as well stay alone.
    change = np.minimum(together - alone1[:, None] - alone2[None, :], 0.0)
    rows, columns = linear_sum_assignment(change)
    return float(alone1.sum() + alone2.sum() + change[rows, columns].sum())


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
        p: exponent of the cost.
        mu: regularisation; must be positive.
        max_iterations: stops earlier when both scalings have converged.

    Raises:
        ValueError: wrong shape, non-finite values, mu not positive.
    """
    first, second = _check_diagram(diagram1), _check_diagram(diagram2)
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
    allowed: Bool[np.ndarray, " bars"],
    place: Int64[np.ndarray, " bars"],
    capacity: Int64[np.ndarray, " places"],
) -> Bool[np.ndarray, " bars"]:
    """Returns which bars are matched in space to `target_bars` bars (1, 0).

    First each structure of the target takes the longest bars that lie at its place, as many as it
    has bars itself: a component that is cut in two takes one of its halves, and leaves the bar of
    another component to that one. The target bars that are left take the longest of the other
    allowed bars.

    Args:
        birth: of each bar.
        death: of each bar.
        target_bars: number of bars of the target.
        allowed: which bars may be matched.
        place: structure of the target that a bar lies at, 0 for none.
        capacity: how many bars each structure has, by its place; that of place 0 does not count.
    """
    matched = np.zeros(len(birth), dtype=bool)
    by_length = np.argsort(death - birth, kind="stable")
    candidates = by_length[allowed[by_length] & (place[by_length] > 0)]
    # Bars of the same place stand together, the longest first, and are numbered from 0.
    candidates = candidates[np.argsort(place[candidates], kind="stable")]
    of_place = place[candidates]
    rank = np.arange(len(candidates)) - np.searchsorted(of_place, of_place)
    matched[candidates[rank < capacity[of_place]]] = True
    left = target_bars - int(matched.sum())
    return matched | _largest(birth - death, allowed & ~matched, left)


def distance_to_binary(
    birth: Float[np.ndarray, " bars"], death: Float[np.ndarray, " bars"], target_bars: int
) -> float:
    """Returns `wasserstein_distance` of order 2 to `target_bars` bars (1, 0), in closed form."""
    matched = match_optimally(birth, death, target_bars)
    cost = np.where(matched, (1 - birth) ** 2 + death**2, (birth - death) ** 2 / 2)
    return float(cost.sum()) + UNMATCHED_TARGET_BAR * (target_bars - int(matched.sum()))


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
