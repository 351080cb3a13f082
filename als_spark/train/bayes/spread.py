"""How uncertain a prediction is, by the moments of the two rows and the noise.

With x ~ N(x̄, P) and y ~ N(ȳ, Q), independent, and g and z their means with a 1 in the place of the
bias, the prediction m + b + c + u·v has the variance

    zᵀ P z + gᵀ Q g + tr(P' Q'),    P', Q' without the bias row and column

and a rating 1 / (a t_u t_i) more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from als_spark.errors import ConfigError
from als_spark.solve.posterior import unpack
from als_spark.train.bayes.loop import Posterior
from als_spark.train.bayes.side import START_FREEDOM
from als_spark.types import SIDES, FloatArray, IntArray


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
        """Take the moments of a posterior.

        Raises
        ------
        ConfigError
            If it was sampled, for a mean over samples has no covariances, or is a ridge.
        """
        if posterior.options.method == "ridge":
            raise ConfigError(
                'a ridge has no covariances: intervals are those of method="variational"'
            )
        if posterior.options.method != "variational":
            raise ConfigError(
                "a sampled model keeps the mean of its samples alone: intervals are those of "
                'method="variational"'
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
            rows=(self.rows[0][users], self.rows[1][items]),
            packed=(self.packed[0][users], self.packed[1][items]),
            scales=(self.scales[0][users], self.scales[1][items]),
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
        means = self.mean + x[:, 0] + y[:, 0] + np.einsum("nd,nd->n", x[:, 1:], y[:, 1:])
        x[:, 0] = y[:, 0] = 1
        variances = np.einsum("nd,nde,ne->n", y, p, y) + np.einsum("nd,nde,ne->n", x, q, x)
        variances += np.einsum("nde,nde->n", p[:, 1:, 1:], q[:, 1:, 1:])
        noises = 1 / np.sqrt(self.noise * self.scales[0][users] * self.scales[1][items])
        return means, np.sqrt(variances), noises
