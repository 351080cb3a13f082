"""The ratings of a run from several sources, a later one winning: read once, counted.

A pair that was rated more than once is resolved here, before anything is split or packed, so that
training, held-out ratings and data checks speak of the same ratings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.checks import PartFacts
from als_spark.config import Duplicates
from als_spark.errors import DataError
from als_spark.spark.ratings import union_typed
from als_spark.spark.session import default_partitions, described
from als_spark.spark.sources import Source
from als_spark.spark.validation import problem_text, typed_ratings

PARTITION_ROWS = 1_000_000
"""Ratings of a partition, where there are more partitions than cores."""
SHOWN_PROBLEMS = 3
"""Kinds of unusable rows that are told of, with an example each."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The usable ratings of a run, one of each pair.

    Attributes
    ----------
    ratings : DataFrame
        Typed ratings as :func:`als_spark.spark.ratings.prepare_typed` takes them; persisted.
    label : str
        Names the sources.
    parts : list of PartFacts
        Each source as read.
    problems : list of str
        What is wrong with the unusable rows, with an example of each kind.
    n_ratings, n_duplicates : int
        Ratings, and usable rows that gave way to another one of their pair.
    lowest, highest, mean : float
        Of the ratings.
    fingerprint : str
        The same for the same ratings, in whatever order, files and partitions they come.
    """

    ratings: DataFrame
    label: str
    parts: list[PartFacts]
    problems: list[str]
    n_ratings: int
    n_duplicates: int
    lowest: float
    highest: float
    mean: float
    fingerprint: str

    @property
    def n_bad(self) -> int:
        """Unusable rows."""
        return sum(part.bad_rows for part in self.parts)


@contextmanager
def read_snapshot(
    session: SparkSession, sources: Sequence[Source], duplicates: Duplicates
) -> Iterator[Snapshot]:
    """Read sources of ratings; what Spark keeps of them is freed when the block ends.

    Parameters
    ----------
    session : SparkSession
    sources : sequence of Source
        Oldest first.
    duplicates : {"error", "mean", "last"}
        Of a pair that was rated more than once: stop; the mean; or the last, by time where all
        sources have timestamps, then by the order of the sources, then by value.

    Raises
    ------
    DataError
        If no rating is usable, or a pair is rated twice that must not be.
    """
    timed = all("timestamp" in source.columns for source in sources)
    frames = [
        typed_ratings(source, need_timestamp=timed).withColumn("origin", F.lit(position))
        for position, source in enumerate(sources)
    ]
    label = " + ".join(source.label for source in sources)
    context = session.sparkContext
    with ExitStack() as kept:
        rows = union_typed(frames).persist(StorageLevel.MEMORY_AND_DISK)
        kept.callback(rows.unpersist)
        with described(context, f"reading {label}"):
            parts = _count_parts(rows, sources)
        problems: list[str] = []
        if any(part.bad_rows for part in parts):
            with described(context, "looking at unusable rows"):
                problems = _describe_problems(rows)
        n_usable = sum(part.rows - part.bad_rows for part in parts)
        if n_usable == 0:
            raise DataError(f"{label}: no usable ratings: {'; '.join(problems) or 'it is empty'}")
        n_partitions = max(default_partitions(context), n_usable // PARTITION_ROWS)
        ratings = _resolved(rows, duplicates, n_partitions).persist(StorageLevel.MEMORY_AND_DISK)
        kept.callback(ratings.unpersist)
        with described(context, f"resolving and fingerprinting {label}"):
            n, lowest, highest, mean, repeated, digest = ratings.agg(
                F.count("*"),
                F.min("rating"),
                F.max("rating"),
                F.avg("rating"),
                F.count(F.when(F.col("copies") > 1, 1)),
                F.sum(_row_hash().cast("decimal(38,0)")),
            ).head()  # type: ignore[misc]
        if repeated and duplicates == "error":
            raise DataError(
                f"{label}: {repeated:,} pairs are rated more than once: choose with --duplicates "
                "mean or --duplicates last"
            )
        yield Snapshot(
            ratings.drop("copies"),
            label,
            parts,
            problems,
            n,
            n_usable - n,
            lowest,
            highest,
            mean,
            f"{n}-{int(digest) % 2**64:016x}",
        )


def _resolved(rows: DataFrame, duplicates: Duplicates, n_partitions: int) -> DataFrame:
    """Leave one row of each pair of the usable ones, in the form of typed ratings."""
    latest = F.max(F.struct("timestamp", "origin", "rating"))
    value = F.avg("rating") if duplicates == "mean" else latest["rating"]
    usable = rows.where(F.col("problem").isNull())
    # As many partitions as there is work for: what is kept is read by Python tasks.
    by_pair = usable.repartition(n_partitions, "user", "item").groupBy("user", "item")
    return by_pair.agg(
        value.alias("rating"),
        latest["timestamp"].alias("timestamp"),
        F.count("*").alias("copies"),
    ).select(
        *("user", "item", "rating", "timestamp", "copies"),
        F.lit(None).cast("string").alias("problem"),
        F.lit(None).cast("string").alias("raw"),
    )


def _row_hash() -> Column:
    # Ids as text: whether a file or a table of integers holds them makes no difference.
    return F.xxhash64(
        F.col("user").cast("string"), F.col("item").cast("string"), F.col("rating"), "timestamp"
    )


def _count_parts(rows: DataFrame, sources: Sequence[Source]) -> list[PartFacts]:
    usable = F.when(F.col("problem").isNull(), F.col("rating"))
    counted = (
        rows.groupBy("origin")
        .agg(F.count("*"), F.count("problem"), F.min(usable), F.max(usable), F.avg(usable))
        .collect()
    )
    found = {row[0]: tuple(row)[1:] for row in counted}
    parts = []
    for position, source in enumerate(sources):
        n, n_bad, *figures = found.get(position, (0, 0, None, None, None))
        numbers = (float("nan") if value is None else float(value) for value in figures)
        parts.append(PartFacts(source.label, n, n_bad, *numbers))
    return parts


def _describe_problems(rows: DataFrame) -> list[str]:
    kinds = (
        rows.where(F.col("problem").isNotNull())
        .groupBy("problem")
        .agg(F.count("*").alias("n"), F.min("raw").alias("example"))
        .orderBy(F.desc("n"), "problem")
        .limit(SHOWN_PROBLEMS)
        .collect()
    )
    return [problem_text(row.problem, row.n, row.example) for row in kinds]
