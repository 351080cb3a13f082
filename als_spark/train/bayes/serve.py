"""A Bayesian factorisation as plain factors, that predict, recommend and fold users in.

With users' rows x ~ N(p, C), R Rᵀ = C and x = p + R x̃, a prediction is

    m + c_i + z_i·x = (m + c_i + z_i·p) + (Rᵀ z_i)·x̃,    x̃ ~ N(0, I),  z_i = (1, v_i)

so that in the coordinates x̃ the posterior of a user is a ridge with λ = 1 / a, the noise variance,
on items that have the factors Rᵀ z_i and a constant each. That is the objective of biased factors
(:mod:`als_spark.solve.biases`) whose user biases are held at zero: by a ridge on them that is
:data:`HELD` times as large. A user that is folded in gets the posterior mean under the learnt
prior. Of a ridge C is the identity and λ its own: the user gets the row that a half-step would give
to one whose prior mean is the mean of all users'.
"""

from __future__ import annotations

import math

import numpy as np

from als_spark.solve.objective import Objective
from als_spark.train.backend import Factors
from als_spark.train.bayes.loop import Posterior
from als_spark.types import FloatArray

HELD = 1e12
"""λ of the user biases, in units of λ."""


def served(posterior: Posterior) -> tuple[Factors, Objective]:
    """Return the factors whose products are the predictions, and the objective they belong to.

    Returns
    -------
    factors : Factors
        (n_users, D + 2) and (n_items, D + 2), of the dtype of the options.
    objective : Objective
        That new users are solved by; λ is the variance of the noise where t is 1, or that of a
        ridge.
    """
    mean, covariance = user_prior(posterior)
    root = np.linalg.cholesky(covariance)
    users = np.linalg.solve(root, (posterior.users - mean).T).T
    items = posterior.items.copy()
    constants = items[:, 0] + mean[0] + items[:, 1:] @ mean[1:]
    items[:, 0] = 1
    reg, exponent = posterior.noise_deviation**2, 0.0
    if posterior.options.method == "ridge":
        own = posterior.options.objective
        reg, exponent = own.reg, own.exponent
    objective = Objective(reg, exponent, bias_reg=HELD * reg, mean=posterior.mean)
    ones, dtype = np.ones(users.shape[0]), posterior.options.dtype
    return (
        Factors(
            np.column_stack([users, posterior.mean * ones, ones]).astype(dtype),
            np.column_stack([items @ root, np.ones(items.shape[0]), constants]).astype(dtype),
        ),
        objective,
    )


def rows_of_ridge(factors: Factors, user_mean: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the rows that :func:`served` made the factors of a ridge from.

    Parameters
    ----------
    factors : Factors
        (n_users, D + 2) and (n_items, D + 2).
    user_mean : (D,) float64
        The prior mean of a user of whom nothing is known.

    Returns
    -------
    users, items : (n_rows, D) float64
        Bias and factors of each row.
    """
    size = user_mean.size
    users = factors.users[:, :size] + user_mean
    items = factors.items[:, :size].astype(np.float64)
    items[:, 0] = factors.items[:, size + 1] - user_mean[0] - items[:, 1:] @ user_mean[1:]
    return users, items


def user_prior(posterior: Posterior) -> tuple[FloatArray, FloatArray]:
    """Return mean and covariance of a user of whom nothing is known: (D,) and (D, D).

    The features of such a user are not known either, so the covariance has what they explain, too.
    Of samples, whose factors have no axes in common, they are the moments of the mean over samples.
    """
    state = posterior.sides["user"]
    rated = state.rated
    if posterior.options.method == "variational":
        means = state.prior_means[rated]
        covariance = np.linalg.inv(state.precision) + np.cov(means.T, bias=True)
        return means.mean(axis=0), covariance
    if posterior.options.method == "ridge":
        return state.prior_means[rated].mean(axis=0), np.eye(state.columns.size)
    rows = posterior.users[rated]
    covariance = np.cov(rows.T, bias=True)
    # A direction that nobody uses still has a prior.
    floor = 1e-6 * max(float(np.trace(covariance)) / covariance.shape[0], 1e-12)
    return rows.mean(axis=0), covariance + floor * np.eye(covariance.shape[0])


def prior_deviations(posterior: Posterior) -> dict[str, float]:
    """Return how much ratings vary by what is learnt, in rating units.

    ``user_bias`` and ``item_bias`` are the standard deviations of biases under the prior of their
    side, given the features; ``products`` is the root of the mean square of u·v under both priors.
    """
    moments = []
    found: dict[str, float] = {}
    for side, state in posterior.sides.items():
        covariance = np.linalg.inv(state.precision)
        means = state.prior_means[state.rated]
        found[f"{side}_bias"] = math.sqrt(covariance[0, 0])
        moments.append((covariance + means.T @ means / len(means))[1:, 1:])
    return {**found, "products": math.sqrt(float(np.einsum("de,de->", *moments)))}
