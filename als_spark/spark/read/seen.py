"""Pairs of user and item that are not to be recommended: those that somebody has seen."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.spark.read.bad_rows import BadRowCounts, count_rows
from als_spark.spark.read.columns import typed_pairs
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.sources import Source
from als_spark.spark.session import described


@dataclass(frozen=True, slots=True)
class SeenPairs:
    """The pairs of a source.

    ``pairs`` has ``user`` and ``item`` (bigint or string) of each usable row, ``n_pairs`` of them;
    it is read whenever it is used.
    """

    pairs: DataFrame
    label: str
    n_pairs: int
    bad: BadRowCounts


def read_seen(session: SparkSession, source: Source) -> SeenPairs:
    """Count the pairs of a source and look at its unusable rows, in one pass.

    Raises
    ------
    DataError
        If it has no usable pair, or cannot be read.
    """
    typed = typed_pairs(source)
    with (
        unreadable_files_are_named(source.label),
        described(session.sparkContext, f"counting the pairs in {source.label}"),
    ):
        n_pairs, bad = count_rows(typed)
    if n_pairs == 0:
        raise DataError(
            f"{source.label}: no usable pairs of a user and an item: "
            f"{bad if bad.n else 'it is empty'}: "
            'check the file, `columns["user"]` and `columns["item"]`'
        )
    pairs = typed.where(F.col("problem").isNull()).select("user", "item")
    return SeenPairs(pairs, source.label, n_pairs, bad)


def without_pairs(pairs: DataFrame, others: DataFrame) -> DataFrame:
    """Leave pairs out that are among others, ids compared as text."""
    ids = ("user", "item")
    held = others.select(*(F.col(name).cast("string").alias(f"_{name}") for name in ids))
    same = [F.col(name).cast("string") == F.col(f"_{name}") for name in ids]
    return pairs.join(held, same, "left_anti")
