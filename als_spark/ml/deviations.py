"""Columns that say how certain predictions are: deviations and intervals, where the rows are.

As the predictions (:mod:`als_spark.ml.predict`): by broadcast vectors, or by joins in the JVM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import FloatType, StructField, StructType

from als_spark.ml.columns import id_or_null
from als_spark.ml.errors import InvalidArgument
from als_spark.ml.factors import SideFactors
from als_spark.ml.moments import LearntPrior, no_moments
from als_spark.ml.predict import (
    DOT_ROWS,
    GATHER_ROWS,
    dot,
    fits_arrow,
    numbered,
    unused,
    with_features,
)
from als_spark.model.ids import IdIndex
from als_spark.solve.topk import sampled_pairs
from als_spark.spark.arrow import gather_batches, map_in_arrow
from als_spark.spark.read.names import quoted
from als_spark.types import SIDES, FloatArray, IntArray, Side

ADDED = ("deviation", "lower", "upper")


class Wanted(NamedTuple):
    """Which columns are wanted; ``""``: not that one."""

    deviation: str
    lower: str
    upper: str
    coverage: float

    @property
    def names(self) -> list[str]:
        """Names of the columns, in their order."""
        return [name for name in self[:3] if name]

    @property
    def half(self) -> float:
        """Half of the width of an interval, in standard deviations of a rating."""
        return NormalDist().inv_cdf(0.5 + self.coverage / 2)


def check_wanted(wanted: Wanted, prior: LearntPrior | None, taken: list[str]) -> LearntPrior:
    """Return the posterior that columns are made of; stop where they cannot be made.

    Raises
    ------
    InvalidArgument
        If the model has no posterior, or a name is taken.
    """
    if prior is None or not prior.spread:
        raise no_moments()
    names = wanted.names
    for k, name in enumerate(names):
        if name in taken or name in names[:k]:
            raise InvalidArgument(f"requirement failed: Column {name} already exists.")
    return prior


def add_deviations(
    predicted: DataFrame,
    names: Mapping[Side, str],
    prediction: str,
    prior: LearntPrior,
    wanted: Wanted,
) -> DataFrame:
    """Add the columns that are wanted to a dataset with its predictions.

    They are float, NaN where the model lacks the user or the item.

    Parameters
    ----------
    predicted : DataFrame
        Its ids are checked already.
    names : mapping of side to str
        Columns of the ids.
    prediction : str
        Column of the predictions.
    prior : LearntPrior
        With moments, or samples.
    wanted : Wanted
    """
    keys = {
        side: id_or_null(name, from_arrow_type(prior.spread[side].ids.type))
        for side, name in names.items()
    }
    if fits_arrow(predicted, *(prior.vectors(side) for side in SIDES)):
        return _in_arrow(predicted, keys, prediction, prior, wanted)
    return _by_joins(predicted, keys, prediction, prior, wanted)


def _in_arrow(
    predicted: DataFrame,
    keys: Mapping[Side, Column],
    prediction: str,
    prior: LearntPrior,
    wanted: Wanted,
) -> DataFrame:
    more = [F.col(quoted(prediction)), *(keys[side] for side in SIDES)]
    plain, fields = numbered(predicted, more)
    added = [StructField(name, FloatType(), nullable=False) for name in ADDED]
    users, items = (prior.broadcast(side) for side in SIDES)
    deviate = partial(
        deviate_batches, users=users, items=items, half=wanted.half, n_means=prior.n_means
    )
    found = map_in_arrow(plain, deviate, StructType([*fields, *added]))
    kept = [name for name, asked in zip(ADDED, wanted, strict=False) if asked]
    own = [field.name for field in fields]
    return found.select(*own, *kept).toDF(*predicted.columns, *wanted.names)


def deviate_batches(
    batches: Iterable[pa.RecordBatch],
    *,
    users: Broadcast[SideFactors],
    items: Broadcast[SideFactors],
    half: float,
    n_means: int = 0,
) -> Iterator[pa.RecordBatch]:
    """Add deviations and intervals to rows that end with a prediction and the ids: on an executor.

    Three columns of float take the place of these: see :data:`ADDED`; ``n_means`` is that of
    :func:`variances`.
    """
    sides = users.value, items.value
    indices = [IdIndex(side.ids) for side in sides]
    for table in gather_batches(batches, GATHER_ROWS):
        n = table.num_columns - 3
        centre = table.column(n).to_numpy().astype(np.float64)
        rows = [
            index.rows_of(table.column(n + 1 + k).combine_chunks())
            for k, index in enumerate(indices)
        ]
        known = np.flatnonzero((rows[0] >= 0) & (rows[1] >= 0))
        deviation, width = np.full((2, centre.size), np.nan)
        variance, noise = variances(*sides, rows[0][known], rows[1][known], n_means)
        deviation[known] = np.sqrt(variance)
        width[known] = half * np.sqrt(variance + noise)
        table = table.select(range(n))
        for name, values in zip(ADDED, (deviation, centre - width, centre + width), strict=True):
            column = pa.field(name, pa.float32(), nullable=False)
            table = table.append_column(column, pa.array(values.astype(np.float32)))
        yield from table.to_batches()


def variances(
    users: SideFactors,
    items: SideFactors,
    user_rows: IntArray,
    item_rows: IntArray,
    n_means: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """(n,) float64 variances of predictions, and those of the noise, by rows of spread vectors.

    ``n_means`` is that of :attr:`~als_spark.ml.moments.LearntPrior.n_means`.
    """
    found = np.empty((2, user_rows.size))
    for start in range(0, user_rows.size, DOT_ROWS):
        part = slice(start, start + DOT_ROWS)
        a = users.factors[user_rows[part]].astype(np.float64)
        b = items.factors[item_rows[part]].astype(np.float64)
        if n_means:
            found[:, part] = sampled_pairs(a, b, n_means)[1:]
            continue
        found[0, part] = np.einsum("nd,nd->n", a[:, :-1], b[:, :-1])
        found[1, part] = a[:, -1] * b[:, -1]
    # What float32 has rounded away of a variance near zero.
    return np.maximum(found[0], 0.0), found[1]


def _by_joins(
    predicted: DataFrame,
    keys: Mapping[Side, Column],
    prediction: str,
    prior: LearntPrior,
    wanted: Wanted,
) -> DataFrame:
    joined, names = predicted, {}
    for side in SIDES:
        names[side] = unused(f"{side}Spread", [*joined.columns, *wanted.names])
        joined = with_features(joined, prior.frame(side), keys[side], names[side])
    width = prior.vectors("user").factors.shape[1]
    users, items = F.col(names["user"]), F.col(names["item"])
    if prior.n_means:
        whole = _of_samples(users, items, width, prior.n_means)
    else:
        whole = dot(F.slice(users, 1, width - 1), F.slice(items, 1, width - 1)).cast("double")
    # Not greatest, which passes over nulls.
    variance = F.when(whole < 0, 0.0).otherwise(whole)
    noise = F.element_at(users, width).cast("double") * F.element_at(items, width)
    half = F.lit(wanted.half) * F.sqrt(variance + noise)
    centre = F.col(quoted(prediction)).cast("double")
    values = (F.sqrt(variance), centre - half, centre + half)
    added = [
        _float(value).alias(name) for value, name in zip(values, wanted[:3], strict=True) if name
    ]
    return joined.select("*", *added).drop(*names.values())


def _of_samples(users: Column, items: Column, width: int, n_means: int) -> Column:
    """Mean of the squared distances of the samples' products from that of the mean."""
    starts = F.array(*map(F.lit, range(1, width, n_means)))
    products = F.transform(
        starts,
        lambda k: dot(F.slice(users, k, n_means), F.slice(items, k, n_means)).cast("double"),
    )
    # By a name: the products are not computed again for each of them.
    squares = F.transform(
        F.array(products),
        lambda all_of: F.aggregate(
            all_of, F.lit(0.0), lambda total, one: total + (one - F.element_at(all_of, 1)) ** 2
        ),
    )
    return F.element_at(squares, 1) / (width // n_means - 1)


def _float(value: Column) -> Column:
    return F.coalesce(value.cast("float"), F.lit(float("nan")).cast("float"))
