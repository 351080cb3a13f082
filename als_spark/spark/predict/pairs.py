"""Predictions of pairs by models that a task knows a part of, the rest being in the pairs' columns.

Of a model whose factors are arrays the task has everything. Of a side that is too large for that a
join has put the row of each pair beside it, as a struct.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.model.factor_model import ModelSide, predict_pairs
from als_spark.model.large_model import AnyModel
from als_spark.spark.predict.far_sides import factors_of, far_sides, side_frame
from als_spark.train.baseline import bias_factors
from als_spark.train.metrics import SideStats
from als_spark.types import SIDES, FloatArray, IntArray, Side


class FarColumn(NamedTuple):
    """A side whose rows are beside the pairs."""

    name: str
    """Of the column: a struct of ``n_ratings``, ``sum_ratings`` and ``factors``; null where the
    side has no such row."""
    rank: int
    biases: bool
    """Whether the factors are those of the biases alone, instead."""
    by_features: bool
    """Whether rows without a training rating are known by their features."""


class PairSide(NamedTuple):
    """What is known of one side of some pairs."""

    degrees: IntArray
    """(n,) Training ratings; 0 where the side is unknown."""
    means: FloatArray
    """(n,) Mean training rating, NaN where there is none."""
    rows: IntArray
    """(n,) Place among the factors; those that are not known have none."""
    factors: FloatArray
    known: npt.NDArray[np.bool_]
    """(n,) Whether the side has factors."""


@dataclass(frozen=True, slots=True)
class PairModel:
    """A model as tasks know it; ``mean`` is that of all training ratings."""

    sides: Mapping[Side, ModelSide | FarColumn]
    mean: float

    def find(self, batch: pa.RecordBatch) -> dict[Side, PairSide]:
        """Look both sides of the pairs up."""
        return {side: self._find(side, batch) for side in SIDES}

    def predict(self, found: Mapping[Side, PairSide]) -> tuple[FloatArray, FloatArray]:
        """(n,) predictions, by means where a side is unknown; and without those, NaN."""
        users, items = found["user"], found["item"]
        return predict_pairs(
            users.known & items.known,
            (users.means, items.means),
            self.mean,
            lambda known: (users.factors[users.rows[known]], items.factors[items.rows[known]]),
        )

    def _find(self, side: Side, batch: pa.RecordBatch) -> PairSide:
        own = self.sides[side]
        if isinstance(own, ModelSide):
            rows = own.ids.rows_of(batch.column(side))
            # An unknown id has the row −1, no ratings, and no mean.
            return PairSide(
                np.append(own.stats.degrees, 0)[rows],
                np.append(own.stats.means(), np.nan)[rows],
                rows,
                own.factors,
                np.append(own.stats.known, False)[rows],
            )
        column = batch.column(own.name)
        present = column.is_valid().to_numpy(zero_copy_only=False)
        stats = SideStats(
            *(
                pc.fill_null(pc.struct_field(column, name), 0).to_numpy(zero_copy_only=False)
                for name in ("n_ratings", "sum_ratings")
            )
        )
        if own.biases:
            rows, factors = np.arange(present.size), bias_factors(stats, side, self.mean)
        else:
            rows = np.cumsum(present) - 1
            factors = factors_of(pc.struct_field(column, "factors"), own.rank)
        known = present & (own.by_features | (stats.degrees > 0))
        return PairSide(stats.degrees, stats.means(), rows, factors, known)


def with_pair_models(
    session: SparkSession, pairs: DataFrame, models: Sequence[AnyModel], *, biases: bool
) -> tuple[DataFrame, list[PairModel]]:
    """Put the rows of far sides beside pairs, and say how tasks know the models.

    Parameters
    ----------
    session : SparkSession
    pairs : DataFrame
        Columns ``user`` and ``item``, original ids, and others.
    models : sequence of FactorModel or LargeModel
    biases : bool
        Whether the biases alone, by the counts of the first model, come as one model more.
    """
    found: list[PairModel] = []
    for k, model in enumerate(models):
        far: dict[Side, FarColumn] = {}
        for side in far_sides(model):
            name = f"far_{k}_{side}"
            by_features = model.side(side).stats.by_features is not None
            far[side] = FarColumn(name, model.rank, False, by_features)
            own = side_frame(session, model, side).select(
                # Ids of either kind find each other as text.
                F.col("id").cast("string").alias(f"{name}_id"),
                F.struct("n_ratings", "sum_ratings", "factors").alias(name),
            )
            key = F.col(f"{name}_id")
            pairs = pairs.join(own, F.col(side).cast("string") == key, "left").drop(f"{name}_id")
        sides: dict[Side, ModelSide | FarColumn] = {
            side: far.get(side) or ModelSide(*model.side(side)) for side in SIDES
        }
        found.append(PairModel(sides, model.user_stats.mean))
    if biases:
        found.append(_biases_of(found[0]))
    return pairs, found


def _biases_of(model: PairModel) -> PairModel:
    """Return the biases alone, of the counts and sums that a model has."""
    sides: dict[Side, ModelSide | FarColumn] = {}
    for side, own in model.sides.items():
        if isinstance(own, ModelSide):
            sides[side] = own._replace(factors=bias_factors(own.stats, side, model.mean))
        else:
            sides[side] = own._replace(biases=True)
    return PairModel(sides, model.mean)
