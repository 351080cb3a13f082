"""Between the estimator's models and those of the library, the store and the jobs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from als_spark.errors import ConfigError
from als_spark.ml.biases import Baseline
from als_spark.ml.errors import InvalidArgument
from als_spark.ml.factors import SideFactors
from als_spark.ml.far import near
from als_spark.ml.sides import Parts
from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.solve.objective import Objective
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats
from als_spark.types import Side


def running_session() -> SparkSession:
    """Return the session of this thread.

    Raises
    ------
    InvalidArgument
        If there is none.
    """
    session = SparkSession.getActiveSession()
    if session is None:
        raise InvalidArgument("no Spark session is running: start one")
    return session


def to_factor_model(parts: Parts) -> FactorModel:
    """Return a model of the library, its ids as integers or strings, rising.

    Raises
    ------
    InvalidArgument
        If the training ratings of the rows are not known.
    """
    ids, factors, stats = [], [], []
    for side in map(near, (parts.users, parts.items)):
        if side.stats is None:
            raise InvalidArgument(
                "this model does not know the number of ratings of its users and items, as those "
                "that MLlib or als_spark 0.1.0 saved: fit it with als_spark.ALS"
            )
        kind = pa.int64() if pa.types.is_integer(side.ids.type) else pa.string()
        ids.append(IdIndex(side.ids[::-1].cast(kind)))
        factors.append(np.ascontiguousarray(side.factors[::-1]))
        degrees = side.stats.degrees[::-1].copy()
        # A row of a model has factors: without ratings they are by its features.
        marks = degrees == 0
        own = SideStats(degrees, side.stats.sums[::-1].copy(), marks if marks.any() else None)
        stats.append(own)
    description = {}
    if parts.objective is not None:
        description = {
            **parts.objective.as_record(),
            "objective_of_lambda": parts.objective.note,
        }
    return FactorModel(ids[0], ids[1], Factors(*factors), stats[0], stats[1], description)


def from_factor_model(model: FactorModel) -> tuple[Parts, bool]:
    """Take a model of the library; return also whether its ids need ``nativeIds``.

    Rows without a training rating, unless they are known by their features, hold nothing but their
    start, and are left out.
    """
    sides = {side: _side_of(model, side) for side in ("user", "item")}
    native = not all(_are_ints(side.ids) for side in sides.values())
    if not native:
        sides = {name: side._replace(ids=side.ids.cast(pa.int32())) for name, side in sides.items()}
    try:
        objective = Objective.from_record(model.description, "the model's description")
    except ConfigError:
        # It predicts and recommends without; what needs it, says so.
        objective = None
    baseline = Baseline()
    if objective is not None and not objective.implicit:
        biased = objective.bias_reg is not None
        baseline = Baseline(objective.mean if biased else model.user_stats.mean, biased)
    return Parts(sides["user"], sides["item"], objective, baseline), native


def _side_of(model: FactorModel, name: Side) -> SideFactors:
    ids, factors, stats = model.side(name)
    kept = np.flatnonzero(stats.known)
    return SideFactors.of(ids.ids.take(pa.array(kept)), factors[kept], stats.take(kept))


def _are_ints(ids: pa.Array) -> bool:
    """Tell whether ids follow MLlib's rule."""
    if not pa.types.is_integer(ids.type):
        return False
    bounds = pc.min_max(ids).as_py()
    return bounds["min"] is None or (bounds["min"] >= -(2**31) and bounds["max"] < 2**31)
