"""Stacks of small symmetric positive definite systems, and dot products of rows.

Few large systems go to LAPACK one by one; many small ones are eliminated side by side by NumPy,
since a LAPACK call costs more than the arithmetic of a small system.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import blas, lapack

from als_spark.types import FloatArray

VECTORISED_ORDER = 10
"""Systems up to this order are solved across rows, by NumPy; larger ones singly, by LAPACK."""


def solve_spd_stack(matrices: FloatArray, rhs: FloatArray) -> None:
    """Solve symmetric positive definite systems in place; NaN where that cannot be done.

    That includes systems whose sums have overflowed: an infinite diagonal has a Cholesky factor,
    and a solution that is finite and wrong.

    ``matrices`` (n_rows, order, order), each contiguous, are overwritten, and only their upper
    triangles read; ``rhs`` (n_rows, order), of their dtype and each row contiguous, becomes the
    solutions.
    """
    n_rows, order = rhs.shape
    # Across rows takes some order² NumPy calls, of about a LAPACK call's time each.
    if order == 1 or (order <= VECTORISED_ORDER and n_rows > order * order):
        _solve_across_rows(matrices, rhs)
    else:
        factor_and_solve_stack(matrices, rhs)


def factor_and_solve_stack(matrices: FloatArray, rhs: FloatArray) -> None:
    """Solve A x = h, and put Lᵀ of the Cholesky factors, A = L Lᵀ, in the place of a stack of A.

    ``matrices`` (n_rows, order, order), each contiguous; only the upper triangles are read, and
    what is below them stays. ``rhs`` (n_rows, order), of their dtype and each row contiguous,
    becomes the solutions. NaN where A has none.
    """
    posv = lapack.sposv if matrices.dtype == np.float32 else lapack.dposv
    diagonals = np.einsum("rii->ri", matrices)
    finite = np.isfinite(diagonals).all(axis=1)
    # A C-ordered symmetric matrix, transposed, is the Fortran order that LAPACK overwrites without
    # a copy; its upper triangle is then the lower one. (1, 1, 1: the lower one, overwrite both; by
    # position, since f2py parses keywords slowly.)
    for k, (matrix, row) in enumerate(zip(matrices.transpose(0, 2, 1), rhs, strict=True)):
        if posv(matrix, row, 1, 1, 1)[2]:
            finite[k] = False
    diagonals[~finite] = np.nan
    rhs[~finite] = np.nan


def solve_upper_stack(upper: FloatArray, rhs: FloatArray) -> None:
    """Solve Lᵀ x = y for a stack of upper triangular Lᵀ; ``rhs`` becomes the solutions."""
    trsv = blas.strsv if upper.dtype == np.float32 else blas.dtrsv
    # In Fortran's order it is the lower triangle, L. (By position: increment, offset, lower,
    # transposed, unit diagonal, overwrite.)
    for matrix, row in zip(upper.transpose(0, 2, 1), rhs, strict=True):
        trsv(matrix, row, 1, 0, 1, 1, 0, 1)


def invert_stack(upper: FloatArray) -> None:
    """Put the upper triangles of A⁻¹ in the place of Lᵀ, A = L Lᵀ; NaN stays."""
    potri = lapack.spotri if upper.dtype == np.float32 else lapack.dpotri
    for matrix in upper.transpose(0, 2, 1):
        potri(matrix, 1, 1)


def _solve_across_rows(matrices: FloatArray, rhs: FloatArray) -> None:
    """Eliminate column by column (LDLᵀ), each step over all rows at once.

    The stack is laid out with the rows last, so that a step is a few long vector operations; the
    right-hand side is one more row of each matrix, and so is eliminated with it.
    """
    n_rows, order = rhs.shape
    a = np.empty((order + 1, order, n_rows), matrices.dtype)
    for k in range(order):
        # The lower triangle, from the upper ones.
        a[k:order, k] = matrices[:, k, k:].T
    a[order] = rhs.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for k in range(order):
            a[k, k][~((a[k, k] > 0) & (a[k, k] < np.inf))] = np.nan
            below = a[k + 1 :, k] / a[k, k]
            for j in range(k + 1, order):
                a[j:, j] -= below[j - k - 1 :] * a[j, k]
            a[k + 1 :, k] = below
        # Now L is below the diagonal, D on it, and the last row holds D⁻¹ L⁻¹ rhs.
        x = a[order]
        for k in range(order - 2, -1, -1):
            x[k] -= (a[k + 1 : order, k] * x[k + 1 :]).sum(axis=0)
    rhs[:] = x.T


def fill_lower_triangles(stack: FloatArray) -> None:
    """Make a stack of matrices symmetric by their upper triangles, in place."""
    rows, columns = np.triu_indices(stack.shape[1], 1)
    stack[:, columns, rows] = stack[:, rows, columns]


def row_dots(a: FloatArray, b: FloatArray) -> FloatArray:
    """(n_rows,) float64 dot products of the rows of two matrices."""
    dots: FloatArray = np.einsum("rn,rn->r", a, b, dtype=np.float64)
    return dots


def unit_rows(matrix: FloatArray) -> FloatArray:
    """(n, d) float64 rows of length 1; rows of zeros stay."""
    rows = matrix.astype(np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    rows /= np.where(lengths > 0, lengths, 1.0)[:, None]
    return rows
