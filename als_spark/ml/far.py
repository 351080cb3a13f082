"""One side of a model whose factors stay on the executors: the driver has its ids and counts.

The factors lie in chunks, Arrow tables of ids and factors, in an RDD that is persisted for as long
as a model or a DataFrame of its factors is in use (:mod:`als_spark.spark.persisted`). A side is
such after a training that has shuffled it, and where a saved model's is as large.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import RDD
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import DataType

from als_spark.errors import DataError
from als_spark.ml.factors import (
    CHUNK_SCHEMA,
    FEATURES,
    SideFactors,
    cast_ids,
    check_lengths,
    collect_chunks,
    collect_factors,
    decode_chunks,
    encode_chunks,
    factors_frame,
    factors_schema,
    joined_stats,
)
from als_spark.model.ids import IdIndex
from als_spark.solve.linalg import unit_rows
from als_spark.spark import planner
from als_spark.spark.arrow import (
    lists_of,
    map_in_arrow,
    spark_type,
    stream_to_bytes,
    table_from_bytes,
)
from als_spark.spark.persisted import Persisted
from als_spark.spark.predict.far_sides import factors_of, with_pieces
from als_spark.spark.session import described
from als_spark.spark.train.factor_blocks import DistributedFactors, drop_shuffle
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import AnyFactors, as_array
from als_spark.train.metrics import SideStats
from als_spark.types import FloatArray, Side

ROWS: dict[Side, str] = {"user": "numUsers", "item": "numItems"}
"""Keys of the metadata of a saved model."""
ITEM_BYTES = np.dtype(np.float32).itemsize


@dataclass(frozen=True, eq=False)
class FarSide:
    """Ids of the users, or of the items, whose factors are elsewhere.

    Attributes
    ----------
    ids : (n,) pyarrow.Array
        As those of :class:`~als_spark.ml.factors.SideFactors`: falling.
    columns : int
        Of the factors.
    frame : DataFrame
        ``id`` and ``features``, in whatever order.
    persisted : Persisted
        What the frame is made of.
    stats : SideStats or None
        Training ratings of each row, in the order of the ids.
    """

    ids: pa.Array
    columns: int
    frame: DataFrame
    persisted: Persisted
    stats: SideStats | None = None

    @property
    def id_type(self) -> DataType:
        """Type of the ids in Spark."""
        return from_arrow_type(self.ids.type)

    def with_stats(self, stats: SideStats | None) -> FarSide:
        """Return the side with the training ratings of its rows."""
        return replace(self, stats=stats)

    def latent(self, rank: int) -> FarSide:
        """Return the side with the first columns of its factors alone."""
        if rank == self.columns:
            return self
        features = F.slice("features", 1, rank).alias("features")
        return replace(self, columns=rank, frame=self.frame.select("id", features))

    def with_rows(self, rows: SideFactors) -> FarSide:
        """Return the side with rows in the place of those of the same ids, and beside them.

        The executors make a copy.
        """
        session = self.frame.sparkSession
        new = factors_frame(session, rows)
        frame = self.frame.join(new.select("id"), "id", "left_anti").select("id", "features")
        persisted = Persisted(_chunks_of(frame.union(new)), "keeping factors that were folded in")
        kept = np.flatnonzero(IdIndex(rows.ids).rows_of(self.ids) < 0)
        ids = pa.concat_arrays([self.ids.take(pa.array(kept)), rows.ids])
        stats = joined_stats(self.stats, kept, rows.stats)
        return _far_side(session, persisted, ids, self.columns, stats)

    def asked(self) -> DataFrame:
        """Return the factors as recommendations want them: ``id`` and ``factors``."""
        return self.frame.select("id", F.col("features").alias("factors"))

    def asked_directions(self, *, cosine: bool) -> DataFrame:
        """Return float64 factors, of length 1 for cosines: ``id`` and ``factors``."""
        turn = partial(directions_of, rank=self.columns, cosine=cosine)
        schema = f"id {spark_type(self.ids.type)}, factors array<double>"
        return map_in_arrow(self.asked(), turn, schema)

    def pieces(self) -> Iterator[FloatArray]:
        """Bring the factors to the driver in the order of the ids, piece by piece.

        Spark sorts them.

        Raises
        ------
        DataError
            If they are not those of the ids.
        """
        ordered = self.frame.orderBy(F.desc("id"))
        chunks = map_in_arrow(ordered, encode_chunks, CHUNK_SCHEMA)
        first = 0
        with described(ordered.sparkSession.sparkContext, "fetching factors piece by piece"):
            for row in chunks.toLocalIterator():
                table = table_from_bytes(bytes(row.rows)).combine_chunks()
                ids = table.column("id").combine_chunks()
                self._check(ids, self.ids.slice(first, len(ids)))
                first += len(ids)
                yield factors_of(table.column("features").combine_chunks(), self.columns)
        self._check(self.ids[:first], self.ids)

    def collect(self) -> SideFactors:
        """Bring the factors to the driver."""
        context = self.frame.sparkSession.sparkContext
        with described(context, "collecting factors"):
            found = collect_factors(self.frame, self.columns, "the model's factors")
        self._check(found.ids, self.ids)
        return found._replace(stats=self.stats)

    def _check(self, ids: pa.Array, own: pa.Array) -> None:
        if not ids.equals(own):
            raise DataError("the model's factors are not those of its ids: save the model again")


AnySide = SideFactors | FarSide


def near(side: AnySide) -> SideFactors:
    """Return a side as arrays of the driver, wherever its factors are."""
    return side.collect() if isinstance(side, FarSide) else side


def trained_side(
    session: SparkSession,
    ids: IdIndex,
    factors: AnyFactors,
    stats: SideStats,
    kind: pa.DataType,
    side: Side,
) -> AnySide:
    """Take the plain factors of a training, which stay where they are.

    Parameters
    ----------
    session : SparkSession
    ids : IdIndex
        In the order of the factors' rows.
    factors : array or RemoteFactors
    stats : SideStats
        In the same order.
    kind : pyarrow.DataType
        Of the model's ids.
    side : {"user", "item"}
    """
    if not isinstance(factors, DistributedFactors):
        return SideFactors.of_index(ids, as_array(factors), stats, kind)
    own = cast_ids(ids.ids, kind)
    beside, ordered = with_pieces(session.sparkContext, factors, lambda rows: own[rows])
    try:
        label = f"keeping the factors of the {side}s"
        persisted = Persisted(beside.map(chunk_of_piece), label)
    finally:
        drop_shuffle(ordered)
    return _far_side(session, persisted, own, factors.shape[1], stats)


def read_side(
    session: SparkSession, folder: str, metadata: Mapping[str, Any], side: Side
) -> AnySide:
    """Read the factors of a saved model; those that no process should have whole stay apart.

    The executors then keep a copy of what they have read, and read what they lose again.

    Parameters
    ----------
    session : SparkSession
    folder : str
        Parquet files with the columns ``id`` and ``features``.
    metadata : mapping
        Of the model; they may tell the number of rows.
    side : {"user", "item"}

    Raises
    ------
    InvalidArgument
        If a row has not as many features as the metadata say.
    """
    frame, rank = session.read.parquet(folder).select("id", "features"), metadata["rank"]
    limit = planner.side_limit(dict(session.sparkContext.getConf().getAll()))
    n_rows = metadata.get(ROWS[side])
    if not isinstance(n_rows, int):
        n_rows = frame.count()
    if n_rows * rank * ITEM_BYTES <= limit:
        return collect_factors(frame, rank, folder)
    persisted = Persisted(_chunks_of(frame), f"reading {folder}", recomputed=True)
    found = _frame_of(session, persisted, frame.schema["id"].dataType)
    try:
        chunks = collect_chunks(found.select("id", F.size("features").alias("n")))
        check_lengths([chunk.column("n") for chunk in chunks], rank, folder)
    except BaseException:
        persisted.release(found)
        raise
    ids = pa.concat_arrays([chunk.column("id") for chunk in chunks])
    return _far_side(session, persisted, ids, rank)


def chunk_of_piece(pair: tuple[FloatArray, pa.Array]) -> tuple[bytearray]:
    """Serialise a piece of factors, and its ids: runs on an executor."""
    prepare_worker()
    factors, ids = pair
    table = pa.table({"id": ids, "features": lists_of(factors, FEATURES)})
    return (bytearray(stream_to_bytes(table)),)


def directions_of(
    batches: Iterable[pa.RecordBatch], *, rank: int, cosine: bool
) -> Iterator[pa.RecordBatch]:
    """Turn the second column, factors, into rows that are alike by product: on an executor."""
    for batch in batches:
        factors = directions(factors_of(batch.column(1), rank), cosine=cosine)
        columns = [batch.column(0), lists_of(factors)]
        yield pa.RecordBatch.from_arrays(columns, names=["id", "factors"])


def directions(factors: FloatArray, *, cosine: bool) -> FloatArray:
    """(n, rank) float64 rows whose products tell how similar they are."""
    return unit_rows(factors) if cosine else factors.astype(np.float64)


def _far_side(
    session: SparkSession,
    persisted: Persisted,
    ids: pa.Array,
    columns: int,
    stats: SideStats | None = None,
) -> FarSide:
    """Put ids, and what belongs to them, in falling order."""
    frame = _frame_of(session, persisted, from_arrow_type(ids.type))
    order = pc.array_sort_indices(ids, order="descending")
    if stats is not None:
        rows = order.to_numpy()
        stats = SideStats(stats.degrees[rows], stats.sums[rows])
    return FarSide(ids.take(order), columns, frame, persisted, stats)


def _frame_of(session: SparkSession, persisted: Persisted, kind: DataType) -> DataFrame:
    frame = session.createDataFrame(persisted.rdd, CHUNK_SCHEMA)
    return map_in_arrow(frame, decode_chunks, factors_schema(kind))


def _chunks_of(frame: DataFrame) -> RDD[tuple[bytearray]]:
    return map_in_arrow(frame, encode_chunks, CHUNK_SCHEMA).rdd.map(tuple)
