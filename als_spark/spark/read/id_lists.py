"""Files that list users, or items: one id a row."""

from __future__ import annotations

import csv

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError, EmptySourceError
from als_spark.spark.read.sources import (
    USUAL_NAMES,
    csv_reader,
    first_named,
    format_by_name,
    plain_name,
    quoted,
    reason,
    without_compression,
)
from als_spark.spark.session import described
from als_spark.types import Side


def read_ids(session: SparkSession, path: str, side: Side, column: str | None = None) -> pa.Array:
    """Read a list of ids: text with one a line, csv, json or parquet.

    Text and csv may begin with a header. Without one a whole line is an id, in files named .csv or
    .tsv the first field of it. Otherwise the ids are in the column that is named (a list without
    that column is read as if no name were given: it is the name in the files of ratings), in one
    with a usual name, or in the only one.

    Returns
    -------
    pyarrow.Array
        Strings, each once, in rising order.

    Raises
    ------
    DataError
        If the file cannot be read, has no column of ids, or holds no id.
    """
    with described(session.sparkContext, f"reading the {side}s in {path}"):
        try:
            ids = _id_column(session, path, side, column)
            rows = ids.where(F.trim("id") != "").distinct().collect()
        except (PySparkException, Py4JJavaError) as error:
            raise DataError(
                f"{path}: cannot be read: {reason(error)}: check the path and the file"
            ) from error
    if not rows:
        raise EmptySourceError(f"{path}: no {side} ids in it: give a file with an id on each line")
    return pa.array(sorted(row.id for row in rows), pa.string())


def _id_column(session: SparkSession, path: str, side: Side, column: str | None) -> DataFrame:
    names = session.read.text(path).inputFiles()
    if not names:
        raise DataError(f"{path}: no files there: give a file or a folder with {side} ids")
    kind = format_by_name(names[0])
    if kind in ("parquet", "json"):
        frame = session.read.format(kind).load(path)
        return _named(frame, _find(frame.columns, path, side, column))
    lines = session.read.text(path).where(F.trim("value") != "")
    first = lines.head()
    if first is None:
        raise EmptySourceError(f"{path}: the file is empty: give a file with {side} ids")
    text = first[0].lstrip("\ufeff").strip()
    separator = max("\t,;|", key=text.count)
    fields = [field.strip() for field in next(csv.reader([text], delimiter=separator))]
    usual = {plain_name(name) for name in USUAL_NAMES[side]} | {side, f"{side}s", "id"}
    has_header = column in fields or any(plain_name(field) in usual for field in fields)
    if not has_header and not without_compression(names[0]).endswith((".csv", ".tsv")):
        return _named(lines, "value")
    frame = csv_reader(session, separator).csv(path, header=has_header)
    if has_header:
        return _named(frame, _find(frame.columns, path, side, column))
    return _named(frame, frame.columns[0])


def _find(columns: list[str], path: str, side: Side, column: str | None) -> str:
    if column in columns:
        return column
    found = first_named(columns, [*USUAL_NAMES[side], f"{side}s", "id"])
    if found is None and len(columns) == 1:
        found = columns[0]
    if found is None:
        raise DataError(
            f'{path}: no {side} column among {", ".join(columns)}: name it with `columns["{side}"]`'
        )
    return found


def _named(frame: DataFrame, column: str) -> DataFrame:
    return frame.select(F.trim(F.col(quoted(column)).cast("string")).alias("id"))
