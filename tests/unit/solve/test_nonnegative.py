"""Nonnegative least squares: conditions of optimality, SciPy's method, and the plain ridge."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from als_spark.errors import SolveError
from als_spark.solve import nonnegative as kernels
from als_spark.solve.blocks import build_block
from als_spark.solve.nonnegative import solve_nonnegative_dual, solve_nonnegative_stack
from als_spark.solve.objective import Objective
from tests import reference
from tests.unit.solve.test_implicit import Problem


def problems(n_rows: int, order: int, n_ratings: int, seed: int = 0, ridge: float = 0.1):
    """Systems of correlated rows, of which about half the places end at 0."""
    rng = np.random.default_rng(seed)
    known = rng.random((n_rows, n_ratings, order)) + 0.3 * rng.normal(
        size=(n_rows, n_ratings, order)
    )
    targets = rng.normal(0.3, 1, (n_rows, n_ratings))
    matrices = known.transpose(0, 2, 1) @ known + ridge * np.eye(order)
    return matrices, np.einsum("rno,rn->ro", known, targets)


def solved(matrices, rhs):
    x, upper = rhs.copy(), np.triu(matrices)
    # The lower triangle is not promised.
    upper[:, *np.tril_indices(rhs.shape[1], -1)] = np.nan
    solve_nonnegative_stack(upper, x)
    return x


def by_scipy(matrix, rhs):
    lower = np.linalg.cholesky(matrix)
    return nnls(lower.T, np.linalg.solve(lower, rhs))[0]


def assert_optimal(matrices, rhs, x, tolerance) -> None:
    y = np.einsum("rij,rj->ri", matrices, x) - rhs
    scale = np.abs(rhs).max(axis=1, keepdims=True)
    assert (x >= 0).all()
    assert (y >= -tolerance * scale).all()
    assert (np.abs(y)[x > 0] <= (tolerance * scale * np.ones_like(y))[x > 0]).all()


class TestStack:
    @pytest.mark.parametrize("order", [1, 2, 10, 11, 50])
    @pytest.mark.parametrize("n_rows", [1, 3, 300])
    def test_optimal(self, order, n_rows):
        matrices, rhs = problems(n_rows, order, order + 5)
        x = solved(matrices, rhs)
        assert_optimal(matrices, rhs, x, 1e-12)
        if order > 2 and n_rows > 1:
            assert 0.1 < np.mean(x == 0) < 0.9

    @pytest.mark.parametrize("order", [2, 12, 40])
    @pytest.mark.parametrize("n_ratings", [1, 5, 60])
    def test_as_scipy(self, order, n_ratings):
        matrices, rhs = problems(40, order, n_ratings)
        for found, matrix, b in zip(solved(matrices, rhs), matrices, rhs, strict=True):
            wanted = by_scipy(matrix, b)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * max(wanted.max(), 1e-9))
            np.testing.assert_array_equal(found == 0, wanted == 0)

    def test_float32(self):
        matrices, rhs = problems(200, 30, 40)
        matrices, rhs = matrices.astype(np.float32), rhs.astype(np.float32)
        x = solved(matrices, rhs)
        assert x.dtype == np.float32
        assert_optimal(matrices.astype(float), rhs.astype(float), x.astype(float), 1e-4)

    @pytest.mark.parametrize("full_exchanges", [0, 3])
    def test_one_exchange_at_a_time_ends_too(self, full_exchanges, monkeypatch):
        matrices, rhs = problems(60, 12, 3)
        wanted = solved(matrices, rhs)
        monkeypatch.setattr(kernels, "FULL_EXCHANGES", full_exchanges)
        monkeypatch.setattr(kernels, "MAX_STEPS", 5000)
        monkeypatch.setattr(kernels, "_lawson_hanson", None)
        np.testing.assert_allclose(solved(matrices, rhs), wanted, atol=1e-12)

    def test_where_steps_run_out(self, monkeypatch):
        matrices, rhs = problems(60, 12, 20)
        wanted = solved(matrices, rhs)
        real, calls = kernels._lawson_hanson, []
        monkeypatch.setattr(kernels, "MAX_STEPS", 1)
        monkeypatch.setattr(kernels, "_lawson_hanson", lambda *args: calls.append(1) or real(*args))
        np.testing.assert_allclose(solved(matrices, rhs), wanted, atol=1e-12)
        assert 10 < len(calls) <= 60

    def test_degenerate_places(self):
        # x = 0 and y = 0 at once, of which rounding must not make a cycle.
        matrices = np.stack([np.eye(3) + 0.5, np.eye(3) + 0.1] * 50)
        target = np.array([1.0, 0.0, 2.0])
        rhs = matrices @ target
        np.testing.assert_allclose(solved(matrices, rhs), np.tile(target, (100, 1)), atol=1e-14)

    def test_all_at_the_bound(self):
        matrices, rhs = problems(20, 5, 9)
        assert (solved(matrices, -np.abs(rhs)) == 0).all()

    def test_not_positive_definite(self):
        matrices, rhs = problems(4, 3, 9)
        matrices[1] = 0
        x = solved(matrices, rhs)
        assert np.isnan(x[1]).all()
        assert np.isfinite(x[[0, 2, 3]]).all()


class TestDual:
    @staticmethod
    def problems(n_rows: int, order: int, width: int, dtype=np.float64):
        rng = np.random.default_rng(order)
        known = rng.random((n_rows, width, order)) + 0.3 * rng.normal(size=(n_rows, width, order))
        ratings = rng.normal(1, 2, (n_rows, width))
        weights = rng.choice([0.1, 2.0], n_rows)
        primal = known.transpose(0, 2, 1) @ known + weights[:, None, None] * np.eye(order)
        rhs = np.einsum("rno,rn->ro", known, ratings)
        return (known.astype(dtype), ratings.astype(dtype), weights), (primal, rhs)

    @pytest.mark.parametrize("order", [2, 12, 50])
    @pytest.mark.parametrize("width", [1, 9, 20])
    @pytest.mark.parametrize("n_rows", [1, 200])
    def test_optimal(self, order, width, n_rows):
        dual, primal = self.problems(n_rows, order, width)
        x = solve_nonnegative_dual(*dual)
        assert_optimal(*primal, x, 1e-11)
        np.testing.assert_allclose(x, solved(*primal), rtol=0, atol=1e-10)
        if n_rows > 1:
            assert 0.1 < np.mean(x == 0) < 0.95

    def test_float32(self):
        dual, primal = self.problems(300, 30, 12, np.float32)
        x = solve_nonnegative_dual(*dual)
        assert x.dtype == np.float32
        assert_optimal(*primal, x.astype(float), 1e-4)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_where_steps_run_out(self, dtype, monkeypatch):
        dual, primal = self.problems(60, 12, 7, dtype)
        monkeypatch.setattr(kernels, "MAX_STEPS", 1)
        x = solve_nonnegative_dual(*dual)
        assert x.dtype == dtype
        assert_optimal(*primal, x, 1e-4 if dtype == np.float32 else 1e-11)

    def test_inputs_are_not_modified(self):
        dual, _ = self.problems(20, 12, 7)
        for array in dual:
            array.flags.writeable = False
        solve_nonnegative_dual(*dual)


class TestRows:
    @pytest.mark.parametrize("rank", [1, 3, 14])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("implicit", [False, True])
    def test_every_width(self, rank, dtype, implicit):
        problem = Problem(rank, dtype)
        fixed = problem.fixed.astype(np.float64)
        more = {"implicit": True, "alpha": 2.0} if implicit else {}
        found, loss = problem.solve(Objective(0.3, 1.0, nonnegative=True, **more))
        tolerance = 1e-9 if dtype == np.float64 else 1e-4
        total = 0.0
        for row in range(found.shape[0]):
            own = problem.rows == row
            v, r = fixed[problem.columns[own]], problem.ratings[own]
            n = np.count_nonzero(r > 0) if implicit else r.size
            if implicit:
                weights = 2.0 * np.abs(r)
                trained = fixed[problem.degrees > 0]
                matrix = trained.T @ trained + v.T @ (weights[:, None] * v)
                rhs, constant = v.T @ ((1 + weights) * (r > 0)), ((1 + weights) * (r > 0)).sum()
            else:
                matrix, rhs, constant = v.T @ v, v.T @ r, r @ r
            matrix = matrix + 0.3 * n * np.eye(rank)
            wanted = by_scipy(matrix, rhs) if n else np.zeros(rank)
            np.testing.assert_allclose(
                found[row], wanted, rtol=0, atol=tolerance * max(wanted.max(), 1e-3)
            )
            total += constant + wanted @ matrix @ wanted - 2 * wanted @ rhs
        assert loss == pytest.approx(total, rel=tolerance)
        assert (found >= 0).all()
        assert (found == 0).any()

    def test_the_plain_ridge_where_no_bound_is_met(self):
        rng = np.random.default_rng(0)
        users, items = np.nonzero(rng.random((50, 60)) < 0.3)
        # Ratings of positive factors, and fixed factors whose ridge solutions are positive.
        fixed = np.eye(4)[rng.integers(0, 4, 60)] + 0.01 * rng.random((60, 4))
        ratings = rng.uniform(2, 5, users.size)
        block = build_block(users, items, ratings, n_rows=50, n_columns=60)
        free = Objective(0.5, 1.0).row_solver(fixed).solve(block, side="user")
        kept = free[0].min(axis=1) > 0
        assert kept.sum() > 40
        bound = Objective(0.5, 1.0, nonnegative=True).row_solver(fixed).solve(block, side="user")
        np.testing.assert_allclose(bound[0][kept], free[0][kept], rtol=1e-10)

    def test_objective_is_above_the_free_and_below_the_clipped_one(self):
        problem = Problem(5)
        free, free_loss = problem.solve(Objective(0.3, 1.0))
        _, loss = problem.solve(Objective(0.3, 1.0, nonnegative=True))
        clipped = np.maximum(free, 0)
        squared, _ = reference.errors(
            problem.rows, problem.columns, problem.ratings, clipped, problem.fixed
        )
        clipped_loss = squared * problem.rows.size + reference.ridge(
            problem.rows, clipped, 0.3, 1.0
        )
        assert free_loss < loss < clipped_loss

    def test_too_few_ratings_without_a_ridge(self):
        problem = Problem(5)
        with pytest.raises(SolveError, match="has no finite solution at lambda=0"):
            problem.solve(Objective(0.0, nonnegative=True))

    def test_again_in_float64(self):
        # Every product of two factors is below what float32 has.
        fixed = np.array([[1, 0.5], [0.5, 1], [1, 1]], np.float32) * np.float32(1e-25)
        ratings = np.array([3.0, 0.1, 2.0], np.float32)
        block = build_block(
            np.zeros(3, np.int32), np.arange(3), ratings, n_rows=1, n_columns=3, dtype=np.float32
        )
        found, _ = Objective(0.0, nonnegative=True).row_solver(fixed).solve(block, side="user")
        wanted = nnls(fixed.astype(float) * 1e25, ratings.astype(float))[0]
        assert wanted[1] == 0
        np.testing.assert_allclose(found[0].astype(float) * 1e-25, wanted, rtol=1e-5)
