"""The factors of one side of a model: arrays on the driver, a DataFrame where one is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    StructField,
    StructType,
)

from als_spark.ml.errors import InvalidArgument
from als_spark.model.ids import IdIndex
from als_spark.spark.arrow import lists_of, map_in_arrow, stream_to_bytes, table_from_bytes
from als_spark.train.metrics import SideStats
from als_spark.types import FloatArray, IntArray

CHUNK_FACTORS = 1 << 20
"""Factors of a chunk at most: rows times rank."""
FEATURES = pa.list_(pa.field("element", pa.float32(), nullable=False))
"""Arrow's type of the column of factors."""
CHUNK_SCHEMA = "rows binary"
_CHUNK_FIELDS = pa.schema([("rows", pa.binary())])


class SideFactors(NamedTuple):
    """Ids and factors of the users, or of the items."""

    ids: pa.Array
    """(n,) int32 by MLlib's rule, else integers, strings or decimals; falling, strings by code
    point: equal scores are ranked by falling id, as in MLlib."""
    factors: FloatArray
    """(n, rank) float32"""
    stats: SideStats | None = None
    """Training ratings of each row; None where they are not known, as in MLlib's models."""

    @classmethod
    def of(
        cls, ids: pa.Array | IntArray, factors: FloatArray, stats: SideStats | None = None
    ) -> SideFactors:
        """Put rows in the order of falling ids; integers of NumPy are ids by MLlib's rule."""
        own = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.int32())
        # What Spark may send strings as.
        own = own.cast(pa.string()) if pa.types.is_large_string(own.type) else own
        order = pc.array_sort_indices(own, order="descending")
        rows = order.to_numpy()
        if stats is not None:
            stats = stats.take(rows)
        return cls(own.take(order), factors[rows].astype(np.float32, copy=False), stats)

    @classmethod
    def of_index(
        cls,
        index: IdIndex,
        factors: FloatArray,
        stats: SideStats | None = None,
        kind: pa.DataType | None = None,
    ) -> SideFactors:
        """Take the factors of a training, with ids of a type, int32 unless given."""
        return cls.of(cast_ids(index.ids, kind or pa.int32()), factors, stats)

    @property
    def id_type(self) -> DataType:
        """Type of the ids in Spark."""
        return from_arrow_type(self.ids.type)

    def taken(self, rows: IntArray) -> SideFactors:
        """Return some of the rows, in their order, without statistics."""
        return SideFactors(self.ids.take(pa.array(rows)), self.factors[rows])

    def with_rows(self, rows: SideFactors) -> SideFactors:
        """Return the side with rows in the place of those of the same ids, and beside them."""
        kept = np.flatnonzero(IdIndex(rows.ids).rows_of(self.ids) < 0)
        return SideFactors.of(
            pa.concat_arrays([self.ids.take(pa.array(kept)), rows.ids]),
            np.concatenate([self.factors[kept], rows.factors]),
            joined_stats(self.stats, kept, rows.stats),
        )

    @property
    def columns(self) -> int:
        """Of the factors."""
        return int(self.factors.shape[1])

    def with_stats(self, stats: SideStats | None) -> SideFactors:
        """Return the side with the training ratings of its rows."""
        return self._replace(stats=stats)

    def latent(self, rank: int) -> SideFactors:
        """Return the side with the first columns of its factors alone."""
        return self._replace(factors=self.factors[:, :rank])


def cast_ids(ids: pa.Array, kind: pa.DataType) -> pa.Array:
    """Bring the ids of an :class:`IdIndex`, integers or strings, to the type they have come from.

    Raises
    ------
    pyarrow.ArrowInvalid
        If one does not fit.
    """
    # Arrow casts integers to wide decimals only.
    return (ids.cast(pa.string()) if pa.types.is_decimal(kind) else ids).cast(kind)


def joined_stats(own: SideStats | None, kept: IntArray, more: SideStats | None) -> SideStats | None:
    """Return the statistics of some rows, and of others behind them; None unless both are known."""
    if own is None or more is None:
        return None
    return SideStats(
        np.concatenate([own.degrees[kept], more.degrees]),
        np.concatenate([own.sums[kept], more.sums]),
    )


def factors_schema(id_type: DataType) -> StructType:
    """Return the schema of ``userFactors`` and ``itemFactors``, as in MLlib but for the id."""
    return StructType(
        [
            StructField("id", id_type, nullable=False),
            StructField("features", ArrayType(FloatType(), containsNull=False)),
        ]
    )


