"""The kernels against their slow twins, against least squares, and by what must always hold."""

from __future__ import annotations

import pickle
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from als_spark.errors import SolveError
from als_spark.solve import gram as kernels
from als_spark.solve import rows as row_solvers
from als_spark.solve.blocks import EXACT_WIDTH, RatingBlock, build_block
from als_spark.solve.gram import Products
from als_spark.solve.linalg import VECTORISED_ORDER, solve_spd_stack
from als_spark.solve.objective import Objective
from als_spark.solve.rows import sum_errors
from als_spark.solve.solver import RowSums, add_sums
from als_spark.types import Side
from tests import reference
from tests.conftest import random_triples

# One side and the other of every threshold: a width is exact or padded, a system is primal or dual
# (by the rank), and is solved across rows or singly (by its order).
RANKS = (1, 2, VECTORISED_ORDER, VECTORISED_ORDER + 1, 14)
WIDTHS = sorted({1, 2, *range(EXACT_WIDTH - 1, VECTORISED_ORDER + 3), 13, 14, 15, 40, 90})
OBJECTIVES = [(0.7, 0.0), (0.3, 0.5), (0.2, 1.0)]


def solve_block(
    block: RatingBlock, fixed: npt.NDArray[np.floating], objective: Objective, side: Side = "user"
) -> tuple[npt.NDArray[np.floating], float]:
    return objective.row_solver(fixed).solve(block, side=side)


class Problem(NamedTuple):
    """One half-step, as triples and as a block."""

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    ratings: npt.NDArray[np.float64]
    fixed: npt.NDArray[np.floating]
    block: RatingBlock

    @property
    def n_rows(self) -> int:
        return int(self.rows.max()) + 1

    def twin(self, reg: float, nu: float) -> npt.NDArray[np.float64]:
        start = np.zeros((self.n_rows, self.fixed.shape[1]))
        fixed = self.fixed.astype(np.float64)
        return reference.solve_rows(self.rows, self.columns, self.ratings, fixed, start, reg, nu)

    def twin_loss(self, solved: npt.NDArray[np.float64], reg: float, nu: float) -> float:
        fixed = self.fixed.astype(np.float64)
        squared, _ = reference.errors(self.rows, self.columns, self.ratings, solved, fixed)
        return squared * self.rows.size + reference.ridge(self.rows, solved, reg, nu)


def problem_of_degrees(
    degrees: list[int],
    rank: int,
    *,
    dtype: npt.DTypeLike = np.float64,
    seed: int = 0,
    repeated: bool = False,
) -> Problem:
    rng = np.random.default_rng(seed)
    n_columns = max(degrees) + 5
    rows = np.repeat(np.arange(len(degrees)), degrees)
    columns = np.concatenate([rng.choice(n_columns, n, replace=repeated) for n in degrees])
    ratings = rng.integers(1, 11, rows.size) / 2
    fixed = rng.standard_normal((n_columns, rank)).astype(dtype)
    block = build_block(
        rows, columns, ratings, n_rows=len(degrees), n_columns=n_columns, dtype=dtype
    )
    return Problem(rows, columns, ratings, fixed, block)


def every_width(rank: int, dtype: npt.DTypeLike = np.float64) -> Problem:
    """Three rows of each width, those around the rank among them, in a shuffled order."""
    widths = {*WIDTHS, max(rank - 1, 1), rank, rank + 1}
    degrees = np.random.default_rng(3).permutation(np.repeat(sorted(widths), 3))
    return problem_of_degrees(degrees.tolist(), rank, dtype=dtype, seed=rank)


def solve_dense(problem: Problem, reg: float, nu: float) -> tuple[npt.NDArray[np.floating], float]:
    """Solve the block and put its rows at their places."""
    solved, loss = solve_block(problem.block, problem.fixed, Objective(reg, nu))
    dense = np.zeros((problem.n_rows, problem.fixed.shape[1]), solved.dtype)
    dense[problem.block.rows] = solved
    return dense, loss


def assert_rows_close(actual, expected, tolerance: float) -> None:
    """Compare row by row, relative to the row's largest factor."""
    scale = np.abs(expected).max(axis=1, keepdims=True)
    worst = float((np.abs(actual - expected) / scale).max())
    assert worst <= tolerance, f"differs by {worst:.2e}"


