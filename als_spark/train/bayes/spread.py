"""How uncertain a prediction is: by the moments of the two rows, or by samples, and the noise.

With x ~ N(x̄, P) and y ~ N(ȳ, Q), independent, and g and z their means with a 1 in the place of the
bias, the prediction m + b + c + u·v has the variance

    zᵀ P z + gᵀ Q g + tr(P' Q'),    P', Q' without the bias row and column

and a rating 1 / (a t_u t_i) more. Of samples the variance is the mean of the squared distances of
their predictions from that of the model, which is the mean over all samples; a is a mean over
these, and t of each row what the mean of its t^−½, a standard deviation of the noise, comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from als_spark.errors import ConfigError
from als_spark.solve.posterior import unpack
from als_spark.solve.topk import sampled_pairs
from als_spark.train.bayes.loop import Posterior
from als_spark.train.bayes.plain import plain_factors, predict_rows
from als_spark.train.bayes.side import START_FREEDOM
from als_spark.types import SIDES, FloatArray, IntArray, Side

PAIRS = 1 << 12
"""Pairs that samples predict at a time."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What intervals need of a variational posterior, by dense rows.

    Attributes
    ----------
    mean : float
        m.
    noise : float
        a.
    rows : (users, items) of (n_rows, D) float64
        Posterior means: bias, then factors.
    packed : (users, items) of (n_rows, D (D + 1) / 2) or (n_rows, D) float64
        Lower triangles of the covariances, row by row, or diagonals.
    scales : (users, items) of (n_rows,) float64
        t of each row.
    freedoms : (users, items) of float
        df of t, for a training that goes on from here.
    ridges : (users, items) of float
        γ: the ridge of the features, for the same.
    """

    mean: float
    noise: float
    rows: tuple[FloatArray, FloatArray]
    packed: tuple[FloatArray, FloatArray]
    scales: tuple[FloatArray, FloatArray]
    freedoms: tuple[float, float] = (START_FREEDOM, START_FREEDOM)
    ridges: tuple[float, float] = (1.0, 1.0)

    @staticmethod
    def of(posterior: Posterior) -> Moments:
        """Take the moments of a variational posterior.

        Raises
        ------
        ConfigError
            If it was sampled, or is a ridge.
        """
        if posterior.options.method != "variational":
            raise ConfigError(
                f"a posterior of method={posterior.options.method!r} has no covariances: moments "
                'are those of method="variational"'
            )
        users, items = (posterior.sides[side] for side in SIDES)
        return Moments(
            posterior.mean,
            posterior.noise,
            (users.means, items.means),
            (users.columns.packed(users.table), items.columns.packed(items.table)),
            (users.scales, items.scales),
            (users.freedom, items.freedom),
            # Without features there is only that of the mean.
            (float(users.prior.ridge[-1]), float(items.prior.ridge[-1])),
        )

    def take(self, users: IntArray, items: IntArray) -> Moments:
        """Return the moments of some rows, in their order."""
        return replace(
            self,
            rows=_chosen(self.rows, users, items),
            packed=_chosen(self.packed, users, items),
            scales=_chosen(self.scales, users, items),
        )

    def predict(
        self, users: IntArray, items: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Predict pairs of rows.

        Returns
        -------
        means, deviations, noises : (n,) float64
            Predictions, their standard deviations, and those of the noise of such ratings.
        """
        x, y = self.rows[0][users], self.rows[1][items]
        size = x.shape[1]
        p, q = (unpack(own[at], size) for own, at in zip(self.packed, (users, items), strict=True))
        means = predict_rows(x, y, self.mean)
        x[:, 0] = y[:, 0] = 1
        variances = np.einsum("nd,nde,ne->n", y, p, y) + np.einsum("nd,nde,ne->n", x, q, x)
        variances += np.einsum("nde,nde->n", p[:, 1:, 1:], q[:, 1:, 1:])
        noises = 1 / np.sqrt(self.noise * self.scales[0][users] * self.scales[1][items])
        return means, np.sqrt(variances), noises