def factors_frame(session: SparkSession, side: SideFactors) -> DataFrame:
    """Return the factors as a DataFrame with the schema :func:`factors_schema`."""
    n, rank = side.factors.shape
    # Lists that Spark reads hold 2^31 numbers at most: made chunk by chunk.
    fields = pa.schema(
        [pa.field("id", side.ids.type, nullable=False), pa.field("features", FEATURES)]
    )
    step = max(CHUNK_FACTORS // rank, 1)
    chunks = []
    for first in range(0, n, step):
        part = slice(first, first + step)
        columns = [side.ids[part], lists_of(side.factors[part], FEATURES)]
        chunks.append(pa.RecordBatch.from_arrays(columns, schema=fields))
    return chunks_frame(session, chunks, factors_schema(side.id_type))


def collect_factors(frame: DataFrame, rank: int, source: str) -> SideFactors:
    """Bring a DataFrame of factors, such as MLlib's, to the driver.

    Parameters
    ----------
    frame : DataFrame
        Columns ``id`` and ``features`` (array<float>).
    rank : int
    source : str
        Where it is from, for the message of an error.

    Raises
    ------
    InvalidArgument
        If a row has not ``rank`` features.
    """
    chunks = collect_chunks(frame.select("id", "features"))
    if not chunks:
        return SideFactors.of(np.zeros(0, np.int32), np.zeros((0, rank), np.float32))
    ids = pa.concat_arrays([chunk.column("id") for chunk in chunks])
    values = np.concatenate(
        [chunk.column("features").flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
    )
    check_lengths(
        [pc.list_value_length(chunk.column("features")) for chunk in chunks], rank, source
    )
    return SideFactors.of(ids, values.reshape(-1, rank))


def check_lengths(lengths: Iterable[pa.Array], rank: int, source: str) -> None:
    """Stop unless all rows have so many factors.

    Raises
    ------
    InvalidArgument
        If one has not.
    """
    found = {size for part in lengths for size in part.unique().to_pylist()}
    if found - {rank}:
        raise InvalidArgument(f"{source}: the factors are not of rank {rank}, as its metadata say")


def stats_frame(session: SparkSession, ids: pa.Array, stats: SideStats) -> DataFrame:
    """Return the training ratings of the rows: ``id``, ``n_ratings`` and ``sum_ratings``."""
    batch = pa.RecordBatch.from_arrays(
        [ids, pa.array(stats.degrees, pa.int32()), pa.array(stats.sums)],
        names=["id", "n_ratings", "sum_ratings"],
    )
    chunks = [
        batch.slice(first, CHUNK_FACTORS) for first in range(0, batch.num_rows, CHUNK_FACTORS)
    ]
    schema = StructType(
        [
            StructField("id", from_arrow_type(ids.type)),
            StructField("n_ratings", IntegerType()),
            StructField("sum_ratings", DoubleType()),
        ]
    )
    return chunks_frame(session, chunks, schema)


def read_stats(ids: pa.Array, frame: DataFrame, source: str) -> SideStats | None:
    """Return the training ratings of the rows of some ids, as :func:`stats_frame` has them.

    None where there is no row.

    Raises
    ------
    InvalidArgument
        If the two have not the same ids.
    """
    chunks = collect_chunks(frame.select("id", "n_ratings", "sum_ratings"))
    table = pa.Table.from_batches(chunks) if chunks else None
    n_stats = 0 if table is None else table.num_rows
    rows: IntArray = np.zeros(0, np.int32)
    if table is not None and table.schema.field("id").type == ids.type:
        rows = IdIndex(table.column("id").combine_chunks()).rows_of(ids)
    if n_stats != len(ids) or rows.size != n_stats or (rows < 0).any():
        raise InvalidArgument(
            f"{source}: the statistics are not those of the factors beside them: save the model "
            "again"
        )
    if table is None:
        return None
    return SideStats(
        *(table.column(name).to_numpy()[rows] for name in ("n_ratings", "sum_ratings"))
    )


def chunks_frame(
    session: SparkSession, chunks: Iterable[pa.RecordBatch], schema: StructType
) -> DataFrame:
    """Return batches of the driver as a DataFrame, decoded where they are needed."""
    frame = session.createDataFrame([(stream_to_bytes(chunk),) for chunk in chunks], CHUNK_SCHEMA)
    return map_in_arrow(frame, decode_chunks, schema)


def decode_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn chunks into rows: runs on an executor."""
    for batch in batches:
        for data in batch.column(0):
            yield from table_from_bytes(data.as_py()).to_batches()


def collect_chunks(frame: DataFrame) -> list[pa.RecordBatch]:
    """Bring a DataFrame to the driver as Arrow batches."""
    rows = map_in_arrow(frame, encode_chunks, CHUNK_SCHEMA).collect()
    return [batch for row in rows for batch in table_from_bytes(bytes(row.rows)).to_batches()]


def encode_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn rows into chunks: runs on an executor."""
    for batch in batches:
        yield pa.RecordBatch.from_pylist([{"rows": stream_to_bytes(batch)}], schema=_CHUNK_FIELDS)
