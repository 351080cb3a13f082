"""Whether chunks of ratings hold a pair more than once, without a shuffle of the ratings' rows.

Each chunk is cut by the block of each rating's user, as for packing, but of its ratings only the
numbers of user and item go through the shuffle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession

from als_spark.spark.arrow import map_in_arrow, unpickled, widen
from als_spark.spark.prepare.pack import (
    PAIR_COLUMNS,
    PIECE_SCHEMA,
    Layout,
    Piece,
    Ratings,
    cut_chunk,
    dense_pairs,
    indices_of,
    shuffle_keys,
)
from als_spark.spark.read.facts import Summary
from als_spark.spark.session import broadcasted, default_partitions, described
from als_spark.types import IntArray, Side


def has_repeats(session: SparkSession, chunks: DataFrame, summary: Summary) -> bool:
    """Tell whether a pair is in some chunks more than once; ``summary`` is that of all of them."""
    context = session.sparkContext
    n_blocks = default_partitions(context)
    users = np.arange(len(summary.users), dtype=np.int32)
    # The ids go by falling numbers of ratings, so blocks of every so many are about alike.
    block_of: Mapping[Side, IntArray] = {"user": users % n_blocks, "item": users[:0]}
    keys: IntArray = np.zeros(1, np.int32)
    if n_blocks > 1:
        keys = shuffle_keys(session, n_blocks)
    layout = Layout(summary.users.ids, summary.items.ids, block_of, keys)
    with (
        described(context, "looking for pairs that are rated more than once"),
        broadcasted(context, layout) as shared,
    ):
        pieces = map_in_arrow(
            chunks.select(*PAIR_COLUMNS), partial(cut_pairs, layout=shared), PIECE_SCHEMA
        )
        placed = unpickled(pieces.repartition(n_blocks, "key").select("piece"))
        return any(
            placed.mapPartitions(partial(find_repeats, n_items=len(summary.items))).collect()
        )


def cut_pairs(
    batches: Iterable[pa.RecordBatch], *, layout: Broadcast[Layout]
) -> Iterator[pa.RecordBatch]:
    """Cut the pairs of the chunks of a partition by user: runs on an executor."""
    where, none = layout.value, np.zeros(0)
    indices = indices_of(where)
    for batch in batches:
        for chunk in batch.to_pylist():
            dense = dense_pairs(chunk, indices)
            pairs = Ratings(dense["user"], dense["item"], none, none, none)
            yield cut_chunk(pairs, b"", where.block_of["user"], where.keys, 0)


def find_repeats(pieces: Iterable[Piece], *, n_items: int) -> Iterator[bool]:
    """Tell whether pieces hold a pair more than once: runs on an executor."""
    numbers: list[Any] = [np.zeros(0, np.int64)]
    for piece in pieces:
        rows, columns = (widen(part, piece.n_ratings) for part in (piece.rows, piece.columns))
        numbers.append(rows.astype(np.int64) * n_items + columns)
    together = np.concatenate(numbers)
    together.sort()
    yield bool((together[1:] == together[:-1]).any())
