"""JSON files, which name and type their values themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError
from als_spark.spark.read.dialect import encoding_of
from als_spark.spark.read.heads import Listing, shown
from als_spark.spark.read.json_values import refuse_several_values
from als_spark.spark.read.names import likely_columns
from als_spark.spark.read.options import SourceOptions

Group = tuple[tuple[str, ...], bool]
"""Files that are read together, and whether each is an array."""


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
        array = text.startswith("[") and not _is_value(text.splitlines()[0])
        columns = likely_columns(_keys(text, text.startswith("[")), options)
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
    every = listing.files if files is None else files
    refuse_several_values(session, listing, every, array=array)
    return frame


def _is_value(line: str) -> bool:
    """Tell whether a line begins with a whole value: an array on each line is read line by line."""
    try:
        json.JSONDecoder().raw_decode(line.strip())
    except (ValueError, RecursionError):
        return False
    return True


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
