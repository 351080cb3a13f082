"""The packed ratings as rows of a DataFrame, and as what the half-steps read.

A *record* is a row of binary columns. It holds a slice of a block's training ratings, a part of the
held-out ratings, or the count of the pairs that were rated more than once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from als_spark.blocks import FloatArray, IntArray, RatingBlock, Side
from als_spark.results import SplitName

SHARED = "shared"
"""Part of the training ratings of rows that are shared between the blocks."""
DUPLICATES = "duplicates"
_BLOCK_ARRAYS: Mapping[str, type[np.generic]] = {
    "rows": np.int32,
    "degrees": np.int32,
    "bucket_rows": np.int64,
    "bucket_widths": np.int64,
    "indices": np.int32,
}
RECORD_SCHEMA = (
    "side string, block int, part string, position int, count bigint, "
    "rows binary, degrees binary, bucket_rows binary, bucket_widths binary, "
    "indices binary, ratings binary"
)
_FIELDS = pa.schema(
    [
        ("side", pa.string()),
        ("block", pa.int32()),
        ("part", pa.string()),
        ("position", pa.int32()),
        ("count", pa.int64()),
        *((name, pa.binary()) for name in (*_BLOCK_ARRAYS, "ratings")),
    ]
)


class TrainSlice(NamedTuple):
    """A slice of the training ratings of a block."""

    side: Side
    block: int
    position: int
    """Of the slice among those of its block."""
    shared: bool
    """Whether its rows are shared rows, of which other blocks have ratings too."""
    ratings: RatingBlock


class HeldOut(NamedTuple):
    """Held-out ratings of the users of a block."""

    split: SplitName
    users: IntArray
    items: IntArray
    ratings: FloatArray


class Repeated(NamedTuple):
    """How many pairs of a block were rated more than once, with the first few."""

    n_pairs: int
    pairs: list[tuple[int, int]]


Entry = TrainSlice | HeldOut | Repeated


def record_of_block(
    side: Side, block: int, part: str, position: int, ratings: RatingBlock
) -> dict[str, Any]:
    """Describe a slice of a block."""
    arrays = {name: getattr(ratings, name).tobytes() for name in (*_BLOCK_ARRAYS, "ratings")}
    return {"side": side, "block": block, "part": part, "position": position, **arrays}


def record_of_held_out(
    block: int, split: SplitName, users: IntArray, items: IntArray, ratings: FloatArray
) -> dict[str, Any]:
    """Describe held-out ratings (float64)."""
    arrays = {"rows": users.tobytes(), "indices": items.tobytes(), "ratings": ratings.tobytes()}
    return {"side": "user", "block": block, "part": split, **arrays}


def record_of_duplicates(block: int, count: int, examples: IntArray) -> dict[str, Any]:
    """Describe the pairs that came more than once; ``examples`` are (2, n) rows and columns."""
    return {
        "side": "user",
        "block": block,
        "part": DUPLICATES,
        "count": count,
        "rows": examples.astype(np.int32).tobytes(),
    }


def records_to_batch(records: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Turn records into an Arrow batch."""
    return pa.RecordBatch.from_pylist(list(records), schema=_FIELDS)


def decode_records(
    records: Iterable[Any], *, n_columns: Mapping[Side, int], dtype: str
) -> Iterator[Entry]:
    """Decode the records of a partition: the function that runs on an executor.

    Parameters
    ----------
    records : iterable of Row
    n_columns : mapping of side to int
        Rows of the other side.
    dtype : str
        Of the stored training ratings.
    """
    for record in records:
        yield decode_record(record, n_columns, dtype)


def decode_record(record: Any, n_columns: Mapping[Side, int], dtype: str) -> Entry:
    """Decode one record."""
    if record.part == DUPLICATES:
        pairs = np.frombuffer(record.rows, np.int32).reshape(2, -1)
        return Repeated(record["count"], [(int(row), int(column)) for row, column in pairs.T])
    if record.part in ("validation", "test"):
        return HeldOut(
            record.part,
            np.frombuffer(record.rows, np.int32),
            np.frombuffer(record.indices, np.int32),
            np.frombuffer(record.ratings, np.float64),
        )
    arrays = {
        name: np.frombuffer(record[name], array_type) for name, array_type in _BLOCK_ARRAYS.items()
    }
    block = RatingBlock(
        n_columns=n_columns[record.side], **arrays, ratings=np.frombuffer(record.ratings, dtype)
    )
    return TrainSlice(record.side, record.block, record.position, record.part == SHARED, block)
