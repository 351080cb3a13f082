"""From chunks of ratings to blocks: two DataFrames, one partitioned by user, one by item.

Each chunk is cut, by the block of each rating's row, into a few binary *pieces*; the pieces, not
the ratings, go through Spark's shuffle; and each block is merged from its pieces with a linear-time
sort.

Worked example: four ratings, two blocks a side, users 0 and 2 in user block 0, items 0 and 1 in
item block 0::

              item 0  item 1  item 2
    user 0      5       .       3
    user 1      .       4       .
    user 2      .       2       .

                       block 0                      block 1       each as (row, column, rating)
    by user   (0,0,5) (0,2,3) (2,1,2)               (1,1,4)
    by item   (0,0,5) (1,1,4) (1,2,2)               (2,0,3)

Both DataFrames hold all ratings; a half-step for the users reads the first, one for the items the
second, and no rating moves while training runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.blocks import (
    FloatArray,
    IntArray,
    RatingBlock,
    Side,
    build_block,
    counting_argsort,
    sort_pairs,
)
from als_spark.config import Duplicates
from als_spark.ids import IdIndex
from als_spark.metrics import row_sums
from als_spark.results import SplitName
from als_spark.spark.arrow import map_in_arrow
from als_spark.spark.encoding import ids_from_bytes
from als_spark.spark.validation import TEST, TRAIN, VALIDATION

PIECE_COLUMNS = ("user_codes", "item_codes", "ratings", "splits", "timestamps")
PIECE_SCHEMA = (
    "key int, block int, "
    "rows binary, columns binary, ratings binary, splits binary, timestamps binary"
)
PIECE_FIELDS = pa.schema(
    [
        ("key", pa.int32()),
        ("block", pa.int32()),
        *((name, pa.binary()) for name in ("rows", "columns", "ratings", "splits", "timestamps")),
    ]
)
BLOCK_SCHEMA = (
    "block int, part string, "
    "rows binary, degrees binary, bucket_rows binary, bucket_widths binary, "
    "indices binary, ratings binary, sums binary, n_duplicates bigint, duplicates binary"
)
BLOCK_FIELDS = pa.schema(
    [
        ("block", pa.int32()),
        ("part", pa.string()),
        *(
            (name, pa.binary())
            for name in (
                *("rows", "degrees", "bucket_rows", "bucket_widths"),
                *("indices", "ratings", "sums"),
            )
        ),
        ("n_duplicates", pa.int64()),
        ("duplicates", pa.binary()),
    ]
)
PARTS: dict[int, SplitName] = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
MAX_DUPLICATE_EXAMPLES = 3


class Layout(NamedTuple):
    """Where the rows of a side go; broadcast to the tasks that pack."""

    users: pa.Array
    items: pa.Array
    """Original ids by dense row."""
    block_of: IntArray
    """(n_rows,) block of each row of the side that is packed."""
    keys: IntArray
    """(n_blocks,) shuffle key of each block (see :func:`shuffle_keys`)."""


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How a side is packed.

    Attributes
    ----------
    side : {"user", "item"}
        What the blocks' rows are.
    n_rows, n_columns : int
        Sizes of this side and of the other.
    duplicates : {"error", "mean", "last"}
        What becomes of a pair rated twice; ``error`` counts them and leaves the stopping to the
        caller.
    dtype : str
        Of the stored ratings.
    """

    side: Side
    n_rows: int
    n_columns: int
    duplicates: Duplicates
    dtype: str


def pack_side(
    chunks: DataFrame,
    options: PackOptions,
    layout: Broadcast[Layout],
    n_blocks: int,
) -> DataFrame:
    """Shuffle the ratings into blocks of one side: partition k holds block k, a row for each part.

    Parameters
    ----------
    chunks : DataFrame
        From :func:`als_spark.spark.encoding.encode_ratings`.
    options : PackOptions
    layout : Broadcast of Layout
    n_blocks : int
        Blocks, and partitions, of the result.
    """
    wanted = chunks.where(F.col("n_ratings") > 0)
    columns = ["users", "items", *PIECE_COLUMNS]
    cut = partial(cut_partition, side=options.side, layout=layout)
    pieces = map_in_arrow(wanted.select(*columns), cut, PIECE_SCHEMA)
    placed = pieces.repartition(n_blocks, "key").drop("key")
    return map_in_arrow(placed, partial(merge_partition, options=options), BLOCK_SCHEMA)


