"""The one pass over the ratings as they come in: checked, counted, and kept as compact chunks.

Every partition of the DataFrame becomes a few *chunks*, rows of binary columns: codes into the
chunk's own lists of ids and of ratings (dictionary encoding), splits, timestamps. The chunks are
persisted, so the source is read once; the driver collects the id lists and counts from them, which
is all it needs to number the rows and to check the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.model.ids import IdIndex, fits_int64
from als_spark.spark.arrow import (
    gather_batches,
    map_in_arrow,
    stream_to_bytes,
    table_from_bytes,
)
from als_spark.spark.prepare.narrow import encode_values, narrow
from als_spark.types import IntArray

CHUNK_ROWS = 2_000_000
"""Ratings a chunk holds at most (about): five to 17 bytes each."""
MAX_EXAMPLES = 3
"""Bad rows shown in a message."""
MAX_EXAMPLE_LENGTH = 160
"""Characters of each that are shown."""

CHUNK_SCHEMA = (
    "users binary, items binary, user_counts binary, item_counts binary, "
    "user_codes binary, item_codes binary, ratings binary, levels binary, "
    "splits binary, timestamps binary, "
    "n_ratings bigint, lowest double, highest double, "
    "problems array<string>, problem_counts array<bigint>, examples array<string>"
)
CHUNK_FIELDS = pa.schema(
    [
        *(
            (name, pa.binary())
            for name in (
                *("users", "items", "user_counts", "item_counts"),
                *("user_codes", "item_codes", "ratings", "levels", "splits", "timestamps"),
            )
        ),
        ("n_ratings", pa.int64()),
        ("lowest", pa.float64()),
        ("highest", pa.float64()),
        ("problems", pa.list_(pa.string())),
        ("problem_counts", pa.list_(pa.int64())),
        ("examples", pa.list_(pa.string())),
    ]
)
_VALUE_COLUMNS = ("user", "item", "rating", "timestamp", "split")
_BETWEEN = "\x1f"
"""Between a problem and the row that has it, in one column of text."""
_SUMMARY_COLUMNS = (
    *("users", "items", "user_counts", "item_counts", "n_ratings", "lowest", "highest"),
    *("problems", "problem_counts", "examples"),
)


@dataclass(frozen=True, slots=True)
class Summary:
    """What the pass over the ratings has found.

    Attributes
    ----------
    n_ratings : int
        Usable ratings.
    users, items : IdIndex
        All ids among them, by falling number of ratings, then by rising id: the rows that are used
        most lie together.
    user_counts, item_counts : (n,) int64
        Usable ratings of each.
    lowest, highest : float
        Range of the ratings.
    problems : dict of str to int
        What is wrong with how many rows.
    examples : dict of str to list of str
        The first bad rows of each kind, as read.
    """

    n_ratings: int
    users: IdIndex
    items: IdIndex
    user_counts: IntArray
    item_counts: IntArray
    lowest: float
    highest: float
    problems: dict[str, int]
    examples: dict[str, list[str]]

    @property
    def n_bad(self) -> int:
        """Rows that cannot be used."""
        return sum(self.problems.values())


def encode_ratings(ratings: DataFrame) -> DataFrame:
    """Turn typed, split ratings (see :mod:`als_spark.spark.read.validation`) into chunks.

    The columns ``timestamp`` and ``split`` may be left out, which is faster: what the rows cost on
    their way from Spark to Arrow goes by their columns.
    """
    columns = [F.col(name) for name in _VALUE_COLUMNS if name in ratings.columns]
    return map_in_arrow(ratings.select(*columns, bad_rows()), encode_partition, CHUNK_SCHEMA)


def bad_rows() -> Column:
    """Return the column ``bad`` of typed ratings: null, or the problem and the row as read."""
    problem = F.col("problem")
    text = F.concat(problem, F.lit(_BETWEEN), F.col("raw"))
    return F.when(problem.isNotNull(), text).alias("bad")


def encode_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Encode the batches of a partition: the function that runs on an executor."""
    for table in gather_batches(batches, CHUNK_ROWS):
        yield encode_chunk(table)


