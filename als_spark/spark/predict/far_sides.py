"""A side of a model whose factors no single process has, as a DataFrame of its trained rows.

The factors lie in blocks on the executors, as a training with shuffled factors has left them, or in
the Parquet file of a saved model that the executors read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import pyarrow as pa
from pyspark import RDD, SparkContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.model.large_model import AnyModel, LargeSide
from als_spark.model.stored_factors import StoredFactors
from als_spark.spark.arrow import (
    lists_of,
    map_in_arrow,
    spark_type,
    stream_to_bytes,
    table_from_bytes,
)
from als_spark.spark.train.factor_blocks import DistributedFactors, in_order
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import RemoteFactors
from als_spark.types import SIDES, FloatArray, IntArray, Side

T = TypeVar("T")


def far_sides(model: AnyModel) -> list[Side]:
    """Return the sides of a model whose factors are not an array of this process."""
    return [side for side in SIDES if not isinstance(model.side(side).factors, np.ndarray)]


def side_frame(session: SparkSession, model: AnyModel, side: Side) -> DataFrame:
    """Return the trained rows of a far side: ``id``, ``n_ratings``, ``sum_ratings``, ``factors``.

    Factors are arrays of floats or doubles. The DataFrame is lazy, and as good as the factors are:
    the model has to be kept.
    """
    own = LargeSide(*model.side(side))
    factors = own.factors
    if isinstance(factors, StoredFactors):
        # A path with brackets is no pattern.
        frame = session.read.option("__globPaths__", "false").parquet(factors.address)
        return frame.select(
            F.col("id"),
            F.col("n_ratings").cast("int"),
            F.col("sum_ratings").cast("double"),
            F.col("factors").cast(f"array<{_spark_dtype(factors)}>"),
        )
    assert isinstance(factors, DistributedFactors)
    chunks, _ = with_pieces(
        session.sparkContext,
        factors,
        lambda rows: (own.ids.ids[rows], own.stats.degrees[rows], own.stats.sums[rows]),
    )
    kind = spark_type(own.ids.ids.type)
    return map_in_arrow(
        session.createDataFrame(chunks.map(chunk_of_piece), "rows binary"),
        decode_chunks,
        f"id {kind}, n_ratings int, sum_ratings double, factors array<{_spark_dtype(factors)}>",
    )


def with_pieces(
    context: SparkContext, factors: DistributedFactors, beside: Callable[[slice], T]
) -> tuple[RDD[tuple[FloatArray, T]], RDD[FloatArray]]:
    """Put beside each piece of the factors, in the order of their rows, what the driver has of it.

    Returns
    -------
    RDD of (piece, T), RDD
        A partition a piece; and the RDD of which :func:`~.factor_blocks.drop_shuffle` frees the
        shuffle.
    """
    ordered, height = in_order(factors)
    parts = [
        beside(slice(first, first + height)) for first in range(0, max(factors.shape[0], 1), height)
    ]
    # One element a partition in both.
    return ordered.zip(context.parallelize(parts, len(parts))), ordered


def chunk_of_piece(
    pair: tuple[FloatArray, tuple[pa.Array, IntArray, FloatArray]],
) -> tuple[bytearray]:
    """Serialise the trained rows of a piece: runs on an executor."""
    prepare_worker()
    factors, (ids, degrees, sums) = pair
    trained = degrees > 0
    table = pa.table(
        {
            "id": ids.filter(pa.array(trained)),
            "n_ratings": pa.array(degrees[trained], pa.int32()),
            "sum_ratings": pa.array(sums[trained], pa.float64()),
            "factors": lists_of(factors[trained]),
        }
    )
    return (bytearray(stream_to_bytes(table)),)


def decode_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn chunks into rows: runs on an executor."""
    for batch in batches:
        for data in batch.column(0):
            yield from table_from_bytes(data.as_py()).to_batches()


def factors_of(lists: pa.Array, rank: int) -> FloatArray:
    """(n, rank) factors of a column of lists, without the missing ones.

    Raises
    ------
    DataError
        If one is of another length, or not finite: the file has been damaged.
    """
    values: FloatArray = lists.drop_null().flatten().to_numpy(zero_copy_only=False)
    n = len(lists) - lists.null_count
    if values.size != n * rank or not np.isfinite(values).all():
        raise DataError(
            f"a row of the model's factors has not {rank} finite numbers: save it again"
        )
    return values.reshape(n, rank)


def _spark_dtype(factors: RemoteFactors) -> str:
    return "double" if factors.dtype.itemsize == 8 else "float"
