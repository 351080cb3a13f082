"""The array kernels of ALS: ridge systems of the rows of a block, and error sums.

With V the fixed factors, Ω the columns a row has rated (n of them), r its ratings and w = λ n^ν its
ridge weight (ν = 0: plain λI; ν = 1: ALS-WR, Zhou et al. 2008, the objective of Spark MLlib), the
row's exact solution is either of

    primal   (VᵀV + w I) u = Vᵀ r               d x d, V the (n, d) rows of the fixed factors in Ω
    dual     (V Vᵀ + w I) y = r,   u = Vᵀ y     n x n, the cheaper form where n < d

and the row's part of the objective, ridge term included, comes free: r·r − u·Vᵀr (primal), w r·y
(dual).

For the primal form the rows V of a *run* of neighbouring buckets are gathered at once into a
workspace of d + 1 columns, whose last column takes the ratings: [V r]ᵀ V is the Gram matrix with
the right-hand side below it, one product a row.

The kernels modify no input, log nothing and know no configuration. They compute in the dtype of the
fixed factors (float32 or float64); sums over ratings are accumulated in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from als_spark.blocks import FloatArray, IntArray, RatingBlock, Side
from als_spark.errors import SolveError
from als_spark.solvers import solve_spd_stack

WORKSPACE_BYTES = 1 << 20
"""Gathered rows of the fixed factors held at a time: about what the second-level cache keeps."""
PANEL_RANK = 34
"""Columns of a Gram matrix computed at a time where rows are narrow: BLAS libraries have kernels of
their own for small products, several times as fast as their general ones."""
PANEL_WIDTH = 400
"""Ratings of a row up to which panels win; above, the symmetric product (``syrk``) does."""
SMALL_PRODUCT = 500_000
"""Multiplications that a small product may have."""
SMALL_DUAL_PRODUCT = 250_000
"""The same for the dual form, where the general product costs a copy."""


class Run(NamedTuple):
    """Neighbouring rows of a block that are gathered and solved together."""

    rows: slice
    """Positions within the block."""
    places: slice
    """Their ratings, padding included."""
    segments: list[tuple[int, int]]
    """(n_rows, width) of each bucket's share, in order."""


def solve_block(
    block: RatingBlock, fixed: FloatArray, reg: float, exponent: float, *, side: Side = "user"
) -> tuple[FloatArray, float]:
    """Solve every row of a block exactly against the fixed factors.

    Parameters
    ----------
    block : RatingBlock
        Ratings of the rows to solve.
    fixed : (n_columns, rank) float32 or float64
        Factors of the other side.
    reg : float
        λ of the objective with frequency exponent ``exponent``: a row of n ratings is weighted λ
        n^ν.
    exponent : float
        ν.
    side : {"user", "item"}
        What the rows are; for the message of an error.

    Returns
    -------
    factors : (n_rows, rank), dtype of ``fixed``
        In the order of ``block.rows``.
    loss : float
        Σ over the rows of squared errors + λ n^ν |u|² at the solution, in float64.

    Raises
    ------
    SolveError
        If a system has no finite solution in float64 either.
    """
    rank = fixed.shape[1]
    if reg == 0 and block.n_rows and block.degrees[0] < rank:
        # Singular for certain, but rounding lets some of them through with arbitrary solutions.
        raise SolveError(side, int(block.rows[0]), reg)
    solver = _BlockSolver(block, fixed, reg, exponent)
    solver.solve_dual_rows()
    solver.solve_primal_rows()
    solver.mend(side)
    return solver.factors, solver.loss


