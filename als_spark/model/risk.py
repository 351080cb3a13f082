"""Recommendations that weigh what is not known: by the lower bound of an interval, or by a draw.

With the moments of a variational posterior (:mod:`als_spark.train.bayes.spread`) a rating of user u
and item i has the mean m + b + c + u·v and the variance, noise included,

    zᵀ P z + gᵀ Q g + tr(P' Q') + 1 / (a t_u t_i)

which is a product of numbers of the user and numbers of the item, as the mean is: with L(A) the
lower triangle of A (or its diagonal, where covariances are diagonal), and off-diagonal entries
counted twice on one side,

    L(P)·L(z zᵀ) + L(g gᵀ + P')·L(Q) + (1 / a t_u)·(1 / t_i)

So the lower bounds of all pairs come from matrix products of *wide* factors, as scores do. Of a
sampled model they come from the products of each sample that is kept
(:class:`als_spark.solve.topk.SampledBound`). A draw of all rows from their posteriors, or a sample,
has ordinary factors (Thompson 1933, "On the Likelihood that One
Unknown Probability Exceeds Another"; Chapelle and Li 2011, "An Empirical Evaluation of Thompson
Sampling").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np

from als_spark.errors import ConfigError
from als_spark.model.factor_model import FactorModel
from als_spark.model.intervals import IntervalModel
from als_spark.solve.philox import normals
from als_spark.solve.posterior import covariance_places, unpack
from als_spark.solve.topk import Bound, LowerBound, SampledBound
from als_spark.train.backend import Factors
from als_spark.train.bayes.plain import plain_factors
from als_spark.train.bayes.spread import Moments, Samples, Spread
from als_spark.types import SIDES, FloatArray, Side

RiskKind = Literal["averse", "thompson"]


@dataclass(frozen=True, slots=True)
class Risk:
    """What recommendations are ordered by, in the place of predictions.

    Attributes
    ----------
    kind : {"averse", "thompson"}
        ``averse``: the lower bound of the interval of a rating, as
        :meth:`~als_spark.model.intervals.IntervalModel.predict` has it, so that what is hardly
        known stands further down. ``thompson``: the prediction by a draw of users and items from
        their posteriors, so that what is hardly known is tried now and then; of a sampled model
        one of its samples.
    intervals : IntervalModel
        Of the same training as the model.
    coverage : float
        Of the interval of ``averse``, between 0 and 1.
    seed : int
        Of the draw of ``thompson``, at least 0: the same one gives the same draw. Seeds that differ
        by the number S of samples give the same sample.

    Raises
    ------
    ConfigError
        If a value is none that it may have.
    """

    kind: RiskKind
    intervals: IntervalModel
    coverage: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every member."""
        if self.kind not in ("averse", "thompson"):
            raise ConfigError(f"risk {self.kind!r}: use averse or thompson")
        if not 0 < self.coverage < 1:
            raise ConfigError(
                f"`coverage={self.coverage!r}`: use a share between 0 and 1, such as 0.9"
            )
        if type(self.seed) is not int or self.seed < 0:
            raise ConfigError(f"`seed={self.seed!r}`: use a whole number of at least 0")

    @property
    def bound(self) -> Bound | None:
        """How scores come from the factors of :meth:`apply`; None: by their products."""
        if self.kind == "thompson":
            return None
        n_means = self.intervals.rank + 2
        times = NormalDist().inv_cdf(0.5 + self.coverage / 2)
        sampled = isinstance(self.intervals.spread, Samples)
        return SampledBound(n_means, times) if sampled else LowerBound(n_means, times)

    def apply(self, model: FactorModel) -> FactorModel:
        """Return the model with the factors that scores come from, float64.

        Raises
        ------
        ConfigError
            If the intervals are of another model.
        """
        rows = []
        for side, ids in zip(SIDES, (self.intervals.users, self.intervals.items), strict=True):
            own = model.side(side).ids
            rows.append(ids.rows_of(own.ids))
            if len(own) != len(ids) or (rows[-1] < 0).any():
                raise ConfigError(
                    f"the intervals and the model have not the same {side}s: give those of one "
                    "training"
                )
        # A model that was saved has the rows without ratings last.
        spread = self.intervals.spread.take(*rows)
        users, items = (self._factors(spread, side) for side in SIDES)
        return replace(model, factors=Factors(users, items))

    def _factors(self, spread: Spread, side: Side) -> FloatArray:
        if isinstance(spread, Moments):
            drawn = self.kind == "thompson"
            return _drawn(spread, side, self.seed) if drawn else _wide(spread, side)
        if self.kind == "averse":
            return spread.wide(side)
        rows = spread.draws[SIDES.index(side)][:, self.seed % spread.n_draws]
        return plain_factors(rows.astype(np.float64), side, spread.mean)


def _drawn(moments: Moments, side: Side, seed: int) -> FloatArray:
    """Draw the rows of a side: plain factors."""
    at = SIDES.index(side)
    rows = moments.rows[at]
    packed, size = moments.packed[at], rows.shape[1]
    noise = normals(np.arange(rows.shape[0]), size, seed=seed, iteration=0, side=side)
    if packed.shape[1] == size:
        return plain_factors(rows + np.sqrt(packed) * noise, side, moments.mean)
    roots = np.linalg.cholesky(unpack(packed, size))
    return plain_factors(rows + np.einsum("nde,ne->nd", roots, noise), side, moments.mean)


def _wide(moments: Moments, side: Side) -> FloatArray:
    """Put what means and variances are products of side by side."""
    at = SIDES.index(side)
    rows, packed, scales = moments.rows[at], moments.packed[at], moments.scales[at][:, None]
    first, second = covariance_places(rows.shape[1], packed.shape[1])
    extended = rows.copy()
    extended[:, 0] = 1
    squares = extended[:, first] * extended[:, second]
    if side == "user":
        twice = np.where(first == second, 1.0, 2.0)
        # P' has no bias row and column, whose places in the triangle are those of column 0.
        spreads = [twice * packed, twice * (squares + np.where(second > 0, packed, 0.0))]
        noise = 1 / (moments.noise * scales)
    else:
        spreads, noise = [squares, packed], 1 / scales
    return np.concatenate([plain_factors(rows, side, moments.mean), *spreads, noise], axis=1)
