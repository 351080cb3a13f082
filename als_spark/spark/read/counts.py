"""Numbers of ratings, users and items of a source, in one aggregate: for a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.spark.read.columns import typed_ratings, union_typed
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.sources import Source
from als_spark.spark.session import described
from als_spark.types import SIDES

RELATIVE_ERROR = 0.01
"""Standard deviation of the numbers of users and items: ids are not brought together to be told
apart, but estimated by HyperLogLog++."""


class Counts(NamedTuple):
    """How many ratings there are, of whom."""

    users: int
    items: int
    ratings: int


def count_ratings(session: SparkSession, sources: Sequence[Source]) -> Counts:
    """Count the usable ratings of some sources together; users and items to about 1 %.

    Raises
    ------
    DataError
        If no row is usable, or a file cannot be read.
    """
    label = " + ".join(source.label for source in sources)
    typed = union_typed([typed_ratings(source, need_timestamp=False) for source in sources])
    usable = F.col("problem").isNull()
    distinct = [
        F.approx_count_distinct(F.when(usable, F.col(side)), RELATIVE_ERROR) for side in SIDES
    ]
    with (
        unreadable_files_are_named(label),
        described(session.sparkContext, f"counting {label}"),
    ):
        (row,) = typed.agg(*distinct, F.count(F.when(usable, 1))).collect()
    found = Counts(*map(int, row))
    if found.ratings == 0:
        raise DataError(f"{label}: no usable ratings: give a source with ratings")
    return found
