"""The array kernels of ALS: ridge systems of the rows of a block, and error sums.

With V the fixed factors, Ω the columns a row has rated (n of them), r its ratings and w = λ n^ν its
ridge weight (ν = 0: plain λI; ν = 1: ALS-WR, Zhou et al. 2008, the objective of Spark MLlib), the
row's exact solution is either of

    primal   (VᵀV + w I) u = Vᵀ r               d x d, V the (n, d) rows of the fixed factors in Ω
    dual     (V Vᵀ + w I) y = r,   u = Vᵀ y     n x n, the cheaper form where n < d

and the row's part of the objective, ridge term included, comes free: r·r − u·Vᵀr (primal), w r·y
(dual).

The kernels modify no input, log nothing and know no configuration. They compute in the dtype of the
fixed factors (float32 or float64); sums over ratings are accumulated in float64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from als_spark.blocks import FloatArray, RatingBlock, Side
from als_spark.errors import SolveError

WORKSPACE_BYTES = 1 << 20
"""Gathered rows of the fixed factors held at a time: about what the second-level cache keeps."""
VECTORISED_ORDER = 10
"""Systems up to this order are solved across rows, by NumPy; larger ones singly, by LAPACK."""


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
    dtype = fixed.dtype
    # Padded places point at this extra row of zeros.
    padded = np.concatenate([fixed, np.zeros((1, rank), dtype)])
    factors = np.empty((block.n_rows, rank), dtype)
    weights = reg * block.degrees.astype(np.float64) ** exponent
    if reg == 0 and block.n_rows and block.degrees[0] < rank:
        # Singular for certain, but rounding lets some of them through with arbitrary solutions.
        raise SolveError(side, int(block.rows[0]), reg)
    places = max(WORKSPACE_BYTES // (rank * dtype.itemsize), 1)
    gathered = np.empty((places, rank), dtype)
    losses = np.empty(block.n_rows)
    for start, indices, ratings in block.buckets():
        n_rows, width = indices.shape
        ratings = ratings.astype(dtype, copy=False)
        dual = width < rank and reg > 0
        if width > places and not dual:
            for k in range(n_rows):
                row = slice(start + k, start + k + 1)
                gram, rhs = _accumulate_long_row(indices[k], ratings[k], padded, gathered)
                losses[row] = _solve_primal(
                    gram[None], rhs[None], ratings[k : k + 1], weights[row], factors[row]
                )
            continue
        step = max(places // width, 1)
        if step * width > places:
            gathered = np.empty((step * width, rank), dtype)
        for first in range(0, n_rows, step):
            part = slice(first, min(first + step, n_rows))
            n_part = part.stop - part.start
            rows = slice(start + part.start, start + part.stop)
            view = gathered[: n_part * width]
            np.take(padded, indices[part].reshape(-1), axis=0, out=view, mode="clip")
            known = view.reshape(n_part, width, rank)
            solve = _solve_dual if dual else _solve_gathered_primal
            losses[rows] = solve(known, ratings[part], weights[rows], factors[rows])
    _mend(block, padded, weights, factors, losses, reg, side)
    return factors, float(losses.sum())


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


def solve_spd_stack(matrices: FloatArray, rhs: FloatArray) -> FloatArray:
    """Solve a stack of symmetric positive definite systems; NaN where that cannot be done.

    Both arguments are overwritten.

    Parameters
    ----------
    matrices : (n_rows, order, order)
    rhs : (n_rows, order)

    Returns
    -------
    (n_rows, order)
    """
    n_rows, order = rhs.shape
    # Across rows takes some order² NumPy calls, of about a LAPACK call's time each.
    if order == 1 or (order <= VECTORISED_ORDER and n_rows > order * order):
        return _solve_across_rows(matrices, rhs)
    posv = lapack.sposv if matrices.dtype == np.float32 else lapack.dposv
    for k in range(rhs.shape[0]):
        # A C-ordered symmetric matrix, transposed, is the Fortran order that LAPACK overwrites
        # without a copy.
        _, solution, info = posv(matrices[k].T, rhs[k], overwrite_a=True, overwrite_b=True)
        rhs[k] = solution if info == 0 else np.nan
    return rhs


def _solve_across_rows(matrices: FloatArray, rhs: FloatArray) -> FloatArray:
    """Eliminate column by column (LDLᵀ), each step over all rows at once.

    The stack is laid out with the rows last, so that a step is a few long vector operations.
    """
    order = rhs.shape[1]
    a = np.ascontiguousarray(matrices.transpose(1, 2, 0))
    x = np.ascontiguousarray(rhs.T)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for k in range(order):
            a[k, k][~(a[k, k] > 0)] = np.nan
            below = a[k + 1 :, k] / a[k, k]
            for j in range(k + 1, order):
                a[j:, j] -= below[j - k - 1 :] * a[j, k]
            x[k + 1 :] -= below * x[k]
            a[k + 1 :, k] = below
        for k in range(order - 1, -1, -1):
            x[k] /= a[k, k]
            if k + 1 < order:
                x[k] -= (a[k + 1 :, k] * x[k + 1 :]).sum(axis=0)
    return np.ascontiguousarray(x.T)


def _solve_gathered_primal(
    known: FloatArray, ratings: FloatArray, weights: FloatArray, out: FloatArray
) -> FloatArray:
    transposed = known.transpose(0, 2, 1)
    gram = np.matmul(transposed, known)
    rhs = np.matmul(transposed, ratings[:, :, None])[:, :, 0]
    return _solve_primal(gram, rhs, ratings, weights, out)


def _solve_primal(
    gram: FloatArray, rhs: FloatArray, ratings: FloatArray, weights: FloatArray, out: FloatArray
) -> FloatArray:
    _add_to_diagonals(gram, weights)
    out[:] = solve_spd_stack(gram, rhs.copy())
    return _row_dots(ratings, ratings) - _row_dots(out, rhs)


def _solve_dual(
    known: FloatArray, ratings: FloatArray, weights: FloatArray, out: FloatArray
) -> FloatArray:
    gram = np.matmul(known, known.transpose(0, 2, 1))
    _add_to_diagonals(gram, weights)
    y = solve_spd_stack(gram, ratings.copy())
    np.matmul(y[:, None, :], known, out=out[:, None, :])
    return weights * _row_dots(y, ratings)


def _accumulate_long_row(
    indices: npt.NDArray[np.integer], ratings: FloatArray, padded: FloatArray, buffer: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum VᵀV and Vᵀr of one row in pieces of the workspace's size: memory stays bounded."""
    rank = padded.shape[1]
    gram = np.zeros((rank, rank))
    rhs = np.zeros(rank)
    for first in range(0, indices.size, buffer.shape[0]):
        part = slice(first, first + buffer.shape[0])
        known = buffer[: indices[part].size]
        np.take(padded, indices[part], axis=0, out=known, mode="clip")
        gram += known.T @ known
        rhs += known.T @ ratings[part]
    return gram.astype(padded.dtype), rhs.astype(padded.dtype)


