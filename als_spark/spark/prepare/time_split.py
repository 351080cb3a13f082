"""Split by time of ratings that are encoded already: only their timestamps are counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel

from als_spark.spark.arrow import ArrowMap, ddl, map_in_arrow
from als_spark.spark.prepare.encode import CHUNK_FIELDS
from als_spark.spark.read.snapshot import Encoded
from als_spark.spark.read.split import (
    DAY_SECONDS,
    FINDING,
    Counts,
    LatestTimes,
    SplitOptions,
    latest_times,
    split_by_time,
)
from als_spark.spark.session import described
from als_spark.types import FloatArray

_COUNTS = pa.schema([("value", pa.float64()), ("n", pa.int64())])


def split_chunks(encoded: Encoded, options: SplitOptions) -> Encoded:
    """Split encoded ratings, all of which have timestamps, by time.

    The chunks of the result are persisted, and computed; those given can be freed.
    """
    chunks, context = encoded.chunks, encoded.chunks.sparkSession.sparkContext

    def counted(function: ArrowMap) -> Counts:
        rows = map_in_arrow(chunks.select("timestamps"), function, ddl(_COUNTS)).collect()
        return [*_merged(rows).items()]

    with described(context, FINDING):
        latest = latest_times(
            options,
            lambda: counted(count_days),
            lambda days: counted(partial(count_times, days=tuple(days))),
        )
    split = map_in_arrow(chunks, partial(split_partition, latest=latest), ddl(CHUNK_FIELDS))
    split = split.persist(StorageLevel.MEMORY_AND_DISK)
    with described(context, "splitting ratings by time"):
        split.select("n_ratings").collect()
    return Encoded(split, encoded.summary, latest)


def _merged(rows: Iterable[Any]) -> Mapping[float, int]:
    total: dict[float, int] = {}
    for row in rows:
        total[row.value] = total.get(row.value, 0) + row.n
    return total


def count_days(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Count the ratings of each day since 1970 in some chunks: runs on an executor."""
    for times in _times_of(batches):
        yield _counts_of(np.floor(times / DAY_SECONDS))


def count_times(
    batches: Iterable[pa.RecordBatch], *, days: Sequence[int]
) -> Iterator[pa.RecordBatch]:
    """Count the ratings of each timestamp in given days: runs on an executor."""
    for times in _times_of(batches):
        yield _counts_of(times[np.isin(np.floor(times / DAY_SECONDS), days)])


def split_partition(
    batches: Iterable[pa.RecordBatch], *, latest: LatestTimes
) -> Iterator[pa.RecordBatch]:
    """Set the splits of some chunks: runs on an executor."""
    place = CHUNK_FIELDS.get_field_index("splits")
    for batch in batches:
        found = (split_by_time(times, latest) for times in _times_of([batch]))
        splits = [codes.tobytes() if codes.any() else b"" for codes in found]
        yield batch.set_column(place, CHUNK_FIELDS.field(place), pa.array(splits, pa.binary()))


def _times_of(batches: Iterable[pa.RecordBatch]) -> Iterator[FloatArray]:
    for batch in batches:
        for times in batch.column("timestamps"):
            yield np.frombuffer(times.as_buffer(), np.float64)


def _counts_of(values: FloatArray) -> pa.RecordBatch:
    distinct, counts = np.unique(values, return_counts=True)
    return pa.record_batch([pa.array(distinct), pa.array(counts)], schema=_COUNTS)
