"""Gram matrices and right-hand sides of rows: gathering the fixed factors, and the products.

With V the (n, d) rows of the fixed factors that a row has rated and r its n ratings, V is gathered
into a workspace of d + 1 columns, whose last column takes the ratings: [V r]ᵀ V is the Gram matrix
VᵀV with the right-hand side Vᵀr below it, one product a row. Where ratings have weights w, [V r] is
multiplied by √w, rating by rating: the products are then those of the weighted least squares.

Products are in the dtype of the fixed factors (float32 or float64); what is summed piece by piece
is summed in float64. No function modifies its inputs but the workspace.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from als_spark.types import FloatArray, IntArray

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


def pad_factors(factors: FloatArray) -> FloatArray:
    """Append a row and a column of zeros to factors: (n + 1, rank + 1).

    Padded places of a block point at the row; the column is where a row's ratings go.
    """
    n, rank = factors.shape
    padded = np.zeros((n + 1, rank + 1), factors.dtype)
    padded[:-1, :-1] = factors
    return padded


def workspace_places(width: int, itemsize: int) -> int:
    """Rows of ``width`` numbers that the workspace holds; at least one."""
    return max(WORKSPACE_BYTES // (width * itemsize), 1)


def make_workspace(padded: FloatArray) -> FloatArray:
    """Allocate the workspace for :func:`gather`: (places, rank + 1)."""
    places = workspace_places(padded.shape[1], padded.itemsize)
    return np.empty((places, padded.shape[1]), padded.dtype)


def gather(padded: FloatArray, indices: IntArray, workspace: FloatArray) -> FloatArray:
    """Gather rows of the fixed factors into the first rows of the workspace."""
    view = workspace[: indices.size]
    # Clipping skips a check of every index.
    np.take(padded, indices, axis=0, out=view, mode="clip")
    return view


def weigh(known: FloatArray, weights: FloatArray) -> None:
    """Multiply (n, columns) gathered rows by the square roots of (n,) weights, in place."""
    known *= np.sqrt(weights, dtype=known.dtype)[:, None]


def accumulate(
    indices: IntArray,
    ratings: FloatArray,
    padded: FloatArray,
    workspace: FloatArray,
    dtype: npt.DTypeLike,
    enter: Callable[[FloatArray, FloatArray], None],
    weights: FloatArray | None = None,
    seen: Callable[[FloatArray], None] | None = None,
) -> FloatArray:
    """Sum [V r]ᵀ V of one row in float64, in pieces of the workspace: memory stays bounded.

    Each piece is multiplied in ``dtype``; ``enter`` enters its ratings (see
    :class:`als_spark.solve.equations.Equations`). ``seen`` is called with each piece, weighed.
    """
    places, rank = workspace.shape[0], workspace.shape[1] - 1
    total = np.zeros((rank + 1, rank))
    piece = np.empty((1, rank + 1, rank), dtype)
    for first in range(0, indices.size, places):
        part = slice(first, first + places)
        known = gather(padded, indices[part], workspace).astype(dtype, copy=False)
        enter(known, ratings[part])
        if weights is not None:
            weigh(known, weights[part])
        if seen is not None:
            seen(known)
        multiply(known[None], piece)
        if not np.isfinite(np.einsum("rii->", piece[:, :rank])):
            # Beyond float32, but not beyond the sums.
            exact = np.empty((1, rank + 1, rank))
            multiply(known[None].astype(np.float64), exact)
            total += exact[0]
            continue
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
