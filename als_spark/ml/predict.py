"""Predictions for the pairs of a dataset, computed where its rows are.

Small factors are broadcast, and NumPy multiplies them for whole Arrow batches. Where they do not
fit, where a side stays on the executors, or where a column is of a type that would not come back
from Arrow as it was, the JVM joins the factors to the rows and multiplies them there. Both have the
same schema and the same laziness, and sum in 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    FloatType,
    NumericType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from als_spark.ml.biases import Unknown
from als_spark.ml.columns import check_column, check_like, id_or_null, ids_or_error
from als_spark.ml.factors import SideFactors
from als_spark.ml.far import AnySide, FarSide
from als_spark.ml.sides import Sides
from als_spark.model.ids import IdIndex
from als_spark.spark.arrow import gather_batches, map_in_arrow
from als_spark.types import SIDES, FloatArray, IntArray, Side

BROADCAST_BYTES = 256 << 20
"""Factors that every Python worker may hold a copy of."""
MAX_COLUMNS = 32
"""Columns of a dataset that go through Arrow at most: each costs its share of a join's time."""
GATHER_ROWS = 1 << 17
"""Rows that are predicted at a time: ids are looked up in an index that is made for them."""
DOT_ROWS = 1 << 12
"""Rows whose factors are multiplied at a time, in the processor's cache."""
_PLAIN = (BinaryType, BooleanType, DateType, NumericType, TimestampNTZType, TimestampType)


class Request(NamedTuple):
    """What is predicted: ids of the dataset are checked already."""

    dataset: DataFrame
    names: dict[Side, str]
    """Columns of the ids."""
    kinds: dict[Side, DataType]
    """Types of the ids of the model."""
    prediction: str
    drop: bool
    """Whether pairs of an unknown id are left out."""
    unknown: Unknown = Unknown()
    """What is predicted for them otherwise."""


def predict(request: Request, sides: Sides) -> DataFrame:
    """Predict in the way that fits the factors and the dataset."""
    if fits_arrow(request.dataset, *(sides.sides[side] for side in SIDES)):
        return predict_in_arrow(request, *(sides.broadcast(side) for side in SIDES))
    return predict_by_joins(request, {side: sides.frame(side) for side in SIDES})


def checked_ids_in(
    dataset: DataFrame, names: dict[Side, str], kinds: dict[Side, DataType], *, native: bool
) -> DataFrame:
    """Return a dataset whose rows fail where they have no usable id.

    Raises
    ------
    InvalidArgument
        If a column is missing, or not like the ids of the model.
    """
    for side, name in names.items():
        if native:
            check_like(dataset.schema, name, kinds[side])
        else:
            check_column(dataset.schema, name)
    for name in names.values():
        dataset = dataset.withColumn(name, ids_or_error(name, native=native))
    return dataset


def fits_arrow(dataset: DataFrame, users: AnySide, items: AnySide) -> bool:
    """Tell whether factors are broadcast and rows go through Arrow."""
    if isinstance(users, FarSide) or isinstance(items, FarSide):
        return False
    kinds = [field.dataType for field in dataset.schema]
    size = users.factors.nbytes + items.factors.nbytes
    return size <= BROADCAST_BYTES and len(kinds) <= MAX_COLUMNS and all(map(_comes_back, kinds))


def _comes_back(kind: DataType) -> bool:
    # Strings that are compared in another way than by their bytes are of another type yet.
    return isinstance(kind, _PLAIN) or kind == StringType()


def predict_in_arrow(
    request: Request, users: Broadcast[SideFactors], items: Broadcast[SideFactors]
) -> DataFrame:
    """Predict by broadcast factors."""
    dataset = request.dataset
    keys = [id_or_null(request.names[side], request.kinds[side]) for side in SIDES]
    plain, fields = numbered(dataset, keys)
    schema = StructType([*fields, StructField("prediction", FloatType(), nullable=False)])
    predict = partial(
        predict_batches, users=users, items=items, drop=request.drop, unknown=request.unknown
    )
    found = map_in_arrow(plain, predict, schema)
    return found.toDF(*dataset.columns, request.prediction)


