"""Ratings of users that a model does not know, found among any number of others.

The executors look up whose each rating is, and only those of new users come to the driver, which
solves their factors (:mod:`als_spark.model.foldin`): as Arrow bytes, a few columns of a chunk at a
time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError, SolveError
from als_spark.model.factor_model import FactorModel
from als_spark.model.foldin import FoldedRows, fold_in
from als_spark.model.ids import IdIndex
from als_spark.spark.arrow import gather_batches, map_in_arrow, stream_to_bytes, table_from_bytes
from als_spark.spark.prepare.encode import CHUNK_ROWS, bad_rows, count_problems, merge_problems
from als_spark.spark.read.sources import Source, unreadable_files_are_named
from als_spark.spark.read.validation import SHOWN_PROBLEMS, problem_text, typed_ratings
from als_spark.spark.session import broadcasted, described

FOUND_SCHEMA = (
    "ratings binary, n_usable bigint, "
    "problems array<string>, problem_counts array<bigint>, examples array<string>"
)
_COLUMNS = ("user", "item", "timestamp", "rating")
"""Of the ratings that are found; sorted by these, the last of each pair is the one that counts."""
_FOUND_FIELDS = pa.schema(
    [
        ("ratings", pa.binary()),
        ("n_usable", pa.int64()),
        ("problems", pa.list_(pa.string())),
        ("problem_counts", pa.list_(pa.int64())),
        ("examples", pa.list_(pa.string())),
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

    Attributes
    ----------
    table : pyarrow.Table
        ``user``, ``item`` (int64 or string) and ``rating`` (float64), one of each pair: the last by
        time, where there are times (a rating without one is the earliest), then by value.
    label : str
        Names the source.
    n_bad : int
        Unusable rows of the source, of whichever user.
    problems : list of str
        What is wrong with these, with an example of each kind.
    """

    table: pa.Table
    label: str
    n_bad: int
    problems: list[str]

    def fold_in(self, model: FactorModel) -> FoldedRows:
        """Solve the users against the model.

        Raises
        ------
        DataError
            If an id of a user is not of the model's kind, or a user's system has no solution.
        """
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
        schema = ", ".join(
            f"{field.name} {'bigint' if pa.types.is_integer(field.type) else 'string'}"
            for field in pairs.schema
        )
        return map_in_arrow(session.createDataFrame(rows, "pairs binary"), unpack_pairs, schema)


def read_new_ratings(
    session: SparkSession, source: Source, model: FactorModel, asked: pa.Array | None = None
) -> NewRatings:
    """Find the ratings of users that a model does not know, in one pass.

    A user without a training rating is not known, though the model may hold its start.

    Parameters
    ----------
    session : SparkSession
    source : Source
    model : FactorModel
    asked : pyarrow.Array, optional
        Ids, as integers or text: ratings of other users are left out.

    Raises
    ------
    DataError
        If no rating of the source is usable, or it cannot be read.
    """
    context = session.sparkContext
    # Times decide between ratings of a pair, and do no more.
    timed = "timestamp" in source.columns
    typed = typed_ratings(source, need_timestamp=timed, strict_timestamp=False)
    time = F.coalesce("timestamp", F.lit(float("-inf")))
    trained = model.users.ids.filter(pa.array(model.user_stats.degrees > 0))
    with (
        unreadable_files_are_named(source.label),
        described(context, f"looking for new users in {source.label}"),
        broadcasted(context, Wanted(trained, asked)) as wanted,
    ):
        rows = map_in_arrow(
            typed.withColumn("timestamp", time).select(*_COLUMNS, bad_rows()),
            partial(find_new, wanted=wanted),
            FOUND_SCHEMA,
        ).collect()
    counts, examples = merge_problems(rows)
    problems = [problem_text(name, n, examples[name][0]) for name, n in counts.items()]
    problems = problems[:SHOWN_PROBLEMS]
    if not any(row.n_usable for row in rows):
        raise DataError(
            f"{source.label}: no usable ratings: {'; '.join(problems) or 'it is empty'}: "
            "give ratings of the users to fold in"
        )
    found = pa.concat_tables([table_from_bytes(row.ratings) for row in rows])
    return NewRatings(latest_of_pairs(found), source.label, sum(counts.values()), problems)


def find_new(
    batches: Iterable[pa.RecordBatch], *, wanted: Broadcast[Wanted]
) -> Iterator[pa.RecordBatch]:
    """Keep the ratings of new users, and count the unusable rows: runs on an executor."""
    trained = IdIndex(wanted.value.trained)
    asked = None if wanted.value.asked is None else IdIndex(wanted.value.asked)
    for table in gather_batches(batches, CHUNK_ROWS):
        bad = table.column("bad").drop_null()
        good = table.filter(pc.is_null(table.column("bad"))).select(list(_COLUMNS))
        users = good.column("user").combine_chunks()
        new = trained.rows_of(users) < 0
        if asked is not None:
            new &= asked.rows_of(users) >= 0
        problems, counts, examples = count_problems(bad)
        row = {
            "ratings": stream_to_bytes(good.filter(pa.array(new))),
            "n_usable": good.num_rows,
            "problems": problems,
            "problem_counts": counts,
            "examples": examples,
        }
        yield pa.RecordBatch.from_pylist([row], schema=_FOUND_FIELDS)


def latest_of_pairs(ratings: pa.Table) -> pa.Table:
    """Leave the last rating of each pair: by ``timestamp``, then by value.

    Parameters
    ----------
    ratings : pyarrow.Table
        ``user``, ``item``, ``rating``, ``timestamp``.

    Returns
    -------
    pyarrow.Table
        ``user``, ``item``, ``rating``, by rising pair.
    """
    ordered = ratings.sort_by([(name, "ascending") for name in _COLUMNS])
    last = np.ones(ordered.num_rows, bool)
    if ordered.num_rows:
        changes = (
            pc.not_equal(ids.slice(1).combine_chunks(), ids.slice(0, len(ids) - 1).combine_chunks())
            for ids in (ordered.column("user"), ordered.column("item"))
        )
        last[:-1] = pc.or_(*changes).to_numpy(zero_copy_only=False)
    return ordered.filter(pa.array(last)).select(["user", "item", "rating"])


def unpack_pairs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read pairs from their bytes: runs on an executor."""
    for batch in batches:
        for data in batch.column(0).to_pylist():
            yield from table_from_bytes(data).to_batches()
