"""The exact ridge solver of the rows of a block, and error sums.

With V the fixed factors, Ω the columns a row has rated (n of them), r its ratings and w = λ n^ν its
ridge weight, the row's exact solution is either of

    primal   (VᵀV + w I) u = Vᵀ r               d x d, V the (n, d) rows of the fixed factors in Ω
    dual     (V Vᵀ + w I) y = r,   u = Vᵀ y     n x n, the cheaper form where n < d

and the row's part of the objective, ridge term included, comes free: r·r − u·Vᵀr (primal), w r·y
(dual). For the primal form the rows of a *run* of neighbouring buckets are gathered at once.

Where ratings have weights, rows of V and ratings stand multiplied by the square roots of theirs, in
both forms.

The kernels modify no input, log nothing and know no configuration. They compute in the dtype of the
fixed factors (float32 or float64); sums over ratings are accumulated in float64.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
from scipy.linalg import lapack

from als_spark.errors import SolveError
from als_spark.solve.blocks import RatingBlock, cut_runs
from als_spark.solve.gram import (
    accumulate,
    add_to_diagonals,
    gather,
    make_workspace,
    multiply,
    multiply_dual,
    pad_factors,
    weigh,
    workspace_places,
)
from als_spark.solve.linalg import row_dots, solve_spd_stack
from als_spark.solve.solver import Penalty, RowSums
from als_spark.types import FloatArray, IntArray, Side


class RidgeSolver:
    """Solves every row exactly: see :class:`als_spark.solve.solver.RowSolver`.

    Parameters
    ----------
    penalty : Penalty
        The objective: a row of n ratings has the ridge λ n^ν.
    fixed : (n_columns, rank) float32 or float64
        Factors of the other side.
    """

    def __init__(self, penalty: Penalty, fixed: FloatArray) -> None:
        self._penalty = penalty
        self._padded = pad_factors(fixed)

    def solve(self, block: RatingBlock, *, side: Side) -> tuple[FloatArray, float]:
        """Solve every row of a block."""
        reg = self._penalty.reg
        if reg == 0 and block.n_rows and block.degrees[0] < self._padded.shape[1] - 1:
            # Singular for certain, but rounding lets some of them through with arbitrary solutions.
            raise SolveError(side, int(block.rows[0]), reg)
        solver = _BlockSolver(block, self._padded, self._penalty)
        solver.solve_dual_rows()
        solver.solve_primal_rows()
        solver.retry_in_float64(side)
        return solver.factors, solver.loss

    def accumulate(self, block: RatingBlock) -> RowSums:
        """Sum the normal equations of rows whose other ratings are in other blocks."""
        padded = self._padded
        rank = padded.shape[1] - 1
        workspace = make_workspace(padded)
        sums = RowSums(np.empty((block.n_rows, rank + 1, rank)), np.empty(block.n_rows))
        for start, indices, ratings, weights in block.buckets():
            for k in range(indices.shape[0]):
                own = None if weights is None else weights[k]
                sums.stacks[start + k] = accumulate(
                    indices[k], ratings[k], padded, workspace, padded.dtype, own
                )
                sums.squares[start + k] = sum_squares(ratings[k], own)
        return sums

    def solve_sums(
        self, sums: RowSums, rows: IntArray, degrees: IntArray, *, side: Side
    ) -> tuple[FloatArray, float]:
        """Solve rows whose normal equations have been summed over all blocks."""
        rank = sums.stacks.shape[2]
        gram, rhs = sums.stacks[:, :rank].copy(), sums.stacks[:, rank]
        add_to_diagonals(gram, self._penalty.weights(degrees))
        solution = rhs.copy()
        solve_spd_stack(gram, solution)
        with np.errstate(over="ignore"):
            factors = solution.astype(self._padded.dtype)
        bad = np.flatnonzero(~np.isfinite(factors).all(axis=1))
        if bad.size:
            raise SolveError(side, int(rows[bad[0]]), self._penalty.reg)
        losses = sums.squares - row_dots(solution, rhs)
        return factors, float(losses.sum())


def sum_squares(ratings: FloatArray, weights: FloatArray | None) -> float:
    """r·r, or Σ w r² of weighted ratings, in float64."""
    exact = ratings.astype(np.float64, copy=False)
    return float(exact @ (exact if weights is None else exact * weights))


def sum_errors(
    block: RatingBlock, row_factors: FloatArray, column_factors: FloatArray
) -> tuple[float, float]:
    """Sum the squared and the absolute errors of the predictions of a block's ratings.

    Parameters
    ----------
    block : RatingBlock
        Ratings to predict.
    row_factors : (n_rows_of_the_side, rank)
        Factors of the side of the block's rows, of all its rows.
    column_factors : (n_columns, rank)
        Factors of the other side.

    Returns
    -------
    squared, absolute : float
        Sums over the ratings, each counting once whatever its weight, accumulated in float64.
    """
    rank = column_factors.shape[1]
    dtype = column_factors.dtype
    padded = np.concatenate([column_factors, np.zeros((1, rank), dtype)])
    places = workspace_places(rank, dtype.itemsize)
    squared = absolute = 0.0
    for start, indices, ratings, _ in block.buckets():
        n_rows, width = indices.shape
        step = max(places // width, 1)
        for first in range(0, n_rows, step):
            part = slice(first, min(first + step, n_rows))
            rows = row_factors[block.rows[start + part.start : start + part.stop]]
            known = padded[indices[part]]
            predicted = np.matmul(known, rows[:, :, None])[:, :, 0]
            errors = (ratings[part] - predicted).astype(np.float64).reshape(-1)
            squared += float(errors @ errors)
            absolute += float(np.abs(errors).sum())
    return squared, absolute


class _BlockSolver:
    """One half-step of one block: its inputs, its workspace, and what has been solved so far."""

    def __init__(self, block: RatingBlock, padded: FloatArray, penalty: Penalty) -> None:
        self._rank = padded.shape[1] - 1
        self._block = block
        self._reg = penalty.reg
        self._dtype = padded.dtype
        self._padded = padded
        self._weights = penalty.weights(block.degrees)
        # Rows of rising width: those in the dual form come first.
        self._n_dual = int(np.searchsorted(block.bucket_widths, self._rank)) if self._reg > 0 else 0
        self._workspace = make_workspace(padded)
        self._max_places = self._workspace.shape[0]
        self._losses = np.empty(block.n_rows)
        self._squares = 0.0
        self.factors = np.empty((block.n_rows, self._rank), self._dtype)

    @property
    def loss(self) -> float:
        """The block's part of the objective."""
        return float(self._losses.sum()) + self._squares

    def solve_dual_rows(self) -> None:
        """Solve the rows with fewer ratings than the rank."""
        for start, indices, ratings, weights in islice(self._block.buckets(), self._n_dual):
            n_rows, width = indices.shape
            step = max(self._max_places // width, 1)
            for first in range(0, n_rows, step):
                part = slice(first, min(first + step, n_rows))
                gathered = self._gather(indices[part].reshape(-1))
                values = ratings[part].astype(self._dtype)
                if weights is not None:
                    weigh(gathered, weights[part].reshape(-1))
                    weigh(values.reshape(-1, 1), weights[part].reshape(-1))
                self._solve_dual(
                    gathered[:, : self._rank].reshape(-1, width, self._rank),
                    values,
                    slice(start + part.start, start + part.stop),
                )

    def solve_primal_rows(self) -> None:
        """Solve all other rows, a run at a time."""
        block, rank = self._block, self._rank
        for run in cut_runs(block, self._n_dual, self._max_places):
            indices, ratings = block.indices[run.places], block.ratings[run.places]
            weights = None if block.weights is None else block.weights[run.places]
            n_rows = run.rows.stop - run.rows.start
            if indices.size > self._max_places:
                whole = accumulate(
                    indices, ratings, self._padded, self._workspace, self._dtype, weights
                )
                stack = whole[None].astype(self._dtype)
            else:
                stack = np.empty((n_rows, rank + 1, rank), self._dtype)
                gathered = self._gather(indices)
                gathered[:, rank] = ratings
                if weights is not None:
                    weigh(gathered, weights)
                row = place = 0
                for n, width in run.segments:
                    part = gathered[place : place + n * width].reshape(n, width, rank + 1)
                    multiply(part, stack[row : row + n])
                    row += n
                    place += n * width
            gram, rhs = stack[:, :rank], stack[:, rank]
            solution = self.factors[run.rows]
            solution[:] = rhs
            add_to_diagonals(gram, self._weights[run.rows])
            solve_spd_stack(gram, solution)
            self._squares += sum_squares(ratings, weights)
            self._losses[run.rows] = -row_dots(solution, rhs)

    def retry_in_float64(self, side: Side) -> None:
        """Solve again, in float64, rows that came out not finite; raise where that fails too."""
        # One sum tells whether anything is wrong: a NaN or an infinity survives it.
        if np.isfinite(self.factors.sum(dtype=np.float64)):
            return
        block, rank = self._block, self._rank
        bad = np.flatnonzero(~np.isfinite(self.factors).all(axis=1))
        buckets = list(block.buckets())
        bucket_of = np.searchsorted(block.bucket_rows, bad, side="right") - 1
        for row, number in zip(bad.tolist(), bucket_of.tolist(), strict=True):
            bucket = buckets[number]
            at = row - bucket.start
            ratings = bucket.ratings[at]
            weights = None if bucket.weights is None else bucket.weights[at]
            stack = accumulate(
                bucket.indices[at], ratings, self._padded, self._workspace, np.float64, weights
            )
            # Transposed, for LAPACK is to read the triangle that is promised.
            gram = stack[:rank] + self._weights[row] * np.eye(rank)
            _, solution, info = lapack.dposv(gram.T, stack[rank])
            with np.errstate(over="ignore"):
                self.factors[row] = solution
            if info != 0 or not np.isfinite(self.factors[row]).all():
                raise SolveError(side, int(block.rows[row]), self._reg)
            self._losses[row] = -(solution @ stack[rank])
            if number < self._n_dual:
                self._losses[row] += sum_squares(ratings, weights)

    def _gather(self, indices: IntArray) -> FloatArray:
        if indices.size > self._workspace.shape[0]:
            # Only a dual row can be longer than the workspace: as many places as it has.
            self._workspace = np.empty((indices.size, self._rank + 1), self._dtype)
        return gather(self._padded, indices, self._workspace)

    def _solve_dual(self, known: FloatArray, ratings: FloatArray, rows: slice) -> None:
        gram = multiply_dual(known)
        add_to_diagonals(gram, self._weights[rows])
        y = ratings.copy()
        solve_spd_stack(gram, y)
        np.matmul(y[:, None, :], known, out=self.factors[rows][:, None, :])
        self._losses[rows] = self._weights[rows] * row_dots(y, ratings)
