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

import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from als_spark.errors import ChangedRatingsError
from als_spark.model.ids import IdIndex
from als_spark.solve.blocks import (
    RatingBlock,
    build_block,
    counting_argsort,
    sort_pairs,
    split_block,
)
from als_spark.solve.routing import SHARED_ROW
from als_spark.spark.arrow import decode_values, ids_from_bytes, narrow, widen
from als_spark.spark.read.duplicates import resolve_duplicates
from als_spark.spark.read.split import TEST, TRAIN, VALIDATION
from als_spark.spark.train.exchange import SliceNumber, TrainSlice
from als_spark.train.metrics import EvaluationPart, SideStats, build_evaluation_part, row_sums
from als_spark.types import (
    ColdStart,
    DType,
    DuplicatesOrKeep,
    FloatArray,
    IntArray,
    Side,
    SplitName,
    other_side,
)

PAIR_COLUMNS = ("users", "user_codes", "items", "item_codes", "n_ratings", "bad")
"""What :func:`dense_pairs` needs of a chunk."""
CHUNK_COLUMNS = (*PAIR_COLUMNS, "ratings", "levels", "splits", "timestamps", "weights")
"""What :func:`cut_partition` needs of a chunk."""
PIECE_SCHEMA = "key int, piece binary"
"""Of what :func:`cut_partition` returns: pickles of :class:`Piece` with their shuffle keys."""
HELD_OUT: Mapping[int, SplitName] = {VALIDATION: "validation", TEST: "test"}


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

    ``sides`` are what the blocks' rows are: partition ``k n_blocks + b`` of the result is block b
    of the k-th side. Of a pair rated twice ``duplicates="error"`` counts and leaves the stopping to
    the caller. ``slice_bytes`` is the largest size of a slice of a block; None leaves blocks whole.
    """

    sides: tuple[Side, ...]
    n_blocks: int
    duplicates: DuplicatesOrKeep
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
    weights: npt.NDArray[Any] = np.zeros(0)
    """Empty where all are 1."""

    def take(self, chosen: IntArray | npt.NDArray[np.bool_]) -> Ratings:
        """Choose ratings by a mask, or choose and order them by position."""
        return Ratings(*(a[chosen] if a.size else a for a in self))


class Piece(NamedTuple):
    """Ratings of a chunk that go to one block, as bytes."""

    target: int
    """The block, among those of all sides."""
    n_ratings: int
    levels: bytes
    """Values of the codes in ``ratings``; empty where these are the values."""
    rows: bytes
    columns: bytes
    ratings: bytes
    splits: bytes
    timestamps: bytes
    weights: bytes


class HeldOut(NamedTuple):
    """Held-out ratings of the users of a block."""

    split: SplitName
    users: IntArray
    items: IntArray
    ratings: FloatArray


class Repeated(NamedTuple):
    """How many pairs of a block were rated more than once, with the first few (user, item)."""

    n_pairs: int
    pairs: list[tuple[int, int]]


Entry = TrainSlice | HeldOut | Repeated


class SliceStats(NamedTuple):
    """What the driver needs to know of a slice."""

    side: Side
    number: SliceNumber
    shared: bool
    rows: IntArray
    degrees: IntArray
    positives: IntArray
    """(n_rows,) ratings above 0."""
    sums: FloatArray
    weighted: tuple[float, float] | None = None
    """Σ w r and Σ w of its ratings; None where all weights are 1."""


class HeldOutStats(NamedTuple):
    """How many ratings of a block are held out."""

    split: SplitName
    n_ratings: int


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
    indices = indices_of(where)
    for batch in batches:
        for chunk in batch.to_pylist():
            dense = dense_pairs(chunk, indices)
            ratings = np.frombuffer(chunk["ratings"], np.uint8 if chunk["levels"] else np.float64)
            splits = np.frombuffer(chunk["splits"], np.int8)
            timestamps = np.frombuffer(chunk["timestamps"], np.float64)
            weights = np.frombuffer(chunk["weights"], np.float64)
            for position, side in enumerate(options.sides):
                other = other_side(side)
                keys = where.keys[position * options.n_blocks :][: options.n_blocks]
                yield cut_chunk(
                    Ratings(dense[side], dense[other], ratings, splits, timestamps, weights),
                    chunk["levels"],
                    where.block_of[side],
                    keys,
                    position * options.n_blocks,
                )


def indices_of(layout: Layout) -> dict[Side, IdIndex]:
    """Return what numbers the ids of each side."""
    return {"user": IdIndex(layout.users), "item": IdIndex(layout.items)}


def dense_pairs(
    chunk: Mapping[str, Any], indices: Mapping[Side, IdIndex]
) -> dict[Side, npt.NDArray[Any]]:
    """Return the dense rows of each side of the ratings of a chunk, in as few bytes as they need.

    ``indices`` are those of :func:`indices_of`. ChangedRatingsError if the chunk is not one of
    those that were numbered: it was lost, and made again of files or rows that have changed.
    """
    n = chunk["n_ratings"]
    if n < 0:
        raise ChangedRatingsError(chunk["bad"])
    dense = {}
    for side, index in indices.items():
        rows = index.rows_of(ids_from_bytes(chunk[f"{side}s"]))
        if rows.size and rows.min() < 0:
            raise ChangedRatingsError(f"an id of the {side}s is new")
        dense[side] = narrow(rows, len(index))[widen(chunk[f"{side}_codes"], n)]
    return dense


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
    ends = np.cumsum(counts)
    pieces = []
    for k, (first, last) in enumerate(zip(ends - counts, ends, strict=True)):
        parts = (array[first:last].tobytes() for array in ratings)
        piece = Piece(first_target + k, int(counts[k]), levels, *parts)
        pieces.append(pickle.dumps(piece, pickle.HIGHEST_PROTOCOL))
    columns = [pa.array(keys, pa.int32()), pa.array(pieces, pa.binary())]
    return pa.record_batch(columns, names=["key", "piece"])


def merge_partition(
    pieces: Iterable[Piece], *, options: PackOptions, layout: Broadcast[Layout]
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
                np.frombuffer(piece.weights, np.float64),
            )
        )
    block_of = layout.value.block_of
    for target in sorted(by_target):
        position, block = divmod(target, options.n_blocks)
        side = options.sides[position]
        n_columns = block_of[other_side(side)].size
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
    if any(piece.timestamps.size for piece in pieces):
        # A piece without any holds ratings whose times are all missing.
        for k, piece in enumerate(pieces):
            if not piece.timestamps.size:
                pieces[k] = piece._replace(timestamps=np.full(piece.rows.size, np.nan))
    ratings = Ratings(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))
    pieces.clear()
    n_rows = block_of.size
    ratings = ratings.take(sort_pairs(ratings.rows, ratings.columns, n_rows, n_columns))
    kept, values, repeated = resolve_duplicates(
        *ratings[:3],
        options.duplicates,
        {"split": ratings.splits, "timestamp": ratings.timestamps, "weight": ratings.weights},
    )
    if repeated.size:
        if side == "user":
            examples = repeated[:3]
            users, items = ratings.rows[examples].tolist(), ratings.columns[examples].tolist()
            yield Repeated(repeated.size, list(zip(users, items, strict=True)))
        ratings = ratings._replace(timestamps=ratings.timestamps[:0]).take(kept)
        ratings = ratings._replace(ratings=values)
    train = ratings.splits == TRAIN
    shared = block_of[ratings.rows] == SHARED_ROW
    first = 0
    for is_shared, chosen in ((False, train & ~shared), (True, train & shared)):
        own = ratings if chosen.all() else ratings.take(chosen)
        packed = build_block(
            *own[:3],
            n_rows=n_rows,
            n_columns=n_columns,
            dtype=options.dtype,
            presorted=True,
            weights=own.weights if own.weights.size else None,
        )
        for part in split_block(packed, options.slice_bytes):
            yield TrainSlice(side, (block, first), is_shared, part)
            first += 1
    if side == "user":
        for code, split in HELD_OUT.items():
            held = ratings.take(ratings.splits == code)
            if held.rows.size:
                yield HeldOut(split, *held[:3])


def describe_entries(entries: Iterable[Entry]) -> Iterator[SliceStats | HeldOutStats | Repeated]:
    """Describe the entries of a partition for the driver: runs on an executor."""
    for entry in entries:
        if isinstance(entry, TrainSlice):
            block = entry.ratings
            yield SliceStats(
                *entry[:3],
                rows=block.rows,
                degrees=block.degrees,
                positives=block.positives(),
                sums=row_sums(block),
                weighted=_weighted_sums(block),
            )
        elif isinstance(entry, HeldOut):
            yield HeldOutStats(entry.split, entry.ratings.size)
        else:
            yield entry


def train_slices(entries: Iterable[Entry]) -> Iterator[TrainSlice]:
    """Pass on the training ratings of a partition: runs on an executor."""
    for entry in entries:
        if isinstance(entry, TrainSlice):
            yield entry


def build_evaluation_parts(
    entries: Iterable[Entry],
    *,
    stats: Broadcast[dict[Side, SideStats]],
    cold_start: ColdStart,
    dtype: DType,
) -> Iterator[EvaluationPart]:
    """Build the held-out parts of a partition: runs on an executor."""
    for entry in entries:
        if isinstance(entry, HeldOut):
            yield build_evaluation_part(
                *entry, stats=stats.value, cold_start=cold_start, dtype=dtype
            )


def _weighted_sums(block: RatingBlock) -> tuple[float, float] | None:
    if block.weights is None:
        return None
    weights = block.weights.astype(np.float64)
    return float(weights @ block.ratings.astype(np.float64)), float(weights.sum())
