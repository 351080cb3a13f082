"""The ratings of a run as :mod:`als_spark.spark.read.snapshot` has them, without rows of Spark's.

Where the sources are plain numbers in local files, and no pair is rated more than once, the tasks
read and encode them once: what is packed, checked and measured comes from these chunks.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.spark.arrow import ddl, decode_values, ids_from_bytes, map_in_arrow, widen
from als_spark.spark.prepare.encode import Extras, collect_summaries, encode_files, merge_summaries
from als_spark.spark.prepare.prepare import clean_files_of
from als_spark.spark.prepare.repeats import has_repeats
from als_spark.spark.prepare.time_split import split_chunks
from als_spark.spark.read.bad_rows import BadRowCounts
from als_spark.spark.read.clean_files import NotClean
from als_spark.spark.read.facts import PartFacts, Summary
from als_spark.spark.read.failures import workers_are_explained
from als_spark.spark.read.ids import ChangedIds
from als_spark.spark.read.snapshot import (
    Encoded,
    Snapshot,
    doubts_of,
    read_snapshot,
    versions_of,
)
from als_spark.spark.read.sources import Source
from als_spark.spark.read.split import SplitOptions
from als_spark.spark.session import described
from als_spark.types import SIDES, Duplicates, Side

_LOG = logging.getLogger(__name__)
_BATCH_ROWS = 1 << 17
_DECODED = ("users", "user_codes", "items", "item_codes", "n_ratings", "ratings", "levels")
_FIELDS = pa.schema(
    [
        *(("user", pa.int64()), ("item", pa.int64())),
        *(("rating", pa.float64()), ("timestamp", pa.float64())),
    ]
)


@contextmanager
def open_snapshot(
    session: SparkSession,
    sources: Sequence[Source],
    duplicates: Duplicates,
    *,
    integer_ids: Collection[Side] = (),
    split: SplitOptions | None = None,
) -> Iterator[Snapshot]:
    """Read sources of ratings, by the tasks alone where they can; see :func:`read_snapshot`.

    The ``split`` is how the ratings will be split, if they will.
    """
    with ExitStack() as kept:
        snapshot = _read_by_tasks(session, sources, duplicates, split, kept)
        if snapshot is None:
            reading = read_snapshot(session, sources, duplicates, integer_ids=integer_ids)
            snapshot = kept.enter_context(reading)
        yield snapshot


class _Read(NamedTuple):
    """A source whose tasks have read it."""

    chunks: DataFrame
    rows: list[Any]
    summary: Summary


def _read_by_tasks(
    session: SparkSession,
    sources: Sequence[Source],
    duplicates: Duplicates,
    split: SplitOptions | None,
    kept: ExitStack,
) -> Snapshot | None:
    """Read sources by the tasks alone; None where Spark has to."""
    label = " + ".join(source.label for source in sources)
    by_time = Extras(split).by_time
    if by_time is not None and not all(source.timed for source in sources):
        return None
    with ExitStack() as tried:
        try:
            read = [_read_one(session, source, split, tried) for source in sources]
        except NotClean as reason:
            _LOG.info("Spark reads the ratings: %s", reason)
            return None
        chunks = reduce(DataFrame.union, (part.chunks for part in read))
        whole = read[0].summary
        if len(read) > 1:
            whole = merge_summaries([row for part in read for row in part.rows])
        if not whole.n_ratings:
            _LOG.info("Spark reads the ratings: there are none")
            return None
        if has_repeats(session, chunks, whole):
            _LOG.info("Spark reads the ratings: a pair is rated more than once")
            return None
        _LOG.info("the tasks have read the files themselves")
        encoded = Encoded(chunks, whole)
        if by_time is not None:
            encoded = split_chunks(encoded, by_time)
            # Frees those that they were made of.
            tried.close()
            tried.callback(encoded.chunks.unpersist)
        ratings = decode_chunks(encoded.chunks).persist(StorageLevel.MEMORY_AND_DISK)
        tried.callback(ratings.unpersist)
        kept.push(tried.pop_all())
    parts = [_facts_of(source, part) for source, part in zip(sources, read, strict=True)]
    moments = whole.moments
    return Snapshot(
        ratings,
        label,
        parts,
        BadRowCounts({}, {}),
        ChangedIds(),
        doubts_of(parts, sources, 0) if duplicates == "last" else [],
        moments.n,
        0,
        whole.lowest,
        whole.highest,
        moments.mean,
        moments.spread,
        moments.fingerprint,
        tables=versions_of(sources),
        first_rows=whole.first_rows,
        encoded=encoded,
    )


def _read_one(
    session: SparkSession, source: Source, split: SplitOptions | None, tried: ExitStack
) -> _Read:
    files = clean_files_of(session, source, timed=source.timed)
    if files is None:
        raise NotClean(f"{source.label} is not plain numbers in local files")
    extras = Extras(split, moments=True)
    chunks = encode_files(session, files, extras).persist(StorageLevel.MEMORY_AND_DISK)
    tried.callback(chunks.unpersist)
    with described(session.sparkContext, f"reading {source.label}"), workers_are_explained():
        rows = collect_summaries(chunks)
    return _Read(chunks, rows, merge_summaries(rows))


def _facts_of(source: Source, read: _Read) -> PartFacts:
    summary, moments = read.summary, read.summary.moments
    figures = summary.lowest, summary.highest, moments.mean, moments.latest
    return PartFacts(source.label, moments.n, 0, *figures)


def decode_chunks(chunks: DataFrame) -> DataFrame:
    """Return the ratings of chunks with integer ids as typed rows, all of them usable."""
    columns = chunks.select(*_DECODED, "timestamps")
    rows = map_in_arrow(columns, decode_partition, ddl(_FIELDS))
    nothing = F.lit(None).cast("string")
    return rows.select("*", nothing.alias("problem"), nothing.alias("raw"))


def decode_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn the chunks of a partition into rows: runs on an executor."""
    for batch in batches:
        for chunk in batch.to_pylist():
            yield from _rows_of(chunk)


def _rows_of(chunk: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    """Decode a chunk, a few rows at a time: as rows it is several times as large."""
    n = chunk["n_ratings"]
    sides = [
        (ids_from_bytes(chunk[f"{side}s"]), widen(chunk[f"{side}_codes"], n)) for side in SIDES
    ]
    ratings = decode_values(chunk["ratings"], chunk["levels"])
    times = np.frombuffer(chunk["timestamps"], np.float64)
    for first in range(0, n, _BATCH_ROWS):
        rows = slice(first, min(first + _BATCH_ROWS, n))
        columns = [ids.take(pa.array(codes[rows])) for ids, codes in sides]
        columns.append(pa.array(ratings[rows]))
        missing = pa.nulls(rows.stop - first, pa.float64())
        columns.append(pa.array(times[rows]) if times.size else missing)
        yield pa.RecordBatch.from_arrays(columns, schema=_FIELDS)
