"""One side of a model in Parquet: written as ours, read as anybody's.

A file that another tool has written, or that somebody has edited, is taken where its columns mean
the same: ids as integers of any width, in a dictionary or as large strings. Anything else is
refused by the names of file and column.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from als_spark.model.ids import IdIndex
from als_spark.train.metrics import SideStats
from als_spark.types import FloatArray

COLUMNS = ("id", "n_ratings", "sum_ratings", "factors")


class StoredSide(NamedTuple):
    """What a file holds."""

    ids: IdIndex
    factors: FloatArray
    stats: SideStats


def write_side(path: Path, side: StoredSide) -> None:
    """Write a file with the :data:`COLUMNS`, a row for each row of the factors."""
    values = pa.array(np.ascontiguousarray(side.factors).reshape(-1))
    table = pa.table(
        {
            "id": side.ids.ids,
            "n_ratings": pa.array(side.stats.degrees, pa.int32()),
            "sum_ratings": pa.array(side.stats.sums, pa.float64()),
            "factors": pa.FixedSizeListArray.from_arrays(values, side.factors.shape[1]),
        }
    )
    # Factors are noise to a compressor: dictionaries only cost time and space.
    pq.write_table(table, path, use_dictionary=False)


def read_side(path: Path) -> StoredSide:
    """Read a file; other columns than the :data:`COLUMNS` are passed over.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no Parquet file, or a column cannot be taken; names the file, or the column too.
    """
    table = _read_columns(path)
    readers: dict[str, Callable[[pa.Array], pa.Array]] = {
        "id": _ids,
        "n_ratings": _counts,
        "sum_ratings": _sums,
        "factors": _lists,
    }
    columns = {}
    for name, read in readers.items():
        column = table.column(name)
        values = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
        try:
            columns[name] = read(values)
        except (ValueError, pa.ArrowException) as error:
            raise ValueError(f"{path.name}, column {name}: {_one_line(error)}") from error
    lists = columns["factors"]
    return StoredSide(
        IdIndex(columns["id"]),
        lists.flatten().to_numpy().reshape(len(lists), lists.type.list_size),
        # Copies: Arrow's own arrays cannot be written.
        SideStats(columns["n_ratings"].to_numpy().copy(), columns["sum_ratings"].to_numpy().copy()),
    )


def _read_columns(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            for name in COLUMNS:
                if (count := file.schema_arrow.names.count(name)) != 1:
                    raise ValueError(f"{path.name} has {count or 'no'} columns called {name}")
            return file.read(list(COLUMNS))
    except pa.ArrowException as error:
        raise ValueError(f"{path.name} cannot be read: {_one_line(error)}") from error


def _ids(ids: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if pa.types.is_integer(ids.type):
        ids = ids.cast(pa.int64())
    elif pa.types.is_large_string(ids.type) or pa.types.is_string_view(ids.type):
        ids = ids.cast(pa.string())
    elif not pa.types.is_string(ids.type):
        raise ValueError(f"ids of type {ids.type}, where integers or text are needed")
    _refuse_missing(ids)
    # Text that is no UTF-8 would not come back from the executors.
    ids.validate(full=True)
    if (n_different := pc.count_distinct(ids).as_py()) != len(ids):
        raise ValueError(f"{len(ids) - n_different:,} ids are there more than once")
    return ids


def _counts(counts: pa.Array) -> pa.Array:
    if not pa.types.is_integer(counts.type):
        raise ValueError(f"numbers of type {counts.type}, where integers are needed")
    _refuse_missing(counts)
    counts = counts.cast(pa.int32())
    if len(counts) and (least := pc.min(counts).as_py()) < 0:
        raise ValueError(f"a number of ratings is {least}")
    return counts


def _sums(sums: pa.Array) -> pa.Array:
    if not (pa.types.is_integer(sums.type) or _is_float(sums.type)):
        raise ValueError(f"sums of type {sums.type}, where 64-bit floats are needed")
    _refuse_missing(sums)
    sums = sums.cast(pa.float64())
    if not np.isfinite(sums.to_numpy()).all():
        raise ValueError("sums that are not finite")
    return sums


def _lists(lists: pa.Array) -> pa.Array:
    if not (pa.types.is_fixed_size_list(lists.type) and _is_float(lists.type.value_type)):
        raise ValueError(
            f"factors of type {lists.type}, where lists of 32- or 64-bit floats, all of the same "
            "length, are needed"
        )
    _refuse_missing(lists)
    values = lists.flatten()
    _refuse_missing(values)
    if not np.isfinite(values.to_numpy()).all():
        raise ValueError("factors that are not finite")
    return lists


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _is_float(kind: pa.DataType) -> bool:
    return bool(pa.types.is_float32(kind) or pa.types.is_float64(kind))


def _refuse_missing(values: pa.Array) -> None:
    if values.null_count:
        raise ValueError(f"{values.null_count:,} values are missing")