class TestSolveBlock:
    @pytest.mark.parametrize("rank", RANKS)
    @pytest.mark.parametrize(("reg", "nu"), OBJECTIVES)
    def test_twin(self, rank, reg, nu):
        problem = every_width(rank)
        solved, loss = solve_dense(problem, reg, nu)
        expected = problem.twin(reg, nu)
        assert_rows_close(solved, expected, 1e-10)
        assert loss == pytest.approx(problem.twin_loss(expected, reg, nu), rel=1e-10)

    @pytest.mark.parametrize("width", [2, 8, 9, 10, 11, 12, 14, 30])
    @pytest.mark.parametrize("form", ["dual", "square", "primal"])
    def test_twin_of_a_single_width(self, width, form):
        # One bucket alone: nothing that another bucket left in the workspace can help.
        rank = {"dual": width + 1, "square": width, "primal": width - 1}[form]
        problem = problem_of_degrees([width] * 4, rank)
        solved, loss = solve_dense(problem, 0.4, 1.0)
        expected = problem.twin(0.4, 1.0)
        assert_rows_close(solved, expected, 1e-10)
        assert loss == pytest.approx(problem.twin_loss(expected, 0.4, 1.0), rel=1e-10)

    @pytest.mark.parametrize("rank", [2, 14])
    def test_each_rating_of_a_repeated_pair_counts(self, rank):
        problem = problem_of_degrees([2, 9, 13, 15, 40, 5000], rank, repeated=True)
        pairs = {*zip(problem.rows.tolist(), problem.columns.tolist(), strict=True)}
        assert len(pairs) < 0.7 * problem.rows.size
        solved, loss = solve_dense(problem, 0.4, 1.0)
        expected = problem.twin(0.4, 1.0)
        assert_rows_close(solved, expected, 1e-10)
        assert loss == pytest.approx(problem.twin_loss(expected, 0.4, 1.0), rel=1e-10)
        assert problem.block.degrees.tolist() == [2, 9, 13, 15, 40, 5000]

    @pytest.mark.parametrize("rank", RANKS)
    @pytest.mark.parametrize(("reg", "nu"), OBJECTIVES)
    def test_least_squares(self, rank, reg, nu):
        problem = every_width(rank)
        solved, _ = solve_dense(problem, reg, nu)
        for row in range(problem.n_rows):
            rated = problem.rows == row
            known = problem.fixed[problem.columns[rated]]
            weight = reg * np.count_nonzero(rated) ** nu
            expected = reference.least_squares_row(known, problem.ratings[rated], weight)
            np.testing.assert_allclose(solved[row], expected, rtol=0, atol=1e-8)

    @pytest.mark.parametrize("rank", RANKS)
    @pytest.mark.parametrize(("reg", "nu"), OBJECTIVES)
    def test_float32(self, rank, reg, nu):
        problem = every_width(rank, np.float32)
        solved, loss = solve_dense(problem, reg, nu)
        expected = problem.twin(reg, nu)
        assert solved.dtype == np.float32
        assert_rows_close(solved, expected, 1e-4)
        assert loss == pytest.approx(problem.twin_loss(expected, reg, nu), rel=1e-4)

    @pytest.mark.parametrize("rank", [1, 3, 12])
    def test_without_ridge(self, rank):
        # λ = 0 is plain least squares where every row has enough ratings.
        problem = problem_of_degrees([rank, rank + 1, rank + 2, 40], rank)
        solved, _ = solve_dense(problem, 0.0, 0.0)
        for row in range(4):
            rated = problem.rows == row
            expected, *_ = np.linalg.lstsq(
                problem.fixed[problem.columns[rated]], problem.ratings[rated], rcond=None
            )
            np.testing.assert_allclose(solved[row], expected, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("rank", [3, 12])
    @pytest.mark.parametrize("places", [1, 4, 13, 50])
    def test_rows_longer_than_the_workspace(self, rank, places, monkeypatch):
        problem = every_width(rank)
        whole, whole_loss = solve_dense(problem, 0.5, 1.0)
        pieces = []
        real = kernels.accumulate
        monkeypatch.setattr(
            row_solvers, "accumulate", lambda *args: pieces.append(1) or real(*args)
        )
        monkeypatch.setattr(kernels, "WORKSPACE_BYTES", places * (rank + 1) * 8)
        solved, loss = solve_dense(problem, 0.5, 1.0)
        longer = sum(n > places and n >= rank for n in problem.block.degrees.tolist())
        assert len(pieces) == longer > 0
        assert_rows_close(solved, problem.twin(0.5, 1.0), 1e-10)
        assert_rows_close(solved, whole, 1e-12)
        assert loss == pytest.approx(whole_loss, rel=1e-12)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize(
        ("panel", "piece", "symmetric_from"),
        [(34, 1e6, 1000), (34, 2000, 1000), (5, 1e6, 1000), (5, 7, 1000), (2, 1, 30), (1, 1, 0)],
        ids=["one product", "pieces", "panels", "ratings alone", "panels and syrk", "syrk"],
    )
    def test_every_way_to_multiply(self, panel, piece, symmetric_from, dtype, monkeypatch):
        products = Products(panel, piece, lambda width, *_: width >= symmetric_from)
        monkeypatch.setattr(kernels, "products_of_blas", lambda: products)
        monkeypatch.setattr(kernels, "SMALL_DUAL_PRODUCT", piece)
        problem = every_width(12, dtype)
        solved, loss = solve_dense(problem, 0.5, 1.0)
        expected = problem.twin(0.5, 1.0)
        tolerance = 1e-10 if dtype == np.float64 else 1e-4
        assert_rows_close(solved, expected, tolerance)
        assert loss == pytest.approx(problem.twin_loss(expected, 0.5, 1.0), rel=tolerance)

    def test_workspace_smaller_than_one_row_of_factors(self, monkeypatch):
        problem = every_width(3)
        monkeypatch.setattr(kernels, "WORKSPACE_BYTES", 1)
        assert_rows_close(solve_dense(problem, 0.5, 0.0)[0], problem.twin(0.5, 0.0), 1e-10)

    @pytest.mark.parametrize("rank", [2, 12])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_inputs_are_not_modified(self, rank, dtype, monkeypatch):
        problem = every_width(rank, dtype)
        block = problem.block
        arrays = [problem.fixed, block.rows, block.degrees, block.indices, block.ratings]
        arrays += [block.bucket_rows, block.bucket_widths]
        for array in arrays:
            array.flags.writeable = False
        solve_block(block, problem.fixed, Objective(0.5, 1.0))
        monkeypatch.setattr(kernels, "WORKSPACE_BYTES", 64)
        solve_block(block, problem.fixed, Objective(0.5, 1.0))
        row_factors = np.ones((problem.n_rows, rank), dtype)
        row_factors.flags.writeable = False
        sum_errors(block, row_factors, problem.fixed)

    def test_computes_in_the_dtype_of_the_fixed_factors(self):
        problem = every_width(12)
        narrow = problem._replace(fixed=problem.fixed.astype(np.float32))
        solved, _ = solve_dense(narrow, 0.5, 0.0)
        assert solved.dtype == np.float32
        assert_rows_close(solved, narrow.twin(0.5, 0.0), 1e-4)

    def test_no_rows(self):
        empty = np.zeros(0, np.int32)
        block = build_block(empty, empty, np.zeros(0), n_rows=3, n_columns=4)
        factors, loss = solve_block(block, np.ones((4, 2)), Objective(1.0))
        assert factors.shape == (0, 2)
        assert loss == 0.0


class TestProperties:
    """What holds for every exact ridge solution, whatever computes it."""

    @pytest.fixture(params=[3, 12], ids=["rank3", "rank12"])
    def problem(self, request) -> Problem:
        return every_width(request.param)

    def rebuilt(self, problem: Problem, **changed) -> Problem:
        new = problem._replace(**changed)
        block = build_block(
            new.rows,
            new.columns,
            new.ratings,
            n_rows=problem.n_rows,
            n_columns=problem.fixed.shape[0],
        )
        return new._replace(block=block)

    def test_row_permutation(self, problem):
        permutation = np.random.default_rng(0).permutation(problem.n_rows)
        permuted = self.rebuilt(problem, rows=permutation[problem.rows])
        solved, loss = solve_dense(problem, 0.5, 1.0)
        other, other_loss = solve_dense(permuted, 0.5, 1.0)
        assert_rows_close(other[permutation], solved, 1e-12)
        assert other_loss == pytest.approx(loss, rel=1e-12)

    def test_column_permutation(self, problem):
        permutation = np.random.default_rng(0).permutation(problem.fixed.shape[0])
        fixed = np.empty_like(problem.fixed)
        fixed[permutation] = problem.fixed
        permuted = self.rebuilt(problem, columns=permutation[problem.columns], fixed=fixed)
        solved, loss = solve_dense(problem, 0.5, 1.0)
        other, other_loss = solve_dense(permuted, 0.5, 1.0)
        assert_rows_close(other, solved, 1e-11)
        assert other_loss == pytest.approx(loss, rel=1e-11)

    def test_linear_in_the_ratings(self, problem):
        other_ratings = np.random.default_rng(1).standard_normal(problem.ratings.size)
        other = self.rebuilt(problem, ratings=other_ratings)
        mixed = self.rebuilt(problem, ratings=2.5 * problem.ratings - 3.0 * other_ratings)
        expected = 2.5 * solve_dense(problem, 0.5, 0.0)[0] - 3.0 * solve_dense(other, 0.5, 0.0)[0]
        assert_rows_close(solve_dense(mixed, 0.5, 0.0)[0], expected, 1e-10)

    def test_rotation_of_the_fixed_factors_rotates_the_solution(self, problem):
        rank = problem.fixed.shape[1]
        rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((rank, rank)))
        rotated = problem._replace(fixed=problem.fixed @ rotation)
        solved, loss = solve_dense(problem, 0.5, 0.0)
        other, other_loss = solve_dense(rotated, 0.5, 0.0)
        assert_rows_close(other, solved @ rotation, 1e-10)
        assert other_loss == pytest.approx(loss, rel=1e-10)

    def test_large_lambda_leaves_the_gradient_over_lambda(self, problem):
        reg = 1e12
        solved, loss = solve_dense(problem, reg, 0.0)
        gradient = np.zeros_like(solved)
        np.add.at(gradient, problem.rows, problem.ratings[:, None] * problem.fixed[problem.columns])
        assert_rows_close(solved * reg, gradient, 1e-8)
        assert np.abs(solved).max() < 1e-9
        assert loss == pytest.approx(float(problem.ratings @ problem.ratings), rel=1e-8)

    def test_exponent_one_is_the_plain_ridge_times_the_count(self, problem):
        degrees = np.bincount(problem.rows)
        weighted, _ = solve_dense(problem, 0.3, 1.0)
        for n in (1, 9, 14, 40):
            plain, _ = solve_dense(problem, 0.3 * n, 0.0)
            assert_rows_close(weighted[degrees == n], plain[degrees == n], 1e-11)

    def test_rows_of_one_rating(self):
        problem = problem_of_degrees([1] * 6, 4)
        solved, loss = solve_dense(problem, 0.5, 1.0)
        known = problem.fixed[problem.columns]
        squares = (known * known).sum(axis=1)
        by_hand = known * (problem.ratings / (squares + 0.5))[:, None]
        np.testing.assert_allclose(solved, by_hand, rtol=1e-12)
        assert loss == pytest.approx(
            float((problem.ratings**2 * 0.5 / (squares + 0.5)).sum()), rel=1e-12
        )

    def test_the_solution_is_a_minimum(self, problem):
        solved, loss = solve_dense(problem, 0.5, 0.5)
        rng = np.random.default_rng(4)
        for _ in range(5):
            moved = solved + 1e-3 * rng.standard_normal(solved.shape)
            assert problem.twin_loss(moved, 0.5, 0.5) > loss