def numbered(dataset: DataFrame, more: Sequence[Column]) -> tuple[DataFrame, list[StructField]]:
    """Return a dataset with further columns, all named by position, since names may come twice.

    And the fields of its own columns, by these names.
    """
    n = len(dataset.columns)
    own = [
        StructField(f"c{k}", field.dataType, field.nullable, field.metadata)
        for k, field in enumerate(dataset.schema)
    ]
    plain = dataset.select("*", *more).toDF(*(f"c{k}" for k in range(n + len(more))))
    return plain, own


def predict_batches(
    batches: Iterable[pa.RecordBatch],
    *,
    users: Broadcast[SideFactors],
    items: Broadcast[SideFactors],
    drop: bool,
    unknown: Unknown,
) -> Iterator[pa.RecordBatch]:
    """Predict for rows whose last two columns are the ids: runs on an executor."""
    sides = users.value, items.value
    indices = [IdIndex(side.ids) for side in sides]
    for table in gather_batches(batches, GATHER_ROWS):
        n = table.num_columns - 2
        rows = [
            index.rows_of(table.column(n + k).combine_chunks()) for k, index in enumerate(indices)
        ]
        table = table.select(range(n))
        known = (rows[0] >= 0) & (rows[1] >= 0)
        if drop and not known.all():
            table = table.filter(pa.array(known))
            rows, known = [own[known] for own in rows], known[known]
        scores = unknown.values(sides[0].factors, rows[0], sides[1].factors, rows[1])
        places = np.flatnonzero(known)
        scores[places] = dots(sides[0].factors, rows[0][places], sides[1].factors, rows[1][places])
        column = pa.field("prediction", pa.float32(), nullable=False)
        yield from table.append_column(column, pa.array(scores)).to_batches()


def dots(
    first: FloatArray, first_rows: IntArray, second: FloatArray, second_rows: IntArray
) -> FloatArray:
    """(n,) float32 products of rows of two matrices, summed in float64."""
    found = np.empty(first_rows.size, np.float32)
    for start in range(0, found.size, DOT_ROWS):
        part = slice(start, start + DOT_ROWS)
        a = first[first_rows[part]].astype(np.float64)
        b = second[second_rows[part]].astype(np.float64)
        found[part] = np.einsum("nd,nd->n", a, b)
    return found


def predict_by_joins(request: Request, factors: dict[Side, DataFrame]) -> DataFrame:
    """Predict by joins in the JVM."""
    joined, prediction = request.dataset, request.prediction
    columns = joined.columns
    names = {side: unused(f"{side}Factors", [*columns, prediction]) for side in SIDES}
    for side, name in request.names.items():
        ids = id_or_null(name, request.kinds[side])
        how = "inner" if request.drop else "left"
        joined = with_features(joined, factors[side], ids, names[side], how)
    users, items = F.col(names["user"]), F.col(names["item"])
    score = F.coalesce(dot(users, items), request.unknown.column(users, items))
    return joined.select("*", score.alias(prediction)).drop(*names.values())


def with_features(
    dataset: DataFrame, factors: DataFrame, ids: Column, name: str, how: str = "left"
) -> DataFrame:
    """Join the features of the rows of some ids, as a column whose name is :func:`unused`."""
    key = f"{name}Id"
    own = factors.select(F.col("id").alias(key), F.col("features").alias(name))
    return dataset.join(own, ids == F.col(key), how).drop(key)


def dot(first: Column, second: Column) -> Column:
    """Product of two columns of type array<float>, as float; null where one is."""
    products = F.zip_with(first, second, lambda x, y: x.cast("double") * y)
    return F.aggregate(products, F.lit(0.0), lambda total, product: total + product).cast("float")


def unused(name: str, taken: list[str]) -> str:
    """Return a column's name that, in any case, is not taken."""
    used = {column.lower() for column in taken}
    while name.lower() in used or f"{name}id".lower() in used:
        name = f"_{name}"
    return name