def encode_chunk(table: pa.Table) -> pa.RecordBatch:
    """Encode some ratings as one chunk.

    Parameters
    ----------
    table : pyarrow.Table
        Columns user, item, rating and bad (null for a usable row, else the problem and the row as
        read), perhaps timestamp and split.
    """
    bad = table.column("bad").drop_null()
    good = table.filter(pc.is_null(table.column("bad"))) if len(bad) else table
    problems, counts, examples = count_problems(bad)
    encoded = {}
    for role in ("user", "item"):
        dictionary = good.column(role).combine_chunks().dictionary_encode()
        positions = dictionary.indices.to_numpy(zero_copy_only=False)
        encoded[f"{role}s"] = ids_to_bytes(dictionary.dictionary)
        encoded[f"{role}_codes"] = narrow(positions, len(dictionary.dictionary)).tobytes()
        encoded[f"{role}_counts"] = (
            np.bincount(positions, minlength=len(dictionary.dictionary)).astype(np.int64).tobytes()
        )
    ratings = good.column("rating").combine_chunks()
    values, levels = encode_values(ratings)
    # The levels of the values that are there.
    extremes = levels if levels.size else values
    times = b""
    if "timestamp" in good.column_names and good.column("timestamp").null_count == 0:
        times = good.column("timestamp").to_numpy().tobytes()
    splits = b""
    if "split" in good.column_names and pc.max(good.column("split")).as_py():
        splits = good.column("split").to_numpy().tobytes()
    row = {
        **encoded,
        "ratings": values.tobytes(),
        "levels": levels.tobytes(),
        "splits": splits,
        "timestamps": times,
        "n_ratings": good.num_rows,
        "lowest": float(extremes.min()) if extremes.size else np.inf,
        "highest": float(extremes.max()) if extremes.size else -np.inf,
        "problems": problems,
        "problem_counts": counts,
        "examples": examples,
    }
    return pa.RecordBatch.from_pylist([row], schema=CHUNK_FIELDS)


def summarise(chunks: DataFrame) -> Summary:
    """Collect and merge the summaries of all chunks: the one aggregate over the data."""
    rows = chunks.select(*_SUMMARY_COLUMNS).collect()
    users, user_counts = merge_ids(
        [(ids_from_bytes(row.users), np.frombuffer(row.user_counts, np.int64)) for row in rows]
    )
    items, item_counts = merge_ids(
        [(ids_from_bytes(row["items"]), np.frombuffer(row.item_counts, np.int64)) for row in rows]
    )
    problems, examples = merge_problems(rows)
    return Summary(
        n_ratings=sum(row.n_ratings for row in rows),
        users=users,
        items=items,
        user_counts=user_counts,
        item_counts=item_counts,
        lowest=min((row.lowest for row in rows), default=np.inf),
        highest=max((row.highest for row in rows), default=-np.inf),
        problems=problems,
        examples=examples,
    )


