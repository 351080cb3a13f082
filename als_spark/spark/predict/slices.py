"""Slices of those who are asked, and the pieces that travel to them.

A piece is a row of binary columns as a slice is, cut where its content lies, by the slice that it
belongs to. Both have the columns of :data:`SLICE_FIELDS`; ``source`` tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import Broadcast

from als_spark.model.ids import IdIndex
from als_spark.solve.blocks import counting_argsort
from als_spark.spark.arrow import CHUNK_ROWS, gather_batches, narrow
from als_spark.spark.predict.far_sides import factors_of
from als_spark.types import IntArray

SLICE_FIELDS = pa.schema(
    [
        ("key", pa.int32()),
        ("slice", pa.int32()),
        ("n", pa.int64()),
        ("source", pa.string()),
        ("first", pa.binary()),
        ("second", pa.binary()),
    ]
)
PAIRS = "pairs"
"""The source of a piece of pairs to leave out: ``first`` has their rows in the slice, ``second``
their candidates. In a slice ``first`` has the ids, ``second`` the factors."""
CHOSEN = "chosen"
"""The source of a piece of ids to answer: ``first`` has their rows in the slice."""
FACTORS = "factors"
"""The source of a piece of factors: ``first`` has their rows in the slice, ``second`` the
factors."""
CHUNK_FACTORS = 1 << 23
"""Factors that are cut at a time."""


class Places(NamedTuple):
    """Where everybody who is asked has gone; broadcast to the tasks that cut pairs."""

    asked: pa.Array
    """All ids that are asked, slice after slice."""
    found: pa.Array
    """Ids of the candidates."""
    starts: IntArray
    """(n_slices + 1,) Positions among the asked at which each slice begins, and the last ends."""
    keys: IntArray
    """(n_slices,) Shuffle key of each slice."""


def pieces_by_slice(
    where: Places, rows: IntArray, columns: npt.NDArray[Any], source: str
) -> pa.RecordBatch:
    """Cut (n,) positions among the asked, and (n, ...) what belongs to each, by slice."""
    n_slices = where.keys.size
    target = np.searchsorted(where.starts, rows, side="right") - 1
    order = counting_argsort(target, n_slices)
    rows, columns, target = rows[order], columns[order], target[order]
    rows = narrow(rows - where.starts[target], int(np.diff(where.starts).max()))
    counts = np.bincount(target, minlength=n_slices)
    ends = np.cumsum(counts).tolist()
    pieces = [
        {
            "key": int(where.keys[k]),
            "slice": k,
            "n": n,
            "source": source,
            "first": rows[end - n : end].tobytes(),
            "second": columns[end - n : end].tobytes(),
        }
        for k, (n, end) in enumerate(zip(counts.tolist(), ends, strict=True))
        if n
    ]
    return pa.RecordBatch.from_pylist(pieces, schema=SLICE_FIELDS)


def cut_pairs(
    batches: Iterable[pa.RecordBatch], *, places: Broadcast[Places], source: str = PAIRS
) -> Iterator[pa.RecordBatch]:
    """Cut pairs to leave out, or ids to answer, by slice, into binary pieces.

    Runs on an executor. Ids to answer have no second column.
    """
    where = places.value
    asked, found = IdIndex(where.asked), IdIndex(where.found)
    for table in gather_batches(batches, CHUNK_ROWS):
        rows = asked.rows_of(table.column(0).combine_chunks())
        if source == PAIRS:
            columns = found.rows_of(table.column(1).combine_chunks())
        else:
            columns = np.zeros_like(rows)
        known = (rows >= 0) & (columns >= 0)
        rows, columns = rows[known], columns[known]
        yield pieces_by_slice(where, rows, narrow(columns, len(found)), source)


def cut_factors(
    batches: Iterable[pa.RecordBatch],
    *,
    places: Broadcast[Places],
    dtype: npt.DTypeLike,
    rank: int,
) -> Iterator[pa.RecordBatch]:
    """Cut ids and their factors by slice, of those that are asked: runs on an executor."""
    where = places.value
    asked = IdIndex(where.asked)
    for table in gather_batches(batches, max(CHUNK_FACTORS // rank, 1)):
        rows = asked.rows_of(table.column("id").combine_chunks())
        factors = factors_of(table.column("factors").combine_chunks(), rank)
        kept = rows >= 0
        yield pieces_by_slice(where, rows[kept], factors[kept].astype(dtype, copy=False), FACTORS)
