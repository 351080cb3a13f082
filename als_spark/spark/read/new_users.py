"""Ratings of users that a model does not know, found among any number of others.

The executors look up whose each rating is, and only those of new users come to the driver, which
solves their factors (:mod:`als_spark.model.foldin`): as Arrow bytes, a few columns of a chunk at a
time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError, SolveError
from als_spark.model.foldin import FoldedRows, fold_in
from als_spark.model.ids import IdIndex
from als_spark.model.large_model import AnyModel
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
from als_spark.spark.read.duplicates import resolve_duplicates
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.ids import ChangedIds
from als_spark.spark.read.sources import Source
from als_spark.spark.session import broadcasted, described

_COLUMNS = ("user", "item", "timestamp", "rating")
_FOUND_FIELDS = pa.schema(
    [
        *(("ratings", pa.binary()), ("n_usable", pa.int64())),
        *(("bad", pa.string()), ("changed", pa.string())),
    ]
)


class Wanted(NamedTuple):
    """Whose ratings are looked for; broadcast to the tasks that look."""

    trained: pa.Array
    """Users with training ratings: not theirs."""
    asked: pa.Array | None
    """Theirs only, if given."""


@dataclass(frozen=True, slots=True)
class NewRatings:
    """Ratings of new users.

    ``table`` has ``user``, ``item`` (int64 or string) and ``rating`` (float64), the last of each
    pair (see :mod:`als_spark.spark.read.duplicates`): ``n_duplicates`` gave way to another. The
    rest is of whichever user: ``n_ratings`` usable ones, the unusable rows, and the ids that are
    not as they were written.
    """

    table: pa.Table
    label: str
    bad: BadRowCounts
    changed: ChangedIds
    n_ratings: int
    n_duplicates: int

    def fold_in(self, model: AnyModel) -> FoldedRows:
        """Solve the users against the model; DataError names the source and the user."""
        columns = (self.table.column(name).combine_chunks() for name in ("user", "item", "rating"))
        users, items, ratings = columns
        try:
            return fold_in(model, "user", users, items, ratings.to_numpy(zero_copy_only=False))
        except DataError as error:
            raise DataError(f"{self.label}: {error}") from error
        except SolveError as error:
            raise DataError(
                f"{self.label}: {error.name} cannot be folded in, for the ridge system has no "
                f"finite solution at the model's lambda={error.reg:g}: leave these ratings out, or "
                "train with a larger lambda"
            ) from error

    def pairs(self, session: SparkSession) -> DataFrame:
        """Return ``user`` and ``item`` of the ratings as a DataFrame, of bigints or strings."""
        pairs = self.table.select(["user", "item"])
        starts = range(0, pairs.num_rows, CHUNK_ROWS)
        rows = [(bytearray(stream_to_bytes(pairs.slice(start, CHUNK_ROWS))),) for start in starts]
        frame = session.createDataFrame(rows, "pairs binary")
        return map_in_arrow(frame, unpack_pairs, ddl(pairs.schema))


def read_new_ratings(
    session: SparkSession, source: Source, model: AnyModel, asked: pa.Array | None = None
) -> NewRatings:
    """Find the ratings of users that a model does not know, in one pass.

    A user without a training rating is not known, though the model may hold its start. If ids are
    ``asked``, as integers or text, ratings of other users are left out.

    Raises
    ------
    DataError
        If no rating of the source is usable, or it cannot be read.
    """
    context = session.sparkContext
    # Times decide between ratings of a pair, and do no more.
    timed = any("timestamp" in part.columns for part in source.parts)
    typed = typed_ratings(source, need_timestamp=timed, strict_timestamp=False)
    trained = model.users.ids.filter(pa.array(model.user_stats.degrees > 0))
    with (
        unreadable_files_are_named(source.label),
        described(context, f"looking for new users in {source.label}"),
        broadcasted(context, Wanted(trained, asked)) as wanted,
    ):
        rows = map_in_arrow(
            typed.select(*_COLUMNS, bad_column(typed)),
            partial(find_new, wanted=wanted),
            ddl(_FOUND_FIELDS),
        ).collect()
    bad = BadRowCounts.of_texts(row.bad for row in rows)
    if not any(row.n_usable for row in rows):
        raise DataError(
            f"{source.label}: no usable ratings: {bad if bad.n else 'it is empty'}: "
            "give ratings of the users to fold in"
        )
    found = pa.concat_tables([table_from_bytes(row.ratings) for row in rows])
    changed = ChangedIds.of(found for row in rows for found in json.loads(row.changed))
    last = last_of_pairs(found)
    n_ratings = sum(row.n_usable for row in rows)
    return NewRatings(last, source.label, bad, changed, n_ratings, found.num_rows - last.num_rows)


def find_new(
    batches: Iterable[pa.RecordBatch], *, wanted: Broadcast[Wanted]
) -> Iterator[pa.RecordBatch]:
    """Keep the ratings of new users, and count the unusable rows: runs on an executor."""
    trained = IdIndex(wanted.value.trained)
    asked = None if wanted.value.asked is None else IdIndex(wanted.value.asked)
    for table in gather_batches(batches, CHUNK_ROWS):
        bad = table.column("bad")
        good = table.filter(are_usable(bad)).select(list(_COLUMNS))
        users = good.column("user").combine_chunks()
        new = trained.rows_of(users) < 0
        if asked is not None:
            new &= asked.rows_of(users) >= 0
        row = {
            "ratings": stream_to_bytes(good.filter(pa.array(new))),
            "n_usable": good.num_rows,
            "bad": BadRowCounts.of_column(bad).as_text(),
            "changed": json.dumps(changed_ids(bad).as_found()),
        }
        yield pa.RecordBatch.from_pylist([row], schema=_FOUND_FIELDS)


def last_of_pairs(ratings: pa.Table) -> pa.Table:
    """Leave the last rating of each pair: ``user``, ``item``, ``rating``, by rising pair."""
    ordered = ratings.sort_by([("user", "ascending"), ("item", "ascending")]).combine_chunks()
    users, items = (
        ordered.column(name).combine_chunks().dictionary_encode().indices.to_numpy()
        for name in ("user", "item")
    )
    ratings_of, moments = (ordered.column(name).to_numpy() for name in ("rating", "timestamp"))
    resolved = resolve_duplicates(users, items, ratings_of, "last", {"timestamp": moments})
    return ordered.take(pa.array(resolved.kept)).select(["user", "item", "rating"])


def unpack_pairs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read pairs from their bytes: runs on an executor."""
    for batch in batches:
        for data in batch.column(0).to_pylist():
            yield from table_from_bytes(data).to_batches()