def one_row(fixed: npt.NDArray[np.floating], ratings: list[float]) -> RatingBlock:
    """A block whose one row, of index 3, has rated every column."""
    n = len(ratings)
    return build_block(
        np.full(n, 3),
        np.arange(n),
        np.array(ratings),
        n_rows=5,
        n_columns=n,
        dtype=fixed.dtype,
    )


# Every product of two entries fits the 24 bits of a float32, no entry of VᵀV does: the diagonal is
# rounded down by 1 and the rest up by 1, and 998² / 21256001 − 4 < 0 is left as the second pivot.
NEARLY_PARALLEL = np.array([[3001, 3003], [3500, 3502]], np.float32)


class TestRetryInFloat64:
    """Systems that float32 cannot solve and float64 can."""

    def test_rounding_makes_the_gram_matrix_indefinite(self):
        fixed = NEARLY_PARALLEL
        rhs = fixed[:1].copy()
        solve_spd_stack((fixed.T @ fixed)[None], rhs)
        assert np.isnan(rhs).any()
        solved, loss = solve_block(one_row(fixed, [3.0, 1.0]), fixed, Objective(0.0, 0.0))
        by_cramer = [(3502 * 3 - 3003 * 1) / -998, (3001 * 1 - 3500 * 3) / -998]
        assert solved.dtype == np.float32
        np.testing.assert_allclose(solved[0], by_cramer, rtol=1e-4)
        assert loss == pytest.approx(0.0, abs=1e-4)

    @pytest.mark.parametrize("rank", [2, VECTORISED_ORDER + 2])
    def test_the_gram_matrix_underflows(self, rank):
        base = np.random.default_rng(0).standard_normal((rank + 3, rank))
        fixed = (base * 1e-25).astype(np.float32)
        assert not (fixed.T @ fixed).any()
        ratings = [float(k) for k in range(1, rank + 4)]
        solved, loss = solve_block(one_row(fixed, ratings), fixed, Objective(0.0, 0.0))
        expected, residual, *_ = np.linalg.lstsq(fixed.astype(np.float64) * 1e25, ratings)
        np.testing.assert_allclose(solved[0] * np.float64(1e-25), expected, rtol=1e-4, atol=1e-4)
        assert loss == pytest.approx(float(residual[0]), rel=1e-4)

    @pytest.mark.parametrize("form", ["dual", "primal", "sums"])
    @pytest.mark.parametrize("nonnegative", [False, True])
    @pytest.mark.parametrize("scale", [1e15, 1e19])
    def test_the_gram_matrix_overflows(self, form, nonnegative, scale):
        # Warnings are errors: inf - inf of sums beyond float32 is no news where it is mended.
        rng = np.random.default_rng(0)
        rank, n_rated = 4, 2 if form == "dual" else 9
        fixed = (rng.standard_normal((n_rated, rank)) * scale).astype(np.float32)
        ratings = rng.uniform(1, 5, n_rated)
        block = build_block(
            np.zeros(n_rated, int), np.arange(n_rated), ratings, n_rows=1, n_columns=n_rated
        )
        # As large beside the products as 0.1 is beside factors of usual size.
        objective = Objective(0.1 * scale * scale, nonnegative=nonnegative)

        def solve(factors):
            solver = objective.row_solver(factors)
            if form != "sums":
                return solver.solve(block, side="user")
            sums = solver.accumulate(block)
            return solver.solve_sums(sums, block.rows, block.degrees, side="user")

        solved, loss = solve(fixed)
        exact, exact_loss = solve(fixed.astype(np.float64))
        assert solved.dtype == np.float32
        np.testing.assert_allclose(solved * scale, exact * scale, rtol=1e-4, atol=1e-5)
        assert loss == pytest.approx(exact_loss, rel=1e-5)
        assert np.abs(exact * scale).max() > 0.1

    def test_only_the_failing_row_is_solved_again(self):
        fixed = np.random.default_rng(0).standard_normal((40, 2)).astype(np.float32)
        fixed[:2] = NEARLY_PARALLEL
        # Row 1 fails; it shares its bucket with row 0, and row 2 is in the next.
        rows = np.array([0, 0, 1, 1, 2, 2, 2, 2, 2])
        columns = np.array([6, 7, 0, 1, 5, 6, 7, 8, 9])
        ratings = np.array([4.0, 5.0, 3.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0])
        sizes = {"n_rows": 3, "n_columns": 40, "dtype": np.float32}
        block = build_block(rows, columns, ratings, **sizes)
        healthy = rows != 1
        alone = build_block(rows[healthy], columns[healthy], ratings[healthy], **sizes)
        solved, loss = solve_block(block, fixed, Objective(1e-3, 0.0))
        without, loss_without = solve_block(alone, fixed, Objective(1e-3, 0.0))
        assert (block.rows.tolist(), alone.rows.tolist()) == ([0, 1, 2], [0, 2])
        np.testing.assert_array_equal(solved[[0, 2]], without)
        expected = reference.least_squares_row(
            NEARLY_PARALLEL.astype(np.float64), ratings[2:4], 1e-3
        )
        np.testing.assert_allclose(solved[1], expected, rtol=1e-4)
        errors = ratings[2:4] - NEARLY_PARALLEL @ expected
        own = float(errors @ errors) + 1e-3 * float(expected @ expected)
        assert own > 0.1
        assert loss - loss_without == pytest.approx(own, rel=1e-4)


