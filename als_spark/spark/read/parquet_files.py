"""Parquet files: which are read together, and without the columns that Spark cannot read.

Spark takes the types of all columns from a file, and refuses the file if it does not know one of
them, though nobody wants that column. There Spark is told the types of the others, as Arrow finds
them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from als_spark.errors import DataError
from als_spark.spark.hadoop import HadoopTree
from als_spark.spark.read.heads import Listing, each_file, local_of, shown
from als_spark.spark.read.names import quoted, refuse_twice

_FOOTER_BYTES = 2**16
"""Of the end of a Parquet file: more than most footers take."""
_LENGTH_BYTES = 8
"""A footer ends in its length, and four letters."""

_TYPES: Mapping[Callable[[pa.DataType], bool], T.DataType] = {
    pa.types.is_boolean: T.BooleanType(),
    pa.types.is_int8: T.ByteType(),
    pa.types.is_int16: T.ShortType(),
    pa.types.is_int32: T.IntegerType(),
    pa.types.is_int64: T.LongType(),
    pa.types.is_uint8: T.ShortType(),
    pa.types.is_uint16: T.IntegerType(),
    pa.types.is_uint32: T.LongType(),
    pa.types.is_uint64: T.DecimalType(20, 0),
    pa.types.is_float32: T.FloatType(),
    pa.types.is_float64: T.DoubleType(),
    pa.types.is_string: T.StringType(),
    pa.types.is_large_string: T.StringType(),
    pa.types.is_binary: T.BinaryType(),
    pa.types.is_large_binary: T.BinaryType(),
    pa.types.is_date: T.DateType(),
    pa.types.is_duration: T.LongType(),
    pa.types.is_null: T.IntegerType(),
}
"""What Spark makes of a column, but of times and decimal numbers."""
_REMEDIES: Mapping[Callable[[pa.DataType], bool], str] = {
    pa.types.is_float16: "write it as float32",
    pa.types.is_time: "write it as a timestamp or a number",
    pa.types.is_decimal: "write it with at most 38 digits",
}


@dataclass(frozen=True, slots=True)
class ParquetGroup:
    """Files that are read together.

    ``schema`` has the types of the columns that are read, where Spark must not look for itself;
    ``nanoseconds`` are those among them that hold moments in nanoseconds, and ``unread`` the
    columns left out.
    """

    files: tuple[str, ...]
    schema: T.StructType | None = None
    nanoseconds: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def read(
        self, session: SparkSession, listing: Listing, files: Sequence[str] | None
    ) -> DataFrame:
        """Read some files of the source, or all of it."""
        if self.schema is None:
            return listing.load(session.read, "parquet", files)
        frame = listing.load(session.read.schema(self.schema), "parquet", files)
        for name in self.nanoseconds:
            # div rounds towards zero: before 1970 by less than a microsecond.
            micros = F.expr(f"{quoted(name)} div 1000")
            frame = frame.withColumn(name, F.timestamp_micros(micros))
        return frame


def parquet_groups(
    session: SparkSession,
    listing: Listing,
    files: Sequence[str],
    choose: Callable[[Sequence[str], str], Mapping[str, str]],
    optional: Collection[str] = (),
) -> list[ParquetGroup]:
    """Put Parquet files together whose columns of ratings have the same names and types.

    ``choose`` says which columns are those, by the names of all and what to call the file. Those of
    the ``optional`` roles need not be readable.

    Raises
    ------
    DataError
        If a file lacks one of the columns, or Spark cannot read it.
    """
    schemas = each_file(session, files, _local_schema, _remote_schema)
    known = [schema for schema in schemas if schema is not None]
    for file, schema in zip(files, schemas, strict=True):
        if schema is None:
            _refuse_empty(file)
        elif listing.partitions:
            refuse_twice(schema.names, listing.partitions, shown(file))
    if len(known) < len(schemas):
        # Spark says best what is wrong with a file that has no schema.
        return [ParquetGroup(tuple(files))]
    if int(pyspark.__version__.partition(".")[0]) < 4:
        for file, schema in zip(files, known, strict=True):
            _refuse_halves(schema, shown(file))
    odd = any(_odd_columns(schema) for schema in known)
    if not odd and all(schema.equals(known[0]) for schema in known):
        return [ParquetGroup(tuple(files))]
    alike: dict[Any, list[tuple[str, pa.Schema]]] = {}
    for file, schema in zip(files, known, strict=True):
        names = [*schema.names, *listing.partitions]
        columns = choose(names, shown(file))
        types = [
            (role, name, str(schema.field(name).type) if name in schema.names else "")
            for role, name in columns.items()
        ]
        _refuse_unreadable(schema, columns, optional, shown(file))
        alike.setdefault(tuple(types), []).append((file, schema))
    return [_group_of(members) for members in alike.values()]


def _refuse_empty(file: str) -> None:
    """Refuse a file without a byte, which Spark passes over: none is written so."""
    path = local_of(file)
    if path is not None and path.stat().st_size == 0:
        raise DataError(
            f"{shown(file)}: has no bytes, as if it was never written to its end: write it anew, "
            "or remove it"
        )


def _refuse_halves(schema: pa.Schema, label: str) -> None:
    """Refuse numbers of 16 bits, at which Spark 3.5 fails even where nobody wants their column."""
    for field in schema:
        if any(map(pa.types.is_float16, _leaves(field.type))):
            raise DataError(
                f"{label}: the column {field.name!r} is of 16-bit floats, with which Spark 3.5 "
                "cannot read the file: write it as float32, or use Spark 4"
            )


def _group_of(members: Sequence[tuple[str, pa.Schema]]) -> ParquetGroup:
    files = tuple(file for file, _ in members)
    odd = {name for _, schema in members for name in _odd_columns(schema)}
    if not odd:
        return ParquetGroup(files)
    fields, moments, unread = [], [], []
    for field in members[0][1]:
        kind = _spark_type(field.type)
        if kind is None or (field.name in odd and not _is_moment(field.type)):
            unread.append(field.name)
            continue
        if _is_moment(field.type):
            moments.append(field.name)
        fields.append(T.StructField(field.name, kind))
    return ParquetGroup(files, T.StructType(fields), tuple(moments), tuple(unread))


def _refuse_unreadable(
    schema: pa.Schema, columns: Mapping[str, str], optional: Collection[str], label: str
) -> None:
    odd = _odd_columns(schema)
    for role, name in columns.items():
        if name not in odd or role in optional or _is_moment(schema.field(name).type):
            continue
        kind = schema.field(name).type
        found = (remedy for matches, remedy in _REMEDIES.items() if matches(kind))
        raise DataError(
            f"{label}: the {role} column {name!r} is of type {kind}, which Spark cannot read: "
            f'{next(found, "write it as text")}, or choose another with `columns["{role}"]`'
        )


def _odd_columns(schema: pa.Schema) -> set[str]:
    """Return the columns for which Spark refuses the file, or reads it as we want it not."""
    return {field.name for field in schema if any(map(_is_odd, _leaves(field.type)))}


def _leaves(kind: pa.DataType) -> Iterator[pa.DataType]:
    """Give the types of the values in a column, of whatever nesting."""
    if pa.types.is_dictionary(kind):
        yield from _leaves(kind.value_type)
    elif isinstance(kind, pa.BaseExtensionType) and kind.extension_name != "arrow.uuid":
        yield from _leaves(kind.storage_type)
    elif pa.types.is_nested(kind):
        for number in range(kind.num_fields):
            yield from _leaves(kind.field(number).type)
    else:
        yield kind


def _is_odd(kind: pa.DataType) -> bool:
    wide = pa.types.is_decimal(kind) and kind.precision > 38
    uuid = isinstance(kind, pa.BaseExtensionType)
    return bool(
        pa.types.is_float16(kind) or pa.types.is_time(kind) or _is_moment(kind) or wide or uuid
    )


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.unit == "ns")


def _spark_type(kind: pa.DataType) -> T.DataType | None:
    """Return what Spark makes of a column that is not nested; None of one that is left out."""
    leaves = list(_leaves(kind))
    if pa.types.is_nested(kind) or len(leaves) != 1:
        return None
    (kind,) = leaves
    if pa.types.is_decimal(kind):
        return None if kind.precision > 38 else T.DecimalType(kind.precision, kind.scale)
    if pa.types.is_timestamp(kind):
        if kind.unit == "ns":
            return T.LongType()
        return T.TimestampNTZType() if kind.tz is None else T.TimestampType()
    return next((found for matches, found in _TYPES.items() if matches(kind)), None)


def _local_schema(path: Path) -> pa.Schema | None:
    try:
        with pq.ParquetFile(path) as file:
            return _schema_of(file)
    except (OSError, pa.ArrowException):
        return None


def _remote_schema(tree: HadoopTree, path: str) -> pa.Schema | None:
    end = tree.tail(path, _FOOTER_BYTES)
    size = int.from_bytes(end[-_LENGTH_BYTES:][:4], "little") + _LENGTH_BYTES
    if size > len(end):
        end = tree.tail(path, size)
    try:
        with pq.ParquetFile(pa.BufferReader(b"PAR1" + end[-size:])) as file:
            return _schema_of(file)
    except (OSError, pa.ArrowException):
        return None


def _schema_of(file: pq.ParquetFile) -> pa.Schema:
    """Return the columns; the moments of old writers, which Arrow calls nanoseconds, as Spark does.

    These are of type INT96.
    """
    schema = file.schema_arrow
    leaves = {leaf.path: leaf for leaf in map(file.schema.column, range(len(file.schema)))}
    for place, field in enumerate(schema):
        leaf = leaves.get(field.name)
        if leaf is not None and leaf.physical_type == "INT96":
            schema = schema.set(place, pa.field(field.name, pa.timestamp("us", "UTC")))
    return schema
