"""JSON and Parquet: files that name and type their columns themselves, each in its own way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError
from als_spark.spark.hadoop import HadoopTree
from als_spark.spark.read.dialect import encoding_of
from als_spark.spark.read.heads import Listing, each_file, shown
from als_spark.spark.read.names import likely_columns
from als_spark.spark.read.options import SourceOptions

_FOOTER_BYTES = 2**16
"""Of the end of a Parquet file: more than most footers take."""
_LENGTH_BYTES = 8
"""A footer ends in its length, and four letters."""

Group = tuple[tuple[str, ...], bool]
"""Files that are read together; of JSON, whether each is an array."""


def json_groups(heads: Mapping[str, bytes], options: SourceOptions) -> list[Group]:
    """Put JSON files together whose first records have the same columns; blank ones are left out.

    Raises
    ------
    DataError
        If an encoding is given: JSON is UTF-8.
    """
    if encoding_of(options.encoding).charset != "UTF-8":
        raise DataError(
            f'{options.label}: `encoding="{options.encoding}"` is for text files: JSON is UTF-8: '
            "convert the file (iconv -t UTF-8)"
        )
    alike: dict[Any, list[str]] = {}
    for file, head in heads.items():
        text = head.decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
        if not text:
            continue
        array = text.startswith("[")
        columns = likely_columns(_keys(text, array), options)
        alike.setdefault((array, tuple(columns.items())), []).append(file)
    return [(tuple(files), key[0]) for key, files in alike.items()]


def read_json_group(
    session: SparkSession,
    listing: Listing,
    options: SourceOptions,
    files: Sequence[str] | None,
    *,
    array: bool,
) -> DataFrame:
    """Read JSON files: an object on each line, or an array of them."""
    frame = listing.load(session.read.option("multiLine", array), "json", files)
    if set(frame.columns) <= {"_corrupt_record", *listing.partitions}:
        raise DataError(
            f"{options.label if files is None else shown(files[0])}: not JSON: each line must be "
            'an object such as {"user": 1, "item": 2, "rating": 3.5}'
        )
    return frame


def _keys(text: str, array: bool) -> list[str]:
    """Return the keys of the records at the beginning of a file, in the order of their coming."""
    keys: dict[str, None] = {}
    for record in _first_objects(text) if array else _objects(text.splitlines()[:20]):
        if isinstance(record, dict):
            keys |= dict.fromkeys(record)
    return list(keys)


def _objects(lines: Sequence[str]) -> Iterator[Any]:
    for line in lines:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            continue


def _first_objects(text: str) -> Iterator[Any]:
    decoder, place = json.JSONDecoder(), 1
    for _ in range(20):
        place += len(text[place:]) - len(text[place:].lstrip(" \t\r\n,"))
        try:
            record, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return
        yield record


def parquet_groups(
    session: SparkSession,
    listing: Listing,
    files: Sequence[str],
    choose: Callable[[Sequence[str], str], Mapping[str, str]],
) -> list[tuple[str, ...]]:
    """Put Parquet files together whose columns of ratings have the same names and types.

    ``choose`` says which columns are those, by the names of all and what to call the file.

    Raises
    ------
    DataError
        If a file lacks one of the columns.
    """
    schemas = each_file(session, files, _local_schema, _remote_schema)
    known = [schema for schema in schemas if schema is not None]
    if len(known) < len(schemas) or all(schema.equals(known[0]) for schema in known):
        # Spark says best what is wrong with a file that has no schema.
        return [tuple(files)]
    alike: dict[Any, list[str]] = {}
    for file, schema in zip(files, known, strict=True):
        names = [*schema.names, *listing.partitions]
        columns = choose(names, shown(file))
        types = [
            (role, name, str(schema.field(name).type) if name in schema.names else "")
            for role, name in columns.items()
        ]
        alike.setdefault(tuple(types), []).append(file)
    return [tuple(files) for files in alike.values()]


def _local_schema(path: Path) -> pa.Schema | None:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return None


def _remote_schema(tree: HadoopTree, path: str) -> pa.Schema | None:
    end = tree.tail(path, _FOOTER_BYTES)
    size = int.from_bytes(end[-_LENGTH_BYTES:][:4], "little") + _LENGTH_BYTES
    if size > len(end):
        end = tree.tail(path, size)
    try:
        return pq.read_schema(pa.BufferReader(b"PAR1" + end[-size:]))
    except (OSError, pa.ArrowException):
        return None
