"""Whether predictions and intervals are what they say, on held-out ratings.

Predictions: ratings are sorted by what was predicted, and cut into ten parts of equal size, whose
mean prediction and mean rating are compared. Intervals: of the ratings so many have to be within
each as it covers (Gneiting, Balabdaoui and Raftery 2007, "Probabilistic Forecasts, Calibration and
Sharpness", section 3). Both come from sums over any parts of the ratings, which add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa

from als_spark.model.intervals import IntervalModel
from als_spark.types import FloatArray

N_PLACES = 1000
"""Equal parts of the range of ratings that predictions are sorted into before they are cut."""
N_PARTS = 10
N_PERCENTS = 100
LEVELS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
"""Coverages, in per cent, that are recorded."""
_DISTANCES = [
    NormalDist().inv_cdf(0.5 + 0.5 * percent / N_PERCENTS) for percent in range(1, N_PERCENTS)
]
"""How far an interval of 1%, 2%, ... reaches, in standard deviations."""


@dataclass(frozen=True, slots=True)
class CalibrationSums:
    """Sums over some held-out ratings; those of disjoint parts add up.

    Attributes
    ----------
    predictions : (N_PLACES, 3) float64
        Count, sum of the predictions and sum of the ratings, by prediction.
    levels : (N_PERCENTS,) float64
        Ratings whose narrowest interval covers so many per cent, from 1 on.
    """

    predictions: FloatArray
    levels: FloatArray

    @staticmethod
    def zeros() -> CalibrationSums:
        """Sum over no rating."""
        return CalibrationSums(np.zeros((N_PLACES, 3)), np.zeros(N_PERCENTS))

    def __add__(self, other: CalibrationSums) -> CalibrationSums:
        """Add the sums over other ratings."""
        return CalibrationSums(self.predictions + other.predictions, self.levels + other.levels)

    def to_bytes(self) -> bytes:
        """Write the numbers, for :meth:`from_bytes`."""
        return self.predictions.tobytes() + self.levels.tobytes()

    @staticmethod
    def from_bytes(numbers: bytes) -> CalibrationSums:
        """Read what :meth:`to_bytes` has written."""
        predictions, levels = np.split(np.frombuffer(numbers), [3 * N_PLACES])
        return CalibrationSums(predictions.reshape(N_PLACES, 3), levels)


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Sums up what calibration is measured by.

    Attributes
    ----------
    lowest, highest : float
        Range of the held-out ratings; predictions beyond it count with those at its ends.
    intervals : IntervalModel or None
        Of the model that predicts.
    """

    lowest: float
    highest: float
    intervals: IntervalModel | None = None

    def sums(
        self, users: pa.Array, items: pa.Array, predicted: FloatArray, ratings: FloatArray
    ) -> CalibrationSums:
        """Sum over ratings, given by ids, of which (n,) ``predicted`` is NaN where one is cold."""
        known = ~np.isnan(predicted)
        own, found = predicted[known], ratings[known]
        share = (own - self.lowest) / ((self.highest - self.lowest) or 1.0)
        places = np.clip(share * N_PLACES, 0, N_PLACES - 1).astype(np.int64)
        columns = [
            np.bincount(places, weights, minlength=N_PLACES)
            for weights in (np.ones(own.size), own, found)
        ]
        levels: FloatArray = np.zeros(N_PERCENTS)
        if self.intervals is not None:
            mask = pa.array(known)
            levels = levels_of(self.intervals, users.filter(mask), items.filter(mask), found)
        return CalibrationSums(np.column_stack(columns), levels)


def levels_of(
    intervals: IntervalModel, users: pa.Array, items: pa.Array, ratings: FloatArray
) -> FloatArray:
    """Count ratings by the narrowest interval that has them: (N_PERCENTS,)."""
    # Those of a normal distribution: any of them tells its standard deviation.
    found = intervals.predict(users, items, coverage=0.5)
    known = ~np.isnan(found.prediction)
    deviations = 0.5 * (found.upper - found.lower)[known] / _DISTANCES[N_PERCENTS // 2 - 1]
    distances = np.abs(ratings[known] - found.prediction[known]) / deviations
    places = np.searchsorted(_DISTANCES, distances)
    return np.bincount(places, minlength=N_PERCENTS).astype(np.float64)


def predictions_record(sums: CalibrationSums) -> list[dict[str, Any]]:
    """Return ``count``, mean ``predicted`` and mean ``observed`` of each tenth, by prediction.

    The tenths are as equal as places allow: one that many predictions share is in one of them. A
    tenth without a rating is left out.
    """
    counts = sums.predictions[:, 0]
    before = np.cumsum(counts) - 0.5 * counts
    parts = np.minimum(N_PARTS * before / max(counts.sum(), 1.0), N_PARTS - 1).astype(np.int64)
    totals = np.zeros((N_PARTS, 3))
    np.add.at(totals, parts, sums.predictions)
    return [
        {"count": int(n), "predicted": predicted / n, "observed": observed / n}
        for n, predicted, observed in totals.tolist()
        if n
    ]


def coverage_record(sums: CalibrationSums) -> list[dict[str, float]]:
    """Return what share of the ratings is within intervals of each ``coverage``: ``observed``.

    Nothing where no rating has an interval.
    """
    total = sums.levels.sum()
    if not total:
        return []
    within: Sequence[float] = (np.cumsum(sums.levels) / total).tolist()
    return [{"coverage": level / 100, "observed": within[level - 1]} for level in LEVELS]
