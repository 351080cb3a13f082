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

from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from als_spark.errors import SolveError
from als_spark.solve.blocks import RatingBlock, cut_runs
from als_spark.solve.linalg import solve_spd_stack
from als_spark.types import FloatArray, IntArray, Side

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
    return solve_padded(block, pad_factors(fixed), reg, exponent, side=side)


def ridge_weights(degrees: IntArray, reg: float, exponent: float) -> FloatArray:
    """λ n^ν of rows of n ratings each, in float64; 0 for a row without a rating.

    Parameters
    ----------
    degrees : (n_rows,) int
    reg, exponent : float
        λ and ν.
    """
    weights = np.zeros(degrees.size)
    rated = degrees > 0
    weights[rated] = reg * degrees[rated].astype(np.float64) ** exponent
    return weights


def pad_factors(factors: FloatArray) -> FloatArray:
    """Append a row and a column of zeros to factors, as :func:`solve_padded` takes them.

    Padded places of a block point at the row; the column is where a row's ratings go.
    """
    n, rank = factors.shape
    padded = np.zeros((n + 1, rank + 1), factors.dtype)
    padded[:-1, :-1] = factors
    return padded


def solve_padded(
    block: RatingBlock, padded: FloatArray, reg: float, exponent: float, *, side: Side = "user"
) -> tuple[FloatArray, float]:
    """Solve as :func:`solve_block` does, with the fixed factors from :func:`pad_factors`.

    For many blocks against the same factors, which are then padded once.
    """
    if reg == 0 and block.n_rows and block.degrees[0] < padded.shape[1] - 1:
        # Singular for certain, but rounding lets some of them through with arbitrary solutions.
        raise SolveError(side, int(block.rows[0]), reg)
    solver = _BlockSolver(block, padded, reg, exponent)
    solver.solve_dual_rows()
    solver.solve_primal_rows()
    solver.mend(side)
    return solver.factors, solver.loss


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

    def __init__(self, block: RatingBlock, padded: FloatArray, reg: float, exponent: float) -> None:
        self._rank = padded.shape[1] - 1
        self._block = block
        self._reg = reg
        self._dtype = padded.dtype
        self._padded = padded
        self._weights = ridge_weights(block.degrees, reg, exponent)
        # Rows of rising width: those in the dual form come first.
        self._n_dual = int(np.searchsorted(block.bucket_widths, self._rank)) if reg > 0 else 0
        self._workspace = _workspace(padded)
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
                whole = _accumulate(indices, ratings, self._padded, self._workspace, self._dtype)
                stack = whole[None].astype(self._dtype)
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
            stack = _accumulate(indices, ratings, self._padded, self._workspace, np.float64)
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
        return gather(self._padded, indices, self._workspace)

    def _solve_dual(self, known: FloatArray, ratings: FloatArray, rows: slice) -> None:
        gram = multiply_dual(known)
        add_to_diagonals(gram, self._weights[rows])
        y = ratings.copy()
        solve_spd_stack(gram, y)
        np.matmul(y[:, None, :], known, out=self.factors[rows][:, None, :])
        self._losses[rows] = self._weights[rows] * row_dots(y, ratings)


def _workspace(padded: FloatArray) -> FloatArray:
    places = max(WORKSPACE_BYTES // (padded.shape[1] * padded.itemsize), 1)
    return np.empty((places, padded.shape[1]), padded.dtype)


def gather(padded: FloatArray, indices: IntArray, workspace: FloatArray) -> FloatArray:
    """Gather rows of the fixed factors into the first rows of the workspace."""
    view = workspace[: indices.size]
    # Clipping skips a check of every index.
    np.take(padded, indices, axis=0, out=view, mode="clip")
    return view


def _accumulate(
    indices: IntArray,
    ratings: FloatArray,
    padded: FloatArray,
    workspace: FloatArray,
    dtype: npt.DTypeLike,
) -> FloatArray:
    """Sum [V r]ᵀ V of one row in float64, in pieces of the workspace: memory stays bounded.

    Each piece is multiplied in ``dtype``.
    """
    places, rank = workspace.shape[0], workspace.shape[1] - 1
    total = np.zeros((rank + 1, rank))
    piece = np.empty((1, rank + 1, rank), dtype)
    for first in range(0, indices.size, places):
        part = slice(first, first + places)
        known = gather(padded, indices[part], workspace)
        known[:, rank] = ratings[part]
        multiply(known[None].astype(dtype, copy=False), piece)
        total += piece[0]
    return total


def accumulate_rows(block: RatingBlock, padded: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sum the normal equations of rows whose other ratings are in other blocks.

    Parameters
    ----------
    block : RatingBlock
        Some of the rows' ratings.
    padded : (n_columns + 1, rank + 1)
        Fixed factors, from :func:`pad_factors`.

    Returns
    -------
    stacks : (n_rows, rank + 1, rank) float64
        VᵀV of each row, of which only the lower triangle is promised, and below it Vᵀr.
    squares : (n_rows,) float64
        r·r of each row.
    """
    rank = padded.shape[1] - 1
    workspace = _workspace(padded)
    stacks = np.empty((block.n_rows, rank + 1, rank))
    squares = np.empty(block.n_rows)
    for start, indices, ratings in block.buckets():
        for k in range(indices.shape[0]):
            stacks[start + k] = _accumulate(indices[k], ratings[k], padded, workspace, padded.dtype)
            exact = ratings[k].astype(np.float64, copy=False)
            squares[start + k] = exact @ exact
    return stacks, squares


def solve_normal_equations(
    stacks: FloatArray, squares: FloatArray, weights: FloatArray, dtype: npt.DTypeLike
) -> tuple[FloatArray, FloatArray]:
    """Solve what :func:`accumulate_rows` has summed over all blocks.

    Parameters
    ----------
    stacks, squares : (n_rows, rank + 1, rank), (n_rows,) float64
    weights : (n_rows,)
        λ n^ν of each row, n all its ratings.
    dtype : dtype
        Of the factors.

    Returns
    -------
    factors : (n_rows, rank)
        Not finite where a system has no solution.
    losses : (n_rows,) float64
        Squared errors + λ n^ν |u|² of each row.
    """
    rank = stacks.shape[2]
    gram, rhs = stacks[:, :rank].copy(), stacks[:, rank]
    add_to_diagonals(gram, weights)
    solution = rhs.copy()
    solve_spd_stack(gram, solution)
    with np.errstate(over="ignore"):
        return solution.astype(dtype), squares - row_dots(solution, rhs)


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


def multiply_dual(known: FloatArray) -> FloatArray:
    """Compute V Vᵀ for a stack of rows.

    Parameters
    ----------
    known : (n_rows, width, rank)
        V of each row.

    Returns
    -------
    (n_rows, width, width)
    """
    _, width, rank = known.shape
    # A product of an array with itself is a symmetric one; with a copy, a general one.
    other = known.copy() if width * width * rank <= SMALL_DUAL_PRODUCT else known
    gram: FloatArray = np.matmul(other, known.transpose(0, 2, 1))
    return gram


def add_to_diagonals(stack: FloatArray, weights: FloatArray) -> None:
    """Add a weight to the diagonal of each matrix of a stack, in place."""
    diagonals = np.einsum("rii->ri", stack)
    diagonals += weights[:, None].astype(stack.dtype)


def row_dots(a: FloatArray, b: FloatArray) -> FloatArray:
    """(n_rows,) float64 dot products of the rows of two matrices."""
    dots: FloatArray = np.einsum("rn,rn->r", a, b, dtype=np.float64)
    return dots
