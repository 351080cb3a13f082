"""The factors of one side of a model: arrays on the driver, a DataFrame where one is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import ArrayType, FloatType, IntegerType, StructField, StructType

from als_spark.ml.errors import InvalidArgument
from als_spark.model.ids import IdIndex
from als_spark.spark.arrow import map_in_arrow
from als_spark.types import FloatArray, IntArray

FACTORS = StructType(
    [
        StructField("id", IntegerType(), nullable=False),
        StructField("features", ArrayType(FloatType(), containsNull=False)),
    ]
)
"""Schema of ``userFactors`` and ``itemFactors``, as in MLlib."""
_ARROW_FACTORS = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        pa.field("features", pa.list_(pa.field("element", pa.float32(), nullable=False))),
    ]
)
_CHUNK_SCHEMA = "ids binary, factors binary"
_CHUNK_FIELDS = pa.schema([("ids", pa.binary()), ("factors", pa.binary())])
CHUNK_FACTORS = 1 << 20
"""Factors of a chunk at most: rows times rank."""


class SideFactors(NamedTuple):
    """Ids and factors of the users, or of the items."""

    ids: IntArray
    """(n,) int32, falling: equal scores are ranked by falling id, as in MLlib."""
    factors: FloatArray
    """(n, rank) float32"""

    @classmethod
    def of(cls, ids: IntArray, factors: FloatArray) -> SideFactors:
        """Put rows in the order of falling ids."""
        order = np.argsort(ids)[::-1]
        return cls(
            ids[order].astype(np.int32, copy=False), factors[order].astype(np.float32, copy=False)
        )

    @classmethod
    def of_index(cls, index: IdIndex, factors: FloatArray) -> SideFactors:
        """Take the factors of a training."""
        return cls.of(index.ids.to_numpy(zero_copy_only=False), factors)


def factors_frame(session: SparkSession, side: SideFactors) -> DataFrame:
    """Return the factors as a DataFrame with the schema :data:`FACTORS`."""
    rank = side.factors.shape[1]
    step = max(CHUNK_FACTORS // rank, 1)
    chunks = [
        (side.ids[first : first + step].tobytes(), side.factors[first : first + step].tobytes())
        for first in range(0, side.ids.size, step)
    ]
    frame = session.createDataFrame(chunks, _CHUNK_SCHEMA)
    return map_in_arrow(frame, partial(decode_factors, rank=rank), FACTORS)


def decode_factors(batches: Iterable[pa.RecordBatch], *, rank: int) -> Iterator[pa.RecordBatch]:
    """Turn chunks into rows: runs on an executor."""
    for batch in batches:
        for row in batch.to_pylist():
            ids = np.frombuffer(row["ids"], np.int32)
            values = pa.array(np.frombuffer(row["factors"], np.float32))
            offsets = pa.array(np.arange(0, rank * ids.size + 1, rank, dtype=np.int32))
            kind = _ARROW_FACTORS.field("features").type
            lists = pa.ListArray.from_arrays(offsets, values, type=kind)
            yield pa.RecordBatch.from_arrays([pa.array(ids), lists], schema=_ARROW_FACTORS)


def collect_factors(frame: DataFrame, rank: int, source: str) -> SideFactors:
    """Bring a DataFrame of factors, such as MLlib's, to the driver.

    Parameters
    ----------
    frame : DataFrame
        Columns ``id`` (int) and ``features`` (array<float>).
    rank : int
    source : str
        Where it is from, for the message of an error.

    Raises
    ------
    InvalidArgument
        If a row has not ``rank`` features.
    """
    chunks = map_in_arrow(frame.select("id", "features"), encode_factors, _CHUNK_SCHEMA).collect()
    ids = np.concatenate(
        [np.frombuffer(c.ids, np.int32) for c in chunks] or [np.zeros(0, np.int32)]
    )
    values = np.concatenate(
        [np.frombuffer(c.factors, np.float32) for c in chunks] or [np.zeros(0, np.float32)]
    )
    if values.size != ids.size * rank:
        raise InvalidArgument(f"{source}: the factors are not of rank {rank}, as its metadata say")
    return SideFactors.of(ids, values.reshape(-1, rank))


def encode_factors(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn rows into chunks: runs on an executor."""
    for batch in batches:
        ids = batch.column(0).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
        values = batch.column(1).flatten().to_numpy(zero_copy_only=False)
        row = {"ids": ids.tobytes(), "factors": values.astype(np.float32, copy=False).tobytes()}
        yield pa.RecordBatch.from_pylist([row], schema=_CHUNK_FIELDS)
