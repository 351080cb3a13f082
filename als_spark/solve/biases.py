"""User and item biases, learnt within the same ridge solves as the factors.

With μ a constant (the mean of the training ratings) a model with biases minimises::

    Σ_Ω (r_ui − μ − b_u − b_i − u_u·v_i)²
        + λ (Σ_u n_u^ν |u_u|² + Σ_i n_i^ν |v_i|²) + λ_b (Σ_u n_u^ν b_u² + Σ_i n_i^ν b_i²)

(Koren, Bell and Volinsky 2009, "Matrix Factorization Techniques for Recommender Systems", equations
4 and 5). Its *trained* factors have a column more than its rank, which holds the scaled bias b' = b
/ c with c = √(λ / λ_b): the penalty of a row x' = [x, b'] is then λ n^ν |x'|², as without biases. A
row is solved against the fixed factors [V, c], and its ratings less μ and the biases c b' of their
columns, by the ridge solver.

Its *plain* factors are [u, b_u + μ, 1] and [v, 1, b_i]: their dot product is the prediction.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from als_spark.solve.blocks import RatingBlock
from als_spark.solve.equations import Penalty, SquaredErrors
from als_spark.solve.rows import RidgeSolver
from als_spark.solve.solver import RowSums
from als_spark.types import FloatArray, IntArray, Side


class BiasedSolver:
    """Solves rows with their biases: see :class:`als_spark.solve.solver.RowSolver`.

    Parameters
    ----------
    penalty : Penalty
        The objective: a row of n ratings has the ridge λ n^ν.
    fixed : (n_columns, rank + 1) float32 or float64
        Trained factors of the other side.
    scale : float
        c = √(λ / λ_b).
    mean : float
        μ.
    """

    def __init__(self, penalty: Penalty, fixed: FloatArray, *, scale: float, mean: float) -> None:
        design = fixed.copy()
        design[:, -1] = scale
        self._solver = RidgeSolver(SquaredErrors(penalty, design))
        # One more, for the padded places: their rating stays 0.
        self._offsets = np.zeros(fixed.shape[0] + 1)
        self._offsets[:-1] = mean + scale * fixed[:, -1].astype(np.float64)

    def solve(self, block: RatingBlock, *, side: Side) -> tuple[FloatArray, float]:
        """Solve every row of a block."""
        return self._solver.solve(self._centred(block), side=side)

    def accumulate(self, block: RatingBlock) -> RowSums:
        """Sum the normal equations of rows whose other ratings are in other blocks."""
        return self._solver.accumulate(self._centred(block))

    def solve_sums(
        self, sums: RowSums, rows: IntArray, degrees: IntArray, *, side: Side
    ) -> tuple[FloatArray, float]:
        """Solve rows whose normal equations have been summed over all blocks."""
        return self._solver.solve_sums(sums, rows, degrees, side=side)

    def _centred(self, block: RatingBlock) -> RatingBlock:
        """Subtract from each rating what is predicted without its row."""
        offsets = self._offsets.astype(block.ratings.dtype, copy=False)
        return replace(block, ratings=block.ratings - offsets[block.indices])


def append_biases(factors: FloatArray) -> FloatArray:
    """Return (n, rank + 1) trained factors, with biases of 0, of (n, rank) factors."""
    return np.pad(factors, ((0, 0), (0, 1)))


def plain_side(trained: FloatArray, side: Side, *, scale: float, mean: float) -> FloatArray:
    """Return the plain factors of a side: their products with the other side's are predictions.

    Parameters
    ----------
    trained : (n, rank + 1)
        [x, b / c].
    side : {"user", "item"}
    scale, mean : float
        c and μ.

    Returns
    -------
    (n, rank + 2), dtype of the trained ones
        [u, b_u + μ, 1] of users, [v, 1, b_i] of items.
    """
    plain = append_biases(trained)
    biases = scale * trained[:, -1].astype(np.float64)
    plain[:, -2], plain[:, -1] = (biases + mean, 1) if side == "user" else (1, biases)
    return plain


def trained_side(plain: FloatArray, side: Side, *, scale: float, mean: float) -> FloatArray:
    """Return the (n, rank + 1) trained factors of plain ones: undo :func:`plain_side`."""
    trained = plain[:, :-1].copy()
    last = plain[:, -2] - np.float64(mean) if side == "user" else plain[:, -1]
    trained[:, -1] = last / scale
    return trained
