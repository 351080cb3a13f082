"""Gram matrices and right-hand sides of rows: gathering the fixed factors, and the products.

With V the (n, d) rows of the fixed factors that a row has rated and r its n ratings, V is gathered
into a workspace of d + 1 columns, whose first column takes the ratings: [r V]ᵀ V is the Gram matrix
VᵀV with the right-hand side Vᵀr above it, one product a row. Of the Gram matrix the upper triangle
is enough: in Fortran's order it is the lower one, which LAPACK factorises the fastest. Where
ratings have weights w, [r V] is multiplied by √w, rating by rating: the products are then those of
the weighted least squares.

Products are in the dtype of the fixed factors (float32 or float64); what is summed piece by piece
is summed in float64. No function modifies its inputs but the workspace.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import threadpoolctl

from als_spark.types import FloatArray, IntArray

WORKSPACE_BYTES = 1 << 20
"""Gathered rows of the fixed factors held at a time: about what the second-level cache keeps."""
SMALL_DUAL_PRODUCT = 250_000
"""Multiplications of a product of the dual form up to which a general one wins, despite a copy."""
KERNELS_OF_SMALL_PRODUCTS = {"SkylakeX", "Cooperlake", "SapphireRapids"}
"""OpenBLAS's names of the processors for which it has such kernels, those with AVX-512."""


class Products(NamedTuple):
    """How a Gram matrix is computed, which depends on the kernels of the BLAS.

    By the symmetric product (``syrk``), or by panels of columns, down to the diagonal, each a
    general product, in pieces of the ratings where it would be large.

    Measured with OpenBLAS 0.3.31 on its kernels of Haswell and SkylakeX, for ranks of 10 to 200,
    rows of 8 to 2048 ratings, and both dtypes. With kernels of their own for small products, panels
    of 32 columns in pieces of up to a million multiplications are 1.2 to 2 times as fast as
    whatever else for nearly all sizes; without, the symmetric product wins from 64 ratings on, or
    128 at small ranks.
    """

    panel: int
    """Columns of a panel; the first has what is left, up to an eighth more, or fewer."""
    piece: float
    """Multiplications of a general product at most."""
    is_symmetric: Callable[[int, int, int], bool]
    """Whether that is the symmetric one: ratings of a row, rank, bytes of a number."""


def _from_64_ratings(width: int, rank: int, itemsize: int) -> bool:  # noqa: ARG001
    return width >= (64 if rank >= 48 else 128)


def _of_long_single_rows(width: int, rank: int, itemsize: int) -> bool:
    return width > 1024 and rank >= 100 and itemsize == 4


GENERAL = Products(50, math.inf, _from_64_ratings)
SMALL_KERNELS = Products(32, 1e6, _of_long_single_rows)


@cache
def products_of_blas() -> Products:
    """Return the products for the BLAS that NumPy has on this machine.

    By its name alone, so that a run has the same result again, bit for bit.
    """
    found = {library.get("architecture") for library in threadpoolctl.threadpool_info()}
    return SMALL_KERNELS if found & KERNELS_OF_SMALL_PRODUCTS else GENERAL


def pad_factors(factors: FloatArray) -> FloatArray:
    """Add a last row and a first column of zeros to factors: (n + 1, rank + 1).

    Padded places of a block point at the row; the column is where a row's ratings go.
    """
    n, rank = factors.shape
    padded = np.zeros((n + 1, rank + 1), factors.dtype)
    padded[:-1, 1:] = factors
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
    """Sum [r V]ᵀ V of one row in float64, in pieces of the workspace: memory stays bounded.

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
        if not np.isfinite(np.einsum("rii->", piece[:, 1:])):
            # Beyond float32, but not beyond the sums.
            exact = np.empty((1, rank + 1, rank))
            multiply(known[None].astype(np.float64), exact)
            total += exact[0]
            continue
        total += piece[0]
    return total


def multiply(known: FloatArray, out: FloatArray, products: Products | None = None) -> None:
    """Compute [r V]ᵀ V for a stack of rows.

    Parameters
    ----------
    known : (n_rows, width, rank + 1)
        [r V] of each row.
    out : (n_rows, rank + 1, rank)
        Vᵀr, and below it VᵀV, of which only the upper triangle is promised.
    products : Products, optional
        Those of :func:`products_of_blas` if not given.
    """
    products = products_of_blas() if products is None else products
    width, rank = known.shape[1], known.shape[2] - 1
    if products.is_symmetric(width, rank, known.itemsize):
        fixed = known[:, :, 1:]
        np.matmul(fixed.transpose(0, 2, 1), fixed, out=out[:, 1:])
        np.matmul(known[:, None, :, 0], fixed, out=out[:, :1])
        return
    for start, stop in _panels(rank, products.panel):
        above, target = known[:, :, : stop + 1].transpose(0, 2, 1), out[:, : stop + 1, start:stop]
        one_rating = (stop + 1) * (stop - start)
        n_pieces = max(min(math.ceil(width * one_rating / products.piece), width), 1)
        bounds = [width * k // n_pieces for k in range(n_pieces + 1)]
        for first, last in pairwise(bounds):
            factors = above[:, :, first:last], known[:, first:last, start + 1 : stop + 1]
            if first == 0:
                np.matmul(*factors, out=target)
            else:
                target += np.matmul(*factors)


@cache
def _panels(rank: int, panel: int) -> tuple[tuple[int, int], ...]:
    """Bounds of the panels of so many columns that a rank has."""
    stops = [rank]
    while stops[-1] > panel + panel // 8:
        stops.append(stops[-1] - panel)
    return tuple(pairwise([0, *reversed(stops)]))


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
