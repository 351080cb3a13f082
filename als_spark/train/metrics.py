"""Error measures over parts of the ratings, and predictions where there are no factors for one.

A test rating is *cold* if its user or its item has no training rating. Its prediction does not
depend on the model (the mean strategy) or is not wanted (drop), so cold ratings are summed once,
when the part is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from als_spark.solve.blocks import RatingBlock, build_block
from als_spark.solve.rows import sum_errors
from als_spark.train.records import ErrorMeans
from als_spark.types import ColdStart, FloatArray, IntArray, Side, SplitName


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """Sums of errors over some ratings; sums of disjoint parts add up.

    Σ (r − prediction)², Σ |r − prediction|, the number of ratings summed, and that of ratings met
    whose user or item has no training rating, summed or not.
    """

    squared: float = 0.0
    absolute: float = 0.0
    count: int = 0
    cold: int = 0

    @staticmethod
    def by_split(parts: Iterable[tuple[SplitName, ErrorSums]]) -> Mapping[SplitName, ErrorSums]:
        """Add up the sums of each split; exactly rounded, so that their order does not matter."""
        found: dict[SplitName, list[ErrorSums]] = {}
        for split, sums in parts:
            found.setdefault(split, []).append(sums)
        return {
            split: ErrorSums(
                math.fsum(part.squared for part in sums),
                math.fsum(part.absolute for part in sums),
                sum(part.count for part in sums),
                sum(part.cold for part in sums),
            )
            for split, sums in found.items()
        }

    def means(self) -> ErrorMeans:
        """Divide by the count; NaN where nothing was counted."""
        if self.count == 0:
            return ErrorMeans(math.nan, math.nan, 0, self.cold)
        return ErrorMeans(
            self.squared / self.count, self.absolute / self.count, self.count, self.cold
        )


@dataclass(frozen=True, slots=True)
class SideStats:
    """Training ratings of each row of a side: (n_rows,) int32 counts, (n_rows,) float64 sums.

    ``by_features`` (n_rows,) marks rows without a training rating whose factors come from their
    features, and so are factors as good as any; None: there are no such rows.
    """

    degrees: IntArray
    sums: FloatArray
    by_features: npt.NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        """Say how many ratings of how many rows it counts."""
        total = int(self.degrees.sum(dtype=np.int64))
        return f"<SideStats: {total:,} ratings of {self.degrees.size:,} rows>"

    @staticmethod
    def of(n_rows: int, blocks: list[RatingBlock]) -> SideStats:
        """Collect the statistics of a side from all its blocks."""
        return SideStats.join(
            n_rows, ((block.rows, block.degrees, row_sums(block)) for block in blocks)
        )

    @staticmethod
    def join(n_rows: int, parts: Iterable[tuple[IntArray, IntArray, FloatArray]]) -> SideStats:
        """Put the (rows, degrees, sums) of the blocks of a side together.

        A row may be in several blocks, once in each.
        """
        found = list(parts)
        sums = np.zeros(n_rows)
        for rows, _, sums_of_rows in found:
            sums[rows] += sums_of_rows
        return SideStats(sum_counts(n_rows, (part[:2] for part in found)), sums)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(n_rows,) whether the row has factors: by training ratings, or by its features."""
        rated: npt.NDArray[np.bool_] = self.degrees > 0
        return rated if self.by_features is None else rated | self.by_features

    @property
    def n_by_features(self) -> int:
        """Rows that have factors by their features alone."""
        return 0 if self.by_features is None else int(np.count_nonzero(self.by_features))

    def take(self, rows: IntArray | npt.NDArray[np.bool_] | slice) -> SideStats:
        """Return some of the rows."""
        marks = None if self.by_features is None else self.by_features[rows]
        return SideStats(self.degrees[rows], self.sums[rows], marks)

    def with_more(self, n_rows: int) -> SideStats:
        """Return the rows, and so many more after them, of which nothing is known."""
        more = (0, n_rows)
        marks = None if self.by_features is None else np.pad(self.by_features, more)
        return SideStats(np.pad(self.degrees, more), np.pad(self.sums, more), marks)

    def means(self) -> FloatArray:
        """(n_rows,) mean rating of each row, NaN without a rating."""
        with np.errstate(invalid="ignore"):
            return self.sums / self.degrees

    @property
    def mean(self) -> float:
        """Mean of all ratings of the side."""
        return float(self.sums.sum() / max(int(self.degrees.sum(dtype=np.int64)), 1))


def sum_counts(n_rows: int, parts: Iterable[tuple[IntArray, IntArray]]) -> IntArray:
    """Put the (rows, counts) of the blocks of a side together: (n_rows,) int32.

    A row may be in several blocks, once in each.
    """
    total: IntArray = np.zeros(n_rows, np.int32)
    for rows, counts in parts:
        total[rows] += counts
    return total


def row_sums(block: RatingBlock) -> FloatArray:
    """(n_rows,) float64 sum of the ratings of each row of a block."""
    return np.concatenate(
        [np.zeros(0)] + [b.ratings.sum(axis=1, dtype=np.float64) for b in block.buckets()]
    )


@dataclass(frozen=True, slots=True)
class EvaluationPart:
    """Ratings that are ready to be predicted by any model.

    Attributes
    ----------
    split : {"train", "validation", "test"}
    block : RatingBlock
        The ratings that a model predicts, by user.
    constant : ErrorSums
        What the cold ratings add, whatever the model.
    """

    split: SplitName
    block: RatingBlock
    constant: ErrorSums = ErrorSums()

    def errors(self, user_factors: FloatArray, item_factors: FloatArray) -> ErrorSums:
        """Sum the errors of a model over the part."""
        squared, absolute = sum_errors(self.block, user_factors, item_factors)
        return ErrorSums(
            self.constant.squared + squared,
            self.constant.absolute + absolute,
            self.constant.count + self.block.n_ratings,
            self.constant.cold,
        )


def build_evaluation_part(
    split: SplitName,
    users: IntArray,
    items: IntArray,
    ratings: FloatArray,
    *,
    stats: Mapping[Side, SideStats],
    cold_start: ColdStart,
    dtype: npt.DTypeLike = np.float64,
) -> EvaluationPart:
    """Separate held-out ratings (dense indices) into those a model predicts and the cold ones.

    A cold rating is predicted as ``cold_start`` says: by the training mean of its user, else of its
    item, else of all; not at all (it is left out); or by the factors a row without ratings has, its
    random start, as in the source notebook. ``stats`` are of the training ratings.
    """
    user_stats, item_stats = stats["user"], stats["item"]
    cold = (user_stats.degrees[users] == 0) | (item_stats.degrees[items] == 0)
    n_cold = int(np.count_nonzero(cold))
    constant = ErrorSums(cold=n_cold)
    if cold_start == "mean" and n_cold:
        predicted = user_stats.means()[users[cold]]
        by_item = item_stats.means()[items[cold]]
        predicted = np.where(np.isnan(predicted), by_item, predicted)
        predicted = np.where(np.isnan(predicted), user_stats.mean, predicted)
        errors = ratings[cold] - predicted
        constant = ErrorSums(float(errors @ errors), float(np.abs(errors).sum()), n_cold, n_cold)
    keep = np.ones(users.size, bool) if cold_start == "initial" else ~cold
    block = build_block(
        users[keep],
        items[keep],
        ratings[keep],
        n_rows=user_stats.degrees.size,
        n_columns=item_stats.degrees.size,
        dtype=dtype,
    )
    return EvaluationPart(split, block, constant)
