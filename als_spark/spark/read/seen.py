"""Pairs of user and item that are not to be recommended: those that somebody has seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.model.ids import IdIndex, coerce_ids
from als_spark.spark.arrow import CHUNK_ROWS, ddl, gather_batches, map_in_arrow
from als_spark.spark.read.bad_rows import BadRowCounts, are_usable, bad_column, changed_ids
from als_spark.spark.read.columns import typed_pairs
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.ids import ChangedIds
from als_spark.spark.read.sources import Source
from als_spark.spark.session import broadcasted, described

_FOUND_FIELDS = pa.schema(
    [
        *(("n_usable", pa.int64()), ("n_known", pa.int64())),
        *(("bad", pa.string()), ("changed", pa.string())),
    ]
)


class KnownIds(NamedTuple):
    """What can be recommended to whom; broadcast to the tasks that look pairs up."""

    users: pa.Array
    items: pa.Array

    def more_users(self, users: pa.Array) -> KnownIds:
        """Add users; those that cannot be any, because of their type, are left out."""
        like = coerce_ids(users, self.users.type).drop_null()
        return self._replace(users=pa.concat_arrays([self.users, like]).unique())


@dataclass(frozen=True, slots=True)
class SeenPairs:
    """The pairs of a source.

    ``pairs`` has ``user`` and ``item`` (bigint or string) of each usable row, ``n_pairs`` of them;
    it is read whenever it is used. Of ``n_known`` both ids are known. ``changed`` are the ids that
    are not as they were written.
    """

    pairs: DataFrame
    label: str
    n_pairs: int
    n_known: int
    bad: BadRowCounts
    changed: ChangedIds


def read_seen(session: SparkSession, source: Source, ids: KnownIds) -> SeenPairs:
    """Count the pairs of a source and look at its unusable rows, in one pass.

    Raises
    ------
    DataError
        If it has no usable pair, or cannot be read.
    """
    typed = typed_pairs(source)
    context = session.sparkContext
    with (
        unreadable_files_are_named(source.label),
        described(context, f"counting the pairs in {source.label}"),
        broadcasted(context, ids) as known,
    ):
        rows = map_in_arrow(
            typed.select("user", "item", bad_column(typed)),
            partial(count_pairs, known=known),
            ddl(_FOUND_FIELDS),
        ).collect()
    bad = BadRowCounts.of_texts(row.bad for row in rows)
    n_pairs = sum(row.n_usable for row in rows)
    if n_pairs == 0:
        raise DataError(
            f"{source.label}: no usable pairs of a user and an item: "
            f"{bad if bad.n else 'it is empty'}: "
            'check the file, `columns["user"]` and `columns["item"]`'
        )
    pairs = typed.where(F.col("problem").isNull()).select("user", "item")
    changed = ChangedIds.of(found for row in rows for found in json.loads(row.changed))
    n_known = sum(row.n_known for row in rows)
    return SeenPairs(pairs, source.label, n_pairs, n_known, bad, changed)


def count_pairs(
    batches: Iterable[pa.RecordBatch], *, known: Broadcast[KnownIds]
) -> Iterator[pa.RecordBatch]:
    """Count pairs, those of known ids, and unusable rows: runs on an executor."""
    users, items = (IdIndex(ids) for ids in known.value)
    for table in gather_batches(batches, CHUNK_ROWS):
        bad = table.column("bad")
        good = table.filter(are_usable(bad))
        user, item = (good.column(name).combine_chunks() for name in ("user", "item"))
        found = (users.rows_of(user) >= 0) & (items.rows_of(item) >= 0)
        row = {
            "n_usable": good.num_rows,
            "n_known": int(np.count_nonzero(found)),
            "bad": BadRowCounts.of_column(bad).as_text(),
            "changed": json.dumps(changed_ids(bad).as_found()),
        }
        yield pa.RecordBatch.from_pylist([row], schema=_FOUND_FIELDS)


def without_pairs(pairs: DataFrame, others: DataFrame) -> DataFrame:
    """Leave pairs out that are among others, ids compared as text."""
    ids = ("user", "item")
    held = others.select(*(F.col(name).cast("string").alias(f"_{name}") for name in ids))
    same = [F.col(name).cast("string") == F.col(f"_{name}") for name in ids]
    return pairs.join(held, same, "left_anti")
