"""Ratings as they come in: one DataFrame of typed columns, in which every unusable row says why.

The checks are column expressions, so that they run in the pass that reads the data anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import isfinite
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from als_spark.errors import ConfigError, DataError
from als_spark.spark.casts import try_cast
from als_spark.spark.frames import check_frame, check_named
from als_spark.spark.read.dialect import is_number
from als_spark.spark.read.ids import (
    FLOATS,
    INTEGERS,
    TEXTS,
    TypedId,
    changed_column,
    mark_ids,
    missing_text,
    odd_name,
    typed_id,
)
from als_spark.spark.read.names import quoted
from als_spark.spark.read.options import FIRST_MILLISECONDS, LARGEST_SECONDS, NULL_WORDS
from als_spark.spark.read.sources import Source
from als_spark.spark.read.text_files import CORRUPT
from als_spark.types import SIDES

_MOMENTS = (T.TimestampType, T.TimestampNTZType, T.DateType)
_TIMES = (*INTEGERS, *FLOATS, T.DecimalType, *_MOMENTS, T.StringType)
"""Types of columns that can hold timestamps."""
LARGEST_RATING = 1e18
"""In size. Squares of ratings, and sums of them, then stay far from the end of 32-bit floats, which
factors are usually of."""


def typed_ratings(
    source: Source, *, need_timestamp: bool, strict_timestamp: bool = True, keep: Sequence[str] = ()
) -> DataFrame:
    """Bring a source to typed columns, with what is wrong with each row.

    A row without a readable timestamp is unusable if timestamps are needed, unless
    ``strict_timestamp`` is False: then its timestamp is null. The columns ``keep`` stay as they
    are.

    Returns
    -------
    DataFrame
        ``user`` and ``item`` (bigint or string), ``rating`` (double), ``timestamp`` (double,
        seconds since 1970; null where not needed), ``problem`` (string, null for a usable row),
        ``raw`` (string, the row as read, null for a usable row), ``changed`` (string, null unless
        an id is not as it was written: see :mod:`als_spark.spark.read.ids`).

    Raises
    ------
    DataError
        If a column has a type that cannot be an id, a rating or a timestamp.
    """
    if source.others:
        parts = [replace(part, others=()) for part in source.parts]
        return union_typed(
            [
                typed_ratings(
                    part,
                    need_timestamp=need_timestamp,
                    strict_timestamp=strict_timestamp,
                    keep=keep,
                )
                for part in parts
            ]
        )
    source = _marked(source)
    user, item = _id_column(source, "user"), _id_column(source, "item")
    rating, rating_problem = _rating_column(source)
    problems = [_corrupt_line(source), user.problem, item.problem, rating_problem]
    timestamp = F.lit(None).cast("double")
    if need_timestamp and strict_timestamp:
        timestamp, timestamp_problem = _timestamp_column(source)
        problems.append(timestamp_problem)
    elif (
        need_timestamp
        and "timestamp" in source.columns
        and isinstance(_column(source, "timestamp")[1], _TIMES)
    ):
        timestamp, timestamp_problem = _timestamp_column(source)
        timestamp = F.when(timestamp_problem.isNull(), timestamp)
    problem = F.coalesce(*problems)
    values = {
        "user": user.value,
        "item": item.value,
        "rating": rating,
        "timestamp": timestamp,
        "problem": problem,
        "changed": changed_column(user.changed, item.changed),
    }
    return _with_raw(source, values, keep)


def typed_pairs(source: Source) -> DataFrame:
    """Bring the two ids of a source to typed columns, as in :func:`typed_ratings`.

    A row needs nothing but its ids: what stands in its other fields makes it no worse, as long as
    there are as many as there should be.
    """
    if source.others:
        return union_typed([typed_pairs(replace(part, others=())) for part in source.parts])
    source = _marked(source)
    user, item = _id_column(source, "user"), _id_column(source, "item")
    again = F.lit(None).cast("string")
    if source.is_text:
        # Where a rating is read, the name of its column is no number.
        names = [F.col(quoted(name)) == name for name in source.columns.values()]
        again = F.when(reduce(Column.__and__, names), F.lit("the header again"))
    problem = F.coalesce(_corrupt_line(source), user.problem, item.problem, again)
    changed = changed_column(user.changed, item.changed)
    values = {"user": user.value, "item": item.value, "problem": problem, "changed": changed}
    return _with_raw(source, values)


def union_typed(frames: Sequence[DataFrame]) -> DataFrame:
    """Put typed ratings together; ids that are integers here and text there become text.

    They become integers again where they are numbered, if all of them are integers.
    """
    for column in ("user", "item"):
        if len({frame.schema[column].dataType.simpleString() for frame in frames}) > 1:
            frames = [frame.withColumn(column, F.col(column).cast("string")) for frame in frames]
    return reduce(DataFrame.unionByName, frames)


def source_from_frame(
    frame: DataFrame,
    user: str = "user",
    item: str = "item",
    rating: str = "rating",
    timestamp: str | None = None,
    *,
    null_words: Sequence[str] = NULL_WORDS,
) -> Source:
    """Take a DataFrame as a source of ratings.

    Parameters
    ----------
    frame : DataFrame
    user, item, rating, timestamp : str
        Names of its columns.
    null_words : sequence of str
        Text that stands for a missing value in columns of text; ``()`` for none.

    Raises
    ------
    ConfigError
        If it is no Spark DataFrame; says how to make one of it.
    DataError
        If a column is not there.
    """
    check_frame(frame, "source_from_frame")
    columns = {"user": user, "item": item, "rating": rating}
    if timestamp is not None:
        columns["timestamp"] = timestamp
    check_named(frame, columns)
    words = tuple(null_words)
    return Source(frame, columns, "the DataFrame", from_files=False, null_words=words)


def check_source(source: Any) -> None:
    """Refuse ratings that are no source, such as a DataFrame, which names no columns.

    Raises
    ------
    ConfigError
    """
    if not isinstance(source, Source):
        check_frame(source, "source_from_frame, whose result prepare_ratings takes,")
        raise ConfigError("prepare_ratings takes a source: give source_from_frame(frame)")


def _corrupt_line(source: Source) -> Column:
    """Return the problem of a line that the reader of the source could not take apart."""
    if CORRUPT not in source.frame.columns:
        return F.lit(None).cast("string")
    words = "more or fewer fields than the first line" if source.is_text else "unreadable line"
    return F.when(F.col(CORRUPT).isNotNull(), F.lit(words))


def _marked(source: Source) -> Source:
    ids: dict[str, str] = {role: source.columns[role] for role in SIDES}
    return replace(source, frame=mark_ids(source.frame, ids, source.null_words))


def _with_raw(source: Source, values: Mapping[str, Column], keep: Sequence[str] = ()) -> DataFrame:
    """Select typed values, and ``raw``: the row as read, where it has a problem."""
    names = dict.fromkeys(source.columns.values())
    shown = [
        F.concat(F.lit(f"{name}="), F.coalesce(F.col(quoted(name)).cast("string"), F.lit("null")))
        for name in names
    ]
    if CORRUPT in source.frame.columns:
        line = F.col(CORRUPT)
        shown = [F.coalesce(line, shown[0]), *(F.when(line.isNull(), text) for text in shown[1:])]
    if source.from_files:
        shown.append(F.concat(F.lit("in "), F.element_at(F.split(F.input_file_name(), "/"), -1)))
    raw = F.when(values["problem"].isNotNull(), F.concat_ws(", ", *shown))
    typed = [value.alias(name) for name, value in values.items() if name != "changed"]
    return source.frame.select(*typed, raw.alias("raw"), values["changed"].alias("changed"), *keep)


def _id_column(source: Source, role: str) -> TypedId:
    """Return an id column as bigint or string, with its problem."""
    found = typed_id(source.frame, source.columns[role], role, source.null_words)
    if found is None:
        raise _wrong_type(source, role, "whole numbers or text")
    if source.is_text:
        undecoded = F.when(F.col(odd_name(role)), _undecoded(source, role, found.value))
        found = found._replace(problem=F.coalesce(found.problem, undecoded))
    return found


def _undecoded(source: Source, role: str, text: Column) -> Column:
    """Return the problem of an id some of whose bytes are not of the encoding read."""
    likely = f": it seems to be {source.encoding}" if source.encoding else ""
    words = f"{role} has bytes that are not of the encoding read{likely}"
    return F.when(text.contains("\ufffd"), F.lit(words))


def _rating_column(source: Source) -> tuple[Column, Column]:
    """Return the rating as double, and its problem."""
    column, kind = _column(source, "rating")
    missing = F.when(column.isNull(), F.lit("rating is missing"))
    unparsed = named = F.lit(False)
    if isinstance(kind, (*INTEGERS, *FLOATS, T.DecimalType)):
        value = column.cast("double")
    elif isinstance(kind, TEXTS):
        missing = missing_text(F.trim(column), source.null_words, "rating")
        value = _try_cast(source, "rating", "double")
        unparsed = value.isNull() | _is_javas(column)
        numbers = [word for word in source.null_words if is_number(word) and isfinite(float(word))]
        named = F.trim(column).isin(*numbers) if numbers else named
    else:
        raise _wrong_type(source, "rating", "numbers")
    # NaN is larger than everything.
    usable = (F.abs(value) <= LARGEST_RATING) & ~unparsed & ~named
    problem = F.coalesce(
        missing,
        F.when(F.isnan(value), F.lit("rating is NaN")),
        F.when(F.abs(value) == float("inf"), F.lit("rating is infinite")),
        F.when(F.abs(value) > LARGEST_RATING, F.lit(f"rating is beyond ±{LARGEST_RATING:g}")),
        F.lit("rating is not a number"),
    )
    return value, F.when(~F.coalesce(usable, F.lit(False)), problem)


def _timestamp_column(source: Source) -> tuple[Column, Column]:
    """Return the timestamp as double seconds, and its problem."""
    if "timestamp" not in source.columns:
        raise DataError(f'{source.label}: no timestamp column: name it with `columns["timestamp"]`')
    column, kind = _column(source, "timestamp")
    missing = F.when(column.isNull(), F.lit("timestamp is missing"))
    if isinstance(kind, (*INTEGERS, *FLOATS, T.DecimalType)):
        value = _seconds(column.cast("double"))
    elif isinstance(kind, _MOMENTS):
        value = F.unix_micros(column.cast("timestamp")).cast("double") / 1e6
    elif isinstance(kind, T.StringType):
        missing = missing_text(F.trim(column), source.null_words, "timestamp")
        moment = F.unix_micros(_try_cast(source, "timestamp", "timestamp")).cast("double") / 1e6
        # To Spark a time of day is one of the day on which it runs.
        dated = F.when(column.contains("-"), moment)
        number = _try_cast(source, "timestamp", "double")
        value = F.coalesce(_seconds(F.when(~_is_javas(column), number)), dated)
    else:
        raise _wrong_type(source, "timestamp", "numbers, dates or timestamps")
    # NaN is larger than everything. Null here, so that no later expression can overflow.
    value = F.when(F.abs(value) < LARGEST_SECONDS, value)
    problem = F.coalesce(missing, F.when(value.isNull(), F.lit("timestamp is unreadable")))
    return value, problem


def _seconds(value: Column) -> Column:
    """Return a number since 1970 in seconds; its size tells whether it is in a finer unit."""
    size = F.abs(value)
    seconds = F.when(size < LARGEST_SECONDS, value / 1e9)
    for digits in (6, 3, 0):
        largest = FIRST_MILLISECONDS * 10.0**digits
        seconds = F.when(size < largest, value / 10.0**digits).otherwise(seconds)
    return seconds


def _is_javas(text: Column) -> Column:
    """Tell what is a number to Java alone, such as 4d, 4f and 0x1p3."""
    text = F.trim(text)
    hexadecimal = text.contains("x") | text.contains("X")
    return reduce(Column.__or__, (text.endswith(letter) for letter in "dDfF"), hexadecimal)


def _column(source: Source, role: str) -> tuple[Column, T.DataType]:
    name = source.columns[role]
    return F.col(quoted(name)), source.frame.schema[name].dataType


def _try_cast(source: Source, role: str, kind: str) -> Column:
    return try_cast(quoted(source.columns[role]), kind)


def _wrong_type(source: Source, role: str, wanted: str) -> DataError:
    name = source.columns[role]
    kind = source.frame.schema[name].dataType.simpleString()
    return DataError(
        f"{source.files or source.label}: the {role} column {name!r} is of type {kind}: "
        f'{wanted} are needed; choose another with `columns["{role}"]`'
    )
