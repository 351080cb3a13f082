"""From chunks of ratings to blocks, partitioned by user and by item.

Each chunk is cut, by the block of each rating's user and by that of its item, into a few binary
*pieces*; the pieces, not the ratings, go through Spark's shuffle, all in one pass; each block is
merged from its pieces with a linear-time sort, and comes out as *slices* of bounded size.

Worked example: four ratings, two blocks a side, users 0 and 2 in user block 0, items 0 and 1 in
item block 0::

              item 0  item 1  item 2
    user 0      5       .       3
    user 1      .       4       .
    user 2      .       2       .

                       block 0                      block 1       each as (row, column, rating)
    by user   (0,0,5) (0,2,3) (2,1,2)               (1,1,4)
    by item   (0,0,5) (1,1,4) (1,2,2)               (2,0,3)

Partitions 0 and 1 of the result hold the blocks by user, partitions 2 and 3 those by item; each has
all ratings, and no rating moves while training runs.

A *shared* row, with more work than a whole block should have, is in no block: its ratings are dealt
to all blocks of its side by column, and its normal equations are summed from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import RDD, Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.model.ids import IdIndex
from als_spark.solve.blocks import build_block, counting_argsort, sort_pairs, split_block
from als_spark.spark.arrow import map_in_arrow
from als_spark.spark.prepare.encode import ids_from_bytes
from als_spark.spark.prepare.narrow import decode_values, narrow, widen
from als_spark.spark.prepare.slices import Entry, HeldOut, Repeated, TrainSlice
from als_spark.spark.read.validation import TEST, TRAIN, VALIDATION
from als_spark.types import SIDES, Duplicates, FloatArray, IntArray, Side, SplitName

SHARED_ROW = -1
"""Block number of a shared row."""
PIECE_SCHEMA = (
    "key int, target int, n_ratings bigint, levels binary, "
    "rows binary, columns binary, ratings binary, splits binary, timestamps binary"
)
HELD_OUT: Mapping[int, SplitName] = {VALIDATION: "validation", TEST: "test"}
MAX_DUPLICATE_EXAMPLES = 3


class Layout(NamedTuple):
    """Where the rows of both sides go; broadcast to the tasks that pack."""

    users: pa.Array
    items: pa.Array
    """Original ids by dense row."""
    block_of: Mapping[Side, IntArray]
    """(n_rows,) block of each row of a side, ``SHARED_ROW`` for a shared one."""
    keys: IntArray
    """(n_targets,) shuffle key of each partition (see :func:`shuffle_keys`)."""


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How ratings are packed.

    Attributes
    ----------
    sides : tuple of {"user", "item"}
        What the blocks' rows are; partition ``k n_blocks + b`` of the result is block b of the k-th
        side.
    n_blocks : int
        Blocks of each side.
    duplicates : {"error", "mean", "last"}
        What becomes of a pair rated twice; ``error`` counts them and leaves the stopping to the
        caller.
    dtype : str
        Of the stored ratings.
    slice_bytes : int or None
        Largest size of a slice of a block; None for whole blocks.
    """

    sides: tuple[Side, ...]
    n_blocks: int
    duplicates: Duplicates
    dtype: str
    slice_bytes: int | None


class Ratings(NamedTuple):
    """Ratings of one block, or a piece of it, as triples by dense row."""

    rows: npt.NDArray[Any]
    columns: npt.NDArray[Any]
    ratings: npt.NDArray[Any]
    """Values, or codes of levels."""
    splits: npt.NDArray[Any]
    """Empty where all are training ratings."""
    timestamps: npt.NDArray[Any]
    """Empty where they are not needed."""

    def take(self, positions: IntArray) -> Ratings:
        """Choose, and order, ratings by position."""
        return Ratings(*(a[positions] if a.size else a for a in self))

    def choose(self, chosen: npt.NDArray[np.bool_]) -> Ratings:
        """Choose ratings by a mask; all of them are not copied."""
        return self if chosen.all() else self.take(np.flatnonzero(chosen))


def pack_ratings(chunks: DataFrame, options: PackOptions, layout: Broadcast[Layout]) -> RDD[Entry]:
    """Shuffle the ratings into blocks of both sides: a partition a block.

    Parameters
    ----------
    chunks : DataFrame
        From :func:`als_spark.spark.prepare.encode.encode_ratings`.
    options : PackOptions
    layout : Broadcast of Layout
    """
    columns = [f"{role}{what}" for role in SIDES for what in ("s", "_codes")]
    wanted = chunks.where(F.col("n_ratings") > 0)
    pieces = map_in_arrow(
        wanted.select(*columns, "n_ratings", "ratings", "levels", "splits", "timestamps"),
        partial(cut_partition, options=options, layout=layout),
        PIECE_SCHEMA,
    )
    placed = pieces.repartition(len(options.sides) * options.n_blocks, "key").drop("key")
    return placed.rdd.mapPartitions(partial(merge_partition, options=options, layout=layout))


def shuffle_keys(session: SparkSession, n_partitions: int) -> IntArray:
    """Find integers that Spark's hash partitioning sends to partition 0, 1, ..., n − 1.

    Blocks are balanced with care; hashing their numbers would put two in one partition and none in
    another.
    """
    n_tried = 32 * n_partitions
    while True:
        number = F.col("id").cast("int")
        rows = (
            session.range(0, n_tried, 1, 1)
            .select(F.pmod(F.hash(number), F.lit(n_partitions)).alias("partition"), number)
            .groupBy("partition")
            .agg(F.min(number))
            .collect()
        )
        if len(rows) == n_partitions:
            return np.array([key for _, key in sorted(tuple(row) for row in rows)], np.int32)
        n_tried *= 4