def cut_runs(block: RatingBlock, first_bucket: int, max_places: int) -> Iterator[Run]:
    """Cut the rows of a block, from a bucket on, into runs of at most ``max_places`` places.

    A row that is longer is a run of its own.
    """
    row = first_row = int(block.bucket_rows[first_bucket])
    place = first_place = block.bucket_start(first_bucket)
    segments: list[tuple[int, int]] = []
    bounds = block.bucket_rows.tolist()
    for width, stop in zip(
        block.bucket_widths[first_bucket:].tolist(), bounds[first_bucket + 1 :], strict=True
    ):
        while row < stop:
            room = (max_places - (place - first_place)) // width
            if room <= 0 and segments:
                yield Run(slice(first_row, row), slice(first_place, place), segments)
                first_row, first_place, segments = row, place, []
                continue
            n_rows = min(max(room, 1), stop - row)
            segments.append((n_rows, width))
            row += n_rows
            place += n_rows * width
    if segments:
        yield Run(slice(first_row, row), slice(first_place, place), segments)


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
        Sums over the ratings, accumulated in float64.
    """
    rank = column_factors.shape[1]
    dtype = column_factors.dtype
    padded = np.concatenate([column_factors, np.zeros((1, rank), dtype)])
    places = max(WORKSPACE_BYTES // (rank * dtype.itemsize), 1)
    squared = absolute = 0.0
    for start, indices, ratings in block.buckets():
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

    def __init__(self, block: RatingBlock, fixed: FloatArray, reg: float, exponent: float) -> None:
        n_columns, self._rank = fixed.shape
        self._block = block
        self._reg = reg
        self._dtype = fixed.dtype
        # Padded places point at an extra row of zeros; the extra column is the ratings'.
        self._padded = np.zeros((n_columns + 1, self._rank + 1), self._dtype)
        self._padded[:-1, :-1] = fixed
        self._weights = reg * block.degrees.astype(np.float64) ** exponent
        # Rows of rising width: those in the dual form come first.
        self._n_dual = int(np.searchsorted(block.bucket_widths, self._rank)) if reg > 0 else 0
        self._max_places = max(WORKSPACE_BYTES // ((self._rank + 1) * self._dtype.itemsize), 1)
        self._workspace = np.empty((self._max_places, self._rank + 1), self._dtype)
        self._losses = np.empty(block.n_rows)
        self._squares = 0.0
        self.factors = np.empty((block.n_rows, self._rank), self._dtype)

    @property
    def loss(self) -> float:
        """The block's part of the objective."""
        return float(self._losses.sum()) + self._squares

    def solve_dual_rows(self) -> None:
        """Solve the rows with fewer ratings than the rank."""
        for start, indices, ratings in islice(self._block.buckets(), self._n_dual):
            n_rows, width = indices.shape
            step = max(self._max_places // width, 1)
            for first in range(0, n_rows, step):
                part = slice(first, min(first + step, n_rows))
                known = self._gather(indices[part].reshape(-1))[:, : self._rank]
                self._solve_dual(
                    known.reshape(-1, width, self._rank),
                    ratings[part].astype(self._dtype),
                    slice(start + part.start, start + part.stop),
                )

    def solve_primal_rows(self) -> None:
        """Solve all other rows, a run at a time."""
        block, rank = self._block, self._rank
        for run in cut_runs(block, self._n_dual, self._max_places):
            indices, ratings = block.indices[run.places], block.ratings[run.places]
            n_rows = run.rows.stop - run.rows.start
            if indices.size > self._max_places:
                stack = self._accumulate(indices, ratings, self._dtype)[None].astype(self._dtype)
            else:
                stack = np.empty((n_rows, rank + 1, rank), self._dtype)
                gathered = self._gather(indices)
                gathered[:, rank] = ratings
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
            exact = ratings.astype(np.float64, copy=False)
            self._squares += float(exact @ exact)
            self._losses[run.rows] = -row_dots(solution, rhs)

    def mend(self, side: Side) -> None:
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
            indices, ratings = (part[row - bucket.start] for part in bucket[1:])
            exact = ratings.astype(np.float64)
            stack = self._accumulate(indices, ratings, np.float64)
            # Transposed, for LAPACK is to read the triangle that is promised.
            gram = stack[:rank] + self._weights[row] * np.eye(rank)
            _, solution, info = lapack.dposv(gram.T, stack[rank])
            with np.errstate(over="ignore"):
                self.factors[row] = solution
            if info != 0 or not np.isfinite(self.factors[row]).all():
                raise SolveError(side, int(block.rows[row]), self._reg)
            self._losses[row] = -(solution @ stack[rank])
            if number < self._n_dual:
                self._losses[row] += exact @ exact

    def _gather(self, indices: IntArray) -> FloatArray:
        if indices.size > self._workspace.shape[0]:
            # Only a dual row can be longer than the workspace: as many places as it has.
            self._workspace = np.empty((indices.size, self._rank + 1), self._dtype)
        view = self._workspace[: indices.size]
        np.take(self._padded, indices, axis=0, out=view, mode="clip")
        return view

    def _solve_dual(self, known: FloatArray, ratings: FloatArray, rows: slice) -> None:
        width = known.shape[1]
        transposed = known.transpose(0, 2, 1)
        if width * width * self._rank <= SMALL_DUAL_PRODUCT:
            known = known.copy()
        gram = np.matmul(known, transposed)
        add_to_diagonals(gram, self._weights[rows])
        y = ratings.copy()
        solve_spd_stack(gram, y)
        np.matmul(y[:, None, :], known, out=self.factors[rows][:, None, :])
        self._losses[rows] = self._weights[rows] * row_dots(y, ratings)

    def _accumulate(
        self, indices: IntArray, ratings: FloatArray, dtype: npt.DTypeLike
    ) -> FloatArray:
        """Sum [V r]ᵀ V of one row in float64, in pieces of the workspace: memory stays bounded.

        Each piece is multiplied in ``dtype``.
        """
        total = np.zeros((self._rank + 1, self._rank))
        piece = np.empty((1, self._rank + 1, self._rank), dtype)
        for first in range(0, indices.size, self._max_places):
            part = slice(first, first + self._max_places)
            gathered = self._gather(indices[part])
            gathered[:, self._rank] = ratings[part]
            multiply(gathered[None].astype(dtype, copy=False), piece)
            total += piece[0]
        return total


def multiply(known: FloatArray, out: FloatArray) -> None:
    """Compute [V r]ᵀ V for a stack of rows, by the products that are fastest at this size.

    Parameters
    ----------
    known : (n_rows, width, rank + 1)
        [V r] of each row.
    out : (n_rows, rank + 1, rank)
        VᵀV, of which only the lower triangle is promised, and below it Vᵀr.
    """
    width, rank = known.shape[1], known.shape[2] - 1
    if rank <= PANEL_RANK:
        step = SMALL_PRODUCT // (rank * rank)
        for first in range(0, width, step):
            part = known[:, first : first + step]
            if first == 0:
                np.matmul(part.transpose(0, 2, 1), part[:, :, :rank], out=out)
            else:
                out += np.matmul(part.transpose(0, 2, 1), part[:, :, :rank])
    elif width <= PANEL_WIDTH:
        n_panels = -(-rank // PANEL_RANK)
        bounds = [rank * k // n_panels for k in range(n_panels + 1)]
        for start, stop in pairwise(bounds):
            below = known[:, :, start:].transpose(0, 2, 1)
            np.matmul(below, known[:, :, start:stop], out=out[:, start:, start:stop])
    else:
        fixed = known[:, :, :rank]
        np.matmul(fixed.transpose(0, 2, 1), fixed, out=out[:, :rank])
        np.matmul(known[:, None, :, rank], fixed, out=out[:, rank:])


def add_to_diagonals(stack: FloatArray, weights: FloatArray) -> None:
    """Add a weight to the diagonal of each matrix of a stack, in place."""
    diagonals = np.einsum("rii->ri", stack)
    diagonals += weights[:, None].astype(stack.dtype)


def row_dots(a: FloatArray, b: FloatArray) -> FloatArray:
    """(n_rows,) float64 dot products of the rows of two matrices."""
    dots: FloatArray = np.einsum("rn,rn->r", a, b, dtype=np.float64)
    return dots
