"""One side of a model in Parquet: written as ours, read as anybody's.

A file of factors has the rows that were trained, or are known by their features, and no other: a
row without a training rating has nothing but its random start, which an index built over the file
would find. Its id is in a file of ids alone.

A file that another tool has written, or that somebody has edited, is taken where its columns mean
the same: ids as integers of any width, in a dictionary or as large strings. Anything else is
refused by the names of file and column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from als_spark.model.ids import IdIndex
from als_spark.model.large_model import LargeSide
from als_spark.model.stored_factors import StoredFactors
from als_spark.train.metrics import SideStats
from als_spark.types import FloatArray

COLUMNS = ("id", "n_ratings", "sum_ratings", "factors")

_WRONG_FACTORS = (
    "factors of type {}, where lists of 32- or 64-bit floats, all of the same length, are needed"
)
_Reader = Callable[[pa.Array], pa.Array]


class StoredSide(NamedTuple):
    """What a file holds."""

    ids: IdIndex
    factors: FloatArray
    stats: SideStats


def write_side(path: Path, side: StoredSide) -> None:
    """Write a file with the :data:`COLUMNS`, a row for each row of the side."""
    # Factors are noise to a compressor: dictionaries only cost time and space.
    pq.write_table(_table(side), path, use_dictionary=False)


def write_pieces(
    path: Path, ids: IdIndex, stats: SideStats, pieces: Iterable[FloatArray]
) -> tuple[int, IdIndex]:
    """Write what :func:`write_side` does, of factors that come in pieces; trained rows alone.

    Parameters
    ----------
    path : Path
    ids, stats : IdIndex, SideStats
        Of all rows of the side.
    pieces : iterable of (n, rank) arrays
        Factors of all rows, in their order; each piece becomes a row group.

    Returns
    -------
    int, IdIndex
        The trained rows, and the ids of the others.
    """
    writer: pq.ParquetWriter | None = None
    first, n_trained = 0, 0
    try:
        for piece in pieces:
            part = slice(first, first + len(piece))
            own = StoredSide(IdIndex(ids.ids[part]), piece, stats.take(part))
            trained, _ = split_trained(own)
            table = _table(trained)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, use_dictionary=False)
            if table.num_rows:
                writer.write_table(table)
            first, n_trained = part.stop, n_trained + table.num_rows
    finally:
        if writer is not None:
            writer.close()
    if first != len(ids):
        raise RuntimeError(f"factors of {first} rows, where the side has {len(ids)}")
    return n_trained, IdIndex(ids.ids.filter(pa.array(~stats.known)))


def _table(side: StoredSide) -> pa.Table:
    values = pa.array(np.ascontiguousarray(side.factors).reshape(-1))
    return pa.table(
        {
            "id": side.ids.ids,
            "n_ratings": pa.array(side.stats.degrees, pa.int32()),
            "sum_ratings": pa.array(side.stats.sums, pa.float64()),
            "factors": pa.FixedSizeListArray.from_arrays(values, side.factors.shape[1]),
        }
    )


def write_ids(path: Path, ids: IdIndex) -> None:
    """Write a file with the column ``id`` alone."""
    pq.write_table(pa.table({"id": ids.ids}), path)


def split_trained(side: StoredSide) -> tuple[StoredSide, IdIndex]:
    """Part the rows that have training ratings, or features, from the ids of the others."""
    trained = side.stats.known
    if trained.all():
        return side, IdIndex(side.ids.ids[:0])
    stats = side.stats.take(trained)
    own = StoredSide(IdIndex(side.ids.ids.filter(pa.array(trained))), side.factors[trained], stats)
    return own, IdIndex(side.ids.ids.filter(pa.array(~trained)))


def with_untrained(side: LargeSide, ids: IdIndex) -> LargeSide:
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
    more, factors = len(ids), side.factors
    if isinstance(factors, np.ndarray):
        factors = np.pad(factors, ((0, more), (0, 0)))
    else:
        assert isinstance(factors, StoredFactors)
        factors = factors.longer(more)
    return LargeSide(
        IdIndex(pa.concat_arrays([side.ids.ids, ids.ids])),
        factors,
        side.stats.with_more(more),
    )


def read_ids(path: Path) -> IdIndex:
    """Read a file of ids; raises what :func:`read_side` does."""
    return IdIndex(_read_columns(path, {"id": _ids})["id"])


def read_large_side(path: Path, address: str) -> LargeSide:
    """Read a file but for its factors, which executors read at an address.

    Raises what :func:`read_side` does; of the factors nothing but their type is looked at.
    """
    columns = _read_columns(path, dict(zip(COLUMNS[:3], (_ids, _counts, _sums), strict=True)))
    with pq.ParquetFile(path) as file:
        if (count := file.schema_arrow.names.count("factors")) != 1:
            raise ValueError(f"{path.name} has {count or 'no'} columns called factors")
        kind = file.schema_arrow.field("factors").type
    if not _are_factors(kind):
        raise ValueError(f"{path.name}, column factors: {_WRONG_FACTORS.format(kind)}")
    shape = len(columns["id"]), kind.list_size
    factors = StoredFactors(path, address, shape, np.dtype(kind.value_type.to_pandas_dtype()))
    return LargeSide(IdIndex(columns["id"]), factors, _stats(columns))


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
        _stats(columns),
    )


def _stats(columns: Mapping[str, pa.Array]) -> SideStats:
    # Copies: Arrow's own arrays cannot be written.
    return SideStats(
        columns["n_ratings"].to_numpy().copy(), columns["sum_ratings"].to_numpy().copy()
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
    if not _are_factors(lists.type):
        raise ValueError(_WRONG_FACTORS.format(lists.type))
    _refuse_missing(lists)
    values = lists.flatten()
    _refuse_missing(values)
    if not np.isfinite(values.to_numpy()).all():
        raise ValueError("factors that are not finite")
    return lists


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _are_factors(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind) and _is_float(kind.value_type)


def _is_float(kind: pa.DataType) -> bool:
    return bool(pa.types.is_float32(kind) or pa.types.is_float64(kind))


def _refuse_missing(values: pa.Array) -> None:
    if values.null_count:
        raise ValueError(f"{values.null_count:,} values are missing")
