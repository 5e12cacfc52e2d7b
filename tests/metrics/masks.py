"""Masks that several tests of the metrics take."""

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ..shapes import ring

BOTH = pytest.mark.parametrize("connectivity", ["full", "face"])

TORUS = ring((9, 15, 17), 5.0, 1.6)


def box(shape, *sides):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def without(mask, *sides):
    return mask & ~box(mask.shape, *sides)


pairs = st.tuples(hnp.array_shapes(min_dims=2, max_dims=3, max_side=7), st.integers(0, 10**9)).map(
    lambda drawn: (
        np.random.default_rng(drawn[1]).random((2, *drawn[0]))
        < np.random.default_rng(drawn[1]).uniform(0.1, 0.9)
    )
)
