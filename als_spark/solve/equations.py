"""How the normal equations of a row come from its ratings: squared errors of explicit ratings.

:class:`als_spark.solve.rows.RidgeSolver` gathers, multiplies and solves; an :class:`Equations` says
what is multiplied. That of implicit feedback is in :mod:`als_spark.solve.implicit`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from als_spark.solve.blocks import RatingBlock
from als_spark.solve.gram import add_to_diagonals, multiply_dual, pad_factors
from als_spark.solve.linalg import row_dots, solve_spd_stack
from als_spark.solve.nonnegative import solve_nonnegative_dual
from als_spark.types import FloatArray, IntArray


class Penalty(Protocol):
    """What a solver needs to know of an objective."""

    @property
    def reg(self) -> float:
        """λ."""
        ...

    def weights(self, degrees: IntArray) -> FloatArray:
        """(n_rows,) float64 weight of |x|² of rows of so many ratings."""
        ...


class Equations(Protocol):
    """The systems (A + w I) x = b of rows against fixed factors; travels to the executors.

    The equations may be those of other coordinates of x, in which A is simpler: ``restore`` and
    ``restore_sums`` go back.
    """

    reg: float
    """λ, for the message of an error."""
    padded: FloatArray
    """(n_columns + 1, rank + 1) fixed factors: see :func:`als_spark.solve.gram.pad_factors`."""
    least_ratings: int
    """A row of fewer ratings has no solution for certain."""
    dual_below: int
    """Rows of fewer places are solved by ``solve_dual``."""

    def counts(self, block: RatingBlock) -> IntArray:
        """(n_rows,) n of each row's ridge weight; 0 where the solution is 0."""
        ...

    def enter(self, known: FloatArray, ratings: FloatArray) -> None:
        """Enter (n,) ratings into (n, rank + 1) gathered rows of ``padded``, in place.

        The product of the result with itself has b, and below it A's sum over the ratings.
        """
        ...

    def constant(self, ratings: FloatArray) -> float:
        """Sum what ratings add to the objective whatever the factors, in float64; any shape."""
        ...

    def add_ridge(self, gram: FloatArray, counts: IntArray) -> None:
        """Add what is in A, and in w, besides the sum over the ratings, in place.

        ``gram`` is (n_rows, rank, rank), ``counts`` (n_rows,).
        """
        ...

    def add_ridge_to_sums(self, gram: FloatArray, counts: IntArray) -> None:
        """Do as ``add_ridge``, in the coordinates of ``restore_sums``."""
        ...

    def solve_dual(
        self, known: FloatArray, ratings: FloatArray, counts: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Solve rows of equal width by systems of that order.

        Parameters
        ----------
        known : (n_rows * width, rank + 1)
            Gathered rows of ``padded``; overwritten.
        ratings : (n_rows, width)
        counts : (n_rows,) int

        Returns
        -------
        factors : (n_rows, rank)
        losses : (n_rows,) float64
        """
        ...

    def restore(self, factors: FloatArray) -> FloatArray:
        """Return (n_rows, rank) solutions in the coordinates of the factors."""
        ...

    def restore_sums(self, stack: FloatArray) -> FloatArray:
        """Return a (rank + 1, rank) sum of products in the coordinates of the factors."""
        ...


class SquaredErrors:
    """Explicit ratings: A = VᵀV and b = Vᵀr over the columns that a row has rated, w = λ n^ν.

    Parameters
    ----------
    penalty : Penalty
        The objective: a row of n ratings has the ridge λ n^ν.
    fixed : (n_columns, rank) float32 or float64
        Factors of the other side.
    nonnegative : bool
        Whether no factor may be negative; for ``solve_dual``.
    """

    def __init__(self, penalty: Penalty, fixed: FloatArray, *, nonnegative: bool = False) -> None:
        self._penalty = penalty
        self._nonnegative = nonnegative
        self.reg = penalty.reg
        self.padded = pad_factors(fixed)
        rank = fixed.shape[1]
        # Singular for certain, but rounding lets some of them through with arbitrary solutions.
        self.least_ratings = rank if self.reg == 0 else 0
        self.dual_below = rank if self.reg > 0 else 0

    def counts(self, block: RatingBlock) -> IntArray:
        """(n_rows,) ratings of each row."""
        return block.degrees

    def enter(self, known: FloatArray, ratings: FloatArray) -> None:
        """Enter ratings as the first column."""
        known[:, 0] = ratings

    def constant(self, ratings: FloatArray) -> float:
        """Return r·r."""
        exact = ratings.astype(np.float64, copy=False).reshape(-1)
        return float(exact @ exact)

    def add_ridge(self, gram: FloatArray, counts: IntArray) -> None:
        """Add λ n^ν to the diagonals."""
        add_to_diagonals(gram, self._penalty.weights(counts))

    add_ridge_to_sums = add_ridge

    def solve_dual(
        self, known: FloatArray, ratings: FloatArray, counts: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Solve (V Vᵀ + w I) y = r; u = Vᵀ y, and the rows' parts of the objective are w r·y."""
        n_rows, width = ratings.shape
        fixed = known[:, 1:].reshape(n_rows, width, -1)
        weights = self._penalty.weights(counts)
        ratings = ratings.astype(known.dtype)
        if self._nonnegative:
            x = solve_nonnegative_dual(fixed, ratings, weights)
            # r − V x is w y here, too.
            return x, row_dots(ratings, ratings - np.matmul(fixed, x[:, :, None])[:, :, 0])
        gram = multiply_dual(fixed)
        add_to_diagonals(gram, weights)
        y = ratings.copy()
        solve_spd_stack(gram, y)
        return np.matmul(y[:, None, :], fixed)[:, 0], weights * row_dots(y, ratings)

    def restore(self, factors: FloatArray) -> FloatArray:
        """Return the solutions themselves."""
        return factors

    restore_sums = restore