class TestSolveError:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("rank", [2, VECTORISED_ORDER + 2])
    def test_singular_without_ridge(self, rank, dtype):
        fixed = np.random.default_rng(0).standard_normal((rank + 4, rank)).astype(dtype)
        fixed[:, -1] = 0
        block = one_row(fixed, [1.0] * (rank + 4))
        with pytest.raises(SolveError, match=r"item row 3 has no finite solution at lambda=0:"):
            solve_block(block, fixed, Objective(0.0, 0.0), side="item")

    def test_too_few_ratings_without_ridge(self):
        fixed = np.array([[1.0, 1.0]])
        with pytest.raises(SolveError, match=r"user row 3 .* lambda=0: use a larger") as info:
            solve_block(one_row(fixed, [1.0]), fixed, Objective(0.0, 1.0))
        assert (info.value.side, info.value.row, info.value.reg) == ("user", 3, 0.0)

    def test_a_ridge_makes_it_solvable(self):
        fixed = np.array([[1.0, 1.0]])
        solved, _ = solve_block(one_row(fixed, [1.0]), fixed, Objective(0.5, 1.0))
        np.testing.assert_allclose(solved, [[0.4, 0.4]], rtol=1e-12)

    def test_solution_beyond_float32(self):
        # 1e10 / 1e-30 is a float64, and infinite as a float32.
        fixed = np.array([[1e-30]], np.float32)
        with pytest.raises(SolveError, match="no finite solution"):
            solve_block(one_row(fixed, [1e10]), fixed, Objective(0.0, 0.0))

    @pytest.mark.parametrize("reg", [0.0, 2.5])
    @pytest.mark.parametrize("rank", [1, VECTORISED_ORDER + 2])
    def test_ratings_that_are_not_finite(self, rank, reg):
        fixed = np.random.default_rng(0).standard_normal((14, rank))
        block = one_row(fixed, [1.0] * 13 + [np.nan])
        with pytest.raises(SolveError, match=f"lambda={reg:g}"):
            solve_block(block, fixed, Objective(reg, 0.0))


