"""The noise of the ratings: one precision for all, and rows of much or little noise.

A rating of user u and item i has the noise variance 1 / (a t_u t_i), with a ~ Gamma(1/2, 1/2) and,
if noise is learnt for each row, t ~ Gamma(df/2, df/2) (shape and rate), so that the errors of a row
are those of a Student t distribution. All t are 1 where noise is shared. df is the most probable
one of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, gammaln

from als_spark.types import FloatArray, IntArray

SHAPE, RATE = 0.5, 0.5
"""Of the prior of a."""
FREEDOMS = np.geomspace(1.0, 300.0, 60)
"""Degrees of freedom that a side may have."""


@dataclass(frozen=True, slots=True)
class Gammas:
    """Gamma distributions: shapes and rates, arrays of one shape."""

    shape: FloatArray
    rate: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Expectations."""
        return self.shape / self.rate

    @property
    def mean_log(self) -> FloatArray:
        """Expectations of the logarithms."""
        logs: FloatArray = digamma(self.shape) - np.log(self.rate)
        return logs

    def draw(self, generator: np.random.Generator) -> FloatArray:
        """Draw one number of each."""
        return generator.standard_gamma(self.shape) / self.rate

    def bound(self, shape: float, rate: float) -> float:
        """Return minus the sum of their divergences from one prior."""
        own = self.shape * np.log(self.rate) - gammaln(self.shape)
        prior = shape * np.log(rate) - gammaln(shape)
        moments = (shape - self.shape) * self.mean_log - (rate - self.rate) * self.mean
        return float(np.sum(prior - own + moments))


def noise_given(n_ratings: int, squares: float) -> Gammas:
    """Return the distribution of a, given the weighted squared errors of all ratings."""
    return Gammas(np.array(SHAPE + 0.5 * n_ratings), np.array(RATE + 0.5 * squares))


def scales_given(degrees: IntArray, errors: FloatArray, noise: float, freedom: float) -> Gammas:
    """Return the distribution of t of each row.

    Parameters
    ----------
    degrees : (n,) int
        Training ratings of each row.
    errors : (n,) float64
        Their squared errors, each times t of the other side.
    noise : float
        a.
    freedom : float
        df.
    """
    return Gammas(0.5 * (freedom + degrees), 0.5 * (freedom + noise * errors))


def log_freedoms(mean: FloatArray, mean_log: FloatArray) -> FloatArray:
    """(grid,) how probable each df of the grid is, given (the moments of) t: logarithms."""
    half = 0.5 * FREEDOMS
    n, total = mean.size, float((mean_log - mean).sum())
    # What is left of the log density, Σ −ln t, is the same for every df.
    logs: FloatArray = n * (half * np.log(half) - gammaln(half)) + half * total
    return logs
