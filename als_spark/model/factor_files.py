"""One side of a model in Parquet: written as ours, read as anybody's.

A file of factors has the rows that were trained, and no other: a row without a training rating has
nothing but its random start, which an index built over the file would find. Its id is in a file of
ids alone.

A file that another tool has written, or that somebody has edited, is taken where its columns mean
the same: ids as integers of any width, in a dictionary or as large strings. Anything else is
refused by the names of file and column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

_Reader = Callable[[pa.Array], pa.Array]


class StoredSide(NamedTuple):
    """What a file holds."""

    ids: IdIndex
    factors: FloatArray
    stats: SideStats


def write_side(path: Path, side: StoredSide) -> None:
    """Write a file with the :data:`COLUMNS`, a row for each row of the side."""
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


def write_ids(path: Path, ids: IdIndex) -> None:
    """Write a file with the column ``id`` alone."""
    pq.write_table(pa.table({"id": ids.ids}), path)


def split_trained(side: StoredSide) -> tuple[StoredSide, IdIndex]:
    """Part the rows that have training ratings from the ids of the others."""
    trained = side.stats.degrees > 0
    if trained.all():
        return side, IdIndex(side.ids.ids[:0])
    stats = SideStats(side.stats.degrees[trained], side.stats.sums[trained])
    own = StoredSide(IdIndex(side.ids.ids.filter(pa.array(trained))), side.factors[trained], stats)
    return own, IdIndex(side.ids.ids.filter(pa.array(~trained)))


def with_untrained(side: StoredSide, ids: IdIndex) -> StoredSide:
    """Put ids without training ratings behind the rows of a side; their factors are zeros.

    Raises
    ------
    ValueError
        If they are of another type, or the side has one of them.
    """
    if ids.ids.type != side.ids.ids.type:
        raise ValueError(f"ids of type {ids.ids.type}, where the factors' are {side.ids.ids.type}")
    if known := int(np.count_nonzero(side.ids.rows_of(ids.ids) >= 0)):
        raise ValueError(f"{known:,} ids have factors")
    more = len(ids)
    return StoredSide(
        IdIndex(pa.concat_arrays([side.ids.ids, ids.ids])),
        np.pad(side.factors, ((0, more), (0, 0))),
        SideStats(np.pad(side.stats.degrees, (0, more)), np.pad(side.stats.sums, (0, more))),
    )


def read_ids(path: Path) -> IdIndex:
    """Read a file of ids; raises what :func:`read_side` does."""
    return IdIndex(_read_columns(path, {"id": _ids})["id"])


def read_side(path: Path) -> StoredSide:
    """Read a file; other columns than the :data:`COLUMNS` are passed over.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no Parquet file, or a column cannot be taken; names the file, or the column too.
    """
    readers = dict(zip(COLUMNS, (_ids, _counts, _sums, _lists), strict=True))
    columns = _read_columns(path, readers)
    lists = columns["factors"]
    return StoredSide(
        IdIndex(columns["id"]),
        lists.flatten().to_numpy().reshape(len(lists), lists.type.list_size),
        # Copies: Arrow's own arrays cannot be written.
        SideStats(columns["n_ratings"].to_numpy().copy(), columns["sum_ratings"].to_numpy().copy()),
    )


def _read_columns(path: Path, readers: Mapping[str, _Reader]) -> dict[str, pa.Array]:
    """Read columns, each by what makes of it what we write."""
    try:
        with pq.ParquetFile(path) as file:
            for name in readers:
                if (count := file.schema_arrow.names.count(name)) != 1:
                    raise ValueError(f"{path.name} has {count or 'no'} columns called {name}")
            table = file.read(list(readers))
    except pa.ArrowException as error:
        raise ValueError(f"{path.name} cannot be read: {_one_line(error)}") from error
    columns = {}
    for name, read in readers.items():
        column = table.column(name)
        values = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
        try:
            columns[name] = read(values)
        except (ValueError, pa.ArrowException) as error:
            raise ValueError(f"{path.name}, column {name}: {_one_line(error)}") from error
    return columns


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
