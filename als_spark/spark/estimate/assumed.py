"""What is assumed of ratings of which the counts alone are known: how they are spread.

The ratings of the rows of a side are log-normal, with :data:`SPREAD` as the standard deviation of
their logarithms, and which column a rating has does not depend on its row. Real ratings have about
that spread of users; items are often spread more, which makes them a little cheaper to shuffle.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from als_spark.types import FloatArray, IntArray

SPREAD = 1.1
_QUANTILES = 64


def shares() -> FloatArray:
    """Ratings of a row over the mean of all rows, at equally likely quantiles; their mean is 1."""
    at = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    normal = NormalDist(0.0, SPREAD)
    found = np.array([math.exp(normal.inv_cdf(p)) for p in at.tolist()])
    of_mean: FloatArray = found / found.mean()
    return of_mean


def degrees_of(n_rows: int, n_ratings: float) -> FloatArray:
    """Ratings of rows at equally likely quantiles."""
    return shares() * (n_ratings / max(n_rows, 1))


def distinct(n_rows: int, n_draws: float) -> float:
    """Rows of a side that so many ratings, drawn by how often each row is rated, are of."""
    if n_rows == 0:
        return 0.0
    return float(n_rows * -np.expm1(-shares() * n_draws / n_rows).mean())


def row_work(degrees: FloatArray | IntArray, rank: int) -> tuple[float, float]:
    """Workload of rows of given degrees, in ratings and in rows of full cost.

    A row of at least d ratings costs its products, by the rating, and its solution. One of n < d is
    solved by n equations (see :mod:`als_spark.solve.rows`): its products cost n / d as much, and so
    does its solution, nearly, as measured.
    """
    n = np.asarray(degrees, np.float64)
    small = np.minimum(n, rank) / rank
    return float((n * small).sum()), float(small.sum())


def side_work(n_rows: int, n_ratings: float, rank: int) -> tuple[float, float]:
    """Return the work of all rows of a side, as :func:`row_work` does."""
    ratings, rows = row_work(degrees_of(n_rows, n_ratings), rank)
    return ratings * n_rows / _QUANTILES, rows * n_rows / _QUANTILES