def merge_problems(rows: Iterable[Row]) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Merge what :func:`count_problems` has found in each chunk.

    Parameters
    ----------
    rows : iterable of Row
        With ``problems``, ``problem_counts`` and ``examples``.

    Returns
    -------
    dict of str to int, dict of str to list of str
        Rows with each problem, most frequent first, and the first few of each.
    """
    problems: dict[str, int] = {}
    examples: dict[str, list[str]] = {}
    for row in rows:
        for name, count, example in zip(
            row.problems, row.problem_counts, row.examples, strict=True
        ):
            problems[name] = problems.get(name, 0) + count
            examples.setdefault(name, []).extend(example.split("\n"))
    return (
        dict(sorted(problems.items(), key=lambda entry: (-entry[1], entry[0]))),
        {name: sorted(found)[:MAX_EXAMPLES] for name, found in examples.items()},
    )


def merge_ids(parts: Sequence[tuple[pa.Array, IntArray]]) -> tuple[IdIndex, IntArray]:
    """Merge id lists with counts; number the ids by falling count, then by rising id.

    Text ids that are all decimal integers become integers, so that a CSV file and a table of
    integers give the same index. Text among integers makes all of them text.
    """
    arrays = [ids for ids, _ in parts if len(ids)]
    if not arrays:
        return IdIndex(pa.array([], pa.int64())), np.zeros(0, np.int64)
    counts = np.concatenate([count for ids, count in parts if len(ids)])
    if not all(pa.types.is_integer(array.type) for array in arrays):
        texts = [array.cast(pa.string()) for array in arrays]
        whole = all(pc.all(fits_int64(text)).as_py() for text in texts)
        arrays = [text.cast(pa.int64()) for text in texts] if whole else texts
    merged = (
        pa.table({"id": pa.concat_arrays(arrays), "count": counts})
        .group_by("id")
        .aggregate([("count", "sum")])
        .sort_by([("count_sum", "descending"), ("id", "ascending")])
        .combine_chunks()
    )
    ids = merged.column("id").combine_chunks()
    return IdIndex(ids), merged.column("count_sum").to_numpy()


def check_summary(summary: Summary, label: str, *, drop_bad_rows: bool) -> None:
    """Stop on ratings that cannot be trained on.

    Raises
    ------
    DataError
        With counts, the first examples and the remedy.
    """
    if summary.n_bad and not drop_bad_rows:
        kinds = "; ".join(
            f"{name} ({count:,} {_rows(count)}, such as {' | '.join(summary.examples[name])})"
            for name, count in summary.problems.items()
        )
        raise DataError(
            f"{label}: {summary.n_bad:,} unusable {_rows(summary.n_bad)}: {kinds}: "
            "mend the data, or set these rows aside with --bad-rows drop"
        )
    if summary.n_ratings == 0:
        left = " left after the unusable rows were dropped" if summary.n_bad else ""
        raise DataError(f"{label}: no ratings{left}: give a source with ratings")
    for side, ids in (("user", summary.users), ("item", summary.items)):
        if len(ids) == 1:
            raise DataError(
                f"{label}: all ratings are of one {side} ({ids.ids[0].as_py()}): "
                f"a factorisation needs at least two; check --{side}-col"
            )
    if summary.lowest == summary.highest:
        raise DataError(
            f"{label}: every rating is {summary.lowest:g}: there is nothing to learn; "
            "check --rating-col"
        )


def ids_to_bytes(ids: pa.Array) -> bytes:
    """Serialise an id list as an Arrow stream."""
    return stream_to_bytes(pa.record_batch([ids], names=["id"]))


def ids_from_bytes(data: bytes) -> pa.Array:
    """Read what :func:`ids_to_bytes` wrote."""
    return table_from_bytes(data).column("id").combine_chunks()


def count_problems(bad: pa.ChunkedArray) -> tuple[list[str], list[int], list[str]]:
    """Count the bad rows by kind, with the first few of each (joined by newlines)."""
    counts: dict[str, int] = {}
    examples: dict[str, list[str]] = {}
    for text in bad.to_pylist():
        problem, _, raw = text.partition(_BETWEEN)
        counts[problem] = counts.get(problem, 0) + 1
        shown = examples.setdefault(problem, [])
        if len(shown) < MAX_EXAMPLES:
            shown.append(_shown(raw))
    return list(counts), list(counts.values()), ["\n".join(shown) for shown in examples.values()]


def _shown(text: str) -> str:
    """Bring a bad row to one line of bounded length."""
    text = " ".join(text.split())
    if len(text) <= MAX_EXAMPLE_LENGTH:
        return text
    # The end has the name of the file.
    half = (MAX_EXAMPLE_LENGTH - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"