def shuffle_keys(session: SparkSession, n_blocks: int) -> IntArray:
    """Find integers that Spark's hash partitioning sends to partition 0, 1, ..., n_blocks − 1.

    Blocks are balanced with care; hashing their numbers would put two in one partition and none in
    another.
    """
    n_tried = 32 * n_blocks
    while True:
        number = F.col("id").cast("int")
        rows = (
            session.range(0, n_tried, 1, 1)
            .select(F.pmod(F.hash(number), F.lit(n_blocks)).alias("partition"), number)
            .groupBy("partition")
            .agg(F.min(number))
            .collect()
        )
        if len(rows) == n_blocks:
            return np.array([key for _, key in sorted(tuple(row) for row in rows)], np.int32)
        n_tried *= 4


def cut_partition(
    batches: Iterable[pa.RecordBatch], *, side: Side, layout: Broadcast[Layout]
) -> Iterator[pa.RecordBatch]:
    """Cut the chunks of a partition into pieces: the function that runs on an executor."""
    where = layout.value
    indices = {"user": IdIndex(where.users), "item": IdIndex(where.items)}
    for batch in batches:
        for chunk in batch.to_pylist():
            rows = {
                role: index.rows_of(ids_from_bytes(chunk[f"{role}s"]))[
                    np.frombuffer(chunk[f"{role}_codes"], np.int32)
                ]
                for role, index in indices.items()
            }
            other: Side = "item" if side == "user" else "user"
            arrays = (
                rows[side],
                rows[other],
                np.frombuffer(chunk["ratings"], np.float64),
                np.frombuffer(chunk["splits"], np.int8),
                np.frombuffer(chunk["timestamps"], np.float64),
            )
            yield from cut_chunk(arrays, where.block_of, where.keys)


def cut_chunk(
    arrays: Sequence[npt.NDArray[Any]], block_of: IntArray, keys: IntArray
) -> Iterator[pa.RecordBatch]:
    """Cut rows, columns, ratings, splits and (perhaps empty) timestamps by the block of the row."""
    blocks = block_of[arrays[0]]
    order = counting_argsort(blocks, keys.size)
    ends = np.cumsum(np.bincount(blocks, minlength=keys.size)).tolist()
    arrays = [array[order] if array.size else array for array in arrays]
    start = 0
    for block, end in enumerate(ends):
        if end > start:
            values = [[array[start:end].tobytes()] for array in arrays]
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([keys[block]], pa.int32()),
                    pa.array([block], pa.int32()),
                    *(pa.array(value, pa.binary()) for value in values),
                ],
                schema=PIECE_FIELDS,
            )
        start = end


def merge_partition(
    batches: Iterable[pa.RecordBatch], *, options: PackOptions
) -> Iterator[pa.RecordBatch]:
    """Merge the pieces of the blocks of a partition: the function that runs on an executor."""
    pieces: dict[int, list[dict[str, Any]]] = {}
    for batch in batches:
        for piece in batch.to_pylist():
            pieces.setdefault(piece["block"], []).append(piece)
    for block in sorted(pieces):
        yield merge_block(block, pieces.pop(block), options)


def merge_block(
    block: int, pieces: Sequence[dict[str, Any]], options: PackOptions
) -> pa.RecordBatch:
    """Merge the pieces of one block into its packed parts."""
    rows, columns, ratings, splits, timestamps = (
        np.concatenate([np.frombuffer(piece[name], dtype) for piece in pieces])
        for name, dtype in (
            *(("rows", np.int32), ("columns", np.int32), ("ratings", np.float64)),
            *(("splits", np.int8), ("timestamps", np.float64)),
        )
    )
    order = sort_pairs(rows, columns, options.n_rows, options.n_columns)
    rows, columns, ratings, splits = rows[order], columns[order], ratings[order], splits[order]
    timestamps = timestamps[order] if timestamps.size else timestamps
    kept, ratings, repeated = resolve_duplicates(
        rows, columns, ratings, splits, timestamps, options.duplicates
    )
    examples = np.stack([rows[repeated], columns[repeated]])[:, :MAX_DUPLICATE_EXAMPLES]
    rows, columns, splits = rows[kept], columns[kept], splits[kept]
    records: list[dict[str, Any]] = []
    for code, part in PARTS.items():
        chosen = splits == code
        if not chosen.any() or (part != "train" and options.side == "item"):
            continue
        arrays = (rows[chosen], columns[chosen], ratings[chosen])
        packed = _train_record(*arrays, options) if part == "train" else _held_out_record(*arrays)
        records.append({"block": block, "part": part, "n_duplicates": 0, **packed})
    if repeated.size and options.side == "user":
        records[0] |= {"n_duplicates": int(repeated.size), "duplicates": examples.tobytes()}
    return pa.RecordBatch.from_pylist(records, schema=BLOCK_FIELDS)


