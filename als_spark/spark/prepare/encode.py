"""The one pass over the ratings as they come in: checked, counted, and kept as compact chunks.

Every partition of the DataFrame becomes a few *chunks*, rows of binary columns: codes into the
chunk's own lists of ids and of ratings (dictionary encoding), splits, timestamps. The chunks are
persisted, so the source is read once; the driver collects the id lists and counts from them, which
is all it needs to number the rows and to check the data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.model.ids import id_for_message
from als_spark.spark.arrow import (
    CHUNK_ROWS,
    ddl,
    encode_values,
    gather_batches,
    ids_from_bytes,
    ids_to_bytes,
    map_in_arrow,
    narrow,
)
from als_spark.spark.read.bad_rows import (
    BadRowCounts,
    are_usable,
    bad_column,
    changed_ids,
    refuse_bad_rows,
)
from als_spark.spark.read.clean_files import CleanFiles, NotClean, read_units
from als_spark.spark.read.clean_text import read_lines
from als_spark.spark.read.facts import Summary
from als_spark.spark.read.first_rows import FIRST_ROWS, first_of_table
from als_spark.spark.read.histogram import (
    bars_of,
    count_encoded,
    pack_counts,
)
from als_spark.spark.read.ids import ChangedIds, merge_ids, refuse_two_forms
from als_spark.spark.read.moments import Moments
from als_spark.spark.read.row_hash import PairTexts
from als_spark.spark.read.split import SplitOptions, split_at_random
from als_spark.types import SIDES, BadRows, IntArray

_SUMMARY_FIELDS = [
    *((name, pa.binary()) for name in ("users", "items", "user_counts", "item_counts")),
    *(("n_ratings", pa.int64()), ("lowest", pa.float64()), ("highest", pa.float64())),
    *(("bad", pa.string()), ("changed", pa.string()), ("first_rows", pa.string())),
    *(("values", pa.binary()), ("moments", pa.binary())),
]
_RATING_COLUMNS = (
    "user_codes",
    "item_codes",
    "ratings",
    "levels",
    "splits",
    "timestamps",
    "weights",
)
CHUNK_FIELDS = pa.schema([*_SUMMARY_FIELDS, *((name, pa.binary()) for name in _RATING_COLUMNS)])
_VALUE_COLUMNS = ("user", "item", "rating", "timestamp", "split", "weight")


def encode_ratings(ratings: DataFrame) -> DataFrame:
    """Turn typed, split ratings (see :mod:`als_spark.spark.read.columns`) into chunks.

    The columns ``timestamp``, ``split`` and ``weight`` may be left out, which is faster: what the
    rows cost on their way from Spark to Arrow goes by their columns.
    """
    columns = [F.col(name) for name in _VALUE_COLUMNS if name in ratings.columns]
    return map_in_arrow(
        ratings.select(*columns, bad_column(ratings)), encode_partition, ddl(CHUNK_FIELDS)
    )


class Extras(NamedTuple):
    """What the tasks find out of ratings that Spark does not hand over."""

    split: SplitOptions | None = None
    """How ratings are split: at random at once, by time once all of them are encoded."""
    moments: bool = False
    """Whether the chunks have :class:`~als_spark.spark.read.moments.Moments`."""

    @property
    def by_time(self) -> SplitOptions | None:
        """The split, if it is by time: none of it is known before all ratings are read."""
        split = self.split
        return split if split is not None and split.strategy == "time" and split.held_out else None


NO_EXTRAS = Extras()


def encode_files(session: SparkSession, files: CleanFiles, extras: Extras = NO_EXTRAS) -> DataFrame:
    """Turn the ratings of files into chunks, read by the tasks themselves.

    :func:`summarise` raises :class:`~als_spark.spark.read.clean_files.NotClean` of the result if
    Spark has to read them.
    """
    n_tasks = len(files.tasks)
    numbers = session.range(0, n_tasks, 1, n_tasks)
    encode = partial(encode_tasks, files=files, extras=extras)
    return map_in_arrow(numbers, encode, ddl(CHUNK_FIELDS))


def encode_tasks(
    numbers: Iterable[pa.RecordBatch], *, files: CleanFiles, extras: Extras = NO_EXTRAS
) -> Iterator[pa.RecordBatch]:
    """Read and encode what the tasks of given numbers read: runs on an executor."""
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            try:
                yield from encode_partition(_batches_of(files, number), extras)
            except NotClean as error:
                refused = {"n_ratings": -1, "bad": str(error)}
                yield pa.RecordBatch.from_pylist([refused], schema=CHUNK_FIELDS)


def _batches_of(files: CleanFiles, task: int) -> Iterator[pa.RecordBatch]:
    given = files.tasks[task], files.columns, files.rules
    return read_units(*given) if files.text is None else read_lines(*given, files.text)


def encode_partition(
    batches: Iterable[pa.RecordBatch], extras: Extras = NO_EXTRAS
) -> Iterator[pa.RecordBatch]:
    """Encode the batches of a partition: the function that runs on an executor."""
    for table in gather_batches(batches, CHUNK_ROWS):
        yield encode_chunk(table, extras)


def encode_chunk(table: pa.Table, extras: Extras = NO_EXTRAS) -> pa.RecordBatch:
    """Encode some ratings as one chunk.

    The table has the columns user, item, rating and bad (see
    :func:`als_spark.spark.read.bad_rows.bad_column`), perhaps timestamp, split and weight. The
    ``extras`` need ids that are integers.
    """
    bad = table.column("bad")
    good = table.filter(are_usable(bad)) if bad.null_count < len(bad) else table
    encoded, pairs, ids = {}, [], []
    for role in ("user", "item"):
        dictionary = good.column(role).combine_chunks().dictionary_encode()
        positions = dictionary.indices.to_numpy(zero_copy_only=False)
        distinct = dictionary.dictionary
        if pa.types.is_integer(distinct.type):
            distinct = distinct.cast(pa.int64())
        pairs.append(positions)
        ids.append(distinct)
        encoded[f"{role}s"] = ids_to_bytes(distinct)
        encoded[f"{role}_codes"] = narrow(positions, len(distinct)).tobytes()
        encoded[f"{role}_counts"] = (
            np.bincount(positions, minlength=len(distinct)).astype(np.int64).tobytes()
        )
    ratings = good.column("rating").combine_chunks()
    values, levels = encode_values(ratings)
    # The levels of the values that are there.
    extremes = levels if levels.size else values
    times = b""
    if "timestamp" in good.column_names:
        moments = good.column("timestamp")
        # A missing one is NaN, unless all are missing.
        times = moments.to_numpy().tobytes() if moments.null_count < len(moments) else b""
    splits = b""
    if "split" in good.column_names and pc.max(good.column("split")).as_py():
        splits = good.column("split").to_numpy().tobytes()
    moments = b""
    if extras != NO_EXTRAS:
        splits, moments = _extras_of(pairs, ids, good, extras)
    weighted = "weight" in good.column_names
    row = {
        **encoded,
        "ratings": values.tobytes(),
        "levels": levels.tobytes(),
        "splits": splits,
        "timestamps": times,
        "weights": good.column("weight").to_numpy().tobytes() if weighted else b"",
        "n_ratings": good.num_rows,
        "lowest": float(extremes.min()) if extremes.size else np.inf,
        "highest": float(extremes.max()) if extremes.size else -np.inf,
        "bad": BadRowCounts.of_column(bad).as_text(),
        "changed": json.dumps(changed_ids(bad).as_found()),
        "first_rows": json.dumps(first_of_table(table)),
        "values": pack_counts(*count_encoded(values, levels)) if good.num_rows else b"",
        "moments": moments,
    }
    return pa.RecordBatch.from_pylist([row], schema=CHUNK_FIELDS)


def _extras_of(
    pairs: Sequence[IntArray], ids: Sequence[pa.Array], ratings: pa.Table, extras: Extras
) -> tuple[bytes, bytes]:
    """Return the splits, and the moments, of ratings of integer ids."""
    (users, items), (user_ids, item_ids) = pairs, (of_side.to_numpy() for of_side in ids)
    texts = PairTexts((users, items), (user_ids, item_ids))
    splits = moments = b""
    if extras.split is not None and extras.by_time is None:
        found = split_at_random(texts, extras.split)
        splits = found.tobytes() if found.any() else b""
    if extras.moments:
        timed = "timestamp" in ratings.column_names
        times = ratings.column("timestamp").to_numpy() if timed else np.zeros(0)
        values = ratings.column("rating").to_numpy()
        moments = Moments.of(texts, values, times).to_bytes()
    return splits, moments


def summarise(chunks: DataFrame) -> Summary:
    """Collect and merge the summaries of all chunks: the one aggregate over the data.

    Raises
    ------
    NotClean
        If the chunks are of :func:`encode_files`, and Spark has to read the files.
    """
    return merge_summaries(collect_summaries(chunks))


def collect_summaries(chunks: DataFrame) -> list[Any]:
    """Collect the summaries of chunks, a row each; raises as :func:`summarise` does."""
    rows = chunks.select(*(name for name, _ in _SUMMARY_FIELDS)).collect()
    for row in rows:
        if row.n_ratings < 0:
            raise NotClean(row.bad)
    return rows


def merge_summaries(rows: Sequence[Any]) -> Summary:
    """Merge what :func:`collect_summaries` returns."""
    (users, user_counts), (items, item_counts) = (
        merge_ids(
            [
                (ids_from_bytes(row[f"{side}s"]), np.frombuffer(row[f"{side}_counts"], np.int64))
                for row in rows
            ]
        )
        for side in SIDES
    )
    first = chain.from_iterable(json.loads(row.first_rows) for row in rows)
    lowest = min((row.lowest for row in rows), default=np.inf)
    highest = max((row.highest for row in rows), default=-np.inf)
    return Summary(
        n_ratings=sum(row.n_ratings for row in rows),
        users=users,
        items=items,
        user_counts=user_counts,
        item_counts=item_counts,
        lowest=lowest,
        highest=highest,
        bad=BadRowCounts.of_texts(row.bad for row in rows),
        changed=ChangedIds.of(found for row in rows for found in json.loads(row.changed)),
        histogram=bars_of((row["values"] for row in rows), lowest, highest),
        first_rows=tuple(islice(first, FIRST_ROWS)),
        moments=Moments.merge(Moments.from_bytes(row.moments) for row in rows if row.moments),
    )


def check_summary(summary: Summary, label: str, bad_rows: BadRows) -> None:
    """Stop on ratings that cannot be trained on: with counts, the first examples and the remedy."""
    refuse_bad_rows(label, summary.bad, bad_rows, "set these rows aside")
    refuse_two_forms(label, summary.ids, summary.changed)
    if summary.n_ratings == 0:
        left = " left after the unusable rows were dropped" if summary.bad.n else ""
        raise DataError(f"{label}: no ratings{left}: give a source with ratings")
    for side, ids in (("user", summary.users), ("item", summary.items)):
        if len(ids) == 1:
            raise DataError(
                f"{label}: all ratings are of one {side} ({id_for_message(ids.ids, 0)}): "
                f'a factorisation needs at least two; check `columns["{side}"]`'
            )
    if summary.lowest == summary.highest:
        raise DataError(
            f"{label}: every rating is {summary.lowest:g}: there is nothing to learn; "
            'check `columns["rating"]`'
        )
