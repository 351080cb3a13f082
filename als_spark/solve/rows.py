"""The exact solver of the rows of a block, and error sums.

With V the fixed factors, Ω the columns a row has rated (n of them), r its ratings and w = λ n^ν its
ridge weight, the row's exact solution is either of

    primal   (VᵀV + w I) u = Vᵀ r               d x d, V the (n, d) rows of the fixed factors in Ω
    dual     (V Vᵀ + w I) y = r,   u = Vᵀ y     n x n, the cheaper form where n < d

and the row's part of the objective, ridge term included, comes free: r·r − u·Vᵀr (primal), w r·y
(dual). For the primal form the rows of a *run* of neighbouring buckets are gathered at once.

Those are the equations of explicit ratings; the solver takes them, and others, as an object
(:class:`als_spark.solve.equations.Equations`). Where ratings have weights, rows of V and ratings
stand multiplied by the square roots of theirs, in both forms.

The kernels modify no input, log nothing and know no configuration. They compute in the dtype of the
fixed factors (float32 or float64); sums over ratings are accumulated in float64.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import numpy.typing as npt

from als_spark.errors import SolveError
from als_spark.solve.blocks import RatingBlock, cut_runs
from als_spark.solve.equations import Equations
from als_spark.solve.gram import (
    accumulate,
    gather,
    make_workspace,
    multiply,
    weigh,
    workspace_places,
)
from als_spark.solve.linalg import row_dots, solve_spd_stack
from als_spark.solve.nonnegative import solve_nonnegative_stack
from als_spark.solve.solver import RowSums
from als_spark.types import FloatArray, IntArray, Side


class RidgeSolver:
    """Solves every row exactly: see :class:`als_spark.solve.solver.RowSolver`.

    Parameters
    ----------
    equations : Equations
        The rows' systems.
    nonnegative : bool
        Whether no factor may be negative. The equations know it too, of their dual form.
    """

    def __init__(self, equations: Equations, *, nonnegative: bool = False) -> None:
        self._equations = equations
        self._nonnegative = nonnegative

    def solve(self, block: RatingBlock, *, side: Side) -> tuple[FloatArray, float]:
        """Solve every row of a block."""
        equations = self._equations
        if block.n_rows and block.degrees[0] < equations.least_ratings:
            raise SolveError(side, int(block.rows[0]), equations.reg)
        solver = _BlockSolver(block, equations, self._nonnegative)
        # What overflows in float32 comes out as NaN, and is solved again in float64.
        with np.errstate(over="ignore", invalid="ignore"):
            solver.solve_dual_rows()
            solver.solve_primal_rows()
            solver.leave_rows_out()
            solver.retry_in_float64(side)
        return equations.restore(solver.factors), solver.loss

    def accumulate(self, block: RatingBlock) -> RowSums:
        """Sum the normal equations of rows whose other ratings are in other blocks."""
        equations, padded = self._equations, self._equations.padded
        rank = padded.shape[1] - 1
        workspace = make_workspace(padded)
        sums = RowSums(np.empty((block.n_rows, rank + 1, rank)), np.empty(block.n_rows))
        for start, indices, ratings, weights in block.buckets():
            for k in range(indices.shape[0]):
                own = None if weights is None else weights[k]
                with np.errstate(over="ignore", invalid="ignore"):
                    stack = accumulate(
                        *(indices[k], ratings[k], padded, workspace),
                        *(padded.dtype, equations.enter, own),
                    )
                sums.stacks[start + k] = equations.restore_sums(stack)
                sums.squares[start + k] = equations.constant(weighted(ratings[k], own))
        return sums

    def solve_sums(
        self, sums: RowSums, rows: IntArray, degrees: IntArray, *, side: Side
    ) -> tuple[FloatArray, float]:
        """Solve rows whose normal equations have been summed over all blocks."""
        gram, rhs = sums.stacks[:, 1:].copy(), sums.stacks[:, 0]
        self._equations.add_ridge_to_sums(gram, degrees)
        solution = rhs.copy()
        _solve_stack(gram, solution, nonnegative=self._nonnegative)
        solution[degrees == 0] = 0
        with np.errstate(over="ignore"):
            factors = solution.astype(self._equations.padded.dtype)
        bad = np.flatnonzero(~np.isfinite(factors).all(axis=1))
        if bad.size:
            raise SolveError(side, int(rows[bad[0]]), self._equations.reg)
        losses = sums.squares - row_dots(solution, rhs)
        return factors, float(losses.sum())


def _solve_stack(gram: FloatArray, rhs: FloatArray, *, nonnegative: bool) -> None:
    """Solve systems in place; NaN where that cannot be done."""
    if nonnegative:
        solve_nonnegative_stack(gram, rhs)
    else:
        solve_spd_stack(gram, rhs)


def weighted(ratings: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Multiply ratings by the square roots of their weights, in float64; None: all are 1."""
    return ratings if weights is None else ratings * np.sqrt(weights, dtype=np.float64)


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

    def __init__(self, block: RatingBlock, equations: Equations, nonnegative: bool) -> None:
        padded = equations.padded
        self._rank = padded.shape[1] - 1
        self._block = block
        self._equations = equations
        self._nonnegative = nonnegative
        self._dtype = padded.dtype
        self._counts = equations.counts(block)
        # Rows of rising width: those in the dual form come first.
        self._n_dual = int(np.searchsorted(block.bucket_widths, equations.dual_below))
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
                rows = slice(start + part.start, start + part.stop)
                gathered, values = self._gather(indices[part].reshape(-1)), ratings[part]
                if weights is not None:
                    weigh(gathered, weights[part].reshape(-1))
                    values = weighted(values, weights[part])
                self.factors[rows], self._losses[rows] = self._equations.solve_dual(
                    gathered, values, self._counts[rows]
                )

    def solve_primal_rows(self) -> None:
        """Solve all other rows, a run at a time."""
        block, rank, equations = self._block, self._rank, self._equations
        # A row's system takes as much memory as rank ratings.
        for run in cut_runs(block, self._n_dual, self._max_places, least=rank):
            indices, ratings = block.indices[run.places], block.ratings[run.places]
            weights = None if block.weights is None else block.weights[run.places]
            n_rows = run.rows.stop - run.rows.start
            if indices.size > self._max_places:
                whole = self._accumulate(indices, ratings, self._dtype, weights)
                stack = whole[None].astype(self._dtype)
            else:
                stack = np.empty((n_rows, rank + 1, rank), self._dtype)
                gathered = self._gather(indices)
                equations.enter(gathered, ratings)
                if weights is not None:
                    weigh(gathered, weights)
                row = place = 0
                for n, width in run.segments:
                    part = gathered[place : place + n * width].reshape(n, width, rank + 1)
                    multiply(part, stack[row : row + n])
                    row += n
                    place += n * width
            gram, rhs = stack[:, 1:], stack[:, 0]
            solution = self.factors[run.rows]
            solution[:] = rhs
            equations.add_ridge(gram, self._counts[run.rows])
            _solve_stack(gram, solution, nonnegative=self._nonnegative)
            self._squares += equations.constant(weighted(ratings, weights))
            self._losses[run.rows] = -row_dots(solution, rhs)

    def leave_rows_out(self) -> None:
        """Set rows to zeros of which no rating counts."""
        left_out = self._counts == 0
        self.factors[left_out] = 0
        self._losses[left_out] = 0

    def retry_in_float64(self, side: Side) -> None:
        """Solve again, in float64, rows that came out not finite; raise where that fails too."""
        # One sum tells whether anything is wrong: a NaN or an infinity survives it.
        if np.isfinite(self.factors.sum(dtype=np.float64)):
            return
        block, equations = self._block, self._equations
        bad = np.flatnonzero(~np.isfinite(self.factors).all(axis=1))
        buckets = list(block.buckets())
        bucket_of = np.searchsorted(block.bucket_rows, bad, side="right") - 1
        for row, number in zip(bad.tolist(), bucket_of.tolist(), strict=True):
            bucket = buckets[number]
            at = row - bucket.start
            exact = bucket.ratings[at].astype(np.float64)
            weights = None if bucket.weights is None else bucket.weights[at]
            stack = self._accumulate(bucket.indices[at], exact, np.float64, weights)[None]
            gram, rhs = stack[:, 1:], stack[:, 0]
            solution = rhs.copy()
            equations.add_ridge(gram, self._counts[row : row + 1])
            _solve_stack(gram, solution, nonnegative=self._nonnegative)
            with np.errstate(over="ignore"):
                self.factors[row] = solution[0]
            if not np.isfinite(self.factors[row]).all():
                raise SolveError(side, int(block.rows[row]), equations.reg)
            self._losses[row] = -row_dots(solution, rhs)[0]
            if number < self._n_dual:
                self._losses[row] += equations.constant(weighted(exact, weights))

    def _accumulate(
        self,
        indices: IntArray,
        ratings: FloatArray,
        dtype: npt.DTypeLike,
        weights: FloatArray | None,
    ) -> FloatArray:
        equations = self._equations
        return accumulate(
            indices, ratings, equations.padded, self._workspace, dtype, equations.enter, weights
        )

    def _gather(self, indices: IntArray) -> FloatArray:
        if indices.size > self._workspace.shape[0]:
            # Only a dual row can be longer than the workspace: as many places as it has.
            self._workspace = np.empty((indices.size, self._rank + 1), self._dtype)
        return gather(self._equations.padded, indices, self._workspace)
