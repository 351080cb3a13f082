"""Ratings as they come in: one DataFrame of typed columns, in which every unusable row says why.

The checks are column expressions, so that they run in the pass that reads the data anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from als_spark.errors import DataError
from als_spark.spark.read.sources import Source
from als_spark.types import SplitStrategy

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Codes of the splits in the column ``split``."""

_INTEGERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_FLOATS = (T.FloatType, T.DoubleType)
_MOMENTS = (T.TimestampType, T.TimestampNTZType, T.DateType)
_TIMES = (*_INTEGERS, *_FLOATS, T.DecimalType, *_MOMENTS, T.StringType)
"""Types of columns that can hold timestamps."""
_LARGEST_EXACT = 2.0**53
_LARGEST_SECONDS = 2.0**63

SHOWN_PROBLEMS = 3
"""Kinds of unusable rows that are told of, with an example each."""
LONGEST_EXAMPLE = 160
"""Characters of an unusable row that are shown."""


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How ratings are split.

    Attributes
    ----------
    strategy : {"random", "time"}
        By a hash of the seed and the pair of ids, or by time.
    seed : int
        Of the random split.
    test_fraction, validation_fraction : float
        Shares held out.
    """

    strategy: SplitStrategy = "random"
    seed: int = 0
    test_fraction: float = 0.2
    validation_fraction: float = 0.0


def typed_ratings(
    source: Source, *, need_timestamp: bool, strict_timestamp: bool = True, keep: Sequence[str] = ()
) -> DataFrame:
    """Bring a source to typed columns, with what is wrong with each row.

    Parameters
    ----------
    source : Source
    need_timestamp : bool
        Whether timestamps are read.
    strict_timestamp : bool
        Whether a row without a readable one is unusable; otherwise its timestamp is null.
    keep : sequence of str
        Columns to keep as they are.

    Returns
    -------
    DataFrame
        ``user`` and ``item`` (bigint or string), ``rating`` (double), ``timestamp`` (double,
        seconds since 1970; null where not needed), ``problem`` (string, null for a usable row),
        ``raw`` (string, the row as read, null for a usable row).

    Raises
    ------
    DataError
        If a column has a type that cannot be an id, a rating or a timestamp.
    """
    user, user_problem = _id_column(source, "user")
    item, item_problem = _id_column(source, "item")
    rating, rating_problem = _rating_column(source)
    problems = [_corrupt_line(source), user_problem, item_problem, rating_problem]
    timestamp = F.lit(None).cast("double")
    if need_timestamp and (strict_timestamp or _can_be_timestamp(source)):
        timestamp, timestamp_problem = _timestamp_column(source)
        if strict_timestamp:
            problems.append(timestamp_problem)
        else:
            timestamp = F.when(timestamp_problem.isNull(), timestamp)
    problem = F.coalesce(*problems)
    return source.frame.select(
        user.alias("user"),
        item.alias("item"),
        rating.alias("rating"),
        timestamp.alias("timestamp"),
        *_problem_columns(source, problem),
        *keep,
    )


def typed_pairs(source: Source) -> DataFrame:
    """Bring the two ids of a source to typed columns, with what is wrong with each row.

    A row needs nothing but its ids: what stands in its other fields makes it no worse.

    Returns
    -------
    DataFrame
        ``user``, ``item``, ``problem`` and ``raw``, as in :func:`typed_ratings`.

    Raises
    ------
    DataError
        If a column has a type that cannot be an id.
    """
    user, user_problem = _id_column(source, "user")
    item, item_problem = _id_column(source, "item")
    problem = F.coalesce(user_problem, item_problem)
    problem = F.when(problem.isNotNull(), F.coalesce(_corrupt_line(source), problem))
    return source.frame.select(
        user.alias("user"), item.alias("item"), *_problem_columns(source, problem)
    )


def problem_kinds(typed: DataFrame) -> DataFrame:
    """Count the rows with each ``problem`` (null: none): ``n``, and an ``example``; most first."""
    return (
        typed.groupBy("problem")
        .agg(F.count("*").alias("n"), F.min("raw").alias("example"))
        .orderBy(F.desc("n"), "problem")
    )


def problem_text(problem: str, count: int, example: str) -> str:
    """Tell of a kind of unusable rows in one line."""
    return f"{problem} ({count:,}, such as {example[:LONGEST_EXAMPLE]})"


def with_random_split(ratings: DataFrame, options: SplitOptions) -> DataFrame:
    """Add the column ``split``, from a hash of the seed and the pair of ids alone.

    The ids are hashed as text, so that a pair lands on the same side whether a CSV file or a table
    with integer columns holds it, in whatever order and partitioning.
    """
    pair = F.xxhash64(
        F.lit(options.seed).cast("bigint"),
        F.col("user").cast("string"),
        F.col("item").cast("string"),
    )
    # The upper 53 bits, as a number in [0, 1).
    share = F.shiftrightunsigned(pair, 11).cast("double") / F.lit(_LARGEST_EXACT)
    return ratings.withColumn("split", _split_code(share, options))


def with_time_split(ratings: DataFrame, options: SplitOptions) -> DataFrame:
    """Add the column ``split``, by time.

    The latest ratings are the test part, those just before them the validation part.
    Ratings of one second stay together, on the earlier side, so the parts may be smaller than
    asked.
    """
    held = options.test_fraction + options.validation_fraction
    to_train, to_validation = _time_quantiles(ratings, [1 - held, 1 - options.test_fraction])
    code = (
        F.when(F.col("timestamp") > to_validation, TEST)
        .when(F.col("timestamp") > to_train, VALIDATION)
        .otherwise(TRAIN)
    )
    return ratings.withColumn("split", code.cast("tinyint"))


def with_fixed_split(ratings: DataFrame, code: int) -> DataFrame:
    """Add the column ``split`` with one value."""
    return ratings.withColumn("split", F.lit(code).cast("tinyint"))


def _split_code(share: Column, options: SplitOptions) -> Column:
    held = options.test_fraction + options.validation_fraction
    code = F.when(share < options.test_fraction, TEST).when(share < held, VALIDATION)
    return code.otherwise(TRAIN).cast("tinyint")


def _time_quantiles(ratings: DataFrame, shares: list[float]) -> list[float]:
    """Find exact quantiles of the timestamps: count by day, then within the days wanted."""
    usable = ratings.where(F.col("problem").isNull())
    day = F.floor(F.col("timestamp") / 86400)
    by_day = sorted(tuple(row) for row in usable.groupBy(day.alias("day")).count().collect())
    total = sum(count for _, count in by_day)
    targets = [share * total for share in shares]
    days = {_reach(by_day, target)[0] for target in targets}
    if not by_day:
        return [0.0 for _ in shares]
    within = usable.where(day.isin([int(d) for d in days])).groupBy("timestamp").count().collect()
    quantiles = []
    for target in targets:
        wanted, before = _reach(by_day, target)
        seconds = sorted(tuple(row) for row in within if row[0] // 86400 == wanted)
        quantiles.append(float(_reach(seconds, target - before)[0]))
    return quantiles


def _reach(counts: list[tuple[float, int]], target: float) -> tuple[float, int]:
    """Return the first value whose running count reaches the target, and the count before it."""
    before = 0
    for value, count in counts:
        # A hair of tolerance: 0.8 * 100000 must not need a rating more than 80000.
        if before + count >= target - 1e-6:
            return value, before
        before += count
    return (counts[-1][0], before - counts[-1][1]) if counts else (0.0, 0)


def _corrupt_line(source: Source) -> Column:
    """Return the problem of a line that the reader of the source could not take apart."""
    if "_corrupt_record" not in source.frame.columns:
        return F.lit(None).cast("string")
    return F.when(F.col("_corrupt_record").isNotNull(), F.lit("unreadable line"))


def _problem_columns(source: Source, problem: Column) -> tuple[Column, Column]:
    """Return ``problem``, and the row as read where it has one."""
    shown = [
        F.concat(F.lit(f"{name}="), F.coalesce(F.col(_quoted(name)).cast("string"), F.lit("null")))
        for name in dict.fromkeys(source.columns.values())
    ]
    if source.from_files:
        shown.append(F.concat(F.lit("in "), F.element_at(F.split(F.input_file_name(), "/"), -1)))
    raw = F.when(problem.isNotNull(), F.concat_ws(", ", *shown))
    return problem.alias("problem"), raw.alias("raw")


def _id_column(source: Source, role: str) -> tuple[Column, Column]:
    """Return an id column as bigint or string, and its problem."""
    name = source.columns[role]
    column, kind = F.col(_quoted(name)), source.frame.schema[name].dataType
    missing = F.when(column.isNull(), F.lit(f"{role} is missing"))
    if isinstance(kind, _INTEGERS):
        return column.cast("bigint"), missing
    if isinstance(kind, T.DecimalType) and kind.scale == 0:
        return column.cast("bigint" if kind.precision <= 18 else "string"), missing
    if isinstance(kind, _FLOATS):
        # Not `floor`, which overflows at huge numbers and NaN. NaN is larger than everything.
        whole = (column == F.rint(column)) & (F.abs(column) <= _LARGEST_EXACT)
        inexact = F.when(~F.isnan(column) & (F.abs(column) > _LARGEST_EXACT), True)
        problem = F.coalesce(
            missing,
            F.when(inexact, F.lit(f"{role} is too large to be an exact number")),
            F.when(~whole, F.lit(f"{role} is not a whole number")),
        )
        return F.when(whole, column).cast("bigint"), problem
    if isinstance(kind, (T.StringType, T.VarcharType, T.CharType)):
        trimmed = F.trim(column)
        return trimmed, F.coalesce(missing, F.when(trimmed == "", F.lit(f"{role} is missing")))
    raise _wrong_type(source, role, "whole numbers or text")


def _rating_column(source: Source) -> tuple[Column, Column]:
    """Return the rating as double, and its problem."""
    name = source.columns["rating"]
    column, kind = F.col(_quoted(name)), source.frame.schema[name].dataType
    unparsed = F.lit(False)
    if isinstance(kind, (*_INTEGERS, *_FLOATS, T.DecimalType)):
        value = column.cast("double")
    elif isinstance(kind, T.StringType):
        value = F.expr(f"try_cast({_quoted(name)} as double)")
        # Java takes 4d and 4f for numbers.
        unparsed = value.isNull() | F.lower(F.substring(F.trim(column), -1, 1)).isin("d", "f")
    else:
        raise _wrong_type(source, "rating", "numbers")
    infinite = (value == float("inf")) | (value == float("-inf"))
    problem = F.coalesce(
        F.when(column.isNull(), F.lit("rating is missing")),
        F.when(F.isnan(value), F.lit("rating is NaN")),
        F.when(infinite, F.lit("rating is infinite")),
        F.when(unparsed, F.lit("rating is not a number")),
    )
    return value, problem


def _can_be_timestamp(source: Source) -> bool:
    name = source.columns.get("timestamp")
    return name is not None and isinstance(source.frame.schema[name].dataType, _TIMES)


def _timestamp_column(source: Source) -> tuple[Column, Column]:
    """Return the timestamp as double seconds, and its problem."""
    if "timestamp" not in source.columns:
        raise DataError(f"{source.label}: no timestamp column: name it with --timestamp-col")
    name = source.columns["timestamp"]
    column, kind = F.col(_quoted(name)), source.frame.schema[name].dataType
    if isinstance(kind, (*_INTEGERS, *_FLOATS, T.DecimalType)):
        value = column.cast("double")
    elif isinstance(kind, _MOMENTS):
        value = F.unix_micros(column.cast("timestamp")).cast("double") / 1e6
    elif isinstance(kind, T.StringType):
        moment = F.expr(f"unix_micros(try_cast({_quoted(name)} as timestamp))").cast("double") / 1e6
        value = F.coalesce(F.expr(f"try_cast({_quoted(name)} as double)"), moment)
    else:
        raise _wrong_type(source, "timestamp", "numbers, dates or timestamps")
    problem = F.coalesce(
        F.when(column.isNull(), F.lit("timestamp is missing")),
        # NaN is larger than everything.
        F.when(
            value.isNull() | (F.abs(value) >= _LARGEST_SECONDS), F.lit("timestamp is unreadable")
        ),
    )
    return value, problem


def _wrong_type(source: Source, role: str, wanted: str) -> DataError:
    name = source.columns[role]
    kind = source.frame.schema[name].dataType.simpleString()
    return DataError(
        f"{source.label}: the {role} column {name!r} is of type {kind}: "
        f"{wanted} are needed; choose another with --{role}-col"
    )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
