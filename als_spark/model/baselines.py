"""Baselines as models: the same ids, counts and sums, with factors that nobody has trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from als_spark.model.factor_model import FactorModel
from als_spark.model.recommend import candidates_of
from als_spark.train.backend import Factors
from als_spark.train.baseline import damped_means

__all__ = ["biases_model", "popular_model"]


def biases_model(model: FactorModel) -> FactorModel:
    """Return the biases alone, of the counts and sums that a model has.

    See :func:`als_spark.train.baseline.damped_means`.
    """
    return replace(
        model, factors=damped_means({"user": model.user_stats, "item": model.item_stats})
    )


def popular_model(model: FactorModel) -> FactorModel:
    """Return a model of rank 1 that recommends the popular items to everybody.

    The users that a model knows are answered from factors here too, so that the two are compared on
    the same users.
    """
    scores = np.zeros((len(model.items), 1))
    scores[model.item_stats.degrees > 0, 0] = -1.0 * candidates_of(model, "item").places
    return replace(model, factors=Factors(np.ones((len(model.users), 1)), scores))
