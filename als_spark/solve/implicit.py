"""Implicit feedback: every pair is an observation, and a rating says how much it is trusted.

Hu, Koren, Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", with the
semantics of Spark MLlib: the preference p of a pair is 1 where its rating r is above 0, else 0, and
its confidence c is 1 + α |r|. With V the fixed factors of all columns that have a training rating,
the system of a row is

    A = VᵀV + Σ α |r| v vᵀ + λ n₊^ν I        b = Σ_(r > 0) (1 + α |r|) v

where both sums run over the row's own ratings, and n₊ of them are above 0. VᵀV is computed once a
half-step, so that a row costs its own ratings only; the product of √(α |r|) v, with (1 + α |r|) /
√(α |r|) in the first column, has both sums.

In the coordinates of the eigenvectors Q of VᵀV = Q Λ Qᵀ, what all rows share is diagonal: D = Λ + w
I for whatever ridge weight w. A row of few ratings then has a *dual* form, by the identity of
Woodbury: with T the (n, d) rows √(α |r|) Qᵀv, and g the first column,

    (I + T D⁻¹ Tᵀ) y = g        Qᵀx = D⁻¹ Tᵀ y
"""

from __future__ import annotations

import numpy as np

from als_spark.solve.blocks import RatingBlock
from als_spark.solve.equations import Penalty
from als_spark.solve.gram import add_to_diagonals, multiply_dual, pad_factors
from als_spark.solve.linalg import fill_lower_triangles, row_dots, solve_spd_stack
from als_spark.types import FloatArray, IntArray

LEAST_WEIGHT = 1e-20
"""α |r| is at least this, so that a rating without any weight still has a place for its preference:
VᵀV has the weight 1 of each column, beside which rounding hides it."""
SLICE_ROWS = 1 << 15
"""Rows of the fixed factors that are multiplied at a time in float64."""