class TestSharedRows:
    """Rows whose ratings are in several blocks: the sums of the parts solve them."""

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("rank", [1, 3, 12])
    @pytest.mark.parametrize("n_parts", [1, 3])
    def test_the_sum_of_the_parts_is_the_whole(self, rank, n_parts, dtype, monkeypatch):
        problem = every_width(rank, dtype)
        solved, loss = solve_dense(problem, 0.5, 1.0)
        monkeypatch.setattr(kernels, "WORKSPACE_BYTES", 20 * (rank + 1) * 8)
        solver = Objective(0.5, exponent=1.0).row_solver(problem.fixed)
        parts = []
        for part in range(n_parts):
            own = problem.columns % n_parts == part
            block = build_block(
                *(array[own] for array in problem[:3]),
                n_rows=problem.n_rows,
                n_columns=problem.fixed.shape[0],
                dtype=dtype,
            )
            parts.append((block.rows, solver.accumulate(block)))
        rows, sums = add_sums(parts)
        assert rows.tolist() == list(range(problem.n_rows))
        degrees = np.bincount(problem.rows)
        factors, shared_loss = solver.solve_sums(sums, rows, degrees, side="user")
        assert factors.dtype == dtype
        tolerance = 1e-10 if dtype == np.float64 else 1e-3
        assert_rows_close(factors, solved, tolerance)
        assert shared_loss == pytest.approx(loss, rel=tolerance)

    def test_rows_of_some_blocks_only(self):
        solver = Objective(1.0).row_solver(np.ones((4, 1)))
        ones = np.ones((2, 2, 1)), np.ones(2)
        parts = [(np.array([7, 2]), RowSums(*ones)), (np.array([9, 7]), RowSums(*ones))]
        rows, sums = add_sums(parts)
        assert (rows.tolist(), sums.squares.tolist()) == ([2, 7, 9], [1, 2, 1])
        # (1 + 1) u = 1 and (2 + 1) u = 2.
        factors, loss = solver.solve_sums(sums, rows, np.ones(3, np.int32), side="user")
        np.testing.assert_allclose(factors[:, 0], [1 / 2, 2 / 3, 1 / 2])
        assert loss == pytest.approx(1 / 2 + 2 / 3 + 1 / 2)

    def test_no_solution(self):
        solver = Objective(0.0).row_solver(np.zeros((4, 2), np.float32))
        sums = RowSums(np.stack([np.eye(3, 2, k=-1), np.zeros((3, 2))]), np.ones(2))
        with pytest.raises(SolveError, match="item row 8 has no finite solution at lambda=0"):
            solver.solve_sums(sums, np.array([5, 8]), np.ones(2, np.int32), side="item")


