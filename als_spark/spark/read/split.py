"""The parts of the ratings: at random by a hash of the ids, by time, or given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from als_spark.spark.read.row_hash import FIRST_SEED, PairTexts, hash_longs
from als_spark.spark.session import described
from als_spark.types import SplitStrategy

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Codes of the splits in the column ``split``."""


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


def split_ratings(ratings: DataFrame, options: SplitOptions) -> DataFrame:
    """Add the column ``split`` to typed ratings: at random by their ids, or by their time.

    At random: from a hash of the seed and the pair of ids alone. The ids are hashed as text, so
    that a pair lands on the same side whether a CSV file or a table with integer columns holds it,
    in whatever order and partitioning.

    By time: the latest ratings are the test part, those just before them the validation part.
    Ratings of one second stay together, on the earlier side, so the parts may be smaller than
    asked.
    """
    test, held = options.test_fraction, options.test_fraction + options.validation_fraction
    if options.strategy == "time":
        with described(ratings.sparkSession.sparkContext, "finding the times to split at"):
            to_train, to_validation = _time_quantiles(ratings, [1 - held, 1 - test])
        is_test, is_held = (F.col("timestamp") > end for end in (to_validation, to_train))
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
    test, held = options.test_fraction, options.test_fraction + options.validation_fraction
    found = np.full(len(pairs), TRAIN, np.int8)
    for rows, hashed in pairs.hash(hash_longs(np.array([options.seed]), FIRST_SEED)):
        share = (hashed >> np.uint64(11)).astype(np.float64) / 2.0**53
        found[rows][share < held] = VALIDATION
        found[rows][share < test] = TEST
    return found


def with_fixed_split(ratings: DataFrame, code: int) -> DataFrame:
    """Add the column ``split`` with one value."""
    return ratings.withColumn("split", F.lit(code).cast("tinyint"))


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