class Preferences:
    """The equations of implicit feedback: see :class:`als_spark.solve.equations.Equations`.

    Parameters
    ----------
    penalty : Penalty
        The objective: a row of n₊ ratings above 0 has the ridge λ n₊^ν.
    alpha : float
        α, at least 0.
    fixed : (n_columns, rank) float32 or float64
        Factors of the other side.
    degrees : (n_columns,) int
        Training ratings of each of its rows: those without any are in no sum.
    gram : (rank, rank), optional
        VᵀV, where ``fixed`` has not all rows of the other side: see :func:`gram_of_all`.
    """

    least_ratings = 0
    dual_below = 0

    def __init__(
        self,
        penalty: Penalty,
        alpha: float,
        fixed: FloatArray,
        degrees: IntArray | None,
        gram: FloatArray | None = None,
    ) -> None:
        self._penalty = penalty
        self._alpha = alpha
        self.reg = penalty.reg
        if gram is None:
            if degrees is None:
                raise TypeError("an implicit objective needs the degrees of the fixed factors")
            gram = gram_of_all(fixed, degrees)
        self._gram = gram
        self.padded = pad_factors(fixed)

    def counts(self, block: RatingBlock) -> IntArray:
        """(n_rows,) ratings above 0 of each row."""
        return block.positives()

    def enter(self, known: FloatArray, ratings: FloatArray) -> None:
        """Scale the rows by √(α |r|), and enter (1 + α |r|) / √(α |r|) where r is above 0."""
        # Of ratings past all bounds come factors that are not finite, which are refused.
        with np.errstate(over="ignore", invalid="ignore"):
            weights = self._weights(ratings).astype(known.dtype)
            roots = np.sqrt(np.maximum(weights, LEAST_WEIGHT))
            known *= roots[:, None]
            known[:, 0] = np.where(ratings > 0, (1 + weights) / roots, 0)

    def constant(self, ratings: FloatArray) -> float:
        """Return Σ (1 + α |r|) over ratings above 0."""
        return float(self._constants(ratings).sum())

    def add_ridge(self, gram: FloatArray, counts: IntArray) -> None:
        """Add VᵀV, and λ n₊^ν to the diagonals."""
        # What is below the diagonals may be any number.
        with np.errstate(invalid="ignore", over="ignore"):
            gram += self._gram.astype(gram.dtype)
        add_to_diagonals(gram, self._penalty.weights(counts))

    # Bound here, since RotatedPreferences has an add_ridge of its own.
    add_ridge_to_sums = add_ridge

    def solve_dual(
        self, known: FloatArray, ratings: FloatArray, counts: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Rows have no dual form in these coordinates: VᵀV is not diagonal."""
        raise NotImplementedError

    def restore(self, factors: FloatArray) -> FloatArray:
        """Return the solutions themselves."""
        return factors

    def restore_sums(self, stack: FloatArray) -> FloatArray:
        """Return the sums themselves."""
        return stack

    def _weights(self, ratings: FloatArray) -> FloatArray:
        return self._alpha * np.abs(ratings)

    def _constants(self, ratings: FloatArray) -> FloatArray:
        exact = ratings.astype(np.float64, copy=False)
        return np.where(exact > 0, 1 + self._weights(exact), 0)


class RotatedPreferences(Preferences):
    """The same in the coordinates of the eigenvectors of VᵀV: cheaper, where no sign matters."""

    def __init__(
        self,
        penalty: Penalty,
        alpha: float,
        fixed: FloatArray,
        degrees: IntArray | None,
        gram: FloatArray | None = None,
    ) -> None:
        super().__init__(penalty, alpha, fixed, degrees, gram)
        values, self._vectors = np.linalg.eigh(self._gram)
        self._values = np.maximum(values, 0)
        np.matmul(fixed, self._vectors.astype(fixed.dtype), out=self.padded[:-1, 1:])
        self.dual_below = fixed.shape[1]

    def add_ridge(self, gram: FloatArray, counts: IntArray) -> None:
        """Add Λ and λ n₊^ν to the diagonals."""
        diagonals = np.einsum("rii->ri", gram)
        diagonals += self._diagonals(counts).astype(gram.dtype)

    def solve_dual(
        self, known: FloatArray, ratings: FloatArray, counts: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Solve (I + T D⁻¹ Tᵀ) y = g."""
        n_rows, width = ratings.shape
        self.enter(known, ratings.reshape(-1))
        stack = known.reshape(n_rows, width, -1)
        g = stack[:, :, 0].copy()
        with np.errstate(divide="ignore", invalid="ignore"):
            scales = (1 / np.sqrt(self._diagonals(counts))).astype(known.dtype)
            scaled = stack[:, :, 1:]
            scaled *= scales[:, None, :]
            gram = multiply_dual(scaled)
            add_to_diagonals(gram, np.ones(n_rows))
            y = g.copy()
            solve_spd_stack(gram, y)
            x = np.matmul(y[:, None, :], scaled)[:, 0]
            rhs = np.matmul(g[:, None, :], scaled)[:, 0]
            return x * scales, self._constants(ratings).sum(axis=1) - row_dots(x, rhs)

    def restore(self, factors: FloatArray) -> FloatArray:
        """Return Q times the solutions."""
        restored: FloatArray = factors @ self._vectors.T.astype(factors.dtype)
        return restored

    def restore_sums(self, stack: FloatArray) -> FloatArray:
        """Return b Qᵀ, and Q S Qᵀ below it."""
        whole: FloatArray = stack.copy()
        fill_lower_triangles(whole[None, 1:])
        whole = whole @ self._vectors.T
        whole[1:] = self._vectors @ whole[1:]
        return whole

    def _diagonals(self, counts: IntArray) -> FloatArray:
        diagonals: FloatArray = self._values + self._penalty.weights(counts)[:, None]
        return diagonals


def gram_of_all(factors: FloatArray, degrees: IntArray) -> FloatArray:
    """VᵀV over the rows with a training rating, (rank, rank), multiplied and summed in float64."""
    rank = factors.shape[1]
    total = np.zeros((rank, rank))
    for first in range(0, factors.shape[0], SLICE_ROWS):
        part = slice(first, first + SLICE_ROWS)
        rows = factors[part][degrees[part] > 0].astype(np.float64)
        total += rows.T @ rows
    return total