def test_the_solver_travels_to_executors_with_its_factors_once():
    fixed = np.random.default_rng(0).random((500, 3))
    solver = Objective(0.3, exponent=0.5).row_solver(fixed)
    data = pickle.dumps(solver)
    assert len(data) < 501 * 4 * 8 + 500
    block = one_row(fixed[:6], [1.0, 2.0, 3.0, 4.0, 5.0, 3.0])
    there = pickle.loads(data).solve(block, side="user")
    np.testing.assert_array_equal(there[0], solver.solve(block, side="user")[0])


class TestSumErrors:
    @pytest.mark.parametrize("rank", [1, 7])
    def test_twin(self, rank):
        users, items, ratings, n_users, n_items = random_triples(50, 60, 900)
        rng = np.random.default_rng(0)
        user_factors = rng.standard_normal((n_users, rank))
        item_factors = rng.standard_normal((n_items, rank))
        block = build_block(users, items, ratings, n_rows=n_users, n_columns=n_items)
        assert block.indices.size > block.n_ratings  # padding, which must add nothing
        squared, absolute = reference.errors(users, items, ratings, user_factors, item_factors)
        n = users.size
        found = sum_errors(block, user_factors, item_factors)
        assert found == pytest.approx((squared * n, absolute * n), rel=1e-10)

    def test_in_pieces_of_the_workspace(self, monkeypatch):
        problem = every_width(3)
        row_factors = np.random.default_rng(0).standard_normal((problem.n_rows, 3))
        whole = sum_errors(problem.block, row_factors, problem.fixed)
        for workspace in (1, 2 * 3 * 8, 20 * 3 * 8):
            monkeypatch.setattr(kernels, "WORKSPACE_BYTES", workspace)
            found = sum_errors(problem.block, row_factors, problem.fixed)
            assert found == pytest.approx(whole, rel=1e-12)

    def test_float32_factors_are_summed_in_float64(self):
        # Errors of 4096 and 1: added up in float32, the small one's square would be lost.
        rows, columns = np.zeros(2, np.int32), np.arange(2)
        block = build_block(
            rows, columns, np.array([4097.0, 2.0]), n_rows=1, n_columns=2, dtype=np.float32
        )
        ones = np.ones((2, 1), np.float32)
        assert sum_errors(block, ones[:1], ones) == (4096.0**2 + 1, 4097.0)

    def test_no_ratings(self):
        empty = np.zeros(0, np.int32)
        block = build_block(empty, empty, np.zeros(0), n_rows=3, n_columns=4)
        assert sum_errors(block, np.ones((3, 2)), np.ones((4, 2))) == (0.0, 0.0)