def resolve_duplicates(
    rows: IntArray,
    columns: IntArray,
    ratings: FloatArray,
    splits: npt.NDArray[np.int8],
    timestamps: FloatArray,
    how: Duplicates,
) -> tuple[IntArray, FloatArray, IntArray]:
    """Leave one rating of each (row, column) pair.

    A pair that is held out by one of its ratings is held out: only its ratings of the latest split
    count. Of those, the mean (summed in the order of the values, so that the order of the input
    does not matter), or the last (by time; of several at one time the highest).

    Parameters
    ----------
    rows, columns, ratings, splits : (n,)
        Sorted by row, then by column.
    timestamps : (n,) or (0,)
        Needed for ``last``.
    how : {"error", "mean", "last"}
        ``error`` is treated as ``mean``; the caller stops.

    Returns
    -------
    kept : (m,) int
        Positions of the ratings that stay: one a pair, with the pair's split.
    ratings : (m,)
        Their values.
    repeated : (k,) int
        Positions of the first rating of each pair that came more than once.
    """
    new = np.ones(rows.size, bool)
    new[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    firsts = np.flatnonzero(new)
    if firsts.size == rows.size:
        return firsts, ratings, firsts[:0]
    pair = np.cumsum(new) - 1
    sizes = np.diff(np.append(firsts, rows.size))
    # Inside each pair by split, then time, then value: the last of each pair is the one that is
    # kept.
    keys = (ratings, timestamps, splits, pair) if how == "last" else (ratings, splits, pair)
    order = np.lexsort(keys)
    kept = order[firsts + sizes - 1]
    values = ratings[kept]
    if how != "last":
        latest = splits[order] == splits[kept][pair[order]]
        sums = np.bincount(pair[order][latest], ratings[order][latest], minlength=firsts.size)
        values = sums / np.bincount(pair[order][latest], minlength=firsts.size)
    return kept, values, firsts[sizes > 1]


def decode_block(record: Any, n_columns: int, dtype: str) -> RatingBlock:
    """Read a training block from its DataFrame row."""
    return RatingBlock(
        n_columns=n_columns,
        rows=np.frombuffer(record.rows, np.int32),
        degrees=np.frombuffer(record.degrees, np.int32),
        bucket_rows=np.frombuffer(record.bucket_rows, np.int64),
        bucket_widths=np.frombuffer(record.bucket_widths, np.int64),
        indices=np.frombuffer(record.indices, np.int32),
        ratings=np.frombuffer(record.ratings, dtype),
    )


def decode_held_out(record: Any) -> tuple[IntArray, IntArray, FloatArray]:
    """Read held-out ratings (users, items, float64 ratings) from their DataFrame row."""
    return (
        np.frombuffer(record.rows, np.int32),
        np.frombuffer(record.indices, np.int32),
        np.frombuffer(record.ratings, np.float64),
    )


def decode_duplicates(record: Any) -> list[tuple[int, int]]:
    """Read the first few repeated (row, column) pairs of a block from its DataFrame row."""
    pairs = np.frombuffer(record.duplicates, np.int32).reshape(2, -1)
    return [(int(row), int(column)) for row, column in pairs.T]


def _train_record(
    rows: IntArray, columns: IntArray, ratings: FloatArray, options: PackOptions
) -> dict[str, bytes]:
    block = build_block(
        rows,
        columns,
        ratings,
        n_rows=options.n_rows,
        n_columns=options.n_columns,
        dtype=options.dtype,
        presorted=True,
    )
    fields = ("rows", "degrees", "bucket_rows", "bucket_widths", "indices", "ratings")
    return {name: getattr(block, name).tobytes() for name in fields} | {
        "sums": row_sums(block).tobytes()
    }


def _held_out_record(rows: IntArray, columns: IntArray, ratings: FloatArray) -> dict[str, bytes]:
    return {"rows": rows.tobytes(), "indices": columns.tobytes(), "ratings": ratings.tobytes()}
