"""A look at all ratings of a source in one pass: counts, range, histogram, repeated pairs.

Each task counts its rows by the hashes of their ids, so that ids of any kind are numbers; counts
and pairs are then merged by the first bits of the hashes. At a billion ratings the odds are one to
thirty that two pairs share a hash and count as one that is repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.spark.arrow import (
    CHUNK_ROWS,
    ddl,
    gather_batches,
    map_in_arrow,
    stream_to_bytes,
    table_from_bytes,
)
from als_spark.spark.read.bad_rows import BadRowCounts, are_usable, bad_column, changed_ids
from als_spark.spark.read.columns import typed_ratings
from als_spark.spark.read.degrees import NO_DEGREES, Degrees
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.first_rows import Row, first_of_frame
from als_spark.spark.read.histogram import (
    Bar,
    bars_of,
    few_values,
    merge_counts,
    pack_counts,
    unpack_counts,
    value_counts,
)
from als_spark.spark.read.ids import (
    ChangedIds,
    Shapes,
    id_shape,
    merge_ids,
    odd_ids,
    refuse_two_forms,
)
from als_spark.spark.read.sources import Source
from als_spark.spark.session import described
from als_spark.types import SIDES, FloatArray, IntArray, Side

Hashes = npt.NDArray[np.int64]

_BUCKETS = 256
_MIX_USER, _MIX_ITEM = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
"""Odd, so that different hashes stay different."""
_FIELDS = pa.schema([("bucket", pa.int32()), ("kind", pa.string()), ("data", pa.binary())])
_SHAPE = 3
"""Bits of a hash that have the shape of the id: see :class:`als_spark.spark.read.ids.Shapes`."""
_SHAPES = {side: f"{side} shapes" for side in SIDES}
_PAIRS, _VALUES, _FACTS = "pairs", "values", "facts"


@dataclass(frozen=True, slots=True)
class Overview:
    """What the ratings of a source are.

    ``rows`` are as read, with the unusable ones of ``bad``; all else is of the usable ratings.
    ``repeated_pairs`` of user and item have several of them, ``repeats`` beyond the first of each.
    ``earliest`` and ``latest`` are timestamps in seconds, NaN where there are none; ``untimed``
    ratings have none that can be read. ``shapes`` say what the ids of each side look like.
    """

    rows: int
    bad: BadRowCounts
    changed: ChangedIds
    ratings: int
    users: Degrees
    items: Degrees
    lowest: float
    highest: float
    mean: float
    histogram: tuple[Bar, ...]
    repeated_pairs: int
    repeats: int
    earliest: float
    latest: float
    untimed: int
    shapes: Mapping[Side, Shapes] = field(default_factory=dict)

    @property
    def density(self) -> float:
        """Share of all pairs that are rated."""
        return (self.ratings - self.repeats) / (self.users.ids * self.items.ids)

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON has them."""
        return {
            "rows": self.rows,
            "bad_rows": self.bad.counts,
            "changed_ids": dict(self.changed.counts),
            "ratings": self.ratings,
            "ratings_per_user": self.users.as_record(),
            "ratings_per_item": self.items.as_record(),
            "density": self.density,
            "lowest": self.lowest,
            "highest": self.highest,
            "mean": self.mean,
            "histogram": [bar.as_record() for bar in self.histogram],
            "repeated_pairs": self.repeated_pairs,
            "repeats": self.repeats,
            "earliest": self.earliest if math.isfinite(self.earliest) else None,
            "latest": self.latest if math.isfinite(self.latest) else None,
            "untimed": self.untimed,
        }


def look_over(session: SparkSession, source: Source) -> Overview:
    """Count the ratings of a source, in one pass.

    Raises
    ------
    DataError
        If no row is usable, or a file cannot be read.
    """
    timed = any("timestamp" in part.columns for part in source.parts)
    typed = typed_ratings(source, need_timestamp=timed, strict_timestamp=False)
    columns = [
        F.xxhash64(side).bitwiseAND(~_SHAPE).bitwiseOR(id_shape(typed, side)).alias(side)
        for side in SIDES
    ]
    times = ["timestamp"] if timed else []
    chosen = typed.select(*columns, "rating", bad_column(typed), *times)
    counted = map_in_arrow(chosen, count_partition, ddl(_FIELDS)).repartition("bucket")
    merged = map_in_arrow(counted, merge_partition, ddl(_FIELDS))
    with (
        unreadable_files_are_named(source.label),
        described(session.sparkContext, f"counting {source.label}"),
    ):
        rows = [(row.kind, bytes(row.data)) for row in merged.collect()]
    found = _overview(rows)
    if found.ratings == 0:
        raise DataError(
            f"{source.label}: no usable ratings: {found.bad if found.bad.n else 'it is empty'}"
        )
    return found if timed else replace(found, untimed=0)


