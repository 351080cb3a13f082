"""Files that list users, or items: one id a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError, EmptySourceError
from als_spark.spark.read.bad_rows import BadRowCounts, bad_counts
from als_spark.spark.read.dialect import (
    WHOLE_LINE,
    Dialect,
    encoding_of,
    positional_names,
    records_of,
    safe_names,
)
from als_spark.spark.read.heads import (
    Listing,
    settings,
    shown,
    without_compression,
)
from als_spark.spark.read.ids import ChangedIds, changed_column, example_of, mark_ids, typed_id
from als_spark.spark.read.names import USUAL_NAMES, best_named, plain_name, quoted
from als_spark.spark.read.options import NULL_WORDS, SourceOptions
from als_spark.spark.read.parquet_files import parquet_groups
from als_spark.spark.read.sources import AS_THEY_ARE, files_by_format, unreadable
from als_spark.spark.read.tables import SourceFolder, Table, read_named
from als_spark.spark.read.text_files import CORRUPT, groups_of, read_text_group
from als_spark.spark.read.typed_files import json_groups, read_json_group
from als_spark.spark.session import described
from als_spark.types import Quoting, Side


@dataclass(frozen=True, slots=True)
class ListedIds:
    """A list of ids.

    ``ids`` are strings, each once, in rising order. ``n_missing`` rows have none, ``bad`` are the
    other unusable ones, ``changed`` the ids that are not as they were written.
    """

    ids: pa.Array
    label: str
    n_missing: int
    bad: BadRowCounts
    changed: ChangedIds


def read_ids(
    session: SparkSession,
    path: str,
    side: Side,
    column: str | None = None,
    *,
    encoding: str = "utf-8",
    quoting: Quoting = "auto",
    null_words: Sequence[str] = NULL_WORDS,
) -> ListedIds:
    """Read a list of ids: text with one a line, csv, json or parquet, or a table (``table:NAME``).

    Text and csv may begin with a header. Without one a whole line is an id, in files named .csv or
    .tsv the first field of it. Otherwise the ids are in the column that is named (a list without
    that column is read as if no name were given: it is the name in the files of ratings), in one
    with a usual name, or in the only one. Each file is taken by itself. What an id is, is as in
    files of ratings (:mod:`als_spark.spark.read.ids`).

    Raises
    ------
    DataError
        If the file cannot be read, has no column of ids, or holds no id.
    """
    options = SourceOptions(
        path,
        columns={side: column},
        need_rating=False,
        format_option=False,
        encoding=encoding,
        quoting=quoting,
        null_words=null_words,
    )
    label = options.label
    with (
        described(session.sparkContext, f"reading the {side}s in {label}"),
        settings(session, AS_THEY_ARE),
    ):
        try:
            rows = [
                row
                for ids in _id_columns(session, options, side)
                for row in ids.groupBy("id", "problem")
                .agg(
                    *(F.count("*").alias("n"), F.min("raw").alias("raw")),
                    *(F.count("changed").alias("n_changed"), F.min("changed").alias("changed")),
                )
                .collect()
            ]
        except (PySparkException, Py4JJavaError, OSError) as error:
            raise unreadable(options, error) from error
    good = [row for row in rows if row.problem is None]
    left = [row for row in rows if row.problem is not None]
    missing = [row for row in left if row.problem.startswith(f"{side} is missing")]
    bad = bad_counts((row.problem, row.n, row.raw) for row in left if row not in missing)
    if not good:
        raise EmptySourceError(
            f"{label}: no {side} ids in it{f': {bad}' if bad.n else ''}: give a file with an id on "
            "each line"
        )
    changed = [
        (side, row.n_changed, example_of(row.changed, side)) for row in good if row.n_changed
    ]
    return ListedIds(
        pa.array(sorted({row.id for row in good}), pa.string()),
        label,
        sum(row.n for row in missing),
        bad,
        ChangedIds.of(changed),
    )


def _id_columns(session: SparkSession, options: SourceOptions, side: Side) -> Iterator[DataFrame]:
    label, column = options.label, options.columns[side]
    if options.table is not None:
        table: Table | None = read_named(session, options.table, label)
    else:
        folder = SourceFolder(session, options)
        table = folder.table()
    if table is not None:
        name = _find(table.frame.columns, label, side, column)
        yield _typed(table.frame, name, label, options, side)
        return
    listing = folder.files()
    if not listing.files:
        raise DataError(f"{label}: no files there: give a file or a folder with {side} ids")
    by_format = files_by_format(session, listing, options)
    text = by_format.get("csv", {})
    if text and len(by_format) == 1 and not any(head.strip() for head in text.values()):
        raise EmptySourceError(f"{label}: the file is empty: give a file with {side} ids")
    yield from _text_columns(session, listing, text, options, side)
    for files, array in json_groups(by_format.get("json", {}), options):
        frame = read_json_group(session, listing, options, files, array=array)
        label = shown(files[0])
        yield _typed(frame, _find(frame.columns, label, side, column), label, options, side)
    if "parquet" in by_format:
        choose = partial(_chosen, side=side, column=column)
        for group in parquet_groups(session, listing, list(by_format["parquet"]), choose):
            frame = group.read(session, listing, group.files)
            label = shown(group.files[0])
            yield _typed(frame, _find(frame.columns, label, side, column), label, options, side)


def _text_columns(
    session: SparkSession,
    listing: Listing,
    heads: Mapping[str, bytes],
    options: SourceOptions,
    side: Side,
) -> Iterator[DataFrame]:
    column = options.columns[side]
    dialects = {
        file: _dialect(file, text, options, side)
        for file, head in heads.items()
        if (text := encoding_of(options.encoding).decode(head)).strip()
    }
    for group in groups_of(session, listing, heads, dialects, options):
        frame = read_text_group(session, listing, group, options, group.files)
        names, label = group.dialect.names, shown(group.files[0])
        name = _find(names, label, side, column) if group.dialect.header else names[0]
        wrong = F.col(quoted(name)).contains("\ufffd")
        if group.dialect.header:
            wrong |= F.col(CORRUPT).isNotNull()
        row = frame.where(wrong).head()
        if row is not None:
            raise DataError(
                f"{label}: {row[CORRUPT] or row[name]!r} is no {side} id: it has more or fewer "
                "fields than the header, or bytes that are not of the encoding read: mend the "
                "file, or give its `encoding=`"
            )
        yield _typed(frame, name, label, options, side)


def _dialect(file: str, text: str, options: SourceOptions, side: Side) -> Dialect:
    """Tell how a list is written: in fields, or with an id on each line."""
    line = next(line for line in text.splitlines() if line.strip())
    separator = max("\t,;|", key=line.count)
    first = records_of(text, separator, options.quoting)[0]
    usual = {name for rank in USUAL_NAMES[side] for name in rank} | {side, f"{side}s", "id"}
    if options.columns[side] in first or any(plain_name(field) in usual for field in first):
        return Dialect(separator, True, tuple(safe_names(first)))
    if without_compression(file).endswith((".csv", ".tsv")):
        return Dialect(separator, False, positional_names(len(first), ()))
    return Dialect(WHOLE_LINE, False, ("id",))


def _chosen(names: Sequence[str], label: str, side: Side, column: str | None) -> dict[str, str]:
    return {side: _find(names, label, side, column)}


def _find(columns: Sequence[str], label: str, side: Side, column: str | None) -> str:
    if column in columns:
        return str(column)
    found = best_named(columns, [*USUAL_NAMES[side], (f"{side}s",), ("id",)])
    if not found and len(columns) == 1:
        found = list(columns)
    if len(found) != 1:
        problem = f"{' and '.join(found)} may both be" if found else "no"
        among = "" if found else f" among {', '.join(columns)}"
        raise DataError(
            f"{label}: {problem} {'the ' if found else ''}{side} column{among}: "
            f'name it with `columns["{side}"]`'
        )
    return found[0]


def _typed(
    frame: DataFrame, name: str, label: str, options: SourceOptions, side: Side
) -> DataFrame:
    frame = mark_ids(frame, {side: name}, options.null_words)
    found, column = typed_id(frame, name, side, options.null_words), F.col(quoted(name))
    if found is None:
        kind = frame.schema[name].dataType.simpleString()
        raise DataError(
            f"{label}: the {side} column {name!r} is of type {kind}: whole numbers "
            f'or text are needed; choose another with `columns["{side}"]`'
        )
    raw = F.concat(F.lit(f"{name}="), F.coalesce(column.cast("string"), F.lit("null")))
    return frame.select(
        F.when(found.problem.isNull(), found.value.cast("string")).alias("id"),
        found.problem.alias("problem"),
        F.when(found.problem.isNotNull(), F.concat(raw, F.lit(f", in {label}"))).alias("raw"),
        changed_column(found.changed),
    )
