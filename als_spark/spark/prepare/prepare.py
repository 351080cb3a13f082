"""From sources of ratings to a backend: checked, split, indexed, packed, placed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import reduce
from typing import Any

from pyspark import SparkContext, StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.spark.prepare.assembly import Assembler
from als_spark.spark.prepare.encode import check_summary, encode_ratings, summarise
from als_spark.spark.prepare.prepared import PreparedRatings, PrepareOptions
from als_spark.spark.read.sources import Source
from als_spark.spark.read.validation import (
    TEST,
    SplitOptions,
    typed_ratings,
    with_fixed_split,
    with_random_split,
    with_time_split,
)
from als_spark.spark.session import described

Phase = Callable[[str], AbstractContextManager[Any]]


def prepare_ratings(
    session: SparkSession,
    source: Source,
    options: PrepareOptions,
    *,
    test_source: Source | None = None,
    phase: Phase = lambda _: nullcontext(),
) -> PreparedRatings:
    """Read, check, split and pack ratings.

    Parameters
    ----------
    session : SparkSession
    source : Source
        The ratings; from :func:`als_spark.spark.read.sources.read_source` or
        :func:`source_from_frame`.
    options : PrepareOptions
    test_source : Source, optional
        Ratings to test on; nothing is then held out of ``source`` for testing.
    phase : callable, optional
        Gives a context manager for each phase of the work, by name.

    Raises
    ------
    DataError
        If the ratings cannot be trained on.
    """
    label = source.label if test_source is None else f"{source.label} + {test_source.label}"
    with phase("splitting ratings"):
        ratings = _split_sources(session.sparkContext, source, test_source, options)
    return prepare_typed(session, ratings, label, options, phase=phase)


def prepare_typed(
    session: SparkSession,
    ratings: DataFrame,
    label: str,
    options: PrepareOptions,
    *,
    phase: Phase = lambda _: nullcontext(),
) -> PreparedRatings:
    """Check and pack ratings that are typed and, where some are held out, split.

    Parameters
    ----------
    session : SparkSession
    ratings : DataFrame
        From :func:`als_spark.spark.read.validation.typed_ratings`, with the column ``split`` (see
        :func:`split_ratings`) unless all of them are to be trained on.
    label : str
        Names the ratings in messages.
    options, phase
        As in :func:`prepare_ratings`.

    Raises
    ------
    DataError
        If the ratings cannot be trained on.
    """
    context = session.sparkContext
    with ExitStack() as failing:
        with phase("checking and numbering ratings"):
            chunks = encode_ratings(ratings).persist(StorageLevel.MEMORY_AND_DISK)
            failing.callback(chunks.unpersist)
            with described(context, f"checking and counting ratings of {label}"):
                summary = summarise(chunks)
            check_summary(summary, label, drop_bad_rows=options.bad_rows == "drop")
        rejected = None
        if summary.n_bad:
            rejected = ratings.where(F.col("problem").isNotNull()).select("problem", "raw")
        with phase("packing ratings into blocks"):
            assembler = Assembler(session, chunks, summary, options, label)
            prepared = assembler.assemble(rejected)
    return prepared


def split_ratings(context: SparkContext, ratings: DataFrame, options: SplitOptions) -> DataFrame:
    """Add the column ``split`` to typed ratings: at random by their ids, or by their time."""
    if options.strategy == "time":
        with described(context, "finding the times to split at"):
            return with_time_split(ratings, options)
    return with_random_split(ratings, options)


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
) -> Source:
    """Take a DataFrame as a source of ratings.

    Parameters
    ----------
    frame : DataFrame
    user, item, rating, timestamp : str
        Names of its columns.

    Raises
    ------
    DataError
        If a column is not there.
    """
    columns = {"user": user, "item": item, "rating": rating}
    if timestamp is not None:
        columns["timestamp"] = timestamp
    for role, name in columns.items():
        if name not in frame.columns:
            raise DataError(
                f"the DataFrame has no {role} column {name!r}: "
                f"its columns are {', '.join(frame.columns)}"
            )
    return Source(frame, columns, "the DataFrame", from_files=False)


def _split_sources(
    context: SparkContext, source: Source, test_source: Source | None, options: PrepareOptions
) -> DataFrame:
    by_time = options.split.strategy == "time"
    need_timestamp = by_time or options.duplicates == "last"
    ratings = typed_ratings(source, need_timestamp=need_timestamp)
    split = options.split
    if test_source is not None:
        split = SplitOptions(split.strategy, split.seed, 0.0, split.validation_fraction)
    ratings = split_ratings(context, ratings, split)
    if options.duplicates != "last":
        # Needed to split by, not to resolve duplicates by.
        ratings = ratings.drop("timestamp")
    if test_source is None:
        held_out = split.test_fraction + split.validation_fraction > 0
        return ratings if held_out else ratings.drop("split")
    test = with_fixed_split(
        typed_ratings(test_source, need_timestamp=options.duplicates == "last"), TEST
    )
    return union_typed([ratings, test.select(*ratings.columns)])
