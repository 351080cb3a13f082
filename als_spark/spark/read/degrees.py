"""How many ratings the users, or the items, have: in a few numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from als_spark.types import IntArray

FEW = 5
"""An id with fewer ratings than this has few."""


@dataclass(frozen=True, slots=True)
class Degrees:
    """The numbers of ratings of ``ids`` users or items, each of which has at least one.

    A quantile is the least number that so large a share of the ids does not exceed. ``few`` is the
    share of the ids that have fewer than :data:`FEW` ratings.
    """

    ids: int
    mean: float
    lowest: int
    quarter: int
    median: int
    three_quarters: int
    most90: int
    most99: int
    highest: int
    few: float

    @staticmethod
    def of_counts(counts: IntArray) -> Degrees:
        """Summarise the (n,) numbers of ratings of n ids."""
        return Degrees.of_histogram(*np.unique(counts, return_counts=True))

    @staticmethod
    def of_histogram(degrees: IntArray, ids: IntArray) -> Degrees:
        """Summarise rising numbers of ratings, and how many ids have each of them."""
        n = int(ids.sum())
        reached = np.cumsum(ids)

        def quantile(percent: int) -> int:
            # Whole numbers: a share of the ids may be one more of them by rounding.
            return int(degrees[np.searchsorted(reached, max(-(-percent * n // 100), 1))])

        return Degrees(
            ids=n,
            mean=float(degrees @ ids) / n,
            lowest=int(degrees[0]),
            quarter=quantile(25),
            median=quantile(50),
            three_quarters=quantile(75),
            most90=quantile(90),
            most99=quantile(99),
            highest=int(degrees[-1]),
            few=float(ids[degrees < FEW].sum()) / n,
        )

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON has them."""
        return asdict(self)


NO_DEGREES = Degrees(0, math.nan, 0, 0, 0, 0, 0, 0, 0, math.nan)
"""Of no ids."""
