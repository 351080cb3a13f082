"""A baseline as a model: the same ids, counts and sums, with factors that nobody has trained."""

from __future__ import annotations

import numpy as np

from als_spark.model.factor_model import FactorModel
from als_spark.model.large_model import AnyModel
from als_spark.model.recommend import candidates_of
from als_spark.train.backend import Factors


def popular_model(model: AnyModel) -> FactorModel:
    """Return a model of rank 1 that recommends the popular items to everybody.

    The users that a model knows are answered from factors here too, so that the two are compared on
    the same users.
    """
    scores = np.zeros((len(model.items), 1))
    scores[model.item_stats.known, 0] = -1.0 * candidates_of(model, "item").places
    # One number, however many users there are.
    ones = np.broadcast_to(np.ones((1, 1)), (len(model.users), 1))
    return FactorModel(
        model.users,
        model.items,
        Factors(ones, scores),
        model.user_stats,
        model.item_stats,
        model.description,
    )