@dataclass(frozen=True, slots=True)
class Samples:
    """What intervals need of a sampled posterior, by dense rows.

    Attributes
    ----------
    mean : float
        m.
    noise : float
        a: its mean over the samples.
    rows : (users, items) of (n_rows, D) float64
        Those of the model, whose predictions are the means over all samples: bias, then factors.
    draws : (users, items) of (n_rows, S, D) float32
        The samples that are kept; rows without a training rating are drawn from their prior.
    scales : (users, items) of (n_rows,) float64
        t of each row, by the mean of t^−½ over all samples.
    """

    mean: float
    noise: float
    rows: tuple[FloatArray, FloatArray]
    draws: tuple[FloatArray, FloatArray]
    scales: tuple[FloatArray, FloatArray]

    @staticmethod
    def of(posterior: Posterior) -> Samples:
        """Take the samples of a posterior.

        Raises
        ------
        ConfigError
            If it was not sampled.
        """
        if posterior.draws is None:
            raise ConfigError(
                f"a posterior of method={posterior.options.method!r} has no samples: they are "
                'those of method="sample"'
            )
        rows = posterior.users, posterior.items
        return Samples(posterior.mean, posterior.noise, rows, *posterior.draws)

    @property
    def n_draws(self) -> int:
        """S."""
        return int(self.draws[0].shape[1])

    def take(self, users: IntArray, items: IntArray) -> Samples:
        """Return the samples of some rows, in their order."""
        return replace(
            self,
            rows=_chosen(self.rows, users, items),
            draws=_chosen(self.draws, users, items),
            scales=_chosen(self.scales, users, items),
        )

    def predict(
        self, users: IntArray, items: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Predict pairs of rows: see :meth:`Moments.predict`."""
        found = np.empty((3, users.size))
        for start in range(0, users.size, PAIRS):
            part = slice(start, start + PAIRS)
            own = self.take(users[part], items[part])
            n_means = own.rows[0].shape[1] + 1
            found[:, part] = sampled_pairs(own.wide("user"), own.wide("item"), n_means)
        means, variances, noises = found
        return means, np.sqrt(variances), np.sqrt(noises)

    def wide(self, side: Side) -> FloatArray:
        """Return the :func:`sample_vectors` of a side."""
        k = SIDES.index(side)
        precisions = self.scales[k] * (self.noise if side == "user" else 1.0)
        return sample_vectors(self.rows[k], self.draws[k], precisions, side, self.mean)


def sample_vectors(
    rows: FloatArray, draws: FloatArray, precisions: FloatArray, side: Side, mean: float = 0.0
) -> FloatArray:
    """Put the plain factors of a model and of each sample side by side.

    Parameters
    ----------
    rows : (n, D) float64
        Of the model.
    draws : (n, S, D) float32
    precisions : (n,) float64
        t of each row, of the users times a.
    side : {"user", "item"}
    mean : float
        m, which the users have.

    Returns
    -------
    (n, (S + 1) (D + 1) + 1) float64
        Factors of the model, of each sample, and what the variance of the noise is the product of:
        see :class:`als_spark.solve.topk.SampledBound`.
    """
    whole = np.concatenate([rows[:, None], draws], axis=1)
    factors = plain_factors(whole, side, mean).reshape(whole.shape[0], -1)
    return np.column_stack([factors, 1 / precisions])


def _chosen(
    sides: tuple[FloatArray, FloatArray], users: IntArray, items: IntArray
) -> tuple[FloatArray, FloatArray]:
    return sides[0][users], sides[1][items]


Spread = Moments | Samples


def spread_of(posterior: Posterior) -> Spread:
    """Return what tells how uncertain the predictions of a posterior are.

    Raises
    ------
    ConfigError
        If it is a ridge.
    """
    if posterior.options.method == "ridge":
        raise ConfigError(
            "a ridge does not tell how uncertain it is: intervals are those of "
            'method="variational" and method="sample"'
        )
    return Moments.of(posterior) if posterior.draws is None else Samples.of(posterior)
