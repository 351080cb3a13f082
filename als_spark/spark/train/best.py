"""Trained factors as a model, with ids and statistics of the ratings that they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from als_spark.errors import DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.large_model import AnyModel, LargeModel
from als_spark.solve.objective import Objective
from als_spark.spark.train.run import PreparedRatings
from als_spark.train.backend import Factors, HeldFactors
from als_spark.train.grid import SweepCollector

SEEN = "ratings"
"""Key of the description of a model: see :func:`seen_record`."""


def best_model(prepared: PreparedRatings, collector: SweepCollector) -> AnyModel:
    """Return the best model of a grid, ready to predict, recommend and be saved.

    Parameters
    ----------
    prepared : PreparedRatings
        What the grid was trained on; it may be closed already.
    collector : SweepCollector
        That of :func:`train_grid`.

    Returns
    -------
    FactorModel or LargeModel
        For :func:`als_spark.save_model`, say. Its description has the objective, and under
        ``result`` the errors. With factors that are shuffled it is a large one, which is saved
        without that a side comes to the driver; its ``collect()`` returns the other.

    Raises
    ------
    DataError
        If no point has a finite measure to choose by.
    """
    outcome = collector.outcome()
    if outcome is None:
        raise DataError(
            "no point of the grid has a finite measure, so there is no best model: train first, "
            "and hold out ratings of users and items that are trained on"
        )
    point = outcome.points[outcome.best]
    more = {"result": point.as_record(best=True), **seen_record(prepared)}
    return model_of(prepared, outcome.best_factors, point.spec.objective, more)


def seen_record(prepared: PreparedRatings) -> dict[str, Any]:
    """Return what the description of a model has of the ratings that it comes from.

    Nothing where pairs came more than once: the ids were counted before one rating was made of
    each.
    """
    if prepared.n_duplicates:
        return {}
    held_out = sum(count for part, count in prepared.n_ratings.items() if part != "train")
    return {SEEN: {"fingerprint": prepared.summary.fingerprint, "held_out": held_out}}


def model_of(
    prepared: PreparedRatings, factors: HeldFactors, objective: Objective, more: Mapping[str, Any]
) -> AnyModel:
    """Return trained factors as a model, whose description has ``more``."""
    ids = prepared.summary.users, prepared.summary.items
    stats = prepared.stats["user"], prepared.stats["item"]
    description = {**objective.as_record(), "objective_of_lambda": objective.note, **more}
    users, items = factors
    if isinstance(users, np.ndarray) and isinstance(items, np.ndarray):
        return FactorModel(*ids, Factors(users, items), *stats, description)
    return LargeModel(*ids, HeldFactors(users, items), *stats, description)
