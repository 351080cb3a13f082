"""The solvers of stacks of small systems, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from als_spark.solve.linalg import VECTORISED_ORDER, solve_spd_stack


class TestSolveSpdStack:
    @pytest.mark.parametrize("order", [1, 2, 5, VECTORISED_ORDER, VECTORISED_ORDER + 1, 20])
    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)], ids=["f64", "f32"]
    )
    @pytest.mark.parametrize("n", [0, 1, 7])
    def test_against_numpy(self, order, dtype, tolerance, n):
        rng = np.random.default_rng(order)
        base = rng.standard_normal((n, order + 5, order))
        matrices = (base.transpose(0, 2, 1) @ base + np.eye(order)).astype(dtype)
        rhs = rng.standard_normal((n, order)).astype(dtype)
        expected = np.linalg.solve(matrices.astype(np.float64), rhs.astype(np.float64)[..., None])
        # Only the upper triangles are promised to hold anything.
        matrices[:, *np.tril_indices(order, -1)] = np.nan
        solved = rhs.copy()
        solve_spd_stack(matrices, solved)
        assert solved.dtype == dtype
        np.testing.assert_allclose(solved, expected[..., 0], rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("order", [2, VECTORISED_ORDER, VECTORISED_ORDER + 1])
    def test_nan_where_not_positive_definite_and_the_others_solved(self, order):
        matrices = np.stack([np.eye(order)] * 3)
        matrices[1, -1, -1] = -1.0
        solved = np.ones((3, order))
        solve_spd_stack(matrices, solved)
        assert np.isnan(solved[1]).any()
        np.testing.assert_array_equal(solved[[0, 2]], np.ones((2, order)))

    @pytest.mark.parametrize("order", [1, 2, VECTORISED_ORDER, VECTORISED_ORDER + 1])
    def test_nan_where_sums_have_overflowed(self, order):
        # A Cholesky factor of it exists, and makes the solution 0.
        matrices = np.stack([np.eye(order)] * 200)
        matrices[1, -1, -1] = np.inf
        solved = np.ones((200, order))
        solve_spd_stack(matrices, solved)
        assert np.isnan(solved[1]).any()
        np.testing.assert_array_equal(np.delete(solved, 1, axis=0), np.ones((199, order)))
