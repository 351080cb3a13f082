"""The bias-only baseline: what is known of a rating from its user and its item apart.

With μ the mean training rating, n the number of training ratings of a row, and two constants β that
draw the biases of rows with few ratings towards 0,

    b_i = Σ_(u rated i) (r_ui − μ) / (n_i + β_item)
    b_u = Σ_(i rated by u) (r_ui − μ − b_i) / (n_u + β_user)

and the prediction is μ + b_u + b_i (Koren 2010, "Factor in the Neighbors: Scalable and Accurate
Collaborative Filtering", ACM TKDD 4(1), section 2.1, with its β of 25 and 10). As a model of rank 2
it has the factors [μ + b_u, 1] and [1, b_i]: any backend measures it as it does the others.

b_i needs nothing but the counts and sums of the items. b_u minimises Σ (r_ui − μ − b_i − b_u)² +
β_user b_u², which is a half-step with one unknown a row: the backend's own solver sums it where the
ratings are. Where there are no ratings, as in a stored model, :func:`bias_factors` leaves b_i out
of b_u.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from als_spark.solve.objective import Objective
from als_spark.train.backend import Backend, HalfStep, HeldFactors
from als_spark.train.metrics import SideStats
from als_spark.types import FloatArray, Side

ITEM_DAMPING = 25.0
"""β_item: as if an item had so many ratings more, all of them the mean."""
USER_DAMPING = 10.0
"""β_user."""


def fit_biases(backend: Backend, stats: Mapping[Side, SideStats], label: str) -> HeldFactors:
    """Estimate the biases in one pass over the training ratings by user.

    Parameters
    ----------
    backend : Backend
        Where the ratings are.
    stats : mapping of side to SideStats
        Of the training ratings.
    label : str
        Describes the step to whoever watches.

    Returns
    -------
    HeldFactors
        (n_users, 2) and (n_items, 2) float64; their products are the predictions.
    """
    mean = stats["user"].mean
    items = _damped(stats["item"], mean, ITEM_DAMPING)
    # The two ridges are equal, so a trained bias is the bias itself.
    objective = Objective(USER_DAMPING, bias_reg=USER_DAMPING, mean=mean)
    none = np.zeros((stats["user"].degrees.size, 1))
    step = HalfStep(items[:, None], none, objective, stats["item"].degrees)
    (solved,) = backend.solve("user", [step], label)
    # Of rank 0, and the trained biases are the columns of the biases.
    return HeldFactors(solved.factors, items[:, None]).plain(objective)


def bias_factors(stats: SideStats, side: Side, mean: float) -> FloatArray:
    """Estimate the biases of rows from counts and sums alone: b_u = Σ (r_ui − μ) / (n_u + β_user).

    ``mean`` is that of all ratings. The (n, 2) float64 factors of one side are as those of
    :func:`fit_biases`.
    """
    if side == "user":
        biases = mean + _damped(stats, mean, USER_DAMPING)
        return np.column_stack([biases, np.ones(biases.size)])
    biases = _damped(stats, mean, ITEM_DAMPING)
    return np.column_stack([np.ones(biases.size), biases])


def _damped(stats: SideStats, mean: float, damping: float) -> FloatArray:
    biases: FloatArray = (stats.sums - mean * stats.degrees) / (stats.degrees + damping)
    return biases