def id_warnings(session: SparkSession, source: Source, overview: Overview) -> list[str]:
    """Say what the jobs say of ids of several kinds, whether they warn of them or refuse them.

    Where the shapes of the ids leave nothing to say, as of most ratings, nothing is read again.
    Otherwise the ids of that side are, as the jobs have them.
    """
    typed = typed_ratings(source, need_timestamp=False)
    usable = typed.where(F.col("problem").isNull())
    said = []
    for side in SIDES:
        changed = side in overview.changed.examples
        if not overview.shapes.get(side, Shapes()).deserve_a_look(changed):
            continue
        counted = map_in_arrow(usable.groupBy(side).count(), pack_ids, "ids binary")
        with described(session.sparkContext, f"looking at the {side} ids of {source.label}"):
            tables = [table_from_bytes(bytes(row.ids)) for row in counted.collect()]
        parts = [(t.column(0).combine_chunks(), t.column(1).to_numpy()) for t in tables]
        ids = merge_ids(parts)[0].ids
        try:
            refuse_two_forms(source.label, {side: ids}, overview.changed.of_side(side))
        except DataError as error:
            said.append(f"jobs refuse these ids: {error}")
        odd = odd_ids(ids, side)
        said += [] if odd is None else [odd]
    return said


def pack_ids(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Serialise ids and their counts: runs on an executor."""
    for table in gather_batches(batches, CHUNK_ROWS):
        yield pa.RecordBatch.from_pydict({"ids": [stream_to_bytes(table)]})


def first_rows(source: Source) -> list[Row]:
    """Read the first rows of a source, and no more of it than Spark needs for that."""
    first = source.parts[0]
    typed = typed_ratings(
        replace(first, others=()),
        need_timestamp="timestamp" in first.columns,
        strict_timestamp=False,
    )
    with unreadable_files_are_named(source.label):
        return first_of_frame(typed, first.columns)


def count_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Count the rows of a partition by the hashes of their ids: runs on an executor."""
    facts: list[dict[str, Any]] = []
    values: list[tuple[FloatArray, IntArray]] = []
    for table in gather_batches(batches, CHUNK_ROWS):
        bad = table.column("bad")
        good = table.filter(are_usable(bad)) if bad.null_count < len(bad) else table
        facts.append(_facts_of(table.num_rows, good, bad))
        values.append(value_counts(good.column("rating")))
        hashes = {side: good.column(side).to_numpy() for side in SIDES}
        for side in SIDES:
            yield from _pieces(side, *value_counts(good.column(side)))
        yield from _pieces(_PAIRS, np.sort(pair_hashes(hashes["user"], hashes["item"])))
    if facts:
        yield _batch(_VALUES, pack_counts(*few_values(*merge_counts(values))))
        yield _batch(_FACTS, json.dumps(facts).encode())


def merge_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Merge the counts of some buckets; what is no such count stays: runs on an executor."""
    held: dict[str, list[bytes]] = {kind: [] for kind in (*SIDES, _PAIRS)}
    for batch in batches:
        for kind, data in zip(
            batch.column("kind").to_pylist(), batch.column("data").to_pylist(), strict=True
        ):
            if kind in held:
                held[kind].append(data)
            else:
                yield _batch(kind, data)
    for side in SIDES:
        if held[side]:
            ids, counts = merge_counts([unpack_counts(data, np.int64) for data in held[side]])
            yield _batch(_SHAPES[side], np.bincount(ids & _SHAPE, minlength=3).tobytes())
            yield _batch(side, pack_counts(*np.unique(counts, return_counts=True)))
    if held[_PAIRS]:
        yield _batch(_PAIRS, json.dumps(count_repeated(held[_PAIRS])).encode())


def pair_hashes(users: Hashes, items: Hashes) -> Hashes:
    """Hash pairs of hashes; the sums overflow, as they should."""
    mixed = users.view(np.uint64) * _MIX_USER + items.view(np.uint64) * _MIX_ITEM
    return mixed.view(np.int64)


def count_repeated(pieces: Iterable[bytes]) -> tuple[int, int]:
    """Count hashes that come more than once, and how often they come beyond the first time."""
    hashes = np.sort(np.concatenate([np.frombuffer(piece, np.int64) for piece in pieces]))
    again = hashes[1:] == hashes[:-1]
    first = again.copy()
    first[1:] &= ~again[:-1]
    return int(np.count_nonzero(first)), int(np.count_nonzero(again))


def _pieces(
    kind: str, values: npt.NDArray[Any], counts: IntArray | None = None
) -> Iterator[pa.RecordBatch]:
    """Cut rising hashes, and their counts if there are some, into buckets by their first bits."""
    edges = np.arange(1, _BUCKETS, dtype=np.int64) - _BUCKETS // 2 << 56
    cuts = [0, *np.searchsorted(values, edges).tolist(), values.size]
    rows = [
        (
            bucket,
            values[first:end].tobytes()
            if counts is None
            else pack_counts(values[first:end], counts[first:end]),
        )
        for bucket, (first, end) in enumerate(pairwise(cuts))
        if end > first
    ]
    buckets, data = zip(*rows, strict=True) if rows else ((), ())
    yield pa.RecordBatch.from_arrays(
        [
            pa.array(buckets, pa.int32()),
            pa.array([kind] * len(rows), pa.string()),
            pa.array(data, pa.binary()),
        ],
        schema=_FIELDS,
    )


def _batch(kind: str, data: bytes) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"bucket": 0, "kind": kind, "data": data}], schema=_FIELDS)


def _facts_of(n_rows: int, good: pa.Table, bad: pa.ChunkedArray) -> dict[str, Any]:
    rating = good.column("rating")
    ends = pc.min_max(rating).as_py()
    facts = {
        "rows": n_rows,
        "ratings": good.num_rows,
        "sum": pc.sum(rating).as_py() or 0.0,
        "lowest": ends["min"],
        "highest": ends["max"],
        "bad": BadRowCounts.of_column(bad).as_text(),
        "changed": changed_ids(bad).as_found(),
        "earliest": None,
        "latest": None,
        "untimed": 0,
    }
    if "timestamp" in good.column_names:
        times = good.column("timestamp")
        ends = pc.min_max(times).as_py()
        facts |= {"earliest": ends["min"], "latest": ends["max"], "untimed": times.null_count}
    return facts


def _overview(rows: list[tuple[str, bytes]]) -> Overview:
    of_kind: dict[str, list[bytes]] = {}
    for kind, data in rows:
        of_kind.setdefault(kind, []).append(data)
    facts = [entry for data in of_kind.get(_FACTS, ()) for entry in json.loads(data)]
    n = sum(entry["ratings"] for entry in facts)

    def end(name: str, choose: Any) -> float:
        known = [entry[name] for entry in facts if entry[name] is not None]
        return float(choose(known)) if known else math.nan

    lowest, highest = end("lowest", min), end("highest", max)
    repeated = [json.loads(data) for data in of_kind.get(_PAIRS, ())]
    users, items = (_degrees(of_kind.get(side, ())) for side in SIDES)
    return Overview(
        rows=sum(entry["rows"] for entry in facts),
        bad=BadRowCounts.of_texts(entry["bad"] for entry in facts),
        changed=ChangedIds.of(tuple(part) for entry in facts for part in entry["changed"]),
        ratings=n,
        users=users,
        items=items,
        lowest=lowest,
        highest=highest,
        mean=sum(entry["sum"] for entry in facts) / n if n else math.nan,
        histogram=bars_of(of_kind.get(_VALUES, ()), lowest, highest),
        repeated_pairs=sum(pairs for pairs, _ in repeated),
        repeats=sum(more for _, more in repeated),
        earliest=end("earliest", min),
        latest=end("latest", max),
        untimed=sum(entry["untimed"] for entry in facts),
        shapes={
            side: Shapes(
                *np.sum([np.frombuffer(data, np.int64) for data in counted], axis=0).tolist()
            )
            for side in SIDES
            if (counted := of_kind.get(_SHAPES[side], []))
        },
    )


def _degrees(pieces: Iterable[bytes]) -> Degrees:
    counted = [unpack_counts(data, np.int64) for data in pieces]
    if not counted:
        return NO_DEGREES
    return Degrees.of_histogram(*merge_counts(counted))
