"""Implicit feedback against its dense twin, row by row, and by what must always hold."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from als_spark.errors import SolveError
from als_spark.solve import gram as kernels
from als_spark.solve.blocks import RatingBlock, build_block
from als_spark.solve.implicit import LEAST_WEIGHT, gram_of_all
from als_spark.solve.linalg import VECTORISED_ORDER
from als_spark.solve.objective import Objective
from als_spark.solve.solver import add_sums
from tests import reference

RANKS = (1, 2, VECTORISED_ORDER + 1, 14)
OBJECTIVES = [(0.7, 0.0, 1.0), (0.3, 0.5, 40.0), (0.2, 1.0, 0.0), (0.2, 1.0, 0.5)]
N_COLUMNS = 100
WIDTHS = (1, 1, 2, 7, 8, 9, 12, 13, 14, 15, 40, 90)


class Problem:
    """Rows of many widths; ratings above, at and below 0; the last columns have no rating."""

    def __init__(self, rank: int, dtype=np.float64, ratings=None) -> None:
        rng = np.random.default_rng(rank)
        self.rows = np.repeat(np.arange(len(WIDTHS)), WIDTHS)
        self.columns = np.concatenate([rng.choice(90, n, replace=False) for n in WIDTHS])
        self.ratings = rng.integers(-2, 6, self.rows.size) / 2 if ratings is None else ratings
        # The second row's only rating is none above 0, the third's two are 0 and above.
        self.ratings[1:4] = -1.5, 0.0, 2.0
        self.fixed = rng.normal(size=(N_COLUMNS, rank)).astype(dtype)
        self.degrees = np.bincount(self.columns, minlength=N_COLUMNS)
        self.dtype = dtype

    def block(self, chosen=slice(None)) -> RatingBlock:
        return build_block(
            self.rows[chosen],
            self.columns[chosen],
            self.ratings[chosen],
            n_rows=len(WIDTHS),
            n_columns=N_COLUMNS,
            dtype=self.dtype,
        )

    def twin(self, reg: float, nu: float, alpha: float):
        start = np.zeros((len(WIDTHS), self.fixed.shape[1]))
        fixed = self.fixed.astype(np.float64)
        return reference.implicit_rows(
            self.rows, self.columns, self.ratings, fixed, start, reg, nu, alpha
        )

    def twin_loss(self, solved, reg: float, nu: float, alpha: float) -> float:
        fixed = self.fixed.astype(np.float64)
        whole = reference.implicit_objective(
            self.rows, self.columns, self.ratings, solved, fixed, reg, nu, alpha
        )
        liked = self.columns[self.ratings > 0]
        return whole - reference.ridge(liked, fixed, reg, nu)

    def solve(self, objective: Objective):
        block = self.block()
        rows, loss = objective.row_solver(self.fixed, self.degrees).solve(block, side="user")
        solved = np.empty_like(rows)
        solved[block.rows] = rows
        return solved, loss


def implicit(reg: float, nu: float, alpha: float, **more) -> Objective:
    return Objective(reg, nu, implicit=True, alpha=alpha, **more)


def assert_close(found, wanted, tolerance) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


class TestTwin:
    @pytest.mark.parametrize("rank", RANKS)
    @pytest.mark.parametrize(("reg", "nu", "alpha"), OBJECTIVES)
    def test_float64(self, rank, reg, nu, alpha):
        problem = Problem(rank)
        solved, loss = problem.solve(implicit(reg, nu, alpha))
        wanted = problem.twin(reg, nu, alpha)
        assert_close(solved, wanted, 1e-10)
        assert loss == pytest.approx(problem.twin_loss(wanted, reg, nu, alpha), rel=1e-10)
        assert (solved[1] == 0).all()

    @pytest.mark.parametrize("rank", RANKS)
    @pytest.mark.parametrize(("reg", "nu", "alpha"), OBJECTIVES)
    def test_float32(self, rank, reg, nu, alpha):
        problem = Problem(rank, np.float32)
        solved, loss = problem.solve(implicit(reg, nu, alpha))
        wanted = problem.twin(reg, nu, alpha)
        assert solved.dtype == np.float32
        assert_close(solved, wanted, 1e-4)
        assert loss == pytest.approx(problem.twin_loss(wanted, reg, nu, alpha), rel=1e-4)

    @pytest.mark.parametrize("rank", [3, 12])
    @pytest.mark.parametrize("places", [1, 4, 13, 50])
    def test_pieces_of_the_workspace(self, rank, places, monkeypatch):
        problem = Problem(rank)
        monkeypatch.setattr(kernels, "WORKSPACE_BYTES", places * (rank + 1) * 8)
        solved, loss = problem.solve(implicit(0.3, 1.0, 2.0))
        wanted = problem.twin(0.3, 1.0, 2.0)
        assert_close(solved, wanted, 1e-10)
        assert loss == pytest.approx(problem.twin_loss(wanted, 0.3, 1.0, 2.0), rel=1e-10)

    def test_each_rating_of_a_repeated_pair_counts(self):
        rows, columns = np.zeros(4, np.int32), np.array([0, 0, 1, 2])
        ratings, fixed = (
            np.array([2.0, 1.0, -1.0, 3.0]),
            np.random.default_rng(0).normal(size=(4, 2)),
        )
        block = build_block(rows, columns, ratings, n_rows=1, n_columns=4)
        degrees = np.array([2, 1, 1, 0])
        solved, _ = implicit(0.5, 1.0, 3.0).row_solver(fixed, degrees).solve(block, side="user")
        wanted = reference.implicit_row(columns, ratings, fixed, np.arange(3), 0.5, 1.0, 3.0)
        np.testing.assert_allclose(solved[0], wanted, rtol=1e-10)

    def test_a_rating_without_weight_still_tells_a_preference(self):
        # The weight of α |r| = 0, which is not quite 0, must not be seen.
        assert np.finfo(np.float64).eps ** 1.25 > LEAST_WEIGHT
        problem = Problem(3)
        zero, _ = problem.solve(implicit(0.1, 0.0, 0.0))
        tiny, _ = problem.solve(implicit(0.1, 0.0, 1e-30))
        np.testing.assert_array_equal(zero, tiny)


class TestProperties:
    def test_columns_without_a_rating_are_in_no_sum(self):
        problem, objective = Problem(5), implicit(0.3, 1.0, 2.0)
        wanted, _ = problem.solve(objective)
        problem.fixed[90:] = 1e6
        found, _ = problem.solve(objective)
        np.testing.assert_array_equal(found, wanted)
        problem.degrees[90:] = 1
        changed, _ = problem.solve(objective)
        assert np.abs(changed - wanted).max() > 1e-3

    def test_rows_are_solved_alone(self):
        # VᵀV apart, a row costs and knows only its own ratings.
        problem, objective = Problem(12), implicit(0.3, 1.0, 2.0)
        whole, loss = problem.solve(objective)
        solver = objective.row_solver(problem.fixed, problem.degrees)
        losses = 0.0
        for row in range(len(WIDTHS)):
            block = problem.block(problem.rows == row)
            alone, own = solver.solve(block, side="user")
            assert_close(alone[0], whole[row], 1e-11)
            losses += own
        assert losses == pytest.approx(loss, rel=1e-12)

    def test_the_solution_is_a_minimum(self):
        problem = Problem(5)
        solved, loss = problem.solve(implicit(0.5, 0.5, 2.0))
        rng = np.random.default_rng(4)
        for _ in range(5):
            moved = solved + 1e-3 * rng.standard_normal(solved.shape)
            moved[1] = 0
            assert problem.twin_loss(moved, 0.5, 0.5, 2.0) > loss

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_inputs_are_not_modified(self, dtype):
        problem = Problem(12, dtype)
        block = problem.block()
        for array in (problem.fixed, problem.degrees, block.indices, block.ratings, block.degrees):
            array.flags.writeable = False
        implicit(0.5, 1.0, 1.0).row_solver(problem.fixed, problem.degrees).solve(block, side="user")

    def test_no_rows(self):
        problem = Problem(3)
        block = problem.block(problem.rows < 0)
        solver = implicit(0.5, 1.0, 1.0).row_solver(problem.fixed, problem.degrees)
        factors, loss = solver.solve(block, side="user")
        assert (factors.shape, loss) == ((0, 3), 0.0)

    def test_degrees_are_needed(self):
        with pytest.raises(TypeError, match="needs the degrees of the fixed factors"):
            implicit(0.5, 1.0, 1.0).row_solver(np.ones((3, 2)))


class TestTrouble:
    def test_without_ridge(self):
        # VᵀV of a hundred columns is regular: no row needs a ridge.
        problem = Problem(5)
        solved, _ = problem.solve(implicit(0.0, 0.0, 2.0))
        assert_close(solved, problem.twin(0.0, 0.0, 2.0), 1e-9)

    def test_singular(self):
        problem = Problem(3)
        problem.fixed[:] = 0
        block = problem.block(problem.rows == 2)
        solver = implicit(0.0, 0.0, 2.0).row_solver(problem.fixed, problem.degrees)
        with pytest.raises(SolveError, match="user row 2 has no finite solution at lambda=0"):
            solver.solve(block, side="user")

    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_again_in_float64(self, nonnegative):
        # Every product of two factors is below what float32 has.
        problem = Problem(3, np.float32)
        problem.fixed = np.abs(problem.fixed) * np.float32(1e-25)
        assert not (problem.fixed.T @ problem.fixed).any()
        found, loss = problem.solve(implicit(0.0, 0.0, 2.0, nonnegative=nonnegative))
        problem.fixed = problem.fixed.astype(np.float64) * 1e25
        wanted, own = problem.solve(implicit(0.0, 0.0, 2.0, nonnegative=nonnegative))
        assert_close(found * np.float64(1e-25), wanted, 1e-4)
        assert loss == pytest.approx(own, rel=1e-4)


class TestSharedRows:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("rank", [1, 12])
    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_the_sum_of_the_parts_is_the_whole(self, rank, dtype, nonnegative):
        problem = Problem(rank, dtype)
        objective = implicit(0.5, 1.0, 2.0, nonnegative=nonnegative)
        whole, loss = problem.solve(objective)
        parts = []
        for part in range(3):
            block = problem.block(problem.columns % 3 == part)
            # Each in a process of its own, whose eigenvectors may have other signs.
            solver = objective.row_solver(problem.fixed, problem.degrees)
            if part == 1 and not nonnegative:
                solver = flipped(solver)
            parts.append((block.rows, solver.accumulate(block)))
        rows, sums = add_sums(parts)
        positives = np.bincount(problem.rows[problem.ratings > 0], minlength=len(WIDTHS))
        solver = objective.row_solver(problem.fixed, problem.degrees)
        found, found_loss = solver.solve_sums(sums, rows, positives[rows], side="user")
        tolerance = 1e-9 if dtype == np.float64 else 1e-3
        assert found.dtype == dtype
        assert_close(found, whole, tolerance)
        assert found_loss == pytest.approx(loss, rel=tolerance)


def flipped(solver):
    equations = solver._equations
    equations._vectors = -equations._vectors
    equations.padded = equations.padded.copy()
    equations.padded[:, 1:] *= -1
    return solver


def test_gram_is_summed_in_float64(monkeypatch):
    monkeypatch.setattr("als_spark.solve.implicit.SLICE_ROWS", 7)
    factors = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    degrees = np.arange(50) % 3
    known = factors[degrees > 0].astype(np.float64)
    np.testing.assert_allclose(gram_of_all(factors, degrees), known.T @ known, rtol=1e-14)


def test_the_solver_travels_with_its_factors_once():
    problem = Problem(3)
    solver = implicit(0.3, 0.5, 2.0).row_solver(problem.fixed, problem.degrees)
    data = pickle.dumps(solver)
    assert len(data) < (N_COLUMNS + 1) * 4 * 8 + 1500
    there = pickle.loads(data).solve(problem.block(), side="user")
    np.testing.assert_array_equal(there[0], solver.solve(problem.block(), side="user")[0])