def cut_partition(
    batches: Iterable[pa.RecordBatch], *, options: PackOptions, layout: Broadcast[Layout]
) -> Iterator[pa.RecordBatch]:
    """Cut the chunks of a partition into pieces: the function that runs on an executor."""
    where = layout.value
    indices = {"user": IdIndex(where.users), "item": IdIndex(where.items)}
    for batch in batches:
        for chunk in batch.to_pylist():
            n = chunk["n_ratings"]
            dense = {
                role: narrow(index.rows_of(ids_from_bytes(chunk[f"{role}s"])), len(index))[
                    widen(chunk[f"{role}_codes"], n)
                ]
                for role, index in indices.items()
            }
            ratings = np.frombuffer(chunk["ratings"], np.uint8 if chunk["levels"] else np.float64)
            splits = np.frombuffer(chunk["splits"], np.int8)
            timestamps = np.frombuffer(chunk["timestamps"], np.float64)
            for position, side in enumerate(options.sides):
                other = "item" if side == "user" else "user"
                keys = where.keys[position * options.n_blocks :][: options.n_blocks]
                yield cut_chunk(
                    Ratings(dense[side], dense[other], ratings, splits, timestamps),
                    chunk["levels"],
                    where.block_of[side],
                    keys,
                    position * options.n_blocks,
                )


def cut_chunk(
    ratings: Ratings, levels: bytes, block_of: IntArray, keys: IntArray, first_target: int
) -> pa.RecordBatch:
    """Cut ratings by the block of the row: a record batch with a row for each block."""
    n_blocks = keys.size
    blocks = block_of[ratings.rows]
    shared = blocks == SHARED_ROW
    if shared.any():
        # By column, so that all ratings of a pair stay together.
        blocks = np.where(shared, ratings.columns % n_blocks, blocks)
    counts = np.bincount(blocks, minlength=n_blocks)
    if n_blocks > 1:
        ratings = ratings.take(counting_argsort(blocks, n_blocks))
    targets = np.arange(first_target, first_target + n_blocks, dtype=np.int32)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(keys, pa.int32()),
            pa.array(targets, pa.int32()),
            pa.array(counts, pa.int64()),
            pa.array([levels] * n_blocks, pa.binary()),
            *(_binary_array(array, counts if array.size else 0 * counts) for array in ratings),
        ],
        names=["key", "target", "n_ratings", "levels", *Ratings._fields],
    )


def merge_partition(
    pieces: Iterable[Any], *, options: PackOptions, layout: Broadcast[Layout]
) -> Iterator[Entry]:
    """Merge the pieces of the blocks of a partition: the function that runs on an executor."""
    by_target: dict[int, list[Ratings]] = {}
    for piece in pieces:
        n = piece.n_ratings
        by_target.setdefault(piece.target, []).append(
            Ratings(
                widen(piece.rows, n),
                widen(piece.columns, n),
                decode_values(piece.ratings, piece.levels),
                np.frombuffer(piece.splits, np.int8) if piece.splits else np.zeros(n, np.int8),
                np.frombuffer(piece.timestamps, np.float64),
            )
        )
    block_of = layout.value.block_of
    for target in sorted(by_target):
        position, block = divmod(target, options.n_blocks)
        side = options.sides[position]
        n_columns = block_of["item" if side == "user" else "user"].size
        yield from merge_block(
            side, block, by_target.pop(target), block_of[side], n_columns, options
        )


def merge_block(
    side: Side,
    block: int,
    pieces: list[Ratings],
    block_of: IntArray,
    n_columns: int,
    options: PackOptions,
) -> Iterator[Entry]:
    """Merge the pieces of one block."""
    ratings = Ratings(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))
    pieces.clear()
    n_rows = block_of.size
    ratings = ratings.take(sort_pairs(ratings.rows, ratings.columns, n_rows, n_columns))
    kept, values, repeated = resolve_duplicates(*ratings, options.duplicates)
    if repeated.size:
        if side == "user":
            examples = repeated[:MAX_DUPLICATE_EXAMPLES]
            users, items = ratings.rows[examples].tolist(), ratings.columns[examples].tolist()
            yield Repeated(repeated.size, list(zip(users, items, strict=True)))
        ratings = ratings._replace(timestamps=ratings.timestamps[:0]).take(kept)
        ratings = ratings._replace(ratings=values)
    train = ratings.splits == TRAIN
    shared = block_of[ratings.rows] == SHARED_ROW
    first = 0
    for is_shared, chosen in ((False, train & ~shared), (True, train & shared)):
        own = ratings.choose(chosen)
        packed = build_block(
            *own[:3], n_rows=n_rows, n_columns=n_columns, dtype=options.dtype, presorted=True
        )
        for piece in split_block(packed, options.slice_bytes):
            yield TrainSlice(side, (block, first), is_shared, piece)
            first += 1
    if side == "user":
        for code, split in HELD_OUT.items():
            held = ratings.choose(ratings.splits == code)
            if held.rows.size:
                yield HeldOut(split, *held[:3])


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


def _binary_array(array: npt.NDArray[Any], counts: IntArray) -> pa.Array:
    """View an array, cut into pieces, as an Arrow array of binaries: nothing is copied."""
    offsets = np.zeros(counts.size + 1, np.int32)
    offsets[1:] = np.cumsum(counts) * array.itemsize
    data = pa.py_buffer(np.ascontiguousarray(array))
    return pa.Array.from_buffers(pa.binary(), counts.size, [None, pa.py_buffer(offsets), data])
