"""The parts of the ratings: at random by a hash of the ids, by time, or given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame, GroupedData
from pyspark.sql import functions as F

from als_spark.spark.read.row_hash import FIRST_SEED, PairTexts, hash_longs
from als_spark.spark.session import described
from als_spark.types import FloatArray, SplitStrategy

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Codes of the splits in the column ``split``."""
DAY_SECONDS = 86_400
FINDING = "finding the times to split at"


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

    @property
    def held_out(self) -> float:
        """Share of the ratings that are not trained on."""
        return self.test_fraction + self.validation_fraction


class LatestTimes(NamedTuple):
    """Where a split by time divides: the last timestamps of two of its parts, in seconds."""

    train: float
    validation: float


def split_ratings(
    ratings: DataFrame, options: SplitOptions, latest: LatestTimes | None = None
) -> DataFrame:
    """Add the column ``split`` to typed ratings: at random by their ids, or by their time.

    At random: from a hash of the seed and the pair of ids alone. The ids are hashed as text, so
    that a pair lands on the same side whether a CSV file or a table with integer columns holds it,
    in whatever order and partitioning.

    By time: the latest ratings are the test part, those just before them the validation part.
    Ratings of one second stay together, on the earlier side, so the parts may be smaller than
    asked. Two passes find where to divide, unless the ``latest`` times are known.
    """
    test, held = options.test_fraction, options.held_out
    if options.strategy == "time":
        if latest is None:
            with described(ratings.sparkSession.sparkContext, FINDING):
                latest = latest_times(options, *_counters(ratings))
        is_test = F.col("timestamp") > latest.validation
        is_held = F.col("timestamp") > latest.train
    else:
        pair = F.xxhash64(
            F.lit(options.seed).cast("bigint"),
            F.col("user").cast("string"),
            F.col("item").cast("string"),
        )
        # The upper 53 bits, as a number in [0, 1).
        share = F.shiftrightunsigned(pair, 11).cast("double") / F.lit(2.0**53)
        is_test, is_held = share < test, share < held
    code = F.when(is_test, TEST).when(is_held, VALIDATION).otherwise(TRAIN)
    return ratings.withColumn("split", code.cast("tinyint"))


def split_at_random(pairs: PairTexts, options: SplitOptions) -> npt.NDArray[np.int8]:
    """Split ratings of integer ids as :func:`split_ratings` does, without Spark.

    Returns
    -------
    ndarray of int8, (n,)
        Codes of the splits.
    """
    test, held = options.test_fraction, options.held_out
    found = np.full(len(pairs), TRAIN, np.int8)
    for rows, hashed in pairs.hash(hash_longs(np.array([options.seed]), FIRST_SEED)):
        share = (hashed >> np.uint64(11)).astype(np.float64) / 2.0**53
        found[rows][share < held] = VALIDATION
        found[rows][share < test] = TEST
    return found


def split_by_time(times: FloatArray, latest: LatestTimes) -> npt.NDArray[np.int8]:
    """Split ratings by their times, (n,), as :func:`split_ratings` does, without Spark.

    Returns
    -------
    ndarray of int8, (n,)
        Codes of the splits.
    """
    found = np.full(times.size, TRAIN, np.int8)
    found[times > latest.train] = VALIDATION
    found[times > latest.validation] = TEST
    return found


def with_fixed_split(ratings: DataFrame, code: int) -> DataFrame:
    """Add the column ``split`` with one value."""
    return ratings.withColumn("split", F.lit(code).cast("tinyint"))


Counts = Sequence[tuple[float, int]]
"""Values, each once, with how many ratings have them."""


def latest_times(
    options: SplitOptions,
    count_days: Callable[[], Counts],
    count_times: Callable[[Sequence[int]], Counts],
) -> LatestTimes:
    """Find where a split by time divides: exact quantiles, without sorting the ratings.

    Parameters
    ----------
    options : SplitOptions
    count_days : callable
        Counts the ratings of each day since 1970.
    count_times : callable
        Counts the ratings of each timestamp in given days.
    """
    test, held = options.test_fraction, options.held_out
    by_day = sorted(count_days())
    if not by_day:
        return LatestTimes(0.0, 0.0)
    total = sum(count for _, count in by_day)
    reached = [(_reach(by_day, share * total), share * total) for share in (1 - held, 1 - test)]
    by_time = sorted(count_times(sorted({int(day) for (day, _), _ in reached})))
    ends = []
    for (wanted, before), target in reached:
        of_day = [(time, n) for time, n in by_time if day_of(time) == wanted]
        ends.append(float(_reach(of_day, target - before)[0]))
    return LatestTimes(*ends)


def day_of(time: float) -> int:
    """Return the day since 1970 of a timestamp in seconds."""
    return math.floor(time / DAY_SECONDS)


def _counters(ratings: DataFrame) -> tuple[Callable[[], Counts], Callable[[Sequence[int]], Counts]]:
    """Return what counts the usable ones of typed ratings for :func:`latest_times`."""
    usable = ratings.where(F.col("problem").isNull())
    day = F.floor(F.col("timestamp") / DAY_SECONDS)

    def collected(grouped: GroupedData) -> Counts:
        return [(row[0], row[1]) for row in grouped.count().collect()]

    return (
        lambda: collected(usable.groupBy(day.alias("day"))),
        lambda days: collected(usable.where(day.isin(list(days))).groupBy("timestamp")),
    )


def _reach(counts: Counts, target: float) -> tuple[float, int]:
    """Return the first value whose running count reaches the target, and the count before it."""
    before = 0
    for value, count in counts:
        # A hair of tolerance: 0.8 * 100000 must not need a rating more than 80000.
        if before + count >= target - 1e-6:
            return value, before
        before += count
    return (counts[-1][0], before - counts[-1][1]) if counts else (0.0, 0)