def _mend(
    block: RatingBlock,
    padded: FloatArray,
    weights: FloatArray,
    factors: FloatArray,
    losses: FloatArray,
    reg: float,
    side: Side,
) -> None:
    """Solve again, in float64, the rows that came out not finite; raise where that fails too."""
    # One sum tells whether anything is wrong: a NaN or an infinity survives it.
    if np.isfinite(factors.sum(dtype=np.float64)):
        return
    bad = np.flatnonzero(~np.isfinite(factors).all(axis=1))
    widths = np.diff(block.bucket_rows)
    bucket_of = np.repeat(np.arange(widths.size), widths)
    buckets = list(block.buckets())
    for row in bad.tolist():
        bucket = buckets[int(bucket_of[row])]
        known = padded[bucket.indices[row - bucket.start]].astype(np.float64)
        gram = known.T @ known + weights[row] * np.eye(padded.shape[1])
        known_ratings = bucket.ratings[row - bucket.start].astype(np.float64)
        rhs = known.T @ known_ratings
        _, solution, info = lapack.dposv(gram, rhs)
        with np.errstate(over="ignore"):
            factors[row] = solution
        if info != 0 or not np.isfinite(factors[row]).all():
            raise SolveError(side, int(block.rows[row]), reg)
        losses[row] = known_ratings @ known_ratings - solution @ rhs


def _add_to_diagonals(stack: FloatArray, weights: FloatArray) -> None:
    order = stack.shape[1]
    stack.reshape(stack.shape[0], order * order)[:, :: order + 1] += weights[:, None].astype(
        stack.dtype
    )


def _row_dots(a: FloatArray, b: FloatArray) -> FloatArray:
    dots: FloatArray = np.einsum("rn,rn->r", a, b, dtype=np.float64)
    return dots
