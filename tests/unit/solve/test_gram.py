"""The products of the normal equations, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from als_spark.solve.gram import multiply


class TestMultiply:
    @pytest.mark.parametrize("rank", [1, 7, 34, 35, 50, 69, 103])
    @pytest.mark.parametrize("width", [1, 34, 399, 400, 401, 900])
    def test_lower_triangle_and_right_hand_side(self, rank, width):
        known = np.random.default_rng(rank).standard_normal((3, width, rank + 1))
        out = np.full((3, rank + 1, rank), np.nan)
        multiply(known, out)
        for augmented, product in zip(known, out, strict=True):
            expected = np.tril(augmented.T @ augmented[:, :rank])
            np.testing.assert_allclose(np.tril(product), expected, rtol=1e-10, atol=1e-10)
